//! What a tree is made of, as values and as bytes.
//!
//! Entries cross the line, and are hashed into the summary, in one canonical form:
//!
//! ```text
//! u16 bytes of the path | path | u8 kind
//! kind 0, a directory:  u32 mode
//! kind 1, a file:       u32 mode | mtime: i64 seconds, u32 nanoseconds | u64 size | 32 bytes BLAKE3
//! kind 2, gone:         nothing
//! ```
//!
//! Numbers are little-endian; paths ascend strictly, as bytes do. A directory's mtime is not part of
//! it: whatever is made in a directory moves it. Symlinks and special files are in no tree.

use pefo_core::digest_cache::FileTime;
use pefo_core::{Digest, Error, RelPath, Result};

use super::message::EntriesHead;

/// What stands at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Node {
    /// A directory.
    Directory {
        /// Permission bits.
        mode: u32,
    },
    /// A regular file.
    File(FileNode),
}

/// A regular file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileNode {
    /// Permission bits.
    pub mode: u32,
    /// When its content changed, by its owner's word.
    pub mtime: FileTime,
    /// Its size in bytes.
    pub size: u64,
    /// Its content.
    pub digest: Digest,
}

impl FileNode {
    /// Whether two files hold the same.
    pub fn same_content(&self, other: &Self) -> bool {
        (self.size, self.digest) == (other.size, other.digest)
    }
}

impl Node {
    /// The file, where it is one.
    pub const fn file(&self) -> Option<&FileNode> {
        match self {
            Self::File(file) => Some(file),
            Self::Directory { .. } => None,
        }
    }

    /// Permission bits.
    pub const fn mode(&self) -> u32 {
        match self {
            Self::Directory { mode } | Self::File(FileNode { mode, .. }) => *mode,
        }
    }
}

/// A path and what stands there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where.
    pub path: RelPath,
    /// What; `None` where something was and is gone.
    pub node: Option<Node>,
}

const DIRECTORY: u8 = 0;
const FILE: u8 = 1;
const GONE: u8 = 2;

/// Appends an entry's canonical bytes.
pub fn write(path: &RelPath, node: Option<&Node>, out: &mut Vec<u8>) {
    // A RelPath has at most 1,024 bytes.
    out.extend_from_slice(&(path.as_str().len() as u16).to_le_bytes());
    out.extend_from_slice(path.as_str().as_bytes());
    match node {
        Some(Node::Directory { mode }) => {
            out.push(DIRECTORY);
            out.extend_from_slice(&mode.to_le_bytes());
        }
        Some(Node::File(file)) => {
            out.push(FILE);
            out.extend_from_slice(&file.mode.to_le_bytes());
            out.extend_from_slice(&file.mtime.seconds.to_le_bytes());
            out.extend_from_slice(&file.mtime.nanoseconds.to_le_bytes());
            out.extend_from_slice(&file.size.to_le_bytes());
            out.extend_from_slice(file.digest.as_bytes());
        }
        None => out.push(GONE),
    }
}

/// Reads `count` entries that are all of `bytes`.
///
/// # Errors
/// `Invalid`, where the bytes are cut, in another order, of another count, or hold what no tree can.
pub fn parse(bytes: &[u8], count: u32) -> Result<Vec<Entry>> {
    let mut rest = bytes;
    // Room for what the bytes can hold, whatever is announced.
    let most = (bytes.len() / 4).min(count.min(EntriesHead::MAX_ENTRIES) as usize);
    let mut entries: Vec<Entry> = Vec::with_capacity(most);
    for _ in 0..count {
        let entry = one(&mut rest)?;
        if let Some(last) = entries.last()
            && last.path >= entry.path
        {
            return Err(malformed(format!("{} is out of order", entry.path)));
        }
        entries.push(entry);
    }
    if !rest.is_empty() {
        return Err(malformed("bytes follow the last one"));
    }
    Ok(entries)
}

