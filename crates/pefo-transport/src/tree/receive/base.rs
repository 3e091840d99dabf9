//! Which files are worth a delta, against what, and in blocks of which size.
//!
//! The signatures of one turn share a budget, since the sender holds them all until it has answered:
//! where they would be longer, all blocks grow by the same factor.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use pefo_core::Result;

use crate::delta::{MAX_BLOCK_BYTES, Seed, SignatureOptions};
use crate::exchange::Want;
use crate::message::Ask;

/// Shorter files are sent whole: a question would cost as much as it saves.
const LEAST_BYTES: u64 = 64 << 10;
/// Bytes of a block's two hashes. Eight bytes of strong hash: a mistake among a terabyte's windows is
/// unlikely (see [`crate::delta`]), and found out by the file's digest.
const STRONG_BYTES: u8 = 8;
const ENTRY_BYTES: u64 = 4 + STRONG_BYTES as u64;
/// Room for signatures in one turn; their frames' ends and headers stay below the cap.
const BUDGET_BYTES: u64 = Ask::MAX_SIGNATURE_BYTES - (Ask::MAX_ASKS as u64 * 64);

/// What there is of a file, and how a delta of it would be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Proposal {
    /// Bytes of what stands at its path.
    pub(super) old: Option<u64>,
    /// Bytes that have arrived of it.
    pub(super) part: Option<u64>,
    /// Its size.
    pub(super) size: u64,
    /// Bytes of a block.
    block_bytes: u32,
}

impl Proposal {
    pub(super) fn new(old: Option<u64>, part: Option<u64>, size: u64) -> Self {
        let mut proposal = Self {
            old,
            part,
            size,
            block_bytes: 0,
        };
        proposal.block_bytes = preferred_block(proposal.base_bytes());
        proposal
    }

    /// Bytes of what a delta is made against.
    pub(super) fn base_bytes(&self) -> u64 {
        self.old.unwrap_or(0).saturating_add(self.part.unwrap_or(0))
    }

    fn wants_delta(&self) -> bool {
        self.old.is_some_and(|old| old >= LEAST_BYTES) && self.size >= LEAST_BYTES
    }

    fn entries_bytes(&self) -> u64 {
        self.base_bytes().div_ceil(self.block_bytes.into()) * ENTRY_BYTES
    }

    /// How its signature is made; the same each time for one session's seed.
    pub(super) fn options(&self, index: u32, seed: Seed) -> SignatureOptions {
        let mut hasher = blake3::Hasher::new_derive_key("pefo tree signature seed v1");
        hasher.update(&seed.0).update(&index.to_le_bytes());
        let mut own = [0; 16];
        hasher.finalize_xof().fill(&mut own);
        SignatureOptions::new(Seed(own))
            .strong_bytes(STRONG_BYTES)
            .block_bytes(self.block_bytes)
    }
}

/// A quarter of the base's square root, in whole KiB: a signature of 12 bytes a block and a changed
/// place that costs a block are then in balance at some three hundred changed places.
fn preferred_block(base_bytes: u64) -> u32 {
    let quarter = (base_bytes.isqrt() / 4).div_ceil(1024).max(1) * 1024;
    u32::try_from(quarter)
        .unwrap_or(MAX_BLOCK_BYTES)
        .min(MAX_BLOCK_BYTES)
}

/// How those of some files are wanted that are not simply wanted whole.
pub(super) fn choose(
    candidates: &[(u32, Proposal)],
    seed: Seed,
) -> Result<BTreeMap<u32, (Want, Proposal)>> {
    let mut worth: Vec<(u32, Proposal)> = candidates
        .iter()
        .filter(|(_, proposal)| proposal.wants_delta() || proposal.part.is_some())
        .copied()
        .collect();
    // The longest are worth most; the rest is wanted whole.
    worth.sort_by_key(|(_, proposal)| std::cmp::Reverse(proposal.size));
    worth.truncate(Ask::MAX_ASKS);
    let deltas = worth.iter().filter(|(_, proposal)| proposal.wants_delta());
    let bytes: u64 = deltas.map(|(_, proposal)| proposal.entries_bytes()).sum();
    let factor = u32::try_from(bytes.div_ceil(BUDGET_BYTES).max(1)).unwrap_or(u32::MAX);
    let mut left = BUDGET_BYTES;
    let mut chosen = BTreeMap::new();
    for (index, mut proposal) in worth {
        if !proposal.wants_delta() {
            // Without an older file what has arrived is gone on with.
            if let Some(part) = proposal.part {
                chosen.insert(index, (Want::From(part), proposal));
            }
            continue;
        }
        proposal.block_bytes = proposal
            .block_bytes
            .saturating_mul(factor)
            .min(MAX_BLOCK_BYTES);
        // Blocks can grow no further: the file is wanted whole.
        let Some(rest) = left.checked_sub(proposal.entries_bytes()) else {
            continue;
        };
        left = rest;
        let options = proposal.options(index, seed);
        let signature_bytes = options.signature_bytes(proposal.base_bytes())?;
        chosen.insert(index, (Want::Delta { signature_bytes }, proposal));
    }
    Ok(chosen)
}

