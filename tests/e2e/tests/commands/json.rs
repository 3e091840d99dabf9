//! `--json` answers with one object wherever a command ends; `--quiet` says nothing but errors.

use std::collections::BTreeMap;

use pefo_testkit::masters::Master;
use pefo_testkit::place;

use super::world::World;
use super::{ACTIVES, COMMANDS, NAME, PASSIVES, answer, failure, pefo, words};
use crate::evidence::tree;
use crate::pair::{A, Pair};

#[test]
fn without_a_configuration_every_command_says_so_in_one_object_and_exits_2() {
    let dir = place::directory("empty");
    let path = dir.path().join("none.toml").display().to_string();
    for (command, more, ..) in COMMANDS
        .into_iter()
        .filter(|(command, ..)| *command != "receive")
    {
        let line = || {
            ["--config", &path]
                .into_iter()
                .chain(words(command))
                .chain(words(more))
        };
        let run = pefo(line().chain(["--json"]));
        assert_eq!(run.stderr, "", "{}", run.line);
        if command == "config example" {
            answer(&run.exits(0), command);
            continue;
        }
        failure(&run.exits(2), command, "config");
        let told = pefo(line()).exits(2);
        assert_eq!(told.stdout, "", "{}", told.line);
        assert!(
            told.stderr
                .starts_with(&format!("pefo {command}: failed: ")),
            "{}: {}",
            told.line,
            told.stderr
        );
        assert!(
            told.stderr.contains("\n  hint: ") && told.stderr.contains("pefo config example"),
            "{}",
            told.stderr
        );
    }
    assert_eq!(
        tree(dir.path()),
        BTreeMap::new(),
        "something was written beside the missing configuration"
    );
}

#[test]
fn where_init_was_not_run_every_command_says_so_in_one_object() {
    let Some(pair) = Pair::prepared() else { return };
    let before = tree(pair.a.directory());
    let without = [
        "init active",
        "init passive",
        "config example",
        "config check",
        "config show",
        "receive",
        "db list",
        // It undoes; a dry run of it would say that there is nothing to undo.
        "schedule remove",
    ];
    for (command, ..) in COMMANDS
        .into_iter()
        .filter(|(command, ..)| !without.contains(command))
    {
        let names_one = [
            "db push",
            "db restore",
            "db dump",
            "db rollback",
            "db drill",
        ];
        if names_one.contains(&command) {
            failure(
                &pair.a.pefo(words(command).chain([NAME, "--json"])).exits(2),
                command,
                "config",
            );
            continue;
        }
        let more: &[&str] = match command {
            "init unpair" => &["other.lab"],
            _ => &[],
        };
        let line = words(command).chain(more.iter().copied());
        let run = pair.a.pefo(line.chain(["--json"]));
        match command {
            // Monitoring plugins: unknown, critical.
            "status" | "ca verify" | "code status" | "nc verify" | "db verify" | "files verify"
            | "verify" => failure(&run.exits(3), command, "config"),
            "check" => {
                let object = answer(&run.exits(2), command);
                assert_eq!(object["details"][0]["ok"], false, "{object:#}");
            }
            _ => failure(&run.exits(2), command, "config"),
        }
    }
    failure(
        &pair.a.pefo(["db", "list", "--json"]).exits(2),
        "db list",
        "config",
    );
    assert!(
        tree(pair.a.directory()) == before,
        "a command that was refused left something behind"
    );
}

