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

/// Whether blocks of that size are allowed for a file of that size; if so, how many there are.
fn blocks(file_bytes: u64, block_bytes: u64) -> Option<u64> {
    let blocks = (MIN_BLOCK_BYTES..=MAX_BLOCK_BYTES)
        .contains(&block_bytes)
        .then(|| file_bytes.div_ceil(block_bytes))?;
    (blocks <= MAX_BLOCKS).then_some(blocks)
}

/// A signature, as far as its header and length say; its seal may be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signature {
    /// Bytes of the base.
    pub file_bytes: u64,
    /// Bytes of a block.
    pub block_bytes: u64,
    /// How many bytes are the signature's own, from the beginning.
    pub length: usize,
    /// Whether its seal fits.
    pub sealed: bool,
}

/// Reads the signature at the beginning of `bytes`.
pub fn signature(bytes: &[u8]) -> Option<Signature> {
    let number = |from: usize, count: usize| -> Option<u64> {
        let bytes = bytes.get(from..from + count)?;
        Some(
            bytes
                .iter()
                .rev()
                .fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
        )
    };
    if bytes.get(..5)? != b"PSIG\x01" || number(6, 2)? != 0 {
        return None;
    }
    let strong = number(5, 1).filter(|strong| (8..=16).contains(strong))?;
    let (block_bytes, file_bytes) = (number(8, 4)?, number(12, 8)?);
    let entries = blocks(file_bytes, block_bytes)? * (4 + strong);
    let end = usize::try_from(36 + entries).ok()?;
    let seal = bytes.get(end..end + 16)?;
    Some(Signature {
        file_bytes,
        block_bytes,
        length: end + 16,
        sealed: seal == derived("pefo delta signature v1", &[&bytes[..end]]),
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
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    transcript: Vec<u8>,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(count)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    /// A LEB128 number in its shortest form.
    fn number(&mut self) -> Option<u64> {
        let mut value = 0_u128;
        for place in 0..10 {
            let [byte] = *self.take(1)? else { return None };
            self.transcript.push(byte);
            value |= u128::from(byte & 0x7f) << (7 * place);
            if byte & 0x80 == 0 {
                let shortest = byte != 0 || place == 0;
                return shortest.then(|| u64::try_from(value).ok()).flatten();
            }
        }
        None
    }
}

/// Reads a delta's header and instructions, and puts the new file together, of at most `max_bytes`.
pub fn delta(base: &[u8], delta: &[u8], max_bytes: u64) -> Option<Made> {
    let mut reader = Reader {
        bytes: delta,
        at: 0,
        transcript: Vec::new(),
    };
    let head = reader.take(5).filter(|head| *head == b"PDLT\x01")?;
    reader.transcript.extend_from_slice(head);
    let (block, base_bytes, new_bytes) = (reader.number()?, reader.number()?, reader.number()?);
    let blocks = blocks(base_bytes, block)?;
    if base_bytes != base.len() as u64 || new_bytes > max_bytes {
        return None;
    }
    let mut new = Vec::new();
    let mut next = 0_u64;
    loop {
        let head = reader.number()?;
        let amount = head / 2;
        if head == 0 {
            break;
        } else if amount == 0 {
            return None;
        } else if head % 2 == 0 {
            if amount > 131_072 {
                return None;
            }
            new.extend_from_slice(reader.take(usize::try_from(amount).ok()?)?);
        } else {
            let coded = reader.number()?;
            let skip = i128::from(coded / 2);
            let skip = if coded % 2 == 0 { skip } else { -skip - 1 };
            let first = u64::try_from(i128::from(next) + skip).ok()?;
            next = first.checked_add(amount).filter(|next| *next <= blocks)?;
            let from = usize::try_from(first * block).ok()?;
            let to = usize::try_from((next * block).min(base_bytes)).ok()?;
            new.extend_from_slice(base.get(from..to)?);
        }
        if new.len() as u64 > new_bytes {
            return None;
        }
    }
    if (new.len() as u64) < new_bytes {
        return None;
    }
    let digest = blake3::hash(&new);
    let seal = derived(
        "pefo delta transcript v1",
        &[&reader.transcript, digest.as_bytes()],
    );
    Some(Made {
        new,
        end: reader.at,
        tail: [digest.as_bytes().as_slice(), &seal].concat(),
    })
}
