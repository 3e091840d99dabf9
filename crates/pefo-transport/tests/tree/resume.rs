//! What had arrived of a cut transfer is checked and taken up, and what was cancelled is forgotten.

use std::io::{Read, Write};

use pefo_core::ErrorKind;
use pefo_core::cancel::Cancel;
use pefo_core::disk::Disk;
use pefo_core::progress::{Progress, Silent};
use pefo_transport::{LinkOptions, TreeConnection};
use proptest::prelude::*;

use crate::world::{Cutting, World, noise, show};

/// Syncs over a line that ends after so many bytes.
fn cut_after(world: &World, bytes: usize) {
    let (synced, _) = world.session(&Disk::new(), |stream| {
        world.sync_over(Cutting {
            inner: stream,
            left: bytes,
        })
    });
    synced.unwrap_err();
}

#[test]
fn a_long_file_goes_on_where_it_was_cut() {
    let world = World::new();
    world.write("long", &noise(1, 5_000_000));
    cut_after(&world, 3_000_000);
    assert!(world.waiting().len() == 1 && !world.dest().exists());
    let synced = world.sync();
    assert!(synced.traffic.sent < 2_300_000, "{:?}", synced.traffic);
    assert!(synced.saved_bytes > 2_700_000);
    world.same();
    assert!(world.waiting().is_empty());
}

#[test]
fn files_that_had_arrived_are_not_sent_again() {
    let world = World::new();
    for n in 0..100 {
        world.write(&format!("node{n}"), &noise(n, 10_000));
    }
    cut_after(&world, 700_000);
    let synced = world.sync();
    assert!(synced.committed.written == 100);
    assert!(synced.traffic.sent < 400_000, "{:?}", synced.traffic);
    world.same();
}

#[test]
fn what_had_arrived_is_checked_not_trusted() {
    let world = World::new();
    world.write("long", &noise(1, 5_000_000));
    world.write("short", &noise(2, 10_000));
    cut_after(&world, 3_000_000);
    for path in world.waiting() {
        for dir in ["stage", "parts"] {
            let path = world.state().join(dir).join(&path);
            if let Ok(mut content) = std::fs::read(&path) {
                content[100] ^= 1;
                std::fs::write(&path, content).unwrap();
            }
        }
    }
    // A wrong beginning shows at the end; the file is fetched anew by the next sync.
    let synced = world.sync();
    assert!(
        !synced.is_complete() && synced.committed.skipped == 1,
        "{synced:?}"
    );
    assert!(!world.dest().join("long").exists());
    assert!(world.sync().is_complete());
    world.same();
}

#[test]
fn what_had_arrived_goes_once_nothing_needs_it_any_more() {
    let world = World::new();
    world.write("short", b"1");
    world.sync();
    let begin = || {
        world.write("long", &noise(1, 5_000_000));
        world.write("early", &noise(2, 10_000));
        cut_after(&world, 3_000_000);
        assert_eq!(world.waiting().len(), 2);
    };
    // The source is as the copy again.
    begin();
    world.remove("long");
    world.remove("early");
    assert!(world.sync().unchanged);
    assert!(world.waiting().is_empty(), "{:?}", world.waiting());
    // The source is a third thing.
    begin();
    world.write("long", &noise(3, 5_000_000));
    world.remove("early");
    assert_eq!(world.sync().committed.written, 1);
    world.same();
    assert!(world.waiting().is_empty(), "{:?}", world.waiting());
}

#[test]
fn a_cut_delta_costs_only_what_had_not_arrived() {
    let world = World::new();
    let old = noise(1, 6_000_000);
    world.write("dump", &old);
    world.sync();
    // Half of it is new: the delta has three megabytes.
    let new = [&old[..3_000_000], &noise(2, 3_000_000)].concat();
    world.write("dump", &new);
    cut_after(&world, 2_500_000);
    assert_eq!(std::fs::read(world.dest().join("dump")).unwrap(), old);
    let synced = world.sync();
    assert!(synced.traffic.sent < 900_000, "{:?}", synced.traffic);
    world.same();
    assert!(world.waiting().is_empty());
}

#[test]
fn what_is_begun_for_another_content_is_not_taken_for_this_one() {
    let world = World::new();
    world.write("long", &noise(1, 5_000_000));
    cut_after(&world, 3_000_000);
    world.write("long", &noise(2, 5_000_000));
    let synced = world.sync();
    assert!(synced.is_complete() && synced.traffic.sent > 5_000_000);
    world.same();
}

/// Says stop when so many files or bytes are done.
struct StopAfter(Cancel, std::sync::Mutex<u64>);

impl Progress for StopAfter {
    fn advance(&self, _items: u64, bytes: u64) {
        let mut left = self.1.lock().unwrap();
        *left = left.saturating_sub(bytes);
        if *left == 0 {
            self.0.cancel();
        }
    }
}

