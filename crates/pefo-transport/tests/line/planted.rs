//! Whoever else writes in the spool leads no write out of it, and is named.

use std::os::unix::fs::symlink;
use std::path::Path;

use pefo_core::Error;
use pefo_core::generation::outgoing::Outgoing;

use crate::pair::Pair;
use crate::resume::{item, noise};

/// A directory outside with a file in it.
fn outside(pair: &Pair) -> std::path::PathBuf {
    let outside = pair.dir.path().join("outside");
    std::fs::create_dir_all(outside.join("data")).unwrap();
    std::fs::write(outside.join("precious"), "x").unwrap();
    outside
}

fn untouched(outside: &Path) {
    let mut names: Vec<_> = walk(outside);
    names.sort();
    assert_eq!(names, ["data", "precious"]);
    assert_eq!(std::fs::read(outside.join("precious")).unwrap(), b"x");
}

fn walk(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        found.push(entry.file_name().into_string().unwrap());
        if entry.file_type().unwrap().is_dir() {
            found.extend(walk(&entry.path()));
        }
    }
    found
}

fn fifo(path: &Path) {
    let made = std::process::Command::new("mkfifo").arg(path).status();
    assert!(made.unwrap().success());
}

fn generation(pair: &Pair) -> Outgoing {
    pair.full_of(
        1,
        vec![
            item("a", noise(1, 300)),
            item("d/long", noise(2, 1_500_000)),
        ],
    )
}

/// Cuts a transfer, lets `plant` change the partial, and tells how the next push ends.
fn planted(plant: impl Fn(&Path, &Path)) -> (Pair, Error) {
    let pair = Pair::new();
    let outgoing = generation(&pair);
    let outside = outside(&pair);
    drop(pair.cut(&outgoing, 1_000_000));
    let partial = pair.ca().join(".pefo-00000001-000000000001.partial");
    assert!(partial.join("data/a").is_file());
    plant(&partial, &outside);
    let error = pair.push(&outgoing).unwrap_err();
    untouched(&outside);
    assert!(pair.standing().is_empty());
    (pair, error)
}

fn named(error: &Error, name: &str) {
    assert_eq!(error.rule(), Some("spool-symlink"), "{error}");
    assert!(error.to_string().contains(name), "{error}");
}

#[test]
fn a_symlink_for_any_directory_on_the_way_is_refused_by_name() {
    for name in ["", "data", "incoming", "data/d"] {
        let (pair, error) = planted(|partial, outside| {
            let path = partial.join(name);
            if path.exists() {
                std::fs::remove_dir_all(&path).unwrap();
            }
            symlink(outside, path.as_path().components().as_path()).unwrap();
        });
        let path = format!("000001.partial/{name}");
        named(&error, path.trim_end_matches('/'));
        // What was begun is given up with it, so that the next push goes through.
        if !name.is_empty() {
            pair.push(&generation(&pair)).unwrap();
        }
    }
}

#[test]
fn a_symlink_or_a_fifo_for_any_file_is_refused_by_name() {
    for kind in ["symlink", "fifo"] {
        for name in ["manifest", "data/a", "data/d/long"] {
            let (pair, error) = planted(|partial, outside| {
                let path = partial.join(name);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                drop(std::fs::remove_file(&path));
                match kind {
                    "fifo" => fifo(&path),
                    _ => symlink(outside.join("precious"), &path).unwrap(),
                }
            });
            named(&error, name);
            pair.push(&generation(&pair)).unwrap();
        }
        let (pair, error) = planted(|partial, outside| {
            let mut incoming = std::fs::read_dir(partial.join("incoming")).unwrap();
            let path = incoming.next().unwrap().unwrap().path();
            std::fs::remove_file(&path).unwrap();
            match kind {
                "fifo" => fifo(&path),
                _ => symlink(outside.join("precious"), &path).unwrap(),
            }
        });
        named(&error, "incoming/");
        pair.push(&generation(&pair)).unwrap();
    }
}

#[test]
fn a_symlink_for_the_data_sets_directory_or_the_one_above_it_is_refused_by_name() {
    for name in ["generations", "generations/ca"] {
        let pair = Pair::new();
        let outside = outside(&pair);
        let path = pair.spool().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(&outside, &path).unwrap();
        let error = pair.push(&generation(&pair)).unwrap_err();
        named(&error, name);
        untouched(&outside);
    }
}

#[test]
fn what_was_planted_beside_the_generations_is_not_followed() {
    let pair = Pair::new();
    let outside = outside(&pair);
    std::fs::create_dir_all(pair.ca()).unwrap();
    let lock = pair.ca().join(".pefo-lock");
    symlink(outside.join("lock"), &lock).unwrap();
    let error = pair.push(&generation(&pair)).unwrap_err();
    assert!(error.to_string().contains(".pefo-lock"), "{error}");
    std::fs::remove_file(&lock).unwrap();
    fifo(&lock);
    let error = pair.push(&generation(&pair)).unwrap_err();
    assert!(error.to_string().contains(".pefo-lock"), "{error}");
    std::fs::remove_file(&lock).unwrap();

    // In a generation's own place, and in the place of one that is to be linked to.
    symlink(&outside, pair.ca().join("00000001-000000000001")).unwrap();
    let error = pair.push(&generation(&pair)).unwrap_err();
    assert!(error.to_string().contains("000000000001"), "{error}");
    untouched(&outside);
    std::fs::remove_file(pair.ca().join("00000001-000000000001")).unwrap();
    pair.push(&generation(&pair)).unwrap();
    let data = pair.ca().join("00000001-000000000001/data");
    std::fs::rename(&data, pair.dir.path().join("elsewhere")).unwrap();
    symlink(pair.dir.path().join("elsewhere"), &data).unwrap();
    let mut next = generation(&pair);
    next = pair.full_of(
        2,
        next.manifest
            .files
            .drain(..)
            .map(|entry| {
                let seed = if entry.path.as_str() == "a" { 1 } else { 2 };
                item(entry.path.as_str(), noise(seed, entry.size as usize))
            })
            .collect(),
    );
    let pushed = pair.push(&next).unwrap();
    assert_eq!(pushed.files_reused, 0, "nothing behind a symlink is linked");
    untouched(&outside);
}
