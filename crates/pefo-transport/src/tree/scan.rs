//! What a directory holds, as entries in order.
//!
//! A file whose identity the [`DigestCache`] knows is not read. Any other is read and hashed, between
//! two looks at its identity: one that changes meanwhile is read again, and given up after a few
//! times. What cannot be read is named and keeps nothing else from being scanned; whoever deletes by
//! a scan looks at [`Scan::is_complete`] first. Symlinks, special files and names that are no
//! [`RelPath`] are left out and named.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use pefo_core::cancel::Cancel;
use pefo_core::digest_cache::{DigestCache, Identity, identify};
use pefo_core::disk::{Disk, EntryKind, Rooted, Standing, is_temp_name};
use pefo_core::{Digest, Error, ErrorKind, RelPath, Result};
use rustix::fs::{AtFlags, Dir, Mode, OFlags};

use super::entry::{FileNode, Node};

/// How often a file that changes under the reader's eyes is read before it is given up.
const TRIES: usize = 3;

/// What a directory holds.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Scan {
    /// Files and directories by path, in order; the root itself is not among them.
    pub entries: Vec<(RelPath, Node)>,
    /// What no tree can hold.
    pub left_out: Vec<LeftOut>,
    /// What could not be read, or changed as often as it was.
    pub unreadable: Vec<Error>,
    /// Files that were read, and their bytes; all others were known.
    pub read: (u64, u64),
}

/// Something that is in no tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// Where it is.
    pub path: PathBuf,
    /// What it is.
    pub why: &'static str,
}

impl Scan {
    /// Whether all was read, so that what is not in it is not there.
    pub fn is_complete(&self) -> bool {
        self.unreadable.is_empty()
    }

    /// What stands at a path.
    pub fn get(&self, path: &RelPath) -> Option<&Node> {
        let at = self.entries.binary_search_by(|(known, _)| known.cmp(path));
        at.ok()
            .and_then(|at| self.entries.get(at))
            .map(|(_, node)| node)
    }
}

/// Which permission bits are part of a tree. Set-id and sticky bits are not: they would let one host
/// give away the rights of another.
pub const MODE_BITS: u32 = 0o777;

struct Scanner<'a> {
    cache: &'a mut DigestCache,
    cancel: &'a Cancel,
    now: SystemTime,
    scan: Scan,
}

/// Scans what is below `root`, which must be a directory. `now` is the system's clock.
///
/// # Errors
/// `Io` where the root itself cannot be read; `Cancelled`.
pub fn scan(
    root: &Path,
    cache: &mut DigestCache,
    now: SystemTime,
    cancel: &Cancel,
) -> Result<Scan> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    let handle = rustix::fs::open(root, flags, Mode::empty())
        .map_err(|error| Error::io("open", root, error.into()))?;
    let mut scanner = Scanner {
        cache,
        cancel,
        now,
        scan: Scan::default(),
    };
    scanner.directory(&handle, root, None)?;
    let mut scan = scanner.scan;
    scan.entries.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    Ok(scan)
}

/// What stands at each of some paths, in their order; `None` where nothing does.
pub type Found = Vec<(RelPath, Option<Node>)>;

/// Looks at some paths only: what stands at each, in the order of the paths.
///
/// # Errors
/// `Io` where the root itself cannot be read; `Cancelled`. What else cannot be read is in `unreadable`,
/// and left out of the answer.
pub fn look(
    root: &Path,
    paths: &[RelPath],
    cache: &mut DigestCache,
    now: SystemTime,
    cancel: &Cancel,
) -> Result<(Found, Scan)> {
    let rooted = Rooted::open(&Disk::new(), root)?;
    let beneath = rooted.reading()?;
    let mut scanner = Scanner {
        cache,
        cancel,
        now,
        scan: Scan::default(),
    };
    let mut found = Vec::with_capacity(paths.len());
    for path in paths {
        let full = path.in_dir(root);
        let standing = match rooted.stat(path) {
            Ok(Some(standing)) => standing,
            Ok(None) => {
                found.push((path.clone(), None));
                continue;
            }
            Err(error) => {
                scanner.scan.unreadable.push(error);
                continue;
            }
        };
        match standing.kind {
            EntryKind::Directory => found.push((path.clone(), Some(directory(&standing)))),
            EntryKind::File => {
                let open = || beneath.file(path);
                scanner.file(open, path.clone(), &full, standing)?;
                found.extend(
                    scanner
                        .scan
                        .entries
                        .pop()
                        .map(|(path, node)| (path, Some(node))),
                );
            }
            _ => scanner.leave_out(full, "it is neither a file nor a directory"),
        }
    }
    Ok((found, scanner.scan))
}

fn is_gone(error: &Error) -> bool {
    error.io_kind() == Some(io::ErrorKind::NotFound)
}

