//! What is never deleted.

use pefo_core::disk::Disk;
use pefo_core::progress::Silent;
use pefo_core::{Error, ErrorKind};
use pefo_transport::TreeConnection;
use pefo_transport::tree::DeleteGuard;

use crate::world::{World, show};

fn twenty() -> World {
    let mut world = World::new();
    world.options.guard = DeleteGuard::default().free_count(2).max_percent(20);
    for n in 0..20 {
        world.write(&format!("file{n}"), b"1");
    }
    world.sync();
    world
}

#[test]
fn an_emptied_source_deletes_nothing_and_the_rest_crosses() {
    let world = twenty();
    for n in 0..19 {
        world.remove(&format!("file{n}"));
    }
    world.write("new", b"2");
    let synced = world.sync();
    assert!(!synced.is_complete());
    assert_eq!((synced.committed.written, synced.committed.held), (1, 19));
    insta::assert_snapshot!(synced.committed.guard.unwrap(), @"mass-delete: 19 of 20 would go, at most 20 % may");
    assert_eq!(show(&world.dest()).len(), 21);
    // Nor does an empty one.
    world.remove("file19");
    world.remove("new");
    assert_eq!(world.sync().committed.held, 21);
    assert_eq!(show(&world.dest()).len(), 21);
}

#[test]
fn a_few_deletes_pass_the_guard() {
    let world = twenty();
    for n in 0..4 {
        world.remove(&format!("file{n}"));
    }
    assert_eq!(world.sync().committed.deleted, 4);
    world.same();
}

#[test]
fn nothing_is_deleted_after_a_read_error_at_the_source() {
    let world = twenty();
    world.remove("file0");
    world.write("new", b"2");
    let (synced, served) = world.session(&Disk::new(), |stream| {
        let mut source = world.tree_source();
        let mut scan = world.scan(&mut source);
        scan.unreadable
            .push(Error::new(ErrorKind::Io, "read file0: input/output error"));
        TreeConnection::over(stream, world.sending.clone())?.sync(&source, scan, &Silent)
    });
    served.unwrap();
    let synced = synced.unwrap();
    assert_eq!((synced.committed.written, synced.committed.deleted), (1, 0));
    assert_eq!(synced.committed.held, 1);
    assert_eq!(synced.unreadable, ["read file0: input/output error"]);
    insta::assert_snapshot!(synced.committed.guard.unwrap(), @"source-unreadable: a part of the source could not be read");
    assert!(world.dest().join("file0").exists());
}

#[test]
fn a_sender_that_deletes_nothing_keeps_what_is_there() {
    let mut world = twenty();
    world.remove("file0");
    world.sending = world.sending.clone().delete(false);
    assert_eq!(world.sync().committed.held, 1);
    assert!(world.dest().join("file0").exists());
}

#[test]
fn what_stands_in_the_way_of_too_much_is_refused_whole() {
    let world = World::new();
    for n in 0..20 {
        world.write(&format!("dir/file{n}"), b"1");
    }
    world.sync();
    let mut guarded = world;
    guarded.options.guard = DeleteGuard::default().free_count(2).max_percent(20);
    guarded.remove("dir");
    guarded.write("dir", b"now a file");
    let error = guarded.try_sync().unwrap_err();
    assert_eq!(error.rule(), Some("mass-delete"), "{error}");
    assert!(error.hint_text().is_some());
    assert_eq!(show(&guarded.dest()).len(), 21);
}
