//! Which files are worth a delta, and how fine their signatures may be: a choice without I/O.
//!
//! The signatures of one turn stand in the sender's memory together, so that their sum has a cap
//! ([`Ask::MAX_SIGNATURE_BYTES`]). Where the usual blocks would pass it, all blocks grow alike until it
//! holds: a delta in coarse blocks is still worth more than a file sent whole.

use crate::delta::{MAX_BLOCK_BYTES, MAX_BLOCKS, MAX_FILE_BYTES, Seed, SignatureOptions};
use crate::message::Ask;

/// Shorter files are sent whole: a question costs as much as it saves.
pub(crate) const LEAST_DELTA_BYTES: u64 = 64 << 10;
/// Bytes of each strong hash. Eight make a mistake among 2³² blocks' windows unlikely, and a mistake is
/// found out by the file's digest.
const STRONG_BYTES: u8 = 8;
/// A block is a multiple of this.
const STEP_BYTES: u64 = 1024;
/// Fewer blocks than this in a file say too little about it.
const LEAST_BLOCKS: u64 = 16;
/// A signature is worth at most this part of the new file.
const WORTH: u64 = 8;

/// A file that the receiver has another version of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// Its place in the list.
    pub(crate) index: u32,
    /// Bytes of what the receiver has.
    pub(crate) base_bytes: u64,
    /// Bytes of the new file.
    pub(crate) new_bytes: u64,
}

/// A file that is worth a delta.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Planned {
    /// Its place in the list.
    pub(crate) index: u32,
    /// How long its signature will be.
    pub(crate) signature_bytes: u64,
    block_bytes: u32,
}

impl Planned {
    /// How its signature is made.
    pub(crate) const fn options(&self, seed: Seed) -> SignatureOptions {
        SignatureOptions::new(seed)
            .block_bytes(self.block_bytes)
            .strong_bytes(STRONG_BYTES)
    }
}

/// The block of a base in bytes: a quarter of the square root of its size, `scale` times as large, as
/// far as there are blocks enough.
fn block_bytes(base_bytes: u64, scale: u64) -> Option<u32> {
    let least = base_bytes.div_ceil(MAX_BLOCKS.into());
    let most = (base_bytes / LEAST_BLOCKS).min(MAX_BLOCK_BYTES.into());
    let wanted = (base_bytes.isqrt() / 4)
        .saturating_mul(scale)
        .min(most)
        .max(least)
        .max(1)
        .div_ceil(STEP_BYTES)
        .saturating_mul(STEP_BYTES);
    let wanted = u32::try_from(wanted).ok()?;
    (wanted <= MAX_BLOCK_BYTES).then_some(wanted)
}

fn plan(candidate: &Candidate, scale: u64) -> Option<Planned> {
    let Candidate {
        index,
        base_bytes,
        new_bytes,
    } = *candidate;
    let block_bytes = block_bytes(base_bytes, scale)?;
    let planned = Planned {
        index,
        signature_bytes: 0,
        block_bytes,
    };
    let options = planned.options(Seed([0; 16]));
    let signature_bytes = options.signature_bytes(base_bytes).ok()?;
    (signature_bytes <= new_bytes / WORTH).then_some(Planned {
        signature_bytes,
        ..planned
    })
}

