//! Differences between two files that are in two places, as rsync finds them; no sockets, no files.
//!
//! Who has the old file (the *base*) [writes its signature](signature::write); who has the new one
//! reads that and [makes a delta](fn@diff) of it; the first [puts the new file together](fn@patch).
//! Everything works on [`Read`](std::io::Read), [`Write`](std::io::Write) and
//! [`Seek`](std::io::Seek), reads each file once, and takes a bounded amount of memory at any file
//! size up to [1 TiB](MAX_FILE_BYTES): at most 4 MiB of buffers, and for the signature 20 bytes a
//! block where it is made of a file, 36 MiB with its index for the most blocks there can be. To show
//! progress, to limit the rate or to cancel, hand in a reader that does it.
//!
//! What it guarantees: [`patch`](fn@patch) gives the file that the delta was made of, or an error.
//! Truncation, any altered bit and any reordering of a delta are errors, even where the result would
//! have been the same; so are another base and a hash collision. Nothing in a signature or a delta
//! makes it panic, read outside the base, write more than the caller allows or take more than linear
//! time. What it does not do: compress (frames do that), and replace files (the caller writes a temp
//! file and throws it away on error).
//!
//! | module | what it is for |
//! |---|---|
//! | [`signature`] | hashes of the base's blocks, as bytes and back |
//! | `layout` | block sizes and caps |
//! | `rolling`, `strong` | the two hashes, and why these |
//! | `index` | from a checksum to blocks |
//! | [`mod@diff`] | signature and new file to delta |
//! | `instruction`, `varint` | the delta's bytes |
//! | [`mod@patch`] | base and delta to new file |
//!
//! # Format of a signature, version 1
//!
//! Numbers are little-endian.
//!
//! | bytes | |
//! |---|---|
//! | 4 | `PSIG` |
//! | 1 | version: 1 |
//! | 1 | *s*, bytes of a strong hash: 8 to 16 |
//! | 2 | zero |
//! | 4 | *b*, bytes of a block: 64 to 2²⁰ |
//! | 8 | *n*, bytes of the base; ⌈*n*/*b*⌉ ≤ 2²⁰ |
//! | 16 | seed |
//! | ⌈*n*/*b*⌉ × (4 + *s*) | for each block, the last one possibly shorter: rolling checksum, strong hash |
//! | 16 | seal: the beginning of BLAKE3 over all bytes before, in derive-key mode with context `pefo delta signature v1` |
//!
//! Keys: BLAKE3 in derive-key mode over the seed with context `pefo delta block keys v1`, 36 bytes of
//! output. The first 32 key the strong hash, which is keyed BLAKE3 of the block cut to *s* bytes. The
//! last four, as a number with its lowest three bits set to 101, are the multiplier *M* of the rolling
//! checksum Σ *bᵢ*·*Mⁿ⁻¹⁻ⁱ* mod 2³².
//!
//! The writer chooses the block size; [`block_bytes_for`] is the default: half the square root of the
//! base's size, rounded up to a multiple of 1,024, and no less than the size's 2²⁰th part.
//!
//! # Format of a delta, version 1
//!
//! A *number* is LEB128 in its shortest form, at most ten bytes.
//!
//! | bytes | |
//! |---|---|
//! | 4 | `PDLT` |
//! | 1 | version: 1 |
//! | numbers | bytes of a block, bytes of the base, bytes of the new file |
//! | … | instructions |
//! | 32 | BLAKE3 of the new file |
//! | 16 | seal |
//!
//! An instruction begins with a number. **0** is the end, and the digest follows. An even number
//! 2·*k* is a literal: the *k* bytes after it, 1 to 131,072. An odd number 2·*k* + 1 copies *k* ≥ 1
//! blocks; a number follows that says, in zigzag coding, how many blocks their first one lies beyond
//! the block after the last one copied before (beyond block 0 for the first copy). The base's
//! last block may be short.
//!
//! The seal is the first 16 bytes of BLAKE3 in derive-key mode with context
//! `pefo delta transcript v1` over: everything from `PDLT` to the end instruction without the bytes
//! of literals, then the digest. Nothing follows the seal.
//!
//! A reader refuses every other version, block counts beyond 2²⁰, and blocks the base does not have.

pub mod diff;
mod error;
mod index;
mod instruction;
mod layout;
pub mod patch;
mod rolling;
pub mod signature;
mod strong;
mod varint;

pub use diff::{Diffed, Work, diff, diff_known};
pub use error::DeltaError;
pub use layout::{
    Layout, MAX_BLOCK_BYTES, MAX_BLOCKS, MAX_FILE_BYTES, MIN_BLOCK_BYTES, block_bytes_for,
};
pub use patch::{PatchLimits, Patched, patch};
pub use signature::{Signature, SignatureOptions};
pub use strong::Seed;

#[cfg(test)]
mod adversary_tests;
#[cfg(test)]
mod property_tests;
