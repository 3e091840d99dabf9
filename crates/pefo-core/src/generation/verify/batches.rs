//! Batches: taken out of the spool, and kept in root's store behind the full generation they go on from.
//!
//! A full generation and every batch after it say what the source's state is. Root keeps them as they were
//! signed, so that whoever asks for that state later checks it again.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::{Gate, Held, Verified, named, stored_as};
use crate::digest::Digest;
use crate::disk::{Attributes, Beneath, Disk, read_capped};
use crate::error::{Error, Result};
use crate::generation::batch::split_payload;
use crate::generation::manifest::{Content, Manifest};
use crate::generation::names::Position;
use crate::generation::spool::{self, Form};
use crate::path::RelPath;

/// The longest file of a batch.
const MAX_FILE_BYTES: u64 = Manifest::MAX_BYTES + Manifest::MAX_PAYLOAD_BYTES + 8;

/// The batches in root's store, oldest first.
///
/// # Errors
/// `Io`.
pub fn stored_batches(store: &Path) -> Result<Vec<Position>> {
    stored_as(store, Form::Batch)
}

/// Where a batch stands in root's store.
pub fn stored_batch(store: &Path, position: Position) -> PathBuf {
    store.join(format!("{position}{}", spool::BATCH_SUFFIX))
}

impl Verified {
    /// Keeps a batch in root's store; a full generation is there already.
    ///
    /// # Errors
    /// `Io`.
    pub fn keep(&self, store: &Path, disk: &Disk) -> Result<()> {
        match &self.held {
            Held::Files(_) => Ok(()),
            Held::Batch { file, .. } => {
                disk.create_dir_all(store, &Attributes::mode(0o700))?;
                disk.publish(
                    &stored_batch(store, self.position()),
                    file,
                    &Attributes::mode(0o600),
                )
            }
        }
    }
}

impl Gate<'_> {
    /// Opens a batch that stands in root's store, checking it again: signature, reign's record, digests.
    /// Whether it goes on from what the caller has is the caller's to see.
    ///
    /// # Errors
    /// As [`Gate::take`].
    pub fn reopen_batch(&self, store: &Path, position: Position) -> Result<Verified> {
        let file = read_capped(&stored_batch(store, position), MAX_FILE_BYTES)?;
        self.open_batch(file, |document| {
            let manifest = Manifest::check(document, self.site, self.dataset, self.keys)?;
            named(&manifest, position)?;
            Ok(manifest)
        })
    }

    pub(super) fn take_batch(&self, spool_dir: &Beneath, position: Position) -> Result<Verified> {
        let name = RelPath::new(format!("{position}{}", spool::BATCH_SUFFIX))?;
        // Read once: from here on the spool's owner may do with the file as he likes. And in order: of what
        // nobody signed no more than a manifest is read.
        let mut source = spool_dir.file(&name)?;
        let mut file = Vec::new();
        let mut read = |file: &mut Vec<u8>, bytes: u64| {
            let read = source.by_ref().take(bytes).read_to_end(file);
            read.map_err(|error| Error::io("read", Path::new(name.as_str()), error))
        };
        read(&mut file, 8)?;
        let length = file.as_slice().try_into().map(u64::from_le_bytes);
        let length = length.unwrap_or(0);
        if length > Manifest::MAX_BYTES {
            return Err(Error::invalid(format!(
                "the manifest of batch {position} is larger than {} bytes",
                Manifest::MAX_BYTES
            )));
        }
        read(&mut file, length)?;
        let (document, _) = spool::split_batch(&file)?;
        let manifest = self.admit(document, position)?;
        if let Content::Batch { payload_size, .. } = &manifest.content {
            // One byte more shows a file that goes on.
            read(&mut file, payload_size.saturating_add(1))?;
        }
        self.open_batch(file, |_| Ok(manifest))
    }

    fn open_batch(
        &self,
        file: Vec<u8>,
        check: impl FnOnce(&[u8]) -> Result<Manifest>,
    ) -> Result<Verified> {
        let (document, stored) = spool::split_batch(&file)?;
        let manifest = check(document)?;
        let position = manifest.position();
        let Content::Batch {
            sealed,
            payload,
            payload_size,
            steps,
            ..
        } = &manifest.content
        else {
            return Err(Error::invalid(format!(
                "the batch's file {position} holds a full generation"
            )));
        };
        if stored.len() as u64 != *payload_size || Digest::of(stored) != *payload {
            return Err(Error::refused(
                "digest",
                format!("the payload of batch {position} is not the one that was signed"),
            ));
        }
        let plain = if *sealed {
            self.unsealing.unseal(stored, Manifest::MAX_PAYLOAD_BYTES)?
        } else {
            stored.to_vec()
        };
        split_payload(steps, &plain)?;
        let held = Held::Batch {
            payload: plain,
            file,
        };
        Ok(Verified { manifest, held })
    }
}
