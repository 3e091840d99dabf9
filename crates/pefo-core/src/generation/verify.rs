//! The only way from the spool to something that may be applied.
//!
//! The spool belongs to the transfer account and may change under the reader's hands. So root copies
//! a generation into a store of its own *while hashing it*, checks signature, reign, order and digests
//! of what it copied, opens what is sealed, and only then renames the copy into place. A [`Verified`]
//! is that copy; nothing in the spool matters afterwards. No other code can make one.

mod batches;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::batch::split_payload;
use super::manifest::{Content, FileEntry, Manifest, Step};
use super::names::{DataSet, Position, Site};
use super::outgoing::Hashing;
use super::spool::{self, Form};
use crate::digest::{Digest, Hasher, StateHash};
use crate::disk::{Attributes, Beneath, Disk, read_capped};
use crate::error::{Error, ErrorKind, Result};
use crate::keys::PublicKey;
use crate::path::RelPath;
use crate::record;
use crate::reign::Reign;
use crate::sealing::UnsealingKey;

/// The passive's ledger of one data set: what was last accepted from the source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accepted {
    /// Version of this record's schema: 1.
    pub format: u32,
    /// The last generation accepted.
    pub position: Position,
    /// The source's state after it.
    pub state: Digest,
    /// The last generation that was applied whole.
    pub applied: Option<Position>,
}

impl Accepted {
    /// Reads the ledger; `None` where nothing was ever accepted.
    ///
    /// # Errors
    /// `Io`, or `Invalid` where it is malformed.
    pub fn load(path: &Path) -> Result<Option<Self>> {
        record::load(path)
    }

    /// Stores the ledger.
    ///
    /// # Errors
    /// `Io`.
    pub fn store(&self, disk: &Disk, path: &Path) -> Result<()> {
        record::store(disk, path, self, 0o600)
    }
}

/// What a generation is checked against.
#[derive(Debug, Clone, Copy)]
pub struct Gate<'a> {
    /// The pair.
    pub site: &'a Site,
    /// The data set.
    pub dataset: &'a DataSet,
    /// The keys of the paired peers.
    pub keys: &'a [PublicKey],
    /// The reign this host knows.
    pub reign: &'a Reign,
    /// What was accepted last.
    pub accepted: Option<&'a Accepted>,
    /// Opens what is sealed.
    pub unsealing: &'a UnsealingKey,
}

/// A generation in root's own store whose signature, reign, order and digests were checked.
#[derive(Debug)]
pub struct Verified {
    manifest: Manifest,
    held: Held,
}

#[derive(Debug)]
enum Held {
    Files(PathBuf),
    Batch {
        /// The bytes of all steps, opened.
        payload: Vec<u8>,
        /// The batch's file, as it was signed and sent.
        file: Vec<u8>,
    },
}

impl Verified {
    /// What it says.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Where it stands in its data set's order.
    pub fn position(&self) -> Position {
        self.manifest.position()
    }

    /// A full generation's files, plain, in root's own store: of the source's shape, mode 0600 each
    /// (the source's modes are in the manifest).
    ///
    /// # Errors
    /// `Invalid` for a batch.
    pub fn files(&self) -> Result<&Path> {
        match &self.held {
            Held::Files(dir) => Ok(dir),
            Held::Batch { .. } => Err(Error::invalid("a batch has steps, not files")),
        }
    }

    /// A batch's steps with their bytes.
    ///
    /// # Errors
    /// `Invalid` for a full generation.
    pub fn steps(&self) -> Result<Vec<(&Step, &[u8])>> {
        match (&self.manifest.content, &self.held) {
            (Content::Batch { steps, .. }, Held::Batch { payload, .. }) => {
                split_payload(steps, payload)
            }
            _ => Err(Error::invalid("a full generation has files, not steps")),
        }
    }

    /// What is recorded once it is accepted.
    pub fn accepted(&self, applied: Option<Position>) -> Accepted {
        Accepted {
            format: 1,
            position: self.position(),
            state: self.manifest.state(),
            applied,
        }
    }
}

pub use batches::{stored_batch, stored_batches};

/// Names a generation in root's store.
pub fn stored_dir(store: &Path, position: Position) -> PathBuf {
    store.join(position.to_string())
}

/// The full generations in root's store, oldest first.
///
/// # Errors
/// `Io`.
pub fn stored(store: &Path) -> Result<Vec<Position>> {
    stored_as(store, Form::Full)
}

fn stored_as(store: &Path, wanted: Form) -> Result<Vec<Position>> {
    match Beneath::open(store) {
        Err(error) if error.io_kind() == Some(std::io::ErrorKind::NotFound) => Ok(Vec::new()),
        Err(error) => Err(error),
        Ok(dir) => Ok(spool::list(&dir)?
            .into_iter()
            .filter(|(_, form)| *form == wanted)
            .map(|(position, _)| position)
            .collect()),
    }
}

