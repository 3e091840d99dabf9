//! The active's side: a session over any stream.
//!
//! One thread owns a [`Connection`]. A request is sent whole, then its answer is read; only a refusal
//! may come earlier, and ends the session. After any error the connection has ended: open a new one
//! (tens of milliseconds) and push again. A generation that did arrive is then answered *already*.

mod greeting;
mod push;
mod requests;

use std::collections::BTreeMap;
use std::io::{Read, Write};

use pefo_core::cancel::Cancel;
use pefo_core::generation::{DataSet, Position};
use pefo_core::{Error, ErrorKind, Result};

use crate::frame::Frame;
use crate::link::{LinkOptions, or_cancelled};
use crate::message::{AcksQuery, Capabilities, Hello, Protocols, Purpose};
use crate::session::{Session, Side};
use crate::wire::{self, Plain, Stream, Wire};

pub use greeting::{Introduced, Peer};

/// How a push ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pushed {
    /// The generation that stands in the peer's spool.
    pub position: Position,
    /// Files whose content was sent; 1 for a batch.
    pub files_sent: u64,
    /// Files that the peer had already.
    pub files_reused: u64,
    /// Bytes of content that were sent, the manifest included, before compression.
    pub bytes_sent: u64,
    /// Bytes of the files sent that needed not cross: the peer had them from a session that was cut, or
    /// in an older file.
    pub bytes_saved: u64,
    /// Whether this very generation stood there before.
    pub already: bool,
}

/// A session after the greeting.
pub struct Connection {
    wire: Wire<'static, Box<dyn Stream>>,
    session: Session,
    peer: Peer,
    cancel: Cancel,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("peer", &self.peer)
            .field("session", &self.session)
            .finish_non_exhaustive()
    }
}

impl Connection {
    /// Connects over ssh and greets.
    ///
    /// # Errors
    /// `Unreachable`, `Denied`, `Refused` with rule `host-key`, `Io`, `Config`, `Protocol`; and as
    /// [`Connection::over`].
    #[cfg(feature = "ssh")]
    pub fn open(
        target: &crate::ssh::SshTarget,
        me: &Introduced,
        purpose: &Purpose,
    ) -> Result<Self> {
        Self::open_with(target, me, purpose, &LinkOptions::default())
    }

    /// As [`Connection::open`], held as `options` say.
    ///
    /// # Errors
    /// As [`Connection::open`], and `Cancelled`.
    #[cfg(feature = "ssh")]
    pub fn open_with(
        target: &crate::ssh::SshTarget,
        me: &Introduced,
        purpose: &Purpose,
        options: &LinkOptions,
    ) -> Result<Self> {
        let stream = crate::ssh::connect(target, &options.cancel)?;
        Self::greet(Box::new(stream), me, purpose, options).map_err(|error| error.context(target))
    }

    /// Greets over any stream. Time limits are the stream's business.
    ///
    /// # Errors
    /// `Protocol` where something else than pefo answers, or one of another version; `Unreachable`
    /// where the line is cut; what the receiver refuses, in its own kind: `Fenced`, `Refused`
    /// (`site`, `split-reign`, `reign-unknown`, …).
    pub fn over(
        stream: impl Read + Write + Send + 'static,
        me: &Introduced,
        purpose: &Purpose,
    ) -> Result<Self> {
        Self::over_with(stream, me, purpose, &LinkOptions::default())
    }

    /// As [`Connection::over`], held as `options` say. Stop is looked for between two frames and
    /// while a bandwidth limit holds writing up; what else waits is the stream's business.
    ///
    /// # Errors
    /// As [`Connection::over`], and `Cancelled`.
    pub fn over_with(
        stream: impl Read + Write + Send + 'static,
        me: &Introduced,
        purpose: &Purpose,
        options: &LinkOptions,
    ) -> Result<Self> {
        Self::greet(Box::new(Plain(stream)), me, purpose, options)
    }

    fn greet(
        stream: Box<dyn Stream>,
        me: &Introduced,
        purpose: &Purpose,
        options: &LinkOptions,
    ) -> Result<Self> {
        let mut wire = Wire::new(options.pace.over(stream, &options.cancel), None);
        let mut session = Session::new();
        let hello = Frame::Hello(Hello {
            protocol: Protocols::OURS,
            tool: me.tool.clone(),
            site: me.site.clone(),
            certname: me.certname.clone(),
            role: me.station.role,
            purpose: purpose.clone(),
            reign: me.station.current.clone(),
            capabilities: Capabilities::OURS.words(),
        });
        session.step(Side::Sender, &hello)?;
        wire.queue(&hello)?;
        // A program that ends at once can make this fail; what it said is then still to be read.
        let sent = wire.flush();
        let welcome = match wire
            .meet()
            .and_then(|()| answer(&mut wire, &mut session, "the peer"))
        {
            Ok(Frame::Welcome(welcome)) => welcome,
            Ok(other) => return Err(unexpected(&other)),
            Err(error) => {
                // What was read of another program tells more than that it did not listen.
                let answered = wire.was_answered();
                let error = sent.err().filter(|_| !answered).unwrap_or(error);
                let error = or_cancelled(&options.cancel, error);
                return Err(wire::with_farewell(error, wire.stream()));
            }
        };
        sent?;
        let peer = greeting::introduce(welcome, me)?;
        session.agree(peer.capabilities);
        wire.agree(peer.capabilities, me.compression);
        Ok(Self {
            wire,
            session,
            peer,
            cancel: options.cancel.clone(),
        })
    }

