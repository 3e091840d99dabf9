use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pefo_core::clock::{FixedClock, SystemClock};
use pefo_core::disk::Disk;
use pefo_core::generation::{Position, Site};
use pefo_core::keys::{SigningKey, system_random};
use pefo_core::launch::DirectLauncher;
use pefo_core::reign::Epoch;
use pefo_core::run::{Outcome, RunRecord};

use super::*;
use crate::config::Config;

const NOON: i64 = 1_763_812_800;

/// So many seconds after noon.
pub(crate) fn at(second: i64) -> Timestamp {
    Timestamp::from_unix_seconds(NOON + second).unwrap()
}

/// A host with its state below `dir`, whose clock shows noon, and which was never set up.
pub(crate) fn host(dir: &Path, sections: &str) -> Host {
    let text = format!(
        "[site]\ncertname = \"a.lab\"\nstate_dir = {:?}\nspool_dir = {:?}\n{sections}",
        dir.join("state"),
        dir.join("spool")
    );
    let host = Host {
        config: Config::parse(&text).unwrap(),
        config_path: dir.join("pefo.toml"),
        disk: Disk::new(),
        clock: Arc::new(FixedClock::new(at(0))),
        launcher: Arc::new(DirectLauncher::default()),
    };
    let mode = pefo_core::disk::Attributes::mode(0o700);
    for path in [
        host.state("locks"),
        host.state("runs"),
        host.config.site.spool_dir.clone(),
    ] {
        host.disk.create_dir_all(&path, &mode).unwrap();
    }
    host
}

/// A row that does well.
pub(crate) fn row(dataset: &str, peer: Option<&str>) -> Row {
    let position = Position {
        epoch: Epoch(3),
        sequence: 3,
    };
    Row {
        dataset: dataset.parse().unwrap(),
        peer: peer.map(|peer| Certname::new(peer).unwrap()),
        received: Some(position),
        applied: Some(position),
        lag: Some(Duration::from_secs(7)),
        caught_up: Some(at(-7)),
        limits: Limits {
            warn: Duration::from_secs(300),
            critical: Duration::from_secs(900),
        },
        last_success: Some(at(-5)),
        last_failure: None,
        failing_since: None,
        last_duration: Some(Duration::from_millis(120)),
        generation_bytes: Some(4096),
        refused: Vec::new(),
        next_due: Some(at(60)),
        skew_seconds: None,
        problems: Vec::new(),
        health: Health::Ok,
    }
}

/// A problem of a row's.
pub(crate) fn ailing(mut row: Row, kind: &'static str, health: Health) -> Row {
    row.problems.push(Problem {
        kind,
        health,
        what: "the line | is down".to_owned(),
        hint: "mend it".to_owned(),
    });
    row.health = health;
    row
}

/// An active's view of these rows, at noon.
pub(crate) fn overview(rows: Vec<Row>) -> Overview {
    let key = SigningKey::ephemeral(&system_random()).unwrap();
    let certname = Certname::new("a.lab").unwrap();
    Overview {
        certname: certname.clone(),
        role: Role::Active,
        reign: Reign {
            format: 1,
            site: Site::from_random([7; 16]),
            epoch: Epoch(3),
            holder: key.public().id(),
            certname,
            since: at(-86_400),
            before: None,
        },
        peers: vec![Certname::new("b.lab").unwrap()],
        changing: None,
        standing: Standing {
            fenced: None,
            changing: None,
            unfinished: Vec::new(),
            paused: None,
        },
        rows,
        spaces: Vec::new(),
        problems: Vec::new(),
        now: at(0),
    }
}

/// Runs about the CA, each as (second, command, outcome, rule).
fn course(runs: &[(i64, &str, Outcome, Option<&str>)]) -> Course {
    let dir = tempfile::tempdir().unwrap();
    for (second, command, outcome, rule) in runs {
        let record = RunRecord {
            format: 1,
            command: (*command).to_owned(),
            dataset: Some(DataSet::Ca),
            position: None,
            began: at(*second),
            ended: at(*second + 1),
            outcome: *outcome,
            error: (!outcome.is_success()).then(|| format!("error of second {second}")),
            rule: rule.map(str::to_owned),
            accepted: std::collections::BTreeSet::new(),
        };
        record.store(&Disk::new(), dir.path()).unwrap();
    }
    Course::of(&Runs::list(dir.path()).unwrap(), &DataSet::Ca, Role::Active)
}

#[test]
fn it_fails_since_the_first_failure_after_the_last_success() {
    let push = |second, outcome| (second, "ca push", outcome, None);
    let it = course(&[
        push(0, Outcome::Failed),
        push(60, Outcome::Ok),
        push(120, Outcome::Failed),
        push(180, Outcome::Locked),
        push(240, Outcome::Partial),
    ]);
    assert_eq!(it.failing_since, Some(at(121)));
    assert_eq!(it.last_success.unwrap().ended, at(61));
    assert_eq!(it.last_failure.unwrap().outcome, Outcome::Partial);
    let well = course(&[push(0, Outcome::Failed), push(60, Outcome::Unchanged)]);
    assert_eq!(well.failing_since, None);
    assert_eq!(well.last_failure.unwrap().ended, at(1));
    assert_eq!(course(&[]), Course::default());
}

