//! The newest full generation of a data set here: what a new one can take from it.

use std::collections::HashMap;

use pefo_core::disk::Rooted;
use pefo_core::generation::{FileEntry, Manifest};
use pefo_core::{Digest, RelPath};

/// Of two files with the same name in other directories, one is near the other where neither is more
/// than twice as long.
const SIMILAR: u64 = 2;

#[derive(Debug)]
pub(super) struct Newest {
    data: Rooted,
    files: Vec<FileEntry>,
    by_content: HashMap<(Digest, u64), usize>,
    by_name: HashMap<String, Vec<usize>>,
}

impl Newest {
    pub(super) fn new(data: Rooted, manifest: Manifest) -> Self {
        let files = manifest.files;
        let by_content = files
            .iter()
            .enumerate()
            .map(|(at, entry)| ((entry.blake3, entry.size), at))
            .collect();
        let mut by_name: HashMap<String, Vec<usize>> = HashMap::new();
        for (at, entry) in files.iter().enumerate().filter(|(_, entry)| !entry.sealed) {
            let name = entry.path.file_name().to_owned();
            by_name.entry(name).or_default().push(at);
        }
        Self {
            data,
            files,
            by_content,
            by_name,
        }
    }

    pub(super) const fn data(&self) -> &Rooted {
        &self.data
    }

    /// Where it has the same content.
    pub(super) fn same(&self, entry: &FileEntry) -> Option<&RelPath> {
        let at = self.by_content.get(&(entry.blake3, entry.size))?;
        self.files.get(*at).map(|found| &found.path)
    }

    /// The file that a new one is most likely made of: the one at the same path, or else one of the same
    /// name and a similar size, the nearest in size. Never a sealed one.
    pub(super) fn near(&self, entry: &FileEntry) -> Option<&FileEntry> {
        let at_path = self
            .files
            .binary_search_by(|found| found.path.cmp(&entry.path));
        if let Ok(at) = at_path
            && let Some(found) = self.files.get(at).filter(|found| !found.sealed)
        {
            return Some(found);
        }
        let similar = |found: &&FileEntry| {
            found.size <= entry.size.saturating_mul(SIMILAR)
                && entry.size <= found.size.saturating_mul(SIMILAR)
        };
        let same_name = self.by_name.get(entry.path.file_name())?.iter();
        same_name
            .filter_map(|at| self.files.get(*at))
            .filter(similar)
            .min_by_key(|found| found.size.abs_diff(entry.size))
    }
}
