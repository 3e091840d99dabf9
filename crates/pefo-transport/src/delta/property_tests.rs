//! Delta as a whole: round trips, and everything that must be refused.

use std::io::{Cursor, Read};

use proptest::prelude::*;

use super::instruction::{Decoder, Instruction, SEAL_BYTES};
use super::*;

const BLOCK: usize = 64;

pub(super) fn signature_of(base: &[u8], block: usize) -> Signature {
    let options = SignatureOptions::new(Seed([9; 16])).block_bytes(block as u32);
    let mut bytes = Vec::new();
    signature::write(base, base.len() as u64, &options, &mut bytes).unwrap();
    signature::parse(&bytes).unwrap()
}

pub(super) fn delta_of(base: &[u8], new: &[u8], block: usize) -> (Vec<u8>, Diffed) {
    let mut delta = Vec::new();
    let signature = signature_of(base, block);
    let diffed = diff(&signature, new, new.len() as u64, &mut delta).unwrap();
    assert_eq!(diffed.delta_bytes, delta.len() as u64);
    assert_eq!(diffed.literal_bytes + diffed.copied_bytes, new.len() as u64);
    (delta, diffed)
}

#[test]
fn a_delta_of_a_file_whose_digest_is_known_is_the_same() {
    let (base, new) = (vec![1; 1000], [vec![1; 500], vec![2; 300]].concat());
    let (delta, diffed) = delta_of(&base, &new, BLOCK);
    let mut known = Vec::new();
    let signature = signature_of(&base, BLOCK);
    let bytes = new.len() as u64;
    let made = diff_known(&signature, &new[..], bytes, diffed.digest, &mut known).unwrap();
    assert_eq!((known, made), (delta, diffed));
    // A digest of something else makes a delta of nothing.
    let mut wrong = Vec::new();
    let other = pefo_core::Digest::of(b"something else");
    diff_known(&signature, &new[..], bytes, other, &mut wrong).unwrap();
    assert!(patch::apply_bytes(&base, &wrong, bytes).is_err());
    assert!(diff_known(&signature, &new[1..], bytes, other, &mut wrong).is_err());
}

/// Where each instruction begins, and where the last one ends.
fn instruction_bounds(delta: &[u8]) -> Vec<usize> {
    // Read byte by byte, so that what is left tells where the decoder is.
    struct Counted<'a>(&'a [u8], std::rc::Rc<std::cell::Cell<usize>>);
    impl Read for Counted<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let count = buffer.len().min(1).min(self.0.len());
            buffer[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            self.1.set(self.1.get() + count);
            Ok(count)
        }
    }
    let read = std::rc::Rc::default();
    let mut decoder = Decoder::open(Counted(delta, std::rc::Rc::clone(&read))).unwrap();
    let mut bounds = vec![read.get()];
    loop {
        match decoder.instruction().unwrap() {
            Instruction::Literal(length) => decoder.take(&mut vec![0; length]).unwrap(),
            Instruction::Copy { .. } => {}
            Instruction::End => break,
        }
        bounds.push(read.get());
    }
    assert_eq!(read.get() + 32 + SEAL_BYTES, delta.len());
    bounds
}

/// Bytes with few and with many repetitions, of lengths around whole blocks.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let length = prop_oneof![
        Just(0),
        Just(1),
        Just(BLOCK - 1),
        Just(BLOCK),
        Just(BLOCK + 1),
        0..BLOCK * 12,
    ];
    (
        length,
        any::<u64>(),
        prop_oneof![Just(1_u8), Just(2), Just(4), Just(255)],
    )
        .prop_map(|(length, seed, kinds)| {
            let mut bytes = random(seed, length);
            bytes.iter_mut().for_each(|byte| *byte %= kinds);
            bytes
        })
}

