//! Directories: made, and removed with all that is in them.
//!
//! A directory that shows is durable when it was made: [`Disk::create_dir`]. In a tree that nobody can
//! see yet an fsync for each would cost a tree of a thousand directories some seconds, for nothing:
//! [`Disk::create_dir_unsynced`] leaves it to the one [`Disk::sync_filesystem`] before the rename.

use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use super::{Attributes, Disk, Operation, is_temp_name, parent_of};
use crate::error::{Error, Result};

#[expect(
    clippy::disallowed_methods,
    reason = "this is the one module that changes disks"
)]
impl Disk {
    /// Makes a directory with these attributes, durably; fine where it exists already.
    ///
    /// # Errors
    /// `Io`, where it is not a directory or cannot be made.
    pub fn create_dir(&self, path: &Path, attributes: &Attributes) -> Result<()> {
        if self.make_dir(path, attributes)? {
            self.settle_dirs(&[path], attributes)?;
        }
        Ok(())
    }

    /// [`Disk::create_dir`] for the path and every missing ancestor.
    ///
    /// # Errors
    /// `Io`.
    pub fn create_dir_all(&self, path: &Path, attributes: &Attributes) -> Result<()> {
        let missing = missing(path);
        for dir in &missing {
            self.make_dir(dir, attributes)?;
        }
        self.settle_dirs(&missing, attributes)
    }

    /// Makes new directories durable, each of which is in the one before.
    fn settle_dirs(&self, made: &[&Path], attributes: &Attributes) -> Result<()> {
        let (Some(first), Some(last)) = (made.first(), made.last()) else {
            return Ok(());
        };
        // The fsync of a directory makes its own owner and mode durable, and the name of the next one.
        self.sync_dir(parent_of(first)?)?;
        for dir in made {
            if dir != last || !as_made(attributes) {
                self.sync_dir(dir)?;
            }
        }
        Ok(())
    }

    /// Makes a directory within a tree that nobody can see yet: durable after a later
    /// [`Disk::sync_filesystem`]. Fine where it exists already.
    ///
    /// # Errors
    /// `Io`, where it is not a directory or cannot be made.
    pub fn create_dir_unsynced(&self, path: &Path, attributes: &Attributes) -> Result<()> {
        self.make_dir(path, attributes).map(drop)
    }

    /// [`Disk::create_dir_unsynced`] for the path and every missing ancestor.
    ///
    /// # Errors
    /// `Io`.
    pub fn create_dir_all_unsynced(&self, path: &Path, attributes: &Attributes) -> Result<()> {
        for dir in missing(path) {
            self.make_dir(dir, attributes)?;
        }
        Ok(())
    }

    /// False where it exists already.
    fn make_dir(&self, path: &Path, attributes: &Attributes) -> Result<bool> {
        if std::fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir()) {
            return Ok(false);
        }
        self.act("create directory", path, Operation::CreateDir(path), || {
            std::fs::DirBuilder::new()
                .mode(attributes.mode & PRIVATE)
                .create(path)
        })?;
        self.set_attributes(path, attributes)?;
        Ok(true)
    }

    /// Removes a directory and all below it, without following symlinks; fine where it is gone.
    ///
    /// # Errors
    /// `Io`; a part may be gone by then.
    pub fn remove_tree(&self, path: &Path) -> Result<()> {
        match std::fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(Error::io("examine", path, error)),
            Ok(meta) if !meta.is_dir() => return self.remove_file(path),
            Ok(_) => {}
        }
        for entry in walkdir::WalkDir::new(path)
            .contents_first(true)
            .same_file_system(true)
        {
            let entry = entry.map_err(|error| Error::io("list", path, error.into()))?;
            let path = entry.path();
            if entry.file_type().is_dir() {
                self.act("remove directory", path, Operation::RemoveDir(path), || {
                    std::fs::remove_dir(path)
                })?;
            } else {
                self.act("remove", path, Operation::RemoveFile(path), || {
                    std::fs::remove_file(path)
                })?;
            }
        }
        self.sync_dir(parent_of(path)?)
    }

    /// Removes temp files that a killed run left in `dir` (not below it).
    ///
    /// # Errors
    /// `Io`.
    pub fn remove_temps(&self, dir: &Path) -> Result<()> {
        for entry in std::fs::read_dir(dir).map_err(|error| Error::io("list", dir, error))? {
            let entry = entry.map_err(|error| Error::io("list", dir, error))?;
            if entry.file_name().to_str().is_some_and(is_temp_name) {
                self.remove_tree(&entry.path())?;
            }
        }
        Ok(())
    }
}

/// The bits with which a directory is made, until its attributes are set.
const PRIVATE: u32 = 0o700;

/// Whether mkdir alone gives these attributes (a umask that takes bits from the owner left aside).
fn as_made(attributes: &Attributes) -> bool {
    let Attributes { mode, owner, mtime } = attributes;
    mode & !PRIVATE == 0 && owner.is_none() && mtime.is_none()
}

/// The path and its ancestors that are no directories yet, the highest first.
fn missing(path: &Path) -> Vec<&Path> {
    let named = |path: &&Path| !path.as_os_str().is_empty();
    let mut missing: Vec<_> = path
        .ancestors()
        .filter(named)
        .take_while(|path| !path.is_dir())
        .collect();
    missing.reverse();
    missing
}
