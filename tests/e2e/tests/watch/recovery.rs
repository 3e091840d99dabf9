//! Either watch may die at any moment and be away for long: whoever is back brings both in step.

use super::{Watched, batches, newest, spooled};
use crate::pair::{A, Pair};

/// Certificates that stay, that are revoked and that are cleaned.
fn change(pair: &mut Pair, round: u32) {
    for name in ["stays", "goes", "revoked"] {
        pair.ca.sign(&format!("{name}{round}.lab")).unwrap();
    }
    pair.ca.revoke(&format!("revoked{round}.lab")).unwrap();
    pair.ca.clean(&format!("goes{round}.lab")).unwrap();
    pair.ca.request(&format!("waits{round}.lab")).unwrap();
}

#[test]
fn a_watch_that_is_killed_while_certificates_come_and_go_is_in_step_when_it_is_back() {
    let Some(mut watched) = Watched::seeded() else {
        return;
    };
    for (round, (kills_a, kills_b)) in (0..).zip([
        (true, false),
        (false, true),
        (true, true),
        (false, true),
        (true, false),
    ]) {
        // The kill comes while the first part is on its way.
        change(&mut watched.pair, 10 * round);
        if kills_a {
            watched.kill_a();
        }
        if kills_b {
            watched.kill_b();
        }
        change(&mut watched.pair, 10 * round + 1);
        if kills_a {
            watched.start_a();
        }
        change(&mut watched.pair, 10 * round + 2);
        if kills_b {
            watched.start_b();
        }
        watched.in_step();
    }
    watched.both_live();
}

#[test]
fn a_passive_that_was_away_takes_whatever_piled_up_meanwhile() {
    let Some(mut watched) = Watched::seeded() else {
        return;
    };
    watched.in_step();
    watched.kill_b();
    for round in 0..40 {
        let before = newest(&watched.pair.b);
        watched.pair.ca.sign(&format!("node{round}.lab")).unwrap();
        if let Some(before) = round_before(round) {
            watched.pair.ca.clean(&before).unwrap();
        }
        watched.until("the batch", || newest(&watched.pair.b) > before);
    }
    assert!(batches(&watched.pair.b).len() > 30, "they are no batches");
    watched.until("diff to show the last", || {
        let diff = watched.pair.b.pefo(["ca", "diff"]);
        diff.stdout.contains("node39.lab")
    });
    watched.start_b();
    watched.in_step();
    watched.pair.ca.sign("after.lab").unwrap();
    watched.in_step();
}

/// Every third node is cleaned once the next is there.
fn round_before(round: u32) -> Option<String> {
    (round % 3 == 1).then(|| format!("node{}.lab", round - 1))
}

#[test]
fn an_active_that_was_away_for_days_sends_all_that_happened() {
    let Some(mut watched) = Watched::seeded() else {
        return;
    };
    watched.in_step();
    watched.kill_a();
    let ca = &mut watched.pair.ca;
    ca.fill(300, |number| format!("node{number}.lab")).unwrap();
    for number in 0..10 {
        ca.revoke(&format!("node{number}.lab")).unwrap();
        ca.clean(&format!("node{}.lab", 100 + number)).unwrap();
        ca.renew(&format!("node{}.lab", 200 + number)).unwrap();
    }
    watched.start_a();
    watched.in_step();
    watched.pair.ca.clean("node299.lab").unwrap();
    watched.in_step();
}

/// When the newest heartbeat of A came to B.
fn heartbeat(watched: &Watched) -> Option<std::time::SystemTime> {
    let path = watched.pair.b.spool().join("heartbeats").join(A);
    path.metadata().ok()?.modified().ok()
}

#[test]
fn an_active_killed_before_it_noted_what_it_sent_goes_on_where_its_passive_stands() {
    let Some(mut watched) = Watched::seeded() else {
        return;
    };
    watched.in_step();
    watched.pair.ca.sign("node1.lab").unwrap();
    watched.in_step();
    // Within the second after which it would have been noted.
    watched.kill_a();
    let before = heartbeat(&watched);
    watched.start_a();
    watched.until("a heartbeat", || heartbeat(&watched) > before);
    watched.both_live();
    watched.pair.ca.sign("node2.lab").unwrap();
    watched.in_step();
    watched.both_live();
}

#[test]
fn a_passive_that_finds_its_spool_replaced_goes_on() {
    let Some(mut watched) = Watched::seeded() else {
        return;
    };
    watched.in_step();
    let spool = spooled(&watched.pair.b);
    crate::spool::as_transfer(&format!("mv {0} {0}.away", spool.display()));
    watched.pair.ca.sign("node1.lab").unwrap();
    watched.in_step();
    crate::spool::as_transfer(&format!("rm -r {0} {0}.away", spool.display()));
    watched.pair.ca.revoke("node1.lab").unwrap();
    watched.in_step();
}
