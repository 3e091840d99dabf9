//! Reading what somebody else may rewrite at any moment: the spool.
//!
//! Everything is opened relative to one directory handle by openat2 with `RESOLVE_BENEATH` and
//! `RESOLVE_NO_SYMLINKS`, non-blocking, and only regular files are read, up to a cap: no symlink,
//! FIFO, device or endless file of the directory's owner can lead a reader astray.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Dir, FileType, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

use super::read_regular;
use crate::error::{Error, Result};
use crate::path::RelPath;

/// What kind of thing a directory entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symlink, FIFO, socket or device: never opened.
    Other,
}

/// A directory handle below which files are opened, never outside.
#[derive(Debug)]
pub struct Beneath {
    pub(super) handle: OwnedFd,
    path: PathBuf,
}

impl Beneath {
    /// Opens the directory itself; `path` is trusted, what lies below it is not.
    ///
    /// # Errors
    /// `Io`, where it is not a directory or cannot be opened.
    pub fn open(path: &Path) -> Result<Self> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let handle = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|error| Error::io("open", path, error.into()))?;
        Ok(Self {
            handle,
            path: path.to_owned(),
        })
    }

    pub(super) const fn of(handle: OwnedFd, path: PathBuf) -> Self {
        Self { handle, path }
    }

    /// Where the directory was when it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn open_at(&self, path: &RelPath, flags: OFlags) -> Result<OwnedFd> {
        let resolve =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        openat2(&self.handle, path.as_str(), flags, Mode::empty(), resolve).map_err(|error| {
            let full = path.in_dir(&self.path);
            match error {
                // With O_DIRECTORY the kernel says ENOTDIR of a symlink at the end of the path.
                Errno::LOOP | Errno::XDEV | Errno::NOTDIR => Error::refused(
                    "spool-symlink",
                    format!(
                        "{} is a symlink, leads outside its directory or is none",
                        full.display()
                    ),
                ),
                other => Error::io("open", &full, other.into()),
            }
        })
    }

    /// Opens a directory below.
    ///
    /// # Errors
    /// `Io`, or `Refused` (`spool-symlink`).
    pub fn dir(&self, path: &RelPath) -> Result<Self> {
        let handle = self.open_at(path, OFlags::DIRECTORY | OFlags::RDONLY)?;
        Ok(Self {
            handle,
            path: path.in_dir(&self.path),
        })
    }

    /// Opens a regular file below, for reading.
    ///
    /// # Errors
    /// `Io`, `Refused` (`spool-symlink`), or `Invalid` where it is no regular file.
    pub fn file(&self, path: &RelPath) -> Result<File> {
        let file = File::from(self.open_at(path, OFlags::RDONLY)?);
        let full = path.in_dir(&self.path);
        let meta = file
            .metadata()
            .map_err(|error| Error::io("examine", &full, error))?;
        if !meta.is_file() {
            return Err(Error::invalid(format!(
                "{} is not a regular file",
                full.display()
            )));
        }
        Ok(file)
    }

    /// A file's whole content, at most `max_bytes`.
    ///
    /// # Errors
    /// As [`Beneath::file`], and `Invalid` where it is larger.
    pub fn read(&self, path: &RelPath, max_bytes: u64) -> Result<Vec<u8>> {
        read_regular(self.file(path)?, &path.in_dir(&self.path), max_bytes)
    }

    /// The entries of the directory, sorted; at most `max_entries`.
    ///
    /// Names that are no valid [`RelPath`] component are left out: nothing can refer to them.
    ///
    /// # Errors
    /// `Io`, or `Refused` (`spool-entries`) where there are more.
    pub fn entries(&self, max_entries: usize) -> Result<Vec<(RelPath, EntryKind)>> {
        let (mut entries, is_whole) = self.some_entries(max_entries)?;
        if !is_whole {
            let message = format!(
                "{} holds more than {max_entries} entries",
                self.path.display()
            );
            return Err(Error::refused("spool-entries", message));
        }
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(entries)
    }

    /// The first `max_entries` entries in the kernel's order, and whether these are all.
    pub(super) fn some_entries(
        &self,
        max_entries: usize,
    ) -> Result<(Vec<(RelPath, EntryKind)>, bool)> {
        let fail = |error: Errno| Error::io("list", &self.path, error.into());
        let mut entries = Vec::new();
        let mut seen = 0_usize;
        for entry in Dir::read_from(&self.handle).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let name = match entry.file_name().to_str() {
                Ok("." | "..") => continue,
                Ok(name) => name,
                Err(_) => "",
            };
            seen += 1;
            if seen > max_entries {
                return Ok((entries, false));
            }
            let kind = match entry.file_type() {
                FileType::RegularFile => EntryKind::File,
                FileType::Directory => EntryKind::Directory,
                _ => EntryKind::Other,
            };
            if let Ok(path) = RelPath::new(name) {
                entries.push((path, kind));
            }
        }
        Ok((entries, true))
    }
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "tests lay out hostile directories by hand"
)]
mod tests {
    use super::*;

    fn rel(path: &str) -> RelPath {
        RelPath::new(path).unwrap()
    }

    #[test]
    fn a_symlink_anywhere_on_the_way_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("real")).unwrap();
        std::fs::write(dir.path().join("real/secret"), "x").unwrap();
        std::os::unix::fs::symlink("real", dir.path().join("link")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("passwd")).unwrap();
        let beneath = Beneath::open(dir.path()).unwrap();
        assert_eq!(beneath.read(&rel("real/secret"), 10).unwrap(), b"x");
        for path in ["link/secret", "passwd"] {
            assert_eq!(
                beneath.read(&rel(path), 10).unwrap_err().rule(),
                Some("spool-symlink"),
                "{path}"
            );
        }
        let kinds: Vec<_> = beneath
            .entries(10)
            .unwrap()
            .into_iter()
            .map(|(p, k)| (p.to_string(), k))
            .collect();
        assert!(kinds.contains(&("link".into(), EntryKind::Other)));
    }

    #[test]
    fn a_fifo_does_not_hang_the_reader() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, Mode::from(0o644)).unwrap();
        let error = Beneath::open(dir.path())
            .unwrap()
            .read(&rel("fifo"), 10)
            .unwrap_err();
        assert!(error.to_string().contains("not a regular file"), "{error}");
    }

    #[test]
    fn more_bytes_or_entries_than_allowed_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a"), "12345").unwrap();
        std::fs::write(dir.path().join("b"), "").unwrap();
        let beneath = Beneath::open(dir.path()).unwrap();
        assert_eq!(beneath.read(&rel("a"), 5).unwrap().len(), 5);
        assert!(beneath.read(&rel("a"), 4).is_err());
        assert_eq!(
            beneath.entries(1).unwrap_err().rule(),
            Some("spool-entries")
        );
    }
}
