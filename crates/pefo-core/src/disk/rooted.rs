//! Changing what somebody else may rewrite at any moment: a tree that is ours below one directory.
//!
//! Everything goes relative to one directory handle. The directory that holds the name is opened by
//! openat2 with `RESOLVE_BENEATH` and `RESOLVE_NO_SYMLINKS`, and the name itself is made, renamed or
//! removed in that directory's handle, never followed: no symlink that is planted anywhere below can
//! lead a write outside. Regular files and directories are all it makes.
//!
//! Nothing here is durable by itself: [`Rooted::sync_dir`], [`NewFile::finish_durable`] and
//! [`Rooted::sync_filesystem`] are called by who knows the order.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

use super::{Attributes, Beneath, Disk, EntryKind, NewFile, Operation, apply_attributes};
use crate::digest_cache::Identity;
use crate::error::{Error, Result};
use crate::path::RelPath;

/// What stands at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// File, directory, or something that is never opened.
    pub kind: EntryKind,
    /// Permission bits.
    pub mode: u32,
    /// What tells whether a file is still the same.
    pub identity: Identity,
}

/// A directory handle below which files are made, renamed and removed, never outside.
#[derive(Debug)]
pub struct Rooted {
    disk: Disk,
    handle: Arc<OwnedFd>,
    path: PathBuf,
    /// The directory used last: a tree is mostly written one directory after the other.
    recent: Mutex<Option<(String, Arc<OwnedFd>)>>,
}

