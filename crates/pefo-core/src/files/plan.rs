//! What it takes to bring a spare's files up to a generation; pure.
//!
//! Each file is judged by itself: one that is refused holds up no other. Nothing is ever deleted.

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;

use super::accounts::Ids;
use super::bundle::{FileEntry, Index, NewDirectory};
use super::list::FileList;
use super::path::HostPath;
use super::snapshot::{UNFIT_BITS, unfit};
use super::survey::{Local, Place, Survey};
use crate::error::Error;

/// The rule that lets nothing be written where everybody may rename; it can be overruled.
pub const PARENT_OPEN: &str = "files-parent-open";

/// What a plan goes by besides the facts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PlanRules {
    /// Rules that the operator overrules for this run.
    pub accepted: BTreeSet<String>,
    /// Files larger than so many bytes are not replaced: they could not be kept.
    pub max_kept_bytes: u64,
}

impl PlanRules {
    /// Nothing overruled; files up to `max_kept_bytes` are kept when they are replaced.
    pub fn new(max_kept_bytes: u64) -> Self {
        Self {
            accepted: BTreeSet::new(),
            max_kept_bytes,
        }
    }

    /// Overrules these.
    #[must_use]
    pub fn accept(mut self, rules: impl IntoIterator<Item = String>) -> Self {
        self.accepted.extend(rules);
        self
    }
}

/// A file that is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Step {
    /// Where.
    pub path: HostPath,
    /// What stands there, where anything does.
    pub replaces: Option<Replaced>,
    /// Bytes afterwards.
    pub size: u64,
    /// Permission bits afterwards.
    pub mode: u32,
    /// Owner and group afterwards, by name.
    pub owner: String,
    /// The same as this host's numbers.
    #[serde(skip)]
    pub ids: (u32, u32),
}

/// What a file is before it is replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Replaced {
    /// Bytes.
    pub size: u64,
    /// Permission bits.
    pub mode: u32,
    /// Whether its content is another one.
    pub content: bool,
    /// Whether it belongs to somebody else.
    pub owner: bool,
}

/// A directory that is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Made {
    /// Where.
    pub path: HostPath,
    /// Permission bits.
    pub mode: u32,
    /// Owner and group, by name.
    pub owner: String,
    /// The same as this host's numbers.
    #[serde(skip)]
    pub ids: (u32, u32),
}

/// A file that is not written, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// Which.
    pub path: HostPath,
    /// The rule.
    pub rule: &'static str,
    /// Why, as it reads after the path.
    pub message: String,
    /// What to do.
    #[serde(skip)]
    pub hint: &'static str,
}

impl Refusal {
    /// As an error.
    pub fn error(&self) -> Error {
        Error::refused(self.rule, format!("{}: {}", self.path, self.message)).hint(self.hint)
    }
}

/// What is to be done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct FilesPlan {
    /// Directories that are made, the highest first.
    pub directories: Vec<Made>,
    /// Files that are written.
    pub steps: Vec<Step>,
    /// Files that are as they should be.
    pub unchanged: usize,
    /// Listed here, and not in the generation: kept as they are.
    pub only_here: Vec<HostPath>,
    /// Files that are not written.
    pub refused: Vec<Refusal>,
    /// Directories of files that this host's list names: where a killed run may have left something.
    #[serde(skip)]
    pub(super) around: BTreeSet<HostPath>,
}

/// Plans from a generation's index, what stands here, this host's own list and its accounts.
pub fn plan(
    index: &Index,
    survey: &Survey,
    list: &FileList,
    ids: &Ids,
    rules: &PlanRules,
) -> FilesPlan {
    let mut plan = FilesPlan {
        only_here: survey.only_here.clone(),
        ..FilesPlan::default()
    };
    let mut needed = BTreeSet::new();
    for file in &index.files {
        if list.covers(&file.path) {
            plan.around.extend(file.path.ancestors());
        }
        match judge(file, index, survey, list, ids, rules) {
            Ok(Some(step)) => {
                let above = step.path.ancestors().into_iter();
                needed.extend(above.filter(|dir| survey.absent.contains(dir)));
                plan.steps.push(step);
            }
            Ok(None) => plan.unchanged += 1,
            Err(refusal) => plan.refused.push(refusal),
        }
    }
    let made = index.directories.iter();
    let made = made.filter(|dir| needed.contains(&dir.path));
    plan.directories = made
        .filter_map(|dir| {
            Some(Made {
                path: dir.path.clone(),
                mode: dir.mode,
                owner: format!("{}:{}", dir.owner, dir.group),
                ids: ids.pair(&dir.owner, &dir.group).ok()?,
            })
        })
        .collect();
    plan
}

