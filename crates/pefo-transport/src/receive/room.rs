//! One data set's directory in the spool, held by one session.
//!
//! The lock is a flock on `.pefo-lock` in it, so that two sessions never write one data set; it dies
//! with its holder. What is being received stands under a temp name that no reader looks at, and is
//! removed when the session fails, or by the next one when it was killed.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use pefo_core::ack::Ack;
use pefo_core::digest::{Digest, Hasher};
use pefo_core::disk::{Attributes, Beneath, Disk, NewFile, read_capped};
use pefo_core::generation::spool::{self, Form};
use pefo_core::generation::{DataSet, FileEntry, Manifest, Position};
use pefo_core::lock::Lock;
use pefo_core::{Error, ErrorKind, RelPath, Result};

use super::ReceiverOptions;
use crate::message::Wanted;

const PRIVATE_DIR: Attributes = Attributes::mode(0o700);
const PRIVATE_FILE: Attributes = Attributes::mode(0o600);

pub(super) struct Room<'a> {
    options: &'a ReceiverOptions,
    disk: &'a Disk,
    dataset: DataSet,
    dir: PathBuf,
    _lock: Lock,
}

/// How an offered position stands to the spool.
pub(super) enum Offered {
    New,
    Already,
}

impl<'a> Room<'a> {
    /// Makes the directory where it is missing, takes its lock, and clears what a killed session left.
    pub(super) fn open(
        options: &'a ReceiverOptions,
        disk: &'a Disk,
        dataset: &DataSet,
    ) -> Result<Self> {
        if !options.spool.is_dir() {
            return Err(Error::new(
                ErrorKind::Config,
                format!("there is no spool at {}", options.spool.display()),
            )
            .hint("make it for the transfer account: pefo init passive"));
        }
        let dir = spool::dataset_dir(&options.spool, dataset);
        disk.create_dir_all(&dir, &PRIVATE_DIR)?;
        let lock = Lock::take(&dir.join(".pefo-lock")).map_err(|error| {
            if error.kind() == ErrorKind::Locked {
                Error::new(
                    ErrorKind::Locked,
                    format!(
                        "another session is sending {dataset} to {}",
                        options.certname
                    ),
                )
                .hint("it ends by itself, also when its line is dead; try again later")
            } else {
                error
            }
        })?;
        disk.remove_temps(&dir)?;
        Ok(Self {
            options,
            disk,
            dataset: dataset.clone(),
            dir,
            _lock: lock,
        })
    }

    fn standing(&self) -> Result<Vec<(Position, Form)>> {
        spool::list(&Beneath::open(&self.dir)?)
    }

    fn path_of(&self, position: Position, form: Form) -> PathBuf {
        match form {
            Form::Full => self.dir.join(position.to_string()),
            Form::Batch => self.dir.join(format!("{position}{}", spool::BATCH_SUFFIX)),
        }
    }

    /// The signed manifest of what stands at `position`.
    fn document(&self, position: Position, form: Form) -> Result<Vec<u8>> {
        let dir = Beneath::open(&self.dir)?;
        match form {
            Form::Full => dir.read(
                &RelPath::new(format!("{position}/{}", spool::MANIFEST))?,
                Manifest::MAX_BYTES,
            ),
            Form::Batch => {
                let name = RelPath::new(format!("{position}{}", spool::BATCH_SUFFIX))?;
                let limit = 8 + Manifest::MAX_BYTES + Manifest::MAX_PAYLOAD_BYTES;
                let file = dir.read(&name, limit)?;
                spool::split_batch(&file).map(|(document, _)| document.to_vec())
            }
        }
    }

    /// The ack of this data set, if there is a credible one.
    pub(super) fn ack(&self) -> Option<Ack> {
        let path = ack_path(&self.options.acks, &self.dataset);
        let bytes = match read_capped(&path, Ack::MAX_BYTES) {
            Ok(bytes) => bytes,
            Err(error) if error.io_kind() == Some(std::io::ErrorKind::NotFound) => return None,
            Err(error) => {
                tracing::warn!(%error, dataset = %self.dataset, "the ack cannot be read");
                return None;
            }
        };
        let ack = Ack::check(
            &bytes,
            &self.options.site,
            &self.dataset,
            &self.options.keys,
        );
        ack.inspect_err(
            |error| tracing::warn!(%error, dataset = %self.dataset, "the ack is not believed"),
        )
        .ok()
    }

