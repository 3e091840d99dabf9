//! Is there room for what is offered?

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use pefo_core::{Error, Result};

use super::Limits;

/// What a file costs beyond its bytes: its inode, its name and the end of its last block.
const FILE_BYTES: u64 = 8192;

/// Bytes of all files below `generations`; a file with several names counts once.
pub(super) fn used_bytes(generations: &Path) -> Result<u64> {
    let mut seen = HashSet::new();
    let mut bytes = 0_u64;
    for entry in walkdir::WalkDir::new(generations) {
        let entry = match entry {
            Ok(entry) => entry,
            // Retention of another data set's session removes what we are looking at.
            Err(error) if is_gone(&error) => continue,
            Err(error) => return Err(Error::io("list", generations, error.into())),
        };
        let Ok(meta) = entry.metadata() else { continue };
        if meta.is_file() && (meta.nlink() == 1 || seen.insert((meta.dev(), meta.ino()))) {
            bytes = bytes.saturating_add(meta.len());
        }
    }
    Ok(bytes)
}

fn is_gone(error: &walkdir::Error) -> bool {
    error
        .io_error()
        .is_some_and(|error| error.kind() == std::io::ErrorKind::NotFound)
}

/// Whether the spool's file system holds `bytes` in `files` more.
pub(crate) fn check_free(spool: &Path, bytes: u64, files: u64, limits: &Limits) -> Result<()> {
    let stat = rustix::fs::statvfs(spool)
        .map_err(|error| Error::io("examine the file system of", spool, error.into()))?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let wanted = bytes
        .saturating_add(files.saturating_mul(FILE_BYTES))
        .saturating_add(limits.free_bytes);
    if free < wanted {
        return Err(full(format!(
            "{} has {free} bytes free, {bytes} are offered and {} stay free",
            spool.display(),
            limits.free_bytes
        )));
    }
    // Some file systems have no fixed number of inodes and say 0.
    if stat.f_files > 0 && stat.f_favail < files.saturating_add(16) {
        return Err(full(format!(
            "{} has {} inodes free, {files} files are offered",
            spool.display(),
            stat.f_favail
        )));
    }
    Ok(())
}

/// Whether `bytes` more fit the quota.
pub(super) fn check_quota(used: u64, bytes: u64, limits: &Limits) -> Result<()> {
    if used.saturating_add(bytes) <= limits.quota_bytes {
        return Ok(());
    }
    Err(full(format!(
        "the spool holds {used} bytes, {bytes} are offered and its quota is {}",
        limits.quota_bytes
    )))
}

fn full(message: String) -> Error {
    Error::refused("spool-full", message).hint(
        "generations go once they are applied: see 'pefo status' on the spare; or give the spool more room",
    )
}
