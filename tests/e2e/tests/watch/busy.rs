//! An active that never rests.

use std::time::{Duration, Instant};

use pefo_core::clock::{Clock as _, SystemClock};
use pefo_testkit::wait;

use crate::pair::Pair;
use crate::reigns::status;

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn a_spare_of_an_active_that_signs_without_a_pause_is_known_to_be_in_step_all_the_same() {
    let Some(mut pair) = Pair::seeded() else {
        return;
    };
    let _watches = [pair.a.watch(), pair.b.watch()];
    let row = || status(&pair.a)["datasets"][0].clone();
    wait::until("the first heartbeat", LIMIT, || {
        row()["lag_seconds"].is_u64()
    });
    let begun = Instant::now();
    let first = row()["applied"].as_str().unwrap().to_owned();
    // Two heartbeats' time, and never so much as a second of rest.
    let mut nth = 0;
    while row()["applied"] == *first {
        assert!(begun.elapsed() < Duration::from_secs(20), "{:#}", row());
        nth += 1;
        pair.ca.sign(&format!("node{nth}.lab")).unwrap();
        SystemClock.wait(Duration::from_millis(200));
    }
    for master in [&pair.a, &pair.b] {
        let lag = status(master)["datasets"][0]["lag_seconds"].as_u64();
        assert!(lag.is_some_and(|lag| lag < 15), "{lag:?}");
    }
}
