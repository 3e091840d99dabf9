//! Power loss for tests: records which bytes and names were made durable, and rebuilds the directory
//! as a disk would hold it after the power went.
//!
//! The model is the strictest POSIX allows: a file's bytes are durable after its fsync, a name after
//! the fsync of its directory, both after syncfs; nothing else is.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::{Hook, Operation};

/// What a disk may do with names that were not fsynced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// Names and bytes that were not fsynced are gone.
    Everything,
    /// Names had reached the disk by chance, their bytes had not: such a file is empty.
    BytesOnly,
}

/// A hook that knows what would survive; set it up over a directory before the run.
#[derive(Debug)]
pub struct Recorder {
    root: PathBuf,
    durable: Mutex<Durable>,
}

#[derive(Debug, Default)]
struct Durable {
    /// By inode number. The open handle keeps the number from being used again.
    files: HashMap<u64, (File, Vec<u8>)>,
    /// The names that are durable in each directory, by its inode number: a directory keeps its names
    /// when it is renamed. The open handle keeps the number here too.
    names: HashMap<u64, (File, Names)>,
}

type Names = BTreeMap<OsString, Node>;

#[derive(Debug, Clone, Copy)]
enum Node {
    File(u64),
    Directory(u64),
}

impl Recorder {
    /// Takes what stands below `root` now as durable.
    ///
    /// # Errors
    /// Where `root` cannot be read.
    pub fn over(root: &Path) -> io::Result<Self> {
        let recorder = Self {
            root: root.to_owned(),
            durable: Mutex::default(),
        };
        recorder.everything_is_durable()?;
        Ok(recorder)
    }

    /// Writes into the empty directory `into` what would have survived a power loss now.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn lose_power(&self, into: &Path, loss: Loss) -> io::Result<()> {
        let durable = self.durable.lock().unwrap_or_else(PoisonError::into_inner);
        durable.rebuild(inode(&self.root)?, Some(&self.root), into, loss)
    }

    fn everything_is_durable(&self) -> io::Result<()> {
        let mut durable = self.durable.lock().unwrap_or_else(PoisonError::into_inner);
        for entry in walkdir::WalkDir::new(&self.root) {
            let entry = entry?;
            if entry.file_type().is_dir() {
                durable.names_of(entry.path())?;
            } else if entry.file_type().is_file() {
                durable.bytes_of(entry.path())?;
            }
        }
        Ok(())
    }
}

impl Durable {
    fn names_of(&mut self, dir: &Path) -> io::Result<()> {
        let names = live_names(dir)?;
        self.names.insert(inode(dir)?, (File::open(dir)?, names));
        Ok(())
    }

    fn bytes_of(&mut self, path: &Path) -> io::Result<()> {
        let mut file = File::open(path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        file.rewind()?;
        self.files.insert(file.metadata()?.ino(), (file, bytes));
        Ok(())
    }

    /// Rebuilds the directory `from` (its inode number, and its path where it can be looked at live).
    #[expect(
        clippy::disallowed_methods,
        reason = "rebuilds a disk's content for a test"
    )]
    fn rebuild(&self, from: u64, live: Option<&Path>, into: &Path, loss: Loss) -> io::Result<()> {
        let names = match (loss, live) {
            (Loss::BytesOnly, Some(live)) => live_names(live)?,
            _ => self
                .names
                .get(&from)
                .map(|(_, names)| names.clone())
                .unwrap_or_default(),
        };
        for (name, node) in names {
            let target = into.join(&name);
            match node {
                Node::Directory(inode) => {
                    std::fs::create_dir_all(&target)?;
                    let live = live.map(|live| live.join(&name));
                    self.rebuild(inode, live.as_deref(), &target, loss)?;
                }
                Node::File(inode) => match self.files.get(&inode) {
                    Some((handle, bytes)) => {
                        std::fs::write(&target, bytes)?;
                        std::fs::set_permissions(&target, handle.metadata()?.permissions())?;
                    }
                    None => std::fs::write(&target, b"")?,
                },
            }
        }
        Ok(())
    }
}

fn inode(path: &Path) -> io::Result<u64> {
    Ok(path.symlink_metadata()?.ino())
}

fn live_names(dir: &Path) -> io::Result<BTreeMap<OsString, Node>> {
    let mut names = BTreeMap::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let meta = entry.path().symlink_metadata()?;
        if meta.is_dir() {
            names.insert(entry.file_name(), Node::Directory(meta.ino()));
        } else if meta.is_file() {
            names.insert(entry.file_name(), Node::File(meta.ino()));
        }
    }
    Ok(names)
}

impl Hook for Recorder {
    fn before(&self, _operation: Operation<'_>) -> io::Result<()> {
        Ok(())
    }

    fn after(&self, operation: Operation<'_>) {
        let mut durable = self.durable.lock().unwrap_or_else(PoisonError::into_inner);
        let recorded = match operation {
            Operation::SyncFile(path) if path.starts_with(&self.root) => durable.bytes_of(path),
            Operation::SyncDir(dir) if dir.starts_with(&self.root) => durable.names_of(dir),
            Operation::SyncFilesystem(_) => {
                drop(durable);
                self.everything_is_durable()
            }
            // A file replaced or removed is held open, so that its inode number stays its own for as
            // long as a durable name may still lead to it.
            _ => Ok(()),
        };
        assert!(
            recorded.is_ok(),
            "the recorder could not follow {operation:?}: {recorded:?}"
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
