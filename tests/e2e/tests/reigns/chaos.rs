//! An active dies at a random moment of a busy life, and its spare takes over: what was lost is counted.
//!
//! Certificates are signed and revoked, groups and rows changed without a pause, both masters run their daemon, and
//! databases are pushed and restored as cron would in fast motion. The line falls silent, the machine dies, the spare
//! is promoted and signs, the old active comes back, is fenced, steps down and brings over what nobody saw. Then both
//! hold the same, and the next round begins the other way round.
//!
//! `PEFO_CHAOS_SEED=n` draws the same moments again; `PEFO_TEST_LONG=1` plays fifty rounds.

mod busy;
mod shown;

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use pefo_testkit::ca::TestCa;
use pefo_testkit::child::Child;
use pefo_testkit::masters::{self, Master};
use pefo_testkit::network::Network;
use pefo_testkit::{skip, wait};

use self::busy::{Busy, Dice};
use self::shown::{Held, Shown, received};
use super::seat::{Seat, seats};
use super::{issued, stands, status};
use crate::evidence::fails_as;
use crate::pair::Pair;

/// Longer than anything takes here.
const LIMIT: Duration = Duration::from_secs(90);
const ROUNDS: u64 = 5;
const MANY_ROUNDS: u64 = 50;

struct World {
    /// Whoever dies next first.
    seats: [Seat; 2],
    daemons: [Child; 2],
    ca: TestCa,
    dice: Dice,
    network: Network,
}

impl World {
    fn set_up(dice: Dice) -> Option<Self> {
        let network = skip::need(Network::create(["a", "b"]))?;
        let Pair { mut a, mut b, ca } = Pair::prepared_on(&network)?;
        for master in [&mut a, &mut b] {
            master.set_timeouts(Duration::from_secs(2), Duration::from_secs(5));
        }
        let hosts = [network.host("a"), network.host("b")];
        let seats = seats(a, b, Some(hosts))?;
        let [a, b] = &seats;
        masters::pair(&a.master, &b.master);
        a.master.pefo(["ca", "push", "--seed"]).exits(0);
        b.master.pefo(["ca", "apply"]).exits(0);
        a.classify(0);
        a.push_rest();
        b.master.pefo(["nc", "restore"]).exits(0);
        b.master.pefo(["db", "restore"]).exits(0);
        let daemons = [a.master.run(), b.master.run()];
        Some(Self {
            seats,
            daemons,
            ca,
            dice,
            network,
        })
    }

    /// One death, and all that follows.
    fn round(&mut self, round: u64) {
        let (shown, received) = self.dies_busy(round);
        let [dead, new] = &self.seats;
        assert_eq!(stands(&new.master), ("active".to_owned(), round + 1));
        // As it stands at its death: all that the old active ever issued.
        let truth = Held::of(dead);
        self.signs_on(new, round);
        let now = Held::of(new);
        shown.is_not_lost(&new.master, &now);
        for name in &received {
            assert!(now.signed.contains_key(name), "{name} was received");
        }
        no_serial_is_twice(&dead.master, &new.master);
        assert!(
            now.crl_number > truth.crl_number,
            "{} {}",
            now.crl_number,
            truth.crl_number
        );
        // Generations that the old active really had: each is whole, and none is of its future.
        assert!(now.said <= truth.said && now.classified <= truth.classified);

        self.is_fenced(round);
        self.comes_back(&truth);
        self.seats.reverse();
        self.daemons.reverse();
    }

    /// The active's life until its death, and the promotion. Gives what was shown as applied before, and what the
    /// spare had received whole.
    fn dies_busy(&mut self, round: u64) -> (Shown, BTreeSet<String>) {
        let Self {
            seats: [active, spare],
            daemons: [_, follower],
            ca,
            dice,
            network,
        } = self;
        let acts = dice.between(8, 30);
        // In some rounds what is received last is not applied before the promotion.
        let is_away = dice.between(0, 2) == 0;
        let more = dice.between(0, 6);
        let busy = Busy::new(round, dice.between(0, u64::MAX));
        let host = active.master.host().unwrap().clone();
        let server = ca.resumed(&active.master.cadir()).unwrap();
        std::thread::scope(|scope| {
            let _over = busy.over_at_the_end();
            scope.spawn(|| busy.signs(server));
            scope.spawn(|| busy.classifies(active));
            scope.spawn(|| busy.talks(active));
            scope.spawn(|| busy.pushes(&active.master));
            scope.spawn(|| busy.restores(&spare.master));
            let done = || busy.acts.load(Ordering::SeqCst);
            wait::until("the active to be busy", LIMIT, || done() >= acts);
            if is_away {
                follower.kill();
                let later = done() + 5;
                wait::until("more that is not applied", LIMIT, || done() >= later);
            }
            let shown = Shown::by(spare, &active.master);
            // What it does from here on nobody sees.
            busy.is_cut.store(true, Ordering::SeqCst);
            network.cut(&host);
            let until = done() + more;
            wait::until("the active's last acts", LIMIT, || done() >= until);
            busy.is_dead.store(true, Ordering::SeqCst);
            host.kill_all();
            let shown = shown.known_to(&active.master);
            let received = received(&spare.master, round);
            spare.master.pefo(["promote"]).exits(0);
            if is_away {
                *follower = spare.master.run();
            }
            (shown, received)
        })
    }

