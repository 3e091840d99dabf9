//! A new file being written: nobody's until it is finished.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use super::{Attributes, Disk, Operation, apply_attributes};
use crate::error::Result;

/// A file made by [`Disk::create`]; its final attributes are set when it is finished.
#[derive(Debug)]
pub struct NewFile {
    disk: Disk,
    file: File,
    path: PathBuf,
    attributes: Attributes,
    behind: Option<Behind>,
    /// Bytes written since the disk was last told to begin.
    ahead: u64,
}

/// After so many bytes the disk is told to begin writing them.
const BEGIN_BYTES: u64 = 16 << 20;

/// Writes long files out while they are still being written, so that the fsync at their end has little
/// left to do. Nothing rests on it: that fsync, or a sync of the file system, is what makes them durable.
#[derive(Debug)]
struct Behind {
    begin: SyncSender<()>,
    writer: JoinHandle<()>,
}

impl Behind {
    fn start(file: &File) -> Option<Self> {
        let file = file.try_clone().ok()?;
        let (begin, begun) = sync_channel(1);
        let write_out = move || {
            while begun.recv().is_ok() {
                // What fails here fails again where it matters.
                drop(file.sync_data());
            }
        };
        let writer = std::thread::Builder::new().spawn(write_out).ok()?;
        Some(Self { begin, writer })
    }

    fn end(self) {
        drop(self.begin);
        drop(self.writer.join());
    }
}

impl NewFile {
    pub(super) fn new(disk: Disk, file: File, path: PathBuf, attributes: Attributes) -> Self {
        Self {
            disk,
            file,
            path,
            attributes,
            behind: None,
            ahead: 0,
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
        })?;
        self.ahead += bytes.len() as u64;
        if self.ahead >= BEGIN_BYTES {
            self.ahead = 0;
            if self.behind.is_none() {
                self.behind = Behind::start(&self.file);
            }
            if let Some(behind) = &self.behind {
                // Where it is still at the last ones, these are next.
                let _ = behind.begin.try_send(());
            }
        }
        Ok(())
    }

    /// Sets the attributes and leaves durability to a later sync of the file system.
    ///
    /// # Errors
    /// `Io`.
    pub fn finish(mut self) -> Result<()> {
        self.settle()
    }

    /// Sets the attributes and fsyncs the content; the name is durable after the directory's fsync.
    ///
    /// # Errors
    /// `Io`.
    pub fn finish_durable(mut self) -> Result<()> {
        self.settle()?;
        self.disk
            .act("sync", &self.path, Operation::SyncFile(&self.path), || {
                self.file.sync_all()
            })
    }

    fn settle(&mut self) -> Result<()> {
        if let Some(behind) = self.behind.take() {
            behind.end();
        }
        self.disk.act(
            "set attributes of",
            &self.path,
            Operation::SetAttributes(&self.path),
            || apply_attributes(&self.file, &self.attributes),
        )
    }
}
