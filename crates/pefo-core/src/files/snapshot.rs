//! Reading the files on the active: all that the list names, or a refusal.
//!
//! Nothing is followed: a symlink anywhere on the way, a device or a FIFO is refused by name. A file that
//! changes while it is read is read again. What nobody should have, a file that everybody may write or that
//! runs as its owner, is not spread to another host.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use super::accounts::{AccountName, Accounts};
use super::bundle::{Bundle, FileEntry, Index, NewDirectory};
use super::list::{FileList, Need};
use super::path::HostPath;
use super::survey::Way;
use crate::digest::Digest;
use crate::digest_cache::Identity;
use crate::disk::{Beneath, is_temp_name};
use crate::error::{Error, Result};

/// How much a list may come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes of all files together. Default 16 MiB.
    pub max_bytes: u64,
    /// Files. Default 10,000.
    pub max_files: usize,
    /// Directories below a directory that is listed. Default 16.
    pub max_depth: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_bytes: 16 << 20,
            max_files: 10_000,
            max_depth: 16,
        }
    }
}

impl Limits {
    /// Sets the bytes of all files together.
    #[must_use]
    pub const fn max_bytes(mut self, max_bytes: u64) -> Self {
        self.max_bytes = max_bytes;
        self
    }

    /// # Errors
    /// `Refused` (`files-too-large`).
    pub(super) fn check(&self, files: usize, bytes: u64) -> Result<()> {
        let message = if files > self.max_files {
            format!("there are more than {} files", self.max_files)
        } else if bytes > self.max_bytes {
            format!(
                "the files are larger than {} bytes together",
                self.max_bytes
            )
        } else {
            return Ok(());
        };
        Err(Error::refused("files-too-large", message)
            .hint("list less, or raise files.max_bytes on both masters"))
    }
}

/// Bits that no file may have that crosses: set-id, sticky, writable by everybody.
pub(super) const UNFIT_BITS: u32 = 0o7002;

/// What the list names, as it stands on a host.
#[derive(Debug)]
#[non_exhaustive]
pub struct Snapshot {
    /// All of it.
    pub bundle: Bundle,
    /// Wanted, and not there.
    pub missing: Vec<HostPath>,
}

impl Snapshot {
    /// Reads everything; `root` stands for `/`.
    ///
    /// # Errors
    /// `Refused`: `files-symlink`, `files-special`, `files-parent-open`, `files-mode`, `files-owner`,
    /// `files-name`, `files-too-large`, `files-changing`; `Io`.
    pub fn read(
        root: &Path,
        list: &FileList,
        accounts: &dyn Accounts,
        limits: &Limits,
    ) -> Result<Self> {
        let mut reader = Reader {
            root,
            beneath: Beneath::open(root)?,
            list,
            limits,
            names: Names::of(accounts),
            files: BTreeMap::new(),
            bytes: 0,
        };
        for entry in list.entries() {
            if let Some(refusal) = Way::to(root, &entry.path)?.refusal(&entry.path) {
                return Err(refusal.error());
            }
            reader.take(&entry.path, 0)?;
        }
        let Reader {
            files, mut names, ..
        } = reader;
        let found = |path: &HostPath| files.keys().any(|file: &HostPath| file.is_within(path));
        let wanted = list.entries().iter();
        let missing = wanted
            .filter(|entry| entry.need == Need::Wanted && !found(&entry.path))
            .map(|entry| entry.path.clone())
            .collect();
        let mut directories = Vec::new();
        let above: BTreeSet<HostPath> = files.keys().flat_map(HostPath::ancestors).collect();
        for path in above {
            directories.push(names.directory(root, &path)?);
        }
        let (files, contents): (Vec<_>, Vec<_>) = files.into_values().unzip();
        let index = Index { directories, files };
        Ok(Self {
            bundle: Bundle::new(index, contents.concat())?,
            missing,
        })
    }
}

/// What of a list is wanted and not there; `root` stands for `/`.
pub fn missing(root: &Path, list: &FileList) -> Vec<HostPath> {
    let wanted = list.entries().iter();
    let wanted = wanted.filter(|entry| entry.need == Need::Wanted);
    wanted
        .filter(|entry| !holds_a_file(&entry.path.below(root)))
        .map(|entry| entry.path.clone())
        .collect()
}

/// Whether it is a file, or a directory with anything in it.
fn holds_a_file(path: &Path) -> bool {
    match std::fs::read_dir(path) {
        Ok(mut entries) => entries.next().is_some(),
        Err(_) => path.is_file(),
    }
}

struct Reader<'a> {
    root: &'a Path,
    beneath: Beneath,
    list: &'a FileList,
    limits: &'a Limits,
    names: Names<'a>,
    files: BTreeMap<HostPath, (FileEntry, Vec<u8>)>,
    bytes: u64,
}

