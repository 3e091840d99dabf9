//! What the frames of a tree session carry.

use serde::{Deserialize, Serialize};

use crate::message::Protocols;

/// The sender's first frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// The protocols it speaks. This and `tool` are read before all the rest, by every version.
    pub protocol: Protocols,
    /// Its program, such as `pefo 0.1.0`.
    pub tool: String,
    /// What it can do beyond the protocol's base.
    pub capabilities: Vec<String>,
}

/// The receiver's answer to [`Open`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    /// The protocol that both will speak.
    pub protocol: u16,
    /// The receiver's program.
    pub tool: String,
    /// What it can do beyond the protocol's base.
    pub capabilities: Vec<String>,
}

/// The digests of a whole tree, cut into buckets by the digests of its paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// How many entries there are.
    pub entries: u64,
    /// The logarithm of the count of buckets.
    pub bucket_bits: u8,
    /// A digest of each bucket's entries, cut to 16 bytes.
    pub buckets: Vec<[u8; Summary::DIGEST_BYTES]>,
}

impl Summary {
    /// Bytes of a bucket's digest.
    pub const DIGEST_BYTES: usize = 16;
    /// The most buckets there may be, as a logarithm.
    pub const MAX_BITS: u8 = 14;

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.entries.to_le_bytes().to_vec();
        bytes.push(self.bucket_bits);
        bytes.extend_from_slice(self.buckets.as_flattened());
        bytes
    }

    pub(crate) fn from_bytes(payload: &[u8]) -> Result<Self, &'static str> {
        let parts = payload
            .split_first_chunk::<8>()
            .and_then(|(entries, rest)| Some((*entries, rest.split_first()?)));
        let Some((entries, (&bucket_bits, digests))) = parts else {
            return Err("it is cut");
        };
        let (buckets, rest) = digests.as_chunks();
        if bucket_bits > Self::MAX_BITS || buckets.len() != 1 << bucket_bits || !rest.is_empty() {
            return Err("its count of buckets is another");
        }
        Ok(Self {
            entries: u64::from_le_bytes(entries),
            bucket_bits,
            buckets: buckets.to_vec(),
        })
    }
}

/// One bit for each bucket, set where the receiver's differs, lowest bit of the first byte first; no
/// bytes at all where the two trees are the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Differs {
    bits: Vec<u8>,
}

impl Differs {
    /// The two trees are the same.
    pub const fn nowhere() -> Self {
        Self { bits: Vec::new() }
    }

    /// In these buckets of `2^bucket_bits`.
    pub fn buckets(bucket_bits: u8, differing: impl IntoIterator<Item = usize>) -> Self {
        let mut bits = vec![0; Self::bytes(bucket_bits)];
        for bucket in differing {
            if let Some(byte) = bits.get_mut(bucket / 8) {
                *byte |= 1 << (bucket % 8);
            }
        }
        Self { bits }
    }

    fn bytes(bucket_bits: u8) -> usize {
        (1_usize << bucket_bits.min(Summary::MAX_BITS)).div_ceil(8)
    }

    /// Whether the two trees are the same.
    pub fn is_nowhere(&self) -> bool {
        self.bits.is_empty()
    }

    /// Whether this bucket differs.
    pub fn contains(&self, bucket: usize) -> bool {
        self.bits
            .get(bucket / 8)
            .is_some_and(|byte| byte & (1 << (bucket % 8)) != 0)
    }

    /// Whether it answers a summary of so many buckets.
    pub fn fits(&self, bucket_bits: u8) -> bool {
        self.bits.is_empty() || self.bits.len() == Self::bytes(bucket_bits)
    }

    pub(crate) fn bits(&self) -> &[u8] {
        &self.bits
    }

    pub(crate) fn from_bytes(payload: &[u8]) -> Result<Self, &'static str> {
        if payload.len() > Self::bytes(Summary::MAX_BITS) {
            return Err("it has too many buckets");
        }
        Ok(Self {
            bits: payload.to_vec(),
        })
    }
}

/// What entries are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// All that the differing buckets hold: what the receiver has there beyond them is gone.
    Buckets,
    /// These paths and no others; one that is gone says so.
    Paths,
}

/// Entries follow in Data frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntriesHead {
    /// What they are about.
    pub scope: Scope,
    /// How many there are.
    pub entries: u32,
    /// Their bytes.
    pub bytes: u64,
    /// Whether all files among them follow at once, unasked and whole. Only with [`Scope::Paths`]: it
    /// saves a round trip for what is surely a change.
    pub eager: bool,
}

impl EntriesHead {
    /// The most entries.
    pub const MAX_ENTRIES: u32 = 1_000_000;
    /// The most bytes of entries.
    pub const MAX_BYTES: u64 = 160 << 20;
    /// The most entries whose files may follow unasked.
    pub const MAX_EAGER: u32 = 1024;
}

/// All that was needed has been sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    /// Whether the receiver may remove what the sender did not name: not after any read error.
    pub delete: bool,
}

/// What the receiver's tree has gained and lost, durably.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Committed {
    /// Files whose content came over the line.
    pub written: u64,
    /// Files whose content was found elsewhere in the receiver's tree.
    pub copied: u64,
    /// Files and directories of which only mode or time changed, and new directories.
    pub adjusted: u64,
    /// Files and directories removed.
    pub deleted: u64,
    /// Files that were not what was announced, or skipped by the sender: they are as they were.
    pub skipped: u64,
    /// Files and directories that should be gone and were kept by a guard.
    pub held: u64,
    /// The guard's name and words, where one kept something.
    pub guard: Option<String>,
}
