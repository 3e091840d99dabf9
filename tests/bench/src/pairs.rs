//! The one loop in which everything is measured.
//!
//! Each pair starts from a state that both sides share; who goes first alternates, so that neither
//! always finds the warmer cache; a first round of both is thrown away. What a side leaves unwritten
//! is flushed before the other's turn, outside of every time.

use pefo_core::Result;

use crate::numbers::Pair;
use crate::world::World;
use crate::{row::Unit, terminal};

/// Two sides that do the same work.
pub(crate) trait Contest {
    /// Brings about the state that a round starts from; round 0 is the one that is thrown away.
    fn prepare(&mut self, round: usize) -> Result<()>;

    /// pefo's run: does the work, verifies the result, and gives what the work alone took.
    fn pefo(&mut self) -> Result<f64>;

    /// The peer's run, likewise.
    fn peer(&mut self) -> Result<f64>;
}

/// Measures `pairs` pairs of `contest`, after a round to warm up.
///
/// # Errors
/// The first failure of either side.
pub(crate) fn measure(
    world: &World,
    unit: Unit,
    pairs: usize,
    contest: &mut impl Contest,
) -> Result<Vec<Pair>> {
    let mut measured = Vec::with_capacity(pairs);
    for round in 0..=pairs {
        contest.prepare(round)?;
        world.settle()?;
        let pair = one(world, round, contest)?;
        let what = match round {
            0 => "warm-up".to_owned(),
            _ => format!("pair {round} of {pairs}"),
        };
        terminal::progress(&what, unit, pair);
        if round > 0 {
            measured.push(pair);
        }
    }
    Ok(measured)
}

/// Both sides once; pefo goes first in odd rounds.
fn one(world: &World, round: usize, contest: &mut impl Contest) -> Result<Pair> {
    let (pefo, peer);
    if round % 2 == 1 {
        pefo = ours(world, contest)?;
        peer = theirs(world, contest)?;
    } else {
        peer = theirs(world, contest)?;
        pefo = ours(world, contest)?;
    }
    Ok(Pair { pefo, peer })
}

fn ours(world: &World, contest: &mut impl Contest) -> Result<f64> {
    let took = contest.pefo().map_err(|error| error.context("pefo"))?;
    world.settle().map(|()| took)
}

fn theirs(world: &World, contest: &mut impl Contest) -> Result<f64> {
    let took = contest.peer().map_err(|error| error.context("the peer"))?;
    world.settle().map(|()| took)
}
