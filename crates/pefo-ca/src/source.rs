//! What a source's CA directory holds, followed change by change.
//!
//! A [`SourceIndex`] knows every file that a standby needs by mode and digest, some 250 bytes each: that
//! of 50,000 certificates fits into 16 MiB, and stays in a watcher while nothing happens. [`look`] takes
//! hints (see [`watch`](crate::watch)), reads what they name, and tells what is different, as the steps
//! of a batch. What it guarantees:
//!
//! - What is read is read CRLs first, then requests, signed, inventory, and the serial last, so that
//!   serial ≥ inventory ≥ signed holds in every batch; its steps stand in the order in which a standby
//!   takes them: serial, inventory, signed, requests, CRLs.
//! - A file crosses whole or not at all: one that moves or is torn is read again, and named where it stays
//!   so. Of an inventory that is being appended to, the whole lines cross.
//! - Content decides. A file that is not read again is one whose inode, size, mtime and ctime are those of
//!   when it was read, and were old by then.
//! - A change costs what changed: an inventory that grew crosses as what was added, and of one that grew
//!   in place only that is read, until the next full look.
//! - An emptied, unreadable or vanished CA is refused by name, never told as deletions.
//!
//! [`look`]: SourceIndex::look

mod change;
mod inventory;
mod look;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::SystemTime;

use pefo_core::clock::Clock;
use pefo_core::digest_cache::DigestCache;
use pefo_core::disk::is_temp_name;
use pefo_core::generation::batch::SourceState;
use pefo_core::{Error, RelPath, Result};

use crate::layout::CaLayout;
use crate::malformed::Malformed;
use crate::snapshot::files::{self, FIRST, INVENTORY, LAST, certname_of};
use crate::snapshot::{Problem, SnapshotOptions, no_source};
use crate::watch::{Hint, is_server_temp_name};

pub use change::{Change, Observed};
use inventory::Tail;
use look::{Content, Depth, File, Found, Look, reading_rank};

/// So many files are looked at in one piece at the beginning.
const PIECE: usize = 1024;
/// Files without which there is no CA.
const REQUIRED: [&str; 4] = ["ca_crl.pem", "ca_crt.pem", INVENTORY, "serial"];

/// A source's CA directory as a standby that took every batch knows it.
#[derive(Debug)]
pub struct SourceIndex {
    cadir: PathBuf,
    options: SnapshotOptions,
    state: SourceState,
    known: DigestCache,
    inventory: Option<Tail>,
}

impl SourceIndex {
    /// Looks at all that is there. What is torn just then is new to a later look.
    ///
    /// # Errors
    /// As [`SourceIndex::look`].
    pub fn read(layout: &CaLayout, options: &SnapshotOptions, clock: &dyn Clock) -> Result<Self> {
        let mut index = Self {
            cadir: layout.cadir().to_owned(),
            options: options.clone(),
            state: SourceState::default(),
            known: DigestCache::default(),
            inventory: None,
        };
        let mut paths = index.everything(&mut Vec::new())?;
        paths.sort_by_key(reading_rank);
        // A piece at a time, and each piece gone before the next, so that a watcher never holds more than
        // it keeps.
        let mut paths = paths.into_iter();
        let mut entries = Vec::new();
        loop {
            let piece: Vec<RelPath> = paths.by_ref().take(PIECE).collect();
            if piece.is_empty() {
                break;
            }
            let before = SystemTime::from(clock.now());
            let (found, unsettled) = index.find(&piece, Depth::Index, clock)?;
            for (path, found) in found {
                if let Found::File(file) = found
                    && !unsettled.contains(&path)
                {
                    index.remember(&path, &file, before);
                    entries.push((path, file.mode, file.digest));
                }
            }
        }
        index.state = SourceState::of(entries);
        Ok(index)
    }

    /// What a standby that took every batch knows.
    pub fn state(&self) -> &SourceState {
        &self.state
    }

