//! Power loss for tests: records which bytes and names were made durable, and rebuilds the directory
//! as a disk would hold it after the power went.
//!
//! The model is the strictest POSIX allows: a file's bytes and mode are durable after its fsync, a name
//! after the fsync of its directory, a directory's mode after its own, all after syncfs; nothing else
//! is. Which of the names that were changed since a disk holds by chance is a question of [`Order`]. Only
//! a rename is taken to be atomic, as every journal makes it, until the fsync of one of its two
//! directories.
//!
//! [`without_each_sync`] takes every fsync of a piece of code out, one after the other, and tells
//! whether anybody would notice.

mod disk;
mod missing;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Hook, Operation};
use disk::{Durable, Moment};

pub use missing::{Findings, Stage, without_each_sync};

/// What a disk may do with names that were not fsynced; bytes that were not are gone in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Loss {
    /// Names and bytes that were not fsynced are gone.
    Everything,
    /// Names had reached the disk by chance, their bytes had not: such a file is empty.
    BytesOnly,
    /// The nth change of names since the last fsync had reached the disk by chance, no other.
    AllButTheName(usize),
    /// All changes of names had reached the disk by chance, but for the nth.
    OnlyTheName(usize),
    /// Changes of names had reached the disk by chance, up to the nth and without it.
    TheNamesFrom(usize),
}

/// Whether changes of names that no fsync has made durable reach the disk one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Not in order: POSIX promises none. Lost may be none, all, each alone, all but each.
    Any,
    /// In order, as the journals of ext4, XFS and Btrfs write them: lost may be those from any one on.
    Kept,
}

/// A hook that knows what would survive; set it up over a directory before the run.
#[derive(Debug)]
pub struct Recorder {
    root: PathBuf,
    deaf_to: Option<usize>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    durable: Durable,
    syncs: usize,
}

impl Recorder {
    /// Takes what stands below `root` now as durable.
    ///
    /// # Errors
    /// Where `root` cannot be read.
    pub fn over(root: &Path) -> io::Result<Self> {
        let mut durable = Durable::default();
        durable.sync_all(root)?;
        Ok(Self {
            root: root.to_owned(),
            deaf_to: None,
            state: Mutex::new(State { durable, syncs: 0 }),
        })
    }

    /// Does not hear the nth sync, from 0: as if that fsync had been taken out of the code.
    #[must_use]
    pub const fn deaf_to(mut self, nth: usize) -> Self {
        self.deaf_to = Some(nth);
        self
    }

    /// How many syncs there were: of files and directories below the root, and of its file system.
    pub fn syncs(&self) -> usize {
        self.state().syncs
    }

    /// All the ways in which power may be lost now.
    ///
    /// # Errors
    /// Where the root is gone.
    pub fn losses(&self, order: Order) -> io::Result<Vec<Loss>> {
        Ok(self.moment()?.losses(order))
    }

    /// Writes into the empty directory `into` what would have survived a power loss now.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn lose_power(&self, into: &Path, loss: Loss) -> io::Result<()> {
        self.moment()?.image(loss).write(into)
    }

    fn moment(&self) -> io::Result<Moment> {
        self.state().durable.moment(&self.root)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the operation is a sync of something below the root.
    fn is_sync(&self, operation: Operation<'_>) -> bool {
        match operation {
            Operation::SyncFile(path) | Operation::SyncDir(path) => path.starts_with(&self.root),
            Operation::SyncFilesystem(_) => true,
            _ => false,
        }
    }

    fn follow(&self, state: &mut State, operation: Operation<'_>) -> io::Result<()> {
        if self.is_sync(operation) {
            let nth = state.syncs;
            state.syncs += 1;
            if self.deaf_to == Some(nth) {
                return Ok(());
            }
        }
        let below = |path: &Path| path != self.root && path.starts_with(&self.root);
        let durable = &mut state.durable;
        match operation {
            Operation::SyncFile(path) if below(path) => durable.sync_file(path),
            Operation::SyncDir(dir) if dir.starts_with(&self.root) => durable.sync_dir(dir),
            Operation::SyncFilesystem(_) => durable.sync_all(&self.root),
            Operation::CreateDir(path) | Operation::CreateFile(path) | Operation::Link(_, path)
                if below(path) =>
            {
                durable.named(path)
            }
            Operation::Rename(from, to) if below(from) && below(to) => durable.renamed(from, to),
            Operation::Rename(from, _) if below(from) => durable.unnamed(from),
            Operation::Rename(_, to) if below(to) => durable.named(to),
            Operation::RemoveFile(path) | Operation::RemoveDir(path) if below(path) => {
                durable.unnamed(path)
            }
            _ => Ok(()),
        }
    }
}

impl Hook for Recorder {
    fn before(&self, _operation: Operation<'_>) -> io::Result<()> {
        Ok(())
    }

    fn after(&self, operation: Operation<'_>) {
        let followed = self.follow(&mut self.state(), operation);
        assert!(
            followed.is_ok(),
            "the recorder could not follow {operation:?}: {followed:?}"
        );
    }
}

/// Both hooks of a crash test: stops at the nth operation and records what was durable until then.
pub struct Crash {
    stop: super::fault::StopAt,
    recorder: Recorder,
}

impl Crash {
    /// Stops after `operations` over the directory `root`.
    ///
    /// # Errors
    /// Where `root` cannot be read.
    pub fn at(operations: usize, root: &Path) -> io::Result<Self> {
        Ok(Self {
            stop: super::fault::StopAt::new(operations),
            recorder: Recorder::over(root)?,
        })
    }

    /// What survived.
    pub fn recorder(&self) -> &Recorder {
        &self.recorder
    }
}

impl Hook for Crash {
    fn before(&self, operation: Operation<'_>) -> io::Result<()> {
        self.stop.before(operation)
    }

    fn after(&self, operation: Operation<'_>) {
        self.recorder.after(operation);
    }
}

#[cfg(test)]
mod tests;
