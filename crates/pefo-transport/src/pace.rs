//! A bandwidth limit: how many bytes a second a sender may write.
//!
//! A token bucket, kept as the one moment at which the line will have carried all that was granted.
//! What it guarantees: over any stretch of time no more is granted than the limit allows, but for one
//! [`Pace::piece_bytes`] (a tenth of a second's worth, at least 16 KiB); and a writer is never held
//! longer than its own piece takes, and those that were granted before. It is counted on
//! [`Clock::monotonic`], so that a time set hours back does not stall a line, nor one set forward flood
//! it. Clones share the limit: several sessions at once take their turns.

use std::fmt;
use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pefo_core::cancel::Cancel;
use pefo_core::clock::Clock;
use pefo_core::{Error, ErrorKind, Result};

use crate::wire::Stream;

/// The least that is granted at once.
const MIN_PIECE_BYTES: u64 = 16 * 1024;

/// How fast a sender may write.
#[derive(Clone, Default)]
pub struct Pace(Option<Arc<Limited>>);

struct Limited {
    bytes_per_second: u64,
    clock: Arc<dyn Clock>,
    /// When the line will have carried all that was granted.
    free_at: Mutex<Duration>,
}

impl fmt::Debug for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.bytes_per_second() {
            Some(rate) => write!(f, "Pace({rate} bytes/s)"),
            None => f.write_str("Pace(unlimited)"),
        }
    }
}

impl Pace {
    /// The lowest limit. Below it one piece would take so long that a peer's refusal was heard late.
    pub const MIN_BYTES_PER_SECOND: u64 = 4 * 1024;

    /// As fast as the line.
    pub const fn unlimited() -> Self {
        Self(None)
    }

    /// At most `bytes_per_second`, by `clock`.
    ///
    /// # Errors
    /// `Config` below [`Pace::MIN_BYTES_PER_SECOND`].
    pub fn limited(bytes_per_second: u64, clock: Arc<dyn Clock>) -> Result<Self> {
        if bytes_per_second < Self::MIN_BYTES_PER_SECOND {
            return Err(Error::new(
                ErrorKind::Config,
                format!(
                    "a bandwidth limit of {bytes_per_second} bytes a second is too low, the least is {}",
                    Self::MIN_BYTES_PER_SECOND
                ),
            ));
        }
        Ok(Self(Some(Arc::new(Limited {
            bytes_per_second,
            clock,
            free_at: Mutex::default(),
        }))))
    }

    /// The limit, where there is one.
    pub fn bytes_per_second(&self) -> Option<u64> {
        self.0.as_ref().map(|limited| limited.bytes_per_second)
    }

    /// The most that is granted at once.
    pub fn piece_bytes(&self) -> usize {
        let piece = |rate: u64| usize::try_from((rate / 10).max(MIN_PIECE_BYTES));
        self.bytes_per_second()
            .and_then(|rate| piece(rate).ok())
            .unwrap_or(usize::MAX)
    }

    /// Waits until `bytes` more may be written, [`Pace::piece_bytes`] at most.
    ///
    /// # Errors
    /// `Cancelled` as soon as stop is said while it waits.
    pub fn take(&self, bytes: usize, cancel: &Cancel) -> Result<()> {
        match &self.0 {
            None => Ok(()),
            Some(limited) => {
                let held = limited.grant(bytes.min(self.piece_bytes()), self.piece_bytes());
                // Waited for without the lock: others may get in line meanwhile.
                cancel.wait(&*limited.clock, held)
            }
        }
    }

    /// A stream whose writes keep to it.
    pub(crate) fn over(&self, stream: Box<dyn Stream>, cancel: &Cancel) -> Box<dyn Stream> {
        if self.0.is_none() {
            return stream;
        }
        Box::new(Paced {
            stream,
            pace: self.clone(),
            cancel: cancel.clone(),
            granted: 0,
        })
    }
}

impl Limited {
    /// Grants `bytes`, and says after how long they may go.
    fn grant(&self, bytes: usize, piece: usize) -> Duration {
        let now = self.clock.monotonic();
        let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
        // A line that was idle has saved up one piece, not all that it could have carried.
        let saved_up = now.saturating_sub(self.time_for(piece));
        *free_at = (*free_at).max(saved_up) + self.time_for(bytes);
        free_at.saturating_sub(now)
    }

