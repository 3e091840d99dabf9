//! Where what arrives waits until all of it is here: beside the tree, and never in it.
//!
//! ```text
//! STATE/stage/PATH          a file that is whole: counted, hashed, with its attributes
//! STATE/parts/DIGEST        a long file that is arriving, by the digest it will have
//! STATE/signatures/DIGEST   the signature of a long file that stands in the tree
//! STATE/parts/DIGEST.base   what a cut delta had put together of it, as a base for the next
//! ```
//!
//! What it guarantees: a file stands in `stage` only where its digest was the announced one. What a cut
//! session left is checked before it counts: files in `stage` are hashed again, and the beginning of a
//! long file is hashed as it is gone on with, so that a wrong byte shows at its end and the file is
//! fetched anew. Once all there is has come, what is left is removed. Nothing here is durable before the
//! commit makes it so.

use std::collections::BTreeSet;

use pefo_core::disk::{Attributes, Disk, EntryKind, Rooted};
use pefo_core::{RelPath, Result};

use super::TreeReceiverOptions;
use super::signatures::Signatures;
use crate::delta::Seed;
use crate::tree::entry::FileNode;

pub(super) const PRIVATE_DIR: u32 = 0o700;

/// The directories beside a tree.
pub(super) struct Stage {
    disk: Disk,
    state: Rooted,
    pub(super) staged: Rooted,
    pub(super) parts: Rooted,
    pub(super) signatures: Signatures,
    options: TreeReceiverOptions,
    pub(super) seed: Seed,
}

impl Stage {
    /// Makes what is missing.
    pub(super) fn open(options: &TreeReceiverOptions, disk: &Disk, seed: Seed) -> Result<Self> {
        disk.create_dir_all(&options.state, &Attributes::mode(PRIVATE_DIR))?;
        let state = Rooted::open(disk, &options.state)?;
        for name in ["stage", "parts"] {
            state.create_dir(&RelPath::new(name)?, PRIVATE_DIR)?;
        }
        Ok(Self {
            disk: disk.clone(),
            staged: Rooted::open(disk, &options.state.join("stage"))?,
            parts: Rooted::open(disk, &options.state.join("parts"))?,
            signatures: Signatures::open(&state, disk)?,
            state,
            options: options.clone(),
            seed,
        })
    }

    pub(super) fn state(&self) -> &Rooted {
        &self.state
    }

    /// Removes all that is staged.
    pub(super) fn clear(&mut self) -> Result<()> {
        let name = RelPath::new("stage")?;
        self.state.remove_tree(&name)?;
        self.state.create_dir(&name, PRIVATE_DIR)?;
        self.staged = Rooted::open(&self.disk, &self.options.state.join("stage"))?;
        Ok(())
    }

    /// Removes all that is staged; costs a look where that is nothing.
    pub(super) fn tidy(&mut self) -> Result<()> {
        if self.staged.reading()?.entries(usize::MAX)?.is_empty() {
            return Ok(());
        }
        self.clear()
    }

    /// Removes what was begun of long files.
    pub(super) fn clear_parts(&self) -> Result<()> {
        for (name, _) in self.parts.reading()?.entries(usize::MAX)? {
            self.parts.remove_tree(&name)?;
        }
        Ok(())
    }

    /// The attributes a file gets.
    pub(super) fn attributes(&self, file: &FileNode) -> Attributes {
        let attributes = self.options.attributes(file.mode);
        attributes.mtime(file.mtime.system())
    }
}

/// Removes every file below but these, and every directory that holds none of them.
pub(super) fn remove_all_but(root: &Rooted, kept: &BTreeSet<&RelPath>) -> Result<()> {
    let holds = |dir: &RelPath| {
        let below = format!("{dir}/");
        kept.iter().any(|path| path.as_str().starts_with(&below))
    };
    let mut directories = vec![None];
    while let Some(at) = directories.pop() {
        let reading = root.reading()?;
        let entries = match &at {
            None => reading.entries(usize::MAX)?,
            Some(dir) => reading.dir(dir)?.entries(usize::MAX)?,
        };
        for (name, kind) in entries {
            let path = match &at {
                None => name,
                Some(dir) => RelPath::new(format!("{dir}/{name}"))?,
            };
            if kind == EntryKind::Directory && holds(&path) {
                directories.push(Some(path));
            } else if !kept.contains(&path) {
                root.remove_tree(&path)?;
            }
        }
    }
    Ok(())
}
