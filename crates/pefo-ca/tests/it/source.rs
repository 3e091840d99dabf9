//! A source's CA followed change by change.

use std::sync::Mutex;

use pefo_ca::source::{Change, Observed, SourceIndex};
use pefo_ca::watch::Hint;
use pefo_ca::{Exclusions, serial};
use pefo_core::RelPath;
use pefo_core::generation::Step;
use pefo_core::generation::batch::{SourceState, split_payload};
use pefo_testkit::ca::Keys;
use proptest::prelude::*;

use super::model::{Act, acts, perform};
use super::snapshot::Meanwhile;
use super::*;

/// What somebody has who took every batch.
#[derive(Default)]
struct Replica {
    files: BTreeMap<RelPath, (u32, Vec<u8>)>,
    state: SourceState,
}

impl Replica {
    fn of(snapshot: &Snapshot) -> Self {
        let files = snapshot.files();
        let files: BTreeMap<_, _> = files
            .map(|(path, bytes, mode)| (path.clone(), (mode, bytes.to_vec())))
            .collect();
        let entries = files
            .iter()
            .map(|(path, (mode, bytes))| (path.clone(), *mode, pefo_core::Digest::of(bytes)));
        Self {
            state: SourceState::of(entries),
            files,
        }
    }

    /// Takes a batch step by step; at no moment may it hold what a crash must not leave.
    fn take(&mut self, observed: &Observed) {
        assert_eq!(self.state.digest(), observed.from);
        let (steps, payload) = (observed.steps(), observed.payload());
        for (step, bytes) in split_payload(&steps, &payload).unwrap() {
            self.state = self.state.after(std::slice::from_ref(step)).unwrap();
            match step {
                Step::Put { path, mode, .. } => {
                    self.files.insert(path.clone(), (*mode, bytes.to_vec()));
                }
                Step::Append { path, at, .. } => {
                    let (_, file) = self.files.get_mut(path).unwrap();
                    assert_eq!(file.len() as u64, *at);
                    file.extend_from_slice(bytes);
                }
                Step::Delete { path, .. } => drop(self.files.remove(path).unwrap()),
                Step::Delta { .. } => unreachable!(),
            }
            self.is_in_order();
        }
        assert_eq!(self.state.digest(), observed.to);
    }

    /// serial ≥ inventory ≥ signed.
    fn is_in_order(&self) {
        let file = |name: &str| &self.files[&RelPath::new(name).unwrap()].1;
        let next = serial::parse_file(file("serial")).unwrap();
        let inventory = pefo_ca::inventory::Inventory::parse(file("inventory.txt"));
        assert!(inventory.serials().all(|serial| serial < next));
        for (path, (_, pem)) in &self.files {
            if path.as_str().starts_with("signed/") {
                let cert = pefo_ca::cert::Cert::from_pem(pem).unwrap();
                let mut rows = inventory.of_serial(cert.serial);
                assert!(rows.next().is_some(), "{path}: {} has no row", cert.serial);
            }
        }
    }
}

fn index_of(dir: &Path) -> SourceIndex {
    let options = SnapshotOptions::default();
    SourceIndex::read(&CaLayout::at(dir).unwrap(), &options, &clock()).unwrap()
}

/// Hints as a watcher gives them: every path that is another, of whatever kind.
fn hints(before: &BTreeMap<String, Vec<u8>>, after: &BTreeMap<String, Vec<u8>>) -> Vec<Hint> {
    let paths: std::collections::BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let differ = |path: &&String| before.get(*path) != after.get(*path);
    let hint = |path: &String| Hint::Changed(RelPath::new(path.as_str()).unwrap());
    paths.into_iter().filter(differ).map(hint).collect()
}

