//! How much a directory that is not trusted takes, at a cost that whoever fills it cannot raise.

use rustix::fs::{AtFlags, statat};

use super::{Beneath, EntryKind};
use crate::error::Result;

/// How deep it is looked.
const MAX_DEPTH: usize = 16;

/// What a directory takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// Bytes on disk of the files that were looked at.
    pub bytes: u64,
    /// How many files and directories that were.
    pub entries: usize,
    /// Whether that was all; otherwise there is at least so much.
    pub is_whole: bool,
}

impl Beneath {
    /// What lies in the directory and below, by at most `max_entries` files and directories. What cannot be
    /// opened counts for nothing; nothing is followed.
    ///
    /// # Errors
    /// `Io`, where the directory itself cannot be listed.
    pub fn usage(&self, max_entries: usize) -> Result<Usage> {
        let mut usage = Usage {
            is_whole: true,
            ..Usage::default()
        };
        self.add_to(&mut usage, max_entries, MAX_DEPTH)?;
        Ok(usage)
    }

    fn add_to(&self, usage: &mut Usage, max_entries: usize, depth: usize) -> Result<()> {
        let left = max_entries.saturating_sub(usage.entries);
        let (entries, is_whole) = self.some_entries(left)?;
        usage.is_whole &= is_whole;
        usage.entries += entries.len();
        let mut below = Vec::new();
        for (name, kind) in entries {
            match kind {
                EntryKind::Directory => below.push(name),
                _ => {
                    let stat = statat(&self.handle, name.as_str(), AtFlags::SYMLINK_NOFOLLOW);
                    // It may be gone by now.
                    let blocks = stat.map_or(0, |stat| u64::try_from(stat.st_blocks).unwrap_or(0));
                    usage.bytes = usage.bytes.saturating_add(blocks.saturating_mul(512));
                }
            }
        }
        for name in below {
            match self.dir(&name) {
                Ok(dir) if depth > 0 => dir.add_to(usage, max_entries, depth - 1)?,
                _ => usage.is_whole = false,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "tests lay out directories by hand"
)]
mod tests {
    use super::*;

    #[test]
    fn files_below_are_counted_and_links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("a/b")).unwrap();
        std::fs::write(dir.path().join("a/one"), vec![1; 20_000]).unwrap();
        std::fs::write(dir.path().join("a/b/two"), vec![1; 20_000]).unwrap();
        std::os::unix::fs::symlink("/usr", dir.path().join("a/usr")).unwrap();
        let usage = Beneath::open(dir.path()).unwrap().usage(100).unwrap();
        assert!((40_000..400_000).contains(&usage.bytes), "{usage:?}");
        assert_eq!((usage.entries, usage.is_whole), (5, true));
    }

    #[test]
    fn whoever_fills_it_decides_no_more_than_that_it_is_not_all() {
        let dir = tempfile::tempdir().unwrap();
        let mut deep = dir.path().to_owned();
        for _ in 0..40 {
            deep.push("d");
        }
        std::fs::create_dir_all(&deep).unwrap();
        for n in 0..50 {
            std::fs::write(dir.path().join(format!("{n}")), "x").unwrap();
        }
        let top = Beneath::open(dir.path()).unwrap();
        let usage = top.usage(20).unwrap();
        assert!(usage.entries <= 20 && !usage.is_whole, "{usage:?}");
        assert!(!top.usage(1_000).unwrap().is_whole);
    }
}
