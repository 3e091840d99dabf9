//! Which frame is legal when: one automaton, stepped by both sides, without I/O.
//!
//! ```text
//! Greeting ─hello→ Greeted ─welcome→ Idle ─bye→ Ended
//! Idle ─offer→ Document ─data…→ full:  Deciding ─need(already)→ Idle
//!                                              └need(files)→ Files ─(file, data…)…→ Ready
//!                               batch: Payload ─data…→ Ready
//! Ready ─publish→ Publishing ─published→ Idle
//! Idle ─acks→ AcksAsked ─ack set→ Idle      Idle ─heartbeat→ Beating ─ok→ Idle
//! from everywhere but Ended: ─refuse→ Ended
//! ```
//!
//! The phases are half-duplex: while one side speaks, the other says nothing but Refuse. The automaton
//! also counts: no more bytes than announced, no file that was not asked for, none twice, none left
//! out. Whatever passes it, a driver may handle without asking again whether it was its turn.

use std::collections::VecDeque;

use pefo_core::generation::Manifest;
use pefo_core::{Error, ErrorKind};

use crate::frame::Frame;
use crate::message::{Need, Offer, Shape};

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The one that opened the session.
    Sender,
    /// The one that was called.
    Receiver,
}

/// Where a session stands.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Greeting,
    Greeted,
    Idle,
    Document { offer: Offer, left: u64 },
    Deciding { offer: Offer },
    Payload { left: u64 },
    Files { queue: VecDeque<u32> },
    Content { left: u64, queue: VecDeque<u32> },
    Ready,
    Publishing,
    AcksAsked,
    Beating,
    Ended,
}

impl State {
    const fn name(&self) -> &'static str {
        match self {
            Self::Greeting => "greeting",
            Self::Greeted => "greeted",
            Self::Idle => "idle",
            Self::Document { .. } => "receiving a manifest",
            Self::Deciding { .. } => "deciding what is needed",
            Self::Payload { .. } => "receiving a payload",
            Self::Files { .. } => "between files",
            Self::Content { .. } => "receiving a file",
            Self::Ready => "ready to publish",
            Self::Publishing => "publishing",
            Self::AcksAsked => "asked for acks",
            Self::Beating => "taking a heartbeat",
            Self::Ended => "ended",
        }
    }
}

/// A frame that was not its side's turn, or not what was announced.
#[derive(Debug, thiserror::Error)]
#[error("the {side} sent {frame} while the session was {state}{}", why.map(|why| format!(": {why}")).unwrap_or_default())]
pub struct Violation {
    side: &'static str,
    frame: &'static str,
    state: &'static str,
    why: Option<&'static str>,
}

impl From<Violation> for Error {
    fn from(violation: Violation) -> Self {
        Self::new(ErrorKind::Protocol, violation.to_string()).with_source(violation)
    }
}

/// A session, seen from either side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    state: State,
}

impl Default for Session {
    fn default() -> Self {
        Self {
            state: State::Greeting,
        }
    }
}

impl Session {
    /// Nothing has been said yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether a new request may be made.
    pub fn is_idle(&self) -> bool {
        self.state == State::Idle
    }

    /// Whether nothing more may be said.
    pub fn has_ended(&self) -> bool {
        self.state == State::Ended
    }

    /// Whether all that was announced has arrived and only Publish is missing.
    pub fn is_ready(&self) -> bool {
        self.state == State::Ready
    }

    /// Whether the manifest of an offered generation is still arriving.
    pub fn awaits_document(&self) -> bool {
        matches!(self.state, State::Document { .. })
    }

    /// Whether the receiver is asked whether the offered generation stands.
    pub fn is_publishing(&self) -> bool {
        self.state == State::Publishing
    }

    /// Ends the session without a word: the line is gone.
    pub fn end(&mut self) {
        self.state = State::Ended;
    }

