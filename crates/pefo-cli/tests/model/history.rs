//! Plays a history, looks at the passive after every move, and brings it to its end: the line is back,
//! nobody interferes, and both are to be the same.

use std::time::Duration;

use pefo_cli::pipeline::watch::Active;

use crate::moves::{Act, Fate, History, Move};
use crate::pair::{EXCLUDED, Pair, Setup, moment};
use crate::world::{Aside, World};

/// So many rounds are enough, whatever happened before.
const ROUNDS: usize = 6;
/// What is held back is looked at again after this.
const AGAIN: Duration = Duration::from_secs(300);

struct Player<'w> {
    world: World<'w>,
    clocks: (i64, i64),
    aside: Option<Aside>,
    /// What the source was before a backup was put back, where it has gone on from there.
    newest: Option<Aside>,
    /// The source lacks what its passive has seen.
    is_behind: bool,
    /// So is what it knows of what it has sent.
    was_host_put_back: bool,
}

/// Plays it to its end.
pub(crate) fn play(setup: Setup, history: &History) {
    let (pair, mut ca) = Pair::new(setup);
    let active = Active::open(&pair.a.host).unwrap();
    ca.set_now(moment(1));
    let mut world = World::new(&pair, &active, ca, setup.has_block);
    world
        .source
        .writes_in_place(history.writes_in_place, history.atomic_inventory);
    world.restart_feed();
    let mut player = Player {
        world,
        clocks: (0, 0),
        aside: None,
        newest: None,
        is_behind: false,
        was_host_put_back: false,
    };
    player.world.check();
    for next in &history.moves {
        player.perform(next);
        player.world.set_clocks(player.clocks);
        player.world.check();
    }
    player.end();
}

impl Player<'_> {
    fn perform(&mut self, next: &Move) {
        let world = &mut self.world;
        match next {
            Move::Act(act) => {
                self.newest = None;
                perform(world, act);
            }
            Move::Flow => {
                world.look();
                world.send_all();
                world.round(Fate::Lives);
                world.beat(true);
            }
            Move::Look => world.look(),
            Move::Overflow => world.overflow(),
            Move::LoseHints => world.lose_hints(),
            Move::RestartFeed => world.restart_feed(),
            Move::KillFeedAt(at) => world.kill_feed_at(usize::from(*at)),
            Move::Send(way) => drop(world.send(*way)),
            Move::Beat => world.beat(true),
            Move::LateOneArrives => {
                let spool_dir = &world.pair.b.host.config.site.spool_dir;
                if let Some(late) = world.line.late.pop() {
                    late.write(spool_dir);
                    // It stands there now, whatever was told under its number since.
                    let accepted = world.ack().and_then(|ack| ack.accepted);
                    if let Some(view) = late.view.filter(|_| accepted < Some(late.position)) {
                        world.source.past.views.insert(late.position, view);
                    }
                }
            }
            Move::ArrivesAgain(nth) => {
                let spool_dir = &world.pair.b.host.config.site.spool_dir;
                let arrived = &world.line.arrived;
                if let Some(landed) = arrived.get(usize::from(*nth) % arrived.len().max(1)) {
                    landed.write(spool_dir);
                }
            }
            Move::SpoolIsEmptied => world.empty_spool(),
            Move::Round(fate) => world.round(*fate),
            Move::Apply(fate) => world.apply(*fate),
            Move::RestartFollower => world.stop_follower(),
            Move::SignHere(nth) => sign_here(world, &format!("b{nth}.test"), false),
            Move::AnswerHere(nth) => sign_here(world, &format!("r{nth}.test"), true),
            Move::TearHere => tear_here(world),
            Move::SetActiveClock(hours) => self.clocks.0 = *hours,
            Move::SetPassiveClock(hours) => self.clocks.1 = *hours,
            Move::PutAside => self.aside = Some(world.put_aside()),
            Move::PutCaBack | Move::PutHostBack => self.put_back(matches!(next, Move::PutHostBack)),
            Move::UndoPutBack => {
                if let Some(newest) = self.newest.take() {
                    world.source.put_back(&newest.ca);
                    self.is_behind = false;
                }
            }
        }
    }

    fn put_back(&mut self, whole_host: bool) {
        let Some(aside) = &self.aside else { return };
        self.world.source.whole_again();
        if !self.world.source.is(&aside.ca) {
            self.newest = Some(self.world.put_aside());
            self.is_behind = true;
            self.world.seen.was_rolled_back = true;
        }
        if whole_host {
            self.was_host_put_back = true;
            self.world.put_host_back(aside);
        } else {
            self.world.source.put_back(&aside.ca);
        }
    }

    /// The line is back, the clocks are right, and nobody interferes.
    fn end(mut self) {
        let world = &mut self.world;
        world.source.whole_again();
        world.set_clocks((0, 0));
        world.restart_feed();
        if world.line.is_stopped {
            assert!(self.was_host_put_back, "the source may go on");
            refused_until_accepted(world);
        }
        for _ in 0..ROUNDS {
            world.overflow();
            world.send_all();
            world.beat(true);
            world.pair.b.clock.advance(AGAIN);
            world.round(Fate::Lives);
            world.check();
            world.beat(false);
            if world.line.is_stopped {
                // What it had sent before it was put back was taken only now.
                assert!(self.was_host_put_back, "the source may go on");
                world.accept_rollback();
                continue;
            }
            if !world.line.wants_full && self.is_behind {
                return is_held(world);
            }
            if is_in_step(world) {
                return;
            }
        }
        panic!(
            "not in step after {ROUNDS} rounds: {:?}; sent {:?}, {:?}",
            self.world.difference(),
            self.world.line.known.sent(),
            self.world.ack()
        );
    }
}

