//! An inventory that grows: what was added is read, hashed and sent, not what was there.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use pefo_core::digest::Hasher;
use pefo_core::{Digest, Error, Result};

use crate::snapshot::files;

/// So many bytes before the known end are compared where a file grew in place.
const OVERLAP_BYTES: usize = 4096;

/// The known inventory, as much of it as is needed to see whether another one begins with it.
#[derive(Debug, Clone)]
pub(super) struct Tail {
    /// Device and inode.
    inode: (u64, u64),
    /// Of all of it.
    hasher: Hasher,
    /// Its last bytes.
    overlap: Vec<u8>,
}

/// What an inventory has more than the known one: whole lines.
#[derive(Debug)]
pub(super) struct Grown {
    /// Where they begin.
    pub(super) at: u64,
    /// Of the known inventory, which stands before them.
    pub(super) prefix: Digest,
    pub(super) bytes: Vec<u8>,
    /// Of the file up to their end.
    pub(super) digest: Digest,
    /// Whether a line without an end follows.
    pub(super) is_torn: bool,
    /// Whether what was there before was read again too.
    pub(super) is_read_whole: bool,
    hasher: Hasher,
}

impl Tail {
    pub(super) fn of(inode: (u64, u64), bytes: &[u8]) -> Self {
        let mut hasher = Hasher::default();
        hasher.update(bytes);
        Self {
            inode,
            hasher,
            overlap: last(bytes).to_vec(),
        }
    }

    pub(super) fn grow(&mut self, inode: (u64, u64), grown: &Grown) {
        self.inode = inode;
        self.hasher = grown.hasher.clone();
        self.overlap.extend_from_slice(&grown.bytes);
        self.overlap = last(&self.overlap).to_vec();
    }

    /// What the file at `path` has more; `None` where it does not begin with the known one. A file that grew
    /// in place is believed to begin as it did where its last known bytes are the same, unless all of it is
    /// to be `compared`.
    pub(super) fn grown(&self, path: &Path, compared: bool) -> Result<Option<Grown>> {
        let failed = |error| Error::io("read", path, error);
        let mut file = match std::fs::File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io("open", path, error)),
        };
        let meta = file.metadata().map_err(failed)?;
        if meta.len() < self.hasher.len() || meta.len() > files::MAX_FILE_BYTES {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        let grew_in_place =
            (meta.dev(), meta.ino()) == self.inode && meta.len() > self.hasher.len();
        let is_read_whole = compared || !grew_in_place;
        if !is_read_whole {
            let from = self.hasher.len() - self.overlap.len() as u64;
            file.seek(SeekFrom::Start(from)).map_err(failed)?;
            let limit = files::MAX_FILE_BYTES - from;
            file.take(limit).read_to_end(&mut bytes).map_err(failed)?;
            if !bytes.starts_with(&self.overlap) {
                return Ok(None);
            }
            bytes.drain(..self.overlap.len());
        } else {
            // Servers from 8.1 on make another file for each row.
            let known = usize::try_from(self.hasher.len()).unwrap_or(usize::MAX);
            let limit = files::MAX_FILE_BYTES;
            file.take(limit).read_to_end(&mut bytes).map_err(failed)?;
            let begins = bytes.get(..known).map(Digest::of);
            if begins != Some(self.hasher.digest()) {
                return Ok(None);
            }
            bytes.drain(..known);
        }
        let whole = bytes.iter().rposition(|byte| *byte == b'\n');
        let whole = whole.map_or(0, |last| last + 1);
        let is_torn = whole < bytes.len();
        bytes.truncate(whole);
        let mut hasher = self.hasher.clone();
        hasher.update(&bytes);
        Ok(Some(Grown {
            at: self.hasher.len(),
            prefix: self.hasher.digest(),
            bytes,
            digest: hasher.digest(),
            is_torn,
            is_read_whole,
            hasher,
        }))
    }
}

fn last(bytes: &[u8]) -> &[u8] {
    let from = bytes.len().saturating_sub(OVERLAP_BYTES);
    bytes.get(from..).unwrap_or_default()
}
