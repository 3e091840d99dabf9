//! What is different at a source since the last look, and how it crosses.

use std::fmt;

use pefo_core::generation::Step;
use pefo_core::{Digest, RelPath};

use crate::snapshot::Problem;

/// One file that is different.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// A file, whole.
    Put {
        /// Where, below the cadir.
        path: RelPath,
        /// Permission bits.
        mode: u32,
        /// Its content.
        bytes: Vec<u8>,
        /// The content's digest.
        blake3: Digest,
        /// The digest of what stood there.
        replaces: Option<Digest>,
    },
    /// Rows at the end of the inventory.
    Append {
        /// Where, below the cadir.
        path: RelPath,
        /// How long the file was.
        at: u64,
        /// Its digest then.
        prefix: Digest,
        /// What was added.
        bytes: Vec<u8>,
        /// The digest of all of it.
        blake3: Digest,
    },
    /// A file that is gone. Whether a standby's goes too is the plan's to say.
    Delete {
        /// Where it was, below the cadir.
        path: RelPath,
    },
}

impl Change {
    /// The file.
    pub fn path(&self) -> &RelPath {
        match self {
            Self::Put { path, .. } | Self::Append { path, .. } | Self::Delete { path } => path,
        }
    }

    /// What of it crosses.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Put { bytes, .. } | Self::Append { bytes, .. } => bytes,
            Self::Delete { .. } => &[],
        }
    }

    /// Its place in the order that keeps serial ≥ inventory ≥ signed: serial, inventory, signed, requests,
    /// the CA's own files, CRLs.
    pub(super) fn rank(&self) -> u8 {
        match self.path().as_str() {
            "serial" => 0,
            "inventory.txt" => 1,
            path if path.starts_with("signed/") => 2,
            path if path.starts_with("requests/") => 3,
            "infra_crl.pem" => 5,
            "ca_crl.pem" => 6,
            _ => 4,
        }
    }

    /// What a step of a batch says, with its bytes; `None` for a delta, which its base makes a file of first.
    pub fn of_step(step: &Step, bytes: &[u8]) -> Option<Self> {
        Some(match step {
            Step::Put {
                path, mode, blake3, ..
            } => Self::Put {
                path: path.clone(),
                mode: *mode,
                bytes: bytes.to_vec(),
                blake3: *blake3,
                replaces: None,
            },
            Step::Append {
                path,
                at,
                prefix,
                blake3,
                ..
            } => Self::Append {
                path: path.clone(),
                at: *at,
                prefix: *prefix,
                bytes: bytes.to_vec(),
                blake3: *blake3,
            },
            Step::Delta { .. } => return None,
            Step::Delete { path, .. } => Self::Delete { path: path.clone() },
        })
    }

    /// The same as a step of a batch.
    pub fn step(&self) -> Step {
        match self {
            Self::Put {
                path,
                mode,
                bytes,
                blake3,
                ..
            } => Step::Put {
                path: path.clone(),
                mode: *mode,
                size: bytes.len() as u64,
                blake3: *blake3,
            },
            Self::Append {
                path,
                at,
                prefix,
                bytes,
                blake3,
            } => Step::Append {
                path: path.clone(),
                at: *at,
                prefix: *prefix,
                size: bytes.len() as u64,
                blake3: *blake3,
            },
            Self::Delete { path } => Step::Delete {
                path: path.clone(),
                reason: "gone-at-source".to_owned(),
            },
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Put {
                path,
                bytes,
                replaces,
                ..
            } => {
                let what = if replaces.is_some() {
                    "replaced"
                } else {
                    "new"
                };
                write!(f, "{path}: {what}, {} bytes", bytes.len())
            }
            Self::Append { path, bytes, .. } => {
                let rows = bytes.iter().filter(|byte| **byte == b'\n').count();
                let s = if rows == 1 { "" } else { "s" };
                write!(f, "{path}: {rows} new row{s}")
            }
            Self::Delete { path } => write!(f, "{path}: gone"),
        }
    }
}

/// What one look came to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Observed {
    /// The state before.
    pub from: Digest,
    /// The state with the changes.
    pub to: Digest,
    /// What is different, in the order in which a standby takes it.
    pub changes: Vec<Change>,
    /// Files that moved or were torn as often as they were read: a later look takes them.
    pub unsettled: Vec<RelPath>,
    /// What is not as it should be and does not cross.
    pub problems: Vec<Problem>,
}

impl Observed {
    /// The steps of a batch.
    pub fn steps(&self) -> Vec<Step> {
        self.changes.iter().map(Change::step).collect()
    }

    /// The bytes of all steps, one after the other.
    pub fn payload(&self) -> Vec<u8> {
        let bytes = self.changes.iter().map(Change::bytes);
        bytes.collect::<Vec<_>>().concat()
    }
}
