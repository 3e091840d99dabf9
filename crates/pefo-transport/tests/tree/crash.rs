//! The process dies, the disk fails, the power goes: the whole old tree or the whole new one, once the
//! next session has begun.

use std::sync::Arc;

use pefo_core::Digest;
use pefo_core::disk::Disk;
use pefo_core::disk::fault::StopAt;
use pefo_core::disk::power::{Crash, Loss};

use crate::world::{Shown, World, chmod, noise, scratch, show};

/// A change that has every kind of step.
fn change(world: &World) {
    world.write("replaced", b"new");
    world.write("long", &{
        let mut long = noise(1, 1_200_000);
        long[600_000] ^= 1;
        long
    });
    world.write("new/file", b"1");
    world.write("new/other", b"22");
    world.remove("gone");
    world.remove("gone-dir");
    world.remove("was-file");
    world.write("was-file/inside", b"1");
    world.remove("was-dir");
    world.write("was-dir", b"1");
    chmod(&world.source().join("adjusted"), 0o600);
    std::fs::rename(
        world.source().join("moved"),
        world.source().join("moved-here"),
    )
    .unwrap();
}

/// A tree, and its copy.
fn old() -> World {
    let world = World::new();
    for (path, content) in [
        ("replaced", b"old".as_slice()),
        ("long", &noise(1, 1_200_000)),
        ("gone", b"1"),
        ("gone-dir/a/b", b"2"),
        ("was-file", b"3"),
        ("was-dir/x", b"4"),
        ("adjusted", b"5"),
        ("moved", b"moved content"),
        ("untouched", b"6"),
    ] {
        world.write(path, content);
    }
    world.sync();
    world
}

/// Starts a session that asks for nothing: whatever was interrupted is ended by it.
fn recover(world: &World) {
    let said = [pefo_transport::frame::PREAMBLE.as_slice(), &opening()].concat();
    let (_, served) = world.recite(&said, &Disk::new());
    served.unwrap();
}

fn opening() -> Vec<u8> {
    use pefo_transport::frame::{Frame, encode};
    use pefo_transport::message::Protocols;
    use pefo_transport::tree::message::Open;
    let mut bytes = Vec::new();
    let open = Open {
        protocol: Protocols::OURS,
        tool: "test".into(),
        capabilities: vec![],
    };
    encode(&Frame::Open(open), &mut bytes).unwrap();
    encode(&Frame::Bye, &mut bytes).unwrap();
    bytes
}

fn assert_old_or_new(world: &World, old: &Shown, new: &Shown, at: usize) -> bool {
    recover(world);
    let now = show(&world.dest());
    assert!(
        &now == old || &now == new,
        "after {at} operations neither the old nor the new tree"
    );
    &now == new
}

#[test]
fn a_receiver_killed_at_any_disk_operation_leaves_the_old_tree_or_the_new_one() {
    let (mut operations, mut ended_new) = (0, 0);
    loop {
        let world = old();
        let before = show(&world.dest());
        change(&world);
        let after = show(&world.source());
        let stop = Arc::new(StopAt::new(operations));
        let disk = Disk::with_hook(stop.clone());
        let (synced, _) = world.session(&disk, |stream| world.sync_over(stream));
        if !stop.has_stopped() {
            synced.unwrap();
            break;
        }
        ended_new += usize::from(assert_old_or_new(&world, &before, &after, operations));
        world.sync();
        world.same();
        assert!(world.waiting().is_empty());
        operations += 1;
    }
    assert!(operations > 40, "only {operations} points");
    // Both outcomes were met: the journal decides.
    assert!(
        ended_new > 5 && ended_new < operations - 5,
        "{ended_new} of {operations}"
    );
}

#[test]
fn a_first_copy_killed_at_any_disk_operation_shows_whole_or_not_at_all() {
    let mut operations = 0;
    loop {
        let world = World::new();
        world.write("a", b"1");
        world.write("d/e", b"22");
        let stop = Arc::new(StopAt::new(operations));
        let disk = Disk::with_hook(stop.clone());
        let (synced, _) = world.session(&disk, |stream| world.sync_over(stream));
        if !stop.has_stopped() {
            synced.unwrap();
            break;
        }
        let now = show(&world.dest());
        assert!(
            now.is_empty() || now == show(&world.source()),
            "{operations}"
        );
        world.sync();
        world.same();
        operations += 1;
    }
    assert!(operations > 15, "only {operations} points");
}

