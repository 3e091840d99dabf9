//! From staged files to the tree, so that after any crash it is the whole old tree or the whole new one.
//!
//! ```text
//! 1  what is staged is made durable
//! 2  the steps are written down, durably, in STATE/commit
//! 3  the steps are taken: clear, directories, files by rename, attributes, deletes
//! 4  the directories they touched are made durable
//! 5  STATE/commit is removed, durably
//! ```
//!
//! A crash before 2 leaves the old tree; one after it is made up for by [`recover`], which takes the
//! steps again from the first: each may be taken any number of times. A change of one file is one
//! rename and needs no 2 and 5; a tree that did not exist is the stage itself, shown by one rename.

use std::collections::BTreeSet;
use std::fs::File;

use pefo_core::digest_cache::FileTime;
use pefo_core::disk::{Attributes, Disk, EntryKind, Rooted};
use pefo_core::{Digest, Error, RelPath, Result};
use serde::{Deserialize, Serialize};

use super::TreeReceiverOptions;
use super::plan::Plan;
use super::stage::Stage;
use crate::tree::entry::{Entry, FileNode};

/// Up to so many files, and directories, are made durable one by one; more by one syncfs.
const ONE_BY_ONE: usize = 32;
/// The disk's work of freeing a file from this size on is left until nobody waits,
const LONG_BYTES: u64 = 1 << 20;
/// for so many of them.
const MAX_REPLACED: usize = 64;
/// The steps' file in the state directory.
const JOURNAL: &str = "commit";
/// The largest that is read.
const MAX_JOURNAL_BYTES: u64 = 1 << 30;

/// The steps of one change, as written down.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Steps {
    /// Version of this record's schema: 1.
    format: u32,
    clear: Vec<RelPath>,
    directories: Vec<(RelPath, u32)>,
    /// Files whose new content is staged.
    place: Vec<RelPath>,
    /// Files that get another mode and time.
    adjust: Vec<(RelPath, u32, i64, u32)>,
    delete: Vec<RelPath>,
}

impl Steps {
    /// A plan's steps, for those of its entries that are staged.
    pub(super) fn of(plan: &Plan, entries: &[Entry], staged: &BTreeSet<u32>, delete: bool) -> Self {
        let entry = |index: &u32| {
            usize::try_from(*index)
                .ok()
                .and_then(|index| entries.get(index))
        };
        let adjusted = |index: &u32| {
            let entry = entry(index)?;
            let FileNode { mode, mtime, .. } = *entry.node.as_ref()?.file()?;
            Some((entry.path.clone(), mode, mtime.seconds, mtime.nanoseconds))
        };
        Self {
            format: 1,
            clear: plan.clear.clone(),
            directories: plan.directories.clone(),
            place: staged
                .iter()
                .filter_map(entry)
                .map(|entry| entry.path.clone())
                .collect(),
            adjust: plan.adjust.iter().filter_map(adjusted).collect(),
            delete: if delete {
                plan.delete.clone()
            } else {
                Vec::new()
            },
        }
    }

    fn count(&self) -> usize {
        self.clear.len()
            + self.directories.len()
            + self.place.len()
            + self.adjust.len()
            + self.delete.len()
    }

    /// Whether there is nothing to do.
    pub(super) fn is_empty(&self) -> bool {
        self.count() == 0
    }

    /// How many things go at the end.
    pub(super) fn deletes(&self) -> usize {
        self.delete.len()
    }

    /// All that goes.
    pub(super) fn removed(&self) -> impl Iterator<Item = &RelPath> {
        self.clear.iter().chain(&self.delete)
    }

    /// Directories that are made or changed.
    pub(super) fn directories(&self) -> &[(RelPath, u32)] {
        &self.directories
    }

    /// Files that get content, mode or time.
    pub(super) fn filed(&self) -> impl Iterator<Item = &RelPath> {
        self.place
            .iter()
            .chain(self.adjust.iter().map(|(path, ..)| path))
    }

    /// Directories whose names change.
    fn touched(&self) -> BTreeSet<Option<RelPath>> {
        let made = self.directories.iter().map(|(path, _)| path);
        let named = self
            .clear
            .iter()
            .chain(made)
            .chain(&self.place)
            .chain(&self.delete);
        let mut touched: BTreeSet<Option<RelPath>> = named.map(RelPath::parent).collect();
        touched.extend(self.directories.iter().map(|(path, _)| Some(path.clone())));
        let mut gone: BTreeSet<&RelPath> = self.removed().collect();
        // What was cleared away for a directory is one now.
        self.directories.iter().for_each(|(path, _)| {
            gone.remove(path);
        });
        touched.retain(|dir| dir.as_ref().is_none_or(|dir| !gone.contains(dir)));
        touched
    }
}