fn directory(standing: &Standing) -> Node {
    Node::Directory {
        mode: standing.mode & MODE_BITS,
    }
}

impl Scanner<'_> {
    fn leave_out(&mut self, path: PathBuf, why: &'static str) {
        self.scan.left_out.push(LeftOut { path, why });
    }

    fn directory(&mut self, handle: &OwnedFd, full: &Path, at: Option<&RelPath>) -> Result<()> {
        self.cancel.check()?;
        let entries = match Dir::read_from(handle).and_then(Iterator::collect::<Result<Vec<_>, _>>)
        {
            Ok(entries) => entries,
            Err(error) => {
                let error = Error::io("list", full, error.into());
                // Of an unreadable root nothing can be said at all.
                return match at {
                    None => Err(error),
                    Some(_) => {
                        self.scan.unreadable.push(error);
                        Ok(())
                    }
                };
            }
        };
        for entry in entries {
            let name = match entry.file_name().to_str() {
                Ok("." | "..") => continue,
                Ok(name) if is_temp_name(name) => continue,
                Ok(name) => name,
                Err(_) => {
                    let name = entry.file_name().to_string_lossy();
                    self.leave_out(full.join(name.as_ref()), "its name is not UTF-8");
                    continue;
                }
            };
            self.entry(handle, full, at, name)?;
        }
        Ok(())
    }

    fn entry(
        &mut self,
        parent: &OwnedFd,
        parent_path: &Path,
        at: Option<&RelPath>,
        name: &str,
    ) -> Result<()> {
        let path = match at {
            Some(at) => RelPath::new(format!("{at}/{name}")),
            None => RelPath::new(name),
        };
        let Ok(path) = path else {
            self.leave_out(
                parent_path.join(name),
                "its name is no path that a tree can hold",
            );
            return Ok(());
        };
        let full = parent_path.join(name);
        let standing = match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Standing::from(&stat),
            // Gone since the directory was listed: not there.
            Err(rustix::io::Errno::NOENT) => return Ok(()),
            Err(error) => {
                self.scan
                    .unreadable
                    .push(Error::io("examine", &full, error.into()));
                return Ok(());
            }
        };
        match standing.kind {
            EntryKind::Directory => {
                let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                match rustix::fs::openat(parent, name, flags, Mode::empty()) {
                    Ok(handle) => {
                        self.scan.entries.push((path.clone(), directory(&standing)));
                        self.directory(&handle, &full, Some(&path))
                    }
                    Err(error) => {
                        self.scan
                            .unreadable
                            .push(Error::io("open", &full, error.into()));
                        Ok(())
                    }
                }
            }
            EntryKind::File => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                let open = || {
                    rustix::fs::openat(parent, name, flags, Mode::empty())
                        .map(File::from)
                        .map_err(|error| Error::io("open", &full, error.into()))
                };
                self.file(open, path, &full, standing)
            }
            _ => {
                self.leave_out(full, "it is neither a file nor a directory");
                Ok(())
            }
        }
    }

    fn file(
        &mut self,
        open: impl Fn() -> Result<File>,
        path: RelPath,
        full: &Path,
        standing: Standing,
    ) -> Result<()> {
        let known = self.cache.get(&standing.identity);
        let read = match known {
            Some(digest) => Ok(Some((standing.identity, digest))),
            None => self.read(open, full),
        };
        match read {
            Ok(Some((identity, digest))) => {
                let file = FileNode {
                    mode: standing.mode & MODE_BITS,
                    mtime: identity.mtime,
                    size: identity.size,
                    digest,
                };
                self.scan.entries.push((path, Node::File(file)));
            }
            Ok(None) => {}
            Err(error) if error.kind() == ErrorKind::Cancelled => return Err(error),
            Err(error) => self.scan.unreadable.push(error),
        }
        Ok(())
    }

    /// Reads and hashes a file; `None` where it is gone.
    fn read(
        &mut self,
        open: impl Fn() -> Result<File>,
        full: &Path,
    ) -> Result<Option<(Identity, Digest)>> {
        for _ in 0..TRIES {
            self.cancel.check()?;
            let file = match open() {
                Err(error) if is_gone(&error) => return Ok(None),
                other => other?,
            };
            let before = identify(&file, full)?;
            let (digest, bytes) =
                Digest::of_reader(&file).map_err(|error| Error::io("read", full, error))?;
            self.scan.read.0 += 1;
            self.scan.read.1 += bytes;
            if bytes == before.size && identify(&file, full)? == before {
                self.cache.put(before, digest, self.now);
                return Ok(Some((before, digest)));
            }
        }
        let message = format!("read {}: it changes while it is read", full.display());
        Err(Error::new(ErrorKind::Io, message)
            .retryable(true)
            .hint("it is sent by a later run, once it is at rest"))
    }
}
