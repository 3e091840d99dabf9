//! A file's signature: two hashes for each of its blocks, as bytes and back.
//!
//! [`write()`] makes one while it reads the file once, with one block in memory; [`read`] and [`parse`]
//! take any bytes at all and give a signature or refuse. The format stands in the header of
//! [the module above](super). What a signature takes in memory is bounded: 20 bytes a block, at most
//! 20 MiB, and only as its bytes arrive, whatever its header announces.

use std::io::{Read, Write};

use pefo_core::Result;

use super::error::DeltaError;
use super::layout::{Layout, block_bytes_for};
use super::rolling::Rolling;
use super::strong::{self, Seed, Strong, StrongHash};

pub(super) const MAGIC: [u8; 4] = *b"PSIG";
pub(super) const VERSION: u8 = 1;
/// Bytes before the first entry.
pub(super) const HEADER_BYTES: usize = 36;
/// Bytes after the last one.
pub(super) const SEAL_BYTES: usize = 16;
const WEAK_BYTES: usize = 4;
/// Bytes of an empty file's signature, the shortest there is.
pub(crate) const EMPTY_BYTES: u64 = (HEADER_BYTES + SEAL_BYTES) as u64;
const WHAT: &str = "signature";
const CONTEXT: &str = "pefo delta signature v1";
/// How many entries are read at a time.
const BATCH: usize = 2048;

/// How to make a signature.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SignatureOptions {
    /// What its hashes are keyed with.
    pub seed: Seed,
    /// The block size in bytes; `None` is [`block_bytes_for`] the file's size.
    pub block_bytes: Option<u32>,
    /// Bytes of strong hash for each block, 8 to 16; 16 unless set.
    pub strong_bytes: u8,
}

impl SignatureOptions {
    /// With a seed of 16 random bytes, drawn for this signature alone.
    pub const fn new(seed: Seed) -> Self {
        Self {
            seed,
            block_bytes: None,
            strong_bytes: strong::MAX_BYTES as u8,
        }
    }

    /// Sets the block size, in bytes.
    #[must_use]
    pub const fn block_bytes(mut self, bytes: u32) -> Self {
        self.block_bytes = Some(bytes);
        self
    }

    /// Sets how many bytes of each strong hash are kept: fewer make a smaller signature and rarer,
    /// detected, failures of a delta likelier.
    #[must_use]
    pub const fn strong_bytes(mut self, bytes: u8) -> Self {
        self.strong_bytes = bytes;
        self
    }

    fn header(&self, file_bytes: u64) -> Result<Header, DeltaError> {
        let block_bytes = self
            .block_bytes
            .unwrap_or_else(|| block_bytes_for(file_bytes));
        Ok(Header {
            layout: Layout::new(file_bytes, block_bytes)?,
            seed: self.seed,
            strong_bytes: strong_bytes(self.strong_bytes)?,
        })
    }

    /// How many bytes the signature of a file of `file_bytes` takes.
    ///
    /// # Errors
    /// `Invalid`, where the file is beyond the caps or the options are.
    pub fn signature_bytes(&self, file_bytes: u64) -> Result<u64> {
        let header = self.header(file_bytes)?;
        let entries = u64::from(header.layout.blocks()) * header.entry_bytes() as u64;
        Ok(entries + (HEADER_BYTES + SEAL_BYTES) as u64)
    }
}

fn strong_bytes(bytes: u8) -> Result<usize, DeltaError> {
    let bytes = usize::from(bytes);
    if (strong::MIN_BYTES..=strong::MAX_BYTES).contains(&bytes) {
        return Ok(bytes);
    }
    Err(malformed("a strong hash has 8 to 16 bytes"))
}

fn malformed(why: &'static str) -> DeltaError {
    DeltaError::Malformed { what: WHAT, why }
}

/// What stands before the entries.
#[derive(Debug)]
struct Header {
    layout: Layout,
    seed: Seed,
    strong_bytes: usize,
}

impl Header {
    fn entry_bytes(&self) -> usize {
        WEAK_BYTES + self.strong_bytes
    }

    fn to_bytes(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4] = VERSION;
        bytes[5] = self.strong_bytes as u8;
        bytes[8..12].copy_from_slice(&self.layout.block_bytes().to_le_bytes());
        bytes[12..20].copy_from_slice(&self.layout.file_bytes().to_le_bytes());
        bytes[20..].copy_from_slice(&self.seed.0);
        bytes
    }

    fn from_bytes(bytes: &[u8; HEADER_BYTES]) -> Result<Self, DeltaError> {
        let (magic, rest) = bytes.split_at(MAGIC.len());
        if magic != MAGIC {
            return Err(DeltaError::Magic(WHAT));
        }
        let (&[version, strong, zero, nought], rest) = part(rest)?;
        if version != VERSION {
            return Err(DeltaError::Version {
                what: WHAT,
                found: version,
            });
        }
        if (zero, nought) != (0, 0) {
            return Err(malformed("reserved bytes are set"));
        }
        let (block_bytes, rest) = part(rest)?;
        let (file_bytes, rest) = part(rest)?;
        let (seed, _) = part(rest)?;
        Ok(Self {
            layout: Layout::new(
                u64::from_le_bytes(*file_bytes),
                u32::from_le_bytes(*block_bytes),
            )?,
            seed: Seed(*seed),
            strong_bytes: strong_bytes(strong)?,
        })
    }
}

fn part<const N: usize>(bytes: &[u8]) -> Result<(&[u8; N], &[u8]), DeltaError> {
    bytes.split_first_chunk().ok_or(DeltaError::Cut(WHAT))
}

