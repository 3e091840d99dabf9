//! Signatures, deltas and patches, each held against [`spec`].

use std::io::{self, Cursor, Read, Seek, SeekFrom, Write};

use pefo_core::digest::Digest;
use pefo_transport::delta::{
    self, Diffed, PatchLimits, Patched, Seed, Signature, SignatureOptions, Work,
};

use crate::spec;

/// The most that a patched file may have here.
const MAX_RESULT_BYTES: u64 = 1 << 18;

/// Splits off as many bytes as the first two say, or all there are.
fn split(data: &[u8]) -> (&[u8], &[u8]) {
    let Some((length, rest)) = data.split_first_chunk() else {
        return (&[], data);
    };
    rest.split_at(rest.len().min(u16::from_le_bytes(*length).into()))
}

/// Takes no more than it may.
struct Capped {
    taken: Vec<u8>,
    max_bytes: u64,
}

impl Capped {
    fn new(max_bytes: u64) -> Self {
        Self {
            taken: Vec::new(),
            max_bytes,
        }
    }
}

impl Write for Capped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.taken.extend_from_slice(bytes);
        assert!(
            self.taken.len() as u64 <= self.max_bytes,
            "more was written than is allowed"
        );
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn apply(base: &[u8], delta: &[u8], limits: &PatchLimits) -> Option<(Patched, Vec<u8>)> {
    let mut out = Capped::new(limits.max_bytes);
    let patched = delta::patch(Cursor::new(base), delta, &mut out, limits).ok()?;
    Some((patched, out.taken))
}

/// Input: `u16` length of a base, the base, a delta.
///
/// The delta is applied as it is and once more with the digest and the seal that fit its instructions.
/// Either succeeds exactly where the written format says so, and makes what it says; never is more
/// written than is allowed; and with one byte less or more, another digest, another base or a lower
/// limit it is refused.
pub fn patch(data: &[u8]) {
    let (base, delta) = split(data);
    let limits = PatchLimits::new(MAX_RESULT_BYTES);
    let raw = apply(base, delta, &limits).is_some();
    let Some(made) = spec::delta(base, delta, MAX_RESULT_BYTES) else {
        assert!(!raw, "a delta against the format was applied");
        return;
    };
    assert_eq!(
        raw,
        made.is_valid && delta[made.end..] == made.tail,
        "a delta is applied where all fits, and only there"
    );
    let sealed = [&delta[..made.end], &made.tail].concat();
    if !made.is_valid {
        let applied = apply(base, &sealed, &limits).is_some();
        assert!(!applied, "a delta against the format was applied");
        return;
    }
    let Some((patched, new)) = apply(base, &sealed, &limits) else {
        panic!("a delta that is right was refused");
    };
    assert!(new == made.new, "the result is not what the format says");
    assert_eq!(patched.digest, Digest::of(&new));
    assert_eq!(
        patched.literal_bytes + patched.copied_bytes,
        new.len() as u64
    );

    let length = new.len() as u64;
    let tight = PatchLimits::new(length).digest(patched.digest);
    assert!(apply(base, &sealed, &tight).is_some());
    if let Some(less) = length.checked_sub(1) {
        assert!(apply(base, &sealed, &PatchLimits::new(less)).is_none());
    }
    let other = PatchLimits::new(length).digest(Digest::of(b"another file"));
    assert!(apply(base, &sealed, &other).is_none());
    assert!(apply(base, &sealed[..sealed.len() - 1], &limits).is_none());
    assert!(apply(base, &[&sealed[..], &[0]].concat(), &limits).is_none());
    let longer = [base, &[0]].concat();
    assert!(apply(&longer, &sealed, &limits).is_none());
    altered(base, &sealed, &new, data);
}

/// An altered bit of the delta is refused; an altered bit of the base is refused or was not needed.
fn altered(base: &[u8], delta: &[u8], new: &[u8], data: &[u8]) {
    let limits = PatchLimits::new(MAX_RESULT_BYTES);
    // Which bit is as good as random, and the same each time.
    let chance = Digest::of(data);
    let [a, b, c, ..] = *chance.as_bytes();
    let at = usize::from(u16::from_le_bytes([a, b]));
    let flip = |bytes: &[u8]| {
        let mut bytes = bytes.to_vec();
        let at = at % bytes.len();
        bytes[at] ^= 1 << (c % 8);
        bytes
    };
    assert!(apply(base, &flip(delta), &limits).is_none());
    if !base.is_empty()
        && let Some((_, made)) = apply(&flip(base), delta, &limits)
    {
        assert!(made == new, "another base made another file");
    }
}

/// Input: `u16` length of a signature, the signature, a new file.
///
/// The bytes are read as they are and once more with the seal that fits. Either succeeds exactly where
/// the written format says so, and reads not one byte too many. Whatever a signature that was accepted
/// says, a delta against it is well-formed and took linear time, and makes the new file or is refused.
pub fn signature(data: &[u8]) {
    let (bytes, new) = split(data);
    let told = spec::signature(bytes);
    check_signature(bytes, told, new);
    if let Some(told) = told.filter(|told| !told.is_sealed) {
        let mut bytes = bytes.to_vec();
        spec::seal_signature(&mut bytes, &told);
        check_signature(&bytes, spec::signature(&bytes), new);
    }
}

