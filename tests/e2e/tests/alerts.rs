//! Every alert that docs/status.md names: provoked, seen by whoever is told of it, and cleared.

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pefo_core::Certname;
use pefo_core::ack::Ack;
use pefo_core::disk::Disk;
use pefo_core::document;
use pefo_core::keys::SigningKey;
use pefo_core::reign::{Epoch, Role, Station};
use pefo_testkit::masters::{self, Master};
use pefo_testkit::wait;
use serde_json::Value;

use crate::evidence::{edit_config, refused_as};
use crate::full_disk::Small;
use crate::pair::{A, B, Pair};
use crate::reigns::status;

const LONG: Duration = Duration::from_secs(60);

/// Where a master's metrics are written.
fn textfile(master: &Master) -> PathBuf {
    master.directory().join("pefo.prom")
}

/// All who are told: Prometheus, and hooks that write down what they hear.
fn tells(master: &mut Master) {
    let file = master.directory().join("hooks").display().to_string();
    let hook =
        |name: &str| format!("[\"sh\", \"-c\", 'echo \"$@\" >> {file}', \"sh\", \"{name}\"]");
    let sections = format!(
        "[metrics]\ntextfile = {:?}\n\n[hooks]\nfailed = {}\nrecovered = {}\n\n",
        textfile(master).display().to_string(),
        hook("failed"),
        hook("recovered")
    );
    master.configure(&sections);
}

