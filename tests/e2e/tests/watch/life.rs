//! A watch among everything else that goes on: other commands, `pefo status`, requests, what an operator
//! did to the host.

use pefo_core::generation::DataSet;
use pefo_core::request::{Outcome, Subject};
use pefo_testkit::ca::{CaOptions, Keys, TestCa, copy_tree};
use pefo_testkit::masters::{Master, built_binary};
use pefo_testkit::skip;
use serde_json::Value;

use super::{LONG, Watched, ack, refuses};
use crate::evidence::{edit_config, fails_as, generations, tree};
use crate::pair::{A, Pair};
use crate::requests::Asker;

/// Both run, and have seen each other.
fn running() -> Option<Watched> {
    let mut watched = Watched::seeded()?;
    watched.pair.ca.sign("first.lab").unwrap();
    watched.in_step();
    Some(watched)
}

#[test]
fn while_a_watch_runs_nobody_else_does_its_part_and_is_told_what_to_do() {
    let Some(watched) = running() else { return };
    let Pair { a, b, .. } = &watched.pair;
    for (master, command) in [(a, "push"), (a, "watch"), (b, "apply"), (b, "watch")] {
        let error = fails_as(master, &["ca", command], 5, "locked");
        let hint = error["hint"].as_str().unwrap();
        assert!(hint.contains("pefo ca watch"), "{command}: {hint}");
    }
    // Whoever only looks may.
    for master in [a, b] {
        master.pefo(["ca", "diff"]).exits(0);
        master.pefo(["status"]).exits(0);
    }
}

#[test]
fn a_host_that_is_not_set_up_has_nothing_to_watch() {
    let Some(mut alone) = skip::need(Master::prepare(&built_binary(), A)) else {
        return;
    };
    let cadir = alone.cadir();
    alone.use_cadir(&cadir, "");
    fails_as(&alone, &["ca", "watch"], 2, "config");
}

/// The CA's line of `pefo status --json`.
fn status(master: &Master) -> Value {
    let run = master.pefo(["status", "--json"]);
    run.json()["details"]["datasets"][0].clone()
}

#[test]
fn both_sides_are_healthy_and_the_lag_stays_fresh_though_nothing_happens() {
    let Some(mut watched) = running() else { return };
    watched.until("what was applied to be known", || {
        [&watched.pair.a, &watched.pair.b]
            .into_iter()
            .all(|master| {
                let row = status(master);
                row["health"] == "OK" && row["received"] == row["applied"]
            })
    });
    // Nothing is sent from here on but heartbeats.
    let caught_up = || {
        let path = watched.pair.b.state().join("accepted/ca.caught-up.json");
        std::fs::read(path).ok()
    };
    let known = || {
        let path = watched.pair.a.state().join("acks/puppet-b.lab/ca.ack");
        let document = std::fs::read(path).ok()?;
        let start = document.windows(11).position(|at| at == b"\"heartbeat\"")?;
        Some(document[start..start + 40].to_vec())
    };
    let before = (caught_up(), known());
    watched.until("a heartbeat's proof on B", || caught_up() != before.0);
    watched.until("a heartbeat's proof on A", || known() != before.1);
    for master in [&watched.pair.a, &watched.pair.b] {
        master.pefo(["status"]).exits(0);
        let row = status(master);
        assert!(row["lag_seconds"].as_u64().is_some(), "{row:#}");
        assert_eq!(row["received"], row["applied"], "{row:#}");
    }
    watched.both_live();
}

