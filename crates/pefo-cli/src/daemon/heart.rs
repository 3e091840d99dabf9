//! Whether all that goes round still does: the service manager is told by the loops themselves, never by a clock
//! that would go on ticking beside a loop that hangs.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pefo_core::Result;
use pefo_core::cancel::Cancel;
use pefo_core::clock::Clock;

use crate::notify::Notifier;
use crate::pipeline::watch::Beat;

/// The loops of a process, and when each last came round.
pub struct Heart {
    notifier: Notifier,
    clock: Arc<dyn Clock>,
    stop: Cancel,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// When each loop came round last, by the clock that never goes back.
    seen: Vec<Option<Duration>>,
    is_ready: bool,
    /// When a sign of life was last sent.
    told: Option<Duration>,
}

impl State {
    /// What is to be said now that a loop has come round.
    fn comes_round(
        &mut self,
        index: usize,
        now: Duration,
        watchdog: Option<Duration>,
    ) -> (bool, bool) {
        if let Some(seen) = self.seen.get_mut(index) {
            *seen = Some(now);
        }
        let all_have = self.seen.iter().all(Option::is_some);
        let becomes_ready = all_have && !self.is_ready;
        self.is_ready |= all_have;
        let Some(period) = watchdog else {
            return (becomes_ready, false);
        };
        let is_fresh = |seen: &Option<Duration>| {
            seen.is_some_and(|seen| now.saturating_sub(seen) < period / 2)
        };
        let is_due = self
            .told
            .is_none_or(|told| now.saturating_sub(told) >= period / 4);
        let tells = is_due && self.seen.iter().all(is_fresh);
        if tells {
            self.told = Some(now);
        }
        (becomes_ready, tells)
    }
}

impl Heart {
    /// Of a process that goes on until `stop` is said.
    pub fn new(notifier: Notifier, clock: Arc<dyn Clock>, stop: Cancel, loops: usize) -> Self {
        Self {
            notifier,
            clock,
            stop,
            state: Mutex::new(State {
                seen: vec![None; loops],
                is_ready: false,
                told: None,
            }),
        }
    }

    /// One of its loops; ready is said once each has come round.
    pub fn pulse(&self, index: usize) -> Pulse<'_> {
        Pulse { heart: self, index }
    }

    /// Who is told.
    pub fn notifier(&self) -> &Notifier {
        &self.notifier
    }

    /// The word to stop.
    pub fn stop(&self) -> &Cancel {
        &self.stop
    }
}

/// One loop of a [`Heart`].
pub struct Pulse<'a> {
    heart: &'a Heart,
    index: usize,
}

impl Beat for Pulse<'_> {
    fn beat(&self) -> Result<()> {
        let heart = self.heart;
        let now = heart.clock.monotonic();
        let (becomes_ready, tells) = {
            let mut state = heart.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.comes_round(self.index, now, heart.notifier.watchdog())
        };
        if becomes_ready {
            heart.notifier.ready();
        }
        if tells {
            heart.notifier.alive();
        }
        heart.stop.check()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn state(loops: usize) -> State {
        State {
            seen: vec![None; loops],
            is_ready: false,
            told: None,
        }
    }

    #[test]
    fn it_is_ready_once_each_loop_has_come_round_and_says_so_once() {
        let mut state = state(2);
        assert_eq!(state.comes_round(0, SECOND, None), (false, false));
        assert_eq!(state.comes_round(1, SECOND, None), (true, false));
        assert_eq!(state.comes_round(0, SECOND, None), (false, false));
    }

    #[test]
    fn a_loop_that_hangs_ends_the_signs_of_life_whatever_the_others_do() {
        let (mut state, period) = (state(2), Some(20 * SECOND));
        let mut told = Vec::new();
        for second in 0..60 {
            let now = second * SECOND;
            let mut tells = state.comes_round(0, now, period).1;
            // The second one hangs from the 20th second to the 40th.
            if !(20..40).contains(&second) {
                tells |= state.comes_round(1, now, period).1;
            }
            if tells {
                told.push(second);
            }
        }
        // Every quarter of the time, as long as both come round, and for half of it afterwards at most.
        assert_eq!(told, [0, 5, 10, 15, 20, 25, 40, 45, 50, 55]);
    }
}
