//! What stands on the spare in the places that a generation names; nothing is changed.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use super::bundle::Index;
use super::list::FileList;
use super::path::HostPath;
use super::plan::{PARENT_OPEN, Refusal};
use super::snapshot::names_in;
use crate::digest::Digest;
use crate::disk::{Beneath, is_temp_name};
use crate::error::{Error, Result};

/// The way to a file, through its directories.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// Directories all the way, and nobody else can put another one in their place.
    Clear,
    /// This directory and those below it do not exist; what does is clear.
    Missing(HostPath),
    /// This is a symlink.
    Symlink(HostPath),
    /// This is something else than a directory.
    Blocked(HostPath),
    /// Everybody may rename what is in this directory, which has these permission bits.
    Open(HostPath, u32),
}

impl Way {
    /// Looks at every directory on the way to `path`.
    ///
    /// # Errors
    /// `Io`.
    pub(super) fn to(root: &Path, path: &HostPath) -> Result<Self> {
        let above = path.ancestors();
        let mut open = None;
        for (at, dir) in above.iter().enumerate() {
            let full = dir.below(root);
            let meta = match std::fs::symlink_metadata(&full) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    return Ok(open.unwrap_or_else(|| Self::Missing(dir.clone())));
                }
                other => other.map_err(|error| Error::io("examine", &full, error))?,
            };
            if meta.file_type().is_symlink() {
                return Ok(Self::Symlink(dir.clone()));
            }
            if !meta.is_dir() {
                return Ok(Self::Blocked(dir.clone()));
            }
            let mode = meta.permissions().mode() & 0o7777;
            // In a sticky one, as /tmp, nobody replaces what is somebody else's; but everybody adds to it.
            let is_sticky_above = mode & 0o1000 != 0 && at + 1 < above.len();
            if mode & 0o002 != 0 && !is_sticky_above && open.is_none() {
                open = Some(Self::Open(dir.clone(), mode));
            }
        }
        Ok(open.unwrap_or(Self::Clear))
    }

    /// Why nothing is read or written at `path` by this way.
    pub(super) fn refusal(&self, path: &HostPath) -> Option<Refusal> {
        let (rule, message, hint) = match self {
            Self::Clear | Self::Missing(_) => return None,
            Self::Open(dir, mode) => {
                return Some(Refusal {
                    path: path.clone(),
                    ..open_directory(dir, *mode)
                });
            }
            Self::Symlink(dir) if dir == path => (
                "files-symlink",
                "it is a symlink, which is not followed".to_owned(),
                "list the file that it leads to; or name it in files.exclude, or take it away",
            ),
            Self::Symlink(dir) => (
                "files-symlink",
                format!("{dir} is a symlink, which is not followed"),
                "list the path that it leads to in its stead, and name this one in files.exclude",
            ),
            Self::Blocked(dir) => (
                "files-in-the-way",
                format!("{dir} is no directory"),
                "take it away, or name the path in files.exclude",
            ),
        };
        Some(Refusal {
            path: path.clone(),
            rule,
            message,
            hint,
        })
    }
}

/// A directory in which everybody may rename.
pub(super) fn open_directory(path: &HostPath, mode: u32) -> Refusal {
    Refusal {
        path: path.clone(),
        rule: PARENT_OPEN,
        message: format!("everybody may write to the directory {path} (mode {mode:04o})"),
        hint: "chmod o-w it",
    }
}

/// What stands in a file's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Local {
    /// Nothing.
    Absent,
    /// A regular file.
    File {
        /// Permission bits.
        mode: u32,
        /// User and group, as numbers.
        owner: (u32, u32),
        /// Bytes.
        size: u64,
        /// The digest of its content; not read where the size tells that it is another one.
        blake3: Option<Digest>,
    },
    /// A symlink.
    Symlink,
    /// A directory, a device, a FIFO.
    Other,
}

/// A file's place and the way to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The way.
    pub way: Way,
    /// What stands there.
    pub local: Local,
}

/// What stands on this host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Survey {
    /// For each file of the index that this host's list covers.
    pub places: BTreeMap<HostPath, Place>,
    /// Directories of the index that do not exist here.
    pub absent: BTreeSet<HostPath>,
    /// Files that the list covers and the index does not have.
    pub only_here: Vec<HostPath>,
}

impl Survey {
    /// Looks at all that `index` names and `list` covers, and at nothing else; `root` stands for `/`.
    ///
    /// # Errors
    /// `Io`.
    pub fn take(root: &Path, index: &Index, list: &FileList) -> Result<Self> {
        let beneath = Beneath::open(root)?;
        let mut survey = Self::default();
        let mut named = BTreeSet::new();
        for file in &index.files {
            named.insert(&file.path);
            if !list.covers(&file.path) {
                continue;
            }
            let way = Way::to(root, &file.path)?;
            let local = match way {
                Way::Clear | Way::Open(..) => look(root, &beneath, &file.path, file.size)?,
                _ => Local::Absent,
            };
            if matches!(way, Way::Missing(_) | Way::Open(..)) {
                let above = file.path.ancestors().into_iter();
                let absent = |dir: &HostPath| dir.below(root).symlink_metadata().is_err();
                survey.absent.extend(above.filter(absent));
            }
            survey
                .places
                .insert(file.path.clone(), Place { way, local });
        }
        for entry in list.entries() {
            beside(root, list, &entry.path, &named, 0, &mut survey.only_here);
        }
        survey.only_here.sort();
        survey.only_here.dedup();
        Ok(survey)
    }
}

fn look(root: &Path, beneath: &Beneath, path: &HostPath, size: u64) -> Result<Local> {
    let full = path.below(root);
    let meta = match std::fs::symlink_metadata(&full) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Local::Absent),
        other => other.map_err(|error| Error::io("examine", &full, error))?,
    };
    if meta.file_type().is_symlink() {
        return Ok(Local::Symlink);
    }
    if !meta.is_file() {
        return Ok(Local::Other);
    }
    let blake3 = (meta.len() == size)
        .then(|| {
            let file = beneath.file(path.relative())?;
            let read = Digest::of_reader(file);
            read.map_err(|error| Error::io("read", &full, error))
        })
        .transpose()?
        .map(|(digest, _)| digest);
    Ok(Local::File {
        mode: meta.permissions().mode() & 0o7777,
        owner: (meta.uid(), meta.gid()),
        size: meta.len(),
        blake3,
    })
}

/// Finds what is below a listed path and not in the index. Only to be told: what cannot be looked at is left
/// out.
fn beside(
    root: &Path,
    list: &FileList,
    path: &HostPath,
    named: &BTreeSet<&HostPath>,
    depth: usize,
    found: &mut Vec<HostPath>,
) {
    const MAX_DEPTH: usize = 16;
    const MAX_FOUND: usize = 10_000;
    if list.is_excluded(path) || depth > MAX_DEPTH || found.len() >= MAX_FOUND {
        return;
    }
    let full = path.below(root);
    let Ok(meta) = std::fs::symlink_metadata(&full) else {
        return;
    };
    if !meta.is_dir() {
        if !named.contains(path) {
            found.push(path.clone());
        }
        return;
    }
    for name in names_in(&full).unwrap_or_default().into_iter().flatten() {
        if let Ok(below) = path.join(&name)
            && !is_temp_name(&name)
        {
            beside(root, list, &below, named, depth + 1, found);
        }
    }
}
