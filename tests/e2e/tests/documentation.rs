//! `docs/json.md` names every key of every command's answer to `--json`, and no other: the commands are run in a
//! real pair, through every change of role, and what comes is compared both ways.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use pefo_testkit::masters::{Master, Run};
use pefo_testkit::wait;
use serde_json::Value;

use crate::commands::world::World;
use crate::commands::{COMMANDS, NAME, answer, words};
use crate::pair::B;

/// Keys are told down to so many names.
const DEPTH: usize = 2;

/// A watch that follows another role does so within seconds.
const LIMIT: Duration = Duration::from_secs(30);

/// Every command's keys.
type Keys = BTreeMap<String, BTreeSet<String>>;

/// The paths of all keys of a value: `datasets[].lag_seconds`.
fn paths(value: &Value, before: &str, depth: usize, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) if depth > 0 => {
            for (key, value) in fields {
                let path = match before {
                    "" => key.clone(),
                    before => format!("{before}.{key}"),
                };
                found.insert(path.clone());
                paths(value, &path, depth - 1, found);
            }
        }
        Value::Array(items) => {
            for item in items {
                paths(item, &format!("{before}[]"), depth, found);
            }
        }
        _ => {}
    }
}

/// The documented keys: the first cells of the tables under each command's heading.
fn documented() -> Keys {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/json.md");
    let page = std::fs::read_to_string(page).unwrap();
    let (mut commands, mut keys) = (Vec::new(), Keys::new());
    for line in page.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            // Several commands may answer alike.
            commands = heading
                .split(", ")
                .filter_map(|name| name.strip_prefix("pefo "))
                .collect();
        }
        let Some(cells) = line.strip_prefix("| `") else {
            continue;
        };
        let key = cells.split('`').next().unwrap();
        for command in &commands {
            let known = keys.entry((*command).to_owned()).or_default();
            assert!(
                known.insert(key.to_owned()),
                "{command}: {key} stands twice"
            );
        }
    }
    keys
}

/// Whether a path is the documented one, where `*` stands for any name, at the end with dots in it.
fn fits(documented: &str, path: &str) -> bool {
    match documented.split_once('.') {
        _ if documented == path || documented == "*" => true,
        None => false,
        Some((name, rest)) => path
            .split_once('.')
            .is_some_and(|(first, below)| (name == "*" || name == first) && fits(rest, below)),
    }
}

/// Runs commands and keeps what keys came.
struct Told(Keys);

impl Told {
    /// A command's answer, which must come in the documented shape.
    #[track_caller]
    fn hears(&mut self, run: &Run, command: &str) {
        let object = answer(run, command);
        paths(
            &object["details"],
            "",
            DEPTH,
            self.0.entry(command.to_owned()).or_default(),
        );
    }

    #[track_caller]
    fn asks(&mut self, master: &Master, command: &str, more: &[&str]) {
        let line = words(command).chain(more.iter().copied()).chain(["--json"]);
        let run = master.pefo(line);
        let object = run.json();
        assert!(!object["details"].is_null(), "{}: {object:#}", run.line);
        self.hears(&run, command);
    }
}

