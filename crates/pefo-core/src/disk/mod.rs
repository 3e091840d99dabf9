//! Every change to a disk.
//!
//! The rest of pefo may read files as it likes, but writes, renames and deletes only here (clippy's
//! disallowed methods hold it to that). What it guarantees:
//!
//! - [`Disk::publish`]: temp file beside the target, owner, mode, fsync, rename, fsync of the
//!   directory. A reader sees the old file or the new one, whole; after power loss too.
//! - [`Disk::publish_all`]: the same for many files, with one sync of the file system in place of an fsync
//!   each. Each is the old one or the new one; which of them are new after a crash is not said.
//! - [`Disk::append`]: in place, then fsync: the one exception, for logs whose torn tail the reader
//!   trims (`inventory.txt`).
//! - Trees nobody can see yet ([`Disk::create`], [`Disk::create_dir_unsynced`], [`Disk::hard_link`])
//!   are written without an fsync each; [`Disk::sync_filesystem`] makes them durable before the rename
//!   that shows them.
//! - Every fsync is needed: [`power::without_each_sync`] takes out one after the other, and a test
//!   notices.
//! - Every operation passes a [`Hook`] first: tests stop the world at the nth operation
//!   ([`fault::StopAt`]) or play power loss ([`power::Recorder`]).
//!
//! Temp names start with `.pefo-` and end in `.tmp`; [`is_temp_name`] tells them, and
//! [`Disk::remove_temps`] clears what a killed run left.

mod beneath;
mod directory;
pub mod fault;
mod file;
mod free;
pub mod power;
mod rooted;
mod usage;

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

pub use beneath::{Beneath, EntryKind};
pub use file::NewFile;
pub use free::{Room, free_bytes, room};
pub use rooted::{Rooted, Standing};
pub use usage::Usage;

use crate::error::{Error, ErrorKind, Result};