/// Long files that were replaced, held open: what they take on the disk is freed when they are dropped.
#[derive(Debug, Default)]
pub(super) struct Replaced(Vec<File>);

impl Replaced {
    /// Holds what stands at the path, where it is long.
    fn hold(&mut self, dest: &Rooted, path: &RelPath) -> Result<()> {
        if self.0.len() == MAX_REPLACED {
            return Ok(());
        }
        let stands = dest.stat(path)?;
        let is_long = stands.is_some_and(|stands| {
            stands.kind == EntryKind::File && stands.identity.size >= LONG_BYTES
        });
        // One that can not be read is freed at once.
        if is_long && let Ok(file) = dest.reading()?.file(path) {
            self.0.push(file);
        }
        Ok(())
    }
}

/// Carries out a change of a tree that stands.
pub(super) fn commit(
    stage: &mut Stage,
    dest: &Rooted,
    steps: &Steps,
    options: &TreeReceiverOptions,
) -> Result<Replaced> {
    if steps.is_empty() {
        return Ok(Replaced::default());
    }
    let alone = steps.count() == 1;
    settle(&stage.staged, &steps.place, !alone)?;
    let journal = RelPath::new(JOURNAL)?;
    if !alone {
        write_down(stage.state(), &journal, steps)?;
    }
    let replaced = take(&stage.staged, dest, steps, options)?;
    if !alone {
        stage.state().remove_file(&journal)?;
        // Steps that came back after a later change would undo it.
        stage.state().sync_dir(None)?;
    }
    Ok(replaced)
}

/// Makes what is staged durable, so that a rename can never show an empty file; and where steps will
/// speak of it, its names too, since a name that is missing from the stage counts as placed.
fn settle(staged: &Rooted, place: &[RelPath], names: bool) -> Result<()> {
    if place.len() > ONE_BY_ONE {
        return staged.sync_filesystem();
    }
    place.iter().try_for_each(|path| staged.sync_file(path))?;
    if !names {
        return Ok(());
    }
    let mut directories = BTreeSet::new();
    for path in place {
        let mut above = path.parent();
        while let Some(dir) = above {
            above = dir.parent();
            directories.insert(Some(dir));
        }
        directories.insert(None);
    }
    let mut directories = directories.iter();
    directories.try_for_each(|dir| staged.sync_dir(dir.as_ref()))
}

fn write_down(state: &Rooted, journal: &RelPath, steps: &Steps) -> Result<()> {
    let body = serde_json::to_vec(steps)
        .map_err(|error| Error::invalid(format!("write the steps: {error}")).with_source(error))?;
    let mut bytes = format!("{}\n", Digest::of(&body)).into_bytes();
    bytes.extend_from_slice(&body);
    let temp = RelPath::new(".pefo-commit.tmp")?;
    state.remove_file(&temp)?;
    let mut file = state.create(&temp, &Attributes::mode(0o600))?;
    file.write(&bytes)?;
    file.finish_durable()?;
    // The stage itself first: where its name is missing all that was staged counts as placed.
    state.sync_dir(None)?;
    state.rename(&temp, state, journal)?;
    state.sync_dir(None)
}