/// What is to be done about one file.
fn judge(
    file: &FileEntry,
    index: &Index,
    survey: &Survey,
    list: &FileList,
    ids: &Ids,
    rules: &PlanRules,
) -> Result<Option<Step>, Refusal> {
    let refuse = |rule, message: String, hint| {
        Err(Refusal {
            path: file.path.clone(),
            rule,
            message,
            hint,
        })
    };
    let place = survey.places.get(&file.path);
    let Some(Place { way, local }) = place.filter(|_| list.covers(&file.path)) else {
        return refuse(
            "files-not-listed",
            "this host's own configuration does not list it".to_owned(),
            "where the spare is to have it, add it to [files] here too: both masters list the same",
        );
    };
    if file.mode & UNFIT_BITS != 0 {
        return Err(unfit(&file.path, file.mode));
    }
    if let Some(refusal) = way.refusal(&file.path)
        && !(refusal.rule == PARENT_OPEN && rules.accepted.contains(PARENT_OPEN))
    {
        return Err(refusal);
    }
    let account = "make the account here; Puppet's packages bring theirs";
    let unknown = |what: String| format!("{what} does not exist here");
    let pair = match ids.pair(&file.owner, &file.group) {
        Ok(pair) => pair,
        Err(what) => return refuse("files-owner", unknown(what), account),
    };
    for dir in absent_above(file, index, survey) {
        if let Err(what) = ids.pair(&dir.owner, &dir.group) {
            return refuse(
                "files-owner",
                format!("{}: {}", dir.path, unknown(what)),
                account,
            );
        }
        if dir.mode & 0o002 != 0 || dir.mode & !0o3777 != 0 {
            return refuse(
                "files-mode",
                format!(
                    "its directory {} would be made with mode {:04o}",
                    dir.path, dir.mode
                ),
                "chmod the directory on the active, or make it here",
            );
        }
    }
    let replaces = match local {
        Local::Absent => None,
        Local::Symlink => return Err(symlink(&file.path)),
        Local::Other => {
            return refuse(
                "files-in-the-way",
                "what stands there is no regular file".to_owned(),
                "take it away",
            );
        }
        Local::File {
            mode,
            owner,
            size,
            blake3,
        } => {
            let replaced = Replaced {
                size: *size,
                mode: *mode,
                content: *blake3 != Some(file.blake3),
                owner: *owner != pair,
            };
            if !replaced.content && !replaced.owner && *mode == file.mode {
                return Ok(None);
            }
            if *size > rules.max_kept_bytes {
                return refuse(
                    "files-too-large",
                    format!("what stands there has {size} bytes, too many to be kept"),
                    "move it away, or raise files.max_bytes here",
                );
            }
            Some(replaced)
        }
    };
    Ok(Some(Step {
        path: file.path.clone(),
        replaces,
        size: file.size,
        mode: file.mode,
        owner: format!("{}:{}", file.owner, file.group),
        ids: pair,
    }))
}

fn symlink(path: &HostPath) -> Refusal {
    Refusal {
        path: path.clone(),
        rule: "files-symlink",
        message: "a symlink stands there".to_owned(),
        hint: "take it away; what it leads to is not written through it",
    }
}

fn absent_above<'a>(
    file: &FileEntry,
    index: &'a Index,
    survey: &Survey,
) -> impl Iterator<Item = &'a NewDirectory> {
    let above = file.path.ancestors();
    let absent: BTreeSet<HostPath> = above
        .into_iter()
        .filter(|dir| survey.absent.contains(dir))
        .collect();
    let directories = index.directories.iter();
    directories.filter(move |dir| absent.contains(&dir.path))
}

impl FilesPlan {
    /// Whether anything is to be written.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// What was refused, an error for each rule.
    pub fn errors(&self) -> Vec<Error> {
        let rules: BTreeSet<&str> = self.refused.iter().map(|refusal| refusal.rule).collect();
        let of_rule = |rule: &str| {
            let mut all = self.refused.iter().filter(|refusal| refusal.rule == rule);
            let first = all.next()?;
            let error = first.error();
            Some(match all.count() {
                0 => error,
                more => Error::refused(
                    first.rule,
                    format!("{} and {more} more: {}", first.path, first.message),
                )
                .hint(first.hint),
            })
        };
        rules.into_iter().filter_map(of_rule).collect()
    }
}

impl fmt::Display for FilesPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Made {
            path, mode, owner, ..
        } in &self.directories
        {
            writeln!(f, "new dir    {path} (mode {mode:04o}, {owner})")?;
        }
        for step in &self.steps {
            write!(f, "{step}")?;
        }
        for Refusal {
            path,
            rule,
            message,
            ..
        } in &self.refused
        {
            writeln!(f, "refused    {path}: {message} [{rule}]")?;
        }
        for path in &self.only_here {
            writeln!(f, "only here  {path}: kept")?;
        }
        writeln!(f, "unchanged  {}", self.unchanged)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            path,
            size,
            mode,
            owner,
            ..
        } = self;
        let Some(before) = &self.replaces else {
            return writeln!(
                f,
                "new        {path} ({size} bytes, mode {mode:04o}, {owner})"
            );
        };
        let mut changes = Vec::new();
        if before.content {
            changes.push(format!("content, {} to {size} bytes", before.size));
        }
        if before.mode != *mode {
            changes.push(format!("mode {:04o} to {mode:04o}", before.mode));
        }
        if before.owner {
            changes.push(format!("owner to {owner}"));
        }
        writeln!(f, "changed    {path} ({})", changes.join("; "))
    }
}