#[test]
fn every_key_of_every_answer_is_documented_and_every_documented_key_comes() {
    let Some(mut world) = World::in_step() else {
        return;
    };
    world.ca.sign("node1.lab").unwrap();
    world.ca.revoke("node1.lab").unwrap();
    world.ca.sign("node2.lab").unwrap();
    let insert = "insert into rbac.disclaimers (body) values ('news');";
    world.on_a.sql(NAME, insert).unwrap();
    for master in [&mut world.a, &mut world.b] {
        let environments = master.directory().join("environments");
        std::fs::create_dir_all(environments.join("production")).unwrap();
        std::fs::write(environments.join("production/site.pp"), master.certname()).unwrap();
        master.configure(&format!(
            "[code]\nmanager = \"command\"\nenvironments = \"{}\"\ncommand = [\"true\", \"{{}}\"]\n\n",
            environments.display()
        ));
    }
    let mut told = Told(Keys::new());
    let World { a, b, .. } = &world;

    // On the active.
    let line = a.pefo(["init", "active"]).exits(0).stdout;
    told.asks(a, "init active", &[]);
    told.asks(a, "init active", &["--dry-run"]);
    let back = b
        .pefo(["init", "passive", "--join", line.trim()])
        .exits(0)
        .stdout;
    told.asks(a, "init active", &["--accept", back.trim()]);
    told.asks(b, "init passive", &["--join", line.trim()]);
    for command in [
        "config example",
        "config check",
        "config show",
        "check",
        "status",
    ] {
        told.asks(a, command, &[]);
    }
    for command in [
        "ca diff",
        "ca exclude",
        "nc export",
        "db dump",
        "db list",
        "schedule print",
    ] {
        told.asks(a, command, &[]);
    }
    for command in ["ca push", "nc push", "db push", "files push", "push"] {
        told.asks(a, command, &["--dry-run"]);
        told.asks(a, command, &[]);
    }
    told.asks(a, "pause", &["--reason", "upgrade"]);
    told.asks(a, "status", &[]);
    told.asks(a, "resume", &[]);
    told.asks(a, "fence", &[]);
    told.asks(a, "code deploy", &["--dry-run"]);
    told.asks(a, "code deploy", &[]);
    for command in ["schedule install", "schedule remove"] {
        told.asks(a, command, &["--dry-run"]);
    }

    // On the passive.
    told.asks(b, "ca diff", &[]);
    told.asks(b, "nc diff", &[]);
    told.asks(b, "files diff", &[]);
    told.asks(b, "files verify", &[]);
    b.pefo(["apply", "code"]);
    told.asks(b, "code status", &[]);
    for command in [
        "ca apply",
        "nc restore",
        "db restore",
        "files apply",
        "apply",
    ] {
        told.asks(b, command, &["--dry-run"]);
        told.asks(b, command, &[]);
    }
    for command in [
        "ca verify",
        "nc verify",
        "db verify",
        "verify",
        "status",
        "check",
        "drill",
    ] {
        told.asks(b, command, &[]);
    }
    told.asks(b, "drill", &["--dry-run"]);
    told.asks(b, "db drill", &["--dry-run"]);
    told.asks(b, "db drill", &[]);
    told.asks(b, "db rollback", &[NAME, "--dry-run"]);
    told.asks(b, "db rollback", &[NAME]);
    // Something amiss and something refused, for the report to tell.
    b.pefo(["db", "restore"]).exits(3);
    b.pefo(["pause"]).exits(0);
    let page = b.directory().join("report.html");
    told.asks(b, "report", &["--html", page.to_str().unwrap()]);
    b.pefo(["resume"]).exits(0);
    b.pefo(["db", "restore", "--accept", "rolled-back"])
        .exits(0);
    told.asks(b, "nc rollback", &["--dry-run"]);
    told.asks(b, "promote", &["--dry-run", "--accept", "peer-active"]);

    // There and back: a switchover, then the new active dies and the old one takes over.
    told.asks(a, "switchover", &["--dry-run"]);
    let watches = [a.watch(), b.watch()];
    told.asks(a, "ca verify", &[]);
    told.asks(a, "code status", &[]);
    told.asks(a, "switchover", &[]);
    let accepted = a.state().join("accepted/ca.json");
    wait::until("the new spare to follow", LIMIT, || accepted.exists());
    told.asks(b, "ca merge", &["--dry-run"]);
    told.asks(b, "ca merge", &[]);
    drop(watches);
    world.b.stop_sshd();
    told.asks(&world.a, "promote", &[]);
    world.b.restart_sshd();
    told.asks(&world.b, "demote", &["--dry-run"]);
    told.asks(&world.b, "demote", &["--wait", "0"]);
    told.asks(&world.a, "init unpair", &[B, "--dry-run"]);

    compare(&told.0);
}

#[track_caller]
fn compare(came: &Keys) {
    let documented = documented();
    let none = BTreeSet::new();
    let (mut undocumented, mut gone) = (Vec::new(), Vec::new());
    for (command, keys) in came {
        let known = documented.get(command).unwrap_or(&none);
        for key in keys
            .iter()
            .filter(|key| !known.iter().any(|known| fits(known, key)))
        {
            undocumented.push(format!("{command}: {key}"));
        }
        for key in known
            .iter()
            .filter(|known| !keys.iter().any(|key| fits(known, key)))
        {
            gone.push(format!("{command}: {key}"));
        }
    }
    assert!(
        undocumented.is_empty() && gone.is_empty(),
        "not in docs/json.md:\n{}\nin docs/json.md, and did not come:\n{}",
        undocumented.join("\n"),
        gone.join("\n")
    );
    // Those that end when they are stopped, or speak to another pefo.
    let silent = ["ca watch", "run", "receive"];
    for (command, ..) in COMMANDS {
        assert!(
            silent.contains(&command) || came.contains_key(command),
            "{command} was not run"
        );
        assert!(
            silent.contains(&command) || documented.contains_key(command),
            "docs/json.md says nothing of {command}"
        );
    }
}