    fn time_for(&self, bytes: usize) -> Duration {
        let nanos = (bytes as u128 * 1_000_000_000).div_ceil(u128::from(self.bytes_per_second));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

struct Paced {
    stream: Box<dyn Stream>,
    pace: Pace,
    cancel: Cancel,
    /// Granted, and not written yet.
    granted: usize,
}

impl Read for Paced {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.read(buffer)
    }
}

impl Write for Paced {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.granted == 0 {
            let wanted = bytes.len().min(self.pace.piece_bytes());
            self.pace
                .take(wanted, &self.cancel)
                .map_err(io::Error::other)?;
            self.granted = wanted;
        }
        let now = bytes.get(..self.granted).unwrap_or(bytes);
        let written = self.stream.write(now)?;
        self.granted -= written.min(self.granted);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

impl Stream for Paced {
    fn farewell(&mut self) -> Option<String> {
        self.stream.farewell()
    }
    fn finish(&mut self) -> io::Result<()> {
        self.stream.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pefo_core::clock::{FixedClock, Timestamp};
    use proptest::prelude::*;

    fn clock() -> Arc<FixedClock> {
        let now = Timestamp::from_unix_seconds(1_763_800_000).unwrap();
        let clock = FixedClock::new(now);
        // As after a boot: the line has been idle.
        clock.advance(Duration::from_secs(3_600));
        Arc::new(clock)
    }

    fn limited(rate: u64, clock: &Arc<FixedClock>) -> Pace {
        Pace::limited(rate, Arc::clone(clock) as Arc<dyn Clock>).unwrap()
    }

    /// How long `bytes` take, a piece at a time.
    fn time_taken(pace: &Pace, clock: &FixedClock, mut bytes: usize) -> Duration {
        let (begun, cancel) = (clock.monotonic(), Cancel::new());
        while bytes > 0 {
            let piece = bytes.min(pace.piece_bytes());
            pace.take(piece, &cancel).unwrap();
            bytes -= piece;
        }
        clock.monotonic() - begun
    }

    #[test]
    fn without_a_limit_nothing_is_waited_for() {
        let (clock, cancel) = (clock(), Cancel::new());
        let begun = clock.monotonic();
        Pace::unlimited().take(usize::MAX, &cancel).unwrap();
        assert_eq!(clock.monotonic(), begun);
        assert_eq!(Pace::default().bytes_per_second(), None);
    }

    #[test]
    fn a_limit_too_low_to_work_is_a_configuration_error() {
        let error = Pace::limited(4_095, clock()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        Pace::limited(4_096, clock()).unwrap();
    }

    #[test]
    fn a_mebibyte_a_second_takes_three_seconds_for_three() {
        let clock = clock();
        let pace = limited(1 << 20, &clock);
        let taken = time_taken(&pace, &clock, 3 << 20);
        assert!((2.89..=3.0).contains(&taken.as_secs_f64()), "{taken:?}");
    }

    #[test]
    fn a_clock_that_is_set_neither_stalls_nor_floods() {
        for seconds in [1_763_800_000 - 7_200, 1_763_800_000 + 7_200] {
            let clock = clock();
            let pace = limited(1 << 20, &clock);
            time_taken(&pace, &clock, 1 << 20);
            clock.set(Timestamp::from_unix_seconds(seconds).unwrap());
            let taken = time_taken(&pace, &clock, 1 << 20);
            assert!((0.99..1.01).contains(&taken.as_secs_f64()), "{taken:?}");
        }
    }

    #[test]
    fn stop_ends_the_waiting() {
        let clock = clock();
        let (pace, cancel) = (limited(4_096, &clock), Cancel::new());
        pace.take(16 * 1024, &cancel).unwrap();
        cancel.cancel();
        let begun = clock.monotonic();
        let error = pace.take(16 * 1024, &cancel).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled);
        assert_eq!(clock.monotonic(), begun);
    }

    #[test]
    fn clones_share_the_limit() {
        let clock = clock();
        let pace = limited(1 << 20, &clock);
        let begun = clock.monotonic();
        for clone in [pace.clone(), pace.clone(), pace] {
            time_taken(&clone, &clock, 1 << 20);
        }
        let taken = clock.monotonic() - begun;
        assert!(taken >= Duration::from_millis(2_890), "{taken:?}");
    }

    /// Takes at most 5,000 bytes a write.
    struct Narrow(Arc<Mutex<Vec<u8>>>);

    impl Read for Narrow {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Ok(0)
        }
    }

    impl Write for Narrow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = bytes.len().min(5_000);
            self.0.lock().unwrap().extend(&bytes[..count]);
            Ok(count)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Stream for Narrow {}

    #[test]
    fn a_stream_that_takes_less_than_was_granted_loses_nothing_of_it() {
        let (clock, arrived) = (clock(), Arc::default());
        let narrow = Box::new(Narrow(Arc::clone(&arrived)));
        let mut paced = limited(100_000, &clock).over(narrow, &Cancel::new());
        let begun = clock.monotonic();
        let content: Vec<u8> = (0_u32..200_000).map(|n| (n >> 3) as u8).collect();
        paced.write_all(&content).unwrap();
        assert!(*arrived.lock().unwrap() == content);
        let taken = (clock.monotonic() - begun).as_secs_f64();
        assert!((1.8..=2.0).contains(&taken), "{taken}");
    }

    proptest! {
        /// Over any stretch no more than the limit and one piece; and a busy writer gets its due.
        #[test]
        fn no_stretch_of_time_carries_more_than_it_may(
            rate in Pace::MIN_BYTES_PER_SECOND..100_000_000,
            writes in proptest::collection::vec((0_u64..2_000, 1_usize..10_000_000), 1..60),
        ) {
            let clock = clock();
            let (pace, cancel) = (limited(rate, &clock), Cancel::new());
            let mut granted = vec![];
            for (pause_ms, bytes) in writes {
                clock.advance(Duration::from_millis(pause_ms));
                let bytes = bytes.min(pace.piece_bytes());
                let asked = clock.monotonic();
                pace.take(bytes, &cancel).unwrap();
                let at = clock.monotonic();
                // Alone on the line: never longer than its own piece takes.
                let most = bytes as f64 / rate as f64;
                prop_assert!((at - asked).as_secs_f64() <= most + 1e-6);
                granted.push((at, bytes));
            }
            for (first, (begin, _)) in granted.iter().enumerate() {
                let mut sum = 0.0;
                for (at, bytes) in &granted[first..] {
                    sum += *bytes as f64;
                    let time = (*at - *begin).as_secs_f64();
                    let may = time * rate as f64 + pace.piece_bytes() as f64;
                    prop_assert!(sum <= may * (1.0 + 1e-9) + 1.0, "{} in {} s", sum, time);
                }
            }
        }
    }
}
