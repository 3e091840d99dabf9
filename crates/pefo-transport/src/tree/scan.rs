//! What a directory holds, as entries in order.
//!
//! A file whose identity the [`DigestCache`] knows is not read. Any other is read and hashed, between
//! two looks at its identity: one that changes meanwhile is read again, and given up after a few
//! times. What cannot be read is named and keeps nothing else from being scanned; whoever deletes by
//! a scan looks at [`Scan::is_complete`] first. Symlinks, special files and names that are no
//! [`RelPath`] are left out and named.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::ScopedJoinHandle;
use std::time::SystemTime;

use pefo_core::cancel::Cancel;
use pefo_core::digest::Hasher;
use pefo_core::digest_cache::{DigestCache, Identity, identify};
use pefo_core::disk::{Beneath, Disk, EntryKind, Rooted, Standing, is_temp_name};
use pefo_core::{Digest, Error, ErrorKind, RelPath, Result};
use rustix::fs::{AtFlags, Dir, DirEntry, Mode, OFlags, ResolveFlags, openat2};

use super::entry::{FileNode, Node};

const BUFFER_BYTES: usize = 128 * 1024;
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

/// So many entries of a directory are one thread's share.
const SHARE: usize = 4096;
/// Files from this size on are read by all threads, each taking the next.
const LONG_BYTES: u64 = 8 << 20;
/// The most threads that look.
const MAX_THREADS: usize = 4;

/// What one thread looks at, and what it has found.
struct Scanner<'a> {
    cache: &'a DigestCache,
    cancel: &'a Cancel,
    scan: Scan,
    /// Directories that were found, still to be looked into.
    directories: Vec<RelPath>,
    /// Long files that have to be read, which is left to all threads together.
    long: Vec<(RelPath, Standing)>,
    /// Files that were read.
    learnt: Vec<(Identity, Digest)>,
    buffer: Vec<u8>,
}

/// A directory being looked into.
#[derive(Clone, Copy)]
struct Here<'a> {
    handle: &'a OwnedFd,
    full: &'a Path,
    path: Option<&'a RelPath>,
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
    let root_handle = open_root(root)?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = threads.min(MAX_THREADS);
    let mut scanner = Scanner::new(cache, cancel);
    scanner.directory(
        Here {
            handle: &root_handle,
            full: root,
            path: None,
        },
        threads,
    )?;
    while let Some(path) = scanner.directories.pop() {
        let full = path.in_dir(root);
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let opened = openat2(&root_handle, path.as_str(), flags, Mode::empty(), resolve);
        match opened {
            Ok(handle) => scanner.directory(
                Here {
                    handle: &handle,
                    full: &full,
                    path: Some(&path),
                },
                threads,
            )?,
            Err(error) => {
                let error = Error::io("open", &full, error.into());
                scanner.scan.unreadable.push(error);
            }
        }
    }
    scanner.read_long(root, threads)?;
    let Scanner {
        mut scan, learnt, ..
    } = scanner;
    for (identity, digest) in learnt {
        cache.put(identity, digest, now);
    }
    // Each thread's entries are in order: this merges them.
    scan.entries.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(scan)
}

fn open_root(root: &Path) -> Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    rustix::fs::open(root, flags, Mode::empty())
        .map_err(|error| Error::io("open", root, error.into()))
}

/// Looks at some paths only: what stands at each, in the order of the paths.
///
/// # Errors
/// `Io` where the root itself cannot be read; `Cancelled`. What else cannot be read is in `unreadable`,
/// and left out of the answer.
#[expect(clippy::type_complexity, reason = "a list, and how it was made")]
pub fn look(
    root: &Path,
    paths: &[RelPath],
    cache: &mut DigestCache,
    now: SystemTime,
    cancel: &Cancel,
) -> Result<(Vec<(RelPath, Option<Node>)>, Scan)> {
    let rooted = Rooted::open(&Disk::new(), root)?;
    let beneath = rooted.reading()?;
    let mut scanner = Scanner::new(cache, cancel);
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
                scanner.file(|| beneath.file(path), path.clone(), &full, standing)?;
                let node = scanner.scan.entries.pop();
                found.extend(node.map(|(path, node)| (path, Some(node))));
            }
            _ => scanner.leave_out(full, "it is neither a file nor a directory"),
        }
    }
    let Scanner { scan, learnt, .. } = scanner;
    for (identity, digest) in learnt {
        cache.put(identity, digest, now);
    }
    Ok((found, scan))
}

