//! A run's own directory.

use std::path::{Path, PathBuf};

use pefo_core::Result;
use pefo_core::disk::Attributes;
use pefo_core::generation::DataSet;

use crate::host::Host;

/// A private directory for one run, gone with it.
pub struct Scratch<'a> {
    host: &'a Host,
    path: PathBuf,
}

impl<'a> Scratch<'a> {
    /// A new directory below the state directory; what a killed run left there is removed first.
    ///
    /// # Errors
    /// `Io`.
    pub fn new(host: &'a Host, dataset: &DataSet) -> Result<Self> {
        let path = host.state("work").join(dataset.dir_name());
        host.disk.remove_tree(&path)?;
        host.disk.create_dir(&path, &Attributes::mode(0o711))?;
        Ok(Self { host, path })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.host.disk.remove_tree(&self.path) {
            tracing::warn!(%error, "the run's own directory was not removed; the next run does it");
        }
    }
}
