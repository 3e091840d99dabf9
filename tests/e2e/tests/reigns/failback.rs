//! The reign goes there and back, ten times, by switchover and by promotion in turn, while whoever holds it signs,
//! revokes, classifies and changes the database: each time both hold the same.

use std::collections::BTreeSet;
use std::time::Duration;

use pefo_testkit::ca::TestCa;
use pefo_testkit::child::Child;
use pefo_testkit::masters;
use pefo_testkit::wait;

use crate::pair::Pair;

use super::seat::{Seat, seats};
use super::{issued, stands, status};

/// Longer than anything takes here.
const LIMIT: Duration = Duration::from_secs(60);
const TURNS: u64 = 10;

struct Failback {
    seats: [Seat; 2],
    ca: TestCa,
}

impl Failback {
    fn seeded() -> Option<Self> {
        let Pair { a, b, ca } = Pair::prepared()?;
        let seats = seats(a, b, None)?;
        masters::pair(&seats[0].master, &seats[1].master);
        Some(Self { seats, ca })
    }

    /// Who reigns before the turn, and who comes to.
    fn of_turn(&self, turn: u64) -> [&Seat; 2] {
        let [a, b] = &self.seats;
        if turn % 2 == 1 { [a, b] } else { [b, a] }
    }

    /// What whoever reigns does in a turn.
    fn acts(&self, active: &Seat, turn: u64) {
        let mut server = self.ca.resumed(&active.master.cadir()).unwrap();
        server.sign(&format!("turn{turn}.lab")).unwrap();
        server.sign(&format!("gone{turn}.lab")).unwrap();
        server.revoke(&format!("gone{turn}.lab")).unwrap();
        active.classify(turn);
        active.say(turn);
    }

    /// Both hold the same, and all of every turn so far.
    #[track_caller]
    fn hold_the_same(&self, active: &Seat, passive: &Seat, turn: u64) {
        let (a, p) = (&active.master, &passive.master);
        let verified = wait::within(LIMIT, || {
            let run = p.pefo(["verify"]);
            (run.code == 0 && active.crl() == passive.crl()).then_some(())
        });
        if verified.is_none() {
            let run = p.pefo(["verify"]);
            panic!(
                "turn {turn}: {} {}{}\n--- active\n{}\n--- passive\n{}",
                run.code,
                run.stdout,
                run.stderr,
                a.watch_log(),
                p.watch_log()
            );
        }
        assert_eq!(active.inventory(), passive.inventory(), "turn {turn}");
        let names: BTreeSet<_> = issued(&a.cadir()).into_values().collect();
        for turn in 1..=turn {
            for name in [format!("turn{turn}.lab"), format!("gone{turn}.lab")] {
                assert!(names.contains(&name), "{name}");
            }
            for seat in [active, passive] {
                let path = seat
                    .master
                    .cadir()
                    .join(format!("signed/turn{turn}.lab.pem"));
                assert!(
                    path.exists(),
                    "{} at {}",
                    path.display(),
                    seat.master.certname()
                );
            }
        }
        for seat in [active, passive] {
            assert_eq!(seat.classified(), Some(turn));
            assert_eq!(seat.said(), (1..=turn).collect::<Vec<_>>());
        }
    }
}

/// The reign is handed over; both daemons change their parts by themselves.
fn switch_over(old: &Seat, new: &Seat, turn: u64) {
    let told = old.master.pefo(["switchover"]).exits(0).stdout;
    let said = format!("{} reigns in epoch {}", new.master.certname(), turn + 1);
    assert!(told.contains(&said), "{told}");
}

/// The old active is in step and goes down; the new one is promoted, and the old one comes back.
fn fail_over(old: &mut Seat, daemon: &mut Child, new: &Seat, turn: u64) {
    old.push_rest();
    new.beside(["db", "restore"]).exits(0);
    wait::until("all of the old active's", LIMIT, || {
        new.crl() == old.crl() && new.classified() == Some(turn)
    });
    daemon.kill();
    old.master.stop_sshd();
    new.master.pefo(["promote"]).exits(0);
    old.master.restart_sshd();
    *daemon = old.master.run();
    wait::until("the old active to be fenced", LIMIT, || {
        status(&old.master)["fenced"].is_string()
    });
    assert!(daemon.ended().is_none(), "{}", old.master.watch_log());
    daemon.kill();
    // The daemon brings the CA by itself.
    old.master.pefo(["demote", "--wait", "0"]).exits(4);
    new.push_rest();
    let told = old.master.pefo(["demote", "--wait", "40"]).exits(0).stdout;
    assert!(!told.contains("differs"), "nothing was unseen: {told}");
    *daemon = old.master.run();
}

#[test]
fn the_reign_goes_there_and_back_ten_times_and_each_time_both_hold_the_same() {
    let Some(mut failback) = Failback::seeded() else {
        return;
    };
    let [a, b] = &failback.seats;
    a.master.pefo(["ca", "push", "--seed"]).exits(0);
    b.master.pefo(["ca", "apply"]).exits(0);
    a.master.pefo(["db", "push"]).exits(0);
    b.master.pefo(["db", "restore"]).exits(0);
    let mut daemons = [a.master.run(), b.master.run()];
    for turn in 1..=TURNS {
        let [old, new] = failback.of_turn(turn);
        failback.acts(old, turn);
        if turn % 4 == 1 || turn % 4 == 2 {
            switch_over(old, new, turn);
        } else {
            let [a, b] = &mut failback.seats;
            let [of_a, of_b] = &mut daemons;
            let (old, daemon, new) = match turn % 2 {
                1 => (a, of_a, &*b),
                _ => (b, of_b, &*a),
            };
            fail_over(old, daemon, new, turn);
        }
        let [old, new] = failback.of_turn(turn);
        assert_eq!(stands(&new.master), ("active".to_owned(), turn + 1));
        assert_eq!(stands(&old.master), ("passive".to_owned(), turn + 1));
        new.push_rest();
        old.beside(["db", "restore"]).exits(0);
        failback.hold_the_same(new, old, turn);
    }
}
