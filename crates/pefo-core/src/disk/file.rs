//! A new file being written: nobody's until it is finished.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::{Attributes, Disk, Operation, apply_attributes};
use crate::error::Result;

/// A file made by [`Disk::create`]; its final attributes are set when it is finished.
#[derive(Debug)]
pub struct NewFile {
    disk: Disk,
    file: File,
    path: PathBuf,
    attributes: Attributes,
}

impl NewFile {
    pub(super) fn new(disk: Disk, file: File, path: PathBuf, attributes: Attributes) -> Self {
        Self {
            disk,
            file,
            path,
            attributes,
        }
    }

    /// Where it stands.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// `Io`; the file is then torn and must not be used.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let Self {
            disk, file, path, ..
        } = self;
        disk.act("write", path, Operation::Write(path), || {
            file.write_all(bytes)
        })
    }

    /// Sets the attributes and leaves durability to a later sync of the file system.
    ///
    /// # Errors
    /// `Io`.
    pub fn finish(self) -> Result<()> {
        self.settle()
    }

    /// Sets the attributes and fsyncs the content; the name is durable after the directory's fsync.
    ///
    /// # Errors
    /// `Io`.
    pub fn finish_durable(self) -> Result<()> {
        self.settle()?;
        self.disk
            .act("sync", &self.path, Operation::SyncFile(&self.path), || {
                self.file.sync_all()
            })
    }

    fn settle(&self) -> Result<()> {
        self.disk.act(
            "set attributes of",
            &self.path,
            Operation::SetAttributes(&self.path),
            || apply_attributes(&self.file, &self.attributes),
        )
    }
}
