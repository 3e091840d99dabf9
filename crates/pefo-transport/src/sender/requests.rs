//! What crosses beside generations: signs of life, requests to the peer's root, notices of a reign.

use pefo_core::reign::Station;
use pefo_core::request::{Nonce, Request};
use pefo_core::{Error, ErrorKind, Result};

use super::{Connection, unexpected};
use crate::frame::Frame;
use crate::message::AnswerQuery;

impl Connection {
    /// Asks for a sign of life, on an idle session.
    ///
    /// # Errors
    /// `Protocol`, where the peer's pefo has no pings, and nothing was said; `Unreachable` where the line
    /// is cut.
    pub fn ping(&mut self) -> Result<()> {
        self.need(self.wire.agreed().ping, "pings")?;
        self.told(&Frame::Ping)
    }

    /// Hands over a signed request to the peer's root ([`Request::sign`]). Root answers when it next runs
    /// ([`Connection::answer`]). The same request may be handed over again.
    ///
    /// # Errors
    /// What the receiver refuses: `Refused` (`requests-pending`, `request-conflict`, …), `WrongRole`,
    /// `Fenced`; `Locked` where another session is handing one over; `Protocol`, where the peer's pefo
    /// has no requests, and `Invalid`, where it is too long, and nothing was said; `Unreachable` where
    /// the line is cut.
    pub fn request(&mut self, document: &[u8]) -> Result<()> {
        self.need_requests()?;
        fits(document, Request::MAX_BYTES, "request")?;
        self.told(&Frame::Request(document.to_vec()))
    }

    /// What the peer's root has answered to a request, unchecked
    /// ([`Answer::check`](pefo_core::request::Answer::check)); `None` where it has not yet. At most
    /// [`Answer::MAX_BYTES`](pefo_core::request::Answer::MAX_BYTES).
    ///
    /// # Errors
    /// `Protocol`, where the peer's pefo has no requests, and nothing was said; `Unreachable` where the
    /// line is cut.
    pub fn answer(&mut self, nonce: &Nonce) -> Result<Option<Vec<u8>>> {
        self.need_requests()?;
        let query = Frame::AnswerQuery(AnswerQuery {
            nonce: nonce.clone(),
        });
        let answered = self.say(&query).and_then(|()| self.read_answer());
        answered.map_err(|error| self.ended(error))
    }

    /// Memory grows with what arrives; the session refuses more than was announced.
    fn read_answer(&mut self) -> Result<Option<Vec<u8>>> {
        let head = match self.ask()? {
            Frame::Answer(head) => head,
            other => return Err(unexpected(&other)),
        };
        let mut document = Vec::new();
        while !self.session.is_idle() {
            match self.ask()? {
                Frame::Data(bytes) => document.extend_from_slice(&bytes),
                other => return Err(unexpected(&other)),
            }
        }
        Ok((head.bytes > 0).then_some(document))
    }

    /// Tells the peer of a newer reign by its signed record, whatever the peer's role; one that it knows
    /// already changes nothing.
    ///
    /// # Errors
    /// What the receiver refuses: `Refused` (`split-reign`, `signature`, …); `Protocol`, where the
    /// peer's pefo has no notices, and `Invalid`, where it is too long, and nothing was said;
    /// `Unreachable` where the line is cut.
    pub fn notice(&mut self, record: &[u8]) -> Result<()> {
        self.need_requests()?;
        fits(record, Station::MAX_BYTES, "reign record")?;
        self.told(&Frame::Notice(record.to_vec()))
    }

    fn told(&mut self, frame: &Frame) -> Result<()> {
        match self.say(frame).and_then(|()| self.ask()) {
            Ok(Frame::Ok) => Ok(()),
            Ok(other) => Err(self.ended(unexpected(&other))),
            Err(error) => Err(self.ended(error)),
        }
    }

    fn need_requests(&self) -> Result<()> {
        self.need(self.wire.agreed().request, "requests")
    }

    fn need(&self, has: bool, what: &str) -> Result<()> {
        if has {
            return Ok(());
        }
        let message = format!(
            "{} ({}) speaks no {what}",
            self.peer.certname, self.peer.tool
        );
        Err(Error::new(ErrorKind::Protocol, message).hint("upgrade pefo there"))
    }
}

fn fits(document: &[u8], max_bytes: u64, what: &str) -> Result<()> {
    if document.len() as u64 <= max_bytes {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "the {what} is longer than {max_bytes} bytes"
    )))
}
