//! What an active's watch is told by its CA directory: floods, torn files, a directory that is away.

use pefo_testkit::ca::CaOptions;
use pefo_testkit::masters;

use super::Watched;
use crate::evidence::tree;
use crate::pair::Pair;

/// How many events the kernel keeps for one watch.
fn event_limit() -> usize {
    let path = "/proc/sys/fs/inotify/max_queued_events";
    let text = std::fs::read_to_string(path).unwrap();
    text.trim().parse().unwrap()
}

#[test]
fn more_events_than_the_kernel_keeps_lose_nothing() {
    let Some(mut watched) = Watched::seeded() else {
        return;
    };
    watched.pair.ca.sign("node1.lab").unwrap();
    watched.in_step();
    watched.while_a_is_held(|pair| {
        let requests = pair.a.cadir().join("requests");
        let (one, other) = (requests.join("one.lab.pem"), requests.join("other.lab.pem"));
        pair.ca.request("one.lab").unwrap();
        // Each of them is two events.
        for _ in 0..event_limit() / 4 + 100 {
            std::fs::rename(&one, &other).unwrap();
            std::fs::rename(&other, &one).unwrap();
        }
        std::fs::remove_file(&one).unwrap();
        // Of these nobody is told any more.
        pair.ca.sign("node2.lab").unwrap();
        pair.ca.clean("node1.lab").unwrap();
    });
    watched.in_step();
    watched.pair.ca.sign("node3.lab").unwrap();
    watched.in_step();
}

#[test]
fn an_active_whose_ca_is_moved_away_and_put_back_waits_for_it() {
    let Some(mut watched) = Watched::seeded() else {
        return;
    };
    watched.pair.ca.sign("first.lab").unwrap();
    watched.in_step();
    let (cadir, away) = (
        watched.pair.a.cadir(),
        watched.pair.a.directory().join("away"),
    );
    let before = tree(&watched.pair.b.cadir());
    std::fs::rename(&cadir, &away).unwrap();
    watched.a_says("ca-missing");
    watched.both_live();
    assert!(tree(&watched.pair.b.cadir()) == before);
    std::fs::rename(&away, &cadir).unwrap();
    watched.pair.ca.sign("node1.lab").unwrap();
    watched.in_step();
    watched.both_live();
}

#[test]
fn an_emptied_source_is_refused_by_name_and_followed_again_once_it_is_whole() {
    let Some(mut watched) = Watched::seeded() else {
        return;
    };
    watched.pair.ca.sign("node1.lab").unwrap();
    watched.in_step();
    let (signed, away) = (
        watched.pair.a.cadir().join("signed"),
        watched.pair.a.directory().join("away"),
    );
    let before = tree(&watched.pair.b.cadir());
    std::fs::create_dir(&away).unwrap();
    let names: Vec<_> = std::fs::read_dir(&signed)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    for name in &names {
        std::fs::rename(signed.join(name), away.join(name)).unwrap();
    }
    watched.a_says("ca-source-empty");
    watched.until("the record of it", || {
        let status = watched.pair.a.pefo(["status", "--json"]).json();
        let failure = &status["details"]["datasets"][0]["last_failure"]["reason"];
        failure.to_string().contains("ca-source-empty")
    });
    assert!(
        watched.pair.b.cadir().join("signed/node1.lab.pem").exists(),
        "the last certificate was deleted"
    );
    for name in &names {
        std::fs::rename(away.join(name), signed.join(name)).unwrap();
    }
    watched.in_step();
    let after = tree(&watched.pair.b.cadir());
    let names = |tree: &crate::evidence::Tree| tree.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&after), names(&before));
    watched.pair.ca.sign("node2.lab").unwrap();
    watched.in_step();
    watched.both_live();
}

/// What a server of that kind does arrives.
fn follows(options: CaOptions) {
    let Some(pair) = Pair::prepared_with(options) else {
        return;
    };
    masters::pair(&pair.a, &pair.b);
    let mut watched = Watched::of(pair.seed());
    watched.in_step();
    for round in 0..5 {
        let ca = &mut watched.pair.ca;
        ca.sign(&format!("node{round}.lab")).unwrap();
        ca.sign(&format!("goes{round}.lab")).unwrap();
        ca.revoke(&format!("node{round}.lab")).unwrap();
        watched.in_step();
        watched.pair.ca.clean(&format!("goes{round}.lab")).unwrap();
        watched.pair.ca.renew(&format!("node{round}.lab")).unwrap();
        watched.in_step();
    }
    watched.both_live();
}

#[test]
fn a_server_that_writes_in_place_is_followed() {
    follows(CaOptions::default().write_in_place(true));
}

#[test]
fn a_server_that_replaces_its_inventory_is_followed() {
    follows(CaOptions::default().atomic_inventory(true));
}
