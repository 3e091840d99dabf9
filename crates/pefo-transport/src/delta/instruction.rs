//! A delta's bytes: header, instructions, and the end that seals them.
//!
//! [`Encoder`] and [`Decoder`] are the two halves of one format, written down in the header of
//! [the module above](super). Both feed the header and every instruction's head to a *transcript*;
//! its hash together with the result's digest is the seal. So instructions that were altered,
//! exchanged, dropped or added are noticed even where they would make the same file.

use std::io::{BufReader, BufWriter, Read, Write};

use pefo_core::digest::Digest;

use super::error::DeltaError;
use super::layout::Layout;
use super::signature::ended;
use super::varint;

pub(super) const MAGIC: [u8; 4] = *b"PDLT";
pub(super) const VERSION: u8 = 1;
/// The longest literal of one instruction, in bytes; more are several.
pub(super) const MAX_LITERAL_BYTES: usize = 128 * 1024;
/// Bytes of the seal.
pub(super) const SEAL_BYTES: usize = 16;

const WHAT: &str = "delta";
const CONTEXT: &str = "pefo delta transcript v1";
const BUFFER_BYTES: usize = 64 * 1024;
const READING: &str = "read the delta";
const WRITING: &str = "write the delta";

fn malformed(why: &'static str) -> DeltaError {
    DeltaError::Malformed { what: WHAT, why }
}

fn seal(transcript: &blake3::Hasher, digest: &Digest) -> [u8; SEAL_BYTES] {
    let mut hasher = transcript.clone();
    hasher.update(digest.as_bytes());
    let mut cut = [0; SEAL_BYTES];
    cut.copy_from_slice(&hasher.finalize().as_bytes()[..SEAL_BYTES]);
    cut
}

/// One step of putting the new file together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Instruction {
    /// So many bytes follow in the delta, 1 to [`MAX_LITERAL_BYTES`].
    Literal(usize),
    /// So many blocks of the base from this one on; they exist.
    Copy {
        /// The first.
        start: u32,
        /// How many, at least one.
        count: u32,
    },
    /// That was all.
    End,
}

/// Writes a delta; adjacent copies become one.
pub(super) struct Encoder<W: Write> {
    out: BufWriter<W>,
    transcript: blake3::Hasher,
    /// Blocks to copy that are not written yet: from, up to and without.
    run: Option<(u32, u32)>,
    /// The block after the last one that was copied.
    next: u32,
    head: Vec<u8>,
    written: u64,
}

impl<W: Write> Encoder<W> {
    pub(super) fn new(out: W, base: &Layout, new_bytes: u64) -> Result<Self, DeltaError> {
        let mut encoder = Self {
            out: BufWriter::with_capacity(BUFFER_BYTES, out),
            transcript: blake3::Hasher::new_derive_key(CONTEXT),
            run: None,
            next: 0,
            head: Vec::new(),
            written: 0,
        };
        encoder.head.extend_from_slice(&MAGIC);
        encoder.head.push(VERSION);
        for number in [base.block_bytes().into(), base.file_bytes(), new_bytes] {
            varint::put(number, &mut encoder.head);
        }
        encoder.put_head()?;
        Ok(encoder)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), DeltaError> {
        self.written += bytes.len() as u64;
        self.out.write_all(bytes).map_err(DeltaError::io(WRITING))
    }

    fn put_head(&mut self) -> Result<(), DeltaError> {
        let head = std::mem::take(&mut self.head);
        self.transcript.update(&head);
        self.put(&head)?;
        self.head = head;
        self.head.clear();
        Ok(())
    }

    /// Bytes that stand in no block.
    pub(super) fn literal(&mut self, bytes: &[u8]) -> Result<(), DeltaError> {
        if !bytes.is_empty() {
            self.end_run()?;
        }
        for chunk in bytes.chunks(MAX_LITERAL_BYTES) {
            varint::put((chunk.len() as u64) << 1, &mut self.head);
            self.put_head()?;
            self.put(chunk)?;
        }
        Ok(())
    }

    /// A block of the base.
    pub(super) fn copy(&mut self, block: u32) -> Result<(), DeltaError> {
        if let Some((_, end)) = &mut self.run
            && *end == block
        {
            *end += 1;
            return Ok(());
        }
        self.end_run()?;
        self.run = Some((block, block + 1));
        Ok(())
    }

    fn end_run(&mut self) -> Result<(), DeltaError> {
        let Some((start, end)) = self.run.take() else {
            return Ok(());
        };
        let skip = i64::from(start) - i64::from(self.next);
        varint::put(u64::from(end - start) << 1 | 1, &mut self.head);
        varint::put(varint::zigzag(skip), &mut self.head);
        self.next = end;
        self.put_head()
    }