pub(super) fn random(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new()
        .update(&seed.to_le_bytes())
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

#[derive(Debug, Clone)]
enum Edit {
    Insert(prop::sample::Index, Vec<u8>),
    Delete(prop::sample::Index, usize),
    Change(prop::sample::Index, u8),
    Move(prop::sample::Index, usize, prop::sample::Index),
    Repeat(prop::sample::Index, usize),
}

fn length() -> impl Strategy<Value = usize> {
    prop_oneof![1..8_usize, Just(BLOCK), Just(BLOCK * 2), 1..BLOCK * 3]
}

fn edit() -> impl Strategy<Value = Edit> {
    let place = any::<prop::sample::Index>;
    prop_oneof![
        (place(), prop::collection::vec(any::<u8>(), 1..100))
            .prop_map(|(at, b)| Edit::Insert(at, b)),
        (place(), length()).prop_map(|(at, n)| Edit::Delete(at, n)),
        (place(), any::<u8>()).prop_map(|(at, b)| Edit::Change(at, b)),
        (place(), length(), place()).prop_map(|(from, n, to)| Edit::Move(from, n, to)),
        (place(), length()).prop_map(|(at, n)| Edit::Repeat(at, n)),
    ]
}

fn apply(bytes: &mut Vec<u8>, edit: Edit) {
    let range = |at: prop::sample::Index, n: usize, length: usize| {
        let begin = at.index(length + 1);
        begin..(begin + n).min(length)
    };
    let length = bytes.len();
    match edit {
        Edit::Insert(at, new) => {
            let at = at.index(length + 1);
            bytes.splice(at..at, new);
        }
        Edit::Delete(at, n) => drop(bytes.drain(range(at, n, length))),
        Edit::Change(at, byte) => {
            if length > 0 {
                bytes[at.index(length)] = byte;
            }
        }
        Edit::Move(from, n, to) => {
            let moved: Vec<u8> = bytes.drain(range(from, n, length)).collect();
            let to = to.index(bytes.len() + 1);
            bytes.splice(to..to, moved);
        }
        Edit::Repeat(at, n) => {
            let range = range(at, n, length);
            let again = bytes[range.clone()].to_vec();
            bytes.splice(range.end..range.end, again);
        }
    }
}

/// A base and an edit of it whose delta has several different instructions.
fn rich_pair() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let insert = (
        any::<prop::sample::Index>(),
        prop::collection::vec(any::<u8>(), 1..100),
    );
    let inserts = prop::collection::vec(insert, 2..5);
    (any::<u64>(), BLOCK * 6..BLOCK * 12, inserts).prop_map(|(seed, length, inserts)| {
        let base = random(seed, length);
        let mut new = base.clone();
        for (at, bytes) in inserts {
            apply(&mut new, Edit::Insert(at, bytes));
        }
        (base, new)
    })
}

