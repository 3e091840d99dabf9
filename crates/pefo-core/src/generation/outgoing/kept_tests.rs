#![expect(clippy::disallowed_methods, reason = "tests damage what is kept")]

use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::Digest;
use crate::certname::Certname;
use crate::clock::Timestamp;
use crate::disk::fault::StopAt;
use crate::disk::power::{Loss, Recorder};
use crate::generation::outgoing::{Author, Description, Item};
use crate::keys::{SigningKey, system_random};
use crate::path::RelPath;
use crate::reign::Epoch;
use crate::sealing::UnsealingKey;

struct World {
    dir: tempfile::TempDir,
    site: Site,
    certname: Certname,
    key: SigningKey,
    unsealing: UnsealingKey,
}

impl World {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            site: Site::new("0123456789abcdef0123456789abcdef").unwrap(),
            certname: Certname::new("a.lab").unwrap(),
            key: SigningKey::ephemeral(&system_random()).unwrap(),
            unsealing: UnsealingKey::ephemeral(),
        }
    }

    fn author(&self) -> Author<'_> {
        Author {
            site: &self.site,
            certname: &self.certname,
            key: &self.key,
            epoch: Epoch(1),
            tool: "pefo test",
        }
    }

    fn kept_dir(&self) -> std::path::PathBuf {
        self.dir.path().join("outgoing/ca")
    }

    /// A sealed file in a directory of the run's own, and an open one in memory.
    fn full(&self, sequence: u64, bytes: usize) -> Outgoing {
        let plain = self.dir.path().join("plain");
        let sealed = self.dir.path().join(format!("sealed-{sequence}"));
        // Packing makes nothing of it.
        let mut noise = vec![0; bytes];
        blake3::Hasher::new().finalize_xof().fill(&mut noise);
        std::fs::write(&plain, noise).unwrap();
        drop(std::fs::remove_file(&sealed));
        let recipients = [self.unsealing.recipient()];
        let path = RelPath::new("d/dump").unwrap();
        let disk = Disk::new();
        let sealed = Item::sealed_file(&disk, path, 0o600, &plain, &sealed, &recipients);
        let items = vec![
            sealed.unwrap(),
            Item::open(RelPath::new("a").unwrap(), 0o644, b"open".to_vec()),
        ];
        Outgoing::full(self.author(), DataSet::Ca, sequence, items, description()).unwrap()
    }

    fn kept(&self) -> Result<Option<Outgoing>> {
        Outgoing::kept(
            &self.kept_dir(),
            &self.site,
            &DataSet::Ca,
            &[self.key.public()],
        )
    }
}

fn description() -> Description {
    Description {
        products: BTreeMap::new(),
        time: Timestamp::from_unix_seconds(1_763_800_000).unwrap(),
        summary: serde_json::Value::Null,
    }
}

fn contents(outgoing: &Outgoing) -> Vec<Digest> {
    let files = outgoing.manifest.files.iter();
    files
        .map(|entry| {
            let file = outgoing.payload.open(&entry.path).unwrap();
            Digest::of_reader(file).unwrap().0
        })
        .collect()
}

fn same(kept: &Outgoing, made: &Outgoing) {
    assert_eq!(kept.document, made.document);
    assert_eq!(kept.manifest, made.manifest);
    assert_eq!(contents(kept), contents(made));
}

#[test]
fn what_is_kept_is_the_same_bytes_again_and_outlives_the_runs_own_files() {
    let world = World::new();
    let disk = Disk::new();
    assert!(world.kept().unwrap().is_none());
    let first = world.full(1, 2_000_000);
    assert!(first.is_worth_keeping());
    first.keep(&disk, &world.kept_dir()).unwrap();
    same(&world.kept().unwrap().unwrap(), &first);
    let second = world.full(2, 2_000_000);
    second.keep(&disk, &world.kept_dir()).unwrap();
    let expected = contents(&second);
    std::fs::remove_file(world.dir.path().join("sealed-2")).unwrap();
    let kept = world.kept().unwrap().unwrap();
    assert_eq!(contents(&kept), expected);
    assert_eq!(std::fs::read_dir(world.kept_dir()).unwrap().count(), 1);
    drop_kept(&disk, &world.kept_dir()).unwrap();
    assert!(world.kept().unwrap().is_none());
    drop_kept(&disk, &world.kept_dir()).unwrap();
}