    /// The new active serves.
    fn signs_on(&self, new: &Seat, round: u64) {
        let mut server = self.ca.resumed(&new.master.cadir()).unwrap();
        for n in 0..3 {
            server.sign(&format!("new{n}-{round}.lab")).unwrap();
        }
        server.revoke(&format!("new0-{round}.lab")).unwrap();
    }

    /// The dead machine boots, and ends at its first contact.
    fn is_fenced(&mut self, round: u64) {
        let by_push = self.dice.between(0, 2) == 0;
        let ([old, _], [daemon, _]) = (&mut self.seats, &mut self.daemons);
        assert!(daemon.ended().is_some(), "it died");
        old.master.boot();
        assert_eq!(stands(&old.master), ("active".to_owned(), round));
        if by_push {
            fails_as(&old.master, &["ca", "push"], 6, "fenced");
        }
        *daemon = old.master.run();
        wait::until("the old active to be fenced", LIMIT, || {
            status(&old.master)["fenced"].is_string()
        });
        assert!(daemon.ended().is_none(), "{}", old.master.watch_log());
        daemon.kill();
    }

    /// It steps down, brings over what nobody saw, and both hold the same.
    fn comes_back(&mut self, truth: &Held) {
        let ([old, new], [daemon, _]) = (&self.seats, &mut self.daemons);
        old.master.pefo(["demote", "--wait", "0"]).exits(4);
        new.push_rest();
        // Its own revocations are not taken back: that part waits for the merge.
        let told = old.master.pefo(["demote", "--wait", "60", "--json"]).json();
        assert_eq!(
            told["details"]["awaited"].as_array().map(Vec::len),
            Some(0),
            "{told:#}"
        );
        let text = told["details"]["found"].to_string();
        let now = Held::of(new);
        for name in truth
            .signed
            .keys()
            .filter(|name| !now.signed.contains_key(*name))
        {
            assert!(text.contains(name.as_str()), "{name} was unseen: {told:#}");
        }
        *daemon = old.master.run();
        new.master.pefo(["ca", "merge"]).exits(0);
        let all = Held::of(new);
        // What is revoked is of no use to anybody: its revocation comes over.
        let issued = issued(&new.master.cadir());
        let is_revoked = |name: &String| {
            let mut serials = issued.iter().filter(|(_, certname)| *certname == name);
            serials.any(|(serial, _)| all.revoked.contains(serial))
        };
        for (name, certificate) in &truth.signed {
            let there = all.signed.get(name);
            assert!(there == Some(certificate) || is_revoked(name), "{name}");
        }
        assert!(all.revoked.is_superset(&truth.revoked));
        assert!(all.revoked.is_superset(&now.revoked));
        let same = || {
            let verified = old.master.pefo(["verify"]).code == 0;
            verified && old.crl() == new.crl() && old.inventory() == new.inventory()
        };
        if wait::within(LIMIT, || same().then_some(())).is_none() {
            let run = old.master.pefo(["verify"]);
            panic!(
                "{}{}\n--- old\n{}\n--- new\n{}",
                run.stdout,
                run.stderr,
                old.master.watch_log(),
                new.master.watch_log()
            );
        }
        new.master.pefo(["ca", "verify"]).exits(0);
        assert_eq!(
            (old.classified(), old.said()),
            (new.classified(), new.said())
        );
    }
}

/// No serial names one certificate here and another there.
#[track_caller]
fn no_serial_is_twice(one: &Master, other: &Master) {
    let theirs = issued(&other.cadir());
    for (serial, certname) in issued(&one.cadir()) {
        let there = theirs.get(&serial);
        let is_same = there.is_none_or(|there| *there == certname);
        assert!(is_same, "{serial:X} is {certname} and {there:?}");
    }
}

fn set(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn whenever_an_active_dies_nothing_is_lost_that_was_shown_as_applied_and_what_nobody_saw_comes_over()
 {
    let drawn = SystemTime::UNIX_EPOCH.elapsed().unwrap().subsec_nanos();
    let seed = set("PEFO_CHAOS_SEED").unwrap_or(drawn.into());
    let rounds = match set("PEFO_TEST_LONG") {
        Some(1..) => MANY_ROUNDS,
        _ => ROUNDS,
    };
    eprintln!("PEFO_CHAOS_SEED={seed}");
    let Some(mut world) = World::set_up(Dice::of(seed)) else {
        return;
    };
    let mut reigned = BTreeSet::new();
    for round in 1..=rounds {
        eprintln!("round {round} of {rounds}");
        reigned.insert(world.seats[0].master.certname().to_owned());
        world.round(round);
    }
    assert_eq!(reigned.len(), 2, "each has died");
}