/// What another thread has found.
fn joined<'a>(thread: ScopedJoinHandle<'_, Result<Scanner<'a>>>) -> Result<Scanner<'a>> {
    let lost = |_| Error::invalid("a thread that looked at the tree panicked");
    thread.join().map_err(lost)?
}

fn is_gone(error: &Error) -> bool {
    error.io_kind() == Some(io::ErrorKind::NotFound)
}

fn directory(standing: &Standing) -> Node {
    Node::Directory {
        mode: standing.mode & MODE_BITS,
    }
}

impl<'a> Scanner<'a> {
    fn new(cache: &'a DigestCache, cancel: &'a Cancel) -> Self {
        Self {
            cache,
            cancel,
            scan: Scan::default(),
            directories: Vec::new(),
            long: Vec::new(),
            learnt: Vec::new(),
            buffer: Vec::new(),
        }
    }

    fn leave_out(&mut self, path: PathBuf, why: &'static str) {
        self.scan.left_out.push(LeftOut { path, why });
    }

    /// Looks at all that is in a directory: this thread lists it, and where there is much others look
    /// at what was listed so far.
    fn directory(&mut self, here: Here<'_>, threads: usize) -> Result<()> {
        self.cancel.check()?;
        let (cache, cancel) = (self.cache, self.cancel);
        let unlisted = std::thread::scope(|scope| {
            let mut looking = VecDeque::new();
            let mut share = Vec::new();
            let mut unlisted = None;
            let entries = Dir::read_from(here.handle);
            let entries = entries.map_or_else(
                |error| {
                    unlisted = Some(error);
                    None
                },
                Some,
            );
            for entry in entries.into_iter().flatten() {
                match entry {
                    Ok(entry) => share.push(entry),
                    Err(error) => {
                        unlisted = Some(error);
                        break;
                    }
                }
                if threads > 1 && share.len() == SHARE {
                    let share = std::mem::take(&mut share);
                    looking.push_back(scope.spawn(move || {
                        let mut scanner = Scanner::new(cache, cancel);
                        scanner.entries(here, &share).map(|()| scanner)
                    }));
                }
                if looking.len() > threads
                    && let Some(first) = looking.pop_front()
                {
                    self.take_over(joined(first)?);
                }
            }
            self.entries(here, &share)?;
            for other in looking {
                self.take_over(joined(other)?);
            }
            Ok::<_, Error>(unlisted)
        })?;
        let Some(error) = unlisted else {
            return Ok(());
        };
        let error = Error::io("list", here.full, error.into());
        // Of an unreadable root nothing can be said at all.
        if here.path.is_none() {
            return Err(error);
        }
        self.scan.unreadable.push(error);
        Ok(())
    }

