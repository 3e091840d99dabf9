//! How long to wait before the console is asked again.

use std::time::Duration;

/// Of the time, at most one part in so many is spent with asking: a console that is slow is asked less.
const SHARE: u32 = 20;
/// The longest wait.
const LONGEST: Duration = Duration::from_secs(300);

/// The pace of asking: even while all is well, slower and slower while it is not.
#[derive(Debug)]
pub(super) struct Pace {
    poll: Duration,
    failures: u32,
}

impl Pace {
    /// Asks every `poll` while all is well.
    pub(super) fn every(poll: Duration) -> Self {
        Self { poll, failures: 0 }
    }

    /// How long to wait after a round that took `took`.
    pub(super) fn wait(&mut self, went_well: bool, took: Duration) -> Duration {
        self.failures = if went_well {
            0
        } else {
            self.failures.saturating_add(1)
        };
        let grown = self.poll.saturating_mul(1 << self.failures.min(16));
        grown
            .max(took.saturating_mul(SHARE))
            .min(LONGEST.max(self.poll))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn a_quick_console_is_asked_evenly_and_a_slow_one_less() {
        let mut pace = Pace::every(seconds(10));
        assert_eq!(pace.wait(true, Duration::from_millis(80)), seconds(10));
        assert_eq!(pace.wait(true, seconds(3)), seconds(60));
        assert_eq!(pace.wait(true, seconds(60)), seconds(300));
    }

    #[test]
    fn failures_make_the_waits_longer_until_it_goes_well_again() {
        let mut pace = Pace::every(seconds(10));
        let waits: Vec<u64> = (0..7)
            .map(|_| pace.wait(false, Duration::ZERO).as_secs())
            .collect();
        assert_eq!(waits, [20, 40, 80, 160, 300, 300, 300]);
        assert_eq!(pace.wait(true, Duration::ZERO), seconds(10));
        assert_eq!(
            Pace::every(seconds(900)).wait(false, Duration::ZERO),
            seconds(900)
        );
    }
}
