//! Signed documents and what stands in them: manifests, batches, reigns, acks, heartbeats, requests.

use std::collections::BTreeMap;
use std::path::Path;

use pefo_core::ack::Ack;
use pefo_core::digest::{Digest, StateHash};
use pefo_core::document::{self, Domain, Kind};
use pefo_core::generation::batch::{SourceState, split_payload, state_of_open_files};
use pefo_core::generation::{Content, DataSet, FileEntry, Manifest, Position, Step, spool};
use pefo_core::heartbeat::Heartbeat;
use pefo_core::request::{Answer, Request};
use pefo_core::{RelPath, reign};

use crate::world::World;
use crate::{seeds, spec};

/// Input: a manifest's JSON. It is signed here, so that the check gets as far as it can.
///
/// The check lets pass what parses, is in order by itself, and belongs to this pair, and nothing else.
/// What passes keeps the promises of the format (sorted paths, each below its directory and none a
/// directory of another, sizes and modes in range), and written again reads as the same value; with a
/// rule broken it does not pass.
pub fn manifest(data: &[u8]) {
    let world = World::new();
    let parsed = serde_json::from_slice::<Manifest>(data).ok();
    let dataset = match &parsed {
        Some(manifest) => manifest.dataset.clone(),
        None => DataSet::Ca,
    };
    let document = spec::document(&world, "manifest", Some(&dataset.to_string()), data);
    let keys = [world.key.public()];
    let checked = Manifest::check(&document, &world.site, &dataset, &keys);
    let ours = parsed.filter(|manifest| {
        manifest.validate().is_ok()
            && manifest.site == world.site
            && manifest.holder == world.key.public().id()
    });
    let (Ok(manifest), Some(ours)) = (&checked, &ours) else {
        assert!(checked.is_err() && ours.is_none());
        return;
    };
    assert_eq!(manifest, ours);
    let again = serde_json::to_vec(manifest).map(|json| serde_json::from_slice(&json));
    assert!(again.is_ok_and(|again| again.is_ok_and(|again: Manifest| again == *manifest)));
    assert_manifest(manifest);
    assert_spoilt(manifest);
}

/// Breaks each rule of the order and range of files.
fn assert_spoilt(manifest: &Manifest) {
    type Spoil = fn(&mut Vec<FileEntry>);
    let spoils: [Spoil; 4] = [
        |files| files.extend(files.last().cloned()),
        |files| files.reverse(),
        |files| files.iter_mut().for_each(|file| file.mode |= 0o10000),
        |files| {
            files
                .iter_mut()
                .for_each(|file| file.size = Manifest::MAX_FILE_BYTES + 1)
        },
    ];
    for spoil in spoils {
        let mut spoilt = manifest.clone();
        spoil(&mut spoilt.files);
        assert!(spoilt.files == manifest.files || spoilt.validate().is_err());
    }
}

fn assert_manifest(manifest: &Manifest) {
    let Manifest { files, content, .. } = manifest;
    assert!(manifest.sequence > 0 && manifest.epoch.0 > 0);
    let position = manifest.position().to_string();
    assert_eq!(position.parse::<Position>().ok(), Some(manifest.position()));
    let root = Path::new("/spool/data");
    for pair in files.windows(2) {
        assert!(pair[0].path < pair[1].path, "not in order");
    }
    for file in files {
        assert!(file.mode <= 0o7777 && file.size <= Manifest::MAX_FILE_BYTES);
        assert_below(root, &file.path);
        let below = format!("{}/", file.path);
        let clash = files
            .iter()
            .any(|other| other.path.as_str().starts_with(&below));
        assert!(!clash, "{} is a file and a directory", file.path);
    }
    match content {
        Content::Full { .. } => {
            let bytes: u128 = files.iter().map(|file| u128::from(file.size)).sum();
            assert_eq!(u128::from(manifest.stored_bytes()), bytes);
            let open = files.iter().filter(|file| !file.sealed);
            let state = StateHash::of(open.map(|file| (&file.path, file.mode, &file.blake3)));
            assert_eq!(state_of_open_files(manifest).digest(), state.digest());
        }
        Content::Batch {
            steps,
            sealed,
            payload_size,
            ..
        } => {
            assert!(files.is_empty() && *payload_size <= Manifest::MAX_PAYLOAD_BYTES);
            steps
                .iter()
                .for_each(|step| assert_below(root, step.path()));
            let bytes: u128 = steps.iter().map(|step| u128::from(step.size())).sum();
            assert!(*sealed || bytes == u128::from(*payload_size));
        }
    }
}