    /// Reads the long files, the longest first.
    fn read_long(&mut self, root: &Path, threads: usize) -> Result<()> {
        let mut long = std::mem::take(&mut self.long);
        if long.is_empty() {
            return Ok(());
        }
        long.sort_by_key(|(_, standing)| std::cmp::Reverse(standing.identity.size));
        let beneath = Beneath::open(root)?;
        let next = AtomicUsize::new(0);
        let read = |scanner: &mut Scanner<'_>| {
            while let Some((path, standing)) = long.get(next.fetch_add(1, Ordering::Relaxed)) {
                let full = path.in_dir(root);
                scanner.file(|| beneath.file(path), path.clone(), &full, *standing)?;
            }
            let found = &mut scanner.scan.entries;
            found.sort_unstable_by(|a, b| a.0.cmp(&b.0));
            Ok::<_, Error>(())
        };
        let (cache, cancel) = (self.cache, self.cancel);
        std::thread::scope(|scope| {
            let others: Vec<_> = (0..threads.min(long.len()))
                .map(|_| {
                    scope.spawn(|| {
                        let mut scanner = Scanner::new(cache, cancel);
                        read(&mut scanner).map(|()| scanner)
                    })
                })
                .collect();
            for other in others {
                self.take_over(joined(other)?);
            }
            Ok(())
        })
    }

    fn take_over(&mut self, other: Scanner<'_>) {
        self.scan.entries.extend(other.scan.entries);
        self.scan.left_out.extend(other.scan.left_out);
        self.scan.unreadable.extend(other.scan.unreadable);
        self.scan.read.0 += other.scan.read.0;
        self.scan.read.1 += other.scan.read.1;
        self.directories.extend(other.directories);
        self.long.extend(other.long);
        self.learnt.extend(other.learnt);
    }

    fn entries(&mut self, here: Here<'_>, entries: &[DirEntry]) -> Result<()> {
        let before = self.scan.entries.len();
        self.scan.entries.reserve(entries.len());
        for entry in entries {
            match entry.file_name().to_str() {
                Ok("." | "..") => {}
                Ok(name) if is_temp_name(name) => {}
                Ok(name) => self.entry(here, name)?,
                Err(_) => {
                    let name = entry.file_name().to_string_lossy();
                    self.leave_out(here.full.join(name.as_ref()), "its name is not UTF-8");
                }
            }
        }
        if let Some(found) = self.scan.entries.get_mut(before..) {
            found.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        }
        Ok(())
    }

    fn entry(&mut self, here: Here<'_>, name: &str) -> Result<()> {
        let path = match here.path {
            Some(at) => RelPath::new([at.as_str(), "/", name].concat()),
            None => RelPath::new(name),
        };
        let Ok(path) = path else {
            let why = "its name is no path that a tree can hold";
            self.leave_out(here.full.join(name), why);
            return Ok(());
        };
        let standing = match rustix::fs::statat(here.handle, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Standing::from(&stat),
            // Gone since the directory was listed: not there.
            Err(rustix::io::Errno::NOENT) => return Ok(()),
            Err(error) => {
                let error = Error::io("examine", &here.full.join(name), error.into());
                self.scan.unreadable.push(error);
                return Ok(());
            }
        };
        // Most of a tree is known: nothing more is done for it than must be.
        if standing.kind == EntryKind::File
            && let Some(digest) = self.cache.get(&standing.identity)
        {
            self.push(path, &standing, &standing.identity, digest);
            return Ok(());
        }
        let full = here.full.join(name);
        match standing.kind {
            EntryKind::Directory => {
                self.scan.entries.push((path.clone(), directory(&standing)));
                self.directories.push(path);
            }
            EntryKind::File if standing.identity.size >= LONG_BYTES => {
                self.long.push((path, standing));
            }
            EntryKind::File => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                let open = || {
                    rustix::fs::openat(here.handle, name, flags, Mode::empty())
                        .map(File::from)
                        .map_err(|error| Error::io("open", &full, error.into()))
                };
                self.file(open, path, &full, standing)?;
            }
            _ => self.leave_out(full, "it is neither a file nor a directory"),
        }
        Ok(())
    }

    fn file(
        &mut self,
        open: impl Fn() -> Result<File>,
        path: RelPath,
        full: &Path,
        standing: Standing,
    ) -> Result<()> {
        let read = match self.cache.get(&standing.identity) {
            Some(digest) => Ok(Some((standing.identity, digest))),
            None => self.read(open, full),
        };
        match read {
            Ok(Some((identity, digest))) => self.push(path, &standing, &identity, digest),
            Ok(None) => {}
            Err(error) if error.kind() == ErrorKind::Cancelled => return Err(error),
            Err(error) => self.scan.unreadable.push(error),
        }
        Ok(())
    }

    fn push(&mut self, path: RelPath, standing: &Standing, identity: &Identity, digest: Digest) {
        let file = FileNode {
            mode: standing.mode & MODE_BITS,
            mtime: identity.mtime,
            size: identity.size,
            digest,
        };
        self.scan.entries.push((path, Node::File(file)));
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
            let (digest, bytes) = self
                .hash(&file)
                .map_err(|error| Error::io("read", full, error))?;
            self.scan.read.0 += 1;
            self.scan.read.1 += bytes;
            if bytes == before.size && identify(&file, full)? == before {
                self.learnt.push((before, digest));
                return Ok(Some((before, digest)));
            }
        }
        let message = format!("read {}: it changes while it is read", full.display());
        Err(Error::new(ErrorKind::Io, message)
            .retryable(true)
            .hint("it is sent by a later run, once it is at rest"))
    }
    /// As [`Digest::of_reader`], with one buffer for all files.
    fn hash(&mut self, mut file: &File) -> io::Result<(Digest, u64)> {
        let mut hasher = Hasher::default();
        self.buffer.resize(BUFFER_BYTES, 0);
        loop {
            match file.read(&mut self.buffer) {
                Ok(0) => return Ok((hasher.digest(), hasher.len())),
                Ok(count) => hasher.update(self.buffer.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}