    /// Reads what the hints name and tells what is different since the last look.
    ///
    /// # Errors
    /// `Refused` (`ca-source-unreadable`, `ca-source-empty`), worth a retry, where what is there is no CA
    /// that a standby could follow; `Io`. The index is then as it was.
    pub fn look(&mut self, hints: &[Hint], clock: &dyn Clock) -> Result<Observed> {
        let named = hints.iter().map(|hint| match hint {
            Hint::Changed(path) | Hint::Gone(path) => Some(path.clone()),
            Hint::Rescan => None,
        });
        let named: Option<BTreeSet<RelPath>> = named.collect();
        let mut problems = Vec::new();
        let (mut paths, depth) = match named {
            Some(named) => (self.relevant(named, &mut problems), Depth::Named),
            None => (self.everything(&mut problems)?, Depth::Full),
        };
        if !paths.is_empty() {
            for name in LAST {
                paths.push(RelPath::new(name)?);
            }
        }
        paths.sort();
        paths.dedup();
        paths.sort_by_key(reading_rank);
        let mut observed = self.look_at(&paths, depth, clock)?;
        problems.append(&mut observed.problems);
        observed.problems = problems;
        Ok(observed)
    }

    /// Looks at these paths, in this order.
    fn look_at(&mut self, paths: &[RelPath], depth: Depth, clock: &dyn Clock) -> Result<Observed> {
        let before = SystemTime::from(clock.now());
        let (found, unsettled) = self.find(paths, depth, clock)?;
        Ok(self.accept(found, unsettled, before))
    }

    /// What is not as it is known, and which of it moves or is torn.
    fn find(
        &self,
        paths: &[RelPath],
        depth: Depth,
        clock: &dyn Clock,
    ) -> Result<(BTreeMap<RelPath, Found>, Vec<RelPath>)> {
        let mut look = Look::new(self, depth);
        for path in paths {
            look.take(path)?;
        }
        let unsettled = look.settle(clock)?;
        let found = look.found;
        for (path, found) in &found {
            if matches!(found, Found::Absent) && REQUIRED.contains(&path.as_str()) {
                return Err(unreadable(format!("{path} is missing")));
            }
        }
        let is_gone = |(path, found): (&RelPath, &Found)| {
            let is_known = path.as_str().starts_with("signed/") && self.state.get(path).is_some();
            is_known && matches!(found, Found::Absent)
        };
        if found.iter().any(is_gone) {
            self.has_certificates()?;
        }
        Ok((found, unsettled))
    }

    /// Refuses a signed/ that was emptied or is gone: certificates are cleaned one by one.
    fn has_certificates(&self) -> Result<()> {
        let signed = self.cadir.join("signed");
        match std::fs::read_dir(&signed).map(|mut entries| entries.next()) {
            Ok(Some(Ok(_))) => Ok(()),
            Ok(None) => Err(emptied()),
            Ok(Some(Err(error))) | Err(error) => {
                Err(unreadable(format!("signed/ cannot be listed: {error}")))
            }
        }
    }

    /// Takes over what was found.
    fn accept(
        &mut self,
        found: BTreeMap<RelPath, Found>,
        unsettled: Vec<RelPath>,
        before: SystemTime,
    ) -> Observed {
        let from = self.state.digest();
        let (mut changes, mut problems) = (Vec::new(), Vec::new());
        for (path, found) in found {
            match found {
                Found::Refused(error) => problems.push(Problem {
                    path: path.to_string(),
                    error,
                }),
                Found::Absent => {
                    if self.state.remove(&path) {
                        changes.push(Change::Delete { path });
                    }
                }
                Found::File(_) if unsettled.contains(&path) => {}
                Found::File(file) => changes.extend(self.accept_file(path, file, before)),
            }
        }
        changes.sort_by_key(Change::rank);
        Observed {
            from,
            to: self.state.digest(),
            changes,
            unsettled,
            problems,
        }
    }

