//! Several passives: each follows by itself, whatever the others do.

use pefo_testkit::masters::{self, Master, built_binary};
use pefo_testkit::skip;

use super::{Watched, contents};
use crate::pair::Pair;

const C: &str = "puppet-c.lab";

/// A second passive of A.
fn third(pair: &Pair) -> Option<Master> {
    let mut c = skip::need(Master::prepare(&built_binary(), C))?;
    let cadir = c.cadir();
    c.use_cadir(&cadir, "owner = \"root\"\ngroup = \"root\"");
    masters::pair(&pair.a, &c);
    Some(c)
}

#[test]
fn a_passive_that_is_down_holds_no_other_up_and_catches_up_when_it_is_back() {
    let Some(pair) = Pair::paired() else { return };
    let Some(mut c) = third(&pair) else { return };
    let pair = pair.seed();
    c.pefo(["ca", "apply"]).exits(0);
    let c_watch = c.watch();
    let mut watched = Watched::of(pair);
    let c_in_step = |watched: &Watched, c: &Master| {
        watched.until("C to follow", || {
            contents(&c.cadir()) == contents(&watched.pair.a.cadir())
        });
    };
    watched.pair.ca.sign("node1.lab").unwrap();
    watched.in_step();
    c_in_step(&watched, &c);

    // C is down, with its sshd; B follows.
    drop(c_watch);
    let keys = std::fs::read(c.sshd().authorized_keys_path()).unwrap();
    c.stop_sshd();
    for round in 0..10 {
        watched.pair.ca.sign(&format!("down{round}.lab")).unwrap();
        watched.in_step();
    }
    watched.pair.ca.revoke("node1.lab").unwrap();
    watched.in_step();
    assert!(!c.cadir().join("signed/down0.lab.pem").exists());
    watched.until("status to tell of C", || {
        let told = watched.pair.a.pefo(["status"]);
        let names = |line: &str| line.contains("failing since") && line.contains(C);
        told.code == 1 && told.stdout.lines().any(names)
    });

    c.restart_sshd();
    assert_eq!(
        std::fs::read(c.sshd().authorized_keys_path()).unwrap(),
        keys
    );
    let _c_watch = c.watch();
    c_in_step(&watched, &c);
    watched.pair.ca.clean("down0.lab").unwrap();
    watched.in_step();
    c_in_step(&watched, &c);
    watched.until("status to be well again", || {
        watched.pair.a.pefo(["status"]).code == 0
    });
    watched.both_live();
}