fn assert_below(root: &Path, path: &RelPath) {
    let full = path.in_dir(root);
    assert!(full.starts_with(root) && full != root);
    let names = full
        .strip_prefix(root)
        .into_iter()
        .flat_map(Path::components);
    let (mut count, mut plain) = (0, true);
    for name in names {
        count += 1;
        plain &= matches!(name, std::path::Component::Normal(_));
    }
    assert!(plain && (1..=RelPath::MAX_DEPTH).contains(&count));
    assert_eq!(RelPath::below(root, &full).ok().as_ref(), Some(path));
}

/// Input: a batch's file as the spool has it, with the manifest's JSON in the place of the document.
///
/// The file splits as it was joined. Where the payload belongs to the steps, each step gets its own
/// bytes in order, nothing is left, and a file that is put has its digest; one byte more or less is
/// refused. Steps that fit a state lead to the state that stepping through a map of our own leads to;
/// steps that don't fit are refused.
pub fn batch(data: &[u8]) {
    let Ok((json, payload)) = spool::split_batch(data) else {
        let announced = data.first_chunk().map(|length| u64::from_le_bytes(*length));
        assert!(announced.is_none_or(|length| length > data.len() as u64 - 8));
        return;
    };
    assert!(spool::join_batch(json, payload) == data);
    manifest(json);
    let Ok(manifest) = serde_json::from_slice::<Manifest>(json) else {
        return;
    };
    let Content::Batch { steps, .. } = &manifest.content else {
        return;
    };
    assert_split(steps, payload);
    assert_steps(steps);
    steps.chunks(1).for_each(assert_steps);
}

fn assert_split(steps: &[Step], payload: &[u8]) {
    let sizes: u128 = steps.iter().map(|step| u128::from(step.size())).sum();
    let Ok(pairs) = split_payload(steps, payload) else {
        // Of two reasons, one is the length.
        let puts = steps.iter().any(|step| matches!(step, Step::Put { .. }));
        assert!(sizes != payload.len() as u128 || puts);
        return;
    };
    let mut rest = payload;
    for ((step, bytes), expected) in pairs.iter().zip(steps) {
        assert_eq!(*step, expected);
        assert_eq!(bytes.len() as u64, step.size());
        assert_eq!(rest.get(..bytes.len()), Some(*bytes));
        rest = &rest[bytes.len()..];
        if let Step::Put { blake3, .. } = step {
            assert_eq!(Digest::of(bytes), *blake3);
        }
    }
    assert!(rest.is_empty() && pairs.len() == steps.len());
    assert!(split_payload(steps, &[payload, &[0]].concat()).is_err());
    if let Some((_, shorter)) = payload.split_last() {
        assert!(split_payload(steps, shorter).is_err());
    }
}

/// Steps through states: one that has what the steps want to find, for each path's first one; one that
/// has something else there; and one that has nothing.
fn assert_steps(steps: &[Step]) {
    let mut wanted = State::new();
    for step in steps {
        let found = match step {
            Step::Put { .. } => continue,
            Step::Append { prefix, .. } => *prefix,
            Step::Delta { base, .. } => *base,
            Step::Delete { .. } => Digest::of(b"to be deleted"),
        };
        let path = step.path().clone();
        wanted.entry(path).or_insert((0o644, found));
    }
    let other = |(path, (mode, _)): (&RelPath, &(u32, Digest))| {
        (path.clone(), (*mode, Digest::of(b"something else")))
    };
    for mut model in [wanted.iter().map(other).collect(), State::new(), wanted] {
        let before = state_of(&model);
        let fits = steps.iter().all(|step| walk(&mut model, step));
        match before.after(steps) {
            Ok(after) => {
                assert!(fits, "steps that don't fit were taken");
                assert_eq!(after, state_of(&model));
                assert_eq!(after.digest(), state_of(&model).digest());
            }
            Err(error) => {
                assert!(!fits, "steps that fit were refused: {error}");
                assert_eq!(error.rule(), Some("batch-step"));
            }
        }
    }
}

/// Mode and digest by path.
type State = BTreeMap<RelPath, (u32, Digest)>;