/// The power goes after each operation in turn; what the disk holds then is put back.
fn lose_power_everywhere(prepare: fn() -> World, change: fn(&World)) {
    for loss in [Loss::Everything, Loss::BytesOnly] {
        let mut operations = 0;
        loop {
            let world = prepare();
            let before = show(&world.dest());
            change(&world);
            let after = show(&world.source());
            // What an earlier session wrote has long been on the disk.
            let home = scratch();
            for name in ["dest", "state"] {
                let from = world.dir.path().join(name);
                if from.exists() {
                    std::fs::rename(from, home.path().join(name)).unwrap();
                }
            }
            let mut moved = World::new();
            moved.options.dest = home.path().join("dest");
            moved.options.state = home.path().join("state");
            std::fs::remove_dir(moved.source()).unwrap();
            std::fs::rename(world.source(), moved.source()).unwrap();
            let crash = Arc::new(Crash::at(operations, home.path()).unwrap());
            let disk = Disk::with_hook(crash.clone());
            let (synced, _) = moved.session(&disk, |stream| moved.sync_over(stream));
            let answered = synced.is_ok();
            let left = scratch();
            crash.recorder().lose_power(left.path(), loss).unwrap();
            moved.options.dest = left.path().join("dest");
            moved.options.state = left.path().join("state");
            recover(&moved);
            let now = files_of(show(&moved.options.dest));
            let (old, new) = (files_of(before), files_of(after));
            if answered {
                assert_eq!(now, new, "{loss:?}: what was answered is gone");
                break;
            }
            assert!(
                now == old || now == new,
                "{loss:?}: after {operations} operations neither: {now:?}"
            );
            operations += 1;
        }
        assert!(operations > 4, "only {operations} points");
    }
}

/// Content by path, as short digests: the recorder keeps bytes and names, not all attributes.
fn files_of(shown: Shown) -> Vec<(String, Option<String>)> {
    let short = |content: Vec<u8>| Digest::of(&content).short();
    shown
        .into_iter()
        .map(|(path, (_, file))| (path, file.map(|(_, _, content)| short(content))))
        .collect()
}

#[test]
fn power_lost_at_any_moment_of_a_change_leaves_the_old_tree_or_the_new_one() {
    lose_power_everywhere(old, change);
}

#[test]
fn power_lost_at_any_moment_of_a_first_copy_shows_it_whole_or_not_at_all() {
    lose_power_everywhere(World::new, |world| {
        world.write("a", b"1");
        world.write("d/e", b"22");
    });
}

#[test]
fn power_lost_at_any_moment_of_a_single_file_leaves_the_old_one_or_the_new() {
    lose_power_everywhere(old, |world| world.write("replaced", b"new"));
}

#[test]
fn a_full_or_read_only_disk_is_told_and_the_tree_is_as_it_was() {
    for kind in [
        std::io::ErrorKind::StorageFull,
        std::io::ErrorKind::ReadOnlyFilesystem,
    ] {
        let mut refused = 0;
        for operations in 0.. {
            let world = old();
            let before = show(&world.dest());
            change(&world);
            let disk = Disk::with_hook(Arc::new(StopAt::with_kind(operations, kind)));
            let (synced, _) = world.session(&disk, |stream| world.sync_over(stream));
            let Err(error) = synced else { break };
            let after = show(&world.source());
            assert_eq!(error.kind(), pefo_core::ErrorKind::Io, "{error}");
            assert!(error.hint_text().is_some(), "{error}");
            assert_old_or_new(&world, &before, &after, operations);
            refused += 1;
        }
        assert!(refused > 40, "only {refused} points");
    }
}

#[test]
fn a_journal_that_is_not_ours_is_named_and_nothing_is_touched() {
    let world = old();
    let before = show(&world.dest());
    std::fs::write(world.state().join("commit"), "rm -rf /").unwrap();
    let error = world.try_sync().unwrap_err();
    assert!(
        error.to_string().contains("commit is not what pefo writes"),
        "{error}"
    );
    assert!(error.hint_text().is_some());
    assert_eq!(show(&world.dest()), before);
}