#[test]
fn every_command_answers_one_object_in_its_role_and_is_refused_with_6_in_the_other() {
    let Some(world) = World::in_step() else {
        return;
    };
    let World { a, b, .. } = &world;
    let line = a.pefo(["init", "active"]).exits(0).stdout;
    let ask = |master: &Master, command: &str| {
        let more: &[&str] = match command {
            "init passive" => &["--join", line.trim()],
            "init unpair" => &["other.lab"],
            "db rollback" => &[NAME],
            // After one, nothing of the active is applied.
            "nc rollback" => &["--dry-run"],
            // Nobody runs there who could answer.
            "ca merge" => &["--timeout", "0"],
            // Nothing of this machine's own is touched.
            "switchover" | "schedule install" | "schedule remove" => &["--dry-run"],
            _ => &[],
        };
        master.pefo(words(command).chain(["--json"]).chain(more.iter().copied()))
    };
    let both = [(a, PASSIVES.as_slice()), (b, ACTIVES.as_slice())];
    for (master, others) in both {
        // A watch answers when it is stopped, which tests of its own see to.
        let is_mine = |command: &&str| {
            !["receive", "ca watch", "run"].contains(command) && !others.contains(command)
        };
        for command in COMMANDS
            .into_iter()
            .map(|(command, ..)| command)
            .filter(is_mine)
        {
            if command == "init passive" && master.certname() == A {
                // Its own line.
                failure(&ask(master, command).exits(2), command, "config");
            } else if command == "init unpair" {
                failure(&ask(master, command).exits(1), command, "not_found");
            } else if command == "ca verify" && master.certname() == A {
                // Nobody runs there who could answer.
                let run = a.pefo(["ca", "verify", "--timeout", "0", "--json"]);
                failure(&run.exits(3), command, "unreachable");
            } else if command == "verify" && master.certname() == A {
                // As the CA's.
                let run = a.pefo(["verify", "--timeout", "0", "--json"]);
                failure(&run.exits(3), command, "unreachable");
            } else if ["nc verify", "db verify", "files verify"].contains(&command)
                && master.certname() == A
            {
                // A monitoring plugin's answer, whatever the role.
                failure(&ask(master, command).exits(3), command, "wrong_role");
            } else if command == "code status" {
                // No code is configured.
                failure(&ask(master, command).exits(3), command, "config");
            } else if command == "code deploy" {
                failure(&ask(master, command).exits(2), command, "config");
            } else if command == "ca merge" {
                failure(&ask(master, command).exits(1), command, "unreachable");
            } else if ["promote", "demote"].contains(&command) {
                // The active lives, and reigns.
                failure(&ask(master, command).exits(3), command, "refused");
            } else if command == "db rollback" {
                // It was restored once only.
                failure(&ask(master, command).exits(1), command, "not_found");
            } else {
                answer(&ask(master, command).exits(0), command);
            }
        }
    }
    for (master, others) in both {
        for command in others {
            let run = ask(master, command).exits(6);
            assert_eq!(run.json()["outcome"], "fenced");
            failure(&run, command, "wrong_role");
        }
    }
}

#[test]
fn quiet_says_nothing_but_errors_and_the_monitoring_answer() {
    let Some(mut world) = World::in_step() else {
        return;
    };
    world.ca.sign("node1.lab").unwrap();
    let World { a, b, .. } = &world;
    for (master, commands) in [
        (a, ["ca push", "nc export", "db dump", "push"]),
        (b, ["ca apply", "nc restore", "db restore", "apply"]),
    ] {
        for command in commands {
            let run = master.pefo(words(command).chain(["-q"])).exits(0);
            assert_eq!(
                (run.stdout.as_str(), run.stderr.as_str()),
                ("", ""),
                "{}",
                run.line
            );
            let shown = master.pefo(words(command)).exits(0);
            assert!(shown.stdout.lines().count() >= 1, "{}", shown.line);
            assert_eq!(shown.stderr, "", "{}", shown.line);
            assert!(
                !shown.stdout.contains(['\r', '\u{1b}']),
                "{} draws: {:?}",
                shown.line,
                shown.stdout
            );
        }
        for command in ["status", "check"] {
            assert!(
                master
                    .pefo([command, "-q"])
                    .exits(0)
                    .stdout
                    .starts_with("PEFO OK: ")
            );
        }
    }
    let run = b.pefo(["-q", "ca", "push"]).exits(6);
    assert_eq!(run.stdout, "");
    assert!(
        run.stderr.starts_with("pefo ca push: not here: "),
        "{}",
        run.stderr
    );
    answer(&a.pefo(["-q", "--json", "ca", "push"]).exits(0), "ca push");
}