/// One change to a disk, as hooks see it: before it happens and after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Operation<'a> {
    /// A directory is made.
    CreateDir(&'a Path),
    /// A new file is made, empty.
    CreateFile(&'a Path),
    /// Bytes are written to a file.
    Write(&'a Path),
    /// A file is cut to a length.
    Truncate(&'a Path),
    /// Owner, mode or mtime are set.
    SetAttributes(&'a Path),
    /// fsync of a file.
    SyncFile(&'a Path),
    /// fsync of a directory.
    SyncDir(&'a Path),
    /// syncfs of the file system that holds the path.
    SyncFilesystem(&'a Path),
    /// A rename, replacing what stands at the target.
    Rename(&'a Path, &'a Path),
    /// A hard link: an existing file gets a second name.
    Link(&'a Path, &'a Path),
    /// A file's name is removed.
    RemoveFile(&'a Path),
    /// An empty directory is removed.
    RemoveDir(&'a Path),
}

/// Sees every operation; an error from `before` is what the caller gets instead of the operation.
pub trait Hook: Send + Sync {
    /// Called before the operation; an error stops it.
    ///
    /// # Errors
    /// Whatever the test wants the disk to say.
    fn before(&self, operation: Operation<'_>) -> io::Result<()>;
    /// Called after the operation succeeded.
    fn after(&self, _operation: Operation<'_>) {}
}

/// Owner, mode and time of a file to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attributes {
    /// Permission bits.
    pub mode: u32,
    /// Numeric user and group; `None` leaves the process's own.
    pub owner: Option<(u32, u32)>,
    /// Modification time; `None` leaves the time of writing.
    pub mtime: Option<SystemTime>,
}

impl Attributes {
    /// The given permission bits; owner and time as they come.
    pub const fn mode(mode: u32) -> Self {
        Self {
            mode,
            owner: None,
            mtime: None,
        }
    }

    /// Sets user and group.
    #[must_use]
    pub const fn owner(mut self, uid: u32, gid: u32) -> Self {
        self.owner = Some((uid, gid));
        self
    }

    /// Sets the modification time.
    #[must_use]
    pub const fn mtime(mut self, mtime: SystemTime) -> Self {
        self.mtime = Some(mtime);
        self
    }

    /// Mode and owner of an existing file.
    ///
    /// # Errors
    /// `Io`, where it cannot be examined.
    pub fn of(path: &Path) -> Result<Self> {
        let meta =
            std::fs::symlink_metadata(path).map_err(|error| Error::io("examine", path, error))?;
        Ok(Self::mode(meta.permissions().mode() & 0o7777).owner(meta.uid(), meta.gid()))
    }
}

/// Whether `name` is a temp file of ours.
pub fn is_temp_name(name: &str) -> bool {
    name.starts_with(".pefo-") && name.ends_with(".tmp")
}

/// The handle through which disks are changed; cheap to clone.
#[derive(Clone, Default)]
pub struct Disk {
    hook: Option<Arc<dyn Hook>>,
}

impl std::fmt::Debug for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Disk")
            .field("hooked", &self.hook.is_some())
            .finish()
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is the one module that changes disks"
)]
impl Disk {
    /// The real disk, without a hook.
    pub fn new() -> Self {
        Self::default()
    }

    /// The real disk, every operation passing `hook` first.
    pub fn with_hook(hook: Arc<dyn Hook>) -> Self {
        Self { hook: Some(hook) }
    }

    fn act<T>(
        &self,
        verb: &str,
        path: &Path,
        operation: Operation<'_>,
        act: impl FnOnce() -> io::Result<T>,
    ) -> Result<T> {
        let outcome = match &self.hook {
            Some(hook) => hook.before(operation).and_then(|()| act()),
            None => act(),
        };
        let value = outcome.map_err(|error| disk_error(verb, path, error))?;
        if let Some(hook) = &self.hook {
            hook.after(operation);
        }
        Ok(value)
    }

    /// Replaces `target` by `bytes`, durably and whole.
    ///
    /// # Errors
    /// `Io`; the target is then the old file or the new one, and a left-over temp file is removed.
    pub fn publish(&self, target: &Path, bytes: &[u8], attributes: &Attributes) -> Result<()> {
        let temp = temp_beside(target)?;
        let written = (|| {
            let mut file = self.create(&temp, attributes)?;
            file.write(bytes)?;
            file.finish_durable()
        })();
        match written.and_then(|()| self.rename(&temp, target)) {
            Ok(()) => Ok(()),
            Err(error) => {
                // Best effort: the run that failed says why; the next run clears what stays.
                drop(self.remove_file(&temp));
                Err(error)
            }
        }
    }

    /// Replaces many files by their bytes, each as [`Disk::publish`] does; fewer than a handful one by one,
    /// more behind one sync of the file system. All are on one file system.
    ///
    /// # Errors
    /// `Io`; each target is then the old file or the new one, and left-over temp files are removed.
    pub fn publish_all(&self, files: &[(PathBuf, &[u8], Attributes)]) -> Result<()> {
        const ONE_BY_ONE: usize = 4;
        if files.len() <= ONE_BY_ONE {
            let mut files = files.iter();
            return files.try_for_each(|(target, bytes, attributes)| {
                self.publish(target, bytes, attributes)
            });
        }
        let mut temps = Vec::with_capacity(files.len());
        let published = self.publish_through(files, &mut temps);
        if published.is_err() {
            for temp in temps {
                drop(self.remove_file_unsynced(&temp));
            }
        }
        published
    }

    fn publish_through(
        &self,
        files: &[(PathBuf, &[u8], Attributes)],
        temps: &mut Vec<PathBuf>,
    ) -> Result<()> {
        let mut directories = BTreeSet::new();
        for (target, bytes, attributes) in files {
            let temp = temp_beside(target)?;
            temps.push(temp.clone());
            let mut file = self.create(&temp, attributes)?;
            file.write(bytes)?;
            file.finish()?;
            directories.insert(parent_of(target)?);
        }
        if let Some(first) = directories.first() {
            self.sync_filesystem(first)?;
        }
        for (temp, (target, ..)) in temps.iter().zip(files) {
            self.rename_unsynced(temp, target)?;
        }
        directories.iter().try_for_each(|dir| self.sync_dir(dir))
    }

    /// Replaces a cache: whole for every reader, but not durable; for what can be made anew.
    ///
    /// # Errors
    /// `Io`; the target is then the old file or the new one.
    pub fn publish_cache(
        &self,
        target: &Path,
        bytes: &[u8],
        attributes: &Attributes,
    ) -> Result<()> {
        let temp = temp_beside(target)?;
        let written = (|| {
            let mut file = self.create(&temp, attributes)?;
            file.write(bytes)?;
            file.finish()?;
            self.rename_unsynced(&temp, target)
        })();
        if written.is_err() {
            drop(self.remove_file(&temp));
        }
        written
    }

    /// Makes a new file for streaming; it must not exist. Durable only after
    /// [`NewFile::finish_durable`] or a later [`Disk::sync_filesystem`].
    ///
    /// # Errors
    /// `Io`, where it exists or cannot be made.
    pub fn create(&self, path: &Path, attributes: &Attributes) -> Result<NewFile> {
        let file = self.act("create", path, Operation::CreateFile(path), || {
            // Private until its attributes are set: a secret is never readable in between.
            OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
                .open(path)
        })?;
        Ok(NewFile::new(
            self.clone(),
            file,
            path.to_owned(),
            *attributes,
        ))
    }

    /// Appends `bytes` to `path`, which must be `expected_len` bytes long, and fsyncs it.
    ///
    /// # Errors
    /// `Refused` with rule `append-moved` where the length differs; `Io` otherwise. A torn tail is
    /// possible after a crash; the reader trims it.
    pub fn append(&self, path: &Path, expected_len: u64, bytes: &[u8]) -> Result<()> {
        let mut file = OpenOptions::new()
            .append(true)
            .open(path)
            .map_err(|error| Error::io("open", path, error))?;
        let len = file
            .metadata()
            .map_err(|error| Error::io("examine", path, error))?
            .len();
        if len != expected_len {
            return Err(Error::refused(
                "append-moved",
                format!("{} is {len} bytes long, not {expected_len}", path.display()),
            ));
        }
        self.act("append to", path, Operation::Write(path), || {
            file.write_all(bytes)
        })?;
        self.act("sync", path, Operation::SyncFile(path), || file.sync_all())
    }

    /// Cuts `path` to `len` bytes and fsyncs it.
    ///
    /// # Errors
    /// `Io`.
    pub fn truncate(&self, path: &Path, len: u64) -> Result<()> {
        let file = OpenOptions::new()
            .write(true)
            .open(path)
            .map_err(|error| Error::io("open", path, error))?;
        self.act("truncate", path, Operation::Truncate(path), || {
            file.set_len(len)
        })?;
        self.act("sync", path, Operation::SyncFile(path), || file.sync_all())
    }

    /// Renames `from` to `to` (replacing a file) and fsyncs the directories of both.
    ///
    /// # Errors
    /// `Io`.
    pub fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.rename_unsynced(from, to)?;
        let (old, new) = (parent_of(from)?, parent_of(to)?);
        self.sync_dir(new)?;
        if old != new {
            self.sync_dir(old)
        } else {
            Ok(())
        }
    }

    fn rename_unsynced(&self, from: &Path, to: &Path) -> Result<()> {
        self.act("rename to", to, Operation::Rename(from, to), || {
            std::fs::rename(from, to)
        })
    }

    /// Gives the file `existing` a second name; durable after the directory is synced.
    ///
    /// # Errors
    /// `Io`.
    pub fn hard_link(&self, existing: &Path, new: &Path) -> Result<()> {
        self.act("link", new, Operation::Link(existing, new), || {
            std::fs::hard_link(existing, new)
        })
    }

    /// Sets owner, mode and time of what exists; does not follow a symlink.
    ///
    /// # Errors
    /// `Io`, a symlink included.
    pub fn set_attributes(&self, path: &Path, attributes: &Attributes) -> Result<()> {
        self.act(
            "set attributes of",
            path,
            Operation::SetAttributes(path),
            || {
                let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
                let file = OpenOptions::new()
                    .read(true)
                    .custom_flags(flags.bits().cast_signed())
                    .open(path)?;
                apply_attributes(&file, attributes)
            },
        )
    }

    /// Removes a file's name, durably; fine where it is gone already.
    ///
    /// # Errors
    /// `Io`.
    pub fn remove_file(&self, path: &Path) -> Result<()> {
        if self.unlink(path)? {
            self.sync_dir(parent_of(path)?)?;
        }
        Ok(())
    }

    /// Removes a file's name within a tree that nobody can see yet; fine where it is gone already.
    ///
    /// # Errors
    /// `Io`.
    pub fn remove_file_unsynced(&self, path: &Path) -> Result<()> {
        self.unlink(path).map(drop)
    }

    /// False where it is gone already.
    fn unlink(&self, path: &Path) -> Result<bool> {
        match std::fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            _ => self.act("remove", path, Operation::RemoveFile(path), || {
                std::fs::remove_file(path)
            })?,
        }
        Ok(true)
    }

    /// fsync of one existing file, whoever wrote it.
    ///
    /// # Errors
    /// `Io`.
    pub fn sync_file(&self, path: &Path) -> Result<()> {
        let file = File::open(path).map_err(|error| Error::io("open", path, error))?;
        self.act("sync", path, Operation::SyncFile(path), || file.sync_all())
    }

    /// fsync of a directory: the names in it are durable afterwards.
    ///
    /// # Errors
    /// `Io`.
    pub fn sync_dir(&self, dir: &Path) -> Result<()> {
        let handle = File::open(dir).map_err(|error| Error::io("open", dir, error))?;
        self.act("sync", dir, Operation::SyncDir(dir), || handle.sync_all())
    }

    /// syncfs: everything written so far to the file system that holds `path` is durable afterwards.
    ///
    /// # Errors
    /// `Io`.
    pub fn sync_filesystem(&self, path: &Path) -> Result<()> {
        let handle = File::open(path).map_err(|error| Error::io("open", path, error))?;
        self.act(
            "sync file system of",
            path,
            Operation::SyncFilesystem(path),
            || Ok(rustix::fs::syncfs(&handle)?),
        )
    }
}

/// A file's whole content, at most `max_bytes`; not through a symlink, and only a regular file.
///
/// # Errors
/// `Io` where it cannot be read, `Invalid` where it is larger or not a regular file.
#[expect(clippy::disallowed_methods, reason = "opens for reading only")]
pub fn read_capped(path: &Path, max_bytes: u64) -> Result<Vec<u8>> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)
        .map_err(|error| Error::io("open", path, error))?;
    read_regular(file, path, max_bytes)
}

fn read_regular(file: File, path: &Path, max_bytes: u64) -> Result<Vec<u8>> {
    let meta = file
        .metadata()
        .map_err(|error| Error::io("examine", path, error))?;
    if !meta.is_file() {
        return Err(Error::invalid(format!(
            "{} is not a regular file",
            path.display()
        )));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(meta.len().min(max_bytes)).unwrap_or(0));
    let limit = max_bytes.saturating_add(1);
    file.take(limit)
        .read_to_end(&mut bytes)
        .map_err(|error| Error::io("read", path, error))?;
    if bytes.len() as u64 > max_bytes {
        return Err(Error::invalid(format!(
            "{} is larger than {max_bytes} bytes",
            path.display()
        )));
    }
    Ok(bytes)
}

fn apply_attributes(file: &File, attributes: &Attributes) -> io::Result<()> {
    if let Some((uid, gid)) = attributes.owner {
        let meta = file.metadata()?;
        if (meta.uid(), meta.gid()) != (uid, gid) {
            std::os::unix::fs::fchown(file, Some(uid), Some(gid))?;
        }
    }
    // After fchown, which clears set-id bits.
    file.set_permissions(std::fs::Permissions::from_mode(attributes.mode))?;
    if let Some(mtime) = attributes.mtime {
        filetime::set_file_handle_times(file, None, Some(mtime.into()))?;
    }
    Ok(())
}

fn parent_of(path: &Path) -> Result<&Path> {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Ok(Path::new(".")),
        Some(parent) => Ok(parent),
        None => Err(Error::invalid(format!(
            "{} has no directory",
            path.display()
        ))),
    }
}

fn temp_beside(target: &Path) -> Result<PathBuf> {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    // Long names are cut, not refused: a certname may fill the file system's limit by itself.
    let stem: String = name.chars().take(60).collect();
    Ok(parent_of(target)?.join(format!(".pefo-{}-{count}-{stem}.tmp", std::process::id())))
}

pub(crate) fn disk_error(verb: &str, path: &Path, error: io::Error) -> Error {
    let hint = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Some("free some space and run it again; nothing half-written is in use")
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            Some("the file system is mounted read-only; look at the kernel's log")
        }
        io::ErrorKind::PermissionDenied => {
            Some("check owner and mode of the directory, and who runs pefo")
        }
        _ => None,
    };
    let error = Error::io(verb, path, error);
    match hint {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

/// Whether `error` says that the disk is full, read-only or not ours to write.
pub fn is_disk_refusal(error: &Error) -> bool {
    error.kind() == ErrorKind::Io
        && matches!(
            error.io_kind(),
            Some(
                io::ErrorKind::StorageFull
                    | io::ErrorKind::QuotaExceeded
                    | io::ErrorKind::ReadOnlyFilesystem
                    | io::ErrorKind::PermissionDenied
            )
        )
}

#[cfg(test)]
mod tests;
