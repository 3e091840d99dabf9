//! What monitoring reads: plugins' exit codes and perfdata, the original module's alert line, and the
//! status as people read it.

use std::collections::BTreeMap;

use pefo_core::lock::Lock;
use pefo_testkit::masters::{self, Master, Run};

use super::{NAME, words};
use crate::pair::Pair;

#[test]
fn alerts_made_for_the_original_find_its_line() {
    let Some(mut pair) = Pair::seeded() else {
        return;
    };
    pair.ca.sign("node1.lab").unwrap();
    let line = |master: &Master, arguments: &[&str], code| {
        let run = master
            .pefo(
                arguments
                    .iter()
                    .copied()
                    .chain(["--log-format", "pe_failover"]),
            )
            .exits(code);
        let lines: Vec<&str> = run
            .stderr
            .lines()
            .filter(|line| line.starts_with("PE_FAILOVER: "))
            .collect();
        let [line] = lines[..] else {
            panic!("{}: {}", run.line, run.stderr)
        };
        assert!(line.len() > "PE_FAILOVER: x ---> [y] ".len(), "{line}");
        line.to_owned()
    };
    assert!(
        line(&pair.a, &["ca", "push"], 0)
            .starts_with("PE_FAILOVER: sync_certs.sh ---> [SUCCESS] ca: sent ")
    );
    assert!(
        line(&pair.b, &["ca", "apply"], 0)
            .starts_with("PE_FAILOVER: update_passive_ca.sh ---> [SUCCESS] ca: applied ")
    );
    for (command, script) in [
        ("nc export", "nc_dump.sh"),
        ("nc push", "sync_nc_dumps.sh"),
        ("db dump", "db_dump.sh"),
        ("db push", "sync_dbs.sh"),
        ("ca push", "sync_certs.sh"),
    ] {
        let words: Vec<&str> = words(command)
            .chain(command.starts_with("db").then_some(NAME))
            .collect();
        let told = line(&pair.b, &words, 6);
        assert!(
            told.starts_with(&format!(
                "PE_FAILOVER: {script} ---> [FAILURE] this host is the passive"
            )),
            "{told}"
        );
    }
    for (command, script) in [
        ("nc restore", "restore_nc.sh"),
        ("db restore", "restore_dbs.sh"),
        ("ca apply", "update_passive_ca.sh"),
    ] {
        let words: Vec<&str> = words(command)
            .chain(command.starts_with("db").then_some(NAME))
            .collect();
        let told = line(&pair.a, &words, 6);
        assert!(
            told.starts_with(&format!(
                "PE_FAILOVER: {script} ---> [FAILURE] this host is the active"
            )),
            "{told}"
        );
    }
    let _lock = Lock::take(&pair.a.state().join("locks/push-ca.lock")).unwrap();
    assert!(
        line(&pair.a, &["ca", "push"], 5).starts_with("PE_FAILOVER: sync_certs.sh ---> [WARNING] ")
    );
    // What monitoring is told, the line tells too.
    std::fs::rename(pair.a.state().join("keys"), pair.a.state().join("away")).unwrap();
    assert!(line(&pair.a, &["check"], 2).starts_with("PE_FAILOVER: check ---> [FAILURE] "));
}

/// The numbers of a monitoring plugin's first line, by label.
#[track_caller]
fn perfdata(run: &Run) -> BTreeMap<String, u64> {
    let first = run.stdout.lines().next().unwrap();
    let (_, data) = first
        .split_once(" | ")
        .unwrap_or_else(|| panic!("{}: no perfdata: {first}", run.line));
    // A value, its unit, and from where on it is too much.
    let number = |value: &str| {
        let value = value.split(';').next().unwrap();
        let value = value.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
        value.parse().unwrap()
    };
    let one = |item: &str| {
        let (label, value) = item.split_once('=').unwrap();
        let label = label
            .strip_prefix('\'')
            .and_then(|label| label.strip_suffix('\''))
            .unwrap();
        (label.to_owned(), number(value))
    };
    data.split(' ').map(one).collect()
}