    /// Whether a generation may come at `position`.
    pub(super) fn offered(
        &self,
        position: Position,
        document: &[u8],
        ack: Option<&Ack>,
    ) -> Result<Offered> {
        let standing = self.standing()?;
        if let Some((_, form)) = standing.iter().find(|(at, _)| *at == position) {
            if self.document(position, *form)? == document {
                // The session that showed it may have been killed before its name was durable.
                self.disk.sync_dir(&self.dir)?;
                return Ok(Offered::Already);
            }
            return Err(Error::refused(
                "generation-conflict",
                format!(
                    "another {} {position} stands in the spool of {}",
                    self.dataset, self.options.certname
                ),
            )
            .hint("the source numbers generations anew, as a master restored from a backup does: see 'source_rolled_back' in the manual"));
        }
        let newest = standing.last().map(|(at, _)| *at);
        let newest = newest.max(ack.and_then(|ack| ack.accepted));
        match newest {
            Some(newest) if position <= newest => Err(self.old(position, newest)),
            _ => Ok(Offered::New),
        }
    }

    fn old(&self, position: Position, newest: Position) -> Error {
        Error::refused(
            "generation-old",
            format!(
                "{} {position} is not newer than {newest}, which {} has",
                self.dataset, self.options.certname
            ),
        )
        .hint("if this master was restored from a backup, see 'source_rolled_back' in the manual")
    }

    /// Begins a full generation: its temp directory, the manifest in it, and links to what the newest
    /// one here has already. Gives the temp directory and what is missing.
    pub(super) fn begin_full(
        &self,
        manifest: &Manifest,
        document: &[u8],
        reuse: bool,
    ) -> Result<Wanted> {
        let temp = self.temp_dir(manifest.position());
        self.disk.create_dir_unsynced(&temp, &PRIVATE_DIR)?;
        let mut file = self
            .disk
            .create(&temp.join(spool::MANIFEST), &PRIVATE_FILE)?;
        file.write(document)?;
        file.finish()?;
        self.disk
            .create_dir_unsynced(&temp.join(spool::DATA), &PRIVATE_DIR)?;
        let known = if reuse { self.known() } else { HashMap::new() };
        let mut wanted = Wanted::none(u32::try_from(manifest.files.len()).unwrap_or(u32::MAX));
        for (index, entry) in (0_u32..).zip(&manifest.files) {
            let linked = match known.get(&(entry.blake3, entry.size)) {
                Some(existing) => self.link(existing, &temp, entry)?,
                None => false,
            };
            if !linked {
                wanted.want(index);
            }
        }
        Ok(wanted)
    }

    /// The files of the newest full generation here, by content.
    fn known(&self) -> HashMap<(Digest, u64), PathBuf> {
        let newest = self.standing().ok().and_then(|standing| {
            let full = |(_, form): &&(Position, Form)| *form == Form::Full;
            standing.iter().rev().find(full).copied()
        });
        let Some((position, form)) = newest else {
            return HashMap::new();
        };
        let manifest = self.document(position, form).and_then(|document| {
            let ReceiverOptions { site, keys, .. } = self.options;
            Manifest::check(&document, site, &self.dataset, keys)
        });
        let data = self.path_of(position, form).join(spool::DATA);
        match manifest {
            Ok(manifest) => manifest
                .files
                .into_iter()
                .map(|entry| ((entry.blake3, entry.size), entry.path.in_dir(&data)))
                .collect(),
            Err(error) => {
                tracing::warn!(%error, %position, "the newest generation here cannot be reused");
                HashMap::new()
            }
        }
    }

