//! What happens all the time while a master lives.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use pefo_core::clock::{Clock as _, SystemClock};
use pefo_testkit::ca::{Step, TestCa};
use pefo_testkit::masters::Master;

use crate::reigns::seat::Seat;

/// Random numbers that a seed repeats (splitmix64).
#[derive(Debug, Clone)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn of(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// From the first, below the second.
    pub(super) fn between(&mut self, from: u64, below: u64) -> u64 {
        from + self.next() % (below - from)
    }

    /// How fast things happen, no more: nothing is waited for.
    fn pauses(&mut self, below_ms: u64) {
        SystemClock.wait(Duration::from_millis(self.between(0, below_ms)));
    }
}

/// One master's life, in threads.
#[derive(Debug)]
pub(super) struct Busy {
    round: u64,
    seed: u64,
    /// Certificates signed.
    pub(super) acts: AtomicU64,
    /// The active is dead: nobody acts there any more.
    pub(super) is_dead: AtomicBool,
    /// Nobody hears of it any more.
    pub(super) is_cut: AtomicBool,
    /// Nobody acts anywhere.
    is_over: AtomicBool,
}

/// Ends all threads however the test ends.
pub(super) struct Over<'a>(&'a Busy);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.is_dead.store(true, Ordering::SeqCst);
        self.0.is_over.store(true, Ordering::SeqCst);
    }
}

impl Busy {
    pub(super) fn new(round: u64, seed: u64) -> Self {
        Self {
            round,
            seed,
            acts: AtomicU64::new(0),
            is_dead: AtomicBool::new(false),
            is_cut: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
        }
    }

    pub(super) fn over_at_the_end(&self) -> Over<'_> {
        Over(self)
    }

    fn lives(&self) -> bool {
        !self.is_dead.load(Ordering::SeqCst)
    }

    fn dice(&self, whose: u64) -> Dice {
        Dice::of(self.seed ^ whose)
    }

    /// Signs and revokes, also what was signed just now; the machine dies in the middle of the last signature.
    pub(super) fn signs(&self, mut server: TestCa) {
        let mut dice = self.dice(1);
        let mut valid: Vec<String> = Vec::new();
        let mut nth = 0;
        while self.lives() {
            nth += 1;
            let name = format!("node{nth}-{}.lab", self.round);
            server.sign(&name).unwrap();
            valid.push(name);
            if dice.between(0, 3) == 0 {
                let among = u64::try_from(valid.len()).unwrap();
                // Half of them right after they were signed.
                let which = dice.between(0, 2 * among).min(among - 1);
                let gone = valid.swap_remove(usize::try_from(which).unwrap());
                server.revoke(&gone).unwrap();
            }
            self.acts.fetch_add(1, Ordering::SeqCst);
            dice.pauses(250);
        }
        let steps = [Step::Request, Step::Serial, Step::Inventory, Step::Signed];
        let step = steps[usize::try_from(dice.between(0, 4)).unwrap()];
        let name = format!("torn-{}.lab", self.round);
        server.sign_until(&name, &[&name], step).unwrap();
    }

    /// Changes groups at the active's console.
    pub(super) fn classifies(&self, active: &Seat) {
        let mut dice = self.dice(2);
        let mut number = active.classified().unwrap();
        while self.lives() {
            number += 1;
            active.classify(number);
            dice.pauses(400);
        }
    }

    /// Changes rows of the active's database.
    pub(super) fn talks(&self, active: &Seat) {
        let mut dice = self.dice(3);
        let mut number = u64::try_from(active.said().len()).unwrap();
        while self.lives() {
            number += 1;
            active.say(number);
            dice.pauses(200);
        }
    }

    /// The active's cron.
    pub(super) fn pushes(&self, active: &Master) {
        let mut dice = self.dice(4);
        while self.lives() {
            let run = active.pefo(["db", "push"]);
            // Cut off, killed: whatever it says once it is dead.
            let is_cut = self.is_cut.load(Ordering::SeqCst);
            assert!(run.code == 0 || is_cut, "{run:#?}");
            dice.pauses(300);
        }
    }

    /// The spare's cron, which does not stop for a promotion.
    pub(super) fn restores(&self, spare: &Master) {
        let mut dice = self.dice(5);
        while !self.is_over.load(Ordering::SeqCst) {
            let run = spare.pefo(["db", "restore"]);
            // While it is promoted, and afterwards, it is no spare.
            let is_spare = self.lives();
            assert!([0, 5, 6].contains(&run.code), "{run:#?}");
            assert!(run.code == 0 || !is_spare, "{run:#?}");
            dice.pauses(300);
        }
    }
}
