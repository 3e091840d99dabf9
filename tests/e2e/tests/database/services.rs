//! Services around the swap: stopped only once a verified shadow stands, started whatever came of it, and
//! believed when they say that they are not well.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use pefo_testkit::child::Child;
use pefo_testkit::{place, wait};
use rustix::process::Signal;
use tempfile::TempDir;

use super::{Databases, LONG, databases, kept, live, script};
use crate::evidence::{fails_as, refused_as};

const SHADOW: &str = "pe-rbac.pefo-shadow";

/// Programs that stand for a service manager: they write down what they are asked.
struct Manager {
    place: TempDir,
}

impl Manager {
    /// Two services of `databases`' passive.
    fn of(databases: &mut Databases, more: &str) -> Self {
        let place = place::directory("services");
        let manager = Self { place };
        let log = manager.log_path().display().to_string();
        for name in ["stop", "start", "before", "after", "probe"] {
            manager.make(
                name,
                &format!("echo \"{name} $1\" | sed 's/ *$//' >> {log}"),
            );
        }
        let program = |name: &str| manager.program(name).display().to_string();
        let mut section =
            "[services]\nmanager = \"command\"\nbounce = [\"console\", \"orchestrator\"]\n"
                .to_owned();
        for name in ["stop", "start"] {
            writeln!(section, "{name} = [\"{}\", \"{{}}\"]", program(name)).unwrap();
        }
        for name in ["before", "after", "probe"] {
            writeln!(section, "{name} = [\"{}\"]", program(name)).unwrap();
        }
        databases.b.configure(&format!("{section}{more}\n"));
        manager
    }

    fn log_path(&self) -> PathBuf {
        self.place.path().join("log")
    }