fn check_signature(bytes: &[u8], told: Option<spec::Signature>, new: &[u8]) {
    let told = told.filter(|told| told.is_valid && told.is_sealed);
    let mut rest = bytes;
    let read = delta::signature::read(&mut rest);
    let parsed = delta::signature::parse(bytes);
    let Some(told) = told else {
        assert!(read.is_err() && parsed.is_err(), "it is no signature");
        return;
    };
    let Ok(read) = read else {
        panic!("a signature that is right was refused");
    };
    assert_eq!(rest.len(), bytes.len() - told.length, "read too far");
    assert_eq!(parsed.is_ok(), rest.is_empty());
    let layout = read.layout();
    assert_eq!(layout.file_bytes(), told.file_bytes);
    assert_eq!(u64::from(layout.block_bytes()), told.block_bytes);

    let (bytes, _) = diff(&read, new);
    let zeros = Zeros {
        length: told.file_bytes,
        at: 0,
    };
    let limits = PatchLimits::new(new.len() as u64);
    let mut out = Capped::new(limits.max_bytes);
    if delta::patch(zeros, &bytes[..], &mut out, &limits).is_ok() {
        assert!(out.taken == new, "a base of zeros made another file");
    }
}

/// Makes a delta, checks what is said of it, and that it does not depend on how the file arrives.
fn diff(signature: &Signature, new: &[u8]) -> (Vec<u8>, Diffed) {
    let length = new.len() as u64;
    let mut bytes = Vec::new();
    let Ok(diffed) = delta::diff(signature, new, length, &mut bytes) else {
        panic!("no delta could be made");
    };
    assert_eq!(diffed.digest, Digest::of(new));
    assert_eq!(diffed.delta_bytes, bytes.len() as u64);
    assert_eq!(diffed.literal_bytes + diffed.copied_bytes, length);
    assert!(
        bytes.len() <= new.len() + 128,
        "a delta of {} bytes for {}",
        bytes.len(),
        new.len()
    );
    assert_linear(
        &diffed.work,
        length,
        signature.layout().block_bytes().into(),
    );
    let mut dripped = Vec::new();
    let again = delta::diff(signature, Drip(new), length, &mut dripped);
    assert!(again.is_ok_and(|again| again == diffed) && dripped == bytes);
    for wrong in [length.checked_sub(1), Some(length + 1)]
        .into_iter()
        .flatten()
    {
        assert!(delta::diff(signature, new, wrong, io::sink()).is_err());
    }
    (bytes, diffed)
}

fn assert_linear(work: &Work, bytes: u64, block: u64) {
    assert!(work.rolled_bytes <= bytes, "{work:?}");
    assert!(work.lookups <= bytes + 1, "{work:?}");
    assert!(work.summed_bytes <= bytes + 2 * block, "{work:?}");
    assert!(work.vain_bytes <= 16 * bytes + 16 * block, "{work:?}");
    let useful = work.hashed_bytes - work.vain_bytes;
    assert!(useful <= 2 * bytes + 3 * block, "{work:?}");
}

/// Input: a byte that chooses the block size, one for the length of hashes, `u16` length of a base, the
/// base, a new file.
///
/// The delta against the base's own signature makes the new file, by the written format and by
/// [`patch`](crate::patch) alike; where both files are one, nothing of it is in the delta.
pub fn delta(data: &[u8]) {
    let Some((&[block, strong], rest)) = data.split_first_chunk() else {
        return;
    };
    let (base, new) = split(rest);
    let options = SignatureOptions::new(Seed([block; 16]))
        .block_bytes(64 + u32::from(block))
        .strong_bytes(8 + strong % 9);
    let length = base.len() as u64;
    let mut bytes = Vec::new();
    let written = delta::signature::write(Drip(base), length, &options, &mut bytes);
    assert!(written.is_ok(), "no signature could be made");
    assert_eq!(
        options.signature_bytes(length).ok(),
        Some(bytes.len() as u64)
    );
    let told = spec::signature(&bytes).filter(|told| told.is_valid && told.is_sealed);
    assert_eq!(told.map(|told| told.length), Some(bytes.len()));
    let Ok(signature) = delta::signature::parse(&bytes) else {
        panic!("a signature that was just made is refused");
    };

    let (delta, diffed) = diff(&signature, new);
    let made = spec::delta(base, &delta, new.len() as u64);
    assert!(made.is_some_and(|made| {
        made.is_valid && made.new == new && delta[made.end..] == made.tail
    }));
    let limits = PatchLimits::new(new.len() as u64).digest(diffed.digest);
    let patched = apply(base, &delta, &limits);
    assert!(patched.is_some_and(|(patched, made)| {
        made == new
            && patched.literal_bytes == diffed.literal_bytes
            && patched.copied_bytes == diffed.copied_bytes
    }));
    if base == new {
        assert_eq!(diffed.literal_bytes, 0);
    }
}

/// A file of zeros, of any size.
struct Zeros {
    length: u64,
    at: u64,
}

impl Read for Zeros {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.length.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let count = buffer.len().min(left);
        buffer[..count].fill(0);
        self.at += count as u64;
        Ok(count)
    }
}

impl Seek for Zeros {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.at = match to {
            SeekFrom::Start(at) => at,
            SeekFrom::End(_) => self.length,
            SeekFrom::Current(_) => self.at,
        };
        Ok(self.at)
    }
}

/// A reader that gives some bytes at a time, as a line does.
struct Drip<'a>(&'a [u8]);

impl Read for Drip<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = buffer.len().min(self.0.len()).min(1 + self.0.len() % 97);
        buffer[..count].copy_from_slice(&self.0[..count]);
        self.0 = &self.0[count..];
        Ok(count)
    }
}
