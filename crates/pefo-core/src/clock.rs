//! Time, handed in: libraries never ask the system themselves, so that tests own the clock.
//!
//! A clock shows two things: what time it is ([`Clock::now`]), which an operator or NTP may set either
//! way, and how time passes ([`Clock::monotonic`]), which nobody sets. What is written down takes the
//! first; how long something took, and how long it may take, is counted on the second.

use std::fmt;
use std::str::FromStr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::error::{Error, Result};

/// A point in time, to the nanosecond; written as RFC 3339 in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(#[serde(with = "time::serde::rfc3339")] OffsetDateTime);

impl Timestamp {
    /// From seconds since 1970-01-01T00:00:00Z.
    ///
    /// # Errors
    /// `Invalid` outside the years 0 to 9999.
    pub fn from_unix_seconds(seconds: i64) -> Result<Self> {
        OffsetDateTime::from_unix_timestamp(seconds)
            .map(Self)
            .map_err(|error| {
                Error::invalid(format!("time {seconds} s is out of range")).with_source(error)
            })
    }

    /// Seconds since 1970-01-01T00:00:00Z.
    pub fn unix_seconds(self) -> i64 {
        self.0.unix_timestamp()
    }

    /// How long ago `earlier` was, or zero where it lies ahead.
    pub fn since(self, earlier: Self) -> Duration {
        (self.0 - earlier.0).try_into().unwrap_or(Duration::ZERO)
    }

    /// How far `self` lies ahead of `now`, or zero.
    pub fn ahead_of(self, now: Self) -> Duration {
        self.since(now)
    }

    /// This time plus `duration`.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(
            self.0
                .saturating_add(time::Duration::try_from(duration).unwrap_or(time::Duration::MAX)),
        )
    }

    /// This time less `duration`.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        Self(
            self.0
                .saturating_sub(time::Duration::try_from(duration).unwrap_or(time::Duration::MAX)),
        )
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        Self(OffsetDateTime::from(time))
    }
}

impl From<Timestamp> for SystemTime {
    fn from(time: Timestamp) -> Self {
        time.0.into()
    }
}

impl FromStr for Timestamp {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        OffsetDateTime::parse(text, &Rfc3339)
            .map(Self)
            .map_err(|error| {
                Error::invalid(format!("{text:?} is no time: {error}")).with_source(error)
            })
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = self.0.replace_nanosecond(0).unwrap_or(self.0);
        f.write_str(&whole.format(&Rfc3339).map_err(|_| fmt::Error)?)
    }
}

/// Where the time comes from.
pub trait Clock: Send + Sync {
    /// The time now.
    fn now(&self) -> Timestamp;
    /// The time that has passed since some fixed moment. It never goes back, and setting the system's
    /// time does not change it.
    ///
    /// By default it follows [`Clock::now`], which is right for a clock that nobody sets.
    fn monotonic(&self) -> Duration {
        self.now().since(Timestamp(OffsetDateTime::UNIX_EPOCH))
    }
    /// Waits; tests may return at once.
    fn wait(&self, duration: Duration);
}

/// The system's own clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        SystemTime::now().into()
    }

    fn monotonic(&self) -> Duration {
        // An `Instant` would need another one to be measured from; the kernel's own starts at boot.
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        Duration::try_from(time).unwrap_or_default()
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that waits"
    )]
    fn wait(&self, duration: Duration) {
        std::thread::sleep(duration);
    }
}

/// A clock that stands where it was put, for tests and replays.
#[derive(Debug)]
pub struct FixedClock(Mutex<Shown>);

#[derive(Debug, Clone, Copy)]
struct Shown {
    now: Timestamp,
    passed: Duration,
}

impl FixedClock {
    /// A clock that shows `now`.
    pub fn new(now: Timestamp) -> Self {
        Self(Mutex::new(Shown {
            now,
            passed: Duration::ZERO,
        }))
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        let mut shown = self.shown();
        shown.now = shown.now.plus(by);
        shown.passed = shown.passed.saturating_add(by);
    }

    /// Sets the time, forward or back, as an operator does: no time passes by that.
    pub fn set(&self, now: Timestamp) {
        self.shown().now = now;
    }

    fn shown(&self) -> MutexGuard<'_, Shown> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for FixedClock {
    fn now(&self) -> Timestamp {
        self.shown().now
    }

    fn monotonic(&self) -> Duration {
        self.shown().passed
    }

    fn wait(&self, duration: Duration) {
        self.advance(duration);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_reads_as_rfc_3339_and_back() {
        let time = Timestamp::from_unix_seconds(1_763_800_000).unwrap();
        assert_eq!(time.to_string(), "2025-11-22T08:26:40Z");
        let json = serde_json::to_string(&time).unwrap();
        assert_eq!(serde_json::from_str::<Timestamp>(&json).unwrap(), time);
        assert_eq!(time.to_string().parse::<Timestamp>().unwrap(), time);
        assert!("yesterday".parse::<Timestamp>().is_err());
    }

    #[test]
    fn an_age_is_never_negative() {
        let clock = FixedClock::new(Timestamp::from_unix_seconds(100).unwrap());
        let early = clock.now();
        clock.advance(Duration::from_secs(5));
        assert_eq!(clock.now().since(early), Duration::from_secs(5));
        assert_eq!(early.since(clock.now()), Duration::ZERO);
    }

    #[test]
    fn setting_the_time_lets_no_time_pass() {
        let clock = FixedClock::new(Timestamp::from_unix_seconds(10_000).unwrap());
        clock.wait(Duration::from_secs(3));
        clock.set(Timestamp::from_unix_seconds(2_800).unwrap());
        assert_eq!(clock.monotonic(), Duration::from_secs(3));
        clock.advance(Duration::from_secs(2));
        assert_eq!(clock.monotonic(), Duration::from_secs(5));
        assert_eq!(clock.now().unix_seconds(), 2_802);
    }

    #[test]
    fn the_systems_monotonic_time_goes_on_and_never_back() {
        let begun = SystemClock.monotonic();
        SystemClock.wait(Duration::from_millis(2));
        assert!(SystemClock.monotonic() >= begun + Duration::from_millis(2));
    }
}
