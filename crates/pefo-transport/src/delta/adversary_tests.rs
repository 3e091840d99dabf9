//! Time and size: linear on the worst input there is, and no larger than another implementation's
//! deltas on the usual.

use super::property_tests::{delta_of, random, signature_of};
use super::*;

/// What every diff must keep to, whatever the files hold: a few operations for each byte.
fn assert_linear(base: &[u8], new: &[u8], block: usize) -> Diffed {
    let (delta, diffed) = delta_of(base, new, block);
    assert_eq!(
        patch::apply_bytes(base, &delta, new.len() as u64).unwrap(),
        new
    );
    let (bytes, block) = (new.len() as u64, block as u64);
    let Work {
        summed_bytes,
        rolled_bytes,
        lookups,
        hashed_bytes,
        vain_bytes,
        ..
    } = diffed.work;
    assert!(rolled_bytes <= bytes, "{diffed:?}");
    assert!(lookups <= bytes + 1, "{diffed:?}");
    assert!(summed_bytes <= bytes + 2 * block, "{diffed:?}");
    assert!(vain_bytes <= 16 * bytes + 16 * block, "{diffed:?}");
    assert!(
        hashed_bytes - vain_bytes <= 2 * bytes + 3 * block,
        "{diffed:?}"
    );
    diffed
}

#[test]
fn zeros_are_linear_and_small() {
    for (old, new) in [
        (1 << 20, 1 << 20),
        (1 << 20, 1_000_003),
        (100_000, 1 << 20),
        (2047, 5000),
    ] {
        let diffed = assert_linear(&vec![0; old], &vec![0; new], 1024);
        assert!(diffed.literal_bytes < 2048, "{diffed:?}");
    }
}

#[test]
fn periodic_data_is_linear_and_small() {
    for period in [2, 3, 7, 64, 1000, 1024, 1025] {
        let pattern = random(period as u64, period);
        let base: Vec<u8> = pattern.iter().copied().cycle().take(300_000).collect();
        let mut new = base[5..].to_vec();
        new.splice(100_000..100_000, *b"something else");
        let diffed = assert_linear(&base, &new, 1024);
        // Which of many equally good matches comes first is luck: half as much again is as good.
        let theirs = fast_rsync_delta(&base, &new, 1024).len() as u64;
        assert!(
            diffed.delta_bytes <= theirs * 3 / 2 + 64,
            "{period}: {diffed:?} against {theirs}"
        );
    }
}

/// Blocks of two words that collide under every multiplier (a Thue–Morse word of 128 letters and its
/// complement), in an order of their own: different bytes, one checksum.
fn colliding(seed: u64, length: usize) -> Vec<u8> {
    let letter = |at: usize| (at.count_ones() & 1) as u8;
    random(seed, length / 128)
        .iter()
        .flat_map(|word| (0..128).map(move |at| letter(at) ^ (word & 1)))
        .collect()
}

#[test]
fn colliding_checksums_are_linear() {
    let block = 16 * 1024;
    let base = colliding(1, 64 * block);
    let signature = signature_of(&base, block);
    assert!((1..64).all(|at| signature.weak(at) == signature.weak(0)));
    let new = colliding(2, 64 * block);
    let diffed = assert_linear(&base, &new, block);
    // Without the budget this would hash 128 bytes for each byte: that the test tests something.
    assert!(diffed.work.passed_over > 1000, "{diffed:?}");
    // And blocks are still found among such.
    let mixed = [
        &base[block * 3..block * 9],
        &new[..block],
        &base[..block * 3],
    ]
    .concat();
    let diffed = assert_linear(&base, &mixed, block);
    assert_eq!(diffed.literal_bytes, block as u64);
}

#[test]
fn a_file_that_shares_nothing_is_linear_and_grows_by_little() {
    let (base, new) = (random(1, 1 << 20), random(2, 1 << 20));
    let diffed = assert_linear(&base, &new, 1024);
    assert_eq!(diffed.copied_bytes, 0);
    assert!(diffed.delta_bytes < new.len() as u64 + 200);
    assert_eq!(diffed.work.vain_bytes, 0);
}

