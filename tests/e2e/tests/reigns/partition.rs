//! The line between two masters is cut, and both live: whoever's reign has ended hears of it at the first contact,
//! and nothing that it did meanwhile is taken.

use std::time::Duration;

use pefo_testkit::child::Child;
use pefo_testkit::masters::{self, Master};
use pefo_testkit::network::Network;
use pefo_testkit::{skip, wait};
use serde_json::Value;

use crate::evidence::{fails_as, tree};
use crate::pair::{A, Pair};

use super::{noted, services, stands, status};

const LIMIT: Duration = Duration::from_secs(60);
const STOPPED: [&str; 2] = ["stop ca", "stop console"];

/// A and B on hosts of their own, B seeded; both note what is stopped and started.
fn seeded_on(network: &Network, io_timeout: Duration) -> Option<Pair> {
    let mut pair = Pair::prepared_on(network)?;
    for master in [&mut pair.a, &mut pair.b] {
        master.set_timeouts(Duration::from_secs(2), io_timeout);
        let sections = services(master);
        master.configure(&sections);
    }
    masters::pair(&pair.a, &pair.b);
    Some(pair.seed())
}

/// Both run, and a certificate that A signed is on B.
fn running(pair: &mut Pair) -> (Child, Child) {
    let running = (pair.a.watch(), pair.b.watch());
    pair.ca.sign("seen.lab").unwrap();
    let arrives = pair.b.cadir().join("signed/seen.lab.pem");
    wait::until("seen.lab at B", LIMIT, || arrives.exists());
    running
}

/// The sessions that a master's receiver has ended, as it wrote them down.
fn sessions(master: &Master) -> Vec<Value> {
    let log = std::fs::read_to_string(master.spool().join("receive.log")).unwrap_or_default();
    let entry = |line| serde_json::from_str(line).unwrap();
    log.lines().map(entry).collect()
}

/// Those of them that were told that their reign is over.
fn fenced(master: &Master) -> Vec<Value> {
    let mut sessions = sessions(master);
    sessions.retain(|session| session["ended"] == "fenced");
    sessions
}

/// How often the watch has opened its line.
fn lines_opened(master: &Master) -> usize {
    master.watch_log().matches("line is open").count()
}

fn tries_in_vain(master: &Master) -> bool {
    master.watch_log().contains("the line failed, trying again")
}

/// What a master has received, and the CA that it serves.
fn held(master: &Master) -> [crate::evidence::Tree; 2] {
    [
        tree(&master.spool().join("generations")),
        tree(&master.cadir()),
    ]
}

/// The watch of an old active ends by itself, what signs there is stopped, and its pushes say why.
#[track_caller]
fn has_ended(old: &mut Child, master: &Master) {
    wait::until("the end of the old watch", LIMIT, || old.ended().is_some());
    let code = old.ended().and_then(|status| status.code());
    assert_eq!(code, Some(6), "{}", master.watch_log());
    assert_eq!(noted(master, "services"), STOPPED);
    assert!(status(master)["fenced"].is_string());
    fails_as(master, &["ca", "push"], 6, "fenced");
    assert_eq!(noted(master, "services"), STOPPED);
}

#[test]
fn of_two_that_sign_on_both_sides_of_a_cut_the_older_ends_at_its_first_contact_and_nothing_of_it_is_taken()
 {
    let Some(network) = skip::need(Network::create(["a", "b"])) else {
        return;
    };
    let Some(mut pair) = seeded_on(&network, Duration::from_secs(5)) else {
        return;
    };
    let (mut old, _new) = running(&mut pair);
    network.cut(network.host("a"));
    // Nobody's word is needed: A does not answer.
    pair.b.pefo(["promote"]).exits(0);
    let mut server = pair.ca.resumed(&pair.b.cadir()).unwrap();
    for n in 0..3 {
        pair.ca.sign(&format!("unseen{n}.lab")).unwrap();
        server.sign(&format!("new{n}.lab")).unwrap();
    }
    pair.ca.revoke("seen.lab").unwrap();
    server.revoke("new0.lab").unwrap();
    wait::until("A's watch to try in vain", LIMIT, || tries_in_vain(&pair.a));
    assert!(old.ended().is_none(), "it knows nothing yet");
    assert_eq!(stands(&pair.a), ("active".to_owned(), 1));
    assert!(noted(&pair.a, "services").is_empty());

    let before = held(&pair.b);
    assert!(fenced(&pair.b).is_empty());
    network.mend(network.host("a"));
    wait::until("the end of the old watch", LIMIT, || old.ended().is_some());
    // Or none, where B's own contact came first.
    assert!(fenced(&pair.b).len() <= 1, "{:#?}", sessions(&pair.b));
    has_ended(&mut old, &pair.a);
    assert!(before == held(&pair.b), "something of A's was taken");
    assert_eq!(stands(&pair.b), ("active".to_owned(), 2));
}

#[test]
fn a_session_that_outlives_a_short_cut_carries_nothing_of_a_reign_that_ended_meanwhile() {
    let Some(network) = skip::need(Network::create(["a", "b"])) else {
        return;
    };
    // A waits long enough for a sign of life to keep its session across the cut.
    let Some(mut pair) = seeded_on(&network, Duration::from_secs(60)) else {
        return;
    };
    let (mut old, new) = running(&mut pair);
    network.cut(network.host("a"));
    // It would tell A by a session of its own.
    drop(new);
    // On their way when the reign ends, and resent by the kernel until they arrive.
    pair.ca.sign("unseen.lab").unwrap();
    pair.ca.revoke("seen.lab").unwrap();
    pair.b.pefo(["promote"]).exits(0);
    let before = held(&pair.b);
    let (opened, ended) = (lines_opened(&pair.a), sessions(&pair.b).len());
    assert_eq!(opened, 1);
    network.mend(network.host("a"));
    wait::until("the end of the old watch", LIMIT, || old.ended().is_some());
    // It was told on the session that it had, and asked once who reigns.
    assert_eq!(lines_opened(&pair.a), 1);
    let told = sessions(&pair.b).split_off(ended);
    let told: Vec<_> = told
        .iter()
        .filter(|session| session["peer"] == A)
        .map(|session| (session["purpose"].as_str(), session["ended"].as_str()))
        .collect();
    assert_eq!(
        told,
        [(Some("ca"), Some("wrong_role")), (Some("ask"), Some("ok"))]
    );
    has_ended(&mut old, &pair.a);
    assert!(before == held(&pair.b), "something of A's was taken");
}

#[test]
fn an_active_that_cannot_reach_its_successor_ends_once_that_has_reached_it() {
    let Some(network) = skip::need(Network::create(["a", "b"])) else {
        return;
    };
    let Some(mut pair) = seeded_on(&network, Duration::from_secs(5)) else {
        return;
    };
    let (mut old, _new) = running(&mut pair);
    // Only B gets through to the other, and A has something to send all the time.
    pair.b.stop_sshd();
    pair.ca.sign("unseen0.lab").unwrap();
    wait::until("A's watch to try in vain", LIMIT, || tries_in_vain(&pair.a));
    pair.ca.sign("unseen1.lab").unwrap();
    pair.b.pefo(["promote", "--accept", "peer-active"]).exits(0);
    has_ended(&mut old, &pair.a);
}
