//! Hints: what wakes the sender up, and what does not.

use std::time::Duration;

use pefo_ca::watch::{Hint, Watcher, is_server_temp_name};
use pefo_core::RelPath;

use super::*;

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(100);

fn drain(watcher: &mut Watcher) -> Vec<Hint> {
    std::iter::from_fn(|| watcher.next(SHORT).unwrap()).collect()
}

fn changed(path: &str) -> Hint {
    Hint::Changed(RelPath::new(path).unwrap())
}

#[test]
fn the_servers_temp_names_are_told_from_files() {
    for name in [
        "serial2758627255899647328tmp",
        "ca_crl.pem14857951881212515723tmp",
        "node4.lab.pem1tmp",
        "inventory.txt9tmp",
        "infra_serials1tmp",
    ] {
        assert!(is_server_temp_name(name), "{name}");
    }
    for name in [
        "serial",
        "serialtmp",
        "node1tmp.pem",
        "node.pemtmp",
        "12tmp",
        "tmp",
        "other9tmp",
    ] {
        assert!(!is_server_temp_name(name), "{name}");
    }
}

#[test]
fn the_recorded_acts_of_a_real_server_give_only_real_names() {
    let log = include_str!("../fixtures/inotify-sign-revoke-clean.log");
    let names: Vec<&str> = log
        .lines()
        .filter_map(|line| line.rsplit_once('/').map(|(_, name)| name))
        .collect();
    let mut kept: Vec<&str> = names
        .iter()
        .copied()
        .filter(|name| !is_server_temp_name(name))
        .collect();
    kept.sort_unstable();
    kept.dedup();
    assert_eq!(
        kept,
        [
            "ca_crl.pem",
            "crl.pem",
            "inventory.txt",
            "node3.lab.pem",
            "node4.lab.pem",
            "node5.lab.pem",
            "serial"
        ]
    );
}

#[test]
fn acts_of_the_ca_come_as_hints_that_close_a_batch_at_the_right_ones() {
    let mut pair = Pair::new();
    let mut watcher = Watcher::start(pair.a.dir()).unwrap();
    assert_eq!(
        drain(&mut watcher),
        [Hint::Rescan],
        "what came before is not known"
    );
    pair.a.sign("node2.test").unwrap();
    let hints = drain(&mut watcher);
    let expected = [
        "requests/node2.test.pem",
        "serial",
        "inventory.txt",
        "signed/node2.test.pem",
    ]
    .map(changed);
    assert_eq!(hints[..4], expected);
    assert_eq!(
        hints.iter().map(Hint::closes_batch).collect::<Vec<_>>()[..4],
        [false, false, false, true]
    );
    let answered = Hint::Gone(RelPath::new("requests/node2.test.pem").unwrap());
    assert_eq!(hints.last(), Some(&answered));
    assert!(!answered.closes_batch());
    pair.a.revoke("node2.test").unwrap();
    assert_eq!(drain(&mut watcher), [changed("ca_crl.pem")]);
    assert!(changed("ca_crl.pem").closes_batch());
}

#[test]
fn a_directory_that_appears_is_watched_too() {
    let mut pair = Pair::new();
    std::fs::remove_dir_all(pair.a.dir().join("requests")).unwrap();
    let mut watcher = Watcher::start(pair.a.dir()).unwrap();
    drain(&mut watcher);
    std::fs::create_dir(pair.a.dir().join("requests")).unwrap();
    assert_eq!(watcher.next(LONG).unwrap(), Some(Hint::Rescan));
    pair.a.request("node7.test").unwrap();
    assert_eq!(
        watcher.next(LONG).unwrap(),
        Some(changed("requests/node7.test.pem"))
    );
}

#[test]
fn more_events_than_the_kernel_keeps_end_in_a_rescan() {
    let pair = Pair::new();
    let mut watcher = Watcher::start(pair.a.dir()).unwrap();
    drain(&mut watcher);
    let limit: usize = std::fs::read_to_string("/proc/sys/fs/inotify/max_queued_events")
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    let (one, two) = (
        pair.a.dir().join("signed/one.test.pem"),
        pair.a.dir().join("signed/two.test.pem"),
    );
    std::fs::write(&one, "x").unwrap();
    for _ in 0..limit {
        std::fs::rename(&one, &two).unwrap();
        std::fs::rename(&two, &one).unwrap();
    }
    let hints = drain(&mut watcher);
    assert!(hints.contains(&Hint::Rescan), "{} hints", hints.len());
}

#[test]
fn a_removed_cadir_is_an_error_that_can_be_retried() {
    let pair = Pair::new();
    let mut watcher = Watcher::start(&pair.b).unwrap();
    drain(&mut watcher);
    std::fs::remove_dir_all(&pair.b).unwrap();
    let error = loop {
        match watcher.next(LONG) {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the removal was not noticed"),
            Err(error) => break error,
        }
    };
    assert!(
        error.is_retryable() && error.hint_text().is_some(),
        "{error}"
    );
}

#[test]
fn another_thread_can_stop_it() {
    let pair = Pair::new();
    let mut watcher = Watcher::start(pair.a.dir()).unwrap();
    drain(&mut watcher);
    let stopper = watcher.stopper();
    let began = std::time::Instant::now();
    let thread = std::thread::spawn(move || stopper.stop());
    assert_eq!(watcher.next(LONG).unwrap(), None);
    thread.join().unwrap();
    assert!(began.elapsed() < LONG / 2 && watcher.is_stopped());
}
