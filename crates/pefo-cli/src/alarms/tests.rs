use std::path::Path;

use super::*;
use crate::overview::tests::{ailing, at, host, overview, row};
use crate::reigns::pause::Paused;

/// A host whose hooks write down what they are told.
fn told_to(dir: &Path) -> Host {
    let file = dir.join("told").display().to_string();
    let hook =
        |name: &str| format!("[\"sh\", \"-c\", 'echo \"$@\" >> {file}', \"sh\", \"{name}\"]");
    host(
        dir,
        &format!(
            "[hooks]\nfailed = {}\nrecovered = {}\n",
            hook("failed"),
            hook("recovered")
        ),
    )
}

fn told(dir: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(dir.join("told")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn hooks_are_told_once_that_it_fails_and_once_that_it_is_over() {
    let dir = tempfile::tempdir().unwrap();
    let host = told_to(dir.path());
    let well = || row("ca", Some("b.lab"));
    let fails = || {
        let mut row = ailing(well(), "failing", Health::Warning);
        row.failing_since = Some(at(-60));
        row
    };
    for rows in [
        vec![well()],
        vec![fails()],
        vec![well(), fails()],
        vec![fails()],
    ] {
        look(&host, &overview(rows)).unwrap();
    }
    insta::assert_snapshot!(told(dir.path()).join("\n"), @"failed ca failing 2025-11-22T11:59:00Z the line | is down");
    for _ in 0..2 {
        look(&host, &overview(vec![well()])).unwrap();
    }
    insta::assert_snapshot!(told(dir.path())[1..].join("\n"), @"recovered ca failing 2025-11-22T11:59:00Z the line | is down");
}

#[test]
fn a_rule_that_refuses_is_named_and_a_lag_is_told_once_it_is_critical() {
    let dir = tempfile::tempdir().unwrap();
    let host = told_to(dir.path());
    let mut refused = ailing(row("ca", None), "refused", Health::Warning);
    refused.refused = vec!["crl-shrink".to_owned()];
    look(&host, &overview(vec![refused])).unwrap();
    assert!(told(dir.path())[0].starts_with("failed ca crl-shrink "));
    look(&host, &overview(vec![row("ca", None)])).unwrap();
    for (health, lines) in [(Health::Warning, 2), (Health::Critical, 3)] {
        look(
            &host,
            &overview(vec![ailing(row("ca", None), "lag", health)]),
        )
        .unwrap();
        assert_eq!(told(dir.path()).len(), lines);
    }
}

#[test]
fn a_host_that_rests_and_one_that_is_being_set_up_alarm_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let host = told_to(dir.path());
    let mut paused = overview(vec![ailing(row("ca", None), "failing", Health::Warning)]);
    paused.standing.paused = Some(Paused {
        format: 1,
        since: at(0),
        reason: None,
    });
    look(&host, &paused).unwrap();
    let mut new = ailing(row("ca", None), "failing", Health::Critical);
    new.last_success = None;
    look(&host, &overview(vec![new])).unwrap();
    assert!(told(dir.path()).is_empty());
}

#[test]
fn a_hook_that_fails_is_not_run_again_and_again() {
    let dir = tempfile::tempdir().unwrap();
    let count = dir.path().join("told").display().to_string();
    let host = host(
        dir.path(),
        &format!("[hooks]\nfailed = [\"sh\", \"-c\", \"echo x >> {count}; exit 1\"]\n"),
    );
    for _ in 0..3 {
        let row = ailing(row("ca", None), "failing", Health::Warning);
        look(&host, &overview(vec![row])).unwrap();
    }
    assert_eq!(told(dir.path()).len(), 1);
}
