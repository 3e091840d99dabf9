//! The whole way from the active's disk to the passive's, without ssh and without child processes: any
//! history of both masters, killed and without power at any moment, over a line that loses, delays and
//! repeats.
//!
//! `PEFO_MODEL_CASES` sets how many histories are played.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests lay out, break and read directories by hand, and fail loudly"
)]

mod active;
mod check;
mod crash;
mod endpoint;
mod history;
mod line;
mod moves;
mod pair;
mod source;
mod world;

use proptest::prelude::*;

use history::play;
use moves::{Act, History, Move, histories};
use pair::Setup;

/// Histories in a normal run.
const CASES: u32 = 2000;

/// So many of a hundred histories.
fn share(percent: u32) -> ProptestConfig {
    let asked = std::env::var("PEFO_MODEL_CASES").ok();
    let all = asked.map_or(CASES, |cases| {
        cases.parse().expect("PEFO_MODEL_CASES is a number")
    });
    ProptestConfig {
        cases: (all * percent).div_ceil(100),
        max_shrink_iters: 400,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(share(50))]

    #[test]
    fn a_passive_with_a_block_of_its_own_is_always_a_part_of_its_source_and_ends_as_it(history in histories()) {
        play(Setup { has_block: true, ..Setup::default() }, &history);
    }
}

proptest! {
    #![proptest_config(share(40))]

    #[test]
    fn a_passive_that_mirrors_is_always_a_part_of_its_source_and_ends_as_it(history in histories()) {
        play(Setup::default(), &history);
    }
}

proptest! {
    #![proptest_config(share(10))]

    #[test]
    fn a_passive_follows_crls_that_cross_as_differences(history in histories()) {
        play(Setup { has_block: true, has_long_crl: true }, &history);
    }
}

/// Found once among thousands: what was sent before a backup was put back is taken under a number that is told anew.
#[test]
fn what_stands_in_the_spool_when_a_backup_is_put_back_is_what_its_number_means() {
    let history = History {
        writes_in_place: false,
        atomic_inventory: false,
        moves: vec![
            Move::Act(Act::Sign(0)),
            Move::Act(Act::Request(1)),
            Move::PutAside,
            Move::Look,
            Move::KillFeedAt(0),
            Move::PutHostBack,
            Move::Act(Act::Sign(0)),
        ],
    };
    let setup = Setup {
        has_block: true,
        ..Setup::default()
    };
    play(setup, &history);
}
