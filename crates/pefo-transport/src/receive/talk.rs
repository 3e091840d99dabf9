//! The receiver's end of a session: frames in and out, each held against the automaton.

use pefo_core::{Error, Result};

use crate::exchange::Turn;
use crate::frame::Frame;
use crate::message::{Capabilities, Refuse};
use crate::session::{Session, Side};
use crate::wire::{self, Duplex, FrameTime, Wire};

pub(super) struct Talk<'a> {
    wire: Wire<'a, Duplex<'a>>,
    session: Session,
}

impl<'a> Talk<'a> {
    pub(super) fn new(stream: Duplex<'a>, frame_time: FrameTime<'a>) -> Self {
        Self {
            wire: Wire::new(stream, Some(frame_time)),
            session: Session::new(),
        }
    }

    /// Both sides' first bytes.
    pub(super) fn meet(&mut self) -> Result<()> {
        self.wire.flush()?;
        self.wire.meet()
    }

    /// From now on what was agreed may be said. The receiver compresses nothing: its signatures do not
    /// shrink.
    pub(super) fn agree(&mut self, agreed: Capabilities) {
        self.session.agree(agreed);
        self.wire.agree(agreed, 0);
    }

    pub(super) fn agreed(&self) -> Capabilities {
        self.wire.agreed()
    }

    /// Whether the manifest of an offered generation is still arriving.
    pub(super) fn awaits_document(&self) -> bool {
        self.session.awaits_document()
    }

    /// The next frame; `None` where the peer is gone.
    pub(super) fn next(&mut self) -> Result<Option<Frame>> {
        self.wire.flush()?;
        let frame = self.wire.receive()?;
        if let Some(frame) = &frame {
            self.session.step(Side::Sender, frame)?;
        }
        Ok(frame)
    }

    /// Says a frame at once.
    pub(super) fn say_now(&mut self, frame: &Frame) -> Result<()> {
        self.say(frame)?;
        self.wire.flush()
    }

    /// Tells the peer why the session ends.
    pub(super) fn refuse(&mut self, error: &Error) {
        // A peer that is gone cannot be told, and that is no news.
        let told = self
            .wire
            .queue(&Frame::Refuse(Refuse::of(error)))
            .and_then(|()| self.wire.flush());
        drop(told);
    }
}

impl Turn for Talk<'_> {
    fn say(&mut self, frame: &Frame) -> Result<()> {
        self.session.step(Side::Receiver, frame)?;
        self.wire.queue(frame)
    }

    /// A sender that gives up is an error like one that is gone; [`crate::exchange::abandoned`] tells it.
    fn hear(&mut self) -> Result<Frame> {
        self.next()?
            .ok_or_else(|| wire::cut("in the middle of a generation"))
    }
}