/// Nothing of a source that is behind its peer is taken until an operator says so.
fn refused_until_accepted(world: &mut World<'_>) {
    let before = world.live();
    let accepted = world.ack().and_then(|ack| ack.accepted);
    // As if its sender did not look: what it would send stands in the spool.
    world.line.is_stopped = false;
    world.line.want_full();
    world.overflow();
    let spool_dir = &world.pair.b.host.config.site.spool_dir;
    if let Some(landed) = world.next_landed() {
        assert!(Some(landed.position) <= accepted);
        landed.write(spool_dir);
    }
    world.round(Fate::Lives);
    world.check();
    let after = world.live();
    let is_same = before
        .files
        .iter()
        .filter(|(path, _)| *path != "serial")
        .all(|(path, content)| after.files.get(path) == Some(content) || path == "inventory.txt");
    assert!(is_same, "the passive was led backwards");
    assert_eq!(world.ack().and_then(|ack| ack.accepted), accepted);
    world.empty_spool();
    world.accept_rollback();
}

fn is_in_step(world: &World<'_>) -> bool {
    let Some(ack) = world.ack() else { return false };
    world.difference().is_none()
        && ack.applied.is_some()
        && ack.applied == ack.accepted
        && ack.applied >= world.line.known.sent()
        && ack.source_state == world.state()
        && ack.refused.is_empty()
        && ack.reconcile.is_none()
}

/// A source that lacks what its passive has: that is kept, and the operator is told.
fn is_held(world: &World<'_>) {
    let crl = &world.source;
    let lacks = world
        .in_force()
        .iter()
        .any(|serial| !crl.revokes(*serial) && !crl.past.pruned.contains(serial));
    if lacks || crl.crl_number() < world.highest_number() && world.difference().is_some() {
        let ack = world.ack().unwrap();
        let is_told = !ack.refused.is_empty() || !lacks;
        assert!(is_told, "what was refused is told: {ack:?}");
        assert!(!lacks || ack.applied != world.line.known.sent(), "{ack:?}");
    }
}

fn perform(world: &mut World<'_>, act: &Act) {
    let source = &mut world.source;
    let node = |nth: &u8| format!("n{nth}.test");
    let expired = |nth: &u8| format!("e{nth}.test");
    match act {
        Act::Sign(nth) => source.sign(&node(nth)),
        Act::SignHalf(nth, step) => source.sign_until(&node(nth), *step),
        Act::SignTorn(nth, part) => source.sign_torn(&node(nth), usize::from(*part)),
        Act::SignExcluded => source.sign(EXCLUDED),
        Act::SignExpired(nth) => source.sign_expired(&expired(nth)),
        Act::Revoke(nth) if source.is_signed(&node(nth)) => source.revoke(&node(nth)),
        Act::RevokeExpired(nth) if source.is_signed(&expired(nth)) => {
            source.revoke(&expired(nth));
        }
        Act::Clean(nth) if source.is_signed(&node(nth)) => source.clean(&node(nth)),
        Act::Renew(nth) if source.is_signed(&node(nth)) => source.renew(&node(nth)),
        Act::Request(nth) => source.request(&node(nth)),
        Act::RequestElsewhere(nth) => source.request(&format!("r{nth}.test")),
        Act::Resign => source.resign(false),
        Act::Prune => source.resign(true),
        Act::Revoke(_) | Act::RevokeExpired(_) | Act::Clean(_) | Act::Renew(_) => {}
    }
}

/// The passive's own server signs, from its own block only.
fn sign_here(world: &mut World<'_>, name: &str, answers: bool) {
    let request = world.pair.b.cadir().join(format!("requests/{name}.pem"));
    if !world.has_block || world.seen.is_torn || answers && !request.exists() {
        return;
    }
    world.own_ca.set_now(moment(world.source.hour));
    let serial = world.own_ca.sign(name).unwrap();
    world.note_own(name, serial);
}

/// The last row of the passive's inventory is cut.
fn tear_here(world: &mut World<'_>) {
    let path = world.pair.b.cadir().join("inventory.txt");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(path, text + "0x00").unwrap();
    world.seen.is_torn = true;
}