    /// Remembers what a file is, so that it need not be read again.
    fn remember(&mut self, path: &RelPath, file: &File, before: SystemTime) {
        // Of what is torn or grew in place a part was read: a full look reads it again.
        let is_read_whole = match &file.content {
            Content::Whole(_) => true,
            Content::Grown(grown) => grown.is_read_whole,
        };
        if is_read_whole && !file.is_torn {
            self.known.put(file.identity, file.digest, before);
        }
        if path.as_str() == INVENTORY {
            let inode = (file.identity.device, file.identity.inode);
            match &file.content {
                Content::Whole(bytes) => self.inventory = Some(Tail::of(inode, bytes)),
                Content::Grown(grown) => {
                    if let Some(tail) = &mut self.inventory {
                        tail.grow(inode, grown);
                    }
                }
            }
        }
    }

    fn accept_file(&mut self, path: RelPath, file: File, before: SystemTime) -> Option<Change> {
        self.remember(&path, &file, before);
        let File {
            mode,
            digest,
            content,
            ..
        } = file;
        let stood = self.state.get(&path);
        if stood == Some((mode, digest)) {
            return None;
        }
        self.state.put(path.clone(), mode, digest);
        Some(match content {
            Content::Grown(grown) => Change::Append {
                path,
                at: grown.at,
                prefix: grown.prefix,
                bytes: grown.bytes,
                blake3: digest,
            },
            Content::Whole(bytes) => Change::Put {
                path,
                mode,
                bytes,
                blake3: digest,
                replaces: stood.map(|(_, digest)| digest),
            },
        })
    }

    /// Those of the named paths that a standby needs.
    fn relevant(&self, named: BTreeSet<RelPath>, problems: &mut Vec<Problem>) -> Vec<RelPath> {
        let is_relevant = |path: &RelPath| {
            let Some((sub, name)) = path.as_str().split_once('/') else {
                return FIRST.contains(&path.as_str()) || LAST.contains(&path.as_str());
            };
            let is_temp = is_server_temp_name(name) || is_temp_name(name);
            if !matches!(sub, "signed" | "requests") || name.contains('/') || is_temp {
                return false;
            }
            match certname_of(name) {
                Ok(certname) => !self.options.exclude.contains(&certname),
                Err(reason) => {
                    // What was named and is gone is no problem any more.
                    if path.in_dir(&self.cadir).symlink_metadata().is_ok() {
                        let error = Malformed::new("name-refused", reason);
                        let path = path.to_string();
                        problems.push(Problem { path, error });
                    }
                    false
                }
            }
        };
        named.into_iter().filter(is_relevant).collect()
    }

    /// Every path that stands or was known.
    fn everything(&self, problems: &mut Vec<Problem>) -> Result<Vec<RelPath>> {
        let mut paths: BTreeSet<RelPath> = self.state.paths().cloned().collect();
        for name in FIRST.into_iter().chain(LAST) {
            paths.insert(RelPath::new(name)?);
        }
        for sub in ["signed", "requests"] {
            match files::names(&self.cadir, sub, &self.options.exclude)? {
                Ok(names) => {
                    if sub == "signed" && names.named.is_empty() && names.excluded.is_empty() {
                        return Err(emptied());
                    }
                    paths.extend(names.named.into_iter().map(|(_, path)| path));
                    problems.extend(names.problems);
                }
                // A server makes it at its first start.
                Err(None) if sub == "requests" => {}
                Err(problem) => {
                    let why = problem.map_or_else(
                        || "is missing".to_owned(),
                        |problem| problem.error.to_string(),
                    );
                    return Err(unreadable(format!("{sub}/ {why}")));
                }
            }
        }
        Ok(paths.into_iter().collect())
    }
}

fn emptied() -> Error {
    no_source("ca-source-empty", "signed/ is empty".to_owned())
}

fn unreadable(what: String) -> Error {
    no_source("ca-source-unreadable", what)
}
