//! The formats once more, as `docs/wire.md` and the header of `pefo_transport::delta` write them down:
//! slow, in memory, sharing no code with what they are held against.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use crate::world::World;

/// A signed document: kind, site, data set and body, signed by the world's key.
pub fn document(world: &World, kind: &str, dataset: Option<&str>, body: &[u8]) -> Vec<u8> {
    let mut message = b"pefo-document 1\0".to_vec();
    for part in [kind, world.site.as_str(), dataset.unwrap_or_default()] {
        message.extend_from_slice(&(part.len() as u64).to_le_bytes());
        message.extend_from_slice(part.as_bytes());
    }
    message.extend_from_slice(body);
    let id = world.key.public().id();
    let signature = STANDARD_NO_PAD.encode(world.key.sign(&message));
    let mut bytes = format!("pefo-document 1 {kind}\n{id} {signature}\n").into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

const MIN_BLOCK_BYTES: u64 = 64;
const MAX_BLOCK_BYTES: u64 = 1 << 20;
const MAX_BLOCKS: u64 = 1 << 20;

fn derived(context: &str, parts: &[&[u8]]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new_derive_key(context);
    for part in parts {
        hasher.update(part);
    }
    let mut cut = [0; 16];
    cut.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    cut
}

/// How many blocks a file has, and whether they are allowed.
fn blocks(file_bytes: u64, block_bytes: u64) -> Option<(u64, bool)> {
    let blocks = file_bytes.checked_next_multiple_of(block_bytes)? / block_bytes;
    let allowed = (MIN_BLOCK_BYTES..=MAX_BLOCK_BYTES).contains(&block_bytes);
    Some((blocks, allowed && blocks <= MAX_BLOCKS))
}

/// A signature, as far as its header and length say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signature {
    /// Bytes of the base.
    pub file_bytes: u64,
    /// Bytes of a block.
    pub block_bytes: u64,
    /// How many bytes are the signature's own, from the beginning.
    pub length: usize,
    /// Whether all but the seal is as the format says.
    pub is_valid: bool,
    /// Whether the seal fits.
    pub is_sealed: bool,
}

/// Reads the signature at the beginning of `bytes`; where something in it is wrong, as if it were not,
/// so that it can be sealed nevertheless.
pub fn signature(bytes: &[u8]) -> Option<Signature> {
    let number = |from: usize, count: usize| -> Option<u64> {
        let bytes = bytes.get(from..from + count)?;
        let add = |sum, byte: &u8| sum << 8 | u64::from(*byte);
        Some(bytes.iter().rev().fold(0, add))
    };
    let (strong, reserved) = (number(5, 1)?, number(6, 2)?);
    let (block_bytes, file_bytes) = (number(8, 4)?, number(12, 8)?);
    let (blocks, allowed) = blocks(file_bytes, block_bytes)?;
    let end = 36 + usize::try_from(blocks.checked_mul(4 + strong)?).ok()?;
    let seal = bytes.get(end..end.checked_add(16)?)?;
    let head = bytes.get(..5)? == b"PSIG\x01" && reserved == 0;
    Some(Signature {
        file_bytes,
        block_bytes,
        length: end + 16,
        is_valid: head && allowed && (8..=16).contains(&strong),
        is_sealed: seal == derived("pefo delta signature v1", &[&bytes[..end]]),
    })
}

/// Gives the signature at the beginning of `bytes` the seal that fits.
pub fn seal_signature(bytes: &mut [u8], signature: &Signature) {
    let end = signature.length - 16;
    let seal = derived("pefo delta signature v1", &[&bytes[..end]]);
    bytes[end..signature.length].copy_from_slice(&seal);
}

/// What a delta's instructions make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// The new file.
    pub new: Vec<u8>,
    /// Where the end instruction ends in the delta.
    pub end: usize,
    /// What belongs behind it: digest and seal.
    pub tail: Vec<u8>,
    /// Whether header and instructions are as the format says.
    pub is_valid: bool,
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    transcript: Vec<u8>,
    is_valid: bool,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(count)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    /// A LEB128 number, valid in its shortest form.
    fn number(&mut self) -> Option<u64> {
        let mut value = 0_u128;
        for place in 0..10 {
            let [byte] = *self.take(1)? else { return None };
            self.transcript.push(byte);
            value |= u128::from(byte & 0x7f) << (7 * place);
            if byte & 0x80 == 0 {
                self.is_valid &= byte != 0 || place == 0;
                return u64::try_from(value).ok();
            }
        }
        None
    }
}

/// Reads a delta's header and instructions, and puts the new file together, of at most `max_bytes`. Where
/// something is wrong it goes on as best it can, so that the delta can be sealed nevertheless.
pub fn delta(base: &[u8], delta: &[u8], max_bytes: u64) -> Option<Made> {
    let mut reader = Reader {
        bytes: delta,
        at: 0,
        transcript: Vec::new(),
        is_valid: true,
    };
    let head = reader.take(5)?;
    reader.transcript.extend_from_slice(head);
    let (block, base_bytes, new_bytes) = (reader.number()?, reader.number()?, reader.number()?);
    let (blocks, allowed) = blocks(base_bytes, block)?;
    reader.is_valid &= head == b"PDLT\x01" && allowed;
    reader.is_valid &= base_bytes == base.len() as u64 && new_bytes <= max_bytes;
    let mut new = Vec::new();
    let mut next = 0_u64;
    loop {
        let head = reader.number()?;
        let amount = head / 2;
        if head == 0 {
            break;
        } else if head % 2 == 0 {
            reader.is_valid &= amount <= 131_072;
            new.extend_from_slice(reader.take(usize::try_from(amount).ok()?)?);
        } else {
            let coded = reader.number()?;
            let skip = i128::from(coded / 2);
            let skip = if coded % 2 == 0 { skip } else { -skip - 1 };
            let first = u64::try_from(i128::from(next) + skip).ok()?;
            next = first.checked_add(amount)?;
            reader.is_valid &= amount > 0 && next <= blocks;
            let within = |block_at: u64| {
                let at = u128::from(block_at) * u128::from(block);
                usize::try_from(at).map_or(base.len(), |at| at.min(base.len()))
            };
            new.extend_from_slice(base.get(within(first)..within(next))?);
        }
        if new.len() as u64 > 2 * max_bytes {
            return None;
        }
    }
    reader.is_valid &= new.len() as u64 == new_bytes;
    let digest = blake3::hash(&new);
    let seal = derived(
        "pefo delta transcript v1",
        &[&reader.transcript, digest.as_bytes()],
    );
    Some(Made {
        new,
        end: reader.at,
        tail: [digest.as_bytes().as_slice(), &seal].concat(),
        is_valid: reader.is_valid,
    })
}
