//! A batch being received: the head of its file and the payload behind it.
//!
//! A short batch comes in one go and stands under a temp name meanwhile. A long one is asked for; its
//! file stands in a partial and is gone on with where it was cut.

use std::io::{Seek as _, SeekFrom};

use pefo_core::digest::{Digest, Hasher};
use pefo_core::disk::NewFile;
use pefo_core::generation::{Position, spool};
use pefo_core::{Error, ErrorKind, RelPath, Result};

use super::intake::{hash_exactly, not_signed};
use super::partial::{BATCH, PRIVATE_FILE, Partial, regular, rel};
use crate::exchange::{Sink, Want};
use crate::message::RETRY_RULE;

/// A file being received: counted and hashed while it is written.
pub(super) struct Incoming {
    file: NewFile,
    hasher: Hasher,
}

impl Incoming {
    pub(super) fn new(file: NewFile, hasher: Hasher) -> Self {
        Self { file, hasher }
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write(bytes)?;
        self.hasher.update(bytes);
        Ok(())
    }

    fn is(&self, (size, digest): (u64, Digest)) -> bool {
        self.hasher.len() == size && self.hasher.digest() == digest
    }

    /// Ends it durably, if it is what was signed.
    pub(super) fn finish(self, payload: (u64, Digest)) -> Result<()> {
        if !self.is(payload) {
            return Err(not_signed("the payload"));
        }
        self.file.finish_durable()
    }
}

/// A long batch, as a list of one file.
pub(super) struct Payload {
    partial: Partial,
    expected: (u64, Digest),
    begun: u64,
    incoming: Option<Incoming>,
}

impl Payload {
    /// Goes on with what has arrived of the payload, if the file begins as it must.
    pub(super) fn begin(
        partial: Partial,
        document: &[u8],
        expected: (u64, Digest),
    ) -> Result<Self> {
        let head = spool::join_batch(document, &[]);
        let path = rel(BATCH)?;
        let standing = regular(&partial.root, &path)?.map(|it| it.identity.size);
        let begun = standing
            .and_then(|size| size.checked_sub(head.len() as u64))
            .filter(|begun| (1..expected.0).contains(begun));
        let incoming = match begun {
            Some(begun) => {
                let full = path.in_dir(partial.root.path());
                let failed = |error| Error::io("read", &full, error);
                let mut file = partial.root.reading()?.file(&path)?;
                let mut found = vec![0; head.len()];
                std::io::Read::read_exact(&mut file, &mut found).map_err(failed)?;
                file.seek(SeekFrom::Start(head.len() as u64))
                    .map_err(failed)?;
                let hasher = hash_exactly(file, begun).map_err(failed)?;
                let file = partial.root.resume(&path, &PRIVATE_FILE)?;
                (found == head).then(|| (begun, Incoming::new(file, hasher)))
            }
            None => None,
        };
        let (begun, incoming) = match incoming {
            Some(taken_up) => taken_up,
            None => {
                partial.root.remove_file(&path)?;
                let mut file = partial.root.create(&path, &PRIVATE_FILE)?;
                file.write(&head)?;
                (0, Incoming::new(file, Hasher::default()))
            }
        };
        Ok(Self {
            partial,
            expected,
            begun,
            incoming: Some(incoming),
        })
    }

    /// Where the whole file stands, from the data set's directory.
    pub(super) fn path(position: Position) -> Result<RelPath> {
        rel(format!("{}/{BATCH}", spool::partial_name(position)))
    }

    pub(super) fn want(&self) -> Want {
        match self.begun {
            0 => Want::Whole,
            begun => Want::From(begun),
        }
    }

    /// Bytes that are still to come.
    pub(super) const fn bytes_to_come(&self) -> u64 {
        self.expected.0 - self.begun
    }
}

impl Sink for Payload {
    fn signature(&mut self, _index: u32, _out: &mut dyn std::io::Write) -> Result<()> {
        Err(out_of_place("a signature of a payload"))
    }

    fn begin(&mut self, _index: u32, size: u64) -> Result<()> {
        if size == self.bytes_to_come() {
            return Ok(());
        }
        let expected = self.bytes_to_come();
        let message = format!("{size} bytes of the payload were announced instead of {expected}");
        Err(Error::new(ErrorKind::Protocol, message))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let incoming = self.incoming.as_mut();
        incoming
            .ok_or_else(|| out_of_place("more of a payload"))?
            .write(bytes)
    }

    fn finish(&mut self) -> Result<()> {
        let incoming = self.incoming.take();
        let incoming = incoming.ok_or_else(|| out_of_place("a payload's end"))?;
        if self.begun == 0 || incoming.is(self.expected) {
            return incoming.finish(self.expected);
        }
        // What was here before does not go with what came; next time all of it is asked for.
        self.partial.root.remove_file(&rel(BATCH)?)?;
        let message = "the payload could not be put together from its parts";
        Err(Error::refused(RETRY_RULE, message)
            .hint("push again: it will be sent whole")
            .retryable(true))
    }

    fn patch(&mut self, _index: u32, _size: u64, _delta: &mut dyn std::io::Read) -> Result<()> {
        Err(out_of_place("a delta of a payload"))
    }

    fn skip(&mut self, _index: u32) -> Result<()> {
        Err(Error::new(
            ErrorKind::Io,
            "the payload can no longer be had where it came from",
        ))
    }
}

fn out_of_place(what: &str) -> Error {
    Error::new(ErrorKind::Protocol, format!("{what} was not asked for"))
}