#[test]
fn a_batch_is_kept_with_its_payload() {
    let world = World::new();
    let batch = |recipients: &[_]| {
        Outgoing::batch(
            world.author(),
            DataSet::Ca,
            3,
            (Digest::of(b"1"), Digest::of(b"2")),
            vec![crate::generation::Step::Put {
                path: RelPath::new("a").unwrap(),
                mode: 0o644,
                size: 2_000_000,
                blake3: Digest::of(&vec![1; 2_000_000]),
            }],
            vec![1; 2_000_000],
            recipients,
            description(),
        )
        .unwrap()
    };
    let sealed = batch(&[world.unsealing.recipient()]);
    assert!(sealed.is_worth_keeping());
    assert!(!batch(&[]).is_worth_keeping(), "it would be the same again");
    sealed.keep(&Disk::new(), &world.kept_dir()).unwrap();
    let kept = world.kept().unwrap().unwrap();
    let (Payload::Batch(kept), Payload::Batch(made)) = (kept.payload, sealed.payload) else {
        panic!("a batch has a payload")
    };
    assert!(kept == made);
}

#[test]
fn what_is_short_or_not_sealed_is_not_worth_it() {
    let world = World::new();
    assert!(!world.full(1, 500_000).is_worth_keeping());
    let items = vec![Item::open(
        RelPath::new("a").unwrap(),
        0o644,
        vec![1; 5_000_000],
    )];
    let open = Outgoing::full(world.author(), DataSet::Ca, 1, items, description()).unwrap();
    assert!(!open.is_worth_keeping());
}

#[test]
fn what_is_damaged_is_told() {
    let world = World::new();
    world
        .full(1, 10_000)
        .keep(&Disk::new(), &world.kept_dir())
        .unwrap();
    let dir = world.kept_dir().join("00000001-000000000001");
    std::fs::write(dir.join("data/a"), "cut").unwrap();
    assert!(world.kept().unwrap_err().to_string().contains("data/a"));
    std::fs::write(dir.join("data/a"), "open").unwrap();
    world.kept().unwrap().unwrap();
    let stranger = SigningKey::ephemeral(&system_random()).unwrap().public();
    let (site, ca) = (&world.site, &DataSet::Ca);
    assert!(Outgoing::kept(&world.kept_dir(), site, ca, &[stranger]).is_err());
    std::fs::write(dir.join("document"), "torn").unwrap();
    assert!(world.kept().is_err());
}

#[test]
fn a_run_killed_at_any_moment_leaves_one_whole_generation_or_none() {
    let world = World::new();
    let (first, second) = (world.full(1, 10_000), world.full(2, 20_000));
    let mut seen = std::collections::BTreeSet::new();
    for operations in 0.. {
        first.keep(&Disk::new(), &world.kept_dir()).unwrap();
        let stop = Arc::new(StopAt::new(operations));
        let kept = second.keep(&Disk::with_hook(stop.clone()), &world.kept_dir());
        let found = world.kept().unwrap();
        seen.insert(found.as_ref().map(|it| it.position().sequence));
        match &found {
            Some(found) if found.position().sequence == 1 => same(found, &first),
            Some(found) => same(found, &second),
            None => {}
        }
        if !stop.has_stopped() {
            kept.unwrap();
            break;
        }
    }
    assert_eq!(seen, [None, Some(1), Some(2)].into());
}

#[test]
fn what_is_kept_survives_a_power_loss() {
    let world = World::new();
    let outgoing = world.full(1, 2_000_000);
    let power = Arc::new(Recorder::over(world.dir.path()).unwrap());
    let disk = Disk::with_hook(power.clone());
    outgoing.keep(&disk, &world.kept_dir()).unwrap();
    for loss in [Loss::Everything, Loss::BytesOnly] {
        let after = tempfile::tempdir().unwrap();
        power.lose_power(after.path(), loss).unwrap();
        let dir = after.path().join("outgoing/ca");
        let keys = [world.key.public()];
        let kept = Outgoing::kept(&dir, &world.site, &DataSet::Ca, &keys);
        same(&kept.unwrap().unwrap(), &outgoing);
    }
}
