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

/// The manifest of the newest full generation in root's store; `None` where there is none.
///
/// # Errors
/// `Io`; `Refused` where no paired key signed it.
pub fn newest_full(host: &Host, dataset: &DataSet) -> Result<Option<Manifest>> {
    let store = host.store(dataset);
    let Some(newest) = stored(&store)?.last().copied() else {
        return Ok(None);
    };
    let path = stored_dir(&store, newest).join(spool::MANIFEST);
    let document = read_capped(&path, Manifest::MAX_BYTES)?;
    let site = host.introduction()?.site;
    Manifest::check(&document, &site, dataset, &host.reign_keys()?).map(Some)
}

/// The next that is to be taken out of the spool after what was accepted: the newest full generation, or
/// the batch that follows.
///
/// # Errors
/// `Io`, `Refused` where there are too many.
pub fn next(
    dir: &Beneath,
    accepted: Option<Position>,
    may: impl Fn(Position) -> bool,
) -> Result<Option<(Position, Form)>> {
    let mut newer = spool::list(dir)?;
    newer.retain(|(position, _)| accepted.is_none_or(|accepted| *position > accepted));
    newer.retain(|(position, _)| may(*position));
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
        let may = |position| self.may_take(dataset, position);
        let newest = dir.as_ref().map(|dir| next(dir, position, may));
        let newest = newest.transpose()?;
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
            _ => return Err(self.nothing_yet(dataset)),
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
        self.is_of_this_reign(dataset, accepted)?;
        let store = self.host.store(dataset);
        let gate = self.gate(dataset, None);
        let (base, after) = way_to(&store, accepted.position)?;
        let dir = stored_dir(&store, base);
        let document = read_capped(&dir.join(spool::MANIFEST), Manifest::MAX_BYTES)?;
        let full = Manifest::check(&document, gate.site, dataset, gate.keys)?;
        let batches = reopen_batches(&gate, &store, after, &full)?;
        let newest = batches.last().map_or(&full, Verified::manifest);
        if newest.state() != accepted.state {
            return Err(gap(accepted.position));
        }
        let mut state = state_of_open_files(&full);
        for batch in &batches {
            for (step, _) in batch.steps()? {
                state.take(step);
            }
        }
        let summary = newest.summary.clone();
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
    /// What the gate says; `NotFound` where it is of a reign that has ended; `Refused` (`batch-gap`) where root's
    /// copies do not lead to what was accepted.
    pub fn accepted(&self, dataset: &DataSet, accepted: &Accepted) -> Result<Received> {
        self.is_of_this_reign(dataset, accepted)?;
        let received = self.reopen(dataset, accepted.position)?;
        if received.newest().manifest().state() == accepted.state {
            Ok(received)
        } else {
            Err(gap(accepted.position))
        }
    }

    /// Opens a generation of those in root's store again, as it stood after it.
    ///
    /// # Errors
    /// `NotFound` where it is not there, saying which are; what the gate says.
    pub fn at(&self, dataset: &DataSet, position: Position) -> Result<Received> {
        let store = self.host.store(dataset);
        let mut all = stored(&store)?;
        all.extend(stored_batches(&store)?);
        all.sort();
        if !all.contains(&position) {
            let all: Vec<String> = all.iter().map(ToString::to_string).collect();
            return Err(Error::new(
                ErrorKind::NotFound,
                format!("{dataset}: generation {position} is not in this host's store"),
            )
            .hint(format!("it has {}", all.join(", "))));
        }
        let received = self.reopen(dataset, position)?;
        if received.position() == position {
            Ok(received)
        } else {
            let message = format!("this host's copies do not lead to {position}");
            Err(Error::refused("batch-gap", message)
                .hint("the source sent it before it was restored; choose another generation"))
        }
    }

    fn is_of_this_reign(&self, dataset: &DataSet, accepted: &Accepted) -> Result<()> {
        if accepted.position.epoch == self.epoch() {
            Ok(())
        } else {
            Err(self.nothing_yet(dataset))
        }
    }

    fn nothing_yet(&self, dataset: &DataSet) -> Error {
        let message = format!(
            "{dataset}: nothing was received in epoch {} yet",
            self.epoch()
        );
        Error::new(ErrorKind::NotFound, message).hint("run 'pefo push' on the active")
    }

    /// What leads to a position, as far as it goes without a gap.
    fn reopen(&self, dataset: &DataSet, position: Position) -> Result<Received> {
        let store = self.host.store(dataset);
        let gate = self.gate(dataset, None);
        let (base, after) = way_to(&store, position)?;
        let full = gate.reopen(&store, base)?;
        let batches = reopen_batches(&gate, &store, after, full.manifest())?;
        Ok(Received {
            full,
            batches,
            stopped: None,
        })
    }

    /// Takes the batches that are there by now; what comes meanwhile is the next round's.
    fn take_batches(
        &self,
        dataset: &DataSet,
        dir: &Beneath,
        store: &Path,
        received: &mut Received,
    ) -> Result<()> {
        let newest = received.position();
        let listed = spool::list(dir)?.into_iter();
        let newer = listed.skip_while(|(position, _)| *position <= newest);
        let next = |it: &(Position, Form)| it.1 == Form::Batch && self.may_take(dataset, it.0);
        for (position, _) in newer.take_while(next) {
            let accepted = received.newest().accepted(None);
            let gate = self.gate(dataset, Some(&accepted));
            match gate.take(dir, position, Form::Batch, store, &self.host.disk) {
                Ok(batch) => {
                    batch.keep(store, &self.host.disk)?;
                    received.batches.push(batch);
                }
                Err(error) => {
                    received.stopped = Some(error);
                    break;
                }
            }
        }
        Ok(())
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

/// The full generation in root's store from which a position is reached, and the batches after it, up to there.
///
/// # Errors
/// `Io`, not found where there is none.
pub fn way_to(store: &Path, position: Position) -> Result<(Position, Vec<Position>)> {
    let base = stored(store)?.into_iter().rfind(|base| *base <= position);
    // As it is told where what was accepted is not there.
    let missing = || {
        let dir = stored_dir(store, position);
        Error::io("open", &dir, std::io::ErrorKind::NotFound.into())
    };
    let base = base.ok_or_else(missing)?;
    let mut batches = stored_batches(store)?;
    batches.retain(|at| base < *at && *at <= position);
    Ok((base, batches))
}

/// Opens those of the batches again that go on from `full`, each from the one before it. Others are of a line
/// that ended: the source sent them before it was restored.
///
/// # Errors
/// What the gate says.
pub fn reopen_batches(
    gate: &Gate<'_>,
    store: &Path,
    positions: Vec<Position>,
    full: &Manifest,
) -> Result<Vec<Verified>> {
    let mut reached = full.state();
    let mut batches = Vec::with_capacity(positions.len());
    for position in positions {
        let batch = gate.reopen_batch(store, position)?;
        if let Content::Batch { from, to, .. } = &batch.manifest().content
            && *from == reached
        {
            reached = *to;
            batches.push(batch);
        }
    }
    Ok(batches)
}

fn gap(position: Position) -> Error {
    Error::refused(
        "batch-gap",
        format!("this host's copies do not lead to {position}, which it accepted"),
    )
    .hint("the source sends a full generation next; nothing to do")
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
    let needed = fulls.iter().position(|full| Some(*full) == base);
    let (gone, kept) = fulls.split_at(surplus.min(needed.unwrap_or(surplus)));
    for position in gone {
        host.disk.remove_tree(&stored_dir(&store, *position))?;
    }
    for position in stored_batches(&store)? {
        if kept.first().is_some_and(|oldest| position < *oldest) {
            host.disk.remove_file(&stored_batch(&store, position))?;
        }
    }
    Ok(())
}
