//! Waiting for a condition, with a deadline: the only way a test waits.
//!
//! It polls, so it returns as soon as the condition holds, and it names what it waited for when the
//! deadline passes. A plain sleep does neither.

use std::time::{Duration, Instant};

use pefo_core::clock::{Clock as _, SystemClock};

/// How often a condition is looked at.
const STEP: Duration = Duration::from_millis(10);

/// Polls `probe` until it gives a value, or until `limit` has passed.
pub fn within<T>(limit: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(value) = probe() {
            return Some(value);
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return None;
        }
        SystemClock.wait(left.min(STEP));
    }
}

/// Polls until `condition` holds, and says how long that took.
///
/// # Panics
/// When `limit` passes first; the message names `what`.
pub fn until(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) -> Duration {
    let begin = Instant::now();
    match within(limit, || condition().then_some(())) {
        Some(()) => begin.elapsed(),
        None => panic!("waited {limit:?} in vain for {what}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_ends_with_the_condition_and_not_with_the_deadline() {
        let mut looks = 0;
        let took = until("the third look", Duration::from_secs(60), || {
            looks += 1;
            looks == 3
        });
        assert!(took < Duration::from_secs(30));
        assert_eq!(looks, 3);
    }

    #[test]
    #[should_panic(expected = "in vain for a wonder")]
    fn a_deadline_that_passes_names_what_was_waited_for() {
        until("a wonder", Duration::from_millis(30), || false);
    }
}
