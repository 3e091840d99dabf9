//! The word to stop, handed in: whoever works looks at it, whoever owns the work says it.
//!
//! A [`Cancel`] is a flag that only goes up. Work that was handed one ends soon after with
//! [`ErrorKind::Cancelled`], and leaves nothing half-done behind: the same promise that holds for a
//! crash holds here. There is no global: a program that wants to stop on a signal keeps a clone where
//! the signal arrives.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};

/// How long something that waits may take to notice; it looks this often.
pub const NOTICE: Duration = Duration::from_millis(100);

/// Stops some work. Clones are the same flag.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Nothing was cancelled yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Says stop. There is no way back.
    pub fn cancel(&self) {
        // Nothing else is read on the strength of the flag, so no order is asked for.
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether stop was said.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Goes on, or ends.
    ///
    /// # Errors
    /// `Cancelled`.
    pub fn check(&self) -> Result<()> {
        if self.is_cancelled() {
            Err(Error::new(ErrorKind::Cancelled, "it was cancelled"))
        } else {
            Ok(())
        }
    }

    /// Waits on `clock`, at most [`NOTICE`] longer than until stop is said.
    ///
    /// # Errors
    /// `Cancelled`.
    pub fn wait(&self, clock: &dyn Clock, duration: Duration) -> Result<()> {
        let mut left = duration;
        self.check()?;
        while !left.is_zero() {
            let slice = left.min(NOTICE);
            clock.wait(slice);
            self.check()?;
            left = left.saturating_sub(slice);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{FixedClock, Timestamp};

    #[test]
    fn a_clone_is_the_same_flag_and_it_stays_up() {
        let cancel = Cancel::new();
        let other = cancel.clone();
        other.check().unwrap();
        cancel.cancel();
        assert!(other.is_cancelled());
        let error = other.check().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled);
        assert!(!error.is_retryable());
        Cancel::new().check().unwrap();
    }

    #[test]
    fn a_wait_lasts_as_long_as_it_was_asked_to() {
        let clock = FixedClock::new(Timestamp::from_unix_seconds(0).unwrap());
        let wanted = Duration::from_millis(1_234);
        Cancel::new().wait(&clock, wanted).unwrap();
        assert_eq!(clock.monotonic(), wanted);
    }

    /// Says stop after the first slice.
    struct Impatient(FixedClock, Cancel);

    impl Clock for Impatient {
        fn now(&self) -> Timestamp {
            self.0.now()
        }
        fn wait(&self, duration: Duration) {
            self.0.wait(duration);
            self.1.cancel();
        }
    }

    #[test]
    fn a_wait_ends_soon_after_stop_was_said() {
        let cancel = Cancel::new();
        let clock = FixedClock::new(Timestamp::from_unix_seconds(0).unwrap());
        let clock = Impatient(clock, cancel.clone());
        let error = cancel.wait(&clock, Duration::from_secs(300)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled);
        assert!(clock.0.monotonic() <= NOTICE);
    }
}
