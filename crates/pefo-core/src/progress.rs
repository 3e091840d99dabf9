//! Progress, handed in: the library reports, the command line draws.
//!
//! [`Progress`] is what a library calls; [`Meter`] adds up what it said, for those who draw or report.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::Clock;

/// Receives progress; every method has an empty default, so a caller implements what it shows.
pub trait Progress: Send + Sync {
    /// A stage began, with how many items and bytes it will handle where that is known.
    fn begin(&self, _stage: &str, _items: Option<u64>, _bytes: Option<u64>) {}
    /// Work was done since the last call. Bytes are those of the content, so that a stage reaches what
    /// [`Progress::begin`] announced; how many of them had to cross a line is another matter.
    fn advance(&self, _items: u64, _bytes: u64) {}
    /// So many bytes of content needed not cross since the last call: the peer had them, a delta found
    /// them there, or compression took them. They are not counted off what `advance` says.
    fn saved(&self, _bytes: u64) {}
    /// The stage ended.
    fn end(&self) {}
}

/// Says nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {}

/// What a [`Meter`] shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Reading {
    /// Items done since the meter was made.
    pub items_done: u64,
    /// Bytes of content done since the meter was made.
    pub bytes_done: u64,
    /// Bytes of content that needed not cross.
    pub bytes_saved: u64,
    /// Bytes of content done a second, over the last few seconds; 0 where nothing is being done.
    pub bytes_per_second: u64,
}

/// Adds up progress, and hands it on to another [`Progress`] where one was given.
///
/// The rate is that of a sliding window of [`Meter::WINDOW`]: it follows a line that slows down, and does
/// not tremble with each write. It is counted on [`Clock::monotonic`], so setting the time changes nothing.
pub struct Meter<'a> {
    clock: &'a dyn Clock,
    onward: &'a dyn Progress,
    counted: Mutex<Counted>,
}

#[derive(Debug, Default)]
struct Counted {
    reading: Reading,
    /// When what the window holds began.
    begun: Option<Duration>,
    /// Bytes by the number of the step they were done in, oldest first; those of one window only.
    steps: VecDeque<(u64, u64)>,
}

impl std::fmt::Debug for Meter<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Meter").field(&self.reading()).finish()
    }
}

impl<'a> Meter<'a> {
    /// What the rate is taken over.
    pub const WINDOW: Duration = Duration::from_secs(5);
    const STEPS: u64 = 20;
    const STEP: Duration = Duration::from_millis(250);

    /// A meter that nothing has reached yet.
    pub fn new(clock: &'a dyn Clock) -> Self {
        Self {
            clock,
            onward: &Silent,
            counted: Mutex::default(),
        }
    }

    /// Hands on to `onward` all it hears.
    #[must_use]
    pub fn onward(mut self, onward: &'a dyn Progress) -> Self {
        self.onward = onward;
        self
    }

    /// What it shows now.
    pub fn reading(&self) -> Reading {
        let now = self.clock.monotonic();
        let mut counted = self.counted();
        counted.forget(now);
        let bytes: u128 = counted.steps.iter().map(|(_, n)| u128::from(*n)).sum();
        // A measurement that is younger than the window opens it; what came within one step says too
        // little to be divided by less than a step.
        let opens = start_of(oldest_step(now)).max(counted.begun.unwrap_or(now));
        let span = now.saturating_sub(opens).max(Self::STEP);
        let rate = bytes * 1_000_000 / span.as_micros().max(1);
        Reading {
            bytes_per_second: u64::try_from(rate).unwrap_or(u64::MAX),
            ..counted.reading
        }
    }

