//! What it takes to make a tree another: computed from values alone, then carried out.
//!
//! A plan is made from what stands and from the entries that came. It refuses entries that no tree can
//! have: something below a file, or a directory gone while something stays in it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use pefo_core::{Digest, Error, RelPath, Result};

use crate::tree::entry::{Entry, Node};
use crate::tree::scan::MODE_BITS;

/// What stands, by path.
pub(crate) type Tree = BTreeMap<RelPath, Node>;

/// The steps from one tree to the next.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Plan {
    /// What stands where another kind of thing will: removed before anything is put there, the deepest
    /// first.
    pub clear: Vec<RelPath>,
    /// Directories that are made, or get other permission bits; parents first.
    pub directories: Vec<(RelPath, u32)>,
    /// Entries whose content must come over the line, by their place in the list.
    pub content: Vec<u32>,
    /// Entries whose content stands elsewhere in the tree, and where.
    pub copies: Vec<(u32, RelPath)>,
    /// Entries whose content stands already, with another mode or time.
    pub adjust: Vec<u32>,
    /// What is gone, the deepest first.
    pub delete: Vec<RelPath>,
}

impl Plan {
    /// From `local` to what `entries` say; `extra` are the paths of `local` that are gone although no
    /// entry names them. Where `moved` is false nobody looks for content elsewhere in the tree, which
    /// costs a pass over all of it.
    ///
    /// # Errors
    /// `Refused` (`tree-shape`, `tree-mode`), where the entries are of no tree.
    pub fn make(
        local: &BTreeMap<RelPath, Node>,
        entries: &[Entry],
        extra: impl IntoIterator<Item = RelPath>,
        moved: bool,
    ) -> Result<Self> {
        let gone = gone(local, entries, extra);
        let mut plan = Self::default();
        let mut by_digest: Option<HashMap<(Digest, u64), &RelPath>> = None;
        for (index, entry) in (0_u32..).zip(entries) {
            let Some(node) = &entry.node else { continue };
            check(local, entries, &gone, entry, node)?;
            let stands = local.get(&entry.path);
            if stands.is_some_and(|stands| stands.file().is_some() != node.file().is_some()) {
                in_the_way(local, entries, &gone, &entry.path, &mut plan.clear)?;
            }
            match (node, stands) {
                (Node::Directory { mode }, Some(Node::Directory { mode: now })) if mode == now => {}
                (Node::Directory { mode }, _) => {
                    plan.directories.push((entry.path.clone(), *mode));
                }
                (Node::File(file), Some(Node::File(now))) if file.same_content(now) => {
                    if file != now {
                        plan.adjust.push(index);
                    }
                }
                (Node::File(file), _) => {
                    let known = by_digest.get_or_insert_with(|| match moved {
                        true => contents(local),
                        false => HashMap::new(),
                    });
                    match known.get(&(file.digest, file.size)) {
                        Some(from) if file.size > 0 => plan.copies.push((index, (*from).clone())),
                        _ => plan.content.push(index),
                    }
                }
            }
        }
        // What is deeper sorts behind what holds it.
        plan.clear.sort_unstable_by(|a, b| b.cmp(a));
        plan.clear.dedup();
        let cleared: BTreeSet<&RelPath> = plan.clear.iter().collect();
        let left = gone
            .into_iter()
            .rev()
            .filter(|path| !cleared.contains(path));
        plan.delete = left.collect();
        Ok(plan)
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// All that will not stand any more: what is extra, what an entry says is gone, and all below it.
fn gone(
    local: &Tree,
    entries: &[Entry],
    extra: impl IntoIterator<Item = RelPath>,
) -> BTreeSet<RelPath> {
    let mut gone: BTreeSet<RelPath> = extra.into_iter().collect();
    for entry in entries.iter().filter(|entry| entry.node.is_none()) {
        if local.contains_key(&entry.path) {
            gone.insert(entry.path.clone());
            gone.extend(below(local, &entry.path).cloned());
        }
    }
    gone
}

/// Everything below a directory.
fn below<'t>(local: &'t Tree, path: &RelPath) -> impl Iterator<Item = &'t RelPath> + use<'t> {
    let prefix = format!("{path}/");
    local
        .range(path.clone()..)
        .map(|(path, _)| path)
        .skip(1)
        // Between a directory and what is in it stand names like `dir-2`.
        .take_while({
            let prefix = prefix.clone();
            move |path| path.as_str() < prefix.as_str() || path.as_str().starts_with(&prefix)
        })
        .filter(move |path| path.as_str().starts_with(&prefix))
}

fn find<'e>(entries: &'e [Entry], path: &RelPath) -> Option<&'e Entry> {
    let at = entries
        .binary_search_by(|entry| entry.path.cmp(path))
        .ok()?;
    entries.get(at)
}

