//! The program under test: where it was built, and a copy of it that every account can run.

#![expect(
    clippy::disallowed_methods,
    reason = "a copy of the program is no data of pefo's"
)]

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use crate::place;

/// The `pefo` that was built beside the running test or example.
///
/// # Panics
/// Where it was not built.
pub fn built_binary() -> PathBuf {
    let me = std::env::current_exe().unwrap_or_default();
    let found = me
        .ancestors()
        .skip(1)
        .map(|dir| dir.join("pefo"))
        .find(|path| path.is_file());
    match found {
        Some(path) => path,
        None => panic!(
            "pefo was not built beside {}: run 'cargo build -p pefo-cli' first, or 'make test'",
            me.display()
        ),
    }
}

/// A copy of the program below a directory that every account may enter, named by its content, so that
/// test processes share it. Copies that were not used for a day go.
pub(super) fn within_reach(binary: &Path) -> PathBuf {
    static COPY: OnceLock<PathBuf> = OnceLock::new();
    COPY.get_or_init(|| match copy_of(binary) {
        Ok(copy) => copy,
        Err(error) => panic!("copy {}: {error}", binary.display()),
    })
    .clone()
}

fn copy_of(binary: &Path) -> std::io::Result<PathBuf> {
    let bin = Path::new(place::ROOT).join("bin");
    place::make_traversable(&bin);
    for entry in std::fs::read_dir(&bin)? {
        let path = entry?.path();
        let is_old = path
            .metadata()?
            .modified()?
            .elapsed()
            .is_ok_and(|age| age > Duration::from_secs(24 * 3600));
        if is_old {
            std::fs::remove_dir_all(&path)?;
        }
    }
    let (digest, _) = pefo_core::Digest::of_reader(std::fs::File::open(binary)?)?;
    let directory = bin.join(digest.short());
    let copy = directory.join("pefo");
    if !copy.exists() {
        // Made under another name and renamed: a test process beside this one may look for it now.
        let part = tempfile::Builder::new()
            .permissions(std::fs::Permissions::from_mode(0o755))
            .tempdir_in(&bin)?;
        std::fs::copy(binary, part.path().join("pefo"))?;
        std::fs::set_permissions(part.path(), std::fs::Permissions::from_mode(0o755))?;
        match std::fs::rename(part.path(), &directory) {
            Ok(()) => {
                // Renamed away: nothing is left for the guard to remove.
                let _ = part.keep();
            }
            Err(_) if copy.exists() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(copy)
}
