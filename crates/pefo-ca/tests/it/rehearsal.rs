//! Whether a host could sign and revoke, tried where nobody sees it.

use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pefo_ca::takeover::CrlSigner;
use pefo_ca::{Rehearsal, RehearsalOptions, Serial, SerialBlock, pem, rehearse};
use pefo_core::Certname;
use pefo_core::clock::Clock;
use pefo_core::disk::fault::{Counter, StopAt};
use pefo_core::disk::{Hook, Operation};
use pefo_testkit::ca::Keys;

use super::*;

const NAME: &str = "rehearsal.pefo.test";

/// A CA with a past, of which `b` is what a standby has: everything but the key.
fn with_past(keys: Keys) -> Pair {
    let mut pair = Pair::with(options().keys(keys));
    for node in ["node2.test", "node3.test"] {
        pair.a.sign(node).unwrap();
    }
    pair.a.revoke("node2.test").unwrap();
    pair.a.clean("node3.test").unwrap();
    pair.a.request("asks.test").unwrap();
    pair.follow();
    std::fs::remove_file(pair.b.join("ca_key.pem")).unwrap();
    std::fs::remove_file(pair.b.join("root_key.pem")).unwrap();
    pair
}

fn asked() -> RehearsalOptions {
    RehearsalOptions::new(Certname::new(NAME).unwrap())
}

fn signer(pair: &Pair) -> CrlSigner {
    let authority = snap(pair.a.dir()).chain().unwrap().signing().clone();
    CrlSigner::load(&CaLayout::at(pair.a.dir()).unwrap(), &authority).unwrap()
}

/// Rehearses with what stands in `b`, which stays as it is.
fn on(disk: &Disk, pair: &Pair, options: &RehearsalOptions) -> pefo_core::Result<Rehearsal> {
    let before = contents(&pair.b);
    let scratch = pair.root.path().join("scratch");
    let source = snap(&pair.b);
    let ended = rehearse(disk, &source, &signer(pair), &scratch, options, &clock());
    assert_eq!(contents(&pair.b), before, "the CA stays as it is");
    ended
}

/// The rule by which a rehearsal is refused that leaves nothing behind.
fn refusal(disk: &Disk, pair: &Pair, options: &RehearsalOptions) -> String {
    let error = on(disk, pair, options).unwrap_err();
    assert!(!pair.root.path().join("scratch").exists(), "{error}");
    assert!(error.hint_text().is_some(), "{error}");
    error.rule().unwrap_or_else(|| panic!("{error}")).to_owned()
}

/// Everything that was done to a disk.
#[derive(Default)]
struct Seen(Mutex<Vec<String>>);

impl Hook for Seen {
    fn before(&self, operation: Operation<'_>) -> io::Result<()> {
        self.0.lock().unwrap().push(format!("{operation:?}"));
        Ok(())
    }
}

#[test]
fn a_host_that_could_sign_and_revoke_has_proved_it_and_nothing_is_left() {
    for keys in [Keys::Rsa, Keys::Ecdsa] {
        let pair = with_past(keys);
        let seen = Arc::new(Seen::default());
        let rehearsal = on(&Disk::with_hook(seen.clone()), &pair, &asked()).unwrap();
        assert!(!pair.root.path().join("scratch").exists());
        assert_eq!(rehearsal.serial, Serial::from(5));
        assert_eq!((rehearsal.certificates, rehearsal.revocations), (3, 2));
        assert_eq!(rehearsal.crl_number, Some(Serial::from(3)));
        let scratch = format!("{:?}", pair.root.path().join("scratch"));
        let scratch = scratch.trim_end_matches('"');
        for operation in seen.0.lock().unwrap().iter() {
            let is_parents_sync = *operation == format!("SyncDir({:?})", pair.root.path());
            assert!(
                operation.contains(scratch) || is_parents_sync,
                "{operation}"
            );
            assert!(!operation.contains("_key"), "{operation}");
        }
    }
}

/// Each look at it shows seven milliseconds more.
struct Ticking(AtomicU64);

impl Clock for Ticking {
    fn now(&self) -> Timestamp {
        timestamp()
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(7 * self.0.fetch_add(1, Ordering::Relaxed))
    }

    fn wait(&self, _duration: Duration) {}
}

