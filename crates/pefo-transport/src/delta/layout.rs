//! How a file is cut into blocks: all of one size, the last one possibly shorter.
//!
//! The caps here bound all memory: a file of up to [`MAX_FILE_BYTES`] has at most [`MAX_BLOCKS`]
//! blocks of at most [`MAX_BLOCK_BYTES`] bytes.

use super::error::DeltaError;

/// The smallest block, in bytes.
pub const MIN_BLOCK_BYTES: u32 = 64;
/// The largest block, in bytes.
pub const MAX_BLOCK_BYTES: u32 = 1 << 20;
/// The most blocks a file may have.
pub const MAX_BLOCKS: u32 = 1 << 20;
/// The largest file, in bytes (1 TiB): [`MAX_BLOCKS`] of [`MAX_BLOCK_BYTES`].
pub const MAX_FILE_BYTES: u64 = MAX_BLOCKS as u64 * MAX_BLOCK_BYTES as u64;

/// A chosen block is a multiple of this: whole chunks of BLAKE3's tree, which it hashes fastest.
const STEP_BYTES: u64 = 1024;

/// The block size for a file of `file_bytes`.
///
/// Half the square root of the size, at least what keeps the count of blocks within [`MAX_BLOCKS`],
/// rounded up to a multiple of 1,024 bytes. So 1 KiB up to 4 MiB, 10 KiB at 400 MB, 1 MiB at 1 TiB.
///
/// Why half: a signature costs 20 bytes a block and each changed place about one block of literals,
/// so that the sum is least at √(20·size / changes): half the root suits some 80 changed places,
/// and dumps have more of them rather than fewer.
pub const fn block_bytes_for(file_bytes: u64) -> u32 {
    let root = file_bytes.isqrt() / 2;
    let least = file_bytes.div_ceil(MAX_BLOCKS as u64);
    let wanted = if root > least { root } else { least };
    let wanted = wanted.div_ceil(STEP_BYTES) * STEP_BYTES;
    if wanted < STEP_BYTES {
        STEP_BYTES as u32
    } else if wanted > MAX_BLOCK_BYTES as u64 {
        MAX_BLOCK_BYTES
    } else {
        wanted as u32
    }
}

/// A file's size and its blocks'.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    file_bytes: u64,
    block_bytes: u32,
    blocks: u32,
}

impl Layout {
    /// A file of `file_bytes` in blocks of `block_bytes`, where that is within the caps.
    pub(super) fn new(file_bytes: u64, block_bytes: u32) -> Result<Self, DeltaError> {
        if !(MIN_BLOCK_BYTES..=MAX_BLOCK_BYTES).contains(&block_bytes) {
            return Err(DeltaError::BlockSize(block_bytes.into()));
        }
        match u32::try_from(file_bytes.div_ceil(block_bytes.into())) {
            Ok(blocks) if blocks <= MAX_BLOCKS => Ok(Self {
                file_bytes,
                block_bytes,
                blocks,
            }),
            _ => Err(DeltaError::TooLarge {
                what: "the base",
                bytes: file_bytes,
                max: u64::from(MAX_BLOCKS) * u64::from(block_bytes),
            }),
        }
    }

    /// The file's size in bytes.
    pub const fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// The blocks' size in bytes.
    pub const fn block_bytes(&self) -> u32 {
        self.block_bytes
    }

    /// How many blocks there are.
    pub const fn blocks(&self) -> u32 {
        self.blocks
    }

    /// Where a block begins; for the count of blocks, where the file ends.
    pub(super) fn offset(&self, block: u32) -> u64 {
        (u64::from(block) * u64::from(self.block_bytes)).min(self.file_bytes)
    }

    /// How long a block is: all but the last are [`Layout::block_bytes`] long.
    pub(super) fn length(&self, block: u32) -> usize {
        // At most MAX_BLOCK_BYTES, so that it fits.
        (self.offset(block + 1) - self.offset(block)) as usize
    }

    /// The last block, where it is shorter than the others.
    pub(super) fn short_block(&self) -> Option<u32> {
        let last = self.blocks.checked_sub(1)?;
        (self.length(last) < self.block_bytes as usize).then_some(last)
    }

    /// How many blocks have the full length.
    pub(super) fn full_blocks(&self) -> u32 {
        self.short_block().unwrap_or(self.blocks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn size() -> impl Strategy<Value = u64> {
        (0..=MAX_FILE_BYTES, 0_u32..40).prop_map(|(size, shift)| size >> shift)
    }

    proptest! {
        #[test]
        fn every_file_size_has_a_layout_within_the_caps(size in size()) {
            let layout = Layout::new(size, block_bytes_for(size)).unwrap();
            prop_assert!(layout.block_bytes().is_multiple_of(1024));
            let covered: u64 = [0, layout.blocks() / 2, layout.blocks()].windows(2)
                .map(|pair| layout.offset(pair[1]) - layout.offset(pair[0])).sum();
            prop_assert_eq!(covered, size);
            if let Some(last) = layout.blocks().checked_sub(1) {
                prop_assert!(layout.length(last) > 0);
                prop_assert!(last == 0 || layout.length(0) == layout.block_bytes() as usize);
            }
        }

        #[test]
        fn a_larger_file_never_has_smaller_blocks(a in size(), b in size()) {
            prop_assert!(block_bytes_for(a.min(b)) <= block_bytes_for(a.max(b)));
        }
    }

    #[test]
    fn the_formula_gives_the_documented_sizes() {
        let sizes = [0, 1, 4 << 20, 400_000_000, MAX_FILE_BYTES].map(block_bytes_for);
        assert_eq!(sizes, [1024, 1024, 1024, 10_240, MAX_BLOCK_BYTES]);
        assert_eq!(
            Layout::new(MAX_FILE_BYTES, MAX_BLOCK_BYTES)
                .unwrap()
                .blocks(),
            MAX_BLOCKS
        );
    }

    #[test]
    fn sizes_beyond_the_caps_are_refused() {
        assert!(Layout::new(MAX_FILE_BYTES + 1, MAX_BLOCK_BYTES).is_err());
        assert!(Layout::new(u64::MAX, MAX_BLOCK_BYTES).is_err());
        assert!(Layout::new(u64::from(MAX_BLOCKS) * 64 + 1, 64).is_err());
        assert!(Layout::new(10, MIN_BLOCK_BYTES - 1).is_err());
        assert!(Layout::new(10, MAX_BLOCK_BYTES + 1).is_err());
    }
}