/// What hooks were told.
fn hooks(master: &Master) -> Vec<String> {
    let text = std::fs::read_to_string(master.directory().join("hooks")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// The value of a metric in a master's file.
fn metric(master: &Master, name: &str) -> Option<f64> {
    let text = std::fs::read_to_string(textfile(master)).unwrap();
    let ends = |line: &&str| {
        let rest = line.strip_prefix(name);
        rest.is_some_and(|rest| rest.starts_with([' ', '{']))
    };
    let line = text.lines().find(ends)?;
    line.rsplit(' ').next()?.parse().ok()
}

/// The problems of a kind that a master's status tells, wherever it does.
pub(crate) fn problems(master: &Master, kind: &str) -> Vec<Value> {
    let status = status(master);
    let mut all = status["problems"].as_array().unwrap().clone();
    for row in status["datasets"].as_array().unwrap() {
        all.extend(row["problems"].as_array().unwrap().iter().cloned());
    }
    for space in status["disk"].as_array().unwrap() {
        all.extend(Some(space["problem"].clone()).filter(|it| !it.is_null()));
    }
    all.retain(|problem| problem["kind"] == kind);
    for problem in &all {
        assert!(!problem["hint"].as_str().unwrap().is_empty(), "{problem}");
    }
    all
}

/// The plugin's first line, and its exit code.
fn plugin(master: &Master) -> (i32, String) {
    let run = master.pefo(["status"]);
    (run.code, run.stdout.lines().next().unwrap().to_owned())
}

/// In step, and both are known to be.
fn in_step() -> Option<Pair> {
    let mut pair = Pair::prepared()?;
    tells(&mut pair.a);
    tells(&mut pair.b);
    masters::pair(&pair.a, &pair.b);
    let pair = pair.seed();
    pair.sync();
    pair.a.pefo(["ca", "push"]).exits(0);
    for master in [&pair.a, &pair.b] {
        master.pefo(["status"]).exits(0);
        assert_eq!(metric(master, "pefo_health"), Some(0.0));
        assert!(hooks(master).is_empty());
    }
    Some(pair)
}

#[test]
fn a_spare_that_lags_is_told_as_critical_on_both_sides_until_it_follows_again() {
    let Some(mut pair) = in_step() else { return };
    for master in [&mut pair.a, &mut pair.b] {
        master.configure("[status]\nca = { warn_lag = \"1 s\", critical_lag = \"4 s\" }\n\n");
    }
    // Nobody pushes.
    for (master, label) in [(&pair.a, "ca@puppet-b.lab"), (&pair.b, "ca")] {
        wait::until("the lag to be critical", LONG, || plugin(master).0 == 2);
        let (_, line) = plugin(master);
        let first = format!("PEFO CRITICAL: {label}: nothing was proved to be applied for ");
        assert!(line.starts_with(&first), "{line}");
        assert!(
            line.contains(&format!(" '{label}_lag'=")) && line.contains("s;1;4;0"),
            "{line}"
        );
        assert_eq!(problems(master, "lag").len(), 1);
    }
    let last = metric(&pair.a, "pefo_caught_up_timestamp_seconds").unwrap();
    wait::until("both to be well again", LONG, || {
        pair.sync();
        pair.a.pefo(["ca", "push"]).exits(0);
        plugin(&pair.a).0 == 0 && plugin(&pair.b).0 == 0
    });
    assert!(metric(&pair.a, "pefo_caught_up_timestamp_seconds").unwrap() > last);
}

#[test]
fn a_push_that_fails_is_told_to_all_once_and_so_is_that_it_is_over() {
    let Some(mut pair) = in_step() else { return };
    let socket = pair.a.directory().join("log");
    let log = UnixDatagram::bind(&socket).unwrap();
    log.set_read_timeout(Some(LONG)).unwrap();
    let section = format!("[log]\nsyslog = {:?}\n\n", socket.display().to_string());
    pair.a.configure(&section);
    let said = |log: &UnixDatagram| {
        let mut bytes = [0; 4096];
        let length = log.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    };
    pair.b.stop_sshd();
    for _ in 0..2 {
        assert_ne!(pair.a.pefo(["ca", "push"]).code, 0);
        let said = said(&log);
        assert!(
            said.starts_with("<27>pefo[")
                && said.contains("]: PE_FAILOVER: sync_certs.sh ---> [FAILURE] puppet-b.lab: "),
            "{said}"
        );
    }
    let (code, line) = plugin(&pair.a);
    assert_eq!(code, 1, "{line}");
    assert!(line.contains("failing since"), "{line}");
    assert_eq!(problems(&pair.a, "failing").len(), 1);
    assert_eq!(metric(&pair.a, "pefo_failing"), Some(1.0));
    let [failed] = &hooks(&pair.a)[..] else {
        panic!("{:?}", hooks(&pair.a))
    };
    assert!(
        failed.starts_with("failed ca failing 20") && failed.contains(B),
        "{failed}"
    );

    pair.b.restart_sshd();
    pair.a.pefo(["ca", "push"]).exits(0);
    assert!(said(&log).contains("PE_FAILOVER: sync_certs.sh ---> [SUCCESS] ca: unchanged"));
    pair.a.pefo(["ca", "push"]).exits(0);
    pair.a.pefo(["status"]).exits(0);
    assert_eq!(metric(&pair.a, "pefo_failing"), Some(0.0));
    let told = hooks(&pair.a);
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[1].starts_with("recovered ca failing 20"), "{told:?}");
}

#[test]
fn a_watch_that_loses_its_peer_tells_it_and_tells_that_it_is_back() {
    let Some(mut pair) = in_step() else { return };
    pair.a
        .set_timeouts(Duration::from_secs(3), Duration::from_secs(5));
    let watch = pair.a.watch();
    let told = |what: &str, start: &str| {
        wait::until(what, LONG, || {
            hooks(&pair.a).iter().any(|line| line.starts_with(start))
        });
    };
    pair.b.stop_sshd();
    told("the hook of a failure", "failed ca failing ");
    wait::until("the metrics to tell it", LONG, || {
        metric(&pair.a, "pefo_failing") == Some(1.0)
    });
    pair.b.restart_sshd();
    told("the hook of a recovery", "recovered ca failing ");
    assert_eq!(hooks(&pair.a).len(), 2);
    assert!(problems(&pair.a, "watch").is_empty());
    drop(watch);

    // Nobody watches any more, and nobody was told to stop.
    assert_eq!(problems(&pair.a, "watch").len(), 1);
    let (code, line) = plugin(&pair.a);
    assert!(
        code == 1 && line.contains("the CA was watched and is not any more"),
        "{line}"
    );
    pair.a.pefo(["ca", "push"]).exits(0);
    assert!(problems(&pair.a, "watch").is_empty());
    assert_eq!(metric(&pair.a, "pefo_watch_missing"), Some(0.0));
}

#[test]
fn a_watch_speaks_as_the_original_did_to_whose_alerts_match_it() {
    let Some(mut pair) = in_step() else { return };
    pair.a
        .set_timeouts(Duration::from_secs(3), Duration::from_secs(5));
    let path = pair.a.directory().join("lines");
    let mut command = pair.a.command();
    command
        .args(["--log-format", "pe_failover", "ca", "watch"])
        .stderr(std::fs::File::create(&path).unwrap());
    let watch = pefo_testkit::child::Child::spawn(&mut command);
    let has = |line: &str| {
        let text = std::fs::read_to_string(&path).unwrap();
        text.lines().any(|it| it.starts_with(line))
    };
    let until = |line: &str| wait::until(line, LONG, || has(line));
    until("PE_FAILOVER: sync_certs.sh ---> [SUCCESS] ca: ");
    pair.b.stop_sshd();
    until("PE_FAILOVER: sync_certs.sh ---> [FAILURE] ca: puppet-b.lab: ");
    pair.b.restart_sshd();
    until("PE_FAILOVER: sync_certs.sh ---> [SUCCESS] ca: goes well again");
    drop(watch);
    let text = std::fs::read_to_string(&path).unwrap();
    for line in text.lines() {
        assert!(line.starts_with("PE_FAILOVER: "), "{line}");
    }
}

#[test]
fn a_rule_that_refuses_is_told_on_both_sides_until_it_is_overruled() {
    let Some(mut pair) = in_step() else { return };
    pair.ca.sign("node1.lab").unwrap();
    let serial = pair.ca.revoke("node1.lab").unwrap();
    pair.sync();
    pair.ca.resign_crl(&[serial]).unwrap();
    pair.a.pefo(["ca", "push"]).exits(0);
    refused_as(&pair.b, &["ca", "apply"], "crl-shrink");
    pair.a.pefo(["ca", "push"]).exits(0);
    for master in [&pair.a, &pair.b] {
        assert_eq!(plugin(master).0, 1);
        let status = status(master);
        assert_eq!(status["datasets"][0]["refused"][0], "crl-shrink");
        assert_eq!(metric(master, "pefo_refusals"), Some(1.0));
        assert!(!problems(master, "refused").is_empty());
        assert!(
            hooks(master)[0].starts_with("failed ca crl-shrink "),
            "{:?}",
            hooks(master)
        );
    }
    pair.b
        .pefo(["ca", "apply", "--accept", "crl-shrink"])
        .exits(0);
    pair.a.pefo(["ca", "push"]).exits(0);
    for master in [&pair.a, &pair.b] {
        master.pefo(["status"]).exits(0);
        assert_eq!(metric(master, "pefo_refusals"), Some(0.0));
        assert!(hooks(master)[1].starts_with("recovered ca crl-shrink "));
    }
}

#[test]
fn a_host_that_rests_says_so_and_alarms_nobody() {
    let Some(pair) = in_step() else { return };
    pair.a.pefo(["pause", "--reason", "upgrade"]).exits(0);
    refused_as(&pair.a, &["ca", "push"], "paused");
    assert_eq!(metric(&pair.a, "pefo_paused"), Some(1.0));
    let (code, line) = plugin(&pair.a);
    assert!(
        code == 1 && line.starts_with("PEFO WARNING: paused since "),
        "{line}"
    );
    pair.a.pefo(["resume"]).exits(0);
    assert_eq!(metric(&pair.a, "pefo_paused"), Some(0.0));
    pair.a.pefo(["status"]).exits(0);
    assert!(hooks(&pair.a).is_empty());
}

#[test]
fn a_host_whose_reign_has_ended_says_so_and_one_that_has_returned_what_it_waits_for() {
    let Some(pair) = in_step() else { return };
    pair.b.pefo(["promote", "--accept", "peer-active"]).exits(0);
    assert_ne!(pair.a.pefo(["ca", "push"]).code, 0);
    let (code, line) = plugin(&pair.a);
    assert!(
        code == 2 && line.starts_with("PEFO CRITICAL: FENCED: epoch 1 has ended"),
        "{line}"
    );
    assert_eq!(metric(&pair.a, "pefo_fenced"), Some(1.0));
    pair.a.pefo(["demote", "--wait", "0"]).exits(4);
    assert_eq!(metric(&pair.a, "pefo_fenced"), Some(0.0));
    let status = status(&pair.a);
    assert!(
        status["unfinished"][0]
            .as_str()
            .unwrap()
            .contains("this host has returned"),
        "{status:#}"
    );
    assert_eq!(metric(&pair.a, "pefo_unfinished"), Some(1.0));
    pair.b.pefo(["ca", "push"]).exits(0);
    pair.a.pefo(["demote", "--wait", "20"]).exits(0);
    pair.a.pefo(["ca", "apply"]).exits(0);
    assert_eq!(metric(&pair.a, "pefo_unfinished"), Some(0.0));
    pair.a.pefo(["status"]).exits(0);
    assert!(hooks(&pair.a).is_empty(), "{:?}", hooks(&pair.a));
}

#[test]
fn a_disk_that_fills_is_told_before_anything_is_refused() {
    let Some(pair) = in_step() else { return };
    {
        let Some(_small) = Small::mount(&pair.b.spool(), 100 * 1024) else {
            return;
        };
        let (code, line) = plugin(&pair.b);
        assert_eq!(code, 2, "{line}");
        assert!(line.contains(" MiB are free where the spool is"), "{line}");
        assert_eq!(problems(&pair.b, "disk").len(), 1);
    }
    pair.b.pefo(["status"]).exits(0);
    edit_config(
        &pair.b,
        "[metrics]",
        "[status]\nwarn_free = \"1000000 GiB\"\n\n[metrics]",
    );
    pair.b.pefo(["status"]).exits(1);
}

#[test]
fn a_spare_with_another_time_is_told_apart_from_one_that_lags() {
    let Some(pair) = in_step() else { return };
    // What the spare's root would say if its clock were an hour ahead.
    let path = pair.b.state().join("public/acks/ca.ack");
    let before = std::fs::read(&path).unwrap();
    let key = SigningKey::load(&pair.b.state().join("keys/signing.key")).unwrap();
    let mut ack: Ack = document::split(&before).unwrap().peek().unwrap();
    assert_eq!(ack.certname, Certname::new(B).unwrap());
    ack.time = ack.time.plus(Duration::from_secs(3600));
    std::fs::write(&path, ack.sign(&key).unwrap()).unwrap();
    pair.a.pefo(["ca", "push"]).exits(0);
    let [problem] = &problems(&pair.a, "skew")[..] else {
        panic!("{:#}", status(&pair.a))
    };
    assert!(
        problem["what"]
            .as_str()
            .unwrap()
            .contains(" s ahead of this host's"),
        "{problem}"
    );
    assert!(metric(&pair.a, "pefo_clock_skew_seconds").unwrap() > 3500.0);
    assert!(problems(&pair.a, "lag").is_empty());
    pair.b.pefo(["ca", "apply"]).exits(0);
    pair.a.pefo(["ca", "push"]).exits(0);
    pair.a.pefo(["status"]).exits(0);
    assert_eq!(metric(&pair.a, "pefo_clock_skew_seconds"), Some(0.0));
}

#[test]
fn a_pair_that_was_never_in_step_says_what_is_to_be_done() {
    let Some(mut pair) = Pair::prepared() else {
        return;
    };
    let limits = "[status]\nca = { warn_lag = \"1 s\", critical_lag = \"2 s\" }\n\n";
    pair.a.configure(limits);
    masters::pair(&pair.a, &pair.b);
    assert_eq!(problems(&pair.b, "unproved").len(), 1);
    assert_eq!(plugin(&pair.b).0, 2);
    pair.a.pefo(["ca", "push", "--seed"]).exits(0);
    wait::until("the spare's silence to be told", LONG, || {
        !problems(&pair.a, "silent").is_empty()
    });
    pair.b.pefo(["ca", "apply"]).exits(0);
    assert!(problems(&pair.b, "unproved").is_empty());
    pair.a.pefo(["ca", "push"]).exits(0);
    assert!(problems(&pair.a, "silent").is_empty());
}

#[test]
fn a_change_of_role_that_was_broken_off_is_told_until_it_goes_on() {
    let Some(pair) = in_step() else { return };
    // As a promotion leaves it that is killed once it has fenced itself.
    let path = pair.b.state().join("public/station.json");
    let station = Station::load(&path).unwrap();
    let station = station.about_to(Role::Active, Epoch(2));
    station.store(&Disk::new(), &path).unwrap();
    assert_eq!(plugin(&pair.b).0, 2);
    assert!(!status(&pair.b)["changing"].is_null());
    let told = pair.b.pefo(["status", "--metrics"]).exits(0).stdout;
    assert!(told.contains("\npefo_changing 1\n"), "{told}");
    pair.b.pefo(["promote", "--accept", "peer-active"]).exits(0);
    assert_eq!(metric(&pair.b, "pefo_changing"), Some(0.0));
    assert!(hooks(&pair.b).is_empty());
}

#[test]
fn a_host_whose_state_cannot_be_read_says_that_nothing_can_be_told() {
    let Some(pair) = in_step() else { return };
    let ledger = pair.b.state().join("accepted/ca.json");
    let before = std::fs::read(&ledger).unwrap();
    std::fs::write(&ledger, "{").unwrap();
    assert_ne!(pair.b.pefo(["ca", "apply"]).code, 0);
    let (code, line) = plugin(&pair.b);
    assert!(code == 3 && line.starts_with("PEFO UNKNOWN: "), "{line}");
    assert_eq!(metric(&pair.b, "pefo_up"), Some(0.0));
    assert_eq!(metric(&pair.b, "pefo_gathered_timestamp_seconds"), None);
    std::fs::write(&ledger, before).unwrap();
    pair.b.pefo(["ca", "apply"]).exits(0);
    assert_eq!(metric(&pair.b, "pefo_up"), Some(1.0));
    assert!(metric(&pair.b, "pefo_gathered_timestamp_seconds").unwrap() > 1e9);
    pair.b.pefo(["status"]).exits(0);
}

#[test]
fn the_guide_names_the_alerts_that_are_provoked_here() {
    let guide = include_str!("../../../docs/status.md");
    let (_, table) = guide.split_once("## Alerts").unwrap();
    let (table, _) = table.split_once("## JSON").unwrap();
    let named = |line: &str| Some(line.strip_prefix("| `")?.split_once('`')?.0.to_owned());
    let names: Vec<String> = table.lines().filter_map(named).collect();
    let provoked = [
        "lag",
        "failing",
        "refused",
        "unproved",
        "silent",
        // In the tests of code.
        "drift",
        "skew",
        "watch",
        "disk",
        // In the tests of the endpoint.
        "health",
        "fenced",
        "changing",
        "paused",
        "unfinished",
        "stale",
    ];
    assert_eq!(names, provoked);
}

#[test]
fn the_metrics_are_what_prometheus_reads() {
    let Some(pair) = in_step() else { return };
    let read = |path: &Path| {
        let script = "import sys\nfrom prometheus_client.parser import text_string_to_metric_families as read\n\
             for family in read(open(sys.argv[1]).read()):\n  assert family.documentation and family.type == 'gauge', family\n  print(family.name, len(family.samples))\n";
        let mut command = std::process::Command::new("/usr/bin/python3");
        let output = command.args(["-c", script]).arg(path).output();
        let output = output.ok().filter(|it| {
            !String::from_utf8_lossy(&it.stderr).contains("No module named 'prometheus_client'")
        });
        let why = "Prometheus's own parser is not there: install python3-prometheus-client";
        if !pefo_testkit::skip::unless(output.is_some(), "needs-prometheus-client", why) {
            return None;
        }
        let output = output.unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        Some(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let Some(families) = read(&textfile(&pair.a)) else {
        return;
    };
    for name in [
        "pefo_up 1",
        "pefo_role 2",
        "pefo_lag_seconds 1",
        "pefo_last_success_timestamp_seconds 1",
    ] {
        assert!(families.lines().any(|line| line == name), "{families}");
    }
    // On standard output, the same.
    let told = pair.a.pefo(["status", "--metrics"]).exits(0).stdout;
    let names = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| line.starts_with("# TYPE"));
        lines.map(str::to_owned).collect()
    };
    let file = std::fs::read_to_string(textfile(&pair.a)).unwrap();
    assert_eq!(names(&told), names(&file));
    assert_eq!(status(&pair.a)["certname"], A);
}
