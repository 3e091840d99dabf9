//! The command line as an interface: the table of commands, their help, their exit codes, and how an
//! answer to `--json` is read; the modules below hold each further promise.

mod config;
mod dry_run;
mod json;
mod plugins;
mod schedule;
mod verify;
pub(crate) mod world;

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use pefo_core::lock::Lock;
use pefo_testkit::masters::{Run, built_binary};
use serde_json::Value;

use crate::pair::Pair;

pub(crate) const NAME: &str = "pe-rbac";

/// Every command that is not hidden, a command line that it accepts, what its help must mention, and
/// whether it changes state.
pub(crate) const COMMANDS: [(&str, &str, &str, bool); 50] = [
    ("init active", "", "pairing line for the passive", true),
    ("init passive", "--join LINE", "passive of an active", true),
    ("init unpair", "other.lab", "opens nothing here", true),
    ("check", "", "can do its part", false),
    ("config example", "", "commented configuration", false),
    ("config check", "", "Check the configuration file", false),
    ("config show", "", "defaults included", false),
    ("ca diff", "", "would change", false),
    ("ca push", "", "to every peer", true),
    ("ca apply", "", "apply the newest generation", true),
    ("ca exclude", "", "never cross", false),
    ("ca verify", "--full", "would serve the same", false),
    ("ca watch", "", "until it is stopped", false),
    ("ca merge", "", "what a peer's CA has", true),
    ("nc export", "", "export gate", true),
    ("nc push", "", "send to every peer", true),
    ("nc diff", "", "would change", false),
    ("nc restore", "", "import gate", true),
    (
        "nc rollback",
        "00000001-000000000001",
        "older generation",
        true,
    ),
    ("nc verify", "", "each group that", false),
    ("db dump", "", "dump databases", true),
    ("db push", "", "send to every peer", true),
    ("db restore", "", "shadow", true),
    ("db rollback", NAME, "previous database back", true),
    ("db drill", "", "into scratch", true),
    ("db verify", "", "each table that differs", false),
    ("db list", "", "server's databases", false),
    ("files push", "", "to every peer", true),
    ("files diff", "", "would change", false),
    ("files apply", "", "put its files in place", true),
    ("files verify", "", "each that differs", false),
    ("code status", "", "with both commits", false),
    ("code deploy", "", "what became of each environment", true),
    ("push", "", "every peer", true),
    ("apply", "", "verify and apply", true),
    ("verify", "", "would serve the same", false),
    ("run", "", "in one process", false),
    ("drill", "", "could take over", true),
    ("promote", "", "take over from an active that is gone", true),
    ("demote", "", "become the spare", true),
    ("switchover", "", "hand the reign over", true),
    ("fence", "", "stop what signs here", false),
    ("pause", "", "Push nothing from here", true),
    ("resume", "", "Go on after", true),
    ("status", "", "age of each data set", false),
    ("report", "", "a page", false),
    ("schedule print", "", "as 'install' would", false),
    ("schedule install", "", "Write the schedule", true),
    ("schedule remove", "", "remove its files", true),
    ("receive", "", "forced command", false),
];

/// The active's commands that the passive refuses, and the other way round.
const ACTIVES: [&str; 11] = [
    "init active",
    "ca push",
    "ca merge",
    "nc export",
    "nc push",
    "db dump",
    "db push",
    "files push",
    "push",
    "demote",
    "switchover",
];
const PASSIVES: [&str; 10] = [
    "ca apply",
    "nc restore",
    "nc rollback",
    "db restore",
    "db rollback",
    "db drill",
    "files apply",
    "apply",
    "drill",
    "promote",
];

pub(crate) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split_whitespace()
}