#[test]
fn a_cancelled_sync_leaves_nothing() {
    for bytes in [1, 300_000, 2_000_000] {
        let mut world = World::new();
        world.write("long", &noise(1, 4_000_000));
        for n in 0..10 {
            world.write(&format!("node{n}"), &noise(n, 10_000));
        }
        let cancel = Cancel::new();
        world.sending = world
            .sending
            .clone()
            .link(LinkOptions::new().cancel(cancel.clone()));
        let (synced, served) = world.session(&Disk::new(), |stream| {
            let mut source = world.tree_source();
            let scan = world.scan(&mut source);
            let mut line = TreeConnection::over(stream, world.sending.clone()).unwrap();
            line.sync(
                &source,
                scan,
                &StopAfter(cancel, std::sync::Mutex::new(bytes)),
            )
        });
        assert_eq!(synced.unwrap_err().kind(), ErrorKind::Cancelled);
        // Nobody waits for the receiver's answer, so that it may find the line gone.
        if let Ok(served) = served {
            assert_eq!(served.commits, 0);
        }
        assert!(!world.dest().exists());
        assert!(world.waiting().is_empty(), "{bytes}: {:?}", world.waiting());
    }
}

/// Changes a file when the first byte of it was read by the sender.
struct Meddling<S, F> {
    inner: S,
    meddle: Option<F>,
    said: usize,
}

impl<S: Read, F> Read for Meddling<S, F> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.inner.read(buffer)
    }
}

impl<S: Write, F: FnOnce()> Write for Meddling<S, F> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.said += bytes.len();
        if self.said > 200_000
            && let Some(meddle) = self.meddle.take()
        {
            meddle();
        }
        self.inner.write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

#[test]
fn files_that_change_or_vanish_while_they_are_sent_stay_as_they_were() {
    let world = World::new();
    for (path, seed) in [
        ("a-first", 1),
        ("b-shrinks", 2),
        ("c-vanishes", 3),
        ("d-last", 4),
    ] {
        world.write(path, &noise(seed, 900_000));
    }
    let source = world.source();
    let meddle = move || {
        let shorter = std::fs::File::options()
            .write(true)
            .open(source.join("b-shrinks"))
            .unwrap();
        shorter.set_len(10).unwrap();
        std::fs::remove_file(source.join("c-vanishes")).unwrap();
    };
    let (synced, served) = world.session(&Disk::new(), |stream| {
        let mut source = world.tree_source();
        let scan = world.scan(&mut source);
        let stream = Meddling {
            inner: stream,
            meddle: Some(meddle),
            said: 0,
        };
        let mut line = TreeConnection::over(stream, world.sending.clone()).unwrap();
        line.sync(&source, scan, &Silent)
    });
    served.unwrap();
    let synced = synced.unwrap();
    let changed: Vec<_> = synced.changed.iter().map(ToString::to_string).collect();
    assert_eq!(changed, ["b-shrinks", "c-vanishes"]);
    assert!(!synced.is_complete());
    assert_eq!((synced.committed.written, synced.committed.skipped), (2, 2));
    let there: Vec<_> = show(&world.dest()).into_keys().collect();
    assert_eq!(there, ["a-first", "d-last"]);
    world.sync();
    world.same();
}

#[test]
fn a_delta_of_a_file_that_changed_since_it_was_looked_at_makes_no_file() {
    let world = World::new();
    let lengths = [("long", 2_000_000), ("short", 200_000)];
    for (path, length) in lengths {
        world.write(path, &noise(1, length));
    }
    world.sync();
    let stood = show(&world.dest());
    let write = |path: &str, length: usize, at: usize| {
        let mut content = noise(1, length);
        content[at] ^= 1;
        world.write(path, &content);
    };
    lengths
        .iter()
        .for_each(|(path, length)| write(path, *length, 1_000));
    let (synced, served) = world.session(&Disk::new(), |stream| {
        let mut source = world.tree_source();
        let scan = world.scan(&mut source);
        // As long as what was announced, and another content.
        lengths
            .iter()
            .for_each(|(path, length)| write(path, *length, 100_000));
        let mut line = TreeConnection::over(stream, world.sending.clone())?;
        line.sync(&source, scan, &Silent)
    });
    served.unwrap();
    let synced = synced.unwrap();
    assert!(synced.saved_bytes > 2_000_000, "they cross as deltas");
    assert_eq!((synced.committed.written, synced.committed.skipped), (0, 2));
    assert!(!synced.is_complete());
    assert_eq!(show(&world.dest()), stood);
    world.sync();
    world.same();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn however_often_it_is_cut_it_ends_whole(cuts in prop::collection::vec(1_000_usize..2_000_000, 0..5), lengths in prop::collection::vec(0_usize..1_500_000, 1..4), keep in any::<prop::sample::Index>()) {
        let world = World::new();
        for (n, length) in (1_u64..).zip(&lengths) {
            world.write(&format!("file{n}"), &noise(n, *length));
        }
        if keep.index(2) == 0 {
            world.sync();
            for (n, length) in (1_u64..).zip(&lengths) {
                let mut content = noise(n, *length);
                content.extend(noise(n + 50, 300_000));
                world.write(&format!("file{n}"), &content);
            }
        }
        for cut in cuts {
            let (_, _) = world.session(&Disk::new(), |stream| world.sync_over(Cutting { inner: stream, left: cut }));
        }
        // A resumed file may turn out wrong once, never twice.
        let complete = world.sync().is_complete() || world.sync().is_complete();
        prop_assert!(complete);
        prop_assert_eq!(show(&world.dest()), show(&world.source()));
        prop_assert!(world.waiting().is_empty());
    }
}
