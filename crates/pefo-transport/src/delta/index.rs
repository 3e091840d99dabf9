//! Which block has this checksum: a filter asked at every byte, and a sorted table behind it.
//!
//! The filter is two bitmaps with 32 bits or more for each block: one over the checksum's highest
//! bits, and for the one window in thirty or more of unknown data that stands in it by chance, one over
//! other bits. It is small enough to stay in the processor's cache and sends one byte in a thousand on.
//! Behind it stand the blocks sorted by (checksum, strong hash, number), with the beginning of each
//! range of high bits: a look-up is a binary search in a range, whatever the checksums are, and no
//! number of blocks that share one makes it longer than log₂ of their count.
//!
//! Memory for each block: 4 bytes for the order, 4 to 8 for the ranges, 8 to 16 for the filter; with
//! the signature's own 20 bytes 36 MiB for the largest count, 2²⁰, which is the most of all.

use super::signature::Signature;
use super::strong::StrongHash;

const WORD_BITS: u32 = 64;

/// The whole blocks of a signature by checksum; a shorter last block is not in it.
#[derive(Debug)]
pub(super) struct Index<'s> {
    signature: &'s Signature,
    filter: Filter,
    order: Vec<u32>,
    /// For each value of the checksum's high bits, where its blocks begin in `order`; and the end.
    ranges: Vec<u32>,
    range_shift: u32,
}

/// The bitmaps.
#[derive(Debug)]
pub(super) struct Filter {
    first: Vec<u64>,
    second: Vec<u64>,
    shift: u32,
}

/// Brings low bits up, for the second bitmap; odd, so that no two checksums become one.
const SECOND: u32 = 0x9e37_79b1;

impl Filter {
    fn new(blocks: u32) -> Self {
        let bits = (blocks.saturating_mul(32))
            .next_power_of_two()
            .max(WORD_BITS);
        let words = (bits / WORD_BITS) as usize;
        Self {
            first: vec![0; words],
            second: vec![0; words],
            shift: u32::BITS - bits.trailing_zeros(),
        }
    }

    fn insert(&mut self, weak: u32) {
        let [one, two] = self.bits(weak);
        self.first[(one / WORD_BITS) as usize] |= 1 << (one % WORD_BITS);
        self.second[(two / WORD_BITS) as usize] |= 1 << (two % WORD_BITS);
    }

    fn bits(&self, weak: u32) -> [u32; 2] {
        [weak >> self.shift, weak.wrapping_mul(SECOND) >> self.shift]
    }

    /// Whether a block may have this checksum.
    #[inline]
    pub(super) fn may_contain(&self, weak: u32) -> bool {
        let is_set = |words: &[u64], bit: u32| {
            words[(bit / WORD_BITS) as usize] >> (bit % WORD_BITS) & 1 != 0
        };
        let [one, two] = self.bits(weak);
        is_set(&self.first, one) && is_set(&self.second, two)
    }
}

impl<'s> Index<'s> {
    pub(super) fn new(signature: &'s Signature) -> Self {
        let blocks = signature.layout().full_blocks();
        let mut filter = Filter::new(blocks);
        let mut order: Vec<u32> = (0..blocks).collect();
        for block in &order {
            filter.insert(signature.weak(*block));
        }
        order.sort_unstable_by_key(|block| {
            (signature.weak(*block), signature.strong(*block), *block)
        });
        // At least two ranges, so that the shift is less than the checksum's width.
        let range_count = blocks.next_power_of_two().max(2);
        let range_shift = u32::BITS - range_count.trailing_zeros();
        let mut ranges = vec![0; range_count as usize + 1];
        for block in &order {
            ranges[(signature.weak(*block) >> range_shift) as usize + 1] += 1;
        }
        let mut sum = 0;
        for range in &mut ranges {
            sum += *range;
            *range = sum;
        }
        Self {
            signature,
            filter,
            order,
            ranges,
            range_shift,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    pub(super) fn filter(&self) -> &Filter {
        &self.filter
    }

    /// The blocks with this checksum, sorted by strong hash and number.
    pub(super) fn candidates(&self, weak: u32) -> &[u32] {
        let at = (weak >> self.range_shift) as usize;
        let range = &self.order[self.ranges[at] as usize..self.ranges[at + 1] as usize];
        let begin = range.partition_point(|block| self.signature.weak(*block) < weak);
        let range = &range[begin..];
        let end = range.partition_point(|block| self.signature.weak(*block) == weak);
        &range[..end]
    }

    /// Of these candidates the one with this strong hash: the first from block `near` on, so that a
    /// run through equal blocks goes on where it was, or else the first of all.
    pub(super) fn select(&self, candidates: &[u32], strong: &StrongHash, near: u32) -> Option<u32> {
        let begin = candidates.partition_point(|block| self.signature.strong(*block) < strong);
        let equal = &candidates[begin..];
        let end = equal.partition_point(|block| self.signature.strong(*block) == strong);
        let equal = &equal[..end];
        let next = equal.partition_point(|block| *block < near);
        equal.get(next).or(equal.first()).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::super::strong::Seed;
    use super::super::{SignatureOptions, signature};
    use super::*;
    use proptest::prelude::*;

    fn signature_of(bytes: &[u8]) -> Signature {
        let options = SignatureOptions::new(Seed([7; 16])).block_bytes(64);
        let mut out = Vec::new();
        signature::write(bytes, bytes.len() as u64, &options, &mut out).unwrap();
        signature::parse(&out).unwrap()
    }

    proptest! {
        #[test]
        fn every_whole_block_is_found_nearest_first(kinds in prop::collection::vec(0_u8..4, 0..40), tail in 0_usize..64, near in 0_u32..50) {
            let mut bytes: Vec<u8> = kinds.iter().flat_map(|kind| [*kind; 64]).collect();
            bytes.resize(bytes.len() + tail, 9);
            let signature = signature_of(&bytes);
            let index = Index::new(&signature);
            for kind in 0..5_u8 {
                let (strong, rolling) = signature.functions();
                let weak = rolling.sum(&[kind; 64]);
                let same = |at: &usize| kinds[*at] == kind;
                let expected = (near as usize..kinds.len()).find(same)
                    .or((0..kinds.len()).find(same))
                    .map(|at| at as u32);
                let found = index.select(index.candidates(weak), &strong.hash(&[kind; 64]), near);
                prop_assert_eq!(found, expected);
                prop_assert!(found.is_none() || index.filter().may_contain(weak));
            }
        }
    }

    #[test]
    fn the_memory_of_the_largest_index_is_bounded() {
        let blocks = super::super::layout::MAX_BLOCKS as usize;
        let filter = Filter::new(blocks as u32);
        let signature = blocks * (size_of::<u32>() + size_of::<StrongHash>());
        let order_and_ranges = blocks * 4 + (blocks.next_power_of_two() + 1) * 4;
        let bitmaps = (filter.first.len() + filter.second.len()) * 8;
        assert!(signature + order_and_ranges + bitmaps <= (36 << 20) + 4);
    }
}