    /// Takes note that `side` says `frame`.
    ///
    /// # Errors
    /// Where it must not; the session has then ended.
    pub fn step(&mut self, side: Side, frame: &Frame) -> Result<(), Violation> {
        let state = std::mem::replace(&mut self.state, State::Ended);
        let name = state.name();
        self.state = next(state, side, frame).map_err(|why| Violation {
            side: match side {
                Side::Sender => "sender",
                Side::Receiver => "receiver",
            },
            frame: frame.name(),
            state: name,
            why,
        })?;
        Ok(())
    }
}

fn next(state: State, side: Side, frame: &Frame) -> Result<State, Option<&'static str>> {
    use Side::{Receiver, Sender};
    Ok(match (state, side, frame) {
        (State::Ended, _, _) => return Err(None),
        (_, Receiver, Frame::Refuse(_)) => State::Ended,
        (State::Greeting, Sender, Frame::Hello(_)) => State::Greeted,
        (State::Greeted, Receiver, Frame::Welcome(_)) => State::Idle,
        (State::Idle, Sender, Frame::Bye) => State::Ended,
        (State::Idle, Sender, Frame::Acks(_)) => State::AcksAsked,
        (State::AcksAsked, Receiver, Frame::AckSet(_)) => State::Idle,
        (State::Idle, Sender, Frame::Heartbeat(_)) => State::Beating,
        (State::Beating, Receiver, Frame::Ok) => State::Idle,
        (State::Idle, Sender, Frame::Offer(offer)) => offered(offer)?,
        (State::Document { offer, left }, Sender, Frame::Data(bytes)) => {
            match (take(left, bytes)?, offer.form) {
                (0, Shape::Full) => State::Deciding { offer },
                (0, Shape::Batch) => payload(offer.payload_bytes),
                (left, _) => State::Document { offer, left },
            }
        }
        (State::Payload { left }, Sender, Frame::Data(bytes)) => payload(take(left, bytes)?),
        (State::Deciding { .. }, Receiver, Frame::Need(Need::Already)) => State::Idle,
        (State::Deciding { offer }, Receiver, Frame::Need(Need::Files(wanted))) => {
            if !wanted.fits(offer.files) {
                return Err(Some("it is not of the manifest's length"));
            }
            files(wanted.indices().collect())
        }
        (State::Files { mut queue }, Sender, Frame::File(file)) => {
            if queue.pop_front() != Some(file.index) {
                return Err(Some("it is not the next file that was asked for"));
            }
            content(file.size, queue)
        }
        (State::Content { left, queue }, Sender, Frame::Data(bytes)) => {
            content(take(left, bytes)?, queue)
        }
        (State::Ready, Sender, Frame::Publish) => State::Publishing,
        (State::Publishing, Receiver, Frame::Published(_)) => State::Idle,
        _ => return Err(None),
    })
}

fn offered(offer: &Offer) -> Result<State, Option<&'static str>> {
    if !(1..=Manifest::MAX_BYTES).contains(&offer.document_bytes) {
        return Err(Some("the manifest's length is out of range"));
    }
    if u64::from(offer.files) > Manifest::MAX_ENTRIES as u64 {
        return Err(Some("there are too many files"));
    }
    if offer.form == Shape::Batch
        && (offer.files != 0 || offer.payload_bytes > Manifest::MAX_PAYLOAD_BYTES)
    {
        return Err(Some("the batch has files or too long a payload"));
    }
    Ok(State::Document {
        left: offer.document_bytes,
        offer: offer.clone(),
    })
}

fn take(left: u64, bytes: &[u8]) -> Result<u64, Option<&'static str>> {
    left.checked_sub(bytes.len() as u64)
        .ok_or(Some("there are more bytes than were announced"))
}

fn payload(left: u64) -> State {
    match left {
        0 => State::Ready,
        left => State::Payload { left },
    }
}

fn files(queue: VecDeque<u32>) -> State {
    if queue.is_empty() {
        State::Ready
    } else {
        State::Files { queue }
    }
}

fn content(left: u64, queue: VecDeque<u32>) -> State {
    match left {
        0 => files(queue),
        left => State::Content { left, queue },
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
