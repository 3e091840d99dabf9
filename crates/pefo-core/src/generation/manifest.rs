//! A generation's manifest: the frozen schema, format 1.
//!
//! JSON, signed as a document of kind `manifest` bound to site and data set. Unknown fields are
//! errors: a newer writer says so by a newer `format`.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::names::{DataSet, Position, Site};
use crate::certname::Certname;
use crate::clock::Timestamp;
use crate::digest::Digest;
use crate::document::{self, Domain, Kind};
use crate::error::{Error, Result};
use crate::keys::{KeyId, PublicKey};
use crate::path::RelPath;
use crate::reign::Epoch;

/// What a generation is, whom it is from, and what it holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of this schema: 1.
    pub format: u32,
    /// The pair it belongs to.
    pub site: Site,
    /// The data set it is a step of.
    pub dataset: DataSet,
    /// The reign it was made in.
    pub epoch: Epoch,
    /// That reign's holder: the key that signed this.
    pub holder: KeyId,
    /// Counts the data set's generations of this reign, from 1.
    pub sequence: u64,
    /// The certname of the master it was made on.
    pub source: Certname,
    /// The pefo that made it.
    pub tool: String,
    /// Versions of the products it was read from, such as `puppetserver`, `postgresql`.
    pub products: BTreeMap<String, String>,
    /// When it was made, by the source's clock.
    pub time: Timestamp,
    /// A whole state, or a step from one to the next.
    pub content: Content,
    /// The files of a full generation, sorted by path; empty in a batch.
    pub files: Vec<FileEntry>,
    /// What it means, for people and for gates: serials and counts, groups, rows.
    pub summary: serde_json::Value,
}

/// A whole state, or a step from one to the next.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Content {
    /// The whole state.
    Full {
        /// The digest of the source's state: paths, modes and plain contents.
        state: Digest,
    },
    /// The steps from one state to the next; their bytes follow the manifest in the batch's file.
    Batch {
        /// The state it starts from.
        from: Digest,
        /// The state it ends in.
        to: Digest,
        /// Whether the bytes of all steps are sealed, as one payload.
        sealed: bool,
        /// The digest of the payload as stored.
        payload: Digest,
        /// Bytes of the payload as stored.
        payload_size: u64,
        /// The steps, in the source's order.
        steps: Vec<Step>,
    },
}

/// One file of a full generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Where it stands.
    pub path: RelPath,
    /// Bytes as stored.
    pub size: u64,
    /// Permission bits at the source.
    pub mode: u32,
    /// The digest of the bytes as stored.
    pub blake3: Digest,
    /// Whether the stored bytes are sealed to the passive's root.
    pub sealed: bool,
    /// Bytes of the content, where it was packed by zstd before it was sealed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unpacked_size: Option<u64>,
}

/// One step of a batch. Sizes are those of the step's bytes in the unsealed payload, where the bytes
/// of all steps stand one after the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Step {
    /// A file, whole.
    Put {
        /// Where it goes.
        path: RelPath,
        /// Permission bits.
        mode: u32,
        /// Bytes in the payload.
        size: u64,
        /// Their digest.
        blake3: Digest,
    },
    /// Bytes at a file's end.
    Append {
        /// Which file.
        path: RelPath,
        /// The file's length before.
        at: u64,
        /// The digest of the file before.
        prefix: Digest,
        /// Bytes in the payload.
        size: u64,
        /// The digest of the whole file after.
        blake3: Digest,
    },
    /// A delta against the file as it was.
    Delta {
        /// Which file.
        path: RelPath,
        /// Permission bits after.
        mode: u32,
        /// The digest of the file before.
        base: Digest,
        /// Bytes in the payload.
        size: u64,
        /// The digest of the whole file after.
        blake3: Digest,
    },
    /// A file is gone.
    Delete {
        /// Which file.
        path: RelPath,
        /// Why, as the data set's rules name it.
        reason: String,
    },
}

impl Step {
    /// The file it is about.
    pub fn path(&self) -> &RelPath {
        match self {
            Self::Put { path, .. }
            | Self::Append { path, .. }
            | Self::Delta { path, .. }
            | Self::Delete { path, .. } => path,
        }
    }

    /// How many bytes of the unsealed payload are its own.
    pub fn size(&self) -> u64 {
        match self {
            Self::Put { size, .. } | Self::Append { size, .. } | Self::Delta { size, .. } => *size,
            Self::Delete { .. } => 0,
        }
    }
}

