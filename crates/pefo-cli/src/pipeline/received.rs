//! What this host has received of a source and verified: a full generation, and the batches after it.
//!
//! The full one and the batches say together what the source's state is. Root keeps both in its store as
//! they were signed, and whoever needs that state reads them from there and has them checked again.

use std::path::{Path, PathBuf};

use pefo_core::disk::{Beneath, read_capped};
use pefo_core::generation::batch::{SourceState, state_of_open_files};
use pefo_core::generation::spool::{self, Form};
use pefo_core::generation::verify::{stored, stored_batch, stored_batches, stored_dir};
use pefo_core::generation::{Accepted, Content, DataSet, Gate, Manifest, Position, Verified};
use pefo_core::{Error, ErrorKind, RelPath, Result};

use super::apply::Passive;
use crate::host::Host;

/// A full generation and the batches after it, without a gap.
#[derive(Debug)]
pub struct Received {
    full: Verified,
    batches: Vec<Verified>,
    /// Why what is newer in the spool could not be taken.
    pub stopped: Option<Error>,
}

impl Received {
    /// The full generation.
    pub fn full(&self) -> &Verified {
        &self.full
    }

    /// The batches after it, in order.
    pub fn batches(&self) -> &[Verified] {
        &self.batches
    }

    /// The newest of them all.
    pub fn newest(&self) -> &Verified {
        self.batches.last().unwrap_or(&self.full)
    }

    /// Where that stands in its data set's order.
    pub fn position(&self) -> Position {
        self.newest().position()
    }
}

/// A data set's directory in the spool; `None` where nothing was ever received.
///
/// # Errors
/// `Io`, or `Refused` where it is not what it should be.
pub fn spool_dir(host: &Host, dataset: &DataSet) -> Result<Option<Beneath>> {
    let path = RelPath::new(spool::dataset_dir(Path::new(""), dataset).to_string_lossy())?;
    // Only the spool itself is trusted to be where it is: all below it is the transfer account's.
    match Beneath::open(&host.config.site.spool_dir)?.dir(&path) {
        Err(error) if error.io_kind() == Some(std::io::ErrorKind::NotFound) => Ok(None),
        dir => dir.map(Some),
    }
}

/// The next that is to be taken out of the spool after what was accepted: the newest full generation, or
/// the batch that follows.
///
/// # Errors
/// `Io`, `Refused` where there are too many.
pub fn next(dir: &Beneath, accepted: Option<Position>) -> Result<Option<(Position, Form)>> {
    let mut newer = spool::list(dir)?;
    newer.retain(|(position, _)| accepted.is_none_or(|accepted| *position > accepted));
    let full = newer.iter().rev().find(|(_, form)| *form == Form::Full);
    Ok(full.or(newer.first()).copied())
}

impl Passive<'_> {
    /// Takes what is newest out of the spool into `store`, or opens what was accepted last again, with all
    /// batches that follow.
    ///
    /// # Errors
    /// What the gate says of a full generation; `NotFound` where nothing was ever received. What it says
    /// of a batch is in what is given.
    pub fn take(&self, dataset: &DataSet, store: &Path) -> Result<Received> {
        let accepted = Accepted::load(&self.host.record_path("accepted", dataset))?;
        let dir = spool_dir(self.host, dataset)?;
        let position = accepted.as_ref().map(|accepted| accepted.position);
        let newest = dir.as_ref().map(|dir| next(dir, position)).transpose()?;
        let mut received = match (&dir, newest.flatten(), &accepted) {
            (Some(dir), Some((position, Form::Full)), _) => Received {
                full: self.gate(dataset, accepted.as_ref()).take(
                    dir,
                    position,
                    Form::Full,
                    store,
                    &self.host.disk,
                )?,
                batches: Vec::new(),
                stopped: None,
            },
            (_, _, Some(accepted)) => self.accepted(dataset, accepted)?,
            _ => return Err(nothing_yet(dataset)),
        };
        if let Some(dir) = dir {
            self.take_batches(dataset, &dir, store, &mut received)?;
        }
        Ok(received)
    }

    /// What was accepted last, by its manifests: the files themselves are not read.
    ///
    /// # Errors
    /// As [`Passive::accepted`].
    pub fn held(&self, dataset: &DataSet, accepted: &Accepted) -> Result<Held> {
        let store = self.host.store(dataset);
        let gate = self.gate(dataset, None);
        let base = base(&store, accepted)?;
        let dir = stored_dir(&store, base);
        let document = read_capped(&dir.join(spool::MANIFEST), Manifest::MAX_BYTES)?;
        let full = Manifest::check(&document, gate.site, dataset, gate.keys)?;
        let mut state = state_of_open_files(&full);
        let mut reached = full.state();
        let mut summary = full.summary;
        let mut batches = Vec::new();
        for position in batches_between(&store, base, accepted)? {
            let batch = gate.reopen_batch(&store, position)?;
            let Content::Batch { from, to, .. } = &batch.manifest().content else {
                continue;
            };
            if *from == reached {
                reached = *to;
                for (step, _) in batch.steps()? {
                    state.take(step);
                }
                summary.clone_from(&batch.manifest().summary);
                batches.push(batch);
            }
        }
        if reached != accepted.state {
            return Err(gap(accepted));
        }
        Ok(Held {
            dir: dir.join(spool::DATA),
            batches,
            state,
            summary,
        })
    }

    /// Opens what was accepted last again: the full generation in root's store and the batches up to it.
    ///
    /// # Errors
    /// What the gate says; `Refused` (`batch-gap`) where root's copies do not lead to what was accepted.
    pub fn accepted(&self, dataset: &DataSet, accepted: &Accepted) -> Result<Received> {
        let store = self.host.store(dataset);
        let gate = self.gate(dataset, None);
        let base = base(&store, accepted)?;
        let mut received = Received {
            full: gate.reopen(&store, base)?,
            batches: Vec::new(),
            stopped: None,
        };
        for position in batches_between(&store, base, accepted)? {
            let batch = gate.reopen_batch(&store, position)?;
            if follows(batch.manifest(), received.newest().manifest()) {
                received.batches.push(batch);
            }
        }
        if received.newest().manifest().state() != accepted.state {
            return Err(gap(accepted));
        }
        Ok(received)
    }

    /// Opens a generation of those in root's store again, as it stood after it.
    ///
    /// # Errors
    /// `NotFound` where it is not there, saying which are; what the gate says.
    pub fn at(&self, dataset: &DataSet, position: Position) -> Result<Received> {
        let store = self.host.store(dataset);
        let gate = self.gate(dataset, None);
        let (fulls, batches) = (stored(&store)?, stored_batches(&store)?);
        let base = fulls.iter().rev().find(|base| **base <= position).copied();
        let is_there = fulls.contains(&position) || batches.contains(&position);
        let (Some(base), true) = (base, is_there) else {
            let all = fulls.iter().chain(&batches).map(ToString::to_string);
            let mut all: Vec<String> = all.collect();
            all.sort();
            return Err(Error::new(
                ErrorKind::NotFound,
                format!("{dataset}: generation {position} is not in this host's store"),
            )
            .hint(format!("it has {}", all.join(", "))));
        };
        let mut received = Received {
            full: gate.reopen(&store, base)?,
            batches: Vec::new(),
            stopped: None,
        };
        for at in batches
            .into_iter()
            .filter(|at| base < *at && *at <= position)
        {
            let batch = gate.reopen_batch(&store, at)?;
            if follows(batch.manifest(), received.newest().manifest()) {
                received.batches.push(batch);
            }
        }
        if received.position() == position {
            Ok(received)
        } else {
            Err(Error::refused(
                "batch-gap",
                format!("this host's copies do not lead to {position}"),
            ))
        }
    }

    fn take_batches(
        &self,
        dataset: &DataSet,
        dir: &Beneath,
        store: &Path,
        received: &mut Received,
    ) -> Result<()> {
        loop {
            let accepted = received.newest().accepted(None);
            let Some((position, form)) = next(dir, Some(accepted.position))? else {
                return Ok(());
            };
            let gate: Gate<'_> = self.gate(dataset, Some(&accepted));
            match gate.take(dir, position, form, store, &self.host.disk) {
                Ok(batch) => {
                    batch.keep(store, &self.host.disk)?;
                    received.batches.push(batch);
                }
                Err(error) => {
                    received.stopped = Some(error);
                    return Ok(());
                }
            }
        }
    }
}

