//! One session with a peer, kept: opened when it is needed, held while it is idle, opened anew when the
//! line fails.
//!
//! What it guarantees: a request is made again only where that can help ([`Error::is_retryable`]), after
//! a wait that grows ([`Backoff`]), and for no longer than was allowed; a refusal is told at once; after
//! an error no session stays that may be in the middle of something; stop is heard while it waits. A
//! request may therefore be made more than once: those of a [`Connection`] can be, a generation that did
//! arrive is answered *already*.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use pefo_core::cancel::Cancel;
use pefo_core::clock::Clock;
use pefo_core::generation::DataSet;
use pefo_core::keys::{random_bytes, system_random};
use pefo_core::{Error, ErrorKind, Result};

use crate::pace::Pace;
use crate::retry::Backoff;
use crate::sender::Connection;

/// How a session is held, whoever it is with.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct LinkOptions {
    /// Ends it, wherever it is. Default: nobody.
    pub cancel: Cancel,
    /// How fast it may write. Default: as fast as the line.
    pub pace: Pace,
}

impl LinkOptions {
    /// Nobody stops it, nothing slows it down.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets what ends it.
    #[must_use]
    pub fn cancel(mut self, cancel: Cancel) -> Self {
        self.cancel = cancel;
        self
    }

    /// Sets how fast it may write.
    #[must_use]
    pub fn pace(mut self, pace: Pace) -> Self {
        self.pace = pace;
        self
    }
}

/// Opens a session.
pub trait Dial {
    /// Opens one.
    ///
    /// # Errors
    /// As [`Connection::over`] and [`Connection::open_with`](crate::Connection).
    fn dial(&mut self) -> Result<Connection>;
}

impl<F: FnMut() -> Result<Connection>> Dial for F {
    fn dial(&mut self) -> Result<Connection> {
        self()
    }
}

/// A session that is there when it is needed.
pub struct Link<D> {
    dial: D,
    session: Option<Connection>,
    clock: Arc<dyn Clock>,
    cancel: Cancel,
    backoff: Backoff,
    give_up_after: Option<Duration>,
    random: Box<dyn FnMut() -> u64 + Send>,
}

impl<D> fmt::Debug for Link<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("session", &self.session)
            .field("backoff", &self.backoff)
            .field("give_up_after", &self.give_up_after)
            .finish_non_exhaustive()
    }
}

impl<D: Dial> Link<D> {
    /// Nothing is opened yet. A request is tried until it goes through, is refused or cancelled.
    pub fn new(dial: D, clock: Arc<dyn Clock>) -> Self {
        Self {
            dial,
            session: None,
            clock,
            cancel: Cancel::new(),
            backoff: Backoff::new(),
            give_up_after: None,
            random: Box::new(drawn),
        }
    }

    /// Sets what ends the waiting; the sessions need it too ([`LinkOptions::cancel`]).
    #[must_use]
    pub fn cancel(mut self, cancel: Cancel) -> Self {
        self.cancel = cancel;
        self
    }

    /// Sets how long to wait between two tries.
    #[must_use]
    pub const fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Sets how long after its begin a request may be tried again; nothing means once only.
    #[must_use]
    pub const fn give_up_after(mut self, limit: Duration) -> Self {
        self.give_up_after = Some(limit);
        self
    }

    /// Sets where the jitter comes from: evenly from all `u64`. Default: the system's random source.
    #[must_use]
    pub fn random(mut self, random: impl FnMut() -> u64 + Send + 'static) -> Self {
        self.random = Box::new(random);
        self
    }

    /// Makes a request on the open session, or on a new one; where the line fails, again on another.
    ///
    /// # Errors
    /// What the request or the opening ended with: at once where a retry cannot help, the last of them
    /// where the time allowed is over. `Cancelled` where stop was said.
    pub fn with<T>(&mut self, mut request: impl FnMut(&mut Connection) -> Result<T>) -> Result<T> {
        let begun = self.clock.monotonic();
        let mut tries = 0_u32;
        loop {
            self.cancel.check()?;
            let error = match self.once(&mut request) {
                Ok(value) => return Ok(value),
                Err(error) => or_cancelled(&self.cancel, error),
            };
            tries += 1;
            if !error.is_retryable() {
                return Err(error);
            }
            let wait = self.backoff.after_failure((self.random)());
            let passed = self.clock.monotonic().saturating_sub(begun);
            if self
                .give_up_after
                .is_some_and(|limit| passed.saturating_add(wait) >= limit)
            {
                return Err(if tries == 1 {
                    error
                } else {
                    error.context(format!("tried {tries} times in {} s", passed.as_secs()))
                });
            }
            tracing::info!(%error, tries, wait_ms = wait.as_millis(), "the line failed, trying again");
            self.cancel
                .wait(&*self.clock, wait)
                .map_err(|stopped| stopped.with_source(error))?;
        }
    }

    fn once<T>(&mut self, request: &mut impl FnMut(&mut Connection) -> Result<T>) -> Result<T> {
        // Taken out, so that it stays only if all went well.
        let mut session = match self.session.take() {
            Some(session) => session,
            None => self.dial.dial()?,
        };
        let value = request(&mut session)?;
        self.backoff.reset();
        self.session = Some(session);
        Ok(value)
    }

