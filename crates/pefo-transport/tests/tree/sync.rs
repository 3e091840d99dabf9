//! What crosses, and what does not.

use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;

use pefo_core::clock::SystemClock;
use pefo_core::disk::Disk;
use pefo_core::disk::fault::Counter;
use pefo_core::progress::Silent;
use pefo_transport::TreeConnection;
use proptest::prelude::*;

use crate::world::{World, age, chmod, noise, rel, show, write_in};

#[test]
fn a_first_sync_copies_all_and_a_second_finds_nothing_to_do() {
    let world = World::new();
    world.write("a", b"1");
    world.write("d/e/f", b"22");
    world.write("empty", b"");
    world.write("large", &noise(1, 3_000_000));
    std::fs::create_dir(world.source().join("nothing-in-it")).unwrap();
    chmod(&world.source().join("d"), 0o701);
    chmod(&world.source().join("d/e/f"), 0o604);
    let first = world.sync();
    assert!(!first.unchanged && first.is_complete());
    assert_eq!(first.committed.written, 4);
    world.same();
    let second = world.sync();
    assert!(second.unchanged);
    assert!(
        second.traffic.sent + second.traffic.received < 500,
        "{second:?}"
    );
    assert!(world.waiting().is_empty());
}

#[test]
fn only_what_changed_crosses() {
    let world = World::new();
    for n in 0..400 {
        world.write(&format!("signed/node{n}.pem"), &noise(n, 2000));
    }
    world.sync();
    world.write("signed/node7.pem", &noise(1000, 2001));
    world.write("signed/new.pem", &noise(1001, 2000));
    world.remove("signed/node9.pem");
    let synced = world.sync();
    assert_eq!((synced.committed.written, synced.committed.deleted), (2, 1));
    assert!(synced.traffic.sent < 20_000, "{:?}", synced.traffic);
    world.same();
}

#[test]
fn a_changed_copy_is_put_right_whoever_changed_it() {
    let world = World::new();
    world.write("a", b"1");
    world.write("b", b"2");
    world.sync();
    // The same size and the same mtime: content decides.
    write_in(&world.dest(), "a", b"x");
    std::fs::remove_file(world.dest().join("b")).unwrap();
    write_in(&world.dest(), "stray", b"x");
    let synced = world.sync();
    assert_eq!((synced.committed.written, synced.committed.deleted), (2, 1));
    world.same();
}

#[test]
fn a_mode_or_a_time_alone_crosses_without_content() {
    let world = World::new();
    world.write("a", &noise(1, 100_000));
    world.write("d/b", b"1");
    world.sync();
    chmod(&world.source().join("a"), 0o600);
    age(&world.source().join("d/b"), 77);
    chmod(&world.source().join("d"), 0o700);
    let synced = world.sync();
    assert_eq!(
        (synced.committed.written, synced.committed.adjusted),
        (0, 3)
    );
    assert!(synced.traffic.sent < 1000);
    world.same();
}

#[test]
fn a_moved_file_is_copied_where_it_is() {
    let world = World::new();
    world.write("old/name", &noise(1, 500_000));
    world.sync();
    std::fs::create_dir(world.source().join("new")).unwrap();
    std::fs::rename(
        world.source().join("old/name"),
        world.source().join("new/name"),
    )
    .unwrap();
    let synced = world.sync();
    assert_eq!((synced.committed.written, synced.committed.copied), (0, 1));
    assert!(synced.traffic.sent < 2000);
    world.same();
    // The two hosts, and the two names, never share a file.
    assert_eq!(
        std::fs::metadata(world.dest().join("new/name"))
            .unwrap()
            .nlink(),
        1
    );
}

