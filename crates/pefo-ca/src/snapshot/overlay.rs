//! What changes lay over the files of a directory, without a write to it.

use std::collections::BTreeMap;
use std::path::Path;

use pefo_core::digest::Hasher;
use pefo_core::disk::read_capped;
use pefo_core::{Digest, Error, RelPath, Result};

use super::{FileEntry, MAX_FILE_BYTES};
use crate::source::Change;

/// Files that stand in place of those of the directory; none where one is gone.
pub(super) type Overlay = BTreeMap<RelPath, Option<FileEntry>>;

/// A file in the making. Thousands of rows may have been appended since, one after the other.
struct Growing {
    bytes: Vec<u8>,
    mode: u32,
    hasher: Option<Hasher>,
}

/// What `changes`, one after the other, make of the files in `dir`.
///
/// # Errors
/// `Invalid` where rows are appended to another file than stands there; `Io`.
pub(super) fn of(dir: &Path, changes: &[Change]) -> Result<Overlay> {
    let mut files: BTreeMap<RelPath, Option<Growing>> = BTreeMap::new();
    for change in changes {
        let path = change.path();
        match change {
            Change::Put { mode, bytes, .. } => {
                let growing = Growing {
                    bytes: bytes.clone(),
                    mode: *mode,
                    hasher: None,
                };
                files.insert(path.clone(), Some(growing));
            }
            Change::Append { prefix, bytes, .. } => {
                if !files.contains_key(path) {
                    let growing = Growing {
                        bytes: read_capped(&path.in_dir(dir), MAX_FILE_BYTES)?,
                        mode: 0o640,
                        hasher: None,
                    };
                    files.insert(path.clone(), Some(growing));
                }
                let growing = files.get_mut(path).and_then(Option::as_mut);
                if !growing.is_some_and(|growing| growing.append(prefix, bytes)) {
                    return Err(Error::invalid(format!(
                        "{path} is not the file that was appended to"
                    )));
                }
            }
            Change::Delete { .. } => {
                files.insert(path.clone(), None);
            }
        }
    }
    let settle = |growing: Growing| FileEntry {
        bytes: growing.bytes.into(),
        mode: growing.mode,
    };
    let files = files.into_iter();
    Ok(files.map(|(path, file)| (path, file.map(settle))).collect())
}

impl Growing {
    /// False where it is not the file that is appended to.
    fn append(&mut self, prefix: &Digest, bytes: &[u8]) -> bool {
        let hasher = self.hasher.get_or_insert_with(|| {
            let mut hasher = Hasher::default();
            hasher.update(&self.bytes);
            hasher
        });
        let fits = hasher.digest() == *prefix;
        hasher.update(bytes);
        self.bytes.extend_from_slice(bytes);
        fits
    }
}
