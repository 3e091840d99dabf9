//! From a signature and the new file to a delta, in one pass over the new file.
//!
//! While blocks follow each other as in the base, each window is held against the one block that is
//! expected next: two BLAKE3 passes and nothing else. Where that fails, a window rolls on byte by
//! byte until a block of the base is found anywhere in it; what lay between is literal.
//!
//! Memory: one buffer of four blocks, at least 512 KiB and at most 4 MiB, and the
//! [index](super::index).
//!
//! Time is linear in the new file whatever the two files hold. What could break that are windows
//! whose checksum proposes a block and whose strong hash, which costs a whole block, then disagrees.
//! Such hashing has a budget, sixteen bytes for each byte of the new file: beyond it a proposal is
//! passed over, which can make the delta longer but not wrong. By chance alone a 32-bit checksum
//! spends 2⁻³² of the base's size on each byte, so that honest files below 64 GiB stay within it.

use std::io::{Read, Write};

use pefo_core::Result;
use pefo_core::digest::{Digest, Hasher};

use super::error::DeltaError;
use super::index::Index;
use super::instruction::Encoder;
use super::layout::Layout;
use super::rolling::Rolling;
use super::signature::Signature;
use super::strong::Strong;

const MIN_BUFFER_BYTES: usize = 512 * 1024;
/// Bytes of hashing in vain allowed for each byte of the new file.
const VAIN_FACTOR: u64 = 16;
/// And so many blocks to begin with.
const VAIN_BLOCKS: u64 = 16;

/// What making a delta came to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Diffed {
    /// The digest of the new file.
    pub digest: Digest,
    /// Bytes of the delta.
    pub delta_bytes: u64,
    /// Bytes of the new file that stand in the delta itself.
    pub literal_bytes: u64,
    /// Bytes of the new file that the base has.
    pub copied_bytes: u64,
    /// What it cost.
    pub work: Work,
}

/// Operations counted while a delta is made, to show that they stay linear.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Work {
    /// Bytes summed anew by the rolling checksum.
    pub summed_bytes: u64,
    /// Steps of the rolling checksum.
    pub rolled_bytes: u64,
    /// Look-ups behind the filter.
    pub lookups: u64,
    /// Bytes given to the strong hash.
    pub hashed_bytes: u64,
    /// Of those, what a checksum had proposed and the strong hash then denied.
    pub vain_bytes: u64,
    /// Proposals passed over because the budget for hashing in vain was spent.
    pub passed_over: u64,
}

/// Reads the whole new file, which is `new_bytes` long, and writes the delta that makes it of the
/// signature's file.
///
/// # Errors
/// `Invalid` and retryable where `new` is shorter or longer than announced; `Io` as reading and
/// writing say. What was written by then is no delta: it lacks its end.
pub fn diff(
    signature: &Signature,
    new: impl Read,
    new_bytes: u64,
    out: impl Write,
) -> Result<Diffed> {
    make(signature, new, new_bytes, None, out)
}

/// [`diff`] of a file whose digest is known, which saves hashing all of it once more. Where the digest is
/// another one's, the delta makes no file: who applies it finds that out.
///
/// # Errors
/// As [`diff`].
pub fn diff_known(
    signature: &Signature,
    new: impl Read,
    new_bytes: u64,
    digest: Digest,
    out: impl Write,
) -> Result<Diffed> {
    make(signature, new, new_bytes, Some(digest), out)
}

fn make(
    signature: &Signature,
    new: impl Read,
    new_bytes: u64,
    known: Option<Digest>,
    out: impl Write,
) -> Result<Diffed> {
    let layout = signature.layout();
    let (strong, rolling) = signature.functions();
    let block = layout.block_bytes() as usize;
    let mut matcher = Matcher {
        signature,
        layout,
        block,
        index: Index::new(signature),
        strong,
        rolling,
        window: Window::new(new, new_bytes, known, block),
        encoder: Encoder::new(out, layout, new_bytes)?,
        literal_begin: 0,
        expected: (layout.blocks() > 0).then_some(0),
        near: 0,
        literal_bytes: 0,
        copied_bytes: 0,
        work: Work::default(),
    };
    matcher.run()?;
    let digest = matcher.window.finish()?;
    Ok(Diffed {
        digest,
        delta_bytes: matcher.encoder.finish(&digest)?,
        literal_bytes: matcher.literal_bytes,
        copied_bytes: matcher.copied_bytes,
        work: matcher.work,
    })
}

