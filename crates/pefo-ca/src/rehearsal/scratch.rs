//! The directory of a rehearsal: made for nobody else to see, and gone afterwards.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use pefo_core::disk::{Attributes, Disk, is_temp_name};
use pefo_core::{Error, Result};

/// Says that what stands beside it is a rehearsal's. It comes first and goes last.
const MARK: &str = "pefo-rehearsal";
/// The CA, below the scratch directory.
const CADIR: &str = "ca";

pub(super) struct Scratch<'d> {
    disk: &'d Disk,
    dir: &'d Path,
}

impl<'d> Scratch<'d> {
    /// Makes the directory; what a killed rehearsal left there is cleared first.
    pub(super) fn make(disk: &'d Disk, dir: &'d Path) -> Result<Self> {
        let scratch = Self { disk, dir };
        match std::fs::symlink_metadata(dir) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(Error::io("examine", dir, error)),
            Ok(meta) if meta.is_dir() && is_left_over(dir)? => scratch.clear()?,
            Ok(_) => {
                let message = format!("{} holds something else", dir.display());
                return Err(Error::refused("rehearsal-scratch", message).hint(
                    "Name a directory that is not there; a rehearsal removes what it made, and nothing else.",
                ));
            }
        }
        let made = scratch.mark();
        if made.is_err() {
            drop(scratch.clear());
        }
        made.map(|()| scratch)
    }

    fn mark(&self) -> Result<()> {
        self.disk.create_dir(self.dir, &Attributes::mode(0o700))?;
        let text = b"A rehearsal of pefo made this directory, and the next one removes it.\n";
        self.disk
            .publish(&self.dir.join(MARK), text, &Attributes::mode(0o600))
    }

    pub(super) fn cadir(&self) -> PathBuf {
        self.dir.join(CADIR)
    }

    /// Removes it, with all that is below it.
    pub(super) fn clear(&self) -> Result<()> {
        // Killed in between, it still says what it is.
        self.disk.remove_tree(&self.cadir())?;
        self.disk.remove_tree(self.dir)
    }
}

/// Whether a directory holds what a rehearsal makes, and nothing else.
fn is_left_over(dir: &Path) -> Result<bool> {
    let io = |error| Error::io("list", dir, error);
    let (mut is_marked, mut has_ca) = (false, false);
    for entry in std::fs::read_dir(dir).map_err(io)? {
        match entry.map_err(io)?.file_name().to_str() {
            Some(MARK) => is_marked = true,
            Some(CADIR) => has_ca = true,
            // The mark itself, being made.
            Some(name) if is_temp_name(name) => {}
            _ => return Ok(false),
        }
    }
    Ok(is_marked || !has_ca)
}