/// Chooses which of some files to ask for as a delta, at most `most_asks` of them: ascending by index,
/// their signatures within the cap of one turn.
///
/// Left out are files that are too short on either side or whose signature would cost more than an eighth
/// of the new file; and, where even the coarsest signatures of all pass the cap, the shorter ones.
pub(crate) fn plan_deltas(candidates: &[Candidate], most_asks: usize) -> Vec<Planned> {
    let worth = |candidate: &&Candidate| {
        let sizes = [candidate.base_bytes, candidate.new_bytes];
        sizes
            .iter()
            .all(|size| (LEAST_DELTA_BYTES..=MAX_FILE_BYTES).contains(size))
    };
    let mut candidates: Vec<&Candidate> = candidates.iter().filter(worth).collect();
    candidates.sort_by_key(|candidate| (std::cmp::Reverse(candidate.new_bytes), candidate.index));
    candidates.dedup_by_key(|candidate| candidate.index);
    candidates.truncate(most_asks.min(Ask::MAX_ASKS));
    let at = |scale| -> Vec<Planned> {
        let planned = candidates.iter();
        planned
            .filter_map(|candidate| plan(candidate, scale))
            .collect()
    };
    let bytes = |planned: &[Planned]| -> u64 { planned.iter().map(|p| p.signature_bytes).sum() };
    let scales = [1, 2, 4, 8, 16, 32, 64, 256, 4096];
    let fitting = scales
        .into_iter()
        .map(at)
        .find(|planned| bytes(planned) <= Ask::MAX_SIGNATURE_BYTES);
    let mut planned = fitting.unwrap_or_else(|| {
        let mut left = Ask::MAX_SIGNATURE_BYTES;
        let mut fits = |planned: &Planned| match left.checked_sub(planned.signature_bytes) {
            Some(rest) => {
                left = rest;
                true
            }
            None => false,
        };
        at(4096)
            .into_iter()
            .filter(|planned| fits(planned))
            .collect()
    });
    planned.sort_by_key(|planned| planned.index);
    planned
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn size() -> impl Strategy<Value = u64> {
        (0..=MAX_FILE_BYTES * 2, 0_u32..40).prop_map(|(size, shift)| size >> shift)
    }

    fn candidates() -> impl Strategy<Value = Vec<Candidate>> {
        prop::collection::vec((size(), size()), 0..60).prop_map(|sizes| {
            (0..)
                .zip(sizes)
                .map(|(index, (base_bytes, new_bytes))| Candidate {
                    index,
                    base_bytes,
                    new_bytes,
                })
                .collect()
        })
    }

    fn one(base_bytes: u64, new_bytes: u64) -> Option<Planned> {
        let candidate = Candidate {
            index: 7,
            base_bytes,
            new_bytes,
        };
        plan_deltas(&[candidate], 1).first().copied()
    }

    proptest! {
        #[test]
        fn a_turns_signatures_are_within_the_cap_and_as_long_as_announced(candidates in candidates(), most in 0_usize..70) {
            let planned = plan_deltas(&candidates, most);
            prop_assert!(planned.len() <= most);
            prop_assert!(planned.iter().map(|p| p.signature_bytes).sum::<u64>() <= Ask::MAX_SIGNATURE_BYTES);
            prop_assert!(planned.windows(2).all(|pair| pair[0].index < pair[1].index));
            for planned in planned {
                let candidate = candidates[planned.index as usize];
                let made = planned.options(Seed([9; 16])).signature_bytes(candidate.base_bytes).unwrap();
                prop_assert_eq!(made, planned.signature_bytes);
                prop_assert!(made * WORTH <= candidate.new_bytes);
                prop_assert!(candidate.base_bytes.min(candidate.new_bytes) >= LEAST_DELTA_BYTES);
                prop_assert!(planned.block_bytes.is_multiple_of(1024));
            }
        }

        #[test]
        fn whatever_fits_is_asked_for_as_finely_as_usual(sizes in prop::collection::vec(LEAST_DELTA_BYTES..1 << 28, 0..20)) {
            let candidates: Vec<_> = (0..).zip(&sizes)
                .map(|(index, &size)| Candidate { index, base_bytes: size, new_bytes: size }).collect();
            let planned = plan_deltas(&candidates, 100);
            prop_assert_eq!(planned.len(), candidates.len());
            for (planned, size) in planned.iter().zip(sizes) {
                prop_assert_eq!(u64::from(planned.block_bytes), (size.isqrt() / 4).max(1).div_ceil(1024) * 1024);
            }
        }
    }

    #[test]
    fn blocks_are_a_quarter_of_the_square_root() {
        let block = |size| one(size, size).map(|planned| planned.block_bytes);
        assert_eq!(block(LEAST_DELTA_BYTES - 1), None);
        assert_eq!(block(LEAST_DELTA_BYTES), Some(1024));
        assert_eq!(block(1 << 30), Some(8192));
        assert_eq!(block(MAX_FILE_BYTES), Some(MAX_BLOCK_BYTES));
        assert_eq!(block(MAX_FILE_BYTES + 1), None);
    }

    #[test]
    fn a_signature_that_costs_too_much_of_the_new_file_is_not_made() {
        assert!(one(1 << 30, 64 << 20).is_some());
        assert_eq!(one(1 << 30, 1 << 20), None);
    }

    #[test]
    fn more_than_fits_is_asked_for_in_coarser_blocks_before_any_is_left_out() {
        let candidate = |index| Candidate {
            index,
            base_bytes: 1 << 30,
            new_bytes: 1 << 30,
        };
        // Each takes 1.5 MiB at the usual block.
        let many: Vec<_> = (0..100).map(candidate).collect();
        let planned = plan_deltas(&many, 100);
        assert_eq!(planned.len(), 100);
        assert!(planned[0].block_bytes > 8192);
        let small: Vec<_> = (0..65_536)
            .map(|index| Candidate {
                base_bytes: 80_000,
                new_bytes: 80_000,
                ..candidate(index)
            })
            .collect();
        assert_eq!(plan_deltas(&small, Ask::MAX_ASKS).len(), Ask::MAX_ASKS);
        // Eight bases of 1 TiB have signatures of 12 MiB at the largest block there is.
        let endless: Vec<_> = (0..8)
            .map(|index| Candidate {
                base_bytes: MAX_FILE_BYTES,
                new_bytes: MAX_FILE_BYTES - u64::from(index),
                ..candidate(index)
            })
            .collect();
        let planned = plan_deltas(&endless, 8);
        assert_eq!(
            planned.iter().map(|p| p.index).collect::<Vec<_>>(),
            [0],
            "the longest is worth most"
        );
    }
}
