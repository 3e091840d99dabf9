#![expect(clippy::disallowed_methods, reason = "tests lay out files by hand")]

use std::sync::Arc;

use super::fault::{Counter, StopAt};
use super::power::{Crash, Loss};
use super::*;

fn read(path: &Path) -> Option<Vec<u8>> {
    std::fs::read(path).ok()
}

#[test]
fn publish_sets_mode_and_replaces_the_file_whole() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("serial");
    std::fs::write(&target, "0007").unwrap();
    Disk::new()
        .publish(&target, b"0008", &Attributes::mode(0o640))
        .unwrap();
    assert_eq!(read(&target).unwrap(), b"0008");
    assert_eq!(
        std::fs::metadata(&target).unwrap().permissions().mode() & 0o777,
        0o640
    );
    assert_eq!(
        std::fs::read_dir(dir.path()).unwrap().count(),
        1,
        "no temp file stays"
    );
}

#[test]
fn a_kill_at_any_operation_of_publish_leaves_the_old_or_the_new_file() {
    let counter = Arc::new(Counter::default());
    let dir = tempfile::tempdir().unwrap();
    Disk::with_hook(counter.clone())
        .publish(&dir.path().join("x"), b"new", &Attributes::mode(0o600))
        .unwrap();
    assert!(
        counter.count() >= 5,
        "create, write, attributes, sync, rename, sync of the directory"
    );
    for point in 0..counter.count() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("x");
        std::fs::write(&target, "old").unwrap();
        let stop = Arc::new(StopAt::new(point));
        assert!(
            Disk::with_hook(stop)
                .publish(&target, b"new", &Attributes::mode(0o600))
                .is_err()
        );
        let content = read(&target).unwrap();
        assert!(
            content == b"old" || content == b"new",
            "point {point}: {content:?}"
        );
        Disk::new().remove_temps(dir.path()).unwrap();
        assert_eq!(
            std::fs::read_dir(dir.path()).unwrap().count(),
            1,
            "point {point}: temps are cleared"
        );
    }
}

#[test]
fn power_loss_at_any_operation_of_publish_leaves_the_old_or_the_new_file() {
    for loss in [Loss::Everything, Loss::BytesOnly] {
        for point in 0..20 {
            let dir = tempfile::tempdir().unwrap();
            let target = dir.path().join("x");
            std::fs::write(&target, "old").unwrap();
            let crash = Arc::new(Crash::at(point, dir.path()).unwrap());
            let done = Disk::with_hook(crash.clone())
                .publish(&target, b"new", &Attributes::mode(0o600))
                .is_ok();
            let after = tempfile::tempdir().unwrap();
            crash.recorder().lose_power(after.path(), loss).unwrap();
            let content = read(&after.path().join("x")).unwrap();
            assert!(
                content == b"old" || content == b"new",
                "{loss:?} point {point}: {content:?}"
            );
            assert!(
                !done || content == b"new",
                "{loss:?} point {point}: reported as done, but lost"
            );
        }
    }
}

#[test]
fn a_file_that_was_never_synced_does_not_survive_power_loss() {
    let dir = tempfile::tempdir().unwrap();
    let crash = Arc::new(Crash::at(usize::MAX, dir.path()).unwrap());
    let disk = Disk::with_hook(crash.clone());
    let mut file = disk
        .create(&dir.path().join("x"), &Attributes::mode(0o600))
        .unwrap();
    file.write(b"bytes").unwrap();
    file.finish().unwrap();
    for (loss, expected) in [
        (Loss::Everything, None),
        (Loss::BytesOnly, Some(Vec::new())),
    ] {
        let after = tempfile::tempdir().unwrap();
        crash.recorder().lose_power(after.path(), loss).unwrap();
        assert_eq!(read(&after.path().join("x")), expected, "{loss:?}");
    }
    disk.sync_filesystem(dir.path()).unwrap();
    let after = tempfile::tempdir().unwrap();
    crash
        .recorder()
        .lose_power(after.path(), Loss::Everything)
        .unwrap();
    assert_eq!(read(&after.path().join("x")).unwrap(), b"bytes");
}

#[test]
fn a_full_disk_leaves_the_old_file_and_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("x");
    std::fs::write(&target, "old").unwrap();
    let full = Arc::new(StopAt::with_kind(1, io::ErrorKind::StorageFull));
    let error = Disk::with_hook(full)
        .publish(&target, b"new", &Attributes::mode(0o600))
        .unwrap_err();
    assert!(is_disk_refusal(&error));
    assert!(error.hint_text().unwrap().contains("free some space"));
    assert_eq!(read(&target).unwrap(), b"old");
}

#[test]
fn an_append_goes_only_where_it_was_planned() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("inventory.txt");
    std::fs::write(&path, "one\n").unwrap();
    let disk = Disk::new();
    disk.append(&path, 4, b"two\n").unwrap();
    assert_eq!(
        disk.append(&path, 4, b"three\n").unwrap_err().rule(),
        Some("append-moved")
    );
    assert_eq!(read(&path).unwrap(), b"one\ntwo\n");
}

#[test]
fn removing_a_tree_does_not_follow_links_out_of_it() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("tree/sub")).unwrap();
    std::fs::create_dir(dir.path().join("outside")).unwrap();
    std::fs::write(dir.path().join("outside/kept"), "x").unwrap();
    std::os::unix::fs::symlink("../outside", dir.path().join("tree/link")).unwrap();
    Disk::new().remove_tree(&dir.path().join("tree")).unwrap();
    assert!(!dir.path().join("tree").exists() && dir.path().join("outside/kept").exists());
}

#[test]
fn a_directory_keeps_its_durable_names_when_it_is_renamed() {
    let dir = tempfile::tempdir().unwrap();
    let crash = Arc::new(Crash::at(usize::MAX, dir.path()).unwrap());
    let disk = Disk::with_hook(crash.clone());
    let (part, whole) = (dir.path().join("part"), dir.path().join("whole"));
    disk.create_dir(&part, &Attributes::mode(0o700)).unwrap();
    disk.publish(&part.join("x"), b"bytes", &Attributes::mode(0o600))
        .unwrap();
    disk.rename(&part, &whole).unwrap();
    for loss in [Loss::Everything, Loss::BytesOnly] {
        let after = tempfile::tempdir().unwrap();
        crash.recorder().lose_power(after.path(), loss).unwrap();
        assert_eq!(
            read(&after.path().join("whole/x")).unwrap(),
            b"bytes",
            "{loss:?}"
        );
        assert!(!after.path().join("part").exists());
    }
}