#[test]
fn a_changed_long_file_crosses_as_a_delta() {
    let world = World::new();
    let mut content = noise(1, 4_000_000);
    world.write("dump", &content);
    world.sync();
    content[2_000_000] ^= 1;
    content.splice(1_000_000..1_000_000, noise(2, 1000));
    world.write("dump", &content);
    let synced = world.sync();
    let crossed = synced.traffic.sent + synced.traffic.received;
    assert!(crossed < 100_000, "{crossed}");
    assert!(synced.saved_bytes > 3_900_000);
    world.same();
}

#[test]
fn the_signature_of_a_long_file_is_kept_from_when_it_came() {
    let world = World::new();
    let mut content = noise(1, 9_000_000);
    world.write("dump", &content);
    world.sync();
    let kept = world.state().join("signatures");
    assert_eq!(show(&kept).len(), 1);
    content[4_000_000] ^= 1;
    world.write("dump", &content);
    assert!(world.sync().saved_bytes > 8_900_000);
    world.same();
    // That of the old content is gone, that of the new one there.
    assert_eq!(show(&kept).len(), 1);
    // One that is damaged is not used, and one that is missing is made.
    for damage in [true, false] {
        let (name, _) = show(&kept).pop_first().unwrap();
        if damage {
            std::fs::write(kept.join(name), vec![7; 10_000]).unwrap();
        } else {
            std::fs::remove_file(kept.join(name)).unwrap();
        }
        content[5_000_000] ^= 1;
        world.write("dump", &content);
        assert!(world.sync().saved_bytes > 8_900_000);
        world.same();
    }
    world.remove("dump");
    world.write("other", &noise(2, 8_500_000));
    world.sync();
    assert_eq!(show(&kept).len(), 1);
}

#[test]
fn compression_takes_off_what_shrinks() {
    let mut world = World::new();
    world.write(
        "text",
        "one row after the other\n".repeat(50_000).as_bytes(),
    );
    world.sending = world.sending.clone().compression(3);
    let synced = world.sync();
    assert!(synced.traffic.sent < 50_000, "{:?}", synced.traffic);
    assert!(synced.traffic.shortened > 1_000_000);
    world.same();
}

#[test]
fn a_file_may_become_a_directory_and_a_directory_a_file() {
    let world = World::new();
    world.write("a", b"1");
    world.write("d/x/y", b"2");
    world.write("d/z", b"3");
    world.sync();
    world.remove("a");
    world.remove("d");
    world.write("a/b/c", b"4");
    world.write("d", b"5");
    world.sync();
    world.same();
}