impl Rooted {
    /// Opens the directory itself; `path` is trusted, what lies below it is not.
    ///
    /// # Errors
    /// `Io`, where it is not a directory or cannot be opened.
    pub fn open(disk: &Disk, path: &Path) -> Result<Self> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let handle = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|error| Error::io("open", path, error.into()))?;
        Ok(Self {
            disk: disk.clone(),
            handle: Arc::new(handle),
            path: path.to_owned(),
            recent: Mutex::new(None),
        })
    }

    /// Where the directory was when it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The same directory for reading: this very one, also where it was renamed meanwhile.
    ///
    /// # Errors
    /// `Io`.
    pub fn reading(&self) -> Result<Beneath> {
        let handle = self
            .handle
            .try_clone()
            .map_err(|error| Error::io("open", &self.path, error))?;
        Ok(Beneath::of(handle, self.path.clone()))
    }

    /// A directory below, as a root of its own.
    ///
    /// # Errors
    /// `Io`, or `Refused` (`spool-symlink`).
    pub fn dir(&self, path: &RelPath) -> Result<Self> {
        let full = path.in_dir(&self.path);
        let handle = self
            .open_at(
                path.as_str(),
                OFlags::DIRECTORY | OFlags::RDONLY,
                Mode::empty(),
            )
            .map_err(|error| self.error("open", &full, error))?;
        Ok(Self {
            disk: self.disk.clone(),
            handle: Arc::new(handle),
            path: full,
            recent: Mutex::new(None),
        })
    }

    fn open_at(&self, path: &str, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        let resolve =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        Ok(openat2(&*self.handle, path, flags, mode, resolve)?)
    }

    /// The handle of the directory that holds `path`.
    fn holder(&self, path: &RelPath) -> Result<Arc<OwnedFd>> {
        let Some((parent, _)) = path.as_str().rsplit_once('/') else {
            return Ok(self.handle.clone());
        };
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, handle)) = &*recent
            && known == parent
        {
            return Ok(handle.clone());
        }
        let opened = self
            .open_at(parent, OFlags::DIRECTORY | OFlags::RDONLY, Mode::empty())
            .map_err(|error| self.error("open", &self.path.join(parent), error))?;
        let handle = Arc::new(opened);
        *recent = Some((parent.to_owned(), handle.clone()));
        Ok(handle)
    }

    fn forget(&self) {
        *self.recent.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn error(&self, verb: &str, path: &Path, error: io::Error) -> Error {
        match Errno::from_io_error(&error) {
            // With O_DIRECTORY the kernel says ENOTDIR of a symlink at the end of the path.
            Some(Errno::LOOP | Errno::XDEV | Errno::NOTDIR) => leads_away(path),
            _ => super::disk_error(verb, path, error),
        }
    }

    fn act<T>(
        &self,
        verb: &str,
        path: &RelPath,
        operation: impl for<'p> Fn(&'p Path) -> Operation<'p>,
        act: impl FnOnce() -> io::Result<T>,
    ) -> Result<T> {
        let full = path.in_dir(&self.path);
        self.disk.act(verb, &full, operation(&full), act)
    }

    /// Makes a new file for streaming; nothing may stand at its path, its directory must.
    ///
    /// # Errors
    /// `Io`, or `Refused` (`spool-symlink`) where a directory on the way is a symlink.
    pub fn create(&self, path: &RelPath, attributes: &Attributes) -> Result<NewFile> {
        let holder = self.holder(path)?;
        let file = self.act(
            "create",
            path,
            |at| Operation::CreateFile(at),
            || {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
                let flags = flags | OFlags::CLOEXEC;
                // Private until its attributes are set: a secret is never readable in between.
                Ok(rustix::fs::openat(
                    &*holder,
                    path.file_name(),
                    flags,
                    Mode::from(0o600),
                )?)
            },
        )?;
        Ok(self.new_file(file, path, attributes))
    }

    /// Opens a file that was left unfinished, to go on at its end.
    ///
    /// # Errors
    /// `Io`, `Refused` (`spool-symlink`), or `Invalid` where it is no regular file.
    pub fn resume(&self, path: &RelPath, attributes: &Attributes) -> Result<NewFile> {
        let full = path.in_dir(&self.path);
        let file = self
            .open_at(
                path.as_str(),
                OFlags::WRONLY | OFlags::APPEND,
                Mode::empty(),
            )
            .map_err(|error| self.error("open", &full, error))?;
        let stat =
            rustix::fs::fstat(&file).map_err(|error| Error::io("examine", &full, error.into()))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            let message = format!("{} is not a regular file", full.display());
            return Err(Error::invalid(message));
        }
        Ok(self.new_file(file, path, attributes))
    }

    fn new_file(&self, file: OwnedFd, path: &RelPath, attributes: &Attributes) -> NewFile {
        let full = path.in_dir(&self.path);
        NewFile::new(self.disk.clone(), File::from(file), full, *attributes)
    }

    /// Makes a directory with these permission bits; fine where it exists already, whatever its bits.
    /// Its parent must exist.
    ///
    /// # Errors
    /// `Io`, where something else stands there; `Refused` (`spool-symlink`), where that is a symlink or
    /// worse.
    pub fn create_dir(&self, path: &RelPath, mode: u32) -> Result<()> {
        match self.stat(path)? {
            Some(standing) if standing.kind == EntryKind::Directory => return Ok(()),
            Some(standing) if standing.kind == EntryKind::Other => {
                return Err(leads_away(&path.in_dir(&self.path)));
            }
            _ => {}
        }
        let holder = self.holder(path)?;
        self.act(
            "create directory",
            path,
            |at| Operation::CreateDir(at),
            || {
                // Only for its owner until the umask can no longer matter.
                Ok(rustix::fs::mkdirat(
                    &*holder,
                    path.file_name(),
                    Mode::from(mode & 0o700),
                )?)
            },
        )?;
        self.set_attributes(path, &Attributes::mode(mode))
    }

    /// [`Rooted::create_dir`] for every directory on the way to `path`.
    ///
    /// # Errors
    /// As [`Rooted::create_dir`].
    pub fn create_parents(&self, path: &RelPath, mode: u32) -> Result<()> {
        let Some(parent) = path.parent() else {
            return Ok(());
        };
        if self.holder(path).is_ok() {
            return Ok(());
        }
        self.create_parents(&parent, mode)?;
        self.create_dir(&parent, mode)
    }

    /// What stands at `path`; `None` where nothing does.
    ///
    /// # Errors
    /// `Io`, or `Refused` (`spool-symlink`) where a directory on the way is a symlink.
    pub fn stat(&self, path: &RelPath) -> Result<Option<Standing>> {
        let full = path.in_dir(&self.path);
        let holder = match self.holder(path) {
            Err(error) if error.io_kind() == Some(io::ErrorKind::NotFound) => return Ok(None),
            other => other?,
        };
        match rustix::fs::statat(&*holder, path.file_name(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(Standing::from(&stat))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(Error::io("examine", &full, error.into())),
        }
    }

    /// Sets owner, mode and time of a file or directory.
    ///
    /// # Errors
    /// `Io`, `Refused` (`spool-symlink`).
    pub fn set_attributes(&self, path: &RelPath, attributes: &Attributes) -> Result<()> {
        let full = path.in_dir(&self.path);
        let file = self
            .open_at(path.as_str(), OFlags::RDONLY, Mode::empty())
            .map_err(|error| self.error("open", &full, error))?;
        let operation = Operation::SetAttributes(&full);
        self.disk.act("set attributes of", &full, operation, || {
            apply_attributes(&File::from(file), attributes)
        })
    }

    /// Renames to a path below `target`, replacing a file there.
    ///
    /// # Errors
    /// `Io`, `Refused` (`spool-symlink`).
    pub fn rename(&self, from: &RelPath, target: &Self, to: &RelPath) -> Result<()> {
        let (old, new) = (self.holder(from)?, target.holder(to)?);
        let (source, full) = (from.in_dir(&self.path), to.in_dir(&target.path));
        let operation = Operation::Rename(&source, &full);
        let renamed = self.disk.act("rename to", &full, operation, || {
            Ok(rustix::fs::renameat(
                &*old,
                from.file_name(),
                &*new,
                to.file_name(),
            )?)
        });
        // A directory may have moved, and with it the one used last.
        self.forget();
        target.forget();
        renamed
    }

    /// Gives a file a second name below `target`.
    ///
    /// # Errors
    /// `Io`, `Refused` (`spool-symlink`).
    pub fn hard_link(&self, existing: &RelPath, target: &Self, new: &RelPath) -> Result<()> {
        let (old, holder) = (self.holder(existing)?, target.holder(new)?);
        let (source, full) = (existing.in_dir(&self.path), new.in_dir(&target.path));
        target
            .disk
            .act("link", &full, Operation::Link(&source, &full), || {
                // Not followed: of a symlink the link itself would get a second name, and be found out.
                let (from, to) = (existing.file_name(), new.file_name());
                Ok(rustix::fs::linkat(
                    &*old,
                    from,
                    &*holder,
                    to,
                    AtFlags::empty(),
                )?)
            })
    }

    /// Removes a file's name; fine where it is gone already.
    ///
    /// # Errors
    /// `Io`, a directory included; `Refused` (`spool-symlink`).
    pub fn remove_file(&self, path: &RelPath) -> Result<()> {
        if self.stat(path)?.is_none() {
            return Ok(());
        }
        let holder = self.holder(path)?;
        self.act(
            "remove",
            path,
            |at| Operation::RemoveFile(at),
            || {
                Ok(rustix::fs::unlinkat(
                    &*holder,
                    path.file_name(),
                    AtFlags::empty(),
                )?)
            },
        )
    }

    /// Removes an empty directory; fine where it is gone already.
    ///
    /// # Errors
    /// `Io`, one that is not empty included; `Refused` (`spool-symlink`).
    pub fn remove_dir(&self, path: &RelPath) -> Result<()> {
        if self.stat(path)?.is_none() {
            return Ok(());
        }
        let holder = self.holder(path)?;
        self.forget();
        self.act(
            "remove directory",
            path,
            |at| Operation::RemoveDir(at),
            || {
                Ok(rustix::fs::unlinkat(
                    &*holder,
                    path.file_name(),
                    AtFlags::REMOVEDIR,
                )?)
            },
        )
    }

    /// Removes what stands at `path` and all below it, without following symlinks; fine where nothing
    /// does.
    ///
    /// # Errors
    /// `Io`, `Refused` (`spool-symlink`, `spool-entries`); what was removed by then stays removed.
    pub fn remove_tree(&self, path: &RelPath) -> Result<()> {
        match self.stat(path)? {
            None => return Ok(()),
            Some(standing) if standing.kind != EntryKind::Directory => {
                return self.remove_file(path);
            }
            Some(_) => {}
        }
        // Through a handle of its own: names that can be no RelPath are removed too.
        self.forget();
        let full = path.in_dir(&self.path);
        let handle = self
            .open_at(
                path.as_str(),
                OFlags::DIRECTORY | OFlags::RDONLY,
                Mode::empty(),
            )
            .map_err(|error| self.error("open", &full, error))?;
        empty_dir(&self.disk, &handle, &full)?;
        self.remove_dir(path)
    }

    /// fsync of one file: its bytes are durable afterwards.
    ///
    /// # Errors
    /// `Io`, `Refused` (`spool-symlink`).
    pub fn sync_file(&self, path: &RelPath) -> Result<()> {
        let full = path.in_dir(&self.path);
        let handle = self
            .open_at(path.as_str(), OFlags::RDONLY, Mode::empty())
            .map_err(|error| self.error("open", &full, error))?;
        let operation = Operation::SyncFile(&full);
        self.disk
            .act("sync", &full, operation, || Ok(rustix::fs::fsync(&handle)?))
    }

    /// fsync of the directory at `path`, or of the root itself: the names in it are durable afterwards.
    ///
    /// # Errors
    /// `Io`, `Refused` (`spool-symlink`).
    pub fn sync_dir(&self, path: Option<&RelPath>) -> Result<()> {
        let full = path.map_or_else(|| self.path.clone(), |path| path.in_dir(&self.path));
        let name = path.map_or(".", RelPath::as_str);
        let handle = self
            .open_at(name, OFlags::DIRECTORY | OFlags::RDONLY, Mode::empty())
            .map_err(|error| self.error("open", &full, error))?;
        let operation = Operation::SyncDir(&full);
        self.disk
            .act("sync", &full, operation, || Ok(rustix::fs::fsync(&handle)?))
    }

    /// syncfs: everything written so far to the file system is durable afterwards.
    ///
    /// # Errors
    /// `Io`.
    pub fn sync_filesystem(&self) -> Result<()> {
        self.disk.act(
            "sync file system of",
            &self.path,
            Operation::SyncFilesystem(&self.path),
            || Ok(rustix::fs::syncfs(&*self.handle)?),
        )
    }
}

