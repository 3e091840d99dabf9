//! A CA without its certificates: who has one, and all the rest.

use std::path::Path;
use std::sync::Arc;

use pefo_core::clock::Clock;
use pefo_core::{Certname, RelPath, Result};

use super::{Snapshot, SnapshotOptions, read};
use crate::layout::CaLayout;
use crate::serial::Serial;
use crate::source::Change;

/// A CA in so much memory as one that follows it can spare.
#[derive(Debug, Clone)]
pub struct Outline {
    /// Without inventory.
    pub(crate) rest: Snapshot,
    pub(crate) inventory: Option<Arc<[u8]>>,
    /// By the names of the files of signed/, sorted; with the serial where it was asked for and can be read.
    pub(crate) certificates: Vec<(Certname, Option<Serial>)>,
}

impl Outline {
    /// Of a live cadir, with serials.
    ///
    /// # Errors
    /// As [`Snapshot::read`].
    pub fn read(layout: &CaLayout, options: &SnapshotOptions, clock: &dyn Clock) -> Result<Self> {
        read::Reader::live(layout.cadir(), options, clock).outline(true)
    }

    /// Of a staged copy and what `changes` made of it since, without serials.
    ///
    /// # Errors
    /// As [`Snapshot::read_dir_after`].
    pub fn read_dir_after(
        dir: &Path,
        options: &SnapshotOptions,
        changes: &[Change],
    ) -> Result<Self> {
        read::Reader::still_after(dir, options, changes)?.outline(false)
    }

    /// As [`Snapshot::with_modes`].
    #[must_use]
    pub fn with_modes<'m>(mut self, modes: impl IntoIterator<Item = (&'m RelPath, u32)>) -> Self {
        self.rest = self.rest.with_modes(modes);
        self
    }
}