/// What was accepted last, as its manifests tell it.
#[derive(Debug)]
pub struct Held {
    /// The full generation's files.
    pub dir: PathBuf,
    /// The batches after it.
    pub batches: Vec<Verified>,
    /// Every file with its digest; what crossed sealed is not among them.
    pub state: SourceState,
    /// What the newest of them says of itself.
    pub summary: serde_json::Value,
}

/// The full generation from which what was accepted is reached.
fn base(store: &Path, accepted: &Accepted) -> Result<Position> {
    let mut fulls = stored(store)?.into_iter();
    let base = fulls.rfind(|base| *base <= accepted.position);
    // As it is told where what was accepted is not there.
    let missing = || {
        let dir = stored_dir(store, accepted.position);
        Error::io("open", &dir, std::io::ErrorKind::NotFound.into())
    };
    base.ok_or_else(missing)
}

fn batches_between(store: &Path, base: Position, accepted: &Accepted) -> Result<Vec<Position>> {
    let mut batches = stored_batches(store)?;
    batches.retain(|at| base < *at && *at <= accepted.position);
    Ok(batches)
}

fn gap(accepted: &Accepted) -> Error {
    Error::refused(
        "batch-gap",
        format!(
            "this host's copies do not lead to {}, which it accepted",
            accepted.position
        ),
    )
    .hint("the source sends a full generation next; nothing to do")
}

/// Whether a batch goes on from that state.
fn follows(batch: &Manifest, before: &Manifest) -> bool {
    matches!(&batch.content, Content::Batch { from, .. } if *from == before.state())
}

fn nothing_yet(dataset: &DataSet) -> Error {
    Error::new(
        ErrorKind::NotFound,
        format!("{dataset}: nothing was received yet"),
    )
    .hint("run 'pefo push' on the active")
}

/// Keeps the newest full generations of root's store and what goes on from them; always that from which
/// what was applied is reached.
///
/// # Errors
/// `Io`.
pub fn prune(host: &Host, dataset: &DataSet, applied: Position) -> Result<()> {
    let store = host.store(dataset);
    let fulls = stored(&store)?;
    let base = fulls.iter().rev().find(|base| **base <= applied).copied();
    let surplus = fulls
        .len()
        .saturating_sub(host.config.retention.generations);
    let mut oldest = fulls.first().copied();
    for position in fulls.iter().take(surplus) {
        if Some(*position) == base {
            break;
        }
        host.disk.remove_tree(&stored_dir(&store, *position))?;
        oldest = fulls.iter().find(|full| *full > position).copied();
    }
    for position in stored_batches(&store)? {
        if oldest.is_some_and(|oldest| position < oldest) {
            host.disk.remove_file(&stored_batch(&store, position))?;
        }
    }
    Ok(())
}
