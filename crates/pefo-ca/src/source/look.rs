//! One look at some files: in the safe order, and again where something moves.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use pefo_core::clock::Clock;
use pefo_core::digest_cache::Identity;
use pefo_core::{Digest, RelPath, Result};

use super::inventory::Grown;
use super::{REQUIRED, SourceIndex};
use crate::malformed::Malformed;
use crate::snapshot::files::{self, INVENTORY, LAST, Loaded};

/// What was found at a path.
pub(super) enum Found {
    Absent,
    Refused(Malformed),
    File(File),
}

pub(super) struct File {
    pub(super) identity: Identity,
    pub(super) mode: u32,
    pub(super) digest: Digest,
    pub(super) content: Content,
    pub(super) is_torn: bool,
}

pub(super) enum Content {
    /// All of it; nothing where it is only to be known.
    Whole(Vec<u8>),
    /// An inventory that begins as the known one.
    Grown(Box<Grown>),
}

/// How much a look is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    /// What hints named.
    Named,
    /// Everything: nothing is taken to be as it was without having been read.
    Full,
    /// Everything, and only to know it: contents are not kept.
    Index,
}

/// One look at some paths, before anything is taken from it.
pub(super) struct Look<'i> {
    index: &'i SourceIndex,
    depth: Depth,
    /// What is not as it is known.
    pub(super) found: BTreeMap<RelPath, Found>,
}

impl<'i> Look<'i> {
    pub(super) const fn new(index: &'i SourceIndex, depth: Depth) -> Self {
        Self {
            index,
            depth,
            found: BTreeMap::new(),
        }
    }

    pub(super) fn take(&mut self, path: &RelPath) -> Result<()> {
        match self.find(path)? {
            Some(found) => self.found.insert(path.clone(), found),
            None => self.found.remove(path),
        };
        Ok(())
    }

    /// What stands at a path; `None` where that is what is known.
    fn find(&self, path: &RelPath) -> Result<Option<Found>> {
        let index = self.index;
        let meta = match files::examine(&index.cadir, path)? {
            Ok(meta) => meta,
            Err(None) => return Ok(Some(Found::Absent)),
            Err(Some(error)) => return Ok(Some(Found::Refused(error))),
        };
        let (identity, mode) = (Identity::from(&meta), meta.mode() & 0o7777);
        let stood = index.state.get(path);
        if let Some(digest) = index.known.get(&identity)
            && stood == Some((mode, digest))
        {
            return Ok(None);
        }
        if path.as_str() == INVENTORY
            && let Some(tail) = &index.inventory
            && stood.is_some_and(|(stood, _)| stood == mode)
            && let Some(grown) =
                tail.grown(&path.in_dir(&index.cadir), self.depth != Depth::Named)?
        {
            return Ok(Some(Found::File(File {
                // Of before it was read; what came meanwhile is read by the next look.
                identity,
                mode,
                digest: grown.digest,
                is_torn: grown.is_torn,
                content: Content::Grown(Box::new(grown)),
            })));
        }
        let (meta, file) = match files::read(&index.cadir, path, meta)? {
            Loaded::Absent => return Ok(Some(Found::Absent)),
            Loaded::NotAFile(error) => return Ok(Some(Found::Refused(error))),
            Loaded::File(meta, file) => (meta, file),
        };
        let keeps = self.depth != Depth::Index || path.as_str() == INVENTORY;
        Ok(Some(Found::File(File {
            identity: Identity::from(&meta),
            mode: file.mode,
            digest: Digest::of(&file.bytes),
            is_torn: files::is_torn(path, &file.bytes),
            content: Content::Whole(if keeps {
                file.bytes.to_vec()
            } else {
                Vec::new()
            }),
        })))
    }

    /// Reads again what moved or is torn, and inventory and serial after it; tells what stays so.
    pub(super) fn settle(&mut self, clock: &dyn Clock) -> Result<Vec<RelPath>> {
        let options = &self.index.options;
        for attempt in 0.. {
            let mut unsettled = Vec::new();
            for (path, found) in &self.found {
                if self.is_unsettled(path, found)? {
                    unsettled.push(path.clone());
                }
            }
            if unsettled.is_empty() || attempt >= options.attempts {
                // The whole lines of an inventory count though its last one is not whole.
                unsettled.retain(|path| match self.found.get(path) {
                    Some(Found::File(file)) => !matches!(file.content, Content::Grown(_)),
                    _ => true,
                });
                return Ok(unsettled);
            }
            clock.wait(options.wait.max(Duration::from_millis(1)));
            unsettled.retain(|path| !LAST.contains(&path.as_str()));
            unsettled.sort_by_key(reading_rank);
            for path in &unsettled {
                self.take(path)?;
            }
            for name in LAST {
                self.take(&RelPath::new(name)?)?;
            }
        }
        Ok(Vec::new())
    }

    fn is_unsettled(&self, path: &RelPath, found: &Found) -> Result<bool> {
        let now = files::examine(&self.index.cadir, path)?.ok();
        Ok(match found {
            Found::File(file) => {
                file.is_torn
                    || now.is_none_or(|now| {
                        let grows = matches!(file.content, Content::Grown(_));
                        !grows && Identity::from(&now) != file.identity
                    })
            }
            Found::Absent => now.is_some() || REQUIRED.contains(&path.as_str()),
            Found::Refused(_) => false,
        })
    }
}

/// CRLs and the CA's own files, then requests, signed, the inventory and the serial.
pub(super) fn reading_rank(path: &RelPath) -> u8 {
    match path.as_str() {
        "serial" => 4,
        INVENTORY => 3,
        path if path.starts_with("signed/") => 2,
        path if path.starts_with("requests/") => 1,
        _ => 0,
    }
}