    fn program(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    fn make(&self, name: &str, body: &str) {
        script(&self.program(name), body);
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Has `stop` say that it was reached, and wait until it is let go.
    fn hold_stop(&self) -> Gate {
        let gate = self.place.path().join("gate");
        let made = std::process::Command::new("mkfifo")
            .arg(&gate)
            .status()
            .unwrap();
        assert!(made.success());
        let log = self.log_path().display().to_string();
        self.make(
            "stop",
            &format!("echo \"stop $1\" >> {log}; read -r _ < {}", gate.display()),
        );
        Gate(gate)
    }

    #[track_caller]
    fn until(&self, line: &str) {
        wait::until(line, LONG, || self.log().lines().any(|said| said == line));
    }
}

struct Gate(PathBuf);

impl Gate {
    fn open(&self) {
        std::fs::write(&self.0, "go\n").unwrap();
    }
}

const BOUNCED: &str = "\
before
stop console
stop orchestrator
start orchestrator
start console
after
probe
";

#[test]
fn services_are_stopped_once_the_shadow_stands_and_started_after_the_swap() {
    let Some(mut databases) = Databases::in_step() else {
        return;
    };
    let manager = Manager::of(&mut databases, "");
    databases.say_on_a("behind closed doors");
    databases.a.pefo(["db", "push"]).exits(0);
    let before = live(&databases.on_b);
    let gate = manager.hold_stop();
    let mut restore = Child::spawn(databases.b.command().args(["db", "restore"]));
    manager.until("stop console");
    assert!(self::databases(&databases.on_b).contains(&SHADOW.to_owned()));
    assert_eq!(live(&databases.on_b), before);
    gate.open();
    manager.until("stop orchestrator");
    gate.open();
    manager.until("probe");
    wait::until("the end", LONG, || restore.ended().is_some());
    assert_eq!(manager.log(), BOUNCED);
    assert!(live(&databases.on_b).1.contains("behind closed doors"));

    // Nothing to do: nobody is disturbed.
    let report = databases
        .b
        .pefo(["db", "restore", "--json"])
        .exits(0)
        .json();
    assert_eq!(report["outcome"], "unchanged");
    assert_eq!(manager.log(), BOUNCED);
}

#[test]
fn what_the_services_are_not_well_with_is_taken_out_again() {
    let Some(mut databases) = Databases::in_step() else {
        return;
    };
    let manager = Manager::of(&mut databases, "probe_timeout = 0");
    databases.say_on_a("unhealthy");
    databases.a.pefo(["db", "push"]).exits(0);
    let (before, standing) = (live(&databases.on_b), self::databases(&databases.on_b));
    // Well with the old database only: it is asked once with each.
    let asked = manager.place.path().join("asked");
    manager.make(
        "probe",
        &format!(
            "test -e {0} || {{ touch {0}; echo 'schema 42 is unknown' >&2; exit 1; }}",
            asked.display()
        ),
    );
    let error = refused_as(&databases.b, &["db", "restore"], "db-probe");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("schema 42 is unknown"), "{error:#}");
    assert!(
        message.contains("the database of before is back, and with it they are well"),
        "{error:#}"
    );
    assert_eq!(live(&databases.on_b), before);
    assert_eq!(
        self::databases(&databases.on_b),
        standing,
        "nothing is left beside it"
    );
    let log = manager.log();
    assert!(
        log.ends_with("start orchestrator\nstart console\nafter\n"),
        "{log}"
    );

    // Not well with either: the old one is back all the same, and it is said whose fault it is not.
    manager.make("probe", "exit 1");
    let error = refused_as(&databases.b, &["db", "restore"], "db-probe");
    assert!(
        error["message"]
            .as_str()
            .unwrap()
            .contains("not well with it either"),
        "{error:#}"
    );
    assert_eq!(live(&databases.on_b), before);
    manager.make("probe", "exit 0");
    databases.b.pefo(["db", "restore"]).exits(0);
    assert!(live(&databases.on_b).1.contains("unhealthy"));
}

#[test]
fn a_service_that_does_not_stop_leaves_the_database_and_the_others_as_they_were() {
    let Some(mut databases) = Databases::in_step() else {
        return;
    };
    let manager = Manager::of(&mut databases, "");
    databases.say_on_a("not now");
    databases.a.pefo(["db", "push"]).exits(0);
    let before = live(&databases.on_b);
    let log = manager.log_path().display().to_string();
    manager.make(
        "stop",
        &format!(
            "echo \"stop $1\" >> {log}; test \"$1\" = console || {{ echo 'busy' >&2; exit 1; }}"
        ),
    );
    let error = fails_as(&databases.b, &["db", "restore"], 1, "child");
    assert!(
        error["message"].as_str().unwrap().contains("busy"),
        "{error:#}"
    );
    assert_eq!(live(&databases.on_b), before);
    assert!(!self::databases(&databases.on_b).contains(&SHADOW.to_owned()));
    assert!(
        manager
            .log()
            .ends_with("start orchestrator\nstart console\nafter\n"),
        "{}",
        manager.log()
    );
}

#[test]
fn a_run_killed_while_services_are_stopped_is_ended_by_the_next_which_starts_them() {
    let Some(mut databases) = Databases::in_step() else {
        return;
    };
    let manager = Manager::of(&mut databases, "");
    databases.say_on_a("after the crash");
    databases.a.pefo(["db", "push"]).exits(0);
    let before = live(&databases.on_b);
    let gate = manager.hold_stop();
    let mut restore = Child::spawn(databases.b.command().args(["db", "restore"]));
    manager.until("stop console");
    restore.signal(Signal::KILL);
    wait::until("its end", LONG, || restore.ended().is_some());
    assert_eq!(live(&databases.on_b), before);
    drop(gate);
    let log = manager.log_path().display().to_string();
    manager.make("stop", &format!("echo \"stop $1\" >> {log}"));
    std::fs::write(manager.log_path(), "").unwrap();
    databases.b.pefo(["db", "restore"]).exits(0);
    let expected = format!("start orchestrator\nstart console\nafter\nprobe\n{BOUNCED}");
    assert_eq!(manager.log(), expected);
    assert!(live(&databases.on_b).1.contains("after the crash"));
    assert!(!Path::new(&databases.b.state().join("bouncing/db-pe-rbac.json")).exists());
}

#[test]
fn a_rollback_bounces_the_services_too_and_a_second_one_undoes_it() {
    let Some(mut databases) = Databases::in_step() else {
        return;
    };
    // Nothing is kept yet: nothing was done, and nothing is held back.
    fails_as(&databases.b, &["db", "rollback", "pe-rbac"], 1, "not_found");
    databases.say_on_a("the newer one");
    databases.a.pefo(["db", "push"]).exits(0);
    databases.b.pefo(["db", "restore"]).exits(0);
    let manager = Manager::of(&mut databases, "");
    let newer = live(&databases.on_b);
    let shown = databases
        .b
        .pefo(["db", "rollback", "pe-rbac", "--dry-run"])
        .exits(0)
        .stdout;
    assert!(shown.contains(&kept(&databases.on_b)[0]), "{shown}");
    assert_eq!(live(&databases.on_b), newer);
    let said = databases
        .b
        .pefo(["db", "rollback", "pe-rbac"])
        .exits(0)
        .stdout;
    assert!(said.contains("is live again"), "{said}");
    assert_eq!(manager.log(), BOUNCED);
    assert!(!live(&databases.on_b).1.contains("the newer one"));
    // Cron's next run does not undo what an operator did, whatever comes meanwhile.
    let older = live(&databases.on_b);
    for say in [None, Some("newer still")] {
        if let Some(what) = say {
            databases.say_on_a(what);
            databases.a.pefo(["db", "push"]).exits(0);
        }
        refused_as(&databases.b, &["db", "restore"], "rolled-back");
        assert_eq!(live(&databases.on_b), older);
    }
    databases.b.pefo(["db", "rollback", "pe-rbac"]).exits(0);
    assert_eq!(live(&databases.on_b), newer);
    assert_eq!(kept(&databases.on_b).len(), 1);
    databases
        .b
        .pefo(["db", "restore", "--accept", "rolled-back"])
        .exits(0);
    assert!(live(&databases.on_b).1.contains("newer still"));
    fails_as(
        &databases.b,
        &["db", "rollback", "pe-other"],
        1,
        "not_found",
    );
    databases.a.pefo(["db", "rollback", "pe-rbac"]).exits(6);
}