    /// Links a file that is here already; false where it turned out not to be.
    fn link(&self, existing: &Path, temp: &Path, entry: &FileEntry) -> Result<bool> {
        let whole = std::fs::symlink_metadata(existing)
            .is_ok_and(|meta| meta.is_file() && meta.len() == entry.size);
        if !whole {
            return Ok(false);
        }
        let target = self.place(temp, entry)?;
        match self.disk.hard_link(existing, &target) {
            Ok(()) => Ok(true),
            // Too many names, or just gone: it is asked for like any other.
            Err(error) if !pefo_core::disk::is_disk_refusal(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn place(&self, temp: &Path, entry: &FileEntry) -> Result<PathBuf> {
        let data = temp.join(spool::DATA);
        if let Some(parent) = entry.path.parent() {
            self.disk
                .create_dir_all_unsynced(&parent.in_dir(&data), &PRIVATE_DIR)?;
        }
        Ok(entry.path.in_dir(&data))
    }

    /// A file of a full generation, to be filled.
    pub(super) fn file(&self, position: Position, entry: &FileEntry) -> Result<Incoming> {
        let target = self.place(&self.temp_dir(position), entry)?;
        Ok(Incoming {
            file: self.disk.create(&target, &PRIVATE_FILE)?,
            hasher: Hasher::default(),
        })
    }

    /// A batch's file, its manifest written, to be filled with the payload.
    pub(super) fn batch(&self, position: Position, document: &[u8]) -> Result<Incoming> {
        let mut file = self
            .disk
            .create(&self.temp_batch(position), &PRIVATE_FILE)?;
        file.write(&spool::join_batch(document, &[]))?;
        Ok(Incoming {
            file,
            hasher: Hasher::default(),
        })
    }

    /// Makes a full generation durable under its temp name.
    pub(super) fn settle_full(&self, position: Position) -> Result<()> {
        // One syncfs makes thousands of files durable before the rename that shows them.
        self.disk.sync_filesystem(&self.temp_dir(position))
    }

    /// Shows what was settled, durably.
    pub(super) fn show(&self, position: Position, form: Form) -> Result<()> {
        let temp = match form {
            Form::Full => self.temp_dir(position),
            Form::Batch => self.temp_batch(position),
        };
        self.disk.rename(&temp, &self.path_of(position, form))
    }

    /// Removes what was begun and will not be shown.
    pub(super) fn abandon(&self, position: Position) {
        // Best effort: the next session clears what stays.
        drop(self.disk.remove_tree(&self.temp_dir(position)));
        drop(self.disk.remove_file(&self.temp_batch(position)));
    }

    /// Removes old generations: all but the newest `keep` and the newest full one (the next full one
    /// links to it), and only what root says it has applied.
    pub(super) fn retire(&self, ack: Option<&Ack>) -> Result<()> {
        let Some(applied) = ack.and_then(|ack| ack.applied) else {
            return Ok(());
        };
        let standing = self.standing()?;
        let newest_full = standing
            .iter()
            .rev()
            .find(|(_, form)| *form == Form::Full)
            .map(|(position, _)| *position);
        let old = standing
            .len()
            .saturating_sub(self.options.limits.keep.max(1));
        for (position, form) in standing.into_iter().take(old) {
            if position > applied || Some(position) == newest_full {
                continue;
            }
            let path = self.path_of(position, form);
            if form == Form::Full {
                // Under a temp name first: a reader never meets half a generation.
                let leaving = self.temp_dir(position);
                self.disk.rename(&path, &leaving)?;
                self.disk.remove_tree(&leaving)?;
            } else {
                self.disk.remove_file(&path)?;
            }
        }
        Ok(())
    }

    fn temp_dir(&self, position: Position) -> PathBuf {
        self.dir.join(format!(".pefo-{position}.tmp"))
    }

    fn temp_batch(&self, position: Position) -> PathBuf {
        self.dir.join(format!(".pefo-{position}-batch.tmp"))
    }
}

/// Where root publishes the ack of a data set.
pub(super) fn ack_path(acks: &Path, dataset: &DataSet) -> PathBuf {
    acks.join(format!("{}.ack", dataset.dir_name()))
}

/// A file being received: counted and hashed while it is written.
pub(super) struct Incoming {
    file: NewFile,
    hasher: Hasher,
}

impl Incoming {
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write(bytes)?;
        self.hasher.update(bytes);
        Ok(())
    }

    /// Ends it, if it is what was signed; durable by itself or by a later sync of the file system.
    pub(super) fn finish(
        self,
        what: &str,
        size: u64,
        digest: &Digest,
        durable: bool,
    ) -> Result<()> {
        if self.hasher.len() != size || self.hasher.digest() != *digest {
            return Err(
                Error::refused("digest", format!("{what} is not what was signed")).hint(
                    "it changed while it was sent, or the source's disk is failing; push again",
                ),
            );
        }
        if durable {
            self.file.finish_durable()
        } else {
            self.file.finish()
        }
    }
}
