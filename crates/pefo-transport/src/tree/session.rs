//! Which frame is legal when in a session about a tree; without I/O.
//!
//! ```text
//! Greeting ─open→ Opening ─opened→ Idle ─bye→ Ended          Idle ─ping→ Answering ─ok→ Idle
//! Idle ─summary→ Comparing ─differs(nowhere)→ Idle
//!                          └differs→ Differing ─entries(buckets)→ Listing
//! Idle ─entries(paths)→ Listing ─data…→ Exchange ─commit→ Committing ─committed→ Idle
//! Exchange ─abandon→ Answering
//! from everywhere but Ended: ─refuse→ Ended
//! ```
//!
//! What crosses in Exchange stands in [`crate::session::exchange`].

use crate::frame::Frame;
use crate::session::exchange::{Exchange, take};
use crate::session::{Side, Violation};

use super::message::{EntriesHead, Scope};

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Greeting,
    Opening,
    Idle,
    Comparing {
        bucket_bits: u8,
    },
    Differing,
    Listing {
        head: EntriesHead,
        left: u64,
    },
    /// All entries are here; how many of them are files is known to who reads them.
    Listed {
        head: EntriesHead,
    },
    Exchange(Exchange),
    Committing,
    Answering,
    Ended,
}

impl State {
    const fn name(&self) -> &'static str {
        match self {
            Self::Greeting => "greeting",
            Self::Opening => "opening",
            Self::Idle => "idle",
            Self::Comparing { .. } => "comparing",
            Self::Differing => "about to list what differs",
            Self::Listing { .. } => "listing",
            Self::Listed { .. } => "listed",
            Self::Exchange(exchange) => exchange.name(),
            Self::Committing => "committing",
            Self::Answering => "waiting for an ok",
            Self::Ended => "ended",
        }
    }
}

/// A tree session, seen from either side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeSession {
    state: State,
}

impl Default for TreeSession {
    fn default() -> Self {
        Self {
            state: State::Greeting,
        }
    }
}

impl TreeSession {
    /// Nothing has been said yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether nothing more may be said.
    pub fn has_ended(&self) -> bool {
        self.state == State::Ended
    }

    /// Whether a new request may be made.
    pub fn is_idle(&self) -> bool {
        self.state == State::Idle
    }

    /// Whether entries are still arriving.
    pub fn awaits_entries(&self) -> bool {
        matches!(self.state, State::Listing { .. })
    }

    /// Whether the receiver is asked whether the change stands.
    pub fn is_committing(&self) -> bool {
        self.state == State::Committing
    }

    /// Whether what is being sent may be abandoned now.
    pub fn may_abandon(&self) -> bool {
        matches!(&self.state, State::Exchange(exchange) if exchange.is_sending())
    }

    /// Ends the session without a word: the line is gone.
    pub fn end(&mut self) {
        self.state = State::Ended;
    }

    /// All entries have been read. Both sides call it, with those places in the list that are files.
    pub fn listed(&mut self, files: impl IntoIterator<Item = u32>) {
        if let State::Listed { head } = self.state {
            self.state = State::Exchange(if head.eager {
                Exchange::unasked(files)
            } else {
                Exchange::new(head.entries)
            });
        }
    }

    /// Takes note that `side` says `frame`.
    ///
    /// # Errors
    /// Where it must not; the session has then ended.
    pub fn step(&mut self, side: Side, frame: &Frame) -> Result<(), Violation> {
        let state = std::mem::replace(&mut self.state, State::Ended);
        let name = state.name();
        self.state =
            next(state, side, frame).map_err(|why| Violation::new(side, frame, name, why))?;
        Ok(())
    }
}

fn next(state: State, side: Side, frame: &Frame) -> Result<State, Option<&'static str>> {
    use Side::{Receiver, Sender};
    Ok(match (state, side, frame) {
        (State::Ended, _, _) => return Err(None),
        (_, Receiver, Frame::Refuse(_)) => State::Ended,
        (State::Greeting, Sender, Frame::Open(_)) => State::Opening,
        (State::Opening, Receiver, Frame::Opened(_)) => State::Idle,
        (State::Idle, Sender, Frame::Bye) => State::Ended,
        (State::Idle, Sender, Frame::Ping) => State::Answering,
        (State::Answering, Receiver, Frame::Ok) => State::Idle,
        (State::Idle, Sender, Frame::Summary(summary)) => State::Comparing {
            bucket_bits: summary.bucket_bits,
        },
        (State::Comparing { bucket_bits }, Receiver, Frame::Differs(differs)) => {
            if !differs.fits(bucket_bits) {
                return Err(Some("it is of another count of buckets"));
            }
            if differs.is_nowhere() {
                State::Idle
            } else {
                State::Differing
            }
        }
        (State::Differing, Sender, Frame::Entries(head)) => listing(head, Scope::Buckets)?,
        (State::Idle, Sender, Frame::Entries(head)) => listing(head, Scope::Paths)?,
        (State::Listing { head, left }, Sender, Frame::Data(bytes)) => {
            arriving(head, take(left, bytes)?)
        }
        (State::Exchange(Exchange::Ready), Sender, Frame::Commit(_)) => State::Committing,
        (State::Exchange(exchange), Sender, Frame::Abandon) if exchange.is_sending() => {
            State::Answering
        }
        (State::Exchange(exchange), side, frame) => State::Exchange(exchange.step(side, frame)?),
        (State::Committing, Receiver, Frame::Committed(_)) => State::Idle,
        _ => return Err(None),
    })
}

fn listing(head: &EntriesHead, scope: Scope) -> Result<State, Option<&'static str>> {
    if head.scope != scope {
        return Err(Some("it is not about what was asked for"));
    }
    if head.entries > EntriesHead::MAX_ENTRIES || head.bytes > EntriesHead::MAX_BYTES {
        return Err(Some("there are too many entries"));
    }
    if head.eager && (head.entries > EntriesHead::MAX_EAGER || scope == Scope::Buckets) {
        return Err(Some("too many files would follow unasked"));
    }
    Ok(arriving(*head, head.bytes))
}

fn arriving(head: EntriesHead, left: u64) -> State {
    match left {
        0 => State::Listed { head },
        left => State::Listing { head, left },
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