/// Adds text to a file, in place.
fn append(path: &Path, text: &str) {
    let mut file = std::fs::OpenOptions::new().append(true).open(path).unwrap();
    std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn whoever_takes_every_batch_has_what_the_source_has(
        acts in acts(),
        rescans in prop::collection::vec(any::<bool>(), 25),
        in_place in any::<bool>(),
        atomic in any::<bool>(),
    ) {
        let options = options().keys(Keys::Ecdsa).write_in_place(in_place).atomic_inventory(atomic);
        let mut pair = Pair::with(options);
        let mut index = index_of(pair.a.dir());
        let mut replica = Replica::of(&snap(pair.a.dir()));
        prop_assert_eq!(index.state().digest(), replica.state.digest());
        let mut seen = contents(pair.a.dir());
        for (hour, act) in acts.iter().enumerate() {
            if matches!(act, Act::Follow | Act::TearTail) {
                continue;
            }
            perform(&mut pair, act, i64::try_from(hour).unwrap());
            let now = contents(pair.a.dir());
            let mut hints = hints(&seen, &now);
            if rescans[hour] {
                hints.push(Hint::Rescan);
            }
            replica.take(&index.look(&hints, &clock()).unwrap());
            let source = Replica::of(&snap(pair.a.dir()));
            prop_assert_eq!(&replica.files, &source.files);
            prop_assert_eq!(index.state().digest(), source.state.digest());
            seen = now;
        }
        let nothing = index.look(&[Hint::Rescan], &clock()).unwrap();
        prop_assert_eq!(nothing.changes, []);
    }
}

#[test]
fn a_signature_crosses_as_the_serial_a_row_and_a_certificate() {
    for atomic in [false, true] {
        let mut pair = Pair::with(options().atomic_inventory(atomic));
        // The first rewrite by a server sets the modes that it stays with.
        pair.a.sign("before.test").unwrap();
        let mut index = index_of(pair.a.dir());
        let before = contents(pair.a.dir());
        pair.a.sign("node2.test").unwrap();
        let hints = hints(&before, &contents(pair.a.dir()));
        let observed = index.look(&hints, &clock()).unwrap();
        let told: Vec<String> = observed
            .changes
            .iter()
            .map(|change| match change {
                Change::Append { path, bytes, .. } => {
                    format!("{path} + {}", String::from_utf8_lossy(bytes))
                }
                other => other.path().to_string(),
            })
            .collect();
        assert_eq!(told.len(), 3, "{told:?}");
        assert_eq!(told[0], "serial");
        assert!(told[1].starts_with("inventory.txt + 0x0"), "{told:?}");
        assert!(told[1].ends_with("/CN=node2.test\n"), "{told:?}");
        assert_eq!(told[2], "signed/node2.test.pem");
    }
}

#[test]
fn what_is_torn_waits_and_is_named() {
    let pair = Pair::new();
    let mut index = index_of(pair.a.dir());
    let path = pair.a.dir().join("ca_crl.pem");
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let hint = [Hint::Changed(RelPath::new("ca_crl.pem").unwrap())];
    let observed = index.look(&hint, &clock()).unwrap();
    assert_eq!(observed.changes, []);
    assert_eq!(observed.unsettled, [RelPath::new("ca_crl.pem").unwrap()]);
    std::fs::write(&path, &whole).unwrap();
    let observed = index.look(&hint, &clock()).unwrap();
    assert_eq!((observed.changes.len(), observed.unsettled.len()), (0, 0));
}

#[test]
fn a_certificate_signed_while_something_is_read_again_comes_with_its_row_and_the_serial() {
    let mut pair = Pair::new();
    let dir = pair.a.dir().to_owned();
    let mut index = index_of(&dir);
    let mut replica = Replica::of(&snap(&dir));
    let path = dir.join("ca_crl.pem");
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let mut waits = 0;
    let server_goes_on = Meanwhile(Mutex::new(|| {
        waits += 1;
        match waits {
            1 => drop(pair.a.sign("node2.test").unwrap()),
            _ => std::fs::write(&path, &whole).unwrap(),
        }
    }));
    let named = ["ca_crl.pem", "signed/node2.test.pem"];
    let hints = named.map(|path| Hint::Changed(RelPath::new(path).unwrap()));
    replica.take(&index.look(&hints, &server_goes_on).unwrap());
    let cert = RelPath::new("signed/node2.test.pem").unwrap();
    assert!(replica.files.contains_key(&cert));
}

