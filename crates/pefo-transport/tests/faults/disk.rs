//! The far host's disk fills up or turns read-only: told with a hint, the old stays whole, and once
//! there is room again the next run goes through.

use std::path::Path;
use std::process::Command;

use pefo_core::{Error, ErrorKind};
use pefo_testkit::disk::SmallDisk;

use crate::mirror::{Mirror, show, write_in};
use crate::spool::Spool;
use crate::world::{World, need, noise};

/// 64 MiB stay free by default; so much and a little more.
const KIB: u32 = 70 * 1024;
const FITS: usize = 3 << 20;

/// Lets something happen once a slow transfer has begun to arrive.
fn amid<T: Send>(
    world: &World,
    transfer: impl FnOnce() -> T + Send,
    arrived: impl FnOnce(),
    happens: impl FnOnce(),
) -> T {
    world.line.set_rate(Some(1_000_000));
    std::thread::scope(|scope| {
        let transfer = scope.spawn(transfer);
        arrived();
        happens();
        world.line.set_rate(None);
        transfer.join().unwrap()
    })
}

#[track_caller]
fn is_told(error: &Error, why: &str) {
    assert_eq!(error.kind(), ErrorKind::Io, "{error}");
    assert!(error.to_string().contains(why), "{error}");
    assert!(error.hint_text().is_some(), "{error}");
}

fn small_tree(mirror: &Mirror) -> std::path::PathBuf {
    let source = mirror.source("source");
    for (path, content) in [("a", b"1".as_slice()), ("d/b", &noise(1, 5000))] {
        write_in(&source, path, content);
    }
    mirror.run(&source).goes_through();
    source
}

#[track_caller]
fn is_refused_early(mirror: &Mirror, source: &Path, why: &str) {
    let before = show(&mirror.dest());
    let mut refused = None;
    let [sent, _] = mirror.world.passing(|| refused = mirror.sync(source).err());
    let error = refused.unwrap();
    assert_eq!(error.rule(), Some("spool-full"), "{error}");
    assert!(error.to_string().contains(why), "{error}");
    assert!(error.hint_text().is_some(), "{error}");
    assert!(sent < 100_000, "{sent} bytes were sent");
    assert!(show(&mirror.dest()) == before);
    mirror.is_let_go();
    assert!(mirror.waiting().is_empty());
}

#[test]
fn a_tree_that_does_not_fit_is_refused_before_its_files_are_sent() {
    let mirror = need!(Mirror::new());
    let _disk = need!(SmallDisk::in_memory(&mirror.home, KIB, None));
    let source = small_tree(&mirror);
    write_in(&source, "large", &noise(2, 8 << 20));
    is_refused_early(&mirror, &source, "bytes free");
    write_in(&source, "large", &noise(2, FITS));
    mirror.goes_on(&source);
    mirror.is_as(&source);
}

#[test]
fn more_files_than_the_disk_has_inodes_are_refused_before_they_are_sent() {
    let mirror = need!(Mirror::new());
    let _disk = need!(SmallDisk::in_memory(&mirror.home, 2 * KIB, Some(100)));
    let source = small_tree(&mirror);
    // Whether they cross the line or stand in the copy already, under another name.
    for same in [false, true] {
        for number in 0..100 {
            let content = noise(if same { 1 } else { number }, 5000);
            write_in(&source, &format!("many/{number}"), &content);
        }
        is_refused_early(&mirror, &source, "inodes free");
        for number in 20..100 {
            std::fs::remove_file(source.join(format!("many/{number}"))).unwrap();
        }
        mirror.goes_on(&source);
        mirror.is_as(&source);
    }
}

#[test]
fn a_disk_that_fills_up_in_a_sync_is_told_and_the_tree_is_as_it_was() {
    let mirror = need!(Mirror::new());
    let disk = need!(SmallDisk::in_memory(&mirror.home, KIB, None));
    let source = small_tree(&mirror);
    let before = show(&mirror.dest());
    write_in(&source, "a", b"22");
    write_in(&source, "large", &noise(2, FITS));
    let synced = amid(
        &mirror.world,
        || mirror.sync(&source),
        || mirror.arrived(100_000),
        || disk.fill("filler"),
    );
    is_told(&synced.unwrap_err(), "No space left");
    mirror.is_let_go();
    assert!(show(&mirror.dest()) == before);

    // As long as it is full the next one is told before anything is sent.
    let error = mirror.sync(&source).unwrap_err();
    assert_eq!(error.rule(), Some("spool-full"), "{error}");
    assert!(show(&mirror.dest()) == before);
    std::fs::remove_file(disk.path().join("filler")).unwrap();
    mirror.goes_on(&source);
    mirror.is_as(&source);
}