    /// Who the other side is.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Hands over a signed heartbeat.
    ///
    /// # Errors
    /// What the receiver refuses; `Unreachable` where the line is cut.
    pub fn heartbeat(&mut self, document: &[u8]) -> Result<()> {
        let asked = self
            .say(&Frame::Heartbeat(document.to_vec()))
            .and_then(|()| self.ask());
        match asked {
            Ok(Frame::Ok) => Ok(()),
            Ok(other) => Err(self.ended(unexpected(&other))),
            Err(error) => Err(self.ended(error)),
        }
    }

    /// The peer's signed acks of some data sets, unchecked ([`pefo_core::ack::Ack::check`]); a data set
    /// that has none is left out.
    ///
    /// # Errors
    /// What the receiver refuses; `Unreachable` where the line is cut.
    pub fn acks(&mut self, datasets: &[DataSet]) -> Result<BTreeMap<DataSet, Vec<u8>>> {
        let mut found = BTreeMap::new();
        for some in datasets.chunks(AcksQuery::MAX) {
            let query = Frame::Acks(AcksQuery {
                datasets: some.to_vec(),
            });
            match self.say(&query).and_then(|()| self.ask()) {
                Ok(Frame::AckSet(set)) => found.extend(
                    set.documents
                        .into_iter()
                        .filter(|(dataset, _)| some.contains(dataset))
                        .map(|(dataset, document)| (dataset, document.into_bytes())),
                ),
                Ok(other) => return Err(self.ended(unexpected(&other))),
                Err(error) => return Err(self.ended(error)),
            }
        }
        Ok(found)
    }

    /// Bytes that have crossed so far.
    pub fn traffic(&self) -> crate::wire::Traffic {
        self.wire.traffic()
    }

    /// Says goodbye and ends the session.
    ///
    /// # Errors
    /// `Unreachable` where the line was gone already; nothing is lost by that.
    pub fn close(mut self) -> Result<()> {
        // A peer takes the end of an idle line for a goodbye.
        if self.session.has_ended() || self.cancel.is_cancelled() {
            return Ok(());
        }
        self.say(&Frame::Bye)?;
        self.wire.flush()?;
        self.wire
            .stream()
            .finish()
            .map_err(|error| wire::cut("while it was closed").with_source(error))
    }

    fn say(&mut self, frame: &Frame) -> Result<()> {
        self.cancel.check()?;
        self.put(frame)
    }

    /// Says a frame, whether or not stop was said.
    fn put(&mut self, frame: &Frame) -> Result<()> {
        self.session.step(Side::Sender, frame)?;
        self.wire
            .queue(frame)
            .or_else(|error| self.heard_instead(error))
    }

    fn ask(&mut self) -> Result<Frame> {
        self.wire
            .flush()
            .or_else(|error| self.heard_instead(error))?;
        answer(
            &mut self.wire,
            &mut self.session,
            self.peer.certname.as_str(),
        )
    }

    /// A peer that refuses while we speak stops reading: what it said matters more than that our
    /// words did not get through.
    fn heard_instead(&mut self, error: Error) -> Result<()> {
        if self.cancel.is_cancelled() {
            return Err(error);
        }
        match self.wire.receive() {
            Ok(Some(Frame::Refuse(refuse))) => Err(refuse.into_error(self.peer.certname.as_str())),
            _ => Err(error),
        }
    }

    /// Takes back a generation that is being sent: the peer forgets what it has of it, and the session can
    /// go on. Where nothing can be taken back the session ends.
    pub(crate) fn abandon(&mut self) -> Result<()> {
        if !self.session.may_abandon() {
            self.session.end();
            return Err(Error::new(
                ErrorKind::Cancelled,
                "the session ended in the middle of a request",
            ));
        }
        let answered = self.put(&Frame::Abandon).and_then(|()| self.ask());
        match answered {
            Ok(Frame::Ok) => Ok(()),
            Ok(other) => {
                self.session.end();
                Err(unexpected(&other))
            }
            Err(error) => {
                self.session.end();
                Err(error)
            }
        }
    }

    fn ended(&mut self, error: Error) -> Error {
        let stopped = matches!(error.kind(), ErrorKind::Unreachable | ErrorKind::Cancelled);
        if stopped && self.cancel.is_cancelled() {
            return self.cancelled(error);
        }
        let unknown = self.session.is_publishing() && error.kind() == ErrorKind::Unreachable;
        self.session.end();
        if !unknown {
            return error;
        }
        Error::new(
            ErrorKind::Unknown,
            format!("whether the generation was published is unknown: {error}"),
        )
        .hint("push again: a generation that did arrive is not sent twice")
        .retryable(true)
        .with_source(error)
    }

    /// Takes back what was begun: whatever a request that is stopped still has to do, it does here.
    ///
    /// Nothing of ours is left by then: what is sent is read from where it lies. The peer shows nothing of a
    /// generation when the line ends without a Publish, and goes on with it at the next push: stop is
    /// said by who shuts down or restarts more often than by who has thought better of it.
    fn cancelled(&mut self, error: Error) -> Error {
        let message = if self.session.is_publishing() {
            "it was cancelled before the peer said whether the generation was published"
        } else {
            "it was cancelled"
        };
        self.session.end();
        Error::new(ErrorKind::Cancelled, message).with_source(error)
    }
}

fn answer(
    wire: &mut Wire<'static, Box<dyn Stream>>,
    session: &mut Session,
    peer: &str,
) -> Result<Frame> {
    let frame = wire
        .receive()?
        .ok_or_else(|| wire::cut("before it answered"))?;
    session.step(Side::Receiver, &frame)?;
    match frame {
        Frame::Refuse(refuse) => Err(refuse.into_error(peer)),
        frame => Ok(frame),
    }
}

fn unexpected(frame: &Frame) -> Error {
    Error::new(
        ErrorKind::Protocol,
        format!("the peer answered with {}", frame.name()),
    )
}