#[test]
fn what_took_how_long_is_told() {
    let pair = with_past(Keys::Ecdsa);
    let scratch = pair.root.path().join("scratch");
    let ticking = Ticking(AtomicU64::new(0));
    let (source, signer) = (snap(&pair.b), signer(&pair));
    let told = rehearse(&Disk::new(), &source, &signer, &scratch, &asked(), &ticking).unwrap();
    insta::assert_snapshot!(serde_json::to_string(&told).unwrap(), @r#"{"certname":"rehearsal.pefo.test","serial":"0x0005","certificates":3,"revocations":2,"crl_number":"0x0003","writing_ms":7,"signing_ms":7,"revoking_ms":7,"checking_ms":21}"#);
}

#[test]
fn the_serial_is_the_next_of_the_block_that_the_host_would_issue_from() {
    let mut pair = with_past(Keys::Ecdsa);
    let block = |first, last| SerialBlock::new(first, last).unwrap();
    let serial =
        |pair: &Pair, options: &RehearsalOptions| on(&Disk::new(), pair, options).unwrap().serial;
    let fresh = asked().block(block(0x11_0000, 0x11_FFFF));
    assert_eq!(serial(&pair, &fresh), Serial::from(0x11_0000));
    // The standby has signed from its block before.
    pair.a.sign_with_serial("puppet-b.test", 0x100).unwrap();
    std::fs::write(pair.a.dir().join("serial"), "0102").unwrap();
    copy_tree(pair.a.dir(), &pair.b).unwrap();
    let used = |last| asked().block(block(0x100, last));
    assert_eq!(
        serial(&pair, &used(0x1FF)),
        Serial::from(0x102),
        "its counter"
    );
    std::fs::write(pair.b.join("serial"), "0005").unwrap();
    let other = asked().other_block(block(0x100, 0x1FF));
    assert_eq!(
        serial(&pair, &other),
        Serial::from(5),
        "the CA's own counter"
    );
    assert_eq!(refusal(&Disk::new(), &pair, &asked()), "rehearsal-unsound");
    assert_eq!(
        serial(&pair, &used(0x1FF)),
        Serial::from(0x101),
        "above what it issued"
    );
    assert_eq!(
        refusal(&Disk::new(), &pair, &used(0x100)),
        "serial-exhausted"
    );
}

#[test]
fn the_last_serial_that_puppetserver_can_count_to_is_not_passed() {
    let pair = with_past(Keys::Ecdsa);
    for (next, rule) in [("7FFFFFFE", None), ("7FFFFFFF", Some("serial-exhausted"))] {
        std::fs::write(pair.b.join("serial"), next).unwrap();
        match rule {
            None => drop(on(&Disk::new(), &pair, &asked()).unwrap()),
            Some(rule) => assert_eq!(refusal(&Disk::new(), &pair, &asked()), rule),
        }
    }
}

#[test]
fn a_damaged_ca_is_refused_before_anything_is_written() {
    let edit = |pair: &Pair, path: &str, change: &dyn Fn(Vec<u8>) -> Vec<u8>| {
        let path = pair.b.join(path);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(path, change(bytes)).unwrap();
    };
    let forged = |bytes: Vec<u8>| {
        let mut block = pem::blocks(&bytes).unwrap().remove(0);
        *block.der.last_mut().unwrap() ^= 1;
        pem::encode(&block.label, &block.der).into_bytes()
    };
    let half = |bytes: Vec<u8>| bytes[..bytes.len() / 2].to_vec();
    let behind = |_: Vec<u8>| b"0003".to_vec();
    type Change<'c> = &'c dyn Fn(Vec<u8>) -> Vec<u8>;
    let damages: [(&str, Change<'_>, &str); 6] = [
        ("signed/node1.test.pem", &forged, "rehearsal-unsound"),
        ("signed/node1.test.pem", &half, "rehearsal-unsound"),
        ("inventory.txt", &half, "rehearsal-unsound"),
        ("serial", &behind, "rehearsal-unsound"),
        ("ca_crl.pem", &half, "ca-source-unreadable"),
        ("ca_crt.pem", &half, "ca-source-unreadable"),
    ];
    for (path, change, rule) in damages {
        let pair = with_past(Keys::Ecdsa);
        edit(&pair, path, change);
        let counter = Arc::new(Counter::default());
        let disk = Disk::with_hook(counter.clone());
        assert_eq!(refusal(&disk, &pair, &asked()), rule, "{path}");
        assert_eq!(counter.count(), 0, "{path}");
    }
}

#[test]
fn what_is_wrong_with_the_ca_is_told_but_not_at_any_length() {
    let mut pair = with_past(Keys::Ecdsa);
    for node in 10..18 {
        pair.a.sign(&format!("n{node}.test")).unwrap();
    }
    copy_tree(pair.a.dir(), &pair.b).unwrap();
    for node in 10..18 {
        let name = format!("signed/n{node}.test.pem");
        std::fs::copy(pair.b.join("signed/node1.test.pem"), pair.b.join(name)).unwrap();
    }
    let error = on(&Disk::new(), &pair, &asked()).unwrap_err().to_string();
    assert!(
        error.contains("the CA is damaged as it stands: signed/n10.test.pem"),
        "{error}"
    );
    assert!(error.contains("more"), "{error}");
    assert_eq!(error.matches("signed/n1").count(), 5, "{error}");
}

#[test]
fn another_cas_key_and_a_nodes_own_name_are_refused() {
    let pair = with_past(Keys::Ecdsa);
    let other = with_past(Keys::Ecdsa);
    let scratch = pair.root.path().join("scratch");
    let (source, foreign) = (snap(&pair.b), signer(&other));
    let error = rehearse(
        &Disk::new(),
        &source,
        &foreign,
        &scratch,
        &asked(),
        &clock(),
    );
    assert_eq!(error.unwrap_err().rule(), Some("ca-identity"));
    for taken in ["node1.test", "asks.test"] {
        let options = RehearsalOptions::new(Certname::new(taken).unwrap());
        assert_eq!(refusal(&Disk::new(), &pair, &options), "rehearsal-certname");
    }
}

#[test]
fn a_directory_that_holds_anything_else_is_left_alone() {
    let pair = with_past(Keys::Ecdsa);
    let (scratch, elsewhere) = (pair.root.path().join("scratch"), pair.root.path().join("e"));
    let refused = || {
        let error = on(&Disk::new(), &pair, &asked()).unwrap_err();
        assert_eq!(error.rule(), Some("rehearsal-scratch"), "{error}");
    };
    copy_tree(&pair.b, &scratch).unwrap();
    refused();
    assert_same(&pair.b, &scratch);
    std::fs::remove_dir_all(&scratch).unwrap();
    // A CA below it, and nothing that says whose.
    copy_tree(&pair.b, &scratch.join("ca")).unwrap();
    refused();
    assert_same(&pair.b, &scratch.join("ca"));
    std::fs::remove_dir_all(&scratch).unwrap();
    std::fs::create_dir(&elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &scratch).unwrap();
    refused();
    assert!(elsewhere.is_dir() && scratch.is_symlink());
    std::fs::remove_file(&scratch).unwrap();
    std::fs::create_dir(&scratch).unwrap();
    on(&Disk::new(), &pair, &asked()).expect("an empty one will do");
}

/// Fails one operation, and no other.
struct FailsOnce {
    at: usize,
    seen: AtomicUsize,
}

impl Hook for FailsOnce {
    fn before(&self, _operation: Operation<'_>) -> io::Result<()> {
        if self.seen.fetch_add(1, Ordering::Relaxed) == self.at {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }
}

#[test]
fn a_disk_that_fails_once_ends_the_rehearsal_and_nothing_is_left() {
    let pair = with_past(Keys::Ecdsa);
    let counter = Arc::new(Counter::default());
    on(&Disk::with_hook(counter.clone()), &pair, &asked()).unwrap();
    assert!(counter.count() > 60, "{}", counter.count());
    let scratch = pair.root.path().join("scratch");
    let mut left = 0;
    for at in 0..counter.count() {
        let seen = AtomicUsize::new(0);
        let disk = Disk::with_hook(Arc::new(FailsOnce { at, seen }));
        let error = on(&disk, &pair, &asked()).unwrap_err();
        assert_eq!(
            error.io_kind(),
            Some(io::ErrorKind::StorageFull),
            "at {at}: {error}"
        );
        left += usize::from(scratch.exists());
        on(&Disk::new(), &pair, &asked()).unwrap();
    }
    // Where it is the removal that fails, there is no more to be done.
    assert!(
        left > 0 && left < counter.count() / 2,
        "{left} of {}",
        counter.count()
    );
}

#[test]
fn what_a_killed_rehearsal_left_is_cleared_by_the_next() {
    let pair = with_past(Keys::Ecdsa);
    let counter = Arc::new(Counter::default());
    on(&Disk::with_hook(counter.clone()), &pair, &asked()).unwrap();
    for at in 0..counter.count() {
        let stopped = Arc::new(StopAt::new(at));
        on(&Disk::with_hook(stopped), &pair, &asked()).unwrap_err();
        on(&Disk::new(), &pair, &asked()).unwrap();
        assert!(!pair.root.path().join("scratch").exists(), "killed at {at}");
    }
}

/// Does something to the copy once a file has been put in place there.
struct Meddles<F>(&'static str, F);

impl<F: Fn(&Path) + Send + Sync> Hook for Meddles<F> {
    fn before(&self, _operation: Operation<'_>) -> io::Result<()> {
        Ok(())
    }

    fn after(&self, operation: Operation<'_>) {
        if let Operation::Rename(_, to) = operation
            && to.ends_with(self.0)
        {
            (self.1)(to);
        }
    }
}

#[test]
fn a_copy_that_is_not_what_it_should_be_afterwards_is_no_proof() {
    const SIGNED: &str = "signed/rehearsal.pefo.test.pem";
    let pair = with_past(Keys::Ecdsa);
    let failed = |hook: Arc<dyn Hook>, says: &str| {
        let error = on(&Disk::with_hook(hook), &pair, &asked()).unwrap_err();
        assert_eq!(error.rule(), Some("rehearsal-failed"), "{error}");
        assert!(error.to_string().contains(says), "{error}");
        assert!(!pair.root.path().join("scratch").exists());
    };
    let cadir = |path: &Path| path.ancestors().nth(2).unwrap().to_owned();
    let lost = move |to: &Path| std::fs::remove_file(cadir(to).join("signed/node1.test.pem"));
    failed(
        Arc::new(Meddles(SIGNED, move |to: &Path| lost(to).unwrap())),
        "more has changed than serial, inventory.txt",
    );
    let gone = |to: &Path| std::fs::remove_file(to).unwrap();
    failed(
        Arc::new(Meddles(SIGNED, gone)),
        "is not the certificate that was issued",
    );
    let set_back = move |to: &Path| std::fs::write(cadir(to).join("serial"), "0005").unwrap();
    failed(
        Arc::new(Meddles(SIGNED, set_back)),
        "does not cover what was issued",
    );
    let set_far = move |to: &Path| std::fs::write(cadir(to).join("serial"), "0500").unwrap();
    failed(
        Arc::new(Meddles(SIGNED, set_far)),
        "the counter does not stand at 0x0006",
    );
    let before = std::fs::read(pair.b.join("ca_crl.pem")).unwrap();
    let old = move |to: &Path| std::fs::write(to, &before).unwrap();
    failed(
        Arc::new(Meddles("ca_crl.pem", old)),
        "serial 0x0005 is not revoked",
    );
    let ours = |serials: &[u64], number| {
        let crl = pefo_testkit::ca::CrlOptions::default().now(now());
        let ours = pair.a.crl(&crl.number(number).revoked(serials)).unwrap();
        format!("{ours}{}", pair.a.root_crl())
    };
    for (serials, number, says) in [
        (&[2, 3, 4, 5][..], 3, "not every older revocation was kept"),
        (&[3, 5], 3, "not every older revocation was kept"),
        (&[3, 4, 5], 2, "the CRL's number went from 2 to 2"),
    ] {
        let other = ours(serials, number);
        let put = move |to: &Path| std::fs::write(to, &other).unwrap();
        failed(Arc::new(Meddles("ca_crl.pem", put)), says);
    }
    let other = ours(&[3, 4, 5], 3)
        .split_inclusive("-----END X509 CRL-----\n")
        .next()
        .map(str::to_owned);
    let put = move |to: &Path| std::fs::write(to, other.as_deref().unwrap()).unwrap();
    failed(
        Arc::new(Meddles("ca_crl.pem", put)),
        "the CRLs of the CA's ancestors",
    );
}