fn leads_away(path: &Path) -> Error {
    let message = format!(
        "{} is a symlink, leads outside its directory or is none",
        path.display()
    );
    Error::refused("spool-symlink", message)
}

/// Removes all that is in an open directory.
fn empty_dir(disk: &Disk, dir: &OwnedFd, path: &Path) -> Result<()> {
    let failed = |error: Errno| Error::io("list", path, error.into());
    let mut entries = Vec::new();
    for entry in rustix::fs::Dir::read_from(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            entries.push((entry.file_name().to_owned(), entry.file_type()));
        }
    }
    for (name, kind) in entries {
        let full = path.join(name.to_string_lossy().as_ref());
        if kind == FileType::Directory {
            let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let below = rustix::fs::openat(dir, &name, flags, Mode::empty())
                .map_err(|error| Error::io("open", &full, error.into()))?;
            empty_dir(disk, &below, &full)?;
            disk.act(
                "remove directory",
                &full,
                Operation::RemoveDir(&full),
                || Ok(rustix::fs::unlinkat(dir, &name, AtFlags::REMOVEDIR)?),
            )?;
        } else {
            disk.act("remove", &full, Operation::RemoveFile(&full), || {
                Ok(rustix::fs::unlinkat(dir, &name, AtFlags::empty())?)
            })?;
        }
    }
    Ok(())
}

impl From<&rustix::fs::Stat> for Standing {
    #[allow(
        clippy::unnecessary_cast,
        clippy::useless_conversion,
        reason = "the kernel's numbers have other widths on other architectures"
    )]
    fn from(stat: &rustix::fs::Stat) -> Self {
        let time = |seconds, nanoseconds| crate::digest_cache::FileTime {
            seconds,
            nanoseconds,
        };
        Self {
            kind: match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile => EntryKind::File,
                FileType::Directory => EntryKind::Directory,
                _ => EntryKind::Other,
            },
            mode: stat.st_mode & 0o7777,
            identity: Identity {
                device: stat.st_dev as u64,
                inode: stat.st_ino as u64,
                size: u64::try_from(stat.st_size).unwrap_or(0),
                mtime: time(stat.st_mtime as i64, stat.st_mtime_nsec as u32),
                ctime: time(stat.st_ctime as i64, stat.st_ctime_nsec as u32),
            },
        }
    }
}

#[cfg(test)]
#[path = "rooted_tests.rs"]
mod tests;