/// Runs the program where there is no master: no configuration but the one that `arguments` name.
fn pefo<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Run {
    let arguments: Vec<&str> = arguments.into_iter().collect();
    let output = Command::new(built_binary())
        .args(&arguments)
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .unwrap();
    Run {
        line: format!("pefo {}", arguments.join(" ")),
        code: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// The subcommands that a help text lists.
fn listed(help: &str) -> Vec<String> {
    let Some((_, rest)) = help.split_once("\nCommands:\n") else {
        return Vec::new();
    };
    let lines = rest.lines().take_while(|line| !line.is_empty());
    // What is indented further goes on with the line before.
    let names = lines.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    names
        .map(|line| words(line).next().unwrap().to_owned())
        .collect()
}

/// Every command that the program's own help leads to.
fn found(prefix: &str) -> BTreeSet<String> {
    let help = pefo(words(prefix).chain(["--help"])).exits(0);
    let below = listed(&help.stdout);
    if below.is_empty() {
        return BTreeSet::from([prefix.to_owned()]);
    }
    below
        .into_iter()
        .flat_map(|name| found(format!("{prefix} {name}").trim()))
        .collect()
}

/// The answer to `--json`: one object on one line, of the documented shape.
#[track_caller]
pub(crate) fn answer(run: &Run, command: &str) -> Value {
    assert_eq!(
        run.stdout.matches('\n').count(),
        1,
        "{}: not one line: {}",
        run.line,
        run.stdout
    );
    let object = run.json();
    let keys: Vec<&String> = object.as_object().unwrap().keys().collect();
    assert_eq!(
        keys,
        ["command", "outcome", "dataset", "details", "errors"],
        "{}",
        run.line
    );
    assert_eq!(object["command"], command, "{}", run.line);
    let outcome = object["outcome"].as_str().unwrap();
    let outcomes = [
        "ok",
        "unchanged",
        "partial",
        "refused",
        "failed",
        "locked",
        "fenced",
    ];
    assert!(outcomes.contains(&outcome), "{}: {outcome}", run.line);
    assert!(
        object["dataset"].is_null() || object["dataset"].is_string(),
        "{}",
        run.line
    );
    for error in object["errors"].as_array().unwrap() {
        assert!(
            error["kind"].as_str().is_some_and(|kind| !kind.is_empty()),
            "{}: {error}",
            run.line
        );
        assert!(
            error["message"]
                .as_str()
                .is_some_and(|message| !message.is_empty()),
            "{}: {error}",
            run.line
        );
        assert!(
            error.as_object().unwrap().contains_key("hint"),
            "{}: {error}",
            run.line
        );
    }
    let is_success = ["ok", "unchanged"].contains(&outcome);
    assert_eq!(
        is_success,
        object["errors"].as_array().unwrap().is_empty(),
        "{}: {object:#}",
        run.line
    );
    object
}

/// The answer to a command that must fail: its first error is of `kind` and has a hint.
#[track_caller]
fn failure(run: &Run, command: &str, kind: &str) {
    let object = answer(run, command);
    let error = &object["errors"][0];
    assert_eq!(error["kind"], kind, "{}: {object:#}", run.line);
    assert!(
        error["hint"].as_str().is_some_and(|hint| !hint.is_empty()),
        "{}: no hint: {error:#}",
        run.line
    );
}

#[test]
fn every_command_has_help_that_says_what_it_does() {
    let known: BTreeSet<String> = COMMANDS
        .iter()
        .map(|(command, ..)| (*command).to_owned())
        .collect();
    assert_eq!(
        found(""),
        known,
        "the table of commands is not what the program has"
    );
    for (command, _, mention, changes) in COMMANDS {
        let run = pefo(words(command).chain(["--help"])).exits(0);
        assert_eq!(run.stderr, "", "{}", run.line);
        // clap breaks lines where it likes.
        let text = run.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(
            text.contains(mention),
            "{} does not mention {mention:?}:\n{}",
            run.line,
            run.stdout
        );
        for option in ["--config", "--json", "--quiet", "--verbose", "--log-format"] {
            assert!(text.contains(option), "{} lacks {option}", run.line);
        }
        assert_eq!(text.contains("--dry-run"), changes, "{}", run.line);
    }
    assert!(pefo(["--version"]).exits(0).stdout.starts_with("pefo "));
    assert!(pefo(["db", "--help"]).exits(0).stdout.contains("restore"));
    assert!(
        !pefo(["db", "--help"]).exits(0).stdout.contains("stage"),
        "the inner stage is not for people"
    );
}

#[test]
fn the_help_reads_as_people_know_it() {
    insta::assert_snapshot!(pefo(["-h"]).exits(0).stdout, @r"
    Keeps a warm spare of a Puppet master: certificates and revocations, classification, databases

    Usage: pefo [OPTIONS] <COMMAND>

    Commands:
      init        Pair this host with its peer: keys, directories, transfer account
      check       Prove that this host can do its part: permissions, keys, peer, CA, classifier,
                  databases
      config      Show or check the configuration
      ca          The certificate authority's directory
      nc          The node classifier
      db          PostgreSQL databases
      files       The few files that a spare needs and no other data set carries
      code        Puppet code: what both masters have deployed, and deploying it here
      push        On the active: push data sets to every peer; all that are configured where none is
                  named
      apply       On the passive: verify and apply what was received; all that are configured where none
                  is named
      verify      Whether the spare would serve the same: every data set on the passive, the CA and the
                  code on the active. Answers as monitoring plugins do
      run         All that watches, in one process: the CA and the classifier. Runs until it is stopped
      drill       On the passive: prove that this host could take over with what it has, and how long
                  its data would take
      promote     On the passive: take over from an active that is gone
      demote      On a master whose reign has ended: become the spare of the one that reigns now
      switchover  On the active: hand the reign over to the passive; nothing is lost, and what fails is
                  undone
      fence       Ask the peers who reigns, and stop what signs here where this host's reign has ended:
                  for the boot, before Puppet's server starts
      pause       Push nothing from here and apply nothing here until 'pefo resume'; what comes is kept
      resume      Go on after 'pefo pause'
      status      Role, reign and the age of each data set, from local state only
      report      How lag, runs, refusals and drills went of late: a few lines, or a page
      schedule    Times at which the commands run
      receive     Serve one session of the peer's; sshd's forced command, not for people

    Options:
          --config <FILE>        The configuration file [default: /etc/pefo/pefo.toml]
          --json                 Answer with one JSON object on standard output
          --log-format <FORMAT>  How log lines on standard error look [default: text] [possible values:
                                 text, json, pe_failover]
      -q, --quiet                Say nothing but errors
          --scheduled            For schedules: do nothing, and say nothing, where it is the other
                                 role's part, is paused, or is being done by another run
      -v, --verbose...           Say more; twice for all
      -h, --help                 Print help (see more with '--help')
      -V, --version              Print version

    Exit codes: 0 ok or unchanged, 1 failed, 2 usage or configuration, 3 refused by a gate, 4 partly
    done, 5 another run holds the lock, 6 fenced or wrong role. 'check', 'status' and 'verify' answer as
    monitoring plugins do: 0 ok, 1 warning, 2 critical, 3 unknown.
    ");
}

#[test]
fn each_exit_code_means_what_is_documented() {
    let Some(pair) = Pair::paired() else { return };
    let Pair { a, b, .. } = &pair;
    a.pefo(["config", "check"]).exits(0);
    // Nothing was received.
    b.pefo(["ca", "apply"]).exits(1);
    a.pefo(["ca", "pull"]).exits(2);
    a.pefo(["db", "push"]).exits(2);
    a.pefo(["ca", "push"]).exits(0);
    // B has no CA, and was not sent the key.
    let refused = b.pefo(["ca", "apply"]).exits(3);
    assert!(refused.refused_by("ca-missing"), "{}", refused.stderr);
    // One of two data sets.
    a.pefo(["push", "ca", "nc"]).exits(4);
    let lock = Lock::take(&a.state().join("locks/push-ca.lock")).unwrap();
    failure(
        &a.pefo(["ca", "push", "--json"]).exits(5),
        "ca push",
        "locked",
    );
    drop(lock);
    a.pefo(["ca", "push"]).exits(0);
    b.pefo(["ca", "push"]).exits(6);
}