    /// Shows both ends of an idle session, and what stands between them, that it is in use; to be called
    /// every few minutes. Does nothing where none is open, and opens none.
    ///
    /// # Errors
    /// What has become of the session, which is given up then: the next request opens another.
    pub fn keep_alive(&mut self) -> Result<()> {
        if self.session.is_none() {
            return Ok(());
        }
        self.once(&mut ping)
            .map_err(|error| or_cancelled(&self.cancel, error))
    }

    /// Whether a session is open, as far as is known.
    pub const fn is_open(&self) -> bool {
        self.session.is_some()
    }

    /// Ends the session in order; the next request opens another.
    ///
    /// # Errors
    /// `Unreachable` where the line was gone already; nothing is lost by that.
    pub fn close(&mut self) -> Result<()> {
        self.session.take().map_or(Ok(()), Connection::close)
    }
}

/// The cheapest thing to ask.
fn ping(connection: &mut Connection) -> Result<()> {
    connection.acks(&[DataSet::Ca]).map(drop)
}

/// Without randomness the whole wait: slow, and never a stampede.
fn drawn() -> u64 {
    random_bytes(&system_random()).map_or(u64::MAX, u64::from_le_bytes)
}

/// A session that stop was said to ends as a line that fails does; told is why.
pub(crate) fn or_cancelled(cancel: &Cancel, error: Error) -> Error {
    if error.kind() == ErrorKind::Unreachable && cancel.is_cancelled() {
        return Error::new(ErrorKind::Cancelled, "it was cancelled").with_source(error);
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;
    use pefo_core::clock::{FixedClock, Timestamp};
    use std::sync::Mutex;

    fn clock() -> Arc<FixedClock> {
        Arc::new(FixedClock::new(
            Timestamp::from_unix_seconds(1_763_800_000).unwrap(),
        ))
    }

    fn down() -> Error {
        Error::new(ErrorKind::Unreachable, "nobody listens")
    }

    /// A link whose every attempt to open fails, and when each was made.
    fn failing(
        clock: &Arc<FixedClock>,
        fail: impl Fn() -> Error,
    ) -> (Link<impl Dial>, Arc<Mutex<Vec<u64>>>) {
        let tried = Arc::new(Mutex::new(vec![]));
        let (noted, time) = (Arc::clone(&tried), Arc::clone(clock));
        let dial = move || {
            noted.lock().unwrap().push(time.monotonic().as_secs());
            Err(fail())
        };
        let link = Link::new(dial, Arc::clone(clock) as Arc<dyn Clock>).random(|| u64::MAX);
        (link, tried)
    }

    #[test]
    fn a_peer_that_is_down_is_tried_ever_less_often_until_the_time_is_over() {
        let clock = clock();
        let (link, tried) = failing(&clock, down);
        let error = link
            .give_up_after(Duration::from_secs(1_000))
            .with(|_| Ok(()))
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unreachable);
        assert_eq!(
            *tried.lock().unwrap(),
            [0, 1, 3, 7, 15, 31, 63, 127, 255, 511, 811]
        );
        assert_eq!(error.to_string(), "tried 11 times in 811 s: nobody listens");
    }

    #[test]
    fn with_no_time_allowed_it_is_tried_once() {
        let clock = clock();
        let (link, tried) = failing(&clock, down);
        let error = link
            .give_up_after(Duration::ZERO)
            .with(|_| Ok(()))
            .unwrap_err();
        assert_eq!(error.to_string(), "nobody listens");
        assert_eq!(tried.lock().unwrap().len(), 1);
    }

    #[test]
    fn a_no_is_told_at_once() {
        for kind in [
            ErrorKind::Denied,
            ErrorKind::Fenced,
            ErrorKind::Refused,
            ErrorKind::Protocol,
            ErrorKind::WrongRole,
            ErrorKind::Config,
        ] {
            let clock = clock();
            let (mut link, tried) = failing(&clock, || Error::new(kind, "no"));
            assert_eq!(link.with(|_| Ok(())).unwrap_err().kind(), kind);
            assert_eq!(tried.lock().unwrap().len(), 1, "{kind:?}");
        }
    }

    #[test]
    fn stop_ends_the_waiting_and_says_what_was_waited_for() {
        let (clock, cancel) = (clock(), Cancel::new());
        let (link, tried) = failing(&clock, down);
        let stop = cancel.clone();
        let mut left = 3;
        let random = move || {
            left -= 1;
            if left == 0 {
                stop.cancel();
            }
            u64::MAX
        };
        let error = link
            .cancel(cancel)
            .random(random)
            .with(|_| Ok(()))
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled);
        let source = std::error::Error::source(&error).unwrap();
        assert_eq!(source.to_string(), "nobody listens");
        assert_eq!(tried.lock().unwrap().len(), 3);
        assert_eq!(clock.monotonic(), Duration::from_secs(3));
    }

    #[test]
    fn a_time_that_is_set_back_does_not_prolong_the_trying() {
        let clock = clock();
        let (mut link, tried) = failing(&clock, down);
        let back = Arc::clone(&clock);
        link = link
            .give_up_after(Duration::from_secs(100))
            .random(move || {
                back.set(Timestamp::from_unix_seconds(0).unwrap());
                u64::MAX
            });
        link.with(|_| Ok(())).unwrap_err();
        assert_eq!(tried.lock().unwrap().len(), 7);
    }

    #[test]
    fn keeping_alive_opens_nothing() {
        let clock = clock();
        let (mut link, tried) = failing(&clock, down);
        link.keep_alive().unwrap();
        link.close().unwrap();
        assert!(!link.is_open());
        assert!(tried.lock().unwrap().is_empty());
    }
}
