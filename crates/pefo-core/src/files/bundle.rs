//! What crosses: one sealed file, of an index and the contents after it.
//!
//! The first line is the index as JSON, with salt; then come the contents of all files, one after the other,
//! in the index's order. Sealed as one, it tells whoever reads the spool neither paths nor sizes nor how many
//! files there are; and the salt keeps the generation's state digest from confirming a guess.
//!
//! Format 1. Unknown fields are errors.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::accounts::AccountName;
use super::path::HostPath;
use super::snapshot::Limits;
use crate::digest::Digest;
use crate::disk::read_capped;
use crate::error::{Error, Result};
use crate::generation::Verified;
use crate::generation::outgoing::Item;
use crate::keys::{random_bytes, system_random};
use crate::path::RelPath;
use crate::sealing::Recipient;

/// The one file of a generation.
const FILE: &str = "bundle";
/// The largest index: the most files with the longest paths.
const MAX_INDEX_BYTES: u64 = 32 << 20;

/// A file as it is to stand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Where.
    pub path: HostPath,
    /// Permission bits.
    pub mode: u32,
    /// Its owner.
    pub owner: AccountName,
    /// Its group.
    pub group: AccountName,
    /// Bytes.
    pub size: u64,
    /// The digest of its content.
    pub blake3: Digest,
}

/// A directory as it is made where there is none; one that stands is left as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewDirectory {
    /// Where.
    pub path: HostPath,
    /// Permission bits.
    pub mode: u32,
    /// Its owner.
    pub owner: AccountName,
    /// Its group.
    pub group: AccountName,
}

/// All files, and every directory that one of them is in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Index {
    /// By path.
    pub directories: Vec<NewDirectory>,
    /// By path.
    pub files: Vec<FileEntry>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    /// Version of this format: 1.
    format: u32,
    /// New each time.
    salt: Digest,
    index: Index,
}

impl Index {
    /// What the set means: paths, modes, owners and digests. Equal sets have equal digests.
    ///
    /// # Errors
    /// `Invalid`, where it cannot be written as JSON.
    pub fn meaning(&self) -> Result<Digest> {
        Ok(Digest::of(&written(self)?))
    }

    /// All bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }

    /// Owner and group of everything.
    pub(super) fn accounts(&self) -> impl Iterator<Item = (&AccountName, &AccountName)> {
        let directories = self.directories.iter().map(|dir| (&dir.owner, &dir.group));
        directories.chain(self.files.iter().map(|file| (&file.owner, &file.group)))
    }

    fn validate(&self) -> Result<()> {
        let bad = |what: String| Err(Error::invalid(format!("index of files: {what}")));
        let is_sorted = self.files.is_sorted_by(|a, b| a.path < b.path)
            && self.directories.is_sorted_by(|a, b| a.path < b.path);
        if !is_sorted {
            return bad("it is not sorted, or a path stands twice".to_owned());
        }
        let directories: BTreeSet<&HostPath> =
            self.directories.iter().map(|dir| &dir.path).collect();
        for file in &self.files {
            if directories.contains(&file.path) {
                return bad(format!("{} is a file and a directory", file.path));
            }
            if let Some(above) = file
                .path
                .ancestors()
                .iter()
                .find(|above| !directories.contains(*above))
            {
                return bad(format!("{}: nothing is said of {above}", file.path));
            }
        }
        let bits = self.files.iter().map(|file| (&file.path, file.mode));
        let bits = bits.chain(self.directories.iter().map(|dir| (&dir.path, dir.mode)));
        match bits.into_iter().find(|(_, mode)| mode & !0o7777 != 0) {
            Some((path, mode)) => bad(format!("{path}: {mode:o} are no permission bits")),
            None => Ok(()),
        }
    }
}

fn written(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|error| {
        Error::invalid(format!("write the index of files: {error}")).with_source(error)
    })
}

/// An index with the contents of its files.
#[derive(Clone, PartialEq, Eq)]
pub struct Bundle {
    index: Index,
    /// One after the other, in the index's order.
    contents: Vec<u8>,
}

/// Without the contents: they are secrets.
impl fmt::Debug for Bundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bundle")
            .field("files", &self.index.files.len())
            .finish_non_exhaustive()
    }
}

