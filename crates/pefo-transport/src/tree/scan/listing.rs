//! A directory's names, listed by one thread and looked at by several.

use std::collections::VecDeque;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;

use pefo_core::disk::{EntryKind, Standing, is_temp_name};
use pefo_core::{Error, RelPath, Result};
use rustix::fs::{AtFlags, Mode, OFlags, RawDir};
use rustix::io::Errno;

use super::{LONG_BYTES, Scanner, directory, joined};

/// So many names are one thread's share.
const SHARE: usize = 16384;
/// What the kernel lists at once.
const LISTED_BYTES: usize = 64 * 1024;

/// A directory being looked into.
#[derive(Clone, Copy)]
pub(super) struct Here<'a> {
    pub(super) handle: &'a OwnedFd,
    pub(super) full: &'a Path,
    pub(super) path: Option<&'a RelPath>,
}

/// Names, one behind the other: a directory may have very many.
#[derive(Debug, Default)]
struct Names {
    bytes: Vec<u8>,
    /// The inode of each, and where it begins and ends: a share has far less than 4 GiB of names.
    places: Vec<(u64, u32, u32)>,
}

impl Names {
    fn push(&mut self, inode: u64, name: &[u8]) {
        let begin = self.bytes.len() as u32;
        self.bytes.extend_from_slice(name);
        self.places.push((inode, begin, self.bytes.len() as u32));
    }

    /// By inode: what lies side by side, on the disk and in memory, is looked at one after the other.
    fn sort(&mut self) {
        self.places.sort_unstable();
    }

    fn len(&self) -> usize {
        self.places.len()
    }

    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.places.iter().map(|(_, begin, end)| {
            let place = *begin as usize..*end as usize;
            self.bytes.get(place).unwrap_or_default()
        })
    }
}

impl Scanner<'_> {
    /// Looks at all that is in a directory: this thread lists it, and where there is much others look
    /// at what was listed so far.
    pub(super) fn directory(&mut self, here: Here<'_>, threads: usize) -> Result<()> {
        self.cancel.check()?;
        let (cache, cancel) = (self.cache, self.cancel);
        let unlisted = std::thread::scope(|scope| {
            let mut looking = VecDeque::new();
            let mut share = Names::default();
            let unlisted = list(here.handle, |inode, name| {
                share.push(inode, name);
                if share.len() < SHARE {
                    return Ok(());
                }
                let mut share = std::mem::take(&mut share);
                if threads == 1 {
                    share.sort();
                    return self.entries(here, &share);
                }
                looking.push_back(scope.spawn(move || {
                    share.sort();
                    let mut scanner = Scanner::new(cache, cancel);
                    scanner.entries(here, &share).map(|()| scanner)
                }));
                if looking.len() > threads
                    && let Some(first) = looking.pop_front()
                {
                    self.take_over(joined(first)?);
                }
                Ok(())
            })?;
            share.sort();
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

    fn entries(&mut self, here: Here<'_>, names: &Names) -> Result<()> {
        self.scan.entries.reserve(names.len());
        for name in names.iter() {
            match std::str::from_utf8(name) {
                Ok(name) if is_temp_name(name) => {}
                Ok(name) => self.entry(here, name)?,
                Err(_) => {
                    let name = String::from_utf8_lossy(name);
                    self.leave_out(here.full.join(name.as_ref()), "its name is not UTF-8");
                }
            }
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
            Err(Errno::NOENT) => return Ok(()),
            Err(error) => {
                let error = Error::io("examine", &here.full.join(name), error.into());
                self.scan.unreadable.push(error);
                return Ok(());
            }
        };
        // Most of a tree is known: nothing more is done for it than must be.
        if standing.kind == EntryKind::File
            && let Some((digest, place)) = self.cache.find(&standing.identity)
        {
            self.found.push(place);
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
}

/// Gives every name of a directory; tells what kept it from giving them all.
///
/// # Errors
/// Those of `take`.
fn list(handle: &OwnedFd, mut take: impl FnMut(u64, &[u8]) -> Result<()>) -> Result<Option<Errno>> {
    let mut buffer = Vec::with_capacity(LISTED_BYTES);
    let mut listed = RawDir::new(handle, buffer.spare_capacity_mut());
    while let Some(entry) = listed.next() {
        match entry {
            Ok(entry) => match entry.file_name().to_bytes() {
                b"." | b".." => {}
                name => take(entry.ino(), name)?,
            },
            Err(Errno::INTR) => {}
            Err(error) => return Ok(Some(error)),
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn names_come_back_by_inode(names in prop::collection::vec((any::<u64>(), prop::collection::vec(1_u8.., 0..20)), 0..20)) {
            let mut all = Names::default();
            names.iter().for_each(|(inode, name)| all.push(*inode, name));
            all.sort();
            let mut sorted: Vec<_> = names.iter().enumerate().collect();
            sorted.sort_by_key(|(_, (inode, _))| *inode);
            let sorted: Vec<_> = sorted.into_iter().map(|(_, (_, name))| name).collect();
            prop_assert_eq!(all.iter().collect::<Vec<_>>(), sorted);
        }
    }
}