#[test]
fn symlinks_and_special_files_are_left_out_and_named() {
    let world = World::new();
    world.write("a", b"1");
    std::os::unix::fs::symlink("/etc/passwd", world.source().join("link")).unwrap();
    let fifo = world.source().join("fifo");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::from(0o644)).unwrap();
    let synced = world.sync();
    let mut names: Vec<_> = synced
        .left_out
        .iter()
        .map(|left_out| {
            left_out
                .path
                .file_name()
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    names.sort();
    assert_eq!(names, ["fifo", "link"]);
    world.same();
    assert!(!world.dest().join("link").exists());
}

#[test]
fn a_hint_brings_one_path_over_and_looks_at_nothing_else() {
    let world = World::new();
    for n in 0..50 {
        world.write(&format!("signed/node{n}.pem"), &noise(n, 2000));
    }
    let counter = Arc::new(Counter::default());
    let (outcome, served) = world.session(&Disk::with_hook(counter.clone()), |stream| {
        let mut source = world.tree_source();
        let scan = world.scan(&mut source);
        let mut line = TreeConnection::over(stream, world.sending.clone())?;
        line.sync(&source, scan, &Silent)?;
        let mut change = |paths: &[&str]| {
            let paths: Vec<_> = paths.iter().map(|path| rel(path)).collect();
            line.change(&mut source, &paths, &SystemClock, &Silent)
        };
        let before = counter.count();
        world.write("signed/new.pem", &noise(99, 2000));
        assert_eq!(change(&["signed/new.pem"])?.committed.written, 1);
        // create, write, attributes, fsync, rename, fsync of the directory.
        assert!(
            counter.count() - before <= 8,
            "{}",
            counter.count() - before
        );
        world.same();
        world.remove("signed/node1.pem");
        world.write("deep/er/file", b"1");
        let synced = change(&["signed/node1.pem", "deep", "deep/er", "deep/er/file"])?;
        assert_eq!((synced.committed.written, synced.committed.deleted), (1, 1));
        world.same();
        // Long ones are asked for, and cross as deltas.
        let mut long = noise(5, 2_000_000);
        world.write("long", &long);
        change(&["long"])?;
        long[1_000_000] ^= 1;
        world.write("long", &long);
        let sent = change(&["long"])?.saved_bytes;
        assert!(sent > 1_900_000);
        world.same();
        world.remove("deep");
        change(&["deep"])?;
        world.same();
        line.ping()?;
        line.close()
    });
    outcome.unwrap();
    assert_eq!(served.unwrap().commits, 6);
    assert!(world.sync().unchanged);
}

#[test]
fn the_receiver_reads_nothing_again_that_it_wrote_itself() {
    let world = World::new();
    for n in 0..20 {
        world.write(&format!("node{n}"), &noise(n, 2000));
    }
    world.sync();
    // Too young to be sure of: the first comparison after it may read.
    pefo_testkit::wait::until(
        "the clock's grain",
        std::time::Duration::from_secs(5),
        || {
            world.sync();
            let cached = std::fs::metadata(world.state().join("digests"));
            cached.is_ok_and(|cached| cached.len() > 20 * 80)
        },
    );
    world.same();
}

#[test]
fn another_session_on_the_same_tree_is_told_it_is_locked() {
    let world = World::new();
    world.write("a", b"1");
    let (_, _) = world.session(&Disk::new(), |stream| {
        let line = TreeConnection::over(stream, world.sending.clone()).unwrap();
        let mut line = line;
        line.ping().unwrap();
        let error = world.try_sync().unwrap_err();
        assert_eq!(error.kind(), pefo_core::ErrorKind::Locked, "{error}");
        line.close().unwrap();
    });
    world.sync();
}

#[test]
fn a_receiver_whose_own_directory_cannot_serve_the_tree_says_so() {
    let mut world = World::new();
    world.write("a", b"1");
    world.options.state = world.dest().join("state");
    let error = world.try_sync().unwrap_err();
    assert_eq!(error.kind(), pefo_core::ErrorKind::Config, "{error}");
    assert!(error.to_string().contains("lies in the tree"), "{error}");
}

fn content() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..20),
        1 => (0_u64..4, 60_000_usize..200_000).prop_map(|(seed, length)| noise(seed, length)),
    ]
}

fn files() -> impl Strategy<Value = Vec<(String, Vec<u8>, u32)>> {
    let mode = prop_oneof![Just(0o644_u32), Just(0o600), Just(0o755)];
    prop::collection::vec(("[ab](-|/[ab]){0,1}(/[ab]){0,1}", content(), mode), 0..8)
}

fn lay_out(world: &World, files: &[(String, Vec<u8>, u32)]) {
    std::fs::remove_dir_all(world.source()).unwrap();
    std::fs::create_dir(world.source()).unwrap();
    for (path, content, mode) in files {
        let full = world.source().join(path);
        let parents_are_dirs = full
            .ancestors()
            .skip(1)
            .take_while(|above| *above != world.source())
            .all(|above| !above.is_file());
        if parents_are_dirs && !full.is_dir() {
            world.write(path, content);
            chmod(&full, *mode);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn any_tree_becomes_any_other(steps in prop::collection::vec(files(), 1..4)) {
        let world = World::new();
        for files in steps {
            lay_out(&world, &files);
            prop_assert!(world.sync().is_complete());
            prop_assert_eq!(show(&world.dest()), show(&world.source()));
            prop_assert!(world.sync().unchanged);
        }
    }
}