#[test]
fn a_conflict_holds_nothing_else_back_is_named_and_goes_with_its_cause() {
    let Some(mut watched) = running() else { return };
    let elsewhere = watched.pair.a.directory().join("elsewhere");
    let mut other = TestCa::create(
        &elsewhere,
        CaOptions::default()
            .ca_name("Puppet CA: elsewhere")
            .keys(Keys::OtherRsa),
    )
    .unwrap();
    other.sign("forged.lab").unwrap();
    let forged = watched.pair.a.cadir().join("signed/forged.lab.pem");
    std::fs::copy(elsewhere.join("signed/forged.lab.pem"), &forged).unwrap();
    watched.until("B to refuse it", || {
        refuses(&watched.pair.b, "cert-unknown-issuer")
    });
    watched.pair.ca.sign("node1.lab").unwrap();
    watched.pair.ca.revoke("first.lab").unwrap();
    let crl = std::fs::read(watched.pair.a.cadir().join("ca_crl.pem")).unwrap();
    let signed = watched.pair.b.cadir().join("signed");
    watched.until("everything else to come", || {
        signed.join("node1.lab.pem").exists()
            && std::fs::read(watched.pair.b.cadir().join("ca_crl.pem")).unwrap() == crl
    });
    assert!(!signed.join("forged.lab.pem").exists());
    for master in [&watched.pair.a, &watched.pair.b] {
        watched.until("status to name it", || {
            let row = status(master);
            let reason = row["last_failure"]["reason"].to_string();
            row["health"] == "WARNING" && reason.contains("cert-unknown-issuer")
        });
    }
    std::fs::remove_file(&forged).unwrap();
    watched.until("the refusal to go", || {
        ack(&watched.pair.b).is_some_and(|ack| ack.refused.is_empty())
    });
    watched.in_step();
    for master in [&watched.pair.a, &watched.pair.b] {
        watched.until("status to be well", || status(master)["health"] == "OK");
    }
    watched.both_live();
}

#[test]
fn an_active_that_was_restored_from_an_older_state_stops_and_says_why() {
    let Some(pair) = Pair::seeded() else { return };
    let snapshot = pair.a.directory().join("snapshot");
    copy_tree(&pair.a.state(), &snapshot).unwrap();
    let mut watched = Watched::of(pair);
    watched.pair.ca.sign("node1.lab").unwrap();
    watched.in_step();
    watched.kill_a();
    std::fs::remove_dir_all(watched.pair.a.state()).unwrap();
    std::fs::rename(&snapshot, watched.pair.a.state()).unwrap();
    let before = tree(&watched.pair.b.cadir());
    watched.pair.ca.sign("node2.lab").unwrap();
    watched.start_a();
    let mut ended = None;
    pefo_testkit::wait::until("A to stop", LONG, || {
        ended = watched.a.as_mut().unwrap().ended();
        ended.is_some()
    });
    assert_eq!(ended.unwrap().code(), Some(3));
    let log = watched.pair.a.watch_log();
    assert!(log.contains("[source-rolled-back]"), "{log}");
    assert!(tree(&watched.pair.b.cadir()) == before);

    watched
        .pair
        .a
        .pefo(["ca", "push", "--accept", "source-rolled-back"])
        .exits(0);
    watched.start_a();
    watched.in_step();
}

#[test]
fn the_hosts_own_revocations_follow_at_once() {
    let Some(pair) = Pair::paired() else { return };
    let ssldir = pair.b.directory().join("ssl");
    std::fs::create_dir(&ssldir).unwrap();
    edit_config(
        &pair.b,
        "owner = \"root\"",
        &format!("ssldir = \"{}\"\nowner = \"root\"", ssldir.display()),
    );
    let mut watched = Watched::of(pair.seed());
    watched.pair.ca.sign("node1.lab").unwrap();
    watched.in_step();
    for name in ["node1.lab", "node2.lab"] {
        if name == "node2.lab" {
            watched.pair.ca.sign(name).unwrap();
        }
        watched.pair.ca.revoke(name).unwrap();
        watched.until("ssl/crl.pem", || {
            let crl = std::fs::read(ssldir.join("crl.pem")).ok();
            crl == std::fs::read(watched.pair.a.cadir().join("ca_crl.pem")).ok()
        });
    }
}

#[test]
fn what_the_active_asks_is_answered_while_both_watch() {
    let Some(mut watched) = running() else { return };
    let asker = Asker::of(&watched.pair.a);
    let dataset = || DataSet::Ca;
    let Outcome::Items(items) = asker.ask_watched(Subject::Verify { dataset: dataset() }) else {
        panic!("not verified")
    };
    assert_eq!(items.state, super::accepted(&watched.pair.b).state);
    let before = generations(&watched.pair.b, "ca").len();
    let reconcile = Subject::Reconcile { dataset: dataset() };
    assert_eq!(asker.ask_watched(reconcile), Outcome::Done);
    watched.until("the full generation", || {
        generations(&watched.pair.b, "ca").len() > before
    });
    watched.pair.ca.sign("node1.lab").unwrap();
    watched.in_step();
    watched.both_live();
}