fn state_of(model: &State) -> SourceState {
    let entries = model.iter();
    SourceState::of(entries.map(|(path, (mode, digest))| (path.clone(), *mode, *digest)))
}

fn walk(model: &mut State, step: &Step) -> bool {
    let path = step.path().clone();
    let found = model.get(&path).copied();
    match step {
        Step::Put { mode, blake3, .. } => {
            model.insert(path, (*mode, *blake3));
        }
        Step::Append { prefix, blake3, .. } => match found {
            Some((mode, digest)) if digest == *prefix => {
                model.insert(path, (mode, *blake3));
            }
            _ => return false,
        },
        Step::Delta {
            mode, base, blake3, ..
        } => match found {
            Some((_, digest)) if digest == *base => {
                model.insert(path, (*mode, *blake3));
            }
            _ => return false,
        },
        Step::Delete { .. } => return model.remove(&path).is_some(),
    }
    true
}

/// Input: a signed document, by the key that everybody knows.
///
/// What is believed is, byte for byte, what that key's holder writes: no second spelling of a document
/// passes, nor another kind, site or data set. What is believed as an ack, a heartbeat, a reign, a
/// request or the answer to one reads back as the same value when it is written again.
pub fn document(data: &[u8]) {
    let world = World::new();
    let keys = [world.key.public()];
    let Ok(unchecked) = document::split(data) else {
        return;
    };
    let body = body(data);
    let mut believed = 0;
    let kinds = [
        Kind::Manifest,
        Kind::Reign,
        Kind::Ack,
        Kind::Heartbeat,
        Kind::Request,
        Kind::Answer,
    ];
    for kind in kinds {
        for dataset in [None, Some(DataSet::Ca)] {
            let domain = Domain {
                kind,
                site: &world.site,
                dataset: dataset.as_ref(),
            };
            if unchecked.check::<serde_json::Value>(domain, &keys).is_ok() {
                believed += 1;
                let written = dataset.as_ref().map(ToString::to_string);
                let written = spec::document(&world, kind.name(), written.as_deref(), body);
                assert!(written == data, "a document has two spellings");
            }
        }
    }
    assert!(believed <= 1, "a document stands for several");

    assert_records(data, &world);
}

/// What is believed as a record of some kind is the same when it is written again.
fn assert_records(data: &[u8], world: &World) {
    let (site, keys) = (&world.site, [world.key.public()]);
    if let Ok(ack) = Ack::check(data, site, &DataSet::Ca, &keys) {
        let again = ack.sign(&world.key);
        let again = again.and_then(|again| Ack::check(&again, site, &DataSet::Ca, &keys));
        assert_eq!(again.ok(), Some(ack));
    }
    if let Ok(heartbeat) = Heartbeat::check(data, site, &keys) {
        let again = heartbeat.sign(&world.key);
        let again = again.and_then(|again| Heartbeat::check(&again, site, &keys));
        assert_eq!(again.ok(), Some(heartbeat));
    }
    if let Ok(reign) = reign::check(data, site, &keys) {
        assert_eq!(reign.holder, keys[0].id());
        let domain = Domain {
            kind: Kind::Reign,
            site,
            dataset: None,
        };
        let again = document::sign(&reign, domain, &world.key);
        let again = again.and_then(|again| reign::check(&again, site, &keys));
        assert_eq!(again.ok(), Some(reign));
    }
    if let Ok(request) = Request::check(data, site, &keys) {
        assert_eq!(request.holder, keys[0].id());
        let again = request.sign(&world.key);
        let again = again.and_then(|again| Request::check(&again, site, &keys));
        assert_eq!(again.ok(), Some(request));
    }
    let Ok(asked) = seeds::documents::request(world) else {
        panic!("the request that is answered cannot be made");
    };
    let Ok(signed) = asked.sign(&world.key) else {
        panic!("the request that is answered cannot be signed");
    };
    if let Ok(answer) = Answer::check(data, &asked, &signed, &keys) {
        assert!(answer.nonce == asked.nonce && answer.request == Digest::of(&signed));
        let again = answer.sign(&asked, &world.key);
        let again = again.and_then(|again| Answer::check(&again, &asked, &signed, &keys));
        assert_eq!(again.ok(), Some(answer));
    }
}

/// All after the second line feed.
fn body(data: &[u8]) -> &[u8] {
    data.splitn(3, |byte| *byte == b'\n')
        .nth(2)
        .unwrap_or_default()
}