#[test]
fn a_disk_that_turns_read_only_in_a_sync_is_told_and_the_tree_is_as_it_was() {
    let mirror = need!(Mirror::new());
    let disk = need!(SmallDisk::ext4(&mirror.home, 100));
    let source = small_tree(&mirror);
    let before = show(&mirror.dest());
    write_in(&source, "a", b"22");
    write_in(&source, "large", &noise(2, FITS));
    let synced = amid(
        &mirror.world,
        || mirror.sync(&source),
        || mirror.arrived(100_000),
        || disk.turn_read_only(),
    );
    is_told(&synced.unwrap_err(), "Read-only file system");
    assert!(show(&mirror.dest()) == before);
    is_told(&mirror.sync(&source).unwrap_err(), "Read-only file system");

    // What was committed before is there, whatever the disk has lost.
    disk.repair();
    assert!(show(&mirror.dest()) == before);
    mirror.goes_on(&source);
    mirror.is_as(&source);
}

#[test]
fn a_tree_that_no_rename_can_reach_is_told_before_anything_is_sent() {
    let mirror = need!(Mirror::new());
    let _disk = need!(SmallDisk::in_memory(&mirror.home, KIB, None));
    let source = small_tree(&mirror);
    write_in(&source, "a", b"22");
    // One file system, two mounts. It goes with the disk below it.
    let dest = mirror.dest();
    let mut bind = Command::new("mount");
    let bound = bind.arg("--bind").args([&dest, &dest]).status().unwrap();
    assert!(bound.success());
    let error = mirror.sync(&source).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.to_string().contains("two mounts"), "{error}");

    let gone = Command::new("umount").arg(&dest).status().unwrap();
    assert!(gone.success());
    mirror.goes_on(&source);
    mirror.is_as(&source);
}

#[test]
fn a_spool_that_is_full_or_fills_up_takes_no_half_generation_and_the_next_push_goes_through() {
    let spool = need!(Spool::new());
    let disk = need!(SmallDisk::in_memory(&spool.home, KIB, None));
    spool.write(1, 5000);
    spool.run(1).goes_through();

    spool.write(2, 8 << 20);
    let mut told = None;
    let [sent, _] = spool.world.passing(|| told = Some(spool.run(2)));
    let run = told.unwrap();
    run.is_told();
    assert!(run.err.contains("bytes free"), "{run:?}");
    assert!(sent < 100_000, "{sent} bytes were sent");
    assert_eq!((spool.standing(), spool.begun().len()), (vec![1], 0));

    spool.write(2, FITS);
    let run = amid(
        &spool.world,
        || spool.run(2),
        || spool.arrived(100_000),
        || disk.fill("filler"),
    );
    run.is_told();
    assert!(run.err.contains("No space left"), "{run:?}");
    spool.is_let_go();
    assert_eq!(spool.standing(), [1]);
    spool.verify();

    std::fs::remove_file(disk.path().join("filler")).unwrap();
    spool.goes_on(2);
    assert_eq!((spool.standing(), spool.begun().len()), (vec![1, 2], 0));
    spool.holds_what_is_written(2);
    spool.verify();
}

#[test]
fn a_spool_that_turns_read_only_is_told_and_what_stands_in_it_stays_whole() {
    let spool = need!(Spool::new());
    let disk = need!(SmallDisk::ext4(&spool.home, 100));
    spool.write(1, 5000);
    spool.run(1).goes_through();
    spool.write(2, FITS);
    let run = amid(
        &spool.world,
        || spool.run(2),
        || spool.arrived(100_000),
        || disk.turn_read_only(),
    );
    run.is_told();
    assert!(run.err.contains("Read-only file system"), "{run:?}");
    assert_eq!(spool.standing(), [1]);
    spool.verify();
    let run = spool.run(2);
    run.is_told();
    assert!(run.err.contains("Read-only file system"), "{run:?}");

    disk.repair();
    assert_eq!(spool.standing(), [1]);
    spool.verify();
    spool.goes_on(2);
    assert_eq!((spool.standing(), spool.begun().len()), (vec![1, 2], 0));
    spool.holds_what_is_written(2);
    spool.verify();
}
