//! Signatures and deltas of files that differ in all the ways there are.

use pefo_core::Result;
use pefo_transport::delta::{self, Seed as Key, SignatureOptions};

use super::{Seed, seed};

/// Bytes that repeat nowhere soon.
fn bytes(seed: u8, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    blake3::Hasher::new_derive_key("pefo fuzz seeds")
        .update(&[seed])
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

pub(super) fn seeds() -> Result<Vec<Seed>> {
    let base = bytes(1, 300);
    let blocks: Vec<&[u8]> = base.chunks(64).collect();
    let cases: [(&str, &[u8], Vec<u8>); 9] = [
        ("same", &base, base.clone()),
        ("appended", &base, [&base[..], b"more"].concat()),
        (
            "inserted",
            &base,
            [&base[..70], b"new", &base[70..]].concat(),
        ),
        ("cut", &base, [&base[..64], &base[129..]].concat()),
        (
            "reversed",
            &base,
            blocks.iter().rev().copied().flatten().copied().collect(),
        ),
        ("repeated", &base[..128], base[..128].repeat(20)),
        ("nothing-in-common", &base, bytes(2, 200)),
        ("from-nothing", &[], bytes(3, 150)),
        ("to-nothing", &base, Vec::new()),
    ];
    let mut seeds = Vec::new();
    for (name, base, new) in cases {
        let options = SignatureOptions::new(Key([0; 16]))
            .block_bytes(64)
            .strong_bytes(8);
        let (mut signature, mut made) = (Vec::new(), Vec::new());
        delta::signature::write(base, base.len() as u64, &options, &mut signature)?;
        let parsed = delta::signature::parse(&signature)?;
        delta::diff(&parsed, &new[..], new.len() as u64, &mut made)?;
        let with =
            |head: &[u8], tail: &[u8]| [&(head.len() as u16).to_le_bytes(), head, tail].concat();
        seeds.push(seed("patch", name, with(base, &made)));
        seeds.push(seed("signature", name, with(&signature, &new)));
        let chosen = [&[0, 0][..], &with(base, &new)].concat();
        seeds.push(seed("delta", name, chosen));
    }
    // Against a base of two blocks of 64 bytes; digest and seal are the target's to add.
    let wrong: [(&str, &[u8]); 6] = [
        (
            "copy-of-one-block-too-many",
            b"PDLT\x01\x40\x80\x01\x80\x01\x07\x00\x00",
        ),
        (
            "copy-of-no-block",
            b"PDLT\x01\x40\x80\x01\x40\x01\x00\x03\x00\x00",
        ),
        (
            "copy-from-before-the-base",
            b"PDLT\x01\x40\x80\x01\x40\x03\x01\x00",
        ),
        (
            "number-in-two-spellings",
            b"PDLT\x01\x40\x80\x01\xc0\x00\x03\x00\x00",
        ),
        (
            "more-than-announced",
            b"PDLT\x01\x40\x80\x01\x40\x05\x00\x00",
        ),
        (
            "less-than-announced",
            b"PDLT\x01\x40\x80\x01\x80\x01\x03\x00\x00",
        ),
    ];
    for (name, delta) in wrong {
        let bytes = [&128_u16.to_le_bytes(), &base[..128], delta].concat();
        seeds.push(seed("patch", name, bytes));
    }
    let odd = [&[37, 4][..], &300_u16.to_le_bytes(), &base, &base[7..]].concat();
    seeds.push(seed("delta", "odd-blocks", odd));
    let mut far = b"\x34\0PSIG\x01\x10\0\0".to_vec();
    far.extend_from_slice(&(1_u32 << 20).to_le_bytes());
    far.extend_from_slice(&(1_u64 << 40).to_le_bytes());
    far.extend_from_slice(&[7; 32]);
    seeds.push(seed("signature", "most-blocks-announced", far));
    Ok(seeds)
}
