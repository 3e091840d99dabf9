//! `kill -9` of either side at random moments: the old or the new, whole, no lock stays, and the next run
//! clears up and goes through.

use std::time::Duration;

use crate::mirror::{Mirror, show};
use crate::spool::Spool;
use crate::world::{Moments, Side, need, rounds};

/// How often each side is killed.
const KILLS: u32 = 10;

/// A test that killed nothing has tested nothing: some moments come too late.
#[track_caller]
fn enough(kills: u32, of: u32) {
    assert!(kills >= of / 3, "only {kills} of {of} were killed");
}

/// Counts a kill; where a run had ended before it, a run takes less than was thought.
fn told(killed: bool, whole: &mut Duration) -> u32 {
    if !killed {
        *whole = *whole * 7 / 10;
    }
    u32::from(killed)
}

fn trees_survive(side: Side) {
    let mirror = need!(Mirror::new());
    let sources = mirror.two_sources();
    mirror.run(&sources[0]).goes_through();
    let mut whole = mirror.world.working_time(&mut mirror.push(&sources[1]));
    let mut moments = Moments::new();
    let (mut to, mut kills) = (0, 0);
    let rounds = rounds(KILLS);
    for round in 0..rounds {
        let (before, after) = (show(&mirror.dest()), show(&sources[to]));
        let life = moments.within(whole);
        let case = format!(
            "PEFO_FAULT_SEED={} round {round}: {side:?} killed after {life:?} of {whole:?}",
            moments.seed
        );
        let mut sender = mirror.push(&sources[to]);
        let killed = mirror.world.kill_after(&mut sender, side, life);
        kills += told(killed, &mut whole);
        mirror.is_let_go();
        mirror.recover();
        let now = show(&mirror.dest());
        assert!(
            now == before || now == after,
            "{case}: neither the old nor the new tree"
        );
        // Every third time the next change meets what two kills have left.
        if round % 3 != 1 {
            mirror.goes_on(&sources[to]);
            mirror.is_as(&sources[to]);
        }
        to = 1 - to;
    }
    mirror.goes_on(&sources[to]);
    mirror.is_as(&sources[to]);
    enough(kills, rounds);
}

#[test]
fn a_sender_of_a_tree_killed_at_any_moment_leaves_the_old_tree_or_the_new_one() {
    trees_survive(Side::Sender);
}

#[test]
fn a_receiver_of_a_tree_killed_at_any_moment_leaves_the_old_tree_or_the_new_one() {
    trees_survive(Side::Receiver);
}

fn generations_survive(side: Side) {
    let spool = need!(Spool::new());
    spool.write(1, 600_000);
    let mut whole = spool.world.working_time(&mut spool.push(1));
    let mut moments = Moments::new();
    let mut kills = 0;
    let rounds = rounds(KILLS);
    for sequence in 2..u64::from(rounds) + 2 {
        let before = spool.standing();
        spool.write(sequence, 600_000);
        let life = moments.within(whole);
        let case = format!(
            "PEFO_FAULT_SEED={} generation {sequence}: {side:?} killed after {life:?} of {whole:?}",
            moments.seed
        );
        let mut sender = spool.push(sequence);
        let killed = spool.world.kill_after(&mut sender, side, life);
        kills += told(killed, &mut whole);
        spool.is_let_go();
        let now = spool.standing();
        let with = [before.as_slice(), &[sequence]].concat();
        assert!(now == before || now == with, "{case}: {now:?} stand");
        spool.verify();
        if sequence % 3 != 1 {
            spool.goes_on(sequence);
            assert_eq!(spool.standing(), with, "{case}");
            assert_eq!(spool.begun().len(), 0, "{case}");
            spool.holds_what_is_written(sequence);
            spool.retire();
        }
    }
    enough(kills, rounds);
}

#[test]
fn a_sender_of_generations_killed_at_any_moment_leaves_each_whole_or_not_at_all() {
    generations_survive(Side::Sender);
}

#[test]
fn a_receiver_of_generations_killed_at_any_moment_leaves_each_whole_or_not_at_all() {
    generations_survive(Side::Receiver);
}
