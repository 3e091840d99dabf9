//! One data set's directory in the spool, held by one session.
//!
//! The lock is a flock on `.pefo-lock` in it, so that two sessions never write one data set; it dies
//! with its holder. Everything is written relative to the directory's handle: no symlink that is
//! planted in it leads a write outside. What is being received stands under a name that no reader looks
//! at ([`super::partial`], or a temp name), until it is whole.

use std::path::{Path, PathBuf};

use pefo_core::ack::Ack;
use pefo_core::clock::Clock;
use pefo_core::digest::{Digest, Hasher};
use pefo_core::disk::{Disk, Rooted, is_temp_name, read_capped};
use pefo_core::generation::spool::{self, Form};
use pefo_core::generation::{DataSet, Manifest, Position};
use pefo_core::lock::Lock;
use pefo_core::{Error, ErrorKind, RelPath, Result};

use super::ReceiverOptions;
use super::claim::{self, Claimant};
use super::intake::{Intake, Terms};
use super::newest::Newest;
use super::partial::{self, PRIVATE_DIR, PRIVATE_FILE, Partial, Source, rel};
use super::payload::{Incoming, Payload};
use crate::message::Shape;

pub(super) struct Room<'a> {
    options: &'a ReceiverOptions,
    dataset: DataSet,
    root: Rooted,
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
        disk: &Disk,
        clock: &dyn Clock,
        dataset: &DataSet,
        claimant: Option<&Claimant>,
    ) -> Result<Self> {
        if !options.spool.is_dir() {
            return Err(Error::new(
                ErrorKind::Config,
                format!("there is no spool at {}", options.spool.display()),
            )
            .hint("make it for the transfer account: pefo init passive"));
        }
        let root = dataset_root(&Rooted::open(disk, &options.spool)?, dataset)?;
        let busy = || {
            Error::new(
                ErrorKind::Locked,
                format!(
                    "another session is sending {dataset} to {}",
                    options.certname
                ),
            )
            .hint("it ends by itself, also when its line is dead; try again later")
        };
        let lock = claim::take(&root, claimant, clock, busy)?;
        for (name, _) in root.reading()?.entries(spool::MAX_GENERATIONS)? {
            if is_temp_name(name.as_str()) {
                root.remove_tree(&name)?;
            }
        }
        Ok(Self {
            options,
            dataset: dataset.clone(),
            root,
            _lock: lock,
        })
    }

    fn standing(&self) -> Result<Vec<(Position, Form)>> {
        spool::list(&self.root.reading()?)
    }

    /// The signed manifest of what stands at `position`.
    fn document(&self, position: Position, form: Form) -> Result<Vec<u8>> {
        let dir = self.root.reading()?;
        match form {
            Form::Full => dir.read(
                &rel(format!("{position}/{}", spool::MANIFEST))?,
                Manifest::MAX_BYTES,
            ),
            Form::Batch => {
                let limit = 8 + Manifest::MAX_BYTES + Manifest::MAX_PAYLOAD_BYTES;
                let file = dir.read(&name_of(position, form)?, limit)?;
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
                self.root.sync_dir(None)?;
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

    /// Begins a full generation, or goes on with it: takes up what is here, and says what is missing.
    pub(super) fn begin_full<'m>(
        &self,
        manifest: &'m Manifest,
        document: &[u8],
        reuse: bool,
        terms: Terms,
    ) -> Result<Intake<'m>> {
        let partial = Partial::begin(&self.root, manifest.position(), document)?;
        let others = self.others(&partial)?;
        let open = |name: &RelPath| Source::open(&self.root, name, |document| self.check(document));
        let sources = others.iter().map(open).collect::<Result<Vec<_>>>()?;
        let newest = if reuse { self.newest() } else { None };
        let intake = Intake::begin(manifest, partial, &sources, newest, terms)?;
        self.remove_all(&others)?;
        Ok(intake)
    }

    /// Begins a long batch, or goes on with it.
    pub(super) fn begin_batch(
        &self,
        position: Position,
        document: &[u8],
        payload: (u64, Digest),
    ) -> Result<Payload> {
        let partial = Partial::begin(&self.root, position, document)?;
        self.remove_all(&self.others(&partial)?)?;
        Payload::begin(partial, document, payload)
    }

    fn others(&self, partial: &Partial) -> Result<Vec<RelPath>> {
        let mut others = partial::list(&self.root)?;
        others.retain(|(_, name)| *name != partial.name);
        Ok(others.into_iter().map(|(_, name)| name).collect())
    }

    fn remove_all(&self, names: &[RelPath]) -> Result<()> {
        names
            .iter()
            .try_for_each(|name| self.root.remove_tree(name))
    }

    fn check(&self, document: &[u8]) -> Result<Manifest> {
        let ReceiverOptions { site, keys, .. } = self.options;
        Manifest::check(document, site, &self.dataset, keys)
    }

    /// The newest full generation here.
    fn newest(&self) -> Option<Newest> {
        let standing = self.standing().ok()?;
        let full = |(_, form): &&(Position, Form)| *form == Form::Full;
        let (position, form) = standing.iter().rev().find(full).copied()?;
        let opened = self.document(position, form).and_then(|document| {
            let manifest = self.check(&document)?;
            let data = self
                .root
                .dir(&rel(format!("{position}/{}", spool::DATA))?)?;
            Ok(Newest::new(data, manifest))
        });
        opened
            .inspect_err(|error| {
                tracing::warn!(%error, %position, "the newest generation here cannot be reused");
            })
            .ok()
    }

    /// A short batch's file, its manifest written, to be filled with the payload.
    pub(super) fn batch(&self, position: Position, document: &[u8]) -> Result<Incoming> {
        let mut file = self.root.create(&temp_batch(position)?, &PRIVATE_FILE)?;
        file.write(&spool::join_batch(document, &[]))?;
        Ok(Incoming::new(file, Hasher::default()))
    }

    /// Shows a full generation, durably; it stands in its partial and nothing else does.
    pub(super) fn show_full(&self, position: Position, partial: &Rooted) -> Result<()> {
        // One syncfs makes thousands of files durable before the rename that shows them.
        partial.sync_filesystem()?;
        let from = rel(spool::partial_name(position))?;
        self.root
            .rename(&from, &self.root, &name_of(position, Form::Full)?)?;
        self.root.sync_dir(None)
    }

    /// Shows a batch whose file is durable.
    pub(super) fn show_batch(&self, position: Position, long: bool) -> Result<()> {
        let from = if long {
            Payload::path(position)?
        } else {
            temp_batch(position)?
        };
        self.root
            .rename(&from, &self.root, &name_of(position, Form::Batch)?)?;
        self.root.sync_dir(None)
    }

    /// Removes what was begun at `position` and will not be shown; all but what can be taken up later,
    /// where that is to be kept.
    pub(super) fn abandon(&self, position: Position, keep: bool) {
        // Best effort: the next session clears what stays.
        if let Ok(temp) = temp_batch(position) {
            drop(self.root.remove_file(&temp));
        }
        if keep && partial::holds_anything(&self.root, position) {
            return;
        }
        if let Ok(partial) = rel(spool::partial_name(position)) {
            drop(self.root.remove_tree(&partial));
        }
    }

    /// Removes what was begun and can be missed: what `position` has overtaken, or all of it.
    pub(super) fn remove_partials(&self, position: Option<Position>) -> Result<()> {
        partial::remove(&self.root, position)
    }

    /// Removes old generations: all but the newest `keep` and the newest full one (the next full one
    /// links to it), and only what root says it has applied. Full ones go when a full one has come: the tens
    /// of thousands of files of a CA take hundreds of milliseconds, for which no event should wait.
    pub(super) fn retire(&self, ack: Option<&Ack>, came: Shape) -> Result<()> {
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
            let waits = form == Form::Full && came == Shape::Batch;
            if position > applied || Some(position) == newest_full || waits {
                continue;
            }
            let path = name_of(position, form)?;
            if form == Form::Full {
                // Under a temp name first, durably: a reader never meets half a generation.
                let leaving = rel(format!(".pefo-{position}.tmp"))?;
                self.root.rename(&path, &self.root, &leaving)?;
                self.root.sync_dir(None)?;
                self.root.remove_tree(&leaving)?;
            } else {
                self.root.remove_file(&path)?;
            }
        }
        Ok(())
    }
}

/// The directory of a data set, made where it is missing.
fn dataset_root(spool: &Rooted, dataset: &DataSet) -> Result<Rooted> {
    let generations = rel("generations")?;
    let path = rel(format!("generations/{}", dataset.dir_name()))?;
    for (path, holder) in [(&generations, None), (&path, Some(&generations))] {
        if spool.stat(path)?.is_none() {
            spool.create_dir(path, PRIVATE_DIR)?;
        }
        // Whoever made it: a batch's own fsync does not cover the directories above it.
        spool.sync_dir(holder)?;
    }
    spool.dir(&path)
}

/// A generation's name in the data set's directory.
fn name_of(position: Position, form: Form) -> Result<RelPath> {
    match form {
        Form::Full => rel(position.to_string()),
        Form::Batch => rel(format!("{position}{}", spool::BATCH_SUFFIX)),
    }
}

fn temp_batch(position: Position) -> Result<RelPath> {
    rel(format!(".pefo-{position}-batch.tmp"))
}

/// Where root publishes the ack of a data set.
pub(super) fn ack_path(acks: &Path, dataset: &DataSet) -> PathBuf {
    acks.join(format!("{}.ack", dataset.dir_name()))
}
