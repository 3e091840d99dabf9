//! The line is cut anywhere between its first byte and its last: the old or the new, whole, and the next
//! run goes through.

use pefo_testkit::line::Direction;

use crate::mirror::{Mirror, show};
use crate::spool::Spool;
use crate::world::{BOTH, need, rounds, spread};

/// How many places in each direction.
const PLACES: u32 = 24;
/// Every so many a next run goes over ssh too; the others are a session without it, which is sooner done.
const OVER_SSH: usize = 4;

#[test]
fn a_sync_cut_anywhere_leaves_the_old_tree_or_the_new_one_and_the_next_goes_through() {
    let mirror = need!(Mirror::new());
    let sources = mirror.two_sources();
    mirror.run(&sources[0]).goes_through();
    // The one from the other, and back: what passes in each direction of the line.
    let whole: Vec<[u64; 2]> = [1, 0]
        .map(|to| {
            mirror
                .world
                .passing(|| drop(mirror.run(&sources[to]).goes_through()))
        })
        .into_iter()
        .rev()
        .collect();
    let (mut to, mut told, mut old, mut round) = (1, 0, 0, 0);
    for direction in BOTH {
        for place in spread(rounds(PLACES), 1000) {
            let (before, after) = (show(&mirror.dest()), show(&sources[to]));
            let bytes = whole[to][direction as usize] * place / 1000;
            let case = format!("cut {direction:?} after {bytes} bytes");
            mirror.world.line.break_after(direction, bytes);
            let run = mirror.run(&sources[to]);
            mirror.world.line.mend();
            if !run.status.success() {
                run.is_told();
                told += 1;
            }
            mirror.is_let_go();
            let now = show(&mirror.dest());
            assert!(
                now == before || now == after,
                "{case}: neither the old nor the new tree; {run:?}"
            );
            assert!(
                now == after || !run.status.success(),
                "{case}: said to be done"
            );
            old += u32::from(now == before);
            if round % OVER_SSH == 0 {
                mirror.goes_on(&sources[to]);
            } else {
                mirror.goes_on_here(&sources[to]);
            }
            mirror.is_as(&sources[to]);
            (to, round) = (1 - to, round + 1);
        }
    }
    // Both ends were met, and most of what lies between them.
    assert!(told > PLACES && old > PLACES, "{told} told, {old} old");
}

#[test]
fn a_generation_cut_anywhere_shows_whole_or_not_at_all_and_the_next_push_goes_through() {
    let spool = need!(Spool::new());
    spool.write(1, 60_000);
    spool.run(1).goes_through();
    spool.write(2, 60_000);
    let whole = spool.world.passing(|| drop(spool.run(2).goes_through()));
    let (mut sequence, mut told) = (2, 0);
    for direction in [Direction::Forward, Direction::Back] {
        for place in spread(rounds(PLACES), 1000) {
            let before = spool.standing();
            sequence += 1;
            spool.write(sequence, 60_000);
            let bytes = whole[direction as usize] * place / 1000;
            let case = format!("cut {direction:?} after {bytes} bytes");
            spool.world.line.break_after(direction, bytes);
            let run = spool.run(sequence);
            spool.world.line.mend();
            if !run.status.success() {
                run.is_told();
                told += 1;
            }
            spool.is_let_go();
            let now = spool.standing();
            let with = [before.as_slice(), &[sequence]].concat();
            assert!(now == before || now == with, "{case}: {now:?} stand");
            assert!(now == with || !run.status.success(), "{case}: {run:?}");
            // Every fourth time the next push meets what this one left; the others are newer.
            if sequence.is_multiple_of(4) {
                spool.goes_on(sequence);
                assert_eq!(spool.begun().len(), 0, "{case}");
                assert_eq!(spool.standing(), with);
                spool.holds_what_is_written(sequence);
                spool.verify();
                spool.retire();
            }
        }
    }
    sequence += 1;
    spool.write(sequence, 60_000);
    spool.goes_on(sequence);
    spool.verify();
    assert!(told > PLACES, "only {told} were told");
}