/// A base and an edit of it, or something else altogether.
fn pair() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let edited = (bytes(), prop::collection::vec(edit(), 0..5)).prop_map(|(base, edits)| {
        let mut new = base.clone();
        edits.into_iter().for_each(|edit| apply(&mut new, edit));
        (base, new)
    });
    prop_oneof![4 => edited, 1 => (bytes(), bytes())]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_two_byte_strings_round_trip((base, new) in pair(), block in prop_oneof![Just(BLOCK), Just(100), Just(1024)]) {
        let (delta, diffed) = delta_of(&base, &new, block);
        prop_assert_eq!(diffed.digest, pefo_core::digest::Digest::of(&new));
        let mut made = Vec::new();
        let limits = PatchLimits::new(new.len() as u64).digest(diffed.digest);
        let patched = patch(Cursor::new(&base), &delta[..], &mut made, &limits).unwrap();
        prop_assert_eq!(&made, &new);
        prop_assert_eq!((patched.literal_bytes, patched.copied_bytes), (diffed.literal_bytes, diffed.copied_bytes));
    }

    #[test]
    fn reading_in_small_pieces_makes_the_same_delta((base, new) in pair(), piece in 1_usize..40) {
        struct Pieces<'a>(&'a [u8], usize);
        impl Read for Pieces<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
                let count = buffer.len().min(self.1);
                self.0.read(&mut buffer[..count])
            }
        }
        let mut delta = Vec::new();
        diff(&signature_of(&base, BLOCK), Pieces(&new, piece), new.len() as u64, &mut delta).unwrap();
        prop_assert_eq!(&delta, &delta_of(&base, &new, BLOCK).0);
        let mut made = Vec::new();
        patch(Cursor::new(&base), Pieces(&delta, piece), &mut made, &PatchLimits::new(1 << 20)).unwrap();
        prop_assert_eq!(made, new);
    }

    #[test]
    fn equal_files_are_one_copy(base in bytes()) {
        let (_, diffed) = delta_of(&base, &base, BLOCK);
        prop_assert_eq!(diffed.literal_bytes, 0);
        prop_assert!(diffed.delta_bytes <= 70);
    }

    #[test]
    fn any_swap_of_two_instructions_is_an_error((base, new) in rich_pair(), one in any::<prop::sample::Index>(), two in any::<prop::sample::Index>()) {
        let (delta, _) = delta_of(&base, &new, BLOCK);
        let bounds = instruction_bounds(&delta);
        let count = bounds.len() - 1;
        prop_assume!(count > 1);
        let (first, second) = (one.index(count), two.index(count));
        let (first, second) = (first.min(second), first.max(second));
        let part = |at: usize| &delta[bounds[at]..bounds[at + 1]];
        prop_assume!(part(first) != part(second));
        let mut swapped = delta[..bounds[first]].to_vec();
        swapped.extend_from_slice(part(second));
        swapped.extend_from_slice(&delta[bounds[first + 1]..bounds[second]]);
        swapped.extend_from_slice(part(first));
        swapped.extend_from_slice(&delta[bounds[second + 1]..]);
        prop_assert_eq!(swapped.len(), delta.len());
        prop_assert!(patch::apply_bytes(&base, &swapped, 1 << 20).is_err());
    }

    #[test]
    fn any_instruction_left_out_or_said_twice_is_an_error((base, new) in rich_pair(), at in any::<prop::sample::Index>()) {
        let (delta, _) = delta_of(&base, &new, BLOCK);
        let bounds = instruction_bounds(&delta);
        prop_assume!(bounds.len() > 1);
        let at = at.index(bounds.len() - 1);
        let without = [&delta[..bounds[at]], &delta[bounds[at + 1]..]].concat();
        prop_assert!(patch::apply_bytes(&base, &without, 1 << 20).is_err());
        let twice = [&delta[..bounds[at + 1]], &delta[bounds[at]..]].concat();
        prop_assert!(patch::apply_bytes(&base, &twice, 1 << 20).is_err());
    }

    #[test]
    fn any_bytes_as_a_delta_are_refused_within_the_cap(base in bytes(), junk in prop::collection::vec(any::<u8>(), 0..200), announced in 0_u64..4096) {
        prop_assert!(patch::apply_bytes(&base, &junk, 4096).is_err());
        // Behind a header that is right, so that the instructions are reached.
        let mut delta = b"PDLT\x01".to_vec();
        for number in [BLOCK as u64, base.len() as u64, announced] {
            varint::put(number, &mut delta);
        }
        delta.extend_from_slice(&junk);
        let mut out = Vec::new();
        prop_assert!(patch(Cursor::new(&base), &delta[..], &mut out, &PatchLimits::new(4096)).is_err());
        prop_assert!(out.len() as u64 <= announced);
    }

    #[test]
    fn another_base_is_never_taken_for_the_right_one((base, new) in pair(), edits in prop::collection::vec(edit(), 1..3)) {
        let (delta, _) = delta_of(&base, &new, BLOCK);
        let mut other = base.clone();
        edits.into_iter().for_each(|edit| apply(&mut other, edit));
        // The right file or an error: a change in a block that was not copied does not matter.
        if let Ok(made) = patch::apply_bytes(&other, &delta, 1 << 20) {
            prop_assert_eq!(made, new);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn every_truncation_and_every_altered_bit_is_an_error((base, new) in pair()) {
        let (delta, _) = delta_of(&base, &new, BLOCK);
        for length in 0..delta.len() {
            prop_assert!(patch::apply_bytes(&base, &delta[..length], 1 << 20).is_err(), "cut to {}", length);
        }
        for bit in 0..delta.len() * 8 {
            let mut altered = delta.clone();
            altered[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(patch::apply_bytes(&base, &altered, 1 << 20).is_err(), "bit {}", bit);
        }
        let longer = [&delta[..], &[0]].concat();
        prop_assert!(patch::apply_bytes(&base, &longer, 1 << 20).is_err());
    }
}

#[test]
fn an_alteration_that_makes_the_same_file_is_still_an_error() {
    // Two equal blocks: copying the other one gives the same bytes.
    let base = [random(1, BLOCK), random(1, BLOCK), random(2, BLOCK)].concat();
    let new = [&base[..BLOCK], b"x", &base[BLOCK * 2..]].concat();
    let (delta, _) = delta_of(&base, &new, BLOCK);
    let bounds = instruction_bounds(&delta);
    assert_eq!(delta[bounds[0]..bounds[1]], [3, 0]);
    let mut altered = delta.clone();
    altered[bounds[0] + 1] = 2;
    // The next copy is relative to this one.
    altered[bounds[2] + 1] = 0;
    let error = patch::apply_bytes(&base, &altered, 1 << 20).unwrap_err();
    assert!(error.message().contains("seal"), "{error}");
}

#[test]
fn each_malformed_instruction_is_refused_by_name() {
    // A base of three blocks, the last one short; a result of 200 bytes announced.
    let base = random(1, BLOCK * 2 + 20);
    let refusal = |instructions: &[u64]| {
        let mut delta = b"PDLT\x01".to_vec();
        for number in [BLOCK as u64, base.len() as u64, 200]
            .iter()
            .chain(instructions)
        {
            varint::put(*number, &mut delta);
        }
        delta.extend_from_slice(&[0; 300]);
        let error = patch::apply_bytes(&base, &delta, 1000).unwrap_err();
        error.message().to_owned()
    };
    let copy = |blocks: u64| blocks << 1 | 1;
    for beyond in [
        vec![copy(4), 0],
        vec![copy(1), varint::zigzag(3)],
        vec![copy(1), varint::zigzag(-1)],
        vec![copy(1), varint::zigzag(i64::MIN)],
        vec![copy(1), varint::zigzag(i64::MAX)],
        vec![copy(u64::MAX >> 1), 0],
        vec![copy(3), 0, copy(1), 0],
    ] {
        let message = refusal(&beyond);
        assert!(message.contains("does not have"), "{beyond:?}: {message}");
    }
    assert!(refusal(&[1, 0]).contains("no blocks"));
    assert!(refusal(&[(128 * 1024 + 1) << 1]).contains("over its cap"));
    assert!(refusal(&[201 << 1]).contains("over the 200 allowed"));
    assert!(refusal(&[copy(2), 0, copy(2), varint::zigzag(-2)]).contains("over the 200 allowed"));
    assert!(refusal(&[copy(1), 0, 0]).contains("before the size it announced"));
}

#[test]
fn the_result_stays_below_the_callers_cap() {
    let new = random(1, 5000);
    let (delta, _) = delta_of(&[], &new, BLOCK);
    assert!(patch::apply_bytes(&[], &delta, 5000).is_ok());
    let mut out = Vec::new();
    let error = patch(
        Cursor::new([]),
        &delta[..],
        &mut out,
        &PatchLimits::new(4999),
    )
    .unwrap_err();
    assert!(error.message().contains("over the 4999 allowed"), "{error}");
    assert!(out.is_empty());
}

#[test]
fn a_digest_known_from_elsewhere_must_fit() {
    let (delta, _) = delta_of(b"old", b"new", BLOCK);
    let limits = PatchLimits::new(10).digest(pefo_core::digest::Digest::of(b"other"));
    assert!(patch(Cursor::new(b"old"), &delta[..], Vec::new(), &limits).is_err());
}

#[test]
fn a_new_file_of_another_length_than_announced_is_an_error() {
    let signature = signature_of(&random(1, 1000), BLOCK);
    for announced in [0, 99, 101, 5000] {
        let error = diff(&signature, &[1; 100][..], announced, Vec::new()).unwrap_err();
        assert!(error.is_retryable(), "{announced}: {error}");
    }
}

#[test]
fn the_format_is_frozen() {
    let base: Vec<u8> = (0..150).collect();
    let new = [&base[64..128], b"between", &base[..64], &base[128..]].concat();
    let (delta, _) = delta_of(&base, &new, BLOCK);
    let hex: String = delta.iter().map(|b| format!("{b:02x}")).collect();
    insta::assert_snapshot!(hex, @"50444c54014096019d0103020e6265747765656e0303030200a44bb9315c2b81c0e3aff722edb2a3cb5a26f07dcf04be9cdfc100c3d29a9a3429a3be1ad0af9549e3666d4cd0ded99f");
    assert_eq!(patch::apply_bytes(&base, &delta, 1000).unwrap(), new);
}
