//! A snapshot of a CA that is being written to.

use std::sync::Mutex;
use std::time::Duration;

use pefo_core::clock::Clock;
use pefo_testkit::ca::Step;

use super::*;

/// Lets the "server" go on whenever the reader waits.
pub(super) struct Meanwhile<F: FnMut() + Send>(pub(super) Mutex<F>);

impl<F: FnMut() + Send> Clock for Meanwhile<F> {
    fn now(&self) -> Timestamp {
        timestamp()
    }
    fn wait(&self, _duration: Duration) {
        (self.0.lock().unwrap())();
    }
}

fn read(dir: &Path, clock: &dyn Clock) -> Snapshot {
    Snapshot::read(
        &CaLayout::at(dir).unwrap(),
        &SnapshotOptions::default(),
        clock,
    )
    .unwrap()
}

#[test]
fn a_file_torn_by_a_write_in_place_is_read_again_until_it_is_whole() {
    let pair = Pair::new();
    let path = pair.a.dir().join("ca_crl.pem");
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..1000]).unwrap();
    let mut waits = 0;
    let clock = Meanwhile(Mutex::new(|| {
        waits += 1;
        if waits == 2 {
            std::fs::write(&path, &whole).unwrap();
        }
    }));
    let snapshot = read(pair.a.dir(), &clock);
    assert_eq!(waits, 2);
    snapshot.require_whole().unwrap();
}

#[test]
fn what_stays_torn_is_told_and_does_not_wait_for_ever() {
    let pair = Pair::new();
    std::fs::write(
        pair.a.dir().join("ca_crl.pem"),
        "-----BEGIN X509 CRL-----\n",
    )
    .unwrap();
    std::fs::write(pair.a.dir().join("serial"), "").unwrap();
    let mut waits = 0;
    let clock = Meanwhile(Mutex::new(|| waits += 1));
    let snapshot = read(pair.a.dir(), &clock);
    assert_eq!(waits, 5);
    let error = snapshot.require_whole().unwrap_err();
    assert_eq!(
        (error.rule(), error.is_retryable()),
        (Some("ca-source-unreadable"), true)
    );
    assert_eq!(
        snapshot
            .problems()
            .iter()
            .map(|problem| problem.path.as_str())
            .collect::<Vec<_>>(),
        ["ca_crl.pem", "serial"]
    );
}

#[test]
fn whatever_happens_between_two_reads_the_serial_covers_the_rest() {
    let mut pair = Pair::new();
    let dir = pair.a.dir().to_owned();
    // Torn at first, so that the reader comes back after the server went on.
    let crl = std::fs::read(dir.join("ca_crl.pem")).unwrap();
    std::fs::write(dir.join("ca_crl.pem"), &crl[..100]).unwrap();
    let a = &mut pair.a;
    let mut steps = [Step::Signed, Step::Serial, Step::Inventory, Step::Done].into_iter();
    let clock = Meanwhile(Mutex::new(|| match steps.next() {
        Some(step) => {
            a.sign_until("node1.test", &[], step).unwrap();
        }
        None => std::fs::write(dir.join("ca_crl.pem"), &crl).unwrap(),
    }));
    let snapshot = read(&dir, &clock);
    let next = snapshot.serial().unwrap();
    let inventory = snapshot.inventory().unwrap();
    assert!(inventory.serials().all(|serial| serial < next));
    for (_, cert) in snapshot.signed() {
        assert!(cert.serial < next && inventory.of_serial(cert.serial).next().is_some());
    }
}

#[test]
fn a_missing_directory_is_an_error_and_a_bare_one_is_empty() {
    let root = tempfile::tempdir().unwrap();
    assert_eq!(
        snap(root.path()).require_whole().unwrap_err().rule(),
        Some("ca-source-empty")
    );
    assert_eq!(
        snap(&root.path().join("nowhere"))
            .require_whole()
            .unwrap_err()
            .rule(),
        Some("ca-source-empty")
    );
}

/// A CA of more files than one thread takes, some of which are no certificates.
fn many() -> Pair {
    let mut pair = Pair::with(options().keys(pefo_testkit::ca::Keys::Ecdsa));
    let signed = pair.a.dir().join("signed");
    let pem = std::fs::read(signed.join("node1.test.pem")).unwrap();
    for number in 0..70_usize {
        let kept = if number % 9 == 0 { number } else { pem.len() };
        std::fs::write(signed.join(format!("n{number}.test.pem")), &pem[..kept]).unwrap();
    }
    std::fs::create_dir(signed.join("n70.test.pem")).unwrap();
    std::fs::write(signed.join("N71.test.pem"), &pem).unwrap();
    pair.a.request("node2.test").unwrap();
    pair
}

#[test]
fn how_many_threads_read_makes_no_difference() {
    let pair = many();
    let read_by = |threads| {
        let options = SnapshotOptions::default().threads(Threads::new(threads));
        let still = Snapshot::read_dir(pair.a.dir(), &options).unwrap();
        let layout = CaLayout::at(pair.a.dir()).unwrap();
        let live = Snapshot::read(&layout, &options, &clock()).unwrap();
        format!("{still:#?}\n{live:#?}")
    };
    let alone = read_by(1);
    assert!(alone.contains("pem-torn") && alone.contains("name-refused"));
    for threads in [2, 3, 8] {
        assert_eq!(read_by(threads), alone, "with {threads} threads");
    }
}

#[test]
fn what_is_known_of_another_directory_makes_no_difference() {
    let pair = many();
    let other = pair.root.path().join("other");
    copy_tree(pair.a.dir(), &other).unwrap();
    let torn = std::fs::read(other.join("signed/n2.test.pem")).unwrap();
    std::fs::write(other.join("signed/n2.test.pem"), &torn[..torn.len() / 2]).unwrap();
    std::fs::remove_file(other.join("signed/n3.test.pem")).unwrap();
    std::fs::write(other.join("serial"), "0099").unwrap();
    let (known, plain) = (snap(pair.a.dir()), snap(&other));
    let options = SnapshotOptions::default();
    let beside = Snapshot::read_dir_beside(&other, &options, &[], &known).unwrap();
    assert_eq!(format!("{beside:#?}"), format!("{plain:#?}"));
}
