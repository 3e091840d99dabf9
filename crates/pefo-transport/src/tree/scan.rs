//! What a directory holds, as entries.
//!
//! A file whose identity the [`DigestCache`] knows is not read. Any other is read and hashed, between
//! two looks at its identity: one that changes meanwhile is read again, and given up after a few
//! times. What cannot be read is named and keeps nothing else from being scanned; whoever deletes by
//! a scan looks at [`Scan::is_complete`] first. Symlinks, special files and names that are no
//! [`RelPath`] are left out and named.

mod content;
mod listing;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::thread::ScopedJoinHandle;
use std::time::SystemTime;

use pefo_core::cancel::Cancel;
use pefo_core::digest_cache::{DigestCache, Identity, Place};
use pefo_core::disk::{Disk, EntryKind, Rooted, Standing};
use pefo_core::{Digest, Error, RelPath, Result};
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};

use super::entry::{FileNode, Node};
use listing::Here;

/// What a directory holds.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Scan {
    /// Files and directories, in no order; the root itself is not among them.
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
}

/// Which permission bits are part of a tree. Set-id and sticky bits are not: they would let one host
/// give away the rights of another.
pub const MODE_BITS: u32 = 0o777;

/// Files from this size on are read by all threads, each taking the next.
const LONG_BYTES: u64 = 8 << 20;
/// The most threads that look.
const MAX_THREADS: usize = 4;

/// Files that no longer stand are forgotten once they are more than those that do, and so many more.
const FORGOTTEN_AT_ONCE: usize = 1024;

/// As many threads as look fastest, where nothing else is to be done meanwhile.
pub fn all_threads() -> usize {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    processors.min(MAX_THREADS)
}

/// What one thread looks at, and what it has found.
struct Scanner<'a> {
    cache: &'a DigestCache,
    cancel: &'a Cancel,
    scan: Scan,
    /// Directories that were found, still to be looked into.
    directories: Vec<RelPath>,
    /// Long files that have to be read, which is left to all threads together.
    long: Vec<(RelPath, Standing)>,
    /// Files that were known.
    found: Vec<Place>,
    /// Files that were read.
    learnt: Vec<(Identity, Digest)>,
    buffer: Vec<u8>,
}

/// Scans what is below `root`, which must be a directory, by so many threads. `now` is the system's clock.
///
/// # Errors
/// `Io` where the root itself cannot be read; `Cancelled`.
pub fn scan(
    root: &Path,
    cache: &mut DigestCache,
    now: SystemTime,
    threads: usize,
    cancel: &Cancel,
) -> Result<Scan> {
    let root_handle = open_root(root)?;
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
    // What has to be read is worth every processor.
    scanner.read_long(root, all_threads())?;
    let Scanner {
        scan,
        found,
        learnt,
        ..
    } = scanner;
    // Files that went or were replaced would stay in the cache for ever. A few may, until they are many.
    if scan.is_complete() && cache.len() > found.len() * 2 + FORGOTTEN_AT_ONCE {
        cache.keep_only(&found);
    }
    for (identity, digest) in learnt {
        cache.put(identity, digest, now);
    }
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
            found: Vec::new(),
            learnt: Vec::new(),
            buffer: Vec::new(),
        }
    }

    fn leave_out(&mut self, path: PathBuf, why: &'static str) {
        self.scan.left_out.push(LeftOut { path, why });
    }

    fn take_over(&mut self, other: Scanner<'_>) {
        self.scan.entries.extend(other.scan.entries);
        self.scan.left_out.extend(other.scan.left_out);
        self.scan.unreadable.extend(other.scan.unreadable);
        self.scan.read.0 += other.scan.read.0;
        self.scan.read.1 += other.scan.read.1;
        self.directories.extend(other.directories);
        self.long.extend(other.long);
        self.found.extend(other.found);
        self.learnt.extend(other.learnt);
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use pefo_core::disk::Attributes;
    use std::time::{Duration, UNIX_EPOCH};

    #[test]
    fn the_cache_does_not_grow_with_every_file_that_ever_stood() {
        let dir = tempfile::tempdir().unwrap();
        let (disk, mut cache) = (Disk::new(), DigestCache::default());
        let late = UNIX_EPOCH + Duration::from_secs(5_000_000_000);
        let files = FORGOTTEN_AT_ONCE / 2;
        for round in 0..6 {
            // What stood before is kept elsewhere, so that no inode comes back.
            let root = dir.path().join(format!("{round}"));
            disk.create_dir(&root, &Attributes::mode(0o700)).unwrap();
            for file in 0..files {
                let path = root.join(file.to_string());
                disk.publish_cache(&path, b"x", &Attributes::mode(0o600))
                    .unwrap();
            }
            let scanned = scan(&root, &mut cache, late, 2, &Cancel::new()).unwrap();
            assert_eq!(scanned.entries.len(), files);
            let again = scan(&root, &mut cache, late, 1, &Cancel::new()).unwrap();
            assert_eq!(again.read, (0, 0));
            assert!(
                cache.len() <= files * 3 + FORGOTTEN_AT_ONCE,
                "{round}: {}",
                cache.len()
            );
        }
    }
}
