//! The strong hash of a block: keyed BLAKE3, cut to its first bytes.
//!
//! A window is taken for a block only where this agrees. With 16 bytes, a file of 2⁴⁰ windows held
//! against 2²⁰ blocks mistakes one for another with a probability below 2⁻⁶⁸ (2⁶⁰ pairs, 128 bits),
//! whoever wrote the files: the key comes from a seed that is drawn anew for each signature, so that
//! colliding blocks can't be prepared beforehand. Fewer bytes, down to 8, make smaller signatures and
//! leave 2⁻³⁶ at a terabyte counting the 32 bits of the rolling checksum, 2⁻⁵⁰ at a gigabyte; the
//! digest of the whole file at the end of the delta turns even that into an error, never into a wrong
//! file.

use super::rolling;

/// The most bytes of a strong hash.
pub(super) const MAX_BYTES: usize = 16;
/// The fewest.
pub(super) const MIN_BYTES: usize = 8;

/// A block's strong hash; bytes that were cut off are zero.
pub(super) type StrongHash = [u8; MAX_BYTES];

const CONTEXT: &str = "pefo delta block keys v1";

/// What a signature's hashes are keyed with: 16 random bytes, drawn anew for each signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seed(pub [u8; 16]);

/// A signature's hash function.
#[derive(Debug)]
pub(super) struct Strong {
    key: [u8; blake3::KEY_LEN],
    bytes: usize,
}

impl Strong {
    /// The strong hash of this seed, cut to `bytes`, and the multiplier of its rolling checksum.
    pub(super) fn new(seed: Seed, bytes: usize) -> (Self, u32) {
        let mut output = blake3::Hasher::new_derive_key(CONTEXT)
            .update(&seed.0)
            .finalize_xof();
        let mut key = [0; blake3::KEY_LEN];
        let mut drawn = [0; 4];
        output.fill(&mut key);
        output.fill(&mut drawn);
        let multiplier = rolling::multiplier(u32::from_le_bytes(drawn));
        let bytes = bytes.min(MAX_BYTES);
        (Self { key, bytes }, multiplier)
    }

    /// The hash of a block or a window.
    pub(super) fn hash(&self, block: &[u8]) -> StrongHash {
        let whole = blake3::keyed_hash(&self.key, block);
        let mut cut = [0; MAX_BYTES];
        cut[..self.bytes].copy_from_slice(&whole.as_bytes()[..self.bytes]);
        cut
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_seed_gives_another_hash_and_another_multiplier() {
        let (one, first) = Strong::new(Seed([1; 16]), 16);
        let (two, second) = Strong::new(Seed([2; 16]), 16);
        assert_ne!(one.hash(b"block"), two.hash(b"block"));
        assert_ne!(first, second);
    }

    #[test]
    fn a_shorter_hash_is_the_beginning_of_the_longer_one() {
        let long = Strong::new(Seed([1; 16]), 16).0.hash(b"block");
        let short = Strong::new(Seed([1; 16]), 8).0.hash(b"block");
        assert_eq!(short[..8], long[..8]);
        assert_eq!(short[8..], [0; 8]);
    }
}
