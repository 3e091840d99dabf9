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

/// The digests of a tree, its entries in whatever order, cut into `2^bucket_bits` buckets.
///
/// Two threads work on it, and nothing grows while they do: entries are put in the order of their
/// buckets by counting, and one bucket's at a time are sorted, laid out and hashed.
pub fn summarize(entries: &[(RelPath, Node)], bucket_bits: u8) -> Summary {
    let buckets_of = |entries: &[(RelPath, Node)]| -> Vec<usize> {
        let bucket = |(path, _): &(RelPath, Node)| bucket_of(path, bucket_bits);
        entries.iter().map(bucket).collect()
    };
    let (one, two) = entries.split_at(entries.len() / 2);
    let (mut of_entry, rest) = both(|| buckets_of(one), || buckets_of(two));
    of_entry.extend(rest);

    // Where each bucket's entries begin, then the entries bucket by bucket.
    let count = 1 << bucket_bits;
    let mut begins = vec![0; count + 1];
    for bucket in &of_entry {
        if let Some(next) = begins.get_mut(bucket + 1) {
            *next += 1;
        }
    }
    for at in 1..begins.len() {
        begins[at] += begins[at - 1];
    }
    let mut places = begins.clone();
    let mut order = vec![0; entries.len()];
    for (entry, bucket) in of_entry.iter().enumerate() {
        order[places[*bucket]] = entry;
        places[*bucket] += 1;
    }

    let digests = |buckets: std::ops::Range<usize>| -> Vec<_> {
        let (mut bytes, mut within) = (Vec::new(), Vec::new());
        let digest_of = |bucket: usize| {
            bytes.clear();
            within.clear();
            let places = &order[begins[bucket]..begins[bucket + 1]];
            within.extend(places.iter().map(|entry| &entries[*entry]));
            within.sort_unstable_by(|(one, _), (two, _)| one.cmp(two));
            for (path, node) in &within {
                entry::write(path, Some(node), &mut bytes);
            }
            digest(&bytes)
        };
        buckets.map(digest_of).collect()
    };
    let (mut buckets, rest) = both(|| digests(0..count / 2), || digests(count / 2..count));
    buckets.extend(rest);
    Summary {
        entries: entries.len() as u64,
        bucket_bits,
        buckets,
    }
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

fn digest(bytes: &[u8]) -> [u8; Summary::DIGEST_BYTES] {
    let mut cut = [0; Summary::DIGEST_BYTES];
    cut.copy_from_slice(&blake3::hash(bytes).as_bytes()[..Summary::DIGEST_BYTES]);
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
        fn the_order_of_entries_does_not_matter(entries in entries(), bits in 0_u8..4) {
            let mut reversed = entries.clone();
            reversed.reverse();
            prop_assert_eq!(summary(&entries, bits), summary(&reversed, bits));
        }

        #[test]
        fn a_summary_reads_back(entries in entries(), bits in 0_u8..6) {
            let summary = summary(&entries, bits);
            prop_assert_eq!(Summary::from_bytes(&summary.to_bytes()).unwrap(), summary);
        }
    }

    #[test]
    fn a_bucket_is_hashed_as_the_canonical_bytes_of_its_entries() {
        let node = Node::Directory { mode: 0o750 };
        let path = |n: usize| RelPath::new(format!("node{n:04}")).unwrap();
        let entries: Vec<_> = (0..500).map(|n| (path(n), node)).collect();
        let mut buckets = vec![Vec::new(); 16];
        for (path, node) in &entries {
            entry::write(path, Some(node), &mut buckets[bucket_of(path, 4)]);
        }
        let expected: Vec<_> = buckets.iter().map(|bytes| digest(bytes)).collect();
        assert_eq!(summarize(&entries, 4).buckets, expected);
    }

    #[test]
    fn buckets_grow_with_the_tree_up_to_a_limit() {
        assert_eq!([0, 1, 32, 33, 50_000].map(bucket_bits), [0, 0, 0, 1, 11]);
        assert_eq!(bucket_bits(u64::MAX / 2), Summary::MAX_BITS);
    }
}