/// The part of the new file that is in memory.
struct Window<R> {
    new: R,
    announced: u64,
    /// Bytes read so far.
    read: u64,
    hashed: Hashed,
    buffer: Vec<u8>,
    /// How much of the buffer is filled.
    end: usize,
    /// Where the next match is looked for.
    at: usize,
    at_end_of_file: bool,
}

/// The digest of the new file.
enum Hashed {
    Known(Digest),
    Making(Box<Hasher>),
}

impl<R: Read> Window<R> {
    fn new(new: R, announced: u64, known: Option<Digest>, block: usize) -> Self {
        Self {
            new,
            announced,
            read: 0,
            hashed: known.map_or_else(|| Hashed::Making(Box::default()), Hashed::Known),
            buffer: vec![0; (4 * block).max(MIN_BUFFER_BYTES)],
            end: 0,
            at: 0,
            at_end_of_file: false,
        }
    }

    fn ahead(&self) -> &[u8] {
        &self.buffer[self.at..self.end]
    }

    /// How many bytes of the new file lie before the window.
    fn consumed(&self) -> u64 {
        self.read - self.ahead().len() as u64
    }

    /// Forgets what lies before the window and reads on until the buffer is full or the file ends.
    fn refill(&mut self) -> Result<(), DeltaError> {
        self.buffer.copy_within(self.at..self.end, 0);
        self.end -= self.at;
        self.at = 0;
        let kept = self.end;
        while !self.at_end_of_file && self.end < self.buffer.len() {
            match self.new.read(&mut self.buffer[self.end..]) {
                Ok(0) => self.at_end_of_file = true,
                Ok(count) => self.end += count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(DeltaError::io("read the new file")(error)),
            }
        }
        let came = &self.buffer[kept..self.end];
        self.read += came.len() as u64;
        if let Hashed::Making(hasher) = &mut self.hashed {
            hasher.update(came);
        }
        if self.read > self.announced {
            return Err(self.changed());
        }
        Ok(())
    }

    fn changed(&self) -> DeltaError {
        DeltaError::Changed {
            what: "the new file",
            announced: self.announced,
            found: self.read,
        }
    }

    fn finish(&self) -> Result<Digest, DeltaError> {
        if self.read != self.announced {
            return Err(self.changed());
        }
        Ok(match &self.hashed {
            Hashed::Known(digest) => *digest,
            Hashed::Making(hasher) => hasher.digest(),
        })
    }
}

struct Matcher<'s, R, W: Write> {
    signature: &'s Signature,
    layout: &'s Layout,
    block: usize,
    index: Index<'s>,
    strong: Strong,
    rolling: Rolling,
    window: Window<R>,
    encoder: Encoder<W>,
    /// Where in the buffer the bytes begin that are not in the delta yet.
    literal_begin: usize,
    /// The block that follows the last match, until it was tried.
    expected: Option<u32>,
    /// The same, kept: of equal blocks the one from here on is taken.
    near: u32,
    literal_bytes: u64,
    copied_bytes: u64,
    work: Work,
}

