//! What tests look at: whole trees as they lie on the disk, errors as they are told, run records.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use pefo_core::Digest;
use pefo_testkit::masters::{Master, Run};
use serde_json::Value;

/// Every path below a directory with what it is: kind, owner, mode, and a file's digest or a link's
/// target. Locks are left out: they have no content.
pub(crate) type Tree = BTreeMap<PathBuf, String>;

pub(crate) fn tree(root: &Path) -> Tree {
    let mut found = Tree::new();
    walk(root, root, &mut found);
    found
}

fn walk(root: &Path, dir: &Path, found: &mut Tree) {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return;
    };
    for path in entries.map(|entry| entry.unwrap().path()) {
        let meta = std::fs::symlink_metadata(&path).unwrap();
        let kind = meta.file_type();
        let content = if kind.is_symlink() {
            std::fs::read_link(&path).unwrap().display().to_string()
        } else if kind.is_file() {
            Digest::of(&std::fs::read(&path).unwrap()).to_string()
        } else {
            String::new()
        };
        let name = path.strip_prefix(root).unwrap().to_owned();
        // Locks, and the log of those who came, tell of nothing that was received.
        let is_aside = name.to_string_lossy().ends_with(".lock")
            || name.ends_with(".pefo-lock")
            || name.ends_with(".pefo-claim")
            || path
                .file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("receive.log"));
        if !is_aside {
            let mode = meta.permissions().mode();
            found.insert(
                name,
                format!("{mode:o} {}:{} {content}", meta.uid(), meta.gid()),
            );
        }
        if kind.is_dir() {
            walk(root, &path, found);
        }
    }
}

/// Names and bytes of the regular files below a directory, whoever owns them.
pub(crate) fn contents(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    files(root)
        .into_iter()
        .map(|path| {
            (
                path.strip_prefix(root).unwrap().to_owned(),
                std::fs::read(&path).unwrap(),
            )
        })
        .collect()
}

/// The regular files below a directory.
pub(crate) fn files(root: &Path) -> Vec<PathBuf> {
    let is_file = |path: &PathBuf| std::fs::symlink_metadata(path).unwrap().is_file();
    tree(root)
        .into_keys()
        .map(|name| root.join(name))
        .filter(is_file)
        .collect()
}

/// The run's one error: it was told with a hint, as people read it.
#[track_caller]
pub(crate) fn told_with_hint(run: &Run) {
    assert!(
        run.stderr.contains("\n  hint: "),
        "{} gave no hint:\n{}",
        run.line,
        run.stderr
    );
}

/// Runs with `--json`: it must end with `code`, one error of `kind` first, and a hint to it. Gives that error.
#[track_caller]
pub(crate) fn fails_as(master: &Master, arguments: &[&str], code: i32, kind: &str) -> Value {
    let run = master
        .pefo(arguments.iter().copied().chain(["--json"]))
        .exits(code);
    let error = run.json()["errors"][0].clone();
    assert_eq!(error["kind"], kind, "{}: {error:#}", run.line);
    assert!(
        error["hint"].as_str().is_some_and(|hint| !hint.is_empty()),
        "{} gave no hint: {error:#}",
        run.line
    );
    error
}

/// As [`fails_as`], refused by `rule`.
#[track_caller]
pub(crate) fn refused_as(master: &Master, arguments: &[&str], rule: &str) -> Value {
    let error = fails_as(master, arguments, 3, "refused");
    assert_eq!(error["rule"], rule, "{error:#}");
    error
}

/// The newest run record of a command.
pub(crate) fn newest_record(master: &Master, command: &str) -> Value {
    any_record(master, command)
        .unwrap_or_else(|| panic!("{} has no record of {command}", master.certname()))
}

/// The newest run record of a command, where it has run already.
pub(crate) fn any_record(master: &Master, command: &str) -> Option<Value> {
    let records = files(&master.state().join("runs"))
        .into_iter()
        .map(|path| serde_json::from_slice::<Value>(&std::fs::read(path).unwrap()).unwrap());
    let mine = records.filter(|record| record["command"] == command);
    mine.max_by_key(|record| record["ended"].to_string())
}

/// The generations of a data set in a master's spool.
pub(crate) fn generations(master: &Master, dataset: &str) -> Vec<PathBuf> {
    let dir = master.spool().join("generations").join(dataset);
    let Ok(entries) = std::fs::read_dir(dir) else {
        return Vec::new();
    };
    let mut found: Vec<_> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    found.sort();
    found
}

/// Changes a master's configuration file by hand.
#[track_caller]
pub(crate) fn edit_config(master: &Master, from: &str, to: &str) {
    let path = master.config_path();
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{from:?} does not stand in\n{text}");
    std::fs::write(&path, text.replace(from, to)).unwrap();
}
