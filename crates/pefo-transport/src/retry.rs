//! When to try again: exponential backoff with full jitter, without a clock and without randomness of
//! its own.
//!
//! Full jitter (a wait drawn evenly from nothing up to the ceiling) keeps many that lost the same peer at
//! once from coming back at once. Whether trying again can help is not asked here:
//! [`pefo_core::Error::is_retryable`] knows.

use std::time::Duration;

/// How long to wait after each failure in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    base: Duration,
    cap: Duration,
    failures: u32,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            base: Duration::from_secs(1),
            cap: Duration::from_secs(300),
            failures: 0,
        }
    }
}

impl Backoff {
    /// Up to 1 s after the first failure, twice as long after each further one, up to 5 minutes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the longest wait after the first failure.
    #[must_use]
    pub const fn base(mut self, base: Duration) -> Self {
        self.base = base;
        self
    }

    /// Sets the longest wait after any.
    #[must_use]
    pub const fn cap(mut self, cap: Duration) -> Self {
        self.cap = cap;
        self
    }

    /// Failures since it was made or reset.
    pub const fn failures(&self) -> u32 {
        self.failures
    }

    /// The longest wait after the next failure.
    pub fn ceiling(&self) -> Duration {
        let factor = 2_u32.checked_pow(self.failures).unwrap_or(u32::MAX);
        self.base.saturating_mul(factor).min(self.cap)
    }

    /// Something failed: how long to wait. `random` is drawn evenly from all `u64`.
    pub fn after_failure(&mut self, random: u64) -> Duration {
        let ceiling = self.ceiling().as_nanos();
        self.failures = self.failures.saturating_add(1);
        // A ceiling of centuries would not fit; nobody waits that long.
        let ceiling = ceiling.min(u128::from(u64::MAX));
        let nanos = (ceiling * (u128::from(random) + 1)) >> 64;
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// Something useful was done: the next failure is a first one.
    pub const fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_ceiling_doubles_up_to_the_cap() {
        let mut backoff = Backoff::new();
        let ceilings: Vec<_> = (0..10)
            .map(|_| {
                let ceiling = backoff.ceiling();
                assert_eq!(backoff.after_failure(u64::MAX), ceiling);
                ceiling.as_secs()
            })
            .collect();
        assert_eq!(ceilings, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]);
    }

    #[test]
    fn useful_work_makes_the_next_failure_a_first_one() {
        let mut backoff = Backoff::new();
        for _ in 0..7 {
            backoff.after_failure(0);
        }
        assert_eq!(backoff.failures(), 7);
        backoff.reset();
        assert_eq!(backoff, Backoff::new());
    }

    proptest! {
        #[test]
        fn a_wait_never_exceeds_its_ceiling_however_often_it_failed(
            base_ms in 0_u64..100_000,
            cap_ms in 0_u64..10_000_000,
            failures in 0_u32..200,
            random: u64,
        ) {
            let mut backoff = Backoff::new()
                .base(Duration::from_millis(base_ms))
                .cap(Duration::from_millis(cap_ms));
            for _ in 0..failures {
                backoff.after_failure(random);
            }
            let ceiling = backoff.ceiling();
            prop_assert!(ceiling <= Duration::from_millis(cap_ms));
            prop_assert!(backoff.after_failure(random) <= ceiling);
        }

        #[test]
        fn the_wait_is_the_drawn_share_of_its_ceiling(random: u64) {
            let wait = Backoff::new().after_failure(random).as_secs_f64();
            let share = random as f64 / u64::MAX as f64;
            prop_assert!((wait - share).abs() < 1e-6);
        }
    }
}