/// Takes the steps, and makes them durable.
fn take(
    staged: &Rooted,
    dest: &Rooted,
    steps: &Steps,
    options: &TreeReceiverOptions,
) -> Result<Replaced> {
    let mut replaced = Replaced::default();
    // A file that was placed before a crash stands where something was cleared away: that is done.
    let mut placed = BTreeSet::new();
    if !steps.clear.is_empty() {
        for path in &steps.place {
            if staged.stat(path)?.is_none() {
                placed.insert(path);
            }
        }
    }
    for path in &steps.clear {
        if !is_at_or_below(path, &placed) {
            remove(dest, path)?;
        }
    }
    for (path, mode) in &steps.directories {
        // A symlink in its place was never part of the tree.
        if dest
            .stat(path)?
            .is_some_and(|stands| stands.kind == EntryKind::Other)
        {
            dest.remove_file(path)?;
        }
        dest.create_dir(path, *mode)?;
        dest.set_attributes(path, &options.attributes(*mode))?;
    }
    // Their names before those of what is placed in them, or a file could be lost between the two.
    let made = steps.directories.iter().map(|(path, _)| path.parent());
    let holders: BTreeSet<Option<RelPath>> = made.collect();
    if holders.len() > ONE_BY_ONE {
        dest.sync_filesystem()?;
    } else {
        holders
            .iter()
            .try_for_each(|dir| dest.sync_dir(dir.as_ref()))?;
    }
    for path in &steps.place {
        // Where it is no longer staged it was placed before a crash.
        if staged.stat(path)?.is_some() {
            replaced.hold(dest, path)?;
            staged.rename(path, dest, path)?;
        }
    }
    for (path, mode, seconds, nanoseconds) in &steps.adjust {
        let mtime = FileTime {
            seconds: *seconds,
            nanoseconds: *nanoseconds,
        };
        dest.set_attributes(path, &options.attributes(*mode).mtime(mtime.system()))?;
    }
    for path in &steps.delete {
        remove(dest, path)?;
    }
    let touched = steps.touched();
    if touched.len() > ONE_BY_ONE || steps.adjust.len() > ONE_BY_ONE {
        return dest.sync_filesystem().map(|()| replaced);
    }
    for (path, ..) in &steps.adjust {
        dest.sync_file(path)?;
    }
    for dir in touched {
        dest.sync_dir(dir.as_ref())?;
    }
    Ok(replaced)
}

fn is_at_or_below(path: &RelPath, places: &BTreeSet<&RelPath>) -> bool {
    let mut at = Some(path.clone());
    while let Some(here) = at {
        if places.contains(&here) {
            return true;
        }
        at = here.parent();
    }
    false
}

/// Removes a file, or a directory that has become empty. What somebody else has put into it meanwhile
/// keeps it: the next comparison names it.
fn remove(dest: &Rooted, path: &RelPath) -> Result<()> {
    let stands = match dest.stat(path) {
        // Below something that is no directory, or no longer one, nothing of the tree stands.
        Err(error) if error.rule() == Some("spool-symlink") => return Ok(()),
        other => other?,
    };
    match stands {
        Some(standing) if standing.kind == EntryKind::Directory => match dest.remove_dir(path) {
            Err(error) if error.io_kind() == Some(std::io::ErrorKind::DirectoryNotEmpty) => Ok(()),
            other => other,
        },
        _ => dest.remove_file(path),
    }
}

/// Shows a tree that does not stand yet: the stage itself, by one rename.
pub(super) fn publish(
    stage: &mut Stage,
    options: &TreeReceiverOptions,
    disk: &Disk,
    directories: &[(RelPath, u32)],
) -> Result<()> {
    for (path, _) in directories {
        stage.staged.create_dir(path, 0o700)?;
    }
    // The deepest first: a directory may get bits that keep us out of it.
    for (path, mode) in directories.iter().rev() {
        stage
            .staged
            .set_attributes(path, &options.attributes(*mode))?;
    }
    let staged = options.state.join("stage");
    disk.set_attributes(&staged, &options.attributes(options.root_mode))?;
    stage.staged.sync_filesystem()?;
    disk.rename(&staged, &options.dest)?;
    stage.clear()
}

/// Ends what a crash interrupted; tells whether there was anything.
pub(super) fn recover(
    stage: &mut Stage,
    dest: Option<&Rooted>,
    options: &TreeReceiverOptions,
) -> Result<bool> {
    let journal = RelPath::new(JOURNAL)?;
    let bytes = match stage.state().reading()?.read(&journal, MAX_JOURNAL_BYTES) {
        Err(error) if error.io_kind() == Some(std::io::ErrorKind::NotFound) => return Ok(false),
        other => other?,
    };
    let bad = || {
        let path = journal.in_dir(stage.state().path());
        Error::invalid(format!("{} is not what pefo writes", path.display()))
            .hint("it tells how to end an interrupted change; see what changed it, then remove it and run again")
    };
    let (digest, body) = bytes
        .split_at_checked(65)
        .filter(|(digest, _)| digest.ends_with(b"\n"))
        .ok_or_else(bad)?;
    if digest.get(..64) != Some(Digest::of(body).to_string().as_bytes()) {
        return Err(bad());
    }
    let steps: Steps = serde_json::from_slice(body).map_err(|error| bad().with_source(error))?;
    let Some(dest) = dest else {
        return Err(bad());
    };
    take(&stage.staged, dest, &steps, options)?;
    stage.state().remove_file(&journal)?;
    stage.state().sync_dir(None)?;
    Ok(true)
}
