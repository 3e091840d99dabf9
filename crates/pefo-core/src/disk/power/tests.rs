//! Every fsync of [`Disk`] is needed, and the model of a disk that says so tells what it should.

#![expect(clippy::disallowed_methods, reason = "tests lay out files by hand")]

use super::*;
use crate::disk::{Attributes, Disk};

const FILE: Attributes = Attributes::mode(0o640);
const DIR: Attributes = Attributes::mode(0o700);

fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        tempfile::tempdir_in(memory)
    } else {
        tempfile::tempdir()
    }
    .unwrap()
}

fn hunt(
    prepare: impl FnMut(&Path),
    scenario: impl FnMut(&Stage),
    as_promised: impl FnMut(&Path, usize) -> bool,
) -> Findings {
    without_each_sync(scratch().path(), Order::Any, prepare, scenario, as_promised).unwrap()
}

fn text(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

fn mode(path: &Path) -> Option<u32> {
    use std::os::unix::fs::PermissionsExt as _;
    let meta = std::fs::metadata(path).ok()?;
    Some(meta.permissions().mode() & 0o7777)
}

fn old_x(dir: &Path) {
    std::fs::write(dir.join("x"), "old").unwrap();
}

#[test]
fn publish_needs_each_of_its_fsyncs() {
    let findings = hunt(
        old_x,
        |stage| {
            let target = stage.dir().join("x");
            stage.disk().publish(&target, b"new", &FILE).unwrap();
            stage.answered();
        },
        |dir, answers| match text(&dir.join("x")).as_deref() {
            Some("old") => answers == 0,
            Some("new") => mode(&dir.join("x")) == Some(0o640),
            _ => false,
        },
    );
    findings.assert_each_is_needed();
    assert_eq!(findings.syncs.len(), 2, "{findings:?}");
}

#[test]
fn files_published_together_need_one_syncfs_and_an_fsync_of_each_directory() {
    let prepare = |dir: &Path| {
        for sub in ["a", "b"] {
            std::fs::create_dir(dir.join(sub)).unwrap();
            std::fs::write(dir.join(sub).join("0"), "old").unwrap();
        }
    };
    let paths = |dir: &Path| {
        let name = |at: usize| {
            dir.join(if at.is_multiple_of(2) { "a" } else { "b" })
                .join((at / 2).to_string())
        };
        (0..6).map(name).collect::<Vec<_>>()
    };
    let findings = hunt(
        prepare,
        |stage| {
            let files: Vec<_> = paths(stage.dir())
                .into_iter()
                .map(|path| (path, &b"new"[..], Attributes::mode(0o640)))
                .collect();
            stage.disk().publish_all(&files).unwrap();
            stage.answered();
        },
        |dir, answers| {
            paths(dir)
                .iter()
                .enumerate()
                .all(|(at, path)| match text(path).as_deref() {
                    Some("new") => mode(path) == Some(0o640),
                    Some("old") => answers == 0 && at < 2,
                    None => answers == 0 && at >= 2,
                    Some(_) => false,
                })
        },
    );
    findings.assert_each_is_needed();
    assert_eq!(findings.syncs.len(), 3, "{findings:?}");
}

#[test]
fn append_and_truncate_need_their_fsync() {
    let append = hunt(
        old_x,
        |stage| {
            let target = stage.dir().join("x");
            stage.disk().append(&target, 3, b"+new").unwrap();
            stage.answered();
        },
        |dir, answers| match text(&dir.join("x")).as_deref() {
            Some("old") => answers == 0,
            other => other == Some("old+new"),
        },
    );
    append.assert_each_is_needed();
    let truncate = hunt(
        old_x,
        |stage| {
            stage.disk().truncate(&stage.dir().join("x"), 1).unwrap();
            stage.answered();
        },
        |dir, answers| match text(&dir.join("x")).as_deref() {
            Some("old") => answers == 0,
            other => other == Some("o"),
        },
    );
    truncate.assert_each_is_needed();
}

#[test]
fn a_directory_that_was_made_stands_with_its_mode_and_all_above_it() {
    let findings = hunt(
        |_| (),
        |stage| {
            let path = stage.dir().join("a/b/c");
            let attributes = Attributes::mode(0o750);
            stage.disk().create_dir_all(&path, &attributes).unwrap();
            stage.answered();
        },
        |dir, answers| {
            let whole = ["a", "a/b", "a/b/c"]
                .iter()
                .all(|path| mode(&dir.join(path)) == Some(0o750));
            answers == 0 || whole
        },
    );
    findings.assert_each_is_needed();
    assert_eq!(findings.syncs.len(), 4, "{findings:?}");
}

#[test]
fn a_private_directory_needs_the_fsync_of_its_parent_alone() {
    let findings = hunt(
        |_| (),
        |stage| {
            let path = stage.dir().join("a");
            stage.disk().create_dir(&path, &DIR).unwrap();
            stage.answered();
        },
        |dir, answers| answers == 0 || mode(&dir.join("a")) == Some(0o700),
    );
    findings.assert_each_is_needed();
    assert_eq!(findings.syncs.len(), 1, "{findings:?}");
}

/// A tree of a directory in a directory, a new file, and a second name of one that stands outside.
fn grow(disk: &Disk, root: &Path, outside: &Path) {
    let deep = root.join("data/deep");
    disk.create_dir_all_unsynced(&deep, &Attributes::mode(0o750))
        .unwrap();
    let mut file = disk.create(&deep.join("new"), &FILE).unwrap();
    file.write(b"bytes").unwrap();
    file.finish().unwrap();
    disk.hard_link(outside, &root.join("data/linked")).unwrap();
    let mut left_out = disk.create(&root.join("draft"), &FILE).unwrap();
    left_out.write(b"draft").unwrap();
    left_out.finish().unwrap();
    disk.remove_file_unsynced(&root.join("draft")).unwrap();
}

fn is_grown(root: &Path) -> bool {
    text(&root.join("data/deep/new")).as_deref() == Some("bytes")
        && mode(&root.join("data/deep/new")) == Some(0o640)
        && mode(&root.join("data/deep")) == Some(0o750)
        && text(&root.join("data/linked")).as_deref() == Some("old")
        && !root.join("draft").exists()
}

#[test]
fn a_tree_is_shown_whole_by_one_syncfs_and_one_rename() {
    let findings = hunt(
        old_x,
        |stage| {
            let (part, whole) = (stage.dir().join("part"), stage.dir().join("whole"));
            let disk = stage.disk();
            grow(&disk, &part, &stage.dir().join("x"));
            disk.sync_filesystem(&part).unwrap();
            disk.rename(&part, &whole).unwrap();
            stage.answered();
        },
        |dir, answers| {
            let whole = dir.join("whole");
            is_grown(&whole) || (answers == 0 && !whole.exists())
        },
    );
    findings.assert_each_is_needed();
    assert_eq!(findings.syncs.len(), 2, "{findings:?}");
}

#[test]
fn a_rename_between_directories_leaves_one_name_and_never_none() {
    let findings = hunt(
        |dir| {
            std::fs::create_dir(dir.join("a")).unwrap();
            std::fs::create_dir(dir.join("b")).unwrap();
            old_x(&dir.join("a"));
        },
        |stage| {
            let (from, to) = (stage.dir().join("a/x"), stage.dir().join("b/y"));
            stage.disk().rename(&from, &to).unwrap();
            stage.answered();
        },
        |dir, answers| match (text(&dir.join("a/x")), text(&dir.join("b/y"))) {
            (None, None) => false,
            (None, Some(content)) => content == "old",
            (Some(_), _) => answers == 0,
        },
    );
    findings.assert_each_is_needed();
    assert_eq!(findings.syncs.len(), 2, "{findings:?}");
}

#[test]
fn what_was_removed_stays_removed() {
    let findings = hunt(
        old_x,
        |stage| {
            stage.disk().remove_file(&stage.dir().join("x")).unwrap();
            stage.answered();
        },
        |dir, answers| match text(&dir.join("x")).as_deref() {
            None => true,
            Some(content) => answers == 0 && content == "old",
        },
    );
    findings.assert_each_is_needed();
}

#[test]
fn a_removed_tree_stays_removed() {
    let findings = hunt(
        |dir| {
            std::fs::create_dir_all(dir.join("tree/sub")).unwrap();
            old_x(&dir.join("tree/sub"));
            old_x(&dir.join("tree"));
        },
        |stage| {
            stage.disk().remove_tree(&stage.dir().join("tree")).unwrap();
            stage.answered();
        },
        |dir, answers| answers == 0 || !dir.join("tree").exists(),
    );
    findings.assert_each_is_needed();
    assert_eq!(findings.syncs.len(), 1, "{findings:?}");
}

#[test]
fn an_fsync_for_nothing_is_told_and_so_is_a_promise_that_is_not_kept() {
    let scenario = |stage: &Stage| {
        stage.disk().sync_dir(stage.dir()).unwrap();
        let disk = stage.disk();
        disk.publish(&stage.dir().join("x"), b"new", &FILE).unwrap();
        stage.answered();
    };
    let new = |dir: &Path| text(&dir.join("x")).as_deref() == Some("new");
    let findings = hunt(old_x, scenario, |dir, answers| answers == 0 || new(dir));
    assert_eq!(findings.broken, Vec::<String>::new());
    assert_eq!(findings.unnoticed, ["0: SyncDir(\"\")"]);
    assert_eq!(findings.syncs.len(), 3);

    // Nobody can keep that the new content is there before it was answered.
    let findings = hunt(old_x, scenario, |dir, _| new(dir));
    assert!(findings.broken[0].contains("after the preparation, 0 answered: x 644 3 bytes"));
}

#[test]
fn any_of_the_names_that_were_not_synced_may_be_there() {
    let dir = scratch();
    std::fs::create_dir(dir.path().join("run")).unwrap();
    let root = dir.path().join("run");
    let recorder = std::sync::Arc::new(Recorder::over(&root).unwrap());
    let disk = Disk::with_hook(recorder.clone());
    for name in ["a", "b", "c"] {
        drop(disk.create(&root.join(name), &FILE).unwrap());
    }
    disk.remove_file_unsynced(&root.join("a")).unwrap();
    let seen = |order: Order| {
        let mut seen = Vec::new();
        for (nth, loss) in recorder.losses(order).unwrap().into_iter().enumerate() {
            let after = dir.path().join(format!("{order:?}-{nth}"));
            std::fs::create_dir(&after).unwrap();
            recorder.lose_power(&after, loss).unwrap();
            let there = ["a", "b", "c"].map(|name| after.join(name).exists());
            seen.push(there.map(u8::from));
        }
        seen.sort();
        seen.dedup();
        seen
    };
    // None, each alone, and with "a" gone or still there the others.
    let (alone, others) = ([[0, 0, 1], [0, 1, 0]], [[0, 1, 1], [1, 0, 0], [1, 1, 1]]);
    assert_eq!(
        seen(Order::Any),
        [&[[0, 0, 0]], &alone[..], &others].concat()
    );
    // One after the other.
    let ordered = [[0, 0, 0], [0, 1, 1], [1, 0, 0], [1, 1, 0], [1, 1, 1]];
    assert_eq!(seen(Order::Kept), ordered);
}

#[test]
fn directories_that_a_half_kept_rename_leaves_in_each_other_come_to_an_end() {
    let dir = scratch();
    let (root, after) = (dir.path().join("run"), dir.path().join("after"));
    std::fs::create_dir_all(root.join("a/b")).unwrap();
    std::fs::create_dir(&after).unwrap();
    let recorder = Recorder::over(&root).unwrap();
    for (from, to) in [("a/b", "b"), ("a", "b/a")] {
        let (from, to) = (root.join(from), root.join(to));
        std::fs::rename(&from, &to).unwrap();
        recorder.after(Operation::Rename(&from, &to));
    }
    recorder.after(Operation::SyncDir(&root.join("b")));
    recorder.lose_power(&after, Loss::Everything).unwrap();
    assert!(after.join("a/b").exists() && !after.join("a/b/a").exists());
}