impl<R: Read, W: Write> Matcher<'_, R, W> {
    fn run(&mut self) -> Result<(), DeltaError> {
        loop {
            if self.window.ahead().len() < self.block {
                self.refill()?;
            }
            if let Some(block) = self.expected.take()
                && self.equals(block)
            {
                self.copy(block)?;
                continue;
            }
            if self.window.ahead().len() < self.block || !self.scan()? {
                return self.tail();
            }
        }
    }

    /// Whether the bytes from here on are this block.
    fn equals(&mut self, block: u32) -> bool {
        match self.window.ahead().get(..self.layout.length(block)) {
            Some(bytes) => {
                self.work.hashed_bytes += bytes.len() as u64;
                self.strong.hash(bytes) == *self.signature.strong(block)
            }
            None => false,
        }
    }

    /// Rolls on to the next block of the base, from a whole window here; whether there was one before
    /// the file ended.
    fn scan(&mut self) -> Result<bool, DeltaError> {
        if self.index.is_empty() {
            return self.skip_to_end().map(|()| false);
        }
        let mut weak = self.rolling.sum(&self.window.ahead()[..self.block]);
        self.work.summed_bytes += self.block as u64;
        loop {
            if self.index.filter().may_contain(weak)
                && let Some(block) = self.look_up(weak)
            {
                self.copy(block)?;
                return Ok(true);
            }
            if self.window.ahead().len() == self.block {
                self.refill()?;
            }
            let ahead = self.window.ahead();
            let filter = self.index.filter();
            let entering = &ahead[self.block..];
            if entering.is_empty() {
                return Ok(false);
            }
            let steps = self
                .rolling
                .advance(&mut weak, ahead, entering, |weak| filter.may_contain(weak));
            self.window.at += steps;
            self.work.rolled_bytes += steps as u64;
        }
    }

    /// No block to look for: all but the last window is literal.
    fn skip_to_end(&mut self) -> Result<(), DeltaError> {
        while !self.window.at_end_of_file {
            self.window.at = self.window.end - self.block;
            self.refill()?;
        }
        Ok(())
    }

    /// The block that the window is, where it is one and the budget allows to see.
    fn look_up(&mut self, weak: u32) -> Option<u32> {
        self.work.lookups += 1;
        let candidates = self.index.candidates(weak);
        if candidates.is_empty() {
            return None;
        }
        let block = self.block as u64;
        let budget = self.window.consumed() * VAIN_FACTOR + block * VAIN_BLOCKS;
        if self.work.vain_bytes + block > budget {
            self.work.passed_over += 1;
            return None;
        }
        let strong = self.strong.hash(&self.window.ahead()[..self.block]);
        self.work.hashed_bytes += block;
        let found = self.index.select(candidates, &strong, self.near);
        if found.is_none() {
            self.work.vain_bytes += block;
        }
        found
    }

    /// The window is this block: what lay before it is literal, and it is copied.
    fn copy(&mut self, block: u32) -> Result<(), DeltaError> {
        self.literal(self.window.at)?;
        self.encoder.copy(block)?;
        let length = self.layout.length(block);
        self.window.at += length;
        self.literal_begin = self.window.at;
        self.copied_bytes += length as u64;
        self.near = block + 1;
        self.expected = (self.near < self.layout.blocks()).then_some(self.near);
        Ok(())
    }

    /// Less than a window is left, or one that is no block: the base's shorter last block may still
    /// be the end of the new file.
    fn tail(&mut self) -> Result<(), DeltaError> {
        let ahead = self.window.ahead().len();
        if let Some(block) = self.layout.short_block()
            && let Some(before) = ahead.checked_sub(self.layout.length(block))
        {
            self.window.at += before;
            if self.equals(block) {
                self.copy(block)?;
            }
        }
        self.literal(self.window.end)
    }

    /// Writes the bytes up to here that are in no block.
    fn literal(&mut self, end: usize) -> Result<(), DeltaError> {
        let bytes = &self.window.buffer[self.literal_begin..end];
        self.literal_bytes += bytes.len() as u64;
        self.encoder.literal(bytes)?;
        self.literal_begin = end;
        Ok(())
    }

    fn refill(&mut self) -> Result<(), DeltaError> {
        self.literal(self.window.at)?;
        self.literal_begin = 0;
        self.window.refill()
    }
}
