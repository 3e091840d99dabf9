//! From a base and a delta to the new file, trusting neither.
//!
//! The result never grows over the size that the delta announces, and that never over the caller's
//! cap; only blocks that the base has are copied; and unless the BLAKE3 of the whole result, the seal
//! over the instructions and the delta's end all fit, it is an error. The bytes written before that
//! is known must not be used: write to a temp file, and throw it away on any error.
//!
//! Memory: one buffer of 256 KiB for the result and one of 64 KiB for the delta.

use std::io::{Cursor, Read, Seek, SeekFrom, Write};

use pefo_core::Result;
use pefo_core::digest::{Digest, Hasher};

use super::error::DeltaError;
use super::instruction::{Decoder, Instruction};

const BUFFER_BYTES: usize = 256 * 1024;

/// What a delta may make.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PatchLimits {
    /// The most bytes of the result.
    pub max_bytes: u64,
    /// The digest the result must have, where it is known from elsewhere.
    pub digest: Option<Digest>,
}

impl PatchLimits {
    /// At most so many bytes.
    pub const fn new(max_bytes: u64) -> Self {
        Self {
            max_bytes,
            digest: None,
        }
    }

    /// Sets the digest that the result must have.
    #[must_use]
    pub const fn digest(mut self, digest: Digest) -> Self {
        self.digest = Some(digest);
        self
    }
}

/// What applying a delta came to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Patched {
    /// The digest of the result.
    pub digest: Digest,
    /// Bytes that came from the delta.
    pub literal_bytes: u64,
    /// Bytes that came from the base.
    pub copied_bytes: u64,
}

/// Reads the whole delta, up to the end of its reader, and writes the new file.
///
/// # Errors
/// `Invalid` where the delta is malformed, cut, altered or over the limits, was made for another
/// base, or where the result is not the file it was made of; `Io` as reading and writing say. On any
/// error what was written is to be thrown away.
pub fn patch(
    base: impl Read + Seek,
    delta: impl Read,
    out: impl Write,
    limits: &PatchLimits,
) -> Result<Patched> {
    let mut decoder = Decoder::open(delta)?;
    let announced = decoder.new_bytes();
    if announced > limits.max_bytes {
        return Err(DeltaError::TooLarge {
            what: "the result",
            bytes: announced,
            max: limits.max_bytes,
        }
        .into());
    }
    let mut base = Base::open(base, decoder.base().file_bytes())?;
    let mut result = Output::new(out, announced);
    let (mut literal_bytes, mut copied_bytes) = (0, 0);
    loop {
        match decoder.instruction()? {
            Instruction::Literal(length) => {
                literal_bytes += length as u64;
                result.fill(length as u64, |bytes| decoder.take(bytes))?;
            }
            Instruction::Copy { start, count } => {
                let begin = decoder.base().offset(start);
                let length = decoder.base().offset(start + count) - begin;
                copied_bytes += length;
                result.admit(length)?;
                base.seek(begin)?;
                result.fill(length, |bytes| base.take(bytes))?;
            }
            Instruction::End => break,
        }
    }
    let digest = result.finish()?;
    decoder.finish(&digest)?;
    match limits.digest {
        Some(expected) if expected != digest => Err(DeltaError::Digest {
            expected,
            found: digest,
        }
        .into()),
        _ => Ok(Patched {
            digest,
            literal_bytes,
            copied_bytes,
        }),
    }
}

/// [`patch`] in memory, for small files and for tests.
///
/// # Errors
/// As [`patch`].
pub fn apply_bytes(base: &[u8], delta: &[u8], max_bytes: u64) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    patch(
        Cursor::new(base),
        delta,
        &mut out,
        &PatchLimits::new(max_bytes),
    )?;
    Ok(out)
}

/// The base, which must be as long as the delta says.
struct Base<R> {
    file: R,
    at: u64,
}

impl<R: Read + Seek> Base<R> {
    fn open(mut file: R, expected: u64) -> Result<Self, DeltaError> {
        let found = file
            .seek(SeekFrom::End(0))
            .map_err(DeltaError::io("read the base"))?;
        if found != expected {
            return Err(DeltaError::BaseSize { expected, found });
        }
        Ok(Self { file, at: found })
    }

    fn seek(&mut self, to: u64) -> Result<(), DeltaError> {
        if self.at != to {
            self.at = self
                .file
                .seek(SeekFrom::Start(to))
                .map_err(DeltaError::io("read the base"))?;
        }
        Ok(())
    }

    fn take(&mut self, bytes: &mut [u8]) -> Result<(), DeltaError> {
        self.file
            .read_exact(bytes)
            .map_err(|error| match error.kind() {
                std::io::ErrorKind::UnexpectedEof => DeltaError::Changed {
                    what: "the base",
                    announced: self.at + bytes.len() as u64,
                    found: self.at,
                },
                _ => DeltaError::io("read the base")(error),
            })?;
        self.at += bytes.len() as u64;
        Ok(())
    }
}

/// The result: gathered, hashed and written in large pieces, and never over its size.
struct Output<W> {
    out: W,
    buffer: Vec<u8>,
    filled: usize,
    hasher: Hasher,
    announced: u64,
    /// Bytes still to come.
    left: u64,
}

impl<W: Write> Output<W> {
    fn new(out: W, announced: u64) -> Self {
        let buffer = usize::try_from(announced).unwrap_or(BUFFER_BYTES);
        Self {
            out,
            buffer: vec![0; buffer.min(BUFFER_BYTES)],
            filled: 0,
            hasher: Hasher::default(),
            announced,
            left: announced,
        }
    }

    /// Whether so many bytes more are within what was announced.
    fn admit(&self, length: u64) -> Result<(), DeltaError> {
        if length <= self.left {
            return Ok(());
        }
        Err(DeltaError::TooLarge {
            what: "the result",
            bytes: self.announced - self.left + length,
            max: self.announced,
        })
    }

    fn fill(
        &mut self,
        length: u64,
        mut take: impl FnMut(&mut [u8]) -> Result<(), DeltaError>,
    ) -> Result<(), DeltaError> {
        self.admit(length)?;
        let mut wanted = length;
        while wanted > 0 {
            if self.filled == self.buffer.len() {
                self.flush()?;
            }
            let room = self.buffer.len() - self.filled;
            let count = usize::try_from(wanted).unwrap_or(room).min(room);
            take(&mut self.buffer[self.filled..self.filled + count])?;
            self.filled += count;
            wanted -= count as u64;
        }
        self.left -= length;
        Ok(())
    }

    fn flush(&mut self) -> Result<(), DeltaError> {
        let bytes = &self.buffer[..self.filled];
        self.hasher.update(bytes);
        self.out
            .write_all(bytes)
            .map_err(DeltaError::io("write the result"))?;
        self.filled = 0;
        Ok(())
    }

    fn finish(mut self) -> Result<Digest, DeltaError> {
        self.flush()?;
        if self.left > 0 {
            return Err(DeltaError::Malformed {
                what: "delta",
                why: "it ends before the size it announced",
            });
        }
        self.out
            .flush()
            .map_err(DeltaError::io("write the result"))?;
        Ok(self.hasher.digest())
    }
}
