//! An active whose reign has ended learns of it at its next contact, and not one byte of it is taken.

use std::time::Duration;

use pefo_testkit::wait;

use crate::evidence::{fails_as, tree};
use crate::pair::{A, B, Pair};

use super::{noted, seeded_with_services, stands, status};

const LIMIT: Duration = Duration::from_secs(30);

#[test]
fn an_old_active_that_was_cut_off_is_fenced_within_one_contact_and_nothing_of_it_is_taken() {
    let Some(mut pair) = seeded_with_services() else {
        return;
    };
    // A lives and is not reached by B; A's own pushes reach B all the time.
    pair.a.stop_sshd();
    pair.b.pefo(["promote"]).exits(0);
    pair.ca.sign("node1.lab").unwrap();
    let (spool, live) = (
        tree(&pair.b.spool().join("generations")),
        tree(&pair.b.cadir()),
    );
    fails_as(&pair.a, &["ca", "push"], 6, "fenced");
    assert_eq!(tree(&pair.b.spool().join("generations")), spool);
    assert_eq!(tree(&pair.b.cadir()), live);
    // What signs there was stopped, once.
    assert_eq!(noted(&pair.a, "services"), ["stop ca", "stop console"]);
    assert_eq!(noted(&pair.a, "hooks"), [format!("fenced {A} 2 {B}")]);
    for command in [&["push"][..], &["ca", "push"], &["fence"], &["switchover"]] {
        fails_as(&pair.a, command, 6, "fenced");
    }
    assert_eq!(noted(&pair.a, "services").len(), 2);
    assert_eq!(stands(&pair.a), ("active".to_owned(), 1));
}

#[test]
fn a_watch_that_runs_on_the_old_active_ends_by_itself_and_that_of_the_new_one_goes_over() {
    let Some(mut pair) = Pair::seeded() else {
        return;
    };
    let (mut old, _new) = (pair.a.watch(), pair.b.watch());
    let line = || pair.a.watch_log().contains("line is open");
    wait::until("the line", LIMIT, line);
    pair.b.pefo(["promote", "--accept", "peer-active"]).exits(0);
    pair.ca.sign("node1.lab").unwrap();
    wait::until("the end of the old watch", LIMIT, || old.ended().is_some());
    assert!(!pair.b.cadir().join("signed/node1.lab.pem").exists());
    assert!(status(&pair.a)["fenced"].is_string());
    // The new active's watch serves what comes to be its passive, without being started again.
    pair.a.pefo(["demote", "--wait", "40"]).exits(0);
    let mut server = pair.ca.resumed(&pair.b.cadir()).unwrap();
    server.sign("node2.lab").unwrap();
    let arrives = pair.a.cadir().join("signed/node2.lab.pem");
    let arrived = || {
        pair.a.pefo(["ca", "apply"]);
        arrives.exists()
    };
    wait::until("node2 at the old active", LIMIT, arrived);
}

#[test]
fn an_active_asks_at_its_boot_and_does_not_serve_where_its_reign_has_ended() {
    let Some(mut pair) = seeded_with_services() else {
        return;
    };
    let said = pair.a.pefo(["fence"]).exits(0).stdout;
    assert!(
        said.contains("active in epoch 1") && said.contains("1 of 1 peers answer"),
        "{said}"
    );
    pair.a.stop_sshd();
    pair.b.pefo(["promote"]).exits(0);
    // Alone it cannot know.
    pair.b.stop_sshd();
    pair.a.pefo(["fence"]).exits(0);
    assert!(noted(&pair.a, "services").is_empty());
    pair.b.restart_sshd();
    fails_as(&pair.a, &["fence"], 6, "fenced");
    assert_eq!(noted(&pair.a, "services"), ["stop ca", "stop console"]);
}

#[test]
fn a_host_that_is_paused_pushes_and_applies_nothing_until_it_is_resumed() {
    let Some(mut pair) = Pair::seeded() else {
        return;
    };
    pair.a.pefo(["pause", "--reason", "upgrade"]).exits(0);
    let error = crate::evidence::refused_as(&pair.a, &["ca", "push"], "paused");
    assert!(
        error["message"].as_str().unwrap().contains("upgrade"),
        "{error:#}"
    );
    pair.a.pefo(["ca", "push", "--accept", "paused"]).exits(0);
    let told = pair.a.pefo(["status"]).exits(1).stdout;
    assert!(told.contains("paused since"), "{told}");
    pair.a.pefo(["resume"]).exits(0);
    pair.a.pefo(["resume"]).exits(0);
    pair.b.pefo(["pause"]).exits(0);
    pair.ca.sign("node1.lab").unwrap();
    // What is sent is kept.
    pair.a.pefo(["ca", "push"]).exits(0);
    crate::evidence::refused_as(&pair.b, &["ca", "apply"], "paused");
    assert!(!pair.b.cadir().join("signed/node1.lab.pem").exists());
    pair.b.pefo(["resume"]).exits(0);
    pair.b.pefo(["ca", "apply"]).exits(0);
    assert!(pair.b.cadir().join("signed/node1.lab.pem").exists());
}

#[test]
fn a_watch_rests_while_its_host_is_paused_and_goes_on_by_itself() {
    let Some(mut pair) = Pair::seeded() else {
        return;
    };
    let _watches = [pair.a.watch(), pair.b.watch()];
    let line = || pair.a.watch_log().contains("line is open");
    wait::until("the line", LIMIT, line);
    pair.a.pefo(["pause"]).exits(0);
    pair.ca.sign("node1.lab").unwrap();
    let arrives = pair.b.cadir().join("signed/node1.lab.pem");
    // A heartbeat's time and more.
    assert!(wait::within(Duration::from_secs(3), || arrives.exists().then_some(())).is_none());
    pair.a.pefo(["resume"]).exits(0);
    wait::until("node1 at the spare", LIMIT, || arrives.exists());
}