/// Reads all of `base`, which is `base_bytes` long, and writes its signature.
///
/// # Errors
/// `Invalid` where the base is beyond the caps, or shorter or longer than announced (then retryable);
/// `Io` as reading and writing say. What was written by then is no signature: it lacks its seal.
pub fn write(
    mut base: impl Read,
    base_bytes: u64,
    options: &SignatureOptions,
    mut out: impl Write,
) -> Result<()> {
    let header = options.header(base_bytes)?;
    let layout = header.layout;
    let (strong, multiplier) = Strong::new(header.seed, header.strong_bytes);
    let rolling = Rolling::new(multiplier, layout.block_bytes());
    let mut seal = blake3::Hasher::new_derive_key(CONTEXT);
    let mut emit = |bytes: &[u8]| {
        seal.update(bytes);
        out.write_all(bytes)
            .map_err(DeltaError::io("write the signature"))
    };
    emit(&header.to_bytes())?;

    let mut block = vec![0; layout.length(0)];
    let mut batch = Vec::with_capacity(BATCH.min(layout.blocks() as usize) * header.entry_bytes());
    for index in 0..layout.blocks() {
        block.truncate(layout.length(index));
        read_base(&mut base, &mut block, &layout, index)?;
        batch.extend_from_slice(&rolling.sum(&block).to_le_bytes());
        batch.extend_from_slice(&strong.hash(&block)[..header.strong_bytes]);
        if batch.len() == batch.capacity() {
            emit(&batch)?;
            batch.clear();
        }
    }
    emit(&batch)?;
    if !ended(&mut base).map_err(DeltaError::io("read the base"))? {
        return Err(changed(base_bytes, base_bytes + 1).into());
    }
    out.write_all(&seal.finalize().as_bytes()[..SEAL_BYTES])
        .and_then(|()| out.flush())
        .map_err(DeltaError::io("write the signature"))?;
    Ok(())
}

fn read_base(
    base: &mut impl Read,
    block: &mut [u8],
    layout: &Layout,
    index: u32,
) -> Result<(), DeltaError> {
    base.read_exact(block).map_err(|error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => changed(layout.file_bytes(), layout.offset(index)),
        _ => DeltaError::io("read the base")(error),
    })
}

fn changed(announced: u64, found: u64) -> DeltaError {
    DeltaError::Changed {
        what: "the base",
        announced,
        found,
    }
}

/// Whether there is nothing more to read.
pub(super) fn ended(input: &mut impl Read) -> std::io::Result<bool> {
    let mut byte = [0];
    loop {
        match input.read(&mut byte) {
            Ok(count) => return Ok(count == 0),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// A signature in memory; what [`super::diff`](fn@super::diff) looks for blocks in.
#[derive(Debug)]
pub struct Signature {
    header: Header,
    weak: Vec<u32>,
    strong: Vec<StrongHash>,
}

impl Signature {
    /// Size and blocks of the file it was taken of.
    pub fn layout(&self) -> &Layout {
        &self.header.layout
    }

    /// The rolling checksum of a block.
    pub(super) fn weak(&self, block: u32) -> u32 {
        self.weak[block as usize]
    }

    /// The strong hash of a block.
    pub(super) fn strong(&self, block: u32) -> &StrongHash {
        &self.strong[block as usize]
    }

    /// The functions its hashes were made with.
    pub(super) fn functions(&self) -> (Strong, Rolling) {
        let (strong, multiplier) = Strong::new(self.header.seed, self.header.strong_bytes);
        let rolling = Rolling::new(multiplier, self.header.layout.block_bytes());
        (strong, rolling)
    }
}

/// Reads a signature, and not one byte beyond its end.
///
/// # Errors
/// `Invalid` where the bytes are no whole signature of this version within the caps; `Io` as reading
/// says.
pub fn read(mut input: impl Read) -> Result<Signature> {
    let mut seal = blake3::Hasher::new_derive_key(CONTEXT);
    let mut take = |bytes: &mut [u8]| {
        input
            .read_exact(bytes)
            .map_err(DeltaError::read(WHAT, "read the signature"))
    };
    let mut header = [0; HEADER_BYTES];
    take(&mut header)?;
    seal.update(&header);
    let header = Header::from_bytes(&header)?;

    let mut left = header.layout.blocks() as usize;
    let mut batch = vec![0; left.min(BATCH) * header.entry_bytes()];
    // Room grows as entries arrive: a header alone can't ask for memory.
    let (mut weak, mut strong) = (Vec::new(), Vec::new());
    while left > 0 {
        let count = left.min(BATCH);
        batch.truncate(count * header.entry_bytes());
        take(&mut batch)?;
        seal.update(&batch);
        if weak.capacity() - weak.len() < count {
            let more = left.min(weak.len().max(BATCH));
            weak.reserve_exact(more);
            strong.reserve_exact(more);
        }
        for entry in batch.chunks_exact(header.entry_bytes()) {
            let (sum, rest) = part(entry)?;
            let mut hash = [0; strong::MAX_BYTES];
            hash[..header.strong_bytes].copy_from_slice(rest);
            weak.push(u32::from_le_bytes(*sum));
            strong.push(hash);
        }
        left -= count;
    }
    let mut found = [0; SEAL_BYTES];
    take(&mut found)?;
    if found != seal.finalize().as_bytes()[..SEAL_BYTES] {
        return Err(DeltaError::Seal(WHAT).into());
    }
    Ok(Signature {
        header,
        weak,
        strong,
    })
}

/// [`read`] for bytes that are the signature and nothing else.
///
/// # Errors
/// As [`read`], and `Invalid` where bytes are left over.
pub fn parse(mut bytes: &[u8]) -> Result<Signature> {
    let signature = read(&mut bytes)?;
    if bytes.is_empty() {
        return Ok(signature);
    }
    Err(malformed("bytes follow its end").into())
}

#[cfg(test)]
#[path = "signature_tests.rs"]
mod tests;
