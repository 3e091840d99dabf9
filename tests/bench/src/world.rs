//! What the rows share: where they play, and one ssh server that pefo and its peer both log in to.
//!
//! What several rows need and takes long to make is shared too: the database of 600 MB on two masters.
//!
//! The playground is `bench-work` in cargo's target directory: on the disk of the checkout, so that
//! *durable* means a real disk. It is emptied at the start and removed at the end, and a lock keeps
//! two runs from disturbing each other. The ssh server is started by the first row that asks for it.

#![expect(
    clippy::disallowed_methods,
    reason = "the playground is no data of pefo's"
)]

use std::cell::{Cell, OnceCell};
use std::fs::File;
use std::io::ErrorKind as IoKind;
use std::path::{Path, PathBuf};

use pefo_core::lock::Lock;
use pefo_core::{Error, ErrorKind, Result};
use pefo_testkit::skip::Skip;

use crate::databases::{Content, Databases};
use crate::row::Halt;
use crate::ssh::Ssh;

/// Everything a row may use.
pub(crate) struct World {
    mirror: PathBuf,
    examples: PathBuf,
    ledger: PathBuf,
    work: PathBuf,
    databases: OnceCell<Databases>,
    ssh: OnceCell<Ssh>,
    _lock: Lock,
}

impl World {
    /// Empties the playground. `mirror` is another build of tree_mirror than the one beside us.
    ///
    /// # Errors
    /// Another run, or a playground that can not be made.
    pub(crate) fn open(mirror: Option<&Path>) -> Result<Self> {
        let program = std::env::current_exe()
            .map_err(|error| Error::io("find", Path::new("this program"), error))?;
        // target/release/bench, beside it examples/, above it what outlives a build.
        let (Some(release), Some(target)) = (program.parent(), program.ancestors().nth(2)) else {
            return Err(Error::invalid("this program lies in no target directory"));
        };
        let lock = Lock::take(&target.join("bench.lock"))?;
        let work = target.join("bench-work");
        for left in std::fs::read_dir(&work).into_iter().flatten().flatten() {
            remove(&left.path())?;
        }
        remove(&work)?;
        std::fs::create_dir(&work).map_err(|error| Error::io("make", &work, error))?;
        let examples = release.join("examples");
        let built = || examples.join("tree_mirror");
        Ok(Self {
            mirror: mirror.map_or_else(built, Path::to_owned),
            examples,
            ledger: target.join("bench.json"),
            work,
            databases: OnceCell::new(),
            ssh: OnceCell::new(),
            _lock: lock,
        })
    }

    /// The file that keeps the numbers.
    pub(crate) fn ledger(&self) -> &Path {
        &self.ledger
    }

    /// pefo's program for trees and deltas.
    ///
    /// # Errors
    /// A program that is not built.
    pub(crate) fn mirror(&self) -> Result<&Path> {
        if self.mirror.is_file() {
            return Ok(&self.mirror);
        }
        let message = format!("there is no {}", self.mirror.display());
        Err(Error::new(ErrorKind::NotFound, message).hint(
            "'make bench' builds it; by hand: cargo build --release -p pefo-transport --examples",
        ))
    }

    /// One of the examples, as an embedder would build it.
    ///
    /// # Errors
    /// A program that is not built.
    pub(crate) fn example(&self, name: &str) -> Result<PathBuf> {
        let path = self.examples.join(name);
        if path.is_file() {
            return Ok(path);
        }
        let message = format!("there is no {}", path.display());
        Err(Error::new(ErrorKind::NotFound, message).hint("'make bench' builds it"))
    }

    /// An empty directory in the playground, gone when the row lets go of it.
    ///
    /// # Errors
    /// A directory that can not be made.
    pub(crate) fn place(&self, name: &str) -> Result<Place> {
        let path = self.work.join(name);
        remove(&path)?;
        let owner = self.ssh().ok().and_then(Ssh::owner);
        make(&path, owner)?;
        Ok(Place {
            path,
            owner,
            put_aside: Cell::new(0),
        })
    }

    /// Waits until the playground's file system has written what is dirty, so that one side does not
    /// pay for the other's pages.
    ///
    /// # Errors
    /// A disk that does not take it.
    pub(crate) fn settle(&self) -> Result<()> {
        let failed = |error| Error::io("flush", &self.work, error);
        let directory = File::open(&self.work).map_err(failed)?;
        rustix::fs::syncfs(&directory).map_err(|error| failed(error.into()))
    }

    /// The ssh server.
    ///
    /// # Errors
    /// A skip, where there is none.
    pub(crate) fn ssh(&self) -> Result<&Ssh, Skip> {
        if let Some(ssh) = self.ssh.get() {
            return Ok(ssh);
        }
        let ssh = Ssh::start(&self.work)?;
        Ok(self.ssh.get_or_init(|| ssh))
    }

    /// The large database on two masters, made by the first row that asks for it.
    ///
    /// # Errors
    /// A skip, where something is not installed; a failure to fill it.
    pub(crate) fn databases(&self) -> Result<&Databases, Halt> {
        if let Some(databases) = self.databases.get() {
            return Ok(databases);
        }
        let databases = Databases::paired(self, Content::Pgbench)?;
        Ok(self.databases.get_or_init(|| databases))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // What is left is removed at the next start.
        drop(remove(&self.work));
    }
}

/// A row's own directory, removed on drop.
///
/// What a row is done with is put aside and not removed: the blocks of thousands of removed files are
/// still being given back while the next run is measured, and whoever runs first would pay for it.
pub(crate) struct Place {
    path: PathBuf,
    owner: Option<(u32, u32)>,
    put_aside: Cell<u32>,
}

impl Place {
    /// The directory.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes an empty directory in it, and puts aside what is there under that name.
    ///
    /// # Errors
    /// A directory that can not be made.
    pub(crate) fn fresh(&self, name: &str) -> Result<PathBuf> {
        let path = self.path.join(name);
        if path.exists() {
            let number = self.put_aside.get();
            self.put_aside.set(number + 1);
            let aside = self.path.join(format!("aside-{number}"));
            std::fs::rename(&path, &aside).map_err(|error| Error::io("rename", &path, error))?;
        }
        make(&path, self.owner)?;
        Ok(path)
    }
}

/// Makes a directory that is the receivers' own.
fn make(path: &Path, owner: Option<(u32, u32)>) -> Result<()> {
    let (uid, gid) = owner.unzip();
    std::fs::create_dir(path)
        .and_then(|()| std::os::unix::fs::chown(path, uid, gid))
        .map_err(|error| Error::io("make", path, error))
}

impl Drop for Place {
    fn drop(&mut self) {
        // What is left is removed with the playground.
        drop(remove(&self.path));
    }
}

/// Removes a directory with everything in it, where there is one.
///
/// What lies in it is removed side by side: a disk that is told of every freed block while the
/// unlink waits takes milliseconds for a file, but takes many at once.
fn remove(path: &Path) -> Result<()> {
    let children: Vec<PathBuf> = match std::fs::read_dir(path) {
        Ok(entries) => entries.flatten().map(|entry| entry.path()).collect(),
        Err(error) if error.kind() == IoKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::io("read", path, error)),
    };
    std::thread::scope(|scope| {
        for child in children.iter().filter(|child| child.is_dir()) {
            // What could not be removed is told by the removal of the whole.
            scope.spawn(move || drop(std::fs::remove_dir_all(child)));
        }
    });
    std::fs::remove_dir_all(path).map_err(|error| Error::io("remove", path, error))
}