    fn counted(&self) -> MutexGuard<'_, Counted> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The number of the step that `at` lies in.
fn step_of(at: Duration) -> u64 {
    u64::try_from(at.as_millis() / Meter::STEP.as_millis()).unwrap_or(u64::MAX)
}

/// When step `number` begins.
fn start_of(number: u64) -> Duration {
    let step = u64::try_from(Meter::STEP.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(number.saturating_mul(step))
}

/// The oldest step that still counts at `now`, which lies in the newest.
fn oldest_step(now: Duration) -> u64 {
    step_of(now).saturating_sub(Meter::STEPS - 1)
}

impl Counted {
    fn forget(&mut self, now: Duration) {
        let oldest = oldest_step(now);
        while self.steps.front().is_some_and(|(step, _)| *step < oldest) {
            self.steps.pop_front();
        }
    }

    /// A pause before a stage is not part of its rate.
    fn begin(&mut self, now: Duration) {
        self.forget(now);
        if self.steps.is_empty() {
            self.begun = Some(now);
        }
    }

    fn count(&mut self, now: Duration, bytes: u64) {
        self.forget(now);
        self.begun.get_or_insert(now);
        let step = step_of(now);
        match self.steps.back_mut() {
            Some((newest, counted)) if *newest >= step => *counted = counted.saturating_add(bytes),
            _ => self.steps.push_back((step, bytes)),
        }
    }
}

impl Progress for Meter<'_> {
    fn begin(&self, stage: &str, items: Option<u64>, bytes: Option<u64>) {
        let now = self.clock.monotonic();
        self.counted().begin(now);
        self.onward.begin(stage, items, bytes);
    }

    fn advance(&self, items: u64, bytes: u64) {
        let now = self.clock.monotonic();
        {
            let mut counted = self.counted();
            counted.count(now, bytes);
            let reading = &mut counted.reading;
            reading.items_done = reading.items_done.saturating_add(items);
            reading.bytes_done = reading.bytes_done.saturating_add(bytes);
        }
        self.onward.advance(items, bytes);
    }

    fn saved(&self, bytes: u64) {
        {
            let reading = &mut self.counted().reading;
            reading.bytes_saved = reading.bytes_saved.saturating_add(bytes);
        }
        self.onward.saved(bytes);
    }

    fn end(&self) {
        self.onward.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{FixedClock, Timestamp};
    use proptest::prelude::*;

    fn clock() -> FixedClock {
        FixedClock::new(Timestamp::from_unix_seconds(1_763_800_000).unwrap())
    }

    #[test]
    fn a_meter_that_heard_nothing_shows_nothing() {
        let clock = clock();
        assert_eq!(Meter::new(&clock).reading(), Reading::default());
    }

    #[test]
    fn a_pause_ends_the_rate_and_is_no_part_of_the_next_stage() {
        let clock = clock();
        let meter = Meter::new(&clock);
        meter.begin("send", None, None);
        clock.advance(Duration::from_secs(1));
        meter.advance(1, 8_000);
        assert_eq!(meter.reading().bytes_per_second, 8_000);
        clock.advance(Meter::WINDOW);
        assert_eq!(meter.reading().bytes_per_second, 0);
        clock.advance(Duration::from_secs(3_600));
        meter.begin("send", None, None);
        clock.advance(Duration::from_secs(2));
        meter.advance(1, 8_000);
        assert_eq!(meter.reading().bytes_per_second, 4_000);
        assert_eq!(meter.reading().items_done, 2);
    }

    #[test]
    fn the_rate_follows_a_line_that_slows_down() {
        let clock = clock();
        let meter = Meter::new(&clock);
        meter.begin("send", None, None);
        for bytes in [1_000_000; 10].into_iter().chain([1_000; 6]) {
            clock.advance(Duration::from_secs(1));
            meter.advance(0, bytes);
        }
        let rate = meter.reading().bytes_per_second;
        assert!((900..1_200).contains(&rate), "{rate}");
    }

    #[test]
    fn the_first_bytes_do_not_divide_by_nothing() {
        let clock = clock();
        let meter = Meter::new(&clock);
        meter.advance(0, 1_000);
        assert_eq!(meter.reading().bytes_per_second, 4_000);
        meter.advance(0, u64::MAX);
        assert_eq!(meter.reading().bytes_done, u64::MAX);
    }

    #[derive(Default)]
    struct Heard(Mutex<Vec<String>>);

    impl Progress for Heard {
        fn begin(&self, stage: &str, items: Option<u64>, bytes: Option<u64>) {
            let heard = format!("begin {stage} {items:?} {bytes:?}");
            self.0.lock().unwrap().push(heard);
        }
        fn advance(&self, items: u64, bytes: u64) {
            self.0.lock().unwrap().push(format!("{items} {bytes}"));
        }
        fn saved(&self, bytes: u64) {
            self.0.lock().unwrap().push(format!("saved {bytes}"));
        }
        fn end(&self) {
            self.0.lock().unwrap().push("end".into());
        }
    }

    #[test]
    fn all_that_a_meter_hears_is_handed_on() {
        let (clock, heard) = (clock(), Heard::default());
        let meter = Meter::new(&clock).onward(&heard);
        meter.begin("send", Some(1), Some(20));
        meter.saved(5);
        meter.advance(1, 20);
        meter.end();
        assert_eq!(
            *heard.0.lock().unwrap(),
            ["begin send Some(1) Some(20)", "saved 5", "1 20", "end"]
        );
    }

    proptest! {
        /// Whatever comes when, and whichever way the time is set meanwhile.
        #[test]
        fn sums_are_exact_and_the_rate_ends_with_the_work(
            steps in proptest::collection::vec((0_u64..3_000, 0_u64..1_000_000, 0_u64..1_000), 1..80),
            set_to in 0_i64..4_000_000_000,
        ) {
            let clock = clock();
            let meter = Meter::new(&clock);
            meter.begin("send", None, None);
            let (mut done, mut saved) = (0, 0);
            for (wait, bytes, more) in &steps {
                clock.advance(Duration::from_millis(*wait));
                clock.set(Timestamp::from_unix_seconds(set_to).unwrap());
                meter.advance(1, *bytes);
                meter.saved(*more);
                done += bytes;
                saved += more;
            }
            let reading = meter.reading();
            prop_assert_eq!(reading.bytes_done, done);
            prop_assert_eq!(reading.bytes_saved, saved);
            prop_assert_eq!(reading.items_done, steps.len() as u64);
            // All of it within one step would be the highest rate there can be.
            prop_assert!(reading.bytes_per_second <= done * 4);
            clock.advance(Meter::WINDOW);
            prop_assert_eq!(meter.reading().bytes_per_second, 0);
        }

        /// A steady stream shows its own rate, from the first second on.
        #[test]
        fn a_steady_stream_shows_its_rate(
            every in 1_u64..250,
            bytes in 1_u64..1_000_000,
            times in 1_000_u64..3_000,
        ) {
            let clock = clock();
            let meter = Meter::new(&clock);
            meter.begin("send", None, None);
            for _ in 0..times {
                clock.advance(Duration::from_millis(every));
                meter.advance(0, bytes);
            }
            let true_rate = bytes * 1_000 / every;
            let shown = meter.reading().bytes_per_second;
            // One write lies on the edge of a window of at least 4.75 s; the rest is rounding.
            let edge = bytes / 4 + 2;
            prop_assert!(shown.abs_diff(true_rate) <= edge, "{} for {}", shown, true_rate);
        }
    }
}