#[test]
fn of_an_inventory_that_is_being_appended_to_the_whole_lines_cross() {
    let pair = Pair::new();
    let mut index = index_of(pair.a.dir());
    let path = pair.a.dir().join("inventory.txt");
    let (one, two) = (
        "0x0E01 2026-11-21T12:24:23UTC 2031-11-21T12:24:23UTC /CN=one.test\n",
        "0x0E02 2026-11-21T12:24:23UTC 2031-11-21T12:24:23UTC /CN=two.test\n",
    );
    let append = |text: &str| append(&path, text);
    let hint = [Hint::Changed(RelPath::new("inventory.txt").unwrap())];
    append(&format!("{one}{}", &two[..20]));
    let observed = index.look(&hint, &clock()).unwrap();
    assert_eq!(observed.payload(), one.as_bytes());
    assert_eq!(observed.unsettled, []);
    append(&two[20..]);
    let observed = index.look(&hint, &clock()).unwrap();
    assert_eq!(observed.payload(), two.as_bytes());
    assert!(matches!(observed.changes[..], [Change::Append { .. }]));
}

#[test]
fn an_inventory_that_was_rewritten_crosses_whole() {
    let pair = Pair::new();
    let mut index = index_of(pair.a.dir());
    let path = pair.a.dir().join("inventory.txt");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("node1", "node9")).unwrap();
    let hint = [Hint::Changed(RelPath::new("inventory.txt").unwrap())];
    let observed = index.look(&hint, &clock()).unwrap();
    assert!(
        matches!(observed.changes[..], [Change::Put { .. }]),
        "{observed:?}"
    );
}

#[test]
fn a_row_that_was_altered_long_ago_is_found_by_a_full_look_at_the_latest() {
    let pair = Pair::new();
    let path = pair.a.dir().join("inventory.txt");
    let row = |serial: u32| {
        format!("0x{serial:04X} 2026-11-21T12:24:23UTC 2031-11-21T12:24:23UTC /CN=old.test\n")
    };
    let append = |text: &str| append(&path, text);
    append(&(0x100..0x200).map(row).collect::<String>());
    let mut index = index_of(pair.a.dir());
    let text = std::fs::read_to_string(&path).unwrap();
    let altered = text.replacen("old.test", "new.test", 1);
    let hint = [Hint::Changed(RelPath::new("inventory.txt").unwrap())];
    // In place, of the same length: read whole, since it did not grow.
    std::fs::write(&path, &altered).unwrap();
    let observed = index.look(&hint, &clock()).unwrap();
    assert_eq!(observed.payload(), altered.as_bytes());
    // Altered again and grown at once: what was added crosses, and a full look finds the rest.
    std::fs::write(&path, &text).unwrap();
    append(&row(0x200));
    // Long afterwards, so that whatever was read whole would be known again.
    let late = FixedClock::new(Timestamp::from_unix_seconds(5_000_000_000).unwrap());
    let observed = index.look(&hint, &late).unwrap();
    assert_eq!(observed.payload(), row(0x200).as_bytes());
    let observed = index.look(&[Hint::Rescan], &clock()).unwrap();
    assert_eq!(observed.payload(), std::fs::read(&path).unwrap());
    // Also where the file has grown further by then.
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replacen("old.test", "new.test", 1)).unwrap();
    append(&row(0x201));
    let observed = index.look(&[Hint::Rescan], &clock()).unwrap();
    assert_eq!(observed.payload(), std::fs::read(&path).unwrap());
}

