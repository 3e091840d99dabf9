//! Which frame is legal when: one automaton, stepped by both sides, without I/O.
//!
//! ```text
//! Greeting ─hello→ Greeted ─welcome→ Idle ─bye→ Ended
//! Idle ─offer→ Document ─data…→ full, asked batch: Exchange (see there) ─need(already)→ Idle
//!                             → batch: Payload ─data…→ Ready
//! Ready ─publish→ Publishing ─published→ Idle      Exchange ─abandon→ Answering
//! Idle ─acks→ AcksAsked ─ack set→ Idle             Idle ─heartbeat, ping, request, notice→ Answering ─ok→ Idle
//! Idle ─answer query→ AnswerAsked ─answer→ AnswerData ─data…→ Idle
//! from everywhere but Ended: ─refuse→ Ended
//! ```
//!
//! The phases are half-duplex: while one side speaks, the other says nothing but Refuse. The automaton
//! also counts: no more bytes than announced, no file that was not asked for, none twice, none left
//! out. Whatever passes it, a driver may handle without asking again whether it was its turn.

pub(crate) mod exchange;

use pefo_core::generation::Manifest;
use pefo_core::{Error, ErrorKind};

use crate::frame::Frame;
use crate::message::{AnswerHead, Capabilities, Need, Offer, Shape};
use exchange::{Exchange, take};

/// The longest batch payload that is sent without waiting for an answer, in bytes. A longer one is
/// asked for where both can (`ask`), so that it can be taken up where it was cut.
pub const EAGER_BATCH_BYTES: u64 = 1 << 20;

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
    Exchange(Exchange),
    Payload { left: u64 },
    Publishing,
    AcksAsked,
    Answering,
    AnswerAsked,
    AnswerData { left: u64 },
    Ended,
}

impl State {
    const fn name(&self) -> &'static str {
        match self {
            Self::Greeting => "greeting",
            Self::Greeted => "greeted",
            Self::Idle => "idle",
            Self::Document { .. } => "receiving a manifest",
            Self::Exchange(exchange) => exchange.name(),
            Self::Payload { .. } => "receiving a payload",
            Self::Publishing => "publishing",
            Self::AcksAsked => "asked for acks",
            Self::Answering => "waiting for an ok",
            Self::AnswerAsked => "asked for an answer",
            Self::AnswerData { .. } => "receiving an answer",
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

impl Violation {
    pub(crate) fn new(
        side: Side,
        frame: &Frame,
        state: &'static str,
        why: Option<&'static str>,
    ) -> Self {
        Self {
            side: match side {
                Side::Sender => "sender",
                Side::Receiver => "receiver",
            },
            frame: frame.name(),
            state,
            why,
        }
    }
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
    agreed: Capabilities,
}

impl Default for Session {
    fn default() -> Self {
        Self {
            state: State::Greeting,
            agreed: Capabilities::NONE,
        }
    }
}

impl Session {
    /// Nothing has been said yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// What both sides have named in their greetings.
    pub fn agree(&mut self, agreed: Capabilities) {
        self.agreed = agreed;
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
        self.state == State::Exchange(Exchange::Ready)
    }

    /// Whether the manifest of an offered generation is still arriving.
    pub fn awaits_document(&self) -> bool {
        matches!(self.state, State::Document { .. })
    }

    /// Whether the receiver is asked whether the offered generation stands.
    pub fn is_publishing(&self) -> bool {
        self.state == State::Publishing
    }

    /// Whether a generation may be abandoned now.
    pub fn may_abandon(&self) -> bool {
        self.agreed.ask && matches!(&self.state, State::Exchange(exchange) if exchange.is_sending())
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
        self.state = next(state, side, frame, self.agreed)
            .map_err(|why| Violation::new(side, frame, name, why))?;
        Ok(())
    }
}

fn next(
    state: State,
    side: Side,
    frame: &Frame,
    agreed: Capabilities,
) -> Result<State, Option<&'static str>> {
    use Side::{Receiver, Sender};
    Ok(match (state, side, frame) {
        (State::Ended, _, _) => return Err(None),
        (_, Receiver, Frame::Refuse(_)) => State::Ended,
        (State::Greeting, Sender, Frame::Hello(_)) => State::Greeted,
        (State::Greeted, Receiver, Frame::Welcome(_)) => State::Idle,
        (State::Idle, Sender, Frame::Bye) => State::Ended,
        (State::Idle, Sender, Frame::Acks(_)) => State::AcksAsked,
        (State::AcksAsked, Receiver, Frame::AckSet(_)) => State::Idle,
        (
            State::Idle,
            Sender,
            Frame::Heartbeat(_) | Frame::Ping | Frame::Request(_) | Frame::Notice(_),
        ) => State::Answering,
        (State::Answering, Receiver, Frame::Ok) => State::Idle,
        (State::Idle, Sender, Frame::AnswerQuery(_)) => State::AnswerAsked,
        (State::AnswerAsked, Receiver, Frame::Answer(head)) => {
            if head.bytes > AnswerHead::MAX_BYTES {
                return Err(Some("it is too long"));
            }
            answer(head.bytes)
        }
        (State::AnswerData { left }, Receiver, Frame::Data(bytes)) => answer(take(left, bytes)?),
        (State::Idle, Sender, Frame::Offer(offer)) => offered(offer)?,
        (State::Document { offer, left }, Sender, Frame::Data(bytes)) => {
            match (take(left, bytes)?, offer.form) {
                (0, Shape::Full) => State::Exchange(Exchange::new(offer.files)),
                (0, Shape::Batch) if offer.is_asked(agreed) => State::Exchange(Exchange::new(1)),
                (0, Shape::Batch) => payload(offer.payload_bytes),
                (left, _) => State::Document { offer, left },
            }
        }
        (State::Payload { left }, Sender, Frame::Data(bytes)) => payload(take(left, bytes)?),
        (State::Exchange(Exchange::Deciding { .. }), Receiver, Frame::Need(Need::Already)) => {
            State::Idle
        }
        (State::Exchange(Exchange::Ready), Sender, Frame::Publish) => State::Publishing,
        (State::Exchange(exchange), Sender, Frame::Abandon) if exchange.is_sending() => {
            State::Answering
        }
        (State::Exchange(exchange), side, frame) => State::Exchange(exchange.step(side, frame)?),
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

fn payload(left: u64) -> State {
    match left {
        0 => State::Exchange(Exchange::Ready),
        left => State::Payload { left },
    }
}

fn answer(left: u64) -> State {
    match left {
        0 => State::Idle,
        left => State::AnswerData { left },
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
pub(crate) mod tests;
