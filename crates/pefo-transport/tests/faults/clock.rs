//! Clocks that are hours off: content decides, and no clock is compared with another.

use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;

use pefo_core::clock::{Clock as _, FixedClock, SystemClock, Timestamp};
use pefo_core::disk::Disk;
use pefo_testkit::wait;
use pefo_transport::TreeSource;

use crate::mirror::{Mirror, set_mtime, show, write_in};
use crate::world::{LONG, need};

const TWO_HOURS: i64 = 7200;

fn now() -> i64 {
    SystemClock.now().unix_seconds()
}

fn off_by(seconds: i64) -> FixedClock {
    FixedClock::new(Timestamp::from_unix_seconds(now() + seconds).unwrap())
}

/// Changes a file in place so that its size and its mtime tell nothing.
fn change_behind_its_back(path: &Path, content: &[u8]) {
    let before = std::fs::metadata(path).unwrap();
    assert_eq!(before.len(), content.len() as u64);
    let file = std::fs::File::options().write(true).open(path).unwrap();
    // Where the kernel's own clock ticks slowly, ctime alone would not tell it either.
    wait::until("the kernel's next tick", LONG, || {
        file.write_all_at(content, 0).unwrap();
        file.set_modified(before.modified().unwrap()).unwrap();
        let after = file.metadata().unwrap();
        (after.ctime(), after.ctime_nsec()) != (before.ctime(), before.ctime_nsec())
    });
}

#[test]
fn a_clock_two_hours_off_hides_no_change_on_either_side() {
    for seconds in [TWO_HOURS, -TWO_HOURS] {
        let mirror = need!(Mirror::new());
        let clock = off_by(seconds);
        let root = mirror.source("source");
        let (first, digests) = (root.join("first"), mirror.world.path("source.digests"));
        write_in(&root, "first", b"content 1");
        write_in(&root, "second", b"content 2");
        // Each time as another run would, with what the last one has learnt.
        let sync = || {
            let mut source = TreeSource::new(&root).cached(&digests);
            let synced = mirror.sync_here(&mut source, &clock).unwrap();
            source.keep(&Disk::new()).unwrap();
            synced
        };
        sync();
        assert!(sync().unchanged);
        mirror.is_as(&root);

        // At the source, just after it was read.
        change_behind_its_back(&first, b"content 3");
        assert_eq!(sync().committed.written, 1, "{seconds} s off");
        mirror.is_as(&root);

        // In the copy, just after it was written.
        change_behind_its_back(&mirror.dest().join("first"), b"content 4");
        assert_eq!(sync().committed.written, 1, "{seconds} s off");
        mirror.is_as(&root);
        assert!(sync().unchanged);
    }
}

#[test]
fn a_copy_with_a_newer_mtime_and_other_content_is_replaced() {
    // What 'rsync -u' keeps where the spare's clock is ahead: a CRL without the newest revocation.
    let mirror = need!(Mirror::new());
    let source = mirror.source("source");
    write_in(&source, "ca_crl.pem", b"revoked: 1");
    mirror.run(&source).goes_through();
    write_in(&source, "ca_crl.pem", b"revoked: 1 2");
    let ahead = u64::try_from(now() + 120).unwrap();
    set_mtime(&mirror.dest().join("ca_crl.pem"), ahead, 0);
    mirror.run(&source).goes_through();
    mirror.is_as(&source);
}

#[test]
fn mtimes_cross_to_the_nanosecond_wherever_they_lie() {
    let mirror = need!(Mirror::new());
    let source = mirror.source("source");
    let soon = u64::try_from(now() + TWO_HOURS).unwrap();
    let times = [
        ("epoch", 0, 1),
        ("past", 1_000_000_000, 999_999_999),
        ("soon", soon, 123_456_789),
        ("far", 7_000_000_000, 5),
    ];
    for (name, seconds, nanoseconds) in times {
        write_in(&source, name, name.as_bytes());
        set_mtime(&source.join(name), seconds, nanoseconds);
    }
    mirror.run(&source).goes_through();
    let shown = show(&mirror.dest());
    for (name, seconds, nanoseconds) in times {
        let (_, file) = &shown[name];
        let (at, part, _) = file.as_ref().unwrap();
        assert_eq!((*at as u64, *part as u32), (seconds, nanoseconds), "{name}");
    }
    let again = mirror.run(&source).goes_through();
    assert!(again.out.contains("\"unchanged\":true"), "{again:?}");
}
