//! BLAKE3 digests of content, and a state digest that costs what changed.
//!
//! A data set's state is the set of its (path, mode, content digest). [`StateHash`] is LtHash
//! (Bellare and Micciancio's AdHash made wide: 1,024 lanes of 16 bits, added lane by lane): an entry
//! is added or taken out without looking at the others, in any order, and the result is the same as
//! hashing the whole set anew. [`StateHash::digest`] is its 32-byte name.

use std::fmt;
use std::io::Read;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::path::RelPath;

/// A BLAKE3 digest; written as 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(blake3::hash(bytes).into())
    }

    /// The digest of all that `reader` gives, and how many bytes that was.
    ///
    /// # Errors
    /// What the reader says.
    pub fn of_reader(mut reader: impl Read) -> std::io::Result<(Self, u64)> {
        let mut hasher = Hasher::default();
        let mut buffer = vec![0; 128 * 1024];
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => return Ok((hasher.digest(), hasher.len())),
                Ok(n) => hasher.update(buffer.get(..n).unwrap_or_default()),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// From 32 bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The first twelve hex digits, for people.
    pub fn short(&self) -> String {
        self.to_string().chars().take(12).collect()
    }
}

/// A digest being computed over a stream.
#[derive(Debug, Clone, Default)]
pub struct Hasher {
    inner: blake3::Hasher,
    len: u64,
}

impl Hasher {
    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.inner.update(bytes);
        self.len += bytes.len() as u64;
    }

    /// The digest of everything so far.
    pub fn digest(&self) -> Digest {
        Digest(self.inner.finalize().into())
    }

    /// How many bytes that is.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether nothing was added yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl FromStr for Digest {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        match blake3::Hash::from_hex(text) {
            Ok(hash) if text.bytes().all(|b| !b.is_ascii_uppercase()) => Ok(Self(hash.into())),
            _ => Err(Error::invalid(format!(
                "digest {text:?} is not 64 lower-case hex digits"
            ))),
        }
    }
}

impl TryFrom<String> for Digest {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

const LANES: usize = 1024;

/// The state of a data set, changed entry by entry.
#[derive(Clone, PartialEq, Eq)]
pub struct StateHash(Box<[u16; LANES]>);

impl Default for StateHash {
    /// The state of an empty data set.
    fn default() -> Self {
        Self(Box::new([0; LANES]))
    }
}

impl fmt::Debug for StateHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StateHash({})", self.digest().short())
    }
}

impl StateHash {
    /// Adds an entry; adding it twice is not the same as adding it once.
    pub fn add(&mut self, path: &RelPath, mode: u32, content: &Digest) {
        for (lane, value) in self.0.iter_mut().zip(expand(path, mode, content)) {
            *lane = lane.wrapping_add(value);
        }
    }

    /// Takes out an entry that was added.
    pub fn remove(&mut self, path: &RelPath, mode: u32, content: &Digest) {
        for (lane, value) in self.0.iter_mut().zip(expand(path, mode, content)) {
            *lane = lane.wrapping_sub(value);
        }
    }

    /// The state's name.
    pub fn digest(&self) -> Digest {
        let mut hasher = Hasher::default();
        for lane in self.0.iter() {
            hasher.update(&lane.to_le_bytes());
        }
        hasher.digest()
    }

    /// The state of a whole set of entries.
    pub fn of<'a>(entries: impl IntoIterator<Item = (&'a RelPath, u32, &'a Digest)>) -> Self {
        let mut state = Self::default();
        for (path, mode, content) in entries {
            state.add(path, mode, content);
        }
        state
    }
}

fn expand(path: &RelPath, mode: u32, content: &Digest) -> [u16; LANES] {
    let mut hasher = blake3::Hasher::new_derive_key("pefo state entry v1");
    hasher.update(&(path.as_str().len() as u64).to_le_bytes());
    hasher.update(path.as_str().as_bytes());
    hasher.update(&mode.to_le_bytes());
    hasher.update(content.as_bytes());
    let mut bytes = [0; LANES * 2];
    hasher.finalize_xof().fill(&mut bytes);
    let mut lanes = [0; LANES];
    for (lane, pair) in lanes.iter_mut().zip(bytes.chunks_exact(2)) {
        *lane = u16::from_le_bytes([pair[0], pair[1]]);
    }
    lanes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry() -> impl Strategy<Value = (String, u32, u8)> {
        (
            "[a-c]{1,2}",
            prop_oneof![Just(0o640_u32), Just(0o644)],
            any::<u8>(),
        )
    }

    fn state(entries: &[(String, u32, u8)]) -> StateHash {
        let mut state = StateHash::default();
        for (path, mode, content) in entries {
            state.add(
                &RelPath::new(path.as_str()).unwrap(),
                *mode,
                &Digest::of(&[*content]),
            );
        }
        state
    }

    proptest! {
        #[test]
        fn a_state_is_the_same_in_any_order(entries in prop::collection::vec(entry(), 0..8)) {
            let mut reversed = entries.clone();
            reversed.reverse();
            prop_assert_eq!(state(&entries).digest(), state(&reversed).digest());
        }

        #[test]
        fn taking_an_entry_out_restores_the_state_before(entries in prop::collection::vec(entry(), 0..6), extra in entry()) {
            let before = state(&entries);
            let mut after = before.clone();
            let (path, content) = (RelPath::new(extra.0).unwrap(), Digest::of(&[extra.2]));
            after.add(&path, extra.1, &content);
            prop_assert_ne!(after.digest(), before.digest());
            after.remove(&path, extra.1, &content);
            prop_assert_eq!(after.digest(), before.digest());
        }

        #[test]
        fn a_digest_reads_back(bytes in any::<[u8; 32]>()) {
            let digest = Digest::from_bytes(bytes);
            prop_assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
        }
    }

    #[test]
    fn path_mode_and_content_each_matter() {
        let base = state(&[("a".into(), 0o640, 1)]);
        for other in [("b", 0o640, 1), ("a", 0o644, 1), ("a", 0o640, 2)] {
            assert_ne!(
                base.digest(),
                state(&[(other.0.into(), other.1, other.2)]).digest()
            );
        }
    }
}
