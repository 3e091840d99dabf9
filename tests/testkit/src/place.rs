//! Directories of a test's own that another account may enter.
//!
//! The system's temporary directory is no good for two things: sshd's `StrictModes` refuses a key
//! file below a world-writable directory, and a private temporary directory shuts out the accounts
//! that servers run as. So root's tests live below `/var/lib/pefo-testkit`, where every component
//! belongs to root and may be traversed; an ordinary user's live in the usual temporary directory.
//! Both vanish on drop.

#![expect(
    clippy::disallowed_methods,
    reason = "a test's own scratch directories are no data of pefo's"
)]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use tempfile::TempDir;

/// Where root's tests keep their directories, the locks between test processes, and the home of the
/// transfer account.
pub const ROOT: &str = "/var/lib/pefo-testkit";

/// A new directory with mode 0755, named after `purpose`, removed on drop.
///
/// # Panics
/// Where it can not be made.
pub fn directory(purpose: &str) -> TempDir {
    let mut builder = tempfile::Builder::new();
    let prefix = format!("{purpose}-");
    builder
        .prefix(&prefix)
        .permissions(Permissions::from_mode(0o755));
    let made = if rustix::process::geteuid().is_root() {
        make_traversable(Path::new(ROOT));
        builder.tempdir_in(ROOT)
    } else {
        builder.tempdir()
    };
    match made {
        // The mode given to the builder passes the umask; this one does not.
        Ok(dir) => {
            set_mode(dir.path(), 0o755);
            dir
        }
        Err(error) => panic!("make a scratch directory for {purpose}: {error}"),
    }
}

/// Makes `path` and its parents where they are missing, with mode 0755.
pub(crate) fn make_traversable(path: &Path) {
    if path.is_dir() {
        return;
    }
    if let Err(error) = fs::create_dir_all(path) {
        panic!("make {}: {error}", path.display());
    }
    set_mode(path, 0o755);
}

/// Sets a mode, past the umask.
pub(crate) fn set_mode(path: &Path, mode: u32) {
    if let Err(error) = fs::set_permissions(path, Permissions::from_mode(mode)) {
        panic!("set the mode of {}: {error}", path.display());
    }
}

/// Writes a file of the test's own.
pub(crate) fn write(path: &Path, content: impl AsRef<[u8]>) {
    if let Err(error) = fs::write(path, content) {
        panic!("write {}: {error}", path.display());
    }
}

/// Reads a text file that a server of ours writes.
pub(crate) fn read(path: &Path) -> String {
    match fs::read(path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => panic!("read {}: {error}", path.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_account_may_enter_a_directory_and_it_vanishes_on_drop() {
        let dir = directory("place");
        let path = dir.path().to_owned();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o755
        );
        drop(dir);
        assert!(!path.exists());
    }
}