impl Gate<'_> {
    /// Takes the generation at `position` out of the spool: copies it into `store`, checks the copy,
    /// opens what is sealed. What fails leaves nothing behind.
    ///
    /// # Errors
    /// `Refused` with the rule that said no: `signature`, `signer-unknown`, `generation-old`,
    /// `batch-gap`, `digest`, `state-digest`, `unseal`, `split-reign`, `reign-unknown`,
    /// `spool-symlink`; `Fenced` for an ended reign; `Invalid` or `Io` otherwise.
    pub fn take(
        &self,
        spool_dir: &Beneath,
        position: Position,
        form: Form,
        store: &Path,
        disk: &Disk,
    ) -> Result<Verified> {
        match form {
            Form::Full => self.take_full(spool_dir, position, store, disk),
            Form::Batch => self.take_batch(spool_dir, position),
        }
    }

    /// Opens a full generation that already stands in root's store, checking it all again: signature,
    /// reign, and the state's digest over the plain files. Order is not checked: an operator may go
    /// back to an older one.
    ///
    /// # Errors
    /// As [`Gate::take`].
    pub fn reopen(&self, store: &Path, position: Position) -> Result<Verified> {
        let dir = stored_dir(store, position);
        let document = read_capped(&dir.join(spool::MANIFEST), Manifest::MAX_BYTES)?;
        let manifest = Manifest::check(&document, self.site, self.dataset, self.keys)?;
        named(&manifest, position)?;
        let data = dir.join(spool::DATA);
        let mut state = StateHash::default();
        for file in &manifest.files {
            let path = file.path.in_dir(&data);
            let open = File::open(&path).map_err(|error| Error::io("open", &path, error))?;
            let (digest, _) =
                Digest::of_reader(open).map_err(|error| Error::io("read", &path, error))?;
            state.add(&file.path, file.mode, &digest);
        }
        same_state(&manifest, state.digest())?;
        Ok(Verified {
            manifest,
            held: Held::Files(data),
        })
    }

    fn admit(&self, document: &[u8], position: Position) -> Result<Manifest> {
        let manifest = Manifest::check(document, self.site, self.dataset, self.keys)?;
        named(&manifest, position)?;
        self.reign.admit(manifest.epoch, &manifest.holder)?;
        if let Some(accepted) = self.accepted
            && position <= accepted.position
        {
            let message = format!(
                "generation {position} is not newer than {}, which was accepted",
                accepted.position
            );
            return Err(Error::refused("generation-old", message).hint(
                "if the source was restored from a backup, see 'source_rolled_back' in the manual",
            ));
        }
        match (&manifest.content, self.accepted) {
            (Content::Full { .. }, _) => {}
            (Content::Batch { from, .. }, Some(accepted)) if *from == accepted.state => {}
            (Content::Batch { from, .. }, _) => {
                let message = format!(
                    "batch {position} starts from state {}, which is not the last accepted one",
                    from.short()
                );
                return Err(Error::refused("batch-gap", message)
                    .hint("the source sends a full generation next; nothing to do"));
            }
        }
        Ok(manifest)
    }

    fn take_full(
        &self,
        spool_dir: &Beneath,
        position: Position,
        store: &Path,
        disk: &Disk,
    ) -> Result<Verified> {
        let source = spool_dir.dir(&RelPath::new(position.to_string())?)?;
        let document = source.read(&RelPath::new(spool::MANIFEST)?, Manifest::MAX_BYTES)?;
        let manifest = self.admit(&document, position)?;
        if !matches!(manifest.content, Content::Full { .. }) {
            return Err(Error::invalid(format!(
                "generation {position} holds a batch"
            )));
        }
        disk.create_dir_all_unsynced(store, &Attributes::mode(0o700))?;
        disk.remove_temps(store)?;
        let part = store.join(format!(".pefo-{position}.tmp"));
        let copied = self.copy_files(&source, &document, &manifest, &part, disk);
        let target = stored_dir(store, position);
        let shown = copied.and_then(|()| {
            // One syncfs makes thousands of files and directories durable before the rename that shows
            // them, and the store itself.
            disk.sync_filesystem(&part)?;
            disk.remove_tree(&target)?;
            disk.rename(&part, &target)
        });
        if let Err(error) = shown {
            drop(disk.remove_tree(&part));
            return Err(error);
        }
        Ok(Verified {
            manifest,
            held: Held::Files(target.join(spool::DATA)),
        })
    }

    fn copy_files(
        &self,
        source: &Beneath,
        document: &[u8],
        manifest: &Manifest,
        part: &Path,
        disk: &Disk,
    ) -> Result<()> {
        let private = Attributes::mode(0o700);
        disk.create_dir_unsynced(part, &private)?;
        let mut copy = disk.create(&part.join(spool::MANIFEST), &Attributes::mode(0o600))?;
        copy.write(document)?;
        copy.finish()?;
        let data = part.join(spool::DATA);
        disk.create_dir_unsynced(&data, &private)?;
        // A generation without files has no data directory to open.
        if manifest.files.is_empty() {
            return same_state(manifest, StateHash::default().digest());
        }
        let from = source.dir(&RelPath::new(spool::DATA)?)?;
        let mut state = StateHash::default();
        for file in &manifest.files {
            let target = file.path.in_dir(&data);
            if let Some(parent) = file.path.parent() {
                disk.create_dir_all_unsynced(&parent.in_dir(&data), &private)?;
            }
            let plain = self.copy_file(&from, file, &target, disk)?;
            state.add(&file.path, file.mode, &plain);
        }
        same_state(manifest, state.digest())
    }

    /// Copies one file while hashing it, and gives the digest of the plain content.
    fn copy_file(
        &self,
        from: &Beneath,
        file: &FileEntry,
        target: &Path,
        disk: &Disk,
    ) -> Result<Digest> {
        let source = from.file(&file.path)?;
        let attributes = Attributes::mode(0o600);
        if !file.sealed {
            return copy_checked(source, file, target, disk, &attributes);
        }
        let mut plain = disk.create(target, &attributes)?;
        let mut writer = PlainWriter {
            file: &mut plain,
            hasher: Hasher::default(),
            failed: None,
        };
        // The very bytes that are opened are hashed, and those that are left where they cannot be opened.
        let mut spooled = Hashing {
            inner: source.take(file.size.saturating_add(1)),
            hasher: Hasher::default(),
        };
        let opened = match file.unpacked_size {
            Some(size) => self
                .unsealing
                .unseal_packed(&mut spooled, &mut writer, size),
            None => self
                .unsealing
                .unseal_stream(&mut spooled, &mut writer, file.size),
        };
        if let Some(error) = writer.failed {
            return Err(error);
        }
        std::io::copy(&mut spooled, &mut std::io::sink())
            .map_err(|error| Error::io("read", target, error).context(&file.path))?;
        same_bytes(&spooled.hasher, file)?;
        let opened = opened.map_err(|error| error.context(&file.path))?;
        if let Some(size) = file.unpacked_size.filter(|size| *size != opened) {
            let message = format!("{}: unpacks to {opened} bytes, not {size}", file.path);
            return Err(Error::invalid(message));
        }
        let digest = writer.hasher.digest();
        plain.finish()?;
        Ok(digest)
    }
}

