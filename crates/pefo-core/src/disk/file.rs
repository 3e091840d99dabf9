//! A new file being written: nobody's until it is finished.

use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use rustix::fs::{Advice, fadvise};

use super::{Attributes, Disk, Operation, apply_attributes};
use crate::error::Result;

/// A file made by [`Disk::create`]; its final attributes are set when it is finished.
#[derive(Debug)]
pub struct NewFile {
    disk: Disk,
    file: File,
    path: PathBuf,
    attributes: Attributes,
    /// Bytes written since the disk was last told to begin.
    ahead: u64,
}

/// After so many bytes the disk is told to begin writing them,
const BEGIN_BYTES: u64 = 16 << 20;
/// and at the end where so many are left.
const REST_BYTES: u64 = 1 << 20;

impl NewFile {
    pub(super) fn new(disk: Disk, file: File, path: PathBuf, attributes: Attributes) -> Self {
        Self {
            disk,
            file,
            path,
            attributes,
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
            self.begin_writing_out();
        }
        Ok(())
    }

    /// Has the disk begin with what was written last, so that the fsync at a long file's end has little
    /// left to do. Nothing rests on it, and it takes no error away from that fsync: advice that a range is
    /// not needed starts its writing and waits for nothing (posix_fadvise(2), mm/fadvise.c); what is being
    /// written stays in memory.
    fn begin_writing_out(&mut self) {
        let length = NonZeroU64::new(std::mem::take(&mut self.ahead));
        if let Some(length) = length
            && let Ok(end) = self.file.stream_position()
        {
            let begin = end.saturating_sub(length.get());
            let _ = fadvise(&self.file, begin, Some(length), Advice::DontNeed);
        }
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
        if self.ahead >= REST_BYTES {
            self.begin_writing_out();
        }
        self.disk.act(
            "set attributes of",
            &self.path,
            Operation::SetAttributes(&self.path),
            || apply_attributes(&self.file, &self.attributes),
        )
    }
}