    /// Ends the delta; gives how many bytes it has.
    pub(super) fn finish(mut self, digest: &Digest) -> Result<u64, DeltaError> {
        self.end_run()?;
        varint::put(0, &mut self.head);
        self.put_head()?;
        let seal = seal(&self.transcript, digest);
        self.put(digest.as_bytes())?;
        self.put(&seal)?;
        self.out.flush().map_err(DeltaError::io(WRITING))?;
        Ok(self.written)
    }
}

/// Reads a delta, step by step.
pub(super) struct Decoder<R> {
    input: BufReader<R>,
    transcript: blake3::Hasher,
    base: Layout,
    new_bytes: u64,
    next: u32,
}

impl<R: Read> Decoder<R> {
    /// Reads the header.
    pub(super) fn open(input: R) -> Result<Self, DeltaError> {
        let mut input = BufReader::with_capacity(BUFFER_BYTES, input);
        let mut transcript = blake3::Hasher::new_derive_key(CONTEXT);
        let mut head = [0; MAGIC.len() + 1];
        take(&mut input, &mut head)?;
        transcript.update(&head);
        let [magic @ .., version] = head;
        if magic != MAGIC {
            return Err(DeltaError::Magic(WHAT));
        }
        if version != VERSION {
            return Err(DeltaError::Version {
                what: WHAT,
                found: version,
            });
        }
        let block_bytes = number(&mut input, &mut transcript)?;
        let file_bytes = number(&mut input, &mut transcript)?;
        let new_bytes = number(&mut input, &mut transcript)?;
        let block_bytes =
            u32::try_from(block_bytes).map_err(|_| DeltaError::BlockSize(block_bytes))?;
        Ok(Self {
            input,
            transcript,
            base: Layout::new(file_bytes, block_bytes)?,
            new_bytes,
            next: 0,
        })
    }

    /// Size and blocks of the file the delta was made against.
    pub(super) fn base(&self) -> &Layout {
        &self.base
    }

    /// The size announced for the result.
    pub(super) fn new_bytes(&self) -> u64 {
        self.new_bytes
    }

    /// The next instruction; after a literal its bytes must be [taken](Self::take) first.
    pub(super) fn instruction(&mut self) -> Result<Instruction, DeltaError> {
        let head = number(&mut self.input, &mut self.transcript)?;
        if head == 0 {
            return Ok(Instruction::End);
        }
        let amount = head >> 1;
        if amount == 0 {
            return Err(malformed("a copy of no blocks"));
        }
        if head & 1 == 0 {
            return match usize::try_from(amount) {
                Ok(length) if length <= MAX_LITERAL_BYTES => Ok(Instruction::Literal(length)),
                _ => Err(malformed("a literal over its cap")),
            };
        }
        let skip = varint::unzigzag(number(&mut self.input, &mut self.transcript)?);
        let range = i64::from(self.next)
            .checked_add(skip)
            .and_then(|start| u32::try_from(start).ok())
            .and_then(|start| Some((start, start.checked_add(u32::try_from(amount).ok()?)?)));
        match range {
            Some((start, end)) if end <= self.base.blocks() => {
                self.next = end;
                let count = end - start;
                Ok(Instruction::Copy { start, count })
            }
            _ => Err(malformed("a copy of blocks that the base does not have")),
        }
    }

    /// Takes bytes of a literal.
    pub(super) fn take(&mut self, bytes: &mut [u8]) -> Result<(), DeltaError> {
        take(&mut self.input, bytes)
    }

    /// After the end: the result has this digest. Checks it, the seal, and that nothing follows.
    pub(super) fn finish(mut self, digest: &Digest) -> Result<(), DeltaError> {
        let mut expected = [0; 32];
        take(&mut self.input, &mut expected)?;
        let expected = Digest::from_bytes(expected);
        if expected != *digest {
            return Err(DeltaError::Digest {
                expected,
                found: *digest,
            });
        }
        let mut found = [0; SEAL_BYTES];
        take(&mut self.input, &mut found)?;
        if found != seal(&self.transcript, digest) {
            return Err(DeltaError::Seal(WHAT));
        }
        if ended(&mut self.input).map_err(DeltaError::io(READING))? {
            return Ok(());
        }
        Err(malformed("bytes follow its end"))
    }
}

fn take(input: &mut impl Read, bytes: &mut [u8]) -> Result<(), DeltaError> {
    input
        .read_exact(bytes)
        .map_err(DeltaError::read(WHAT, READING))
}

fn number(input: &mut impl Read, transcript: &mut blake3::Hasher) -> Result<u64, DeltaError> {
    let mut reading = varint::Reading::default();
    loop {
        let mut byte = [0];
        take(input, &mut byte)?;
        transcript.update(&byte);
        if let Some(value) = reading.push(byte[0]).map_err(malformed)? {
            return Ok(value);
        }
    }
}