/// Whether the entry can stand where it says.
fn check(
    local: &Tree,
    entries: &[Entry],
    gone: &BTreeSet<RelPath>,
    entry: &Entry,
    node: &Node,
) -> Result<()> {
    if node.mode() & !MODE_BITS != 0 {
        let message = format!("{} would have mode {:04o}", entry.path, node.mode());
        return Err(
            Error::refused("tree-mode", message).hint("set-id and sticky bits do not cross")
        );
    }
    let Some(parent) = entry.path.parent() else {
        return Ok(());
    };
    let stands = match find(entries, &parent) {
        Some(entry) => entry.node.as_ref(),
        None if gone.contains(&parent) => None,
        None => local.get(&parent),
    };
    match stands {
        Some(Node::Directory { .. }) => Ok(()),
        _ => Err(shape(format!("{} would stand in no directory", entry.path))),
    }
}

/// Removes what stands at the path and all below it, which must be gone anyway.
fn in_the_way(
    local: &Tree,
    entries: &[Entry],
    gone: &BTreeSet<RelPath>,
    path: &RelPath,
    clear: &mut Vec<RelPath>,
) -> Result<()> {
    clear.push(path.clone());
    for below in below(local, path) {
        if !gone.contains(below) && find(entries, below).is_none_or(|entry| entry.node.is_some()) {
            return Err(shape(format!(
                "{path} would be no directory, and {below} stays in it"
            )));
        }
        clear.push(below.clone());
    }
    Ok(())
}

fn contents(local: &Tree) -> HashMap<(Digest, u64), &RelPath> {
    local
        .iter()
        .filter_map(|(path, node)| node.file().map(|file| ((file.digest, file.size), path)))
        .collect()
}

fn shape(message: String) -> Error {
    Error::refused("tree-shape", message)
        .hint("the source changed while it was scanned, or it is no tree; run it again")
        .retryable(true)
}

/// How much may be removed at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeleteGuard {
    /// At most so many files and directories. Default 10,000.
    pub max_count: u64,
    /// At most this share of all that stands, in hundredths. Default 20.
    pub max_percent: u32,
    /// So many are always allowed, whatever their share. Default 10.
    pub free_count: u64,
}

impl Default for DeleteGuard {
    fn default() -> Self {
        Self {
            max_count: 10_000,
            max_percent: 20,
            free_count: 10,
        }
    }
}

impl DeleteGuard {
    /// Sets how many files and directories may go at once.
    #[must_use]
    pub const fn max_count(mut self, count: u64) -> Self {
        self.max_count = count;
        self
    }

    /// Sets which share of all that stands may go at once, in hundredths.
    #[must_use]
    pub const fn max_percent(mut self, percent: u32) -> Self {
        self.max_percent = percent;
        self
    }

    /// Sets how many may always go.
    #[must_use]
    pub const fn free_count(mut self, count: u64) -> Self {
        self.free_count = count;
        self
    }

    /// Why so many of `standing` must not go, where they must not.
    pub fn holds(&self, deletes: u64, standing: u64) -> Option<String> {
        if deletes <= self.free_count {
            return None;
        }
        if deletes > self.max_count {
            return Some(format!(
                "mass-delete: {deletes} of {standing} would go, at most {} may",
                self.max_count
            ));
        }
        let share = u128::from(deletes) * 100;
        (share > u128::from(standing) * u128::from(self.max_percent)).then(|| {
            format!(
                "mass-delete: {deletes} of {standing} would go, at most {} % may",
                self.max_percent
            )
        })
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