struct PlainWriter<'a> {
    file: &'a mut crate::disk::NewFile,
    hasher: Hasher,
    /// Why it could not be written: told before what became of reading.
    failed: Option<Error>,
}

impl std::io::Write for PlainWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if let Err(error) = self.file.write(bytes) {
            self.failed = Some(error);
            return Err(std::io::ErrorKind::Other.into());
        }
        self.hasher.update(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn copy_checked(
    source: File,
    file: &FileEntry,
    target: &Path,
    disk: &Disk,
    attributes: &Attributes,
) -> Result<Digest> {
    let mut copy = disk.create(target, attributes)?;
    let mut hasher = Hasher::default();
    let mut reader = source.take(file.size.saturating_add(1));
    let mut buffer = vec![0; 128 * 1024];
    loop {
        let count = match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Error::io("read", target, error).context(&file.path)),
        };
        let bytes = buffer.get(..count).unwrap_or_default();
        hasher.update(bytes);
        copy.write(bytes)?;
    }
    copy.finish()?;
    same_bytes(&hasher, file)?;
    Ok(hasher.digest())
}

fn same_bytes(hasher: &Hasher, file: &FileEntry) -> Result<()> {
    if hasher.len() != file.size || hasher.digest() != file.blake3 {
        let message = format!("{} in the spool is not the file that was signed", file.path);
        return Err(Error::refused("digest", message)
            .hint("the generation is damaged; push again: pefo push"));
    }
    Ok(())
}

fn named(manifest: &Manifest, position: Position) -> Result<()> {
    if manifest.position() == position {
        return Ok(());
    }
    let message = format!(
        "generation {} lies under the name {position}",
        manifest.position()
    );
    Err(Error::refused("generation-name", message))
}

fn same_state(manifest: &Manifest, state: Digest) -> Result<()> {
    if manifest.state() == state {
        return Ok(());
    }
    Err(Error::refused(
        "state-digest",
        format!(
            "the files of generation {} are not the state it names",
            manifest.position()
        ),
    ))
}

/// Whether a generation that could not be taken is worth sending again, whole: it does not fit what was
/// accepted, or the spool's owner has changed, replaced or removed a part of it.
pub fn needs_reconcile(error: &Error) -> bool {
    match error.kind() {
        ErrorKind::Invalid => true,
        ErrorKind::Io => error.io_kind() == Some(std::io::ErrorKind::NotFound),
        ErrorKind::Refused => matches!(
            error.rule(),
            Some(
                "batch-gap"
                    | "batch-step"
                    | "digest"
                    | "state-digest"
                    | "signature"
                    | "signer-unknown"
                    | "document-kind"
                    | "manifest-record"
                    | "generation-name"
                    | "spool-symlink"
            )
        ),
        _ => false,
    }
}

#[cfg(test)]
#[path = "verify_tests.rs"]
mod tests;
