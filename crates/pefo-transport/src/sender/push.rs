//! Sending a generation: what the peer has not got, in the way it asks for it.

use std::io::Cursor;

use pefo_core::generation::{Outgoing, Payload};
use pefo_core::progress::Progress;
use pefo_core::{Error, ErrorKind, Result};

use super::{Connection, Pushed, unexpected};
use crate::exchange::{self, Content, Files, Needs, Turn};
use crate::frame::Frame;
use crate::message::{Offer, Shape};

impl Turn for Connection {
    fn say(&mut self, frame: &Frame) -> Result<()> {
        Self::say(self, frame)
    }

    fn hear(&mut self) -> Result<Frame> {
        self.ask()
    }
}

impl Connection {
    /// Sends a generation, except what the peer has already: whole files, the rest of what was cut in
    /// an earlier session, or the difference to an older file.
    ///
    /// # Errors
    /// What the receiver refuses, in its own kind; `Refused` (`transfer-again`, retryable) where a part did
    /// not fit what the peer had; `Unreachable` where the line is cut before the generation is whole;
    /// `Unknown` (worth a retry) where it is cut after that, before the answer; `Io` where a file of the
    /// generation cannot be read or has changed; `Cancelled`, and then the peer shows nothing of it, unless
    /// all had been sent and only the answer was missing.
    pub fn push(&mut self, outgoing: &Outgoing, progress: &dyn Progress) -> Result<Pushed> {
        let outcome = self.push_parts(outgoing, progress);
        progress.end();
        outcome.map_err(|error| {
            // Where our own disk failed, the peer needs not keep what will never be whole, and the next
            // generation can be sent on the same line.
            let ours = error.kind() == ErrorKind::Io && self.session.may_abandon();
            if ours && self.abandon().is_ok() {
                return error;
            }
            self.ended(error)
        })
    }

    fn push_parts(&mut self, outgoing: &Outgoing, progress: &dyn Progress) -> Result<Pushed> {
        let manifest = &outgoing.manifest;
        let offer = Offer {
            dataset: manifest.dataset.clone(),
            position: outgoing.position(),
            form: match outgoing.payload {
                Payload::Files(_) | Payload::Standing(_) => Shape::Full,
                Payload::Batch(_) => Shape::Batch,
            },
            document_bytes: outgoing.document.len() as u64,
            files: u32::try_from(manifest.files.len()).unwrap_or(u32::MAX),
            payload_bytes: manifest.stored_bytes(),
        };
        let mut pushed = Pushed {
            position: offer.position,
            files_sent: 0,
            files_reused: 0,
            bytes_sent: offer.document_bytes,
            bytes_saved: 0,
            already: false,
        };
        let asked = offer.form == Shape::Full || offer.is_asked(self.peer.capabilities);
        self.say(&Frame::Offer(offer))?;
        exchange::say_data(self, &outgoing.document)?;
        match &outgoing.payload {
            Payload::Batch(payload) if !asked => {
                progress.begin("send", Some(1), Some(payload.len() as u64));
                exchange::say_data(self, payload)?;
                progress.advance(1, payload.len() as u64);
                pushed.files_sent = 1;
                pushed.bytes_sent += payload.len() as u64;
            }
            _ => {
                let Some(needs) = Needs::hear(self)? else {
                    pushed.already = true;
                    pushed.files_reused = manifest.files.len() as u64;
                    progress.saved(manifest.stored_bytes());
                    return Ok(pushed);
                };
                self.send(outgoing, needs, &mut pushed, progress)?;
            }
        }
        self.say(&Frame::Publish)?;
        match self.ask()? {
            Frame::Published(published) if published.position == pushed.position => {
                pushed.already = published.already;
                Ok(pushed)
            }
            other => Err(unexpected(&other)),
        }
    }

    fn send(
        &mut self,
        outgoing: &Outgoing,
        needs: Needs,
        pushed: &mut Pushed,
        progress: &dyn Progress,
    ) -> Result<()> {
        let mut source = Source { outgoing };
        let mut total = 0;
        for index in needs.indices() {
            total += source.size(index)?;
        }
        progress.begin("send", Some(needs.len()), Some(total));
        let stored = outgoing.manifest.stored_bytes();
        progress.saved(stored.saturating_sub(total));
        let listed = outgoing.manifest.files.len() as u64;
        pushed.files_reused = listed.saturating_sub(needs.len());
        let sent = exchange::send(self, needs, &mut source, progress)?;
        pushed.files_sent = sent.files;
        pushed.bytes_sent += sent.bytes;
        pushed.bytes_saved = sent.saved;
        Ok(())
    }
}

/// A generation as a list of files; a batch's payload is a list of one.
struct Source<'o> {
    outgoing: &'o Outgoing,
}

impl Source<'_> {
    fn size(&self, index: u32) -> Result<u64> {
        match &self.outgoing.payload {
            Payload::Batch(payload) => Ok(payload.len() as u64),
            Payload::Files(_) | Payload::Standing(_) => Ok(self.entry(index)?.size),
        }
    }

    fn entry(&self, index: u32) -> Result<&pefo_core::generation::FileEntry> {
        let entry = usize::try_from(index)
            .ok()
            .and_then(|index| self.outgoing.manifest.files.get(index));
        entry
            .ok_or_else(|| Error::new(ErrorKind::Protocol, "the peer wants a file beyond the last"))
    }
}

impl Files for Source<'_> {
    fn open(&mut self, index: u32) -> Result<Option<(Box<dyn Content + '_>, u64)>> {
        let size = self.size(index)?;
        let content: Box<dyn Content + '_> = match &self.outgoing.payload {
            Payload::Batch(payload) => Box::new(Cursor::new(payload.as_slice())),
            payload => Box::new(payload.open(&self.entry(index)?.path)?),
        };
        Ok(Some((content, size)))
    }

    fn changed(&mut self, index: u32) -> Result<()> {
        let what = match &self.outgoing.payload {
            Payload::Batch(_) => "the payload",
            Payload::Files(_) | Payload::Standing(_) => self.entry(index)?.path.as_str(),
        };
        Err(Error::new(
            ErrorKind::Io,
            format!("{what} became shorter or could not be read while it was sent"),
        ))
    }
}