fn one(rest: &mut &[u8]) -> Result<Entry> {
    let length = u16::from_le_bytes(part(rest)?);
    let (path, after) = rest
        .split_at_checked(length.into())
        .ok_or_else(|| malformed("they are cut"))?;
    *rest = after;
    let path = std::str::from_utf8(path).map_err(|_| malformed("a path is not UTF-8"))?;
    let path = RelPath::new(path)?;
    let [kind] = part(rest)?;
    let node = match kind {
        DIRECTORY => Some(Node::Directory { mode: mode(rest)? }),
        FILE => {
            let mode = mode(rest)?;
            let mtime = FileTime {
                seconds: i64::from_le_bytes(part(rest)?),
                nanoseconds: u32::from_le_bytes(part(rest)?),
            };
            if mtime.nanoseconds >= 1_000_000_000 {
                return Err(malformed("a time has too many nanoseconds"));
            }
            Some(Node::File(FileNode {
                mode,
                mtime,
                size: u64::from_le_bytes(part(rest)?),
                digest: Digest::from_bytes(part(rest)?),
            }))
        }
        GONE => None,
        other => return Err(malformed(format!("kind {other} is unknown"))),
    };
    Ok(Entry { path, node })
}

fn mode(rest: &mut &[u8]) -> Result<u32> {
    let mode = u32::from_le_bytes(part(rest)?);
    if mode & !0o7777 == 0 {
        return Ok(mode);
    }
    Err(malformed("a mode has more than permission bits"))
}

fn part<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N]> {
    let (part, after) = rest
        .split_first_chunk()
        .ok_or_else(|| malformed("they are cut"))?;
    *rest = after;
    Ok(*part)
}

fn malformed(why: impl std::fmt::Display) -> Error {
    Error::invalid(format!("the entries are malformed: {why}"))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    prop_compose! {
        fn file()(mode in 0_u32..0o10000, seconds in any::<i64>(), nanoseconds in 0_u32..1_000_000_000, size in any::<u64>(), content in any::<[u8; 32]>()) -> Node {
            Node::File(FileNode {
                mode,
                mtime: FileTime { seconds, nanoseconds },
                size,
                digest: Digest::from_bytes(content),
            })
        }
    }

    fn node() -> impl Strategy<Value = Option<Node>> {
        prop_oneof![
            file().prop_map(Some),
            (0_u32..0o10000).prop_map(|mode| Some(Node::Directory { mode })),
            Just(None),
        ]
    }

    /// Entries in order.
    pub(crate) fn entries() -> impl Strategy<Value = Vec<Entry>> {
        prop::collection::btree_map("[a-c]{1,2}(/[a-c]{1,2}){0,2}", node(), 0..12).prop_map(|map| {
            let entry = |(path, node)| Entry {
                path: RelPath::new(path).unwrap(),
                node,
            };
            map.into_iter().map(entry).collect()
        })
    }

    fn bytes_of(entries: &[Entry]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for entry in entries {
            write(&entry.path, entry.node.as_ref(), &mut bytes);
        }
        bytes
    }

    proptest! {
        #[test]
        fn entries_read_back(entries in entries()) {
            let bytes = bytes_of(&entries);
            prop_assert_eq!(parse(&bytes, entries.len() as u32).unwrap(), entries);
        }

        #[test]
        fn cut_or_miscounted_entries_are_refused(entries in entries(), at in any::<prop::sample::Index>()) {
            prop_assume!(!entries.is_empty());
            let (bytes, count) = (bytes_of(&entries), entries.len() as u32);
            prop_assert!(parse(&bytes[..at.index(bytes.len())], count).is_err());
            prop_assert!(parse(&bytes, count - 1).is_err());
            prop_assert!(parse(&bytes, count + 1).is_err());
        }

        #[test]
        fn any_bytes_are_entries_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200), count in any::<u32>()) {
            if let Ok(entries) = parse(&bytes, count) {
                prop_assert_eq!(bytes_of(&entries), bytes);
            }
        }
    }
}
