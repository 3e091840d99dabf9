//! Locks that die with their holder: flock on a file that stays.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::disk::disk_error;
use crate::error::{Error, ErrorKind, Result};

/// An exclusive lock, held until it is dropped or the process ends, however it ends.
#[derive(Debug)]
pub struct Lock {
    _file: File,
    path: PathBuf,
}

impl Lock {
    /// Takes the lock at `path` or says at once that another run holds it.
    ///
    /// # Errors
    /// `Locked`, or `Io` where the lock file cannot be opened.
    #[expect(
        clippy::disallowed_methods,
        reason = "a lock file has no content to make durable"
    )]
    pub fn take(path: &Path) -> Result<Self> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            // A symlink is not followed and a FIFO not waited on: either is an error that names it.
            .custom_flags(
                (rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK)
                    .bits()
                    .cast_signed(),
            )
            .open(path)
            .map_err(|error| disk_error("open lock", path, error))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self {
                _file: file,
                path: path.to_owned(),
            }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::new(
                ErrorKind::Locked,
                format!("another run holds {}", path.display()),
            )
            .hint(
                "wait for it to end; the lock goes with its process, there is nothing to clean up",
            )),
            Err(error) => Err(Error::io("lock", path, error.into())),
        }
    }

    /// Whether somebody holds the lock at `path`, as the kernel tells it (proc_locks(5)); `None` where that
    /// cannot be told. Nobody is disturbed by the question, as one who tried to take it would be.
    pub fn is_held(path: &Path) -> Option<bool> {
        use std::os::unix::fs::MetadataExt as _;
        let inode = match std::fs::symlink_metadata(path) {
            Ok(meta) => meta.ino(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Some(false),
            Err(_) => return None,
        };
        let table = std::fs::read_to_string("/proc/locks").ok()?;
        Some(table.lines().any(|line| is_flock_of(line, inode)))
    }

    /// The lock file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Whether a line of the table is a lock that somebody has on the file `inode`. The device is not compared:
/// where file systems are stacked, the table has another one than the file shows.
fn is_flock_of(line: &str, inode: u64) -> bool {
    // 1: FLOCK  ADVISORY  WRITE 4711 08:01:131090 0 EOF; one who waits has -> before the kind.
    let mut words = line.split_ascii_whitespace().skip(1);
    words.next() == Some("FLOCK")
        && words.nth(3).is_some_and(|file| {
            let number = file.rsplit(':').next();
            number.and_then(|number| number.parse().ok()) == Some(inode)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_run_is_told_and_the_lock_goes_with_its_holder() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.lock");
        let lock = Lock::take(&path).unwrap();
        assert_eq!(Lock::take(&path).unwrap_err().kind(), ErrorKind::Locked);
        assert_eq!(Lock::is_held(&path), Some(true));
        drop(lock);
        assert_eq!(Lock::is_held(&path), Some(false));
        assert_eq!(Lock::is_held(&dir.path().join("never")), Some(false));
        Lock::take(&path).unwrap();
    }

    #[test]
    fn what_was_planted_in_a_locks_place_is_named_not_followed_and_not_waited_on() {
        let dir = tempfile::tempdir().unwrap();
        let (fifo, link) = (dir.path().join("fifo"), dir.path().join("link"));
        rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::from(0o644)).unwrap();
        rustix::fs::symlinkat("elsewhere", rustix::fs::CWD, &link).unwrap();
        for path in [fifo, link] {
            let error = Lock::take(&path).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Io);
            assert!(error.to_string().contains(path.to_str().unwrap()));
        }
        assert!(!dir.path().join("elsewhere").exists());
    }
}