#[test]
fn an_emptied_or_broken_source_is_refused_and_nothing_is_forgotten() {
    for (broken, rule) in [
        ("signed", "ca-source-empty"),
        ("serial", "ca-source-unreadable"),
        ("inventory.txt", "ca-source-unreadable"),
        ("ca_crl.pem", "ca-source-unreadable"),
        ("signed away", "ca-source-unreadable"),
    ] {
        let pair = Pair::new();
        let mut index = index_of(pair.a.dir());
        let before = index.state().digest();
        let aside = pair.root.path().join("aside");
        match broken {
            "signed" => {
                std::fs::rename(pair.a.dir().join("signed"), &aside).unwrap();
                std::fs::create_dir(pair.a.dir().join("signed")).unwrap();
            }
            "signed away" => std::fs::rename(pair.a.dir().join("signed"), &aside).unwrap(),
            file => std::fs::rename(pair.a.dir().join(file), &aside).unwrap(),
        }
        // Whether a full look finds it or the watcher names each file that went.
        let gone = |path: &str| Hint::Gone(RelPath::new(path).unwrap());
        let named = match broken.strip_prefix("signed") {
            Some(_) => gone("signed/node1.test.pem"),
            None => gone(broken),
        };
        for hint in [named, Hint::Rescan] {
            let error = index.look(&[hint], &clock()).unwrap_err();
            assert_eq!(error.rule(), Some(rule), "{broken}");
            assert!(error.is_retryable());
            assert_eq!(index.state().digest(), before, "{broken}");
        }
    }
}

#[test]
fn excluded_and_unacceptable_names_never_cross() {
    let mut pair = Pair::new();
    let excluded: pefo_core::Certname = "own.test".parse().unwrap();
    let exclude = Exclusions::new().with(excluded, "the passive's own");
    let options = SnapshotOptions::default().exclude(exclude);
    let layout = CaLayout::at(pair.a.dir()).unwrap();
    let mut index = SourceIndex::read(&layout, &options, &clock()).unwrap();
    let before = contents(pair.a.dir());
    pair.a.sign("own.test").unwrap();
    std::fs::write(pair.a.dir().join("signed/Not A Name.pem"), "x").unwrap();
    for hints in [hints(&before, &contents(pair.a.dir())), vec![Hint::Rescan]] {
        let observed = index.look(&hints, &clock()).unwrap();
        let below = observed
            .changes
            .iter()
            .filter(|change| change.path().parent().is_some());
        assert_eq!(below.count(), 0, "{:?}", observed.changes);
        let rules: Vec<_> = observed
            .problems
            .iter()
            .map(|problem| problem.error.rule)
            .collect();
        assert_eq!(rules, ["name-refused"]);
    }
}

#[test]
fn a_copy_and_the_changes_since_read_as_what_stands_there_now() {
    let mut pair = Pair::with(options().keys(Keys::Ecdsa));
    let mut index = index_of(pair.a.dir());
    for node in ["new.test", "cleaned.test"] {
        pair.a.sign(node).unwrap();
    }
    let mut changes = index.look(&[Hint::Rescan], &clock()).unwrap().changes;
    pair.a.clean("cleaned.test").unwrap();
    pair.a.request("asks.test").unwrap();
    pair.a.sign("late.test").unwrap();
    changes.extend(index.look(&[Hint::Rescan], &clock()).unwrap().changes);
    // A generation without a pending request has no directory of them.
    std::fs::remove_dir(pair.b.join("requests")).unwrap();
    let options = SnapshotOptions::default();
    let over = Snapshot::read_dir_after(&pair.b, &options, &changes).unwrap();
    let now = snap(pair.a.dir());
    assert_eq!(files(&over), files(&now));
    assert_eq!(over.summary(), now.summary());
    let elsewhere = Snapshot::read_dir_after(pair.a.dir(), &options, &changes);
    assert!(elsewhere.is_err(), "rows were appended to another file");
}

fn files(snapshot: &Snapshot) -> Vec<(String, Vec<u8>)> {
    let file =
        |(path, bytes, _): (&pefo_core::RelPath, &[u8], u32)| (path.to_string(), bytes.to_vec());
    snapshot.files().map(file).collect()
}