impl Manifest {
    /// The largest signed manifest, in bytes.
    pub const MAX_BYTES: u64 = 64 << 20;
    /// The most files of a full generation or steps of a batch.
    pub const MAX_ENTRIES: usize = 400_000;
    /// The largest single stored file, in bytes.
    pub const MAX_FILE_BYTES: u64 = 1 << 40;
    /// The largest batch payload, in bytes: above it the source sends a full generation.
    pub const MAX_PAYLOAD_BYTES: u64 = 256 << 20;

    /// Where it stands in its data set's order.
    pub fn position(&self) -> Position {
        Position {
            epoch: self.epoch,
            sequence: self.sequence,
        }
    }

    /// The source's state after this generation.
    pub fn state(&self) -> Digest {
        match &self.content {
            Content::Full { state } => *state,
            Content::Batch { to, .. } => *to,
        }
    }

    /// All bytes that are stored beside the manifest.
    pub fn stored_bytes(&self) -> u64 {
        match &self.content {
            Content::Full { .. } => self.files.iter().map(|file| file.size).sum(),
            Content::Batch { payload_size, .. } => *payload_size,
        }
    }

    /// Checks a signed manifest: the signature by one of `keys`, then the schema.
    ///
    /// # Errors
    /// `Refused` where the signature or the signer is wrong; `Invalid` where the schema is.
    pub fn check(bytes: &[u8], site: &Site, dataset: &DataSet, keys: &[PublicKey]) -> Result<Self> {
        let unchecked = document::split(bytes)?;
        let manifest: Self = unchecked.check(
            Domain {
                kind: Kind::Manifest,
                site,
                dataset: Some(dataset),
            },
            keys,
        )?;
        if manifest.holder != *unchecked.signer()
            || manifest.site != *site
            || manifest.dataset != *dataset
        {
            return Err(Error::refused(
                "manifest-record",
                "the manifest is of another site, data set or holder",
            ));
        }
        manifest.validate()?;
        Ok(manifest)
    }

    /// Checks what the schema alone cannot say.
    ///
    /// # Errors
    /// `Invalid`, naming the field.
    pub fn validate(&self) -> Result<()> {
        let bad = |what: String| {
            Err(Error::invalid(format!(
                "manifest of {} {}: {what}",
                self.dataset,
                self.position()
            )))
        };
        if self.format != 1 {
            return bad(format!(
                "format {} is newer than this pefo reads",
                self.format
            ));
        }
        if self.sequence == 0 || self.epoch.0 == 0 {
            return bad("epoch and sequence count from 1".to_owned());
        }
        if self.files.len() > Self::MAX_ENTRIES {
            return bad(format!("more than {} files", Self::MAX_ENTRIES));
        }
        let mut directories = BTreeSet::new();
        for pair in self.files.windows(2) {
            if let [a, b] = pair
                && a.path >= b.path
            {
                return bad(format!(
                    "files are not sorted or stand twice: {}, {}",
                    a.path, b.path
                ));
            }
        }
        for file in &self.files {
            if file.size > Self::MAX_FILE_BYTES || file.mode & !0o7777 != 0 {
                return bad(format!("{}: size or mode is out of range", file.path));
            }
            if let Some(unpacked) = file.unpacked_size
                && (!file.sealed || unpacked > Self::MAX_FILE_BYTES)
            {
                return bad(format!(
                    "{}: only what is sealed is packed, within limits",
                    file.path
                ));
            }
            let mut parent = file.path.parent();
            while let Some(directory) = parent {
                parent = directory.parent();
                directories.insert(directory);
            }
        }
        if let Some(file) = self
            .files
            .iter()
            .find(|file| directories.contains(&file.path))
        {
            return bad(format!("{} is a file and a directory", file.path));
        }
        match &self.content {
            Content::Full { .. } => Ok(()),
            Content::Batch { steps, .. }
                if steps.len() > Self::MAX_ENTRIES || !self.files.is_empty() =>
            {
                bad("a batch has steps within the limit and no files".to_owned())
            }
            Content::Batch { payload_size, .. } if *payload_size > Self::MAX_PAYLOAD_BYTES => bad(
                format!("a payload of {payload_size} bytes is too large for a batch"),
            ),
            Content::Batch {
                steps,
                sealed: false,
                payload_size,
                ..
            } if steps
                .iter()
                .try_fold(0_u64, |sum, step| sum.checked_add(step.size()))
                != Some(*payload_size) =>
            {
                bad("the steps' sizes do not add up to the payload's".to_owned())
            }
            Content::Batch { .. } => Ok(()),
        }
    }
}