/// Some files one behind the other, as one.
#[derive(Debug)]
pub(super) struct Chain {
    files: Vec<(File, u64)>,
    at: u64,
}

impl Chain {
    pub(super) fn new(files: Vec<File>) -> io::Result<Self> {
        let sized = |file: File| Ok((file.metadata()?.len(), file));
        let files = files
            .into_iter()
            .map(|file| sized(file).map(|(size, file)| (file, size)))
            .collect::<io::Result<_>>()?;
        Ok(Self { files, at: 0 })
    }

    fn len(&self) -> u64 {
        self.files.iter().map(|(_, size)| size).sum()
    }
}

impl Read for Chain {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut begin = 0;
        for (file, size) in &self.files {
            let end = begin + size;
            if self.at < end {
                let most = usize::try_from(end - self.at).unwrap_or(usize::MAX);
                let room = buffer.len().min(most);
                let part = buffer.get_mut(..room).unwrap_or_default();
                let count = std::os::unix::fs::FileExt::read_at(file, part, self.at - begin)?;
                self.at += count as u64;
                return Ok(count);
            }
            begin = end;
        }
        Ok(0)
    }
}

impl Seek for Chain {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let moved = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.len().checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = moved.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write as _;

    fn sizes() -> impl Strategy<Value = u64> {
        (0..=1_u64 << 42, 0_u32..40).prop_map(|(size, shift)| size >> shift)
    }

    fn proposal() -> impl Strategy<Value = Proposal> {
        (
            prop::option::of(sizes()),
            prop::option::of(1..100_000_000_u64),
            sizes(),
        )
            .prop_map(|(old, part, size)| Proposal::new(old, part, size))
    }

    proptest! {
        #[test]
        fn the_signatures_of_a_turn_stay_within_the_cap(proposals in prop::collection::vec(proposal(), 0..60)) {
            let candidates: Vec<_> = (0..).zip(proposals).collect();
            let seed = Seed([3; 16]);
            // A base beyond the delta's own caps is an error there; such files do not come here.
            prop_assume!(candidates.iter().all(|(_, proposal)| proposal.base_bytes() <= 1 << 40));
            let chosen = choose(&candidates, seed).unwrap();
            let mut bytes = 0;
            for (index, (want, proposal)) in &chosen {
                if let Want::Delta { signature_bytes } = want {
                    bytes += signature_bytes;
                    let again = proposal.options(*index, seed).signature_bytes(proposal.base_bytes()).unwrap();
                    prop_assert_eq!(*signature_bytes, again);
                }
            }
            prop_assert!(bytes <= Ask::MAX_SIGNATURE_BYTES, "{}", bytes);
        }

        #[test]
        fn a_chain_reads_as_its_files_one_after_the_other(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..4), from in 0_u64..60) {
            let file = |bytes: &Vec<u8>| {
                let mut file = tempfile::tempfile().unwrap();
                file.write_all(bytes).unwrap();
                file
            };
            let whole = parts.concat();
            let mut chain = Chain::new(parts.iter().map(file).collect()).unwrap();
            prop_assert_eq!(chain.seek(SeekFrom::End(0)).unwrap(), whole.len() as u64);
            chain.seek(SeekFrom::Start(from)).unwrap();
            let mut read = Vec::new();
            chain.read_to_end(&mut read).unwrap();
            prop_assert_eq!(read, whole.get(from as usize..).unwrap_or_default());
        }
    }

    #[test]
    fn blocks_are_a_quarter_of_the_root() {
        let sizes = [0, 1 << 20, 256 << 20, 400_000_000, 1 << 40].map(preferred_block);
        assert_eq!(sizes, [1024, 1024, 4096, 5120, 262_144]);
    }
}
