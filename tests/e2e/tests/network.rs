//! Masters on hosts of their own: the line between them is cut, and a machine dies.

use std::time::Duration;

use pefo_testkit::network::Network;
use pefo_testkit::{skip, wait};

use crate::evidence::{contents, fails_as, newest_record};
use crate::pair::{B, Pair};

const LIMIT: Duration = Duration::from_secs(30);

fn network() -> Option<Network> {
    skip::need(Network::create(["a", "b"]))
}

/// A push that does not get through names whom it did not reach.
fn does_not_reach_b(pair: &Pair) {
    let error = fails_as(&pair.a, &["ca", "push"], 1, "unreachable");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains(B), "{error:#}");
    assert_eq!(newest_record(&pair.a, "ca push")["outcome"], "failed");
}

#[test]
fn a_push_over_a_cut_line_names_the_peer_unreachable_and_the_next_over_a_mended_one_gets_through() {
    let Some(network) = network() else { return };
    let Some(mut pair) = Pair::seeded_on(&network) else {
        return;
    };
    pair.ca.sign("node1.lab").unwrap();
    pair.sync();
    for cut in ["a", "b"] {
        let node = format!("{cut}-was-cut.lab");
        pair.ca.sign(&node).unwrap();
        let before = contents(&pair.b.spool());
        network.cut(network.host(cut));
        does_not_reach_b(&pair);
        assert!(contents(&pair.b.spool()) == before);
        network.mend(network.host(cut));
        pair.sync();
        assert!(pair.b.cadir().join(format!("signed/{node}.pem")).exists());
    }
}

#[test]
fn a_machine_that_died_is_unreachable_and_takes_what_it_missed_once_it_has_booted() {
    let Some(network) = network() else { return };
    let Some(mut pair) = Pair::seeded_on(&network) else {
        return;
    };
    let mut watch = pair.b.watch();
    let host = network.host("b");
    wait::until("the watch to run on its host", LIMIT, || {
        host.processes().contains(&watch.id())
    });
    pair.b.kill_all();
    assert!(host.processes().is_empty());
    assert!(watch.ended().is_some());
    pair.ca.sign("node1.lab").unwrap();
    does_not_reach_b(&pair);
    pair.b.boot();
    let _watch = pair.b.watch();
    pair.a.pefo(["ca", "push"]).exits(0);
    let arrived = pair.b.cadir().join("signed/node1.lab.pem");
    wait::until("the certificate", LIMIT, || arrived.exists());
}