impl Reader<'_> {
    fn take(&mut self, path: &HostPath, depth: usize) -> Result<()> {
        let full = path.below(self.root);
        let meta = match std::fs::symlink_metadata(&full) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(|error| Error::io("examine", &full, error))?,
        };
        if meta.is_dir() {
            return self.take_directory(path, meta.permissions().mode(), depth);
        }
        if meta.file_type().is_symlink() {
            return Err(symlink(path));
        }
        if !meta.is_file() {
            let message = format!("{path} is no regular file");
            return Err(Error::refused("files-special", message)
                .hint("name it in files.exclude, or take it away"));
        }
        // Listed by itself, and in a directory that is listed.
        if self.files.contains_key(path) {
            return Ok(());
        }
        let (meta, content) = self.read(path)?;
        let mode = meta.permissions().mode() & 0o7777;
        if mode & UNFIT_BITS != 0 {
            return Err(unfit(path, mode).error());
        }
        let (owner, group) = self.names.of_both(path, meta.uid(), meta.gid())?;
        self.bytes += content.len() as u64;
        let entry = FileEntry {
            path: path.clone(),
            mode,
            owner,
            group,
            size: content.len() as u64,
            blake3: Digest::of(&content),
        };
        self.files.insert(path.clone(), (entry, content));
        self.limits.check(self.files.len(), self.bytes)
    }

    fn take_directory(&mut self, path: &HostPath, mode: u32, depth: usize) -> Result<()> {
        if mode & 0o002 != 0 {
            return Err(super::survey::open_directory(path, mode).error());
        }
        if depth > self.limits.max_depth {
            let message = format!(
                "{path} lies more than {} directories deep",
                self.limits.max_depth
            );
            return Err(Error::refused("files-too-large", message)
                .hint("list what is needed path by path, or name it in files.exclude"));
        }
        for name in names_in(&path.below(self.root))? {
            let Some(name) = name else {
                let message = format!("{path} holds a name that is no plain text");
                return Err(Error::refused("files-name", message)
                    .hint("rename it, or list what is needed path by path"));
            };
            let below = path
                .join(&name)
                .map_err(|error| Error::refused("files-name", error.message().to_owned()))?;
            if !self.list.is_excluded(&below) && !is_temp_name(&name) {
                self.take(&below, depth + 1)?;
            }
        }
        Ok(())
    }

    /// A file that stayed the same while it was read.
    fn read(&self, path: &HostPath) -> Result<(std::fs::Metadata, Vec<u8>)> {
        const TRIES: usize = 3;
        let full = path.below(self.root);
        let left = self.limits.max_bytes.saturating_sub(self.bytes);
        for _ in 0..TRIES {
            let opened = self.beneath.file(path.relative());
            let mut file = opened.map_err(|error| match error.rule() {
                Some(_) => symlink(path),
                None => error,
            })?;
            let examine = |file: &std::fs::File| {
                file.metadata()
                    .map_err(|error| Error::io("examine", &full, error))
            };
            let before = examine(&file)?;
            let mut content = Vec::new();
            std::io::Read::by_ref(&mut file)
                .take(left.saturating_add(1))
                .read_to_end(&mut content)
                .map_err(|error| Error::io("read", &full, error))?;
            let after = examine(&file)?;
            if Identity::from(&before) == Identity::from(&after) {
                return Ok((after, content));
            }
        }
        let message = format!("{path} changes while it is read");
        Err(Error::refused("files-changing", message)
            .hint("run it again once it is at rest, or name it in files.exclude")
            .retryable(true))
    }
}

/// The names in a directory, sorted; `None` is one that is not UTF-8.
pub(super) fn names_in(dir: &Path) -> Result<Vec<Option<String>>> {
    let failed = |error| Error::io("list", dir, error);
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        names.push(entry.map_err(failed)?.file_name().into_string().ok());
    }
    names.sort();
    Ok(names)
}

fn symlink(path: &HostPath) -> Error {
    Way::Symlink(path.clone())
        .refusal(path)
        .map_or_else(|| Error::invalid("no symlink"), |refusal| refusal.error())
}

/// A file with bits that none may have that crosses.
pub(super) fn unfit(path: &HostPath, mode: u32) -> super::plan::Refusal {
    super::plan::Refusal {
        path: path.clone(),
        rule: "files-mode",
        message: format!(
            "its mode {mode:04o} lets everybody write it, or has a set-id or sticky bit"
        ),
        hint: "take the bits off on the active, and push again",
    }
}

/// Numbers made names, each asked for once.
struct Names<'a> {
    accounts: &'a dyn Accounts,
    users: BTreeMap<u32, Option<AccountName>>,
    groups: BTreeMap<u32, Option<AccountName>>,
}

impl<'a> Names<'a> {
    fn of(accounts: &'a dyn Accounts) -> Self {
        Self {
            accounts,
            users: BTreeMap::new(),
            groups: BTreeMap::new(),
        }
    }

    fn of_both(
        &mut self,
        path: &HostPath,
        uid: u32,
        gid: u32,
    ) -> Result<(AccountName, AccountName)> {
        if !self.users.contains_key(&uid) {
            self.users.insert(uid, self.accounts.user_name(uid)?);
        }
        if !self.groups.contains_key(&gid) {
            self.groups.insert(gid, self.accounts.group_name(gid)?);
        }
        let nobody = |kind: &str, id: u32| {
            let message = format!("{path} belongs to {kind} {id}, which has no name here");
            Error::refused("files-owner", message).hint("chown it to an account that exists")
        };
        let owner = self.users.get(&uid).cloned().flatten();
        let group = self.groups.get(&gid).cloned().flatten();
        Ok((
            owner.ok_or_else(|| nobody("user", uid))?,
            group.ok_or_else(|| nobody("group", gid))?,
        ))
    }

    fn directory(&mut self, root: &Path, path: &HostPath) -> Result<NewDirectory> {
        let full = path.below(root);
        let meta =
            std::fs::symlink_metadata(&full).map_err(|error| Error::io("examine", &full, error))?;
        let (owner, group) = self.of_both(path, meta.uid(), meta.gid())?;
        Ok(NewDirectory {
            path: path.clone(),
            mode: meta.permissions().mode() & 0o3777,
            owner,
            group,
        })
    }
}
