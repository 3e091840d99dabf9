//! Where do two trees differ? Answered by digests, in proportion to the difference.
//!
//! A path's bucket is the beginning of its BLAKE3 digest; a bucket's digest is that of the canonical
//! bytes of its entries in order. Equal digests, equal buckets. There are some 32 entries in a bucket,
//! so that one changed file brings some 32 entries onto the line, and the summary of 50,000 files has
//! 32 KiB.

use pefo_core::{Error, ErrorKind, RelPath, Result};

use super::entry::{self, Node};
use super::message::{Differs, Summary};

/// Entries a bucket should have at most, more or less.
const BUCKET_ENTRIES: u64 = 32;

/// How many buckets a tree of `entries` is cut into, as a logarithm.
pub fn bucket_bits(entries: u64) -> u8 {
    let wanted = entries.div_ceil(BUCKET_ENTRIES).max(1).next_power_of_two();
    (wanted.trailing_zeros() as u8).min(Summary::MAX_BITS)
}

/// The bucket of a path.
pub fn bucket_of(path: &RelPath, bucket_bits: u8) -> usize {
    let digest = blake3::hash(path.as_str().as_bytes());
    let [a, b, ..] = *digest.as_bytes();
    usize::from(u16::from_be_bytes([a, b])) >> (16 - bucket_bits.min(Summary::MAX_BITS))
}

/// Trees of more entries than this are summed up by two threads.
const MANY: usize = 8192;

/// The digests of a tree, its entries in order, cut into `2^bucket_bits` buckets.
pub fn summarize(entries: &[(RelPath, Node)], bucket_bits: u8) -> Summary {
    let halves = if entries.len() > MANY {
        entries.split_at(entries.len() / 2)
    } else {
        (entries, [].as_slice())
    };
    let (first, second) = both(
        || sorted_into_buckets(halves.0, bucket_bits),
        || sorted_into_buckets(halves.1, bucket_bits),
    );
    let digests = |range: std::ops::Range<usize>| -> Vec<_> {
        let parts = first.get(range.clone()).unwrap_or_default();
        let pairs = parts.iter().zip(second.get(range).unwrap_or_default());
        pairs.map(|(one, two)| digest(one, two)).collect()
    };
    let middle = first.len() / 2;
    let (mut buckets, rest) = both(|| digests(0..middle), || digests(middle..first.len()));
    buckets.extend(rest);
    Summary {
        entries: entries.len() as u64,
        bucket_bits,
        buckets,
    }
}

/// The canonical bytes of some entries, by bucket.
fn sorted_into_buckets(entries: &[(RelPath, Node)], bucket_bits: u8) -> Vec<Vec<u8>> {
    let mut buckets = vec![Vec::new(); 1 << bucket_bits];
    for (path, node) in entries {
        if let Some(bucket) = buckets.get_mut(bucket_of(path, bucket_bits)) {
            entry::write(path, Some(node), bucket);
        }
    }
    buckets
}

/// Does two things at once.
fn both<T: Send, U>(one: impl FnOnce() -> T + Send, two: impl FnOnce() -> U) -> (T, U) {
    std::thread::scope(|scope| {
        let one = scope.spawn(one);
        let two = two();
        match one.join() {
            Ok(one) => (one, two),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

fn digest(one: &[u8], two: &[u8]) -> [u8; Summary::DIGEST_BYTES] {
    let mut hasher = blake3::Hasher::new();
    let whole = hasher.update(one).update(two).finalize();
    let mut cut = [0; Summary::DIGEST_BYTES];
    cut.copy_from_slice(&whole.as_bytes()[..Summary::DIGEST_BYTES]);
    cut
}

/// Where two summaries differ.
///
/// # Errors
/// `Protocol`, where they are cut differently.
pub fn compare(theirs: &Summary, ours: &Summary) -> Result<Differs> {
    if theirs.bucket_bits != ours.bucket_bits {
        return Err(Error::new(
            ErrorKind::Protocol,
            "the summaries are cut differently",
        ));
    }
    let pairs = theirs.buckets.iter().zip(&ours.buckets).enumerate();
    let differing: Vec<usize> = pairs
        .filter(|(_, (theirs, ours))| theirs != ours)
        .map(|(bucket, _)| bucket)
        .collect();
    if differing.is_empty() {
        return Ok(Differs::nowhere());
    }
    Ok(Differs::buckets(theirs.bucket_bits, differing))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::entry::Entry;
    use crate::tree::entry::tests::entries;
    use proptest::prelude::*;

    fn summary(entries: &[Entry], bits: u8) -> Summary {
        let present: Vec<_> = entries
            .iter()
            .filter_map(|entry| Some((entry.path.clone(), entry.node?)))
            .collect();
        summarize(&present, bits)
    }

    proptest! {
        #[test]
        fn just_the_buckets_of_changed_entries_differ(mut entries in entries(), at in any::<prop::sample::Index>(), bits in 0_u8..8) {
            entries.retain(|entry| entry.node.is_some());
            prop_assume!(!entries.is_empty());
            let before = summary(&entries, bits);
            prop_assert!(compare(&before, &summary(&entries, bits)).unwrap().is_nowhere());
            let gone = entries.remove(at.index(entries.len()));
            let differs = compare(&before, &summary(&entries, bits)).unwrap();
            let bucket = bucket_of(&gone.path, bits);
            prop_assert!((0..1 << bits).all(|at| differs.contains(at) == (at == bucket)));
        }

        #[test]
        fn a_summary_reads_back(entries in entries(), bits in 0_u8..6) {
            let summary = summary(&entries, bits);
            prop_assert_eq!(Summary::from_bytes(&summary.to_bytes()).unwrap(), summary);
        }
    }

    #[test]
    fn a_tree_summed_up_by_two_threads_is_the_same() {
        let file = |n: usize| {
            let path = RelPath::new(format!("node{n:06}")).unwrap();
            (
                path,
                Node::Directory {
                    mode: n as u32 % 0o777,
                },
            )
        };
        let entries: Vec<_> = (0..MANY + 100).map(file).collect();
        let mut buckets = sorted_into_buckets(&entries, 8);
        let whole = summarize(&entries, 8).buckets;
        assert!(
            buckets
                .drain(..)
                .zip(whole)
                .all(|(bytes, found)| digest(&bytes, &[]) == found)
        );
    }

    #[test]
    fn buckets_grow_with_the_tree_up_to_a_limit() {
        assert_eq!([0, 1, 32, 33, 50_000].map(bucket_bits), [0, 0, 0, 1, 11]);
        assert_eq!(bucket_bits(u64::MAX / 2), Summary::MAX_BITS);
    }
}