#[test]
fn status_and_check_answer_as_monitoring_plugins() {
    let Some(mut pair) = Pair::prepared() else {
        return;
    };
    let run = pair.a.pefo(["status"]).exits(3);
    assert!(
        run.stdout
            .starts_with("PEFO UNKNOWN: this host is not set up"),
        "{run:?}"
    );
    assert!(
        pair.a
            .pefo(["check"])
            .exits(2)
            .stdout
            .starts_with("PEFO CRITICAL: ")
    );
    masters::pair(&pair.a, &pair.b);
    for master in [&pair.a, &pair.b] {
        assert!(
            master
                .pefo(["status"])
                .exits(2)
                .stdout
                .starts_with("PEFO CRITICAL: "),
            "nothing was ever applied"
        );
    }
    // A spare without a CA can still be seeded.
    let run = pair.b.pefo(["check"]).exits(1);
    assert!(run.stdout.starts_with("PEFO WARNING: "), "{}", run.stdout);
    assert_eq!(perfdata(&run)["failed"], 1);
    pair.a.pefo(["ca", "push", "--seed"]).exits(0);
    pair.b.pefo(["ca", "apply"]).exits(0);
    pair.sync();
    // The passive's answer reaches the active with the next push.
    pair.a.pefo(["ca", "push"]).exits(0);
    for (master, label) in [(&pair.a, "ca@puppet-b.lab_lag"), (&pair.b, "ca_lag")] {
        let run = master.pefo(["status"]).exits(0);
        assert!(run.stdout.starts_with("PEFO OK: "), "{}", run.stdout);
        assert!(perfdata(&run)[label] < 600, "{}", run.stdout);
        let run = master.pefo(["check"]).exits(0);
        assert!(run.stdout.starts_with("PEFO OK: "), "{}", run.stdout);
        assert_eq!(perfdata(&run)["failed"], 0);
    }
    // A push that failed after one that did not.
    pair.ca.sign("node1.lab").unwrap();
    let (crl, away) = (
        pair.a.cadir().join("ca_crl.pem"),
        pair.a.directory().join("away"),
    );
    std::fs::rename(&crl, &away).unwrap();
    pair.a.pefo(["ca", "push"]);
    let run = pair.a.pefo(["status"]).exits(1);
    assert!(
        run.stdout.starts_with("PEFO WARNING: ") && run.stdout.contains("failing since"),
        "{}",
        run.stdout
    );
    assert!(
        pair.a
            .pefo(["check"])
            .exits(2)
            .stdout
            .starts_with("PEFO CRITICAL: ")
    );
    std::fs::rename(&away, &crl).unwrap();
    pair.sync();
    pair.a.pefo(["status"]).exits(0);
}

/// The text with every number `N`, and every time `TIME`.
fn normalised(text: &str) -> String {
    let mut plain = String::new();
    for letter in text.chars() {
        if !letter.is_ascii_digit() {
            plain.push(letter);
        } else if !plain.ends_with('N') {
            plain.push('N');
        }
    }
    plain
        .replace("N-N-NTN:N:N.NZ", "TIME")
        .replace("N-N-NTN:N:NZ", "TIME")
}

#[test]
fn the_status_reads_as_people_know_it() {
    let Some(pair) = Pair::seeded() else { return };
    pair.a.pefo(["ca", "push"]).exits(0);
    let told = |master: &Master| {
        let text = master.pefo(["status"]).exits(0).stdout;
        normalised(&text.replace(&master.directory().display().to_string(), "DIR"))
    };
    insta::assert_snapshot!(told(&pair.a), @r"
    PEFO OK: puppet-a.lab is active in epoch N (held by puppet-a.lab since TIME), peer puppet-b.lab | 'ca@puppet-b.lab_lag'=Ns;N;N;N 'ca@puppet-b.lab_age'=Ns;;;N 'ca@puppet-b.lab_refusals'=N;N;;N 'spool_used'=NB;;;N 'spool_free'=NB;N:;N:;N 'state_used'=NB;;;N 'state_free'=NB;N:;N:;N
      ca → puppet-b.lab    delivered N-N, applied N-N, lag N s, last success TIME, next TIME
      spool                used N MiB, free N MiB, DIR/spool
      state                used N MiB, free N MiB, DIR/state
    ");
    insta::assert_snapshot!(told(&pair.b), @r"
    PEFO OK: puppet-b.lab is passive in epoch N (held by puppet-a.lab since TIME), peer puppet-a.lab | 'ca_lag'=Ns;N;N;N 'ca_age'=Ns;;;N 'ca_refusals'=N;N;;N 'spool_used'=NB;;;N 'spool_free'=NB;N:;N:;N 'state_used'=NB;;;N 'state_free'=NB;N:;N:;N
      ca                   accepted N-N, applied N-N, lag N s, last success TIME, next TIME
      spool                used N MiB, free N MiB, DIR/spool
      state                used N MiB, free N MiB, DIR/state
    ");
}