impl Bundle {
    /// Of an index and the contents of its files, one after the other.
    ///
    /// # Errors
    /// `Invalid`, where the index is malformed or sizes or digests do not fit the contents.
    pub fn new(index: Index, contents: Vec<u8>) -> Result<Self> {
        index.validate()?;
        let mut rest = contents.as_slice();
        for file in &index.files {
            let size = usize::try_from(file.size).unwrap_or(usize::MAX);
            let split = rest.split_at_checked(size);
            let content = split.filter(|(content, _)| Digest::of(content) == file.blake3);
            let Some((_, after)) = content else {
                let message = format!("{}: the content is not what the index says", file.path);
                return Err(Error::invalid(message));
            };
            rest = after;
        }
        if !rest.is_empty() {
            let message = format!("{} bytes belong to no file of the index", rest.len());
            return Err(Error::invalid(message));
        }
        Ok(Self { index, contents })
    }

    /// Reads what [`Bundle::to_bytes`] wrote.
    ///
    /// # Errors
    /// `Invalid`, as [`Bundle::new`] and where the format is another one.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let bad = |what: &str| Error::invalid(format!("bundle of files: {what}"));
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let (line, contents) = end
            .and_then(|end| bytes.split_at_checked(end + 1))
            .ok_or_else(|| bad("it has no index"))?;
        let header: Header = serde_json::from_slice(line)
            .map_err(|error| bad(&error.to_string()).with_source(error))?;
        if header.format != 1 {
            return Err(bad(&format!(
                "format {} is newer than this pefo reads",
                header.format
            )));
        }
        Self::new(header.index, contents.to_vec())
    }

    /// A generation's bundle.
    ///
    /// # Errors
    /// `Refused` (`files-too-large`) where it passes this host's own limits; as [`Bundle::parse`].
    pub fn of(verified: &Verified, limits: &Limits) -> Result<Self> {
        let path = verified.files()?.join(FILE);
        let cap = limits.max_bytes.saturating_add(MAX_INDEX_BYTES);
        let bundle = Self::parse(&read_capped(&path, cap)?)?;
        limits.check(bundle.index.files.len(), bundle.index.bytes())?;
        Ok(bundle)
    }

    /// As it crosses, before it is sealed; other bytes each time.
    ///
    /// # Errors
    /// `Io` where there is no randomness.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let header = Header {
            format: 1,
            salt: Digest::from_bytes(random_bytes(&system_random())?),
            index: self.index.clone(),
        };
        let mut bytes = written(&header)?;
        bytes.push(b'\n');
        bytes.extend_from_slice(&self.contents);
        Ok(bytes)
    }

    /// As a generation's items.
    ///
    /// # Errors
    /// `Invalid`, where there is no usable recipient; `Io` where there is no randomness.
    pub fn items(&self, recipients: &[Recipient]) -> Result<Vec<Item>> {
        let path = RelPath::new(FILE)?;
        Ok(vec![Item::sealed(
            path,
            0o600,
            &self.to_bytes()?,
            recipients,
        )?])
    }

    /// Its index.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// Each file with its content.
    pub fn files(&self) -> impl Iterator<Item = (&FileEntry, &[u8])> {
        let mut rest = self.contents.as_slice();
        self.index.files.iter().map(move |file| {
            let size = usize::try_from(file.size).unwrap_or(usize::MAX);
            let (content, after) = rest.split_at_checked(size).unwrap_or((rest, &[]));
            rest = after;
            (file, content)
        })
    }
}

/// What one index has otherwise than another.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct IndexDiff {
    /// Only in the later one.
    pub added: Vec<HostPath>,
    /// Only in the earlier one.
    pub gone: Vec<HostPath>,
    /// In both, with another content.
    pub content: Vec<HostPath>,
    /// In both, with another mode or owner and the same content.
    pub attributes: Vec<HostPath>,
}

impl IndexDiff {
    /// From the earlier to the later one.
    pub fn between(before: &Index, after: &Index) -> Self {
        let mut diff = Self::default();
        let find = |index: &Index, path: &HostPath| {
            let at = index.files.binary_search_by(|file| file.path.cmp(path));
            at.ok().and_then(|at| index.files.get(at)).cloned()
        };
        for file in &after.files {
            let path = file.path.clone();
            match find(before, &file.path) {
                None => diff.added.push(path),
                Some(old) if old.blake3 != file.blake3 => diff.content.push(path),
                Some(old) if old != *file => diff.attributes.push(path),
                Some(_) => {}
            }
        }
        let gone = before.files.iter().map(|file| &file.path);
        diff.gone = gone
            .filter(|path| find(after, path).is_none())
            .cloned()
            .collect();
        diff
    }

    /// Whether both have the same files.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for IndexDiff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (word, paths) in [
            ("new", &self.added),
            ("gone", &self.gone),
            ("content", &self.content),
            ("attributes", &self.attributes),
        ] {
            for path in paths {
                writeln!(f, "{word:<10} {path}")?;
            }
        }
        Ok(())
    }
}