#[test]
fn blocks_in_another_order_are_linear_and_found() {
    let base = random(1, 1024 * 1024);
    let new: Vec<u8> = base.chunks(1024).rev().flatten().copied().collect();
    let diffed = assert_linear(&base, &new, 1024);
    assert_eq!(diffed.literal_bytes, 0);
}

#[test]
fn what_is_appended_or_put_before_costs_only_itself() {
    let base = random(1, 100_000);
    let appended = [&base[..], b"more"].concat();
    assert_eq!(delta_of(&base, &appended, 1024).1.literal_bytes, 4);
    let before = [b"more", &base[..]].concat();
    assert_eq!(delta_of(&base, &before, 1024).1.literal_bytes, 4);
}

#[test]
fn a_file_much_larger_than_the_buffer_is_one_pass_in_bounded_memory() {
    // 24 MiB through a buffer of 512 KiB, with an edit in each half.
    let base = random(1, 24 << 20);
    let mut new = base.clone();
    new.splice(3_000_000..3_000_100, random(2, 777));
    new.drain(20_000_000..20_001_000);
    let block = block_bytes_for(base.len() as u64) as usize;
    let diffed = assert_linear(&base, &new, block);
    assert!(diffed.literal_bytes < 777 + 2 * block as u64, "{diffed:?}");
}

fn fast_rsync_delta(base: &[u8], new: &[u8], block: usize) -> Vec<u8> {
    let signature = fast_rsync::Signature::calculate(
        base,
        fast_rsync::SignatureOptions {
            block_size: block as u32,
            crypto_hash_size: 16,
        },
    );
    let mut delta = Vec::new();
    fast_rsync::diff(&signature.index(), new, &mut delta).unwrap();
    delta
}

#[test]
fn delta_insert_is_smaller_than_another_implementations() {
    const PLACES: usize = 20;
    let base = random(1, 16 << 20);
    let block = block_bytes_for(base.len() as u64) as usize;
    let mut new = base.clone();
    for place in (0..PLACES).rev() {
        let at = place * (base.len() / PLACES) + place * 337 + 11;
        new.splice(at..at, random(100 + place as u64, 1024));
    }
    let diffed = assert_linear(&base, &new, block);
    let theirs = fast_rsync_delta(&base, &new, block).len() as u64;
    assert!(diffed.delta_bytes < theirs, "{diffed:?} against {theirs}");
    let bound = (PLACES * (1024 + 3 * block) + 200) as u64;
    assert!(diffed.delta_bytes < bound, "{diffed:?} against {bound}");
}

#[test]
fn deltas_of_edits_are_never_much_larger_than_another_implementations() {
    for seed in 0..40 {
        let numbers = random(1000 + seed, 64);
        let number = |at: usize| usize::from(numbers[at]) << 8 | usize::from(numbers[at + 1]);
        let base = random(seed, 60_000 + number(0) / 4);
        let mut new = base.clone();
        for edit in 0..1 + number(2) % 6 {
            let at = number(4 + edit * 6) % (new.len() - 6000);
            let length = number(6 + edit * 6) % 5000;
            match number(8 + edit * 6) % 3 {
                0 => drop(new.drain(at..at + length)),
                1 => drop(new.splice(at..at, random(seed + 77, length))),
                _ => {
                    let moved: Vec<u8> = new.drain(at..at + length).collect();
                    let to = new.len() / 2;
                    new.splice(to..to, moved);
                }
            }
        }
        let ours = assert_linear(&base, &new, 1024).delta_bytes;
        let theirs = fast_rsync_delta(&base, &new, 1024).len() as u64;
        // Header, digest and seal are some 60 bytes that theirs does not have.
        assert!(ours <= theirs + 64, "{seed}: {ours} against {theirs}");
    }
}
