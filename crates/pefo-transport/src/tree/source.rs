//! A directory that is sent: looked at, and known again.

use std::path::{Path, PathBuf};

use pefo_core::cancel::Cancel;
use pefo_core::clock::Clock;
use pefo_core::digest_cache::DigestCache;
use pefo_core::disk::Disk;
use pefo_core::{RelPath, Result};

use super::entry::Node;
use super::scan::{self, Scan};

/// A directory that is sent, and what is known of it.
#[derive(Debug)]
pub struct TreeSource {
    root: PathBuf,
    cache: DigestCache,
    cache_path: Option<PathBuf>,
}

impl TreeSource {
    /// The directory at `root`; all of it is read at each scan.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            cache: DigestCache::default(),
            cache_path: None,
        }
    }

    /// Keeps digests at `path`, outside the tree, so that unchanged files are not read again.
    #[must_use]
    pub fn cached(mut self, path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        self.cache = DigestCache::load(&path);
        self.cache_path = Some(path);
        self
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Looks at all of it. One processor, where there are several, is left to the line, which is best
    /// opened meanwhile.
    ///
    /// # Errors
    /// `Io` where the root itself cannot be read; `Cancelled`.
    pub fn scan(&mut self, clock: &dyn Clock, cancel: &Cancel) -> Result<Scan> {
        let threads = (scan::all_threads() - 1).max(1);
        let (root, now) = (&self.root, clock.now().into());
        scan::scan(root, &mut self.cache, now, threads, cancel)
    }

    /// Looks at some paths only.
    #[expect(clippy::type_complexity, reason = "as of the function it calls")]
    pub(super) fn look(
        &mut self,
        paths: &[RelPath],
        clock: &dyn Clock,
        cancel: &Cancel,
    ) -> Result<(Vec<(RelPath, Option<Node>)>, Scan)> {
        let now = clock.now().into();
        scan::look(&self.root, paths, &mut self.cache, now, cancel)
    }

    /// Stores what is known; losing it costs reading only.
    ///
    /// # Errors
    /// `Io`.
    pub fn keep(&mut self, disk: &Disk) -> Result<()> {
        match &self.cache_path {
            Some(path) => self.cache.store(disk, path),
            None => Ok(()),
        }
    }
}
