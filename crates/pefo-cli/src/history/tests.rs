use std::sync::Arc;

use pefo_core::disk::Disk;
use pefo_core::disk::fault::StopAt;

use super::*;
use crate::overview::tests::{at, host, overview, row};

/// How all does at a second after noon.
fn then(second: i64) -> Overview {
    let mut overview = overview(vec![row("ca", Some("b.lab")), row("db:a b", None)]);
    overview.now = at(second);
    overview
}

fn times(host: &Host) -> Vec<i64> {
    let samples = load(host, at(-1_000_000_000)).unwrap();
    let since_noon = |sample: Sample| sample.at.unix_seconds() - at(0).unix_seconds();
    samples.into_iter().map(since_noon).collect()
}

#[test]
fn a_sample_a_minute_is_kept_and_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let host = host(dir.path(), "");
    assert!(times(&host).is_empty());
    for second in [0, 20, 59, 60, 61, 300] {
        sample(&host, &then(second)).unwrap();
    }
    assert_eq!(times(&host), [0, 60, 300]);
    let samples = load(&host, at(60)).unwrap();
    assert_eq!(samples, [Sample::of(&then(60)), Sample::of(&then(300))]);
    assert_eq!(samples[0].rows[0].lag_seconds, Some(7));
}

#[test]
fn what_a_crash_cut_off_is_passed_over_and_nothing_after_it_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let host = host(dir.path(), "");
    sample(&host, &then(0)).unwrap();
    let (_, path) = days(&host.state("history")).unwrap().remove(0);
    let length = std::fs::metadata(&path).unwrap().len();
    host.disk
        .append(&path, length, b"{\"at\":\"2025-11-2")
        .unwrap();
    sample(&host, &then(60)).unwrap();
    assert_eq!(times(&host), [0, 60]);
}

#[test]
fn whenever_it_is_killed_the_next_sample_is_kept() {
    for operations in 0..12 {
        let dir = tempfile::tempdir().unwrap();
        let host = host(dir.path(), "");
        sample(&host, &then(-86_400)).unwrap();
        let killed = Host {
            disk: Disk::with_hook(Arc::new(StopAt::new(operations))),
            config: host.config.clone(),
            config_path: host.config_path.clone(),
            clock: host.clock.clone(),
            launcher: host.launcher.clone(),
        };
        let ended = sample(&killed, &then(0));
        sample(&host, &then(60)).unwrap();
        let times = times(&host);
        assert_eq!(times.first(), Some(&-86_400));
        assert_eq!(times.last(), Some(&60));
        assert!(ended.is_err() || times.contains(&0), "{operations}");
    }
}

#[test]
fn days_that_are_too_old_go_and_nothing_is_kept_where_nothing_is_wanted() {
    let dir = tempfile::tempdir().unwrap();
    let day = 86_400;
    let kept = host(dir.path(), "[retention]\nhistory_days = 2\n");
    for second in [-4 * day, -2 * day, -day, 0] {
        sample(&kept, &then(second)).unwrap();
    }
    assert_eq!(times(&kept), [-2 * day, -day, 0]);
    let dir = tempfile::tempdir().unwrap();
    let none = host(dir.path(), "[retention]\nhistory_days = 0\n");
    sample(&none, &then(0)).unwrap();
    assert!(!none.state("history").exists());
}