#[test]
fn a_run_that_the_operators_word_held_back_or_of_the_other_role_says_nothing_of_how_it_goes() {
    let it = course(&[
        (0, "ca apply", Outcome::Ok, None),
        (30, "ca apply", Outcome::Failed, None),
        (60, "ca push", Outcome::Refused, Some("paused")),
    ]);
    assert!(it.last_success.is_some());
    assert_eq!((it.failing_since, it.last_failure), (None, None));
}

#[test]
fn the_pace_is_the_usual_time_between_successes_and_an_outage_is_not() {
    let push = |second| (second, "ca push", Outcome::Ok, None);
    let it = course(&[0, 3600, 7200, 7200 + 90_000, 100_800, 104_400].map(push));
    assert_eq!(it.pace, Some(Duration::from_secs(3600)));
    assert_eq!(course(&[push(0)]).pace, None);
}

#[test]
fn who_did_it_last_tells_whether_it_is_watched() {
    let watch = |second, outcome| (second, "ca watch", outcome, None);
    assert!(course(&[watch(0, Outcome::Ok)]).is_watched);
    assert!(course(&[watch(0, Outcome::Ok), watch(5, Outcome::Failed)]).is_watched);
    assert!(!course(&[watch(0, Outcome::Ok), (60, "ca push", Outcome::Ok, None)]).is_watched);
    // What ran beside the watch was told so.
    assert!(
        course(&[
            watch(0, Outcome::Ok),
            (60, "ca push", Outcome::Locked, None)
        ])
        .is_watched
    );
}

/// The limits in seconds.
fn limits(sections: &str, dataset: &str, course: &Course) -> (u64, u64) {
    let config = Config::parse(&format!("[site]\ncertname = \"a.lab\"\n{sections}")).unwrap();
    let dataset = dataset.parse().unwrap();
    let limits = Limits::of(&config, Role::Active, &dataset, course, at(0));
    (limits.warn.as_secs(), limits.critical.as_secs())
}

#[test]
fn limits_follow_from_what_is_said_the_schedule_and_the_pace() {
    let cron = Course::default();
    let watched = Course {
        is_watched: true,
        ..Course::default()
    };
    let daily = Course {
        pace: Some(Duration::from_secs(86_400)),
        ..Course::default()
    };
    assert_eq!(limits("", "ca", &cron), (300, 900));
    assert_eq!(limits("", "ca", &watched), (120, 300));
    let databases = "[database]\nnames = [\"pe-rbac\"]\n";
    assert_eq!(
        limits(databases, "db:pe-rbac", &cron),
        (7_380, 15_060),
        "every hour"
    );
    let (warn, critical) = limits("", "ca", &daily);
    assert!(warn > 2 * 86_400 && critical > 4 * 86_400);
    let yearly = Course {
        pace: Some(Duration::from_secs(366 * 86_400)),
        ..Course::default()
    };
    assert_eq!(limits("", "ca", &yearly), (warn, critical));
    let set = "[status]\nca = { warn_lag = \"1 min\", critical_lag = \"2 min\" }";
    assert_eq!(limits(set, "ca", &daily), (60, 120));
    let set = "[status]\nca = { warn_lag = \"1 h\" }";
    assert_eq!(limits(set, "ca", &cron), (3600, 7200));
    let set = "[status]\nca = { critical_lag = \"10 s\" }";
    assert_eq!(limits(set, "ca", &cron), (10, 10));
}

#[test]
fn a_disk_that_is_nearly_full_is_told_once_where_both_lie_on_it() {
    let dir = tempfile::tempdir().unwrap();
    let problems = |sections: &str| -> Vec<(Health, String)> {
        let spaces = space::of(&host(dir.path(), sections));
        let problems = spaces.into_iter().filter_map(|space| space.problem);
        problems.map(|it| (it.health, it.what)).collect()
    };
    let set = |warn: &str, critical: &str| {
        format!("[status]\nwarn_free = {warn:?}\ncritical_free = {critical:?}\n")
    };
    assert_eq!(problems(&set("1 B", "0 B")), []);
    let [(health, what)] = &problems(&set("1000000 GiB", "0 B"))[..] else {
        panic!()
    };
    assert_eq!(*health, Health::Warning);
    assert!(what.contains("are free where the spool is"), "{what}");
    let told = problems(&set("1000000 GiB", "1000000 GiB"));
    assert_eq!(told[0].0, Health::Critical);
    assert_eq!(told.len(), 1);
    let real = Host {
        clock: Arc::new(SystemClock),
        ..host(dir.path(), "")
    };
    real.disk.remove_tree(&real.config.site.spool_dir).unwrap();
    let gone = space::of(&real);
    assert_eq!(gone[0].problem.as_ref().unwrap().health, Health::Critical);
}

#[test]
fn the_health_is_that_of_the_worst() {
    assert_eq!(overview(Vec::new()).health(), Health::Unknown);
    let mut all = overview(vec![
        row("ca", None),
        ailing(row("nc", None), "lag", Health::Warning),
    ]);
    assert_eq!(all.health(), Health::Warning);
    all.standing.fenced = Some("epoch 1 has ended".to_owned());
    assert_eq!(all.health(), Health::Critical);
}
