//! How much room a file system has left.

use std::path::Path;

use crate::error::{Error, Result};

/// Bytes that a process without privileges can still write to the file system that holds `path`: what
/// is set aside for root does not count.
///
/// # Errors
/// `Io`, where there is no such path or it cannot be reached.
pub fn free_bytes(path: &Path) -> Result<u64> {
    let stat = rustix::fs::statvfs(path)
        .map_err(|error| Error::io("examine the file system of", path, error.into()))?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// What a file system has, and has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Room {
    /// Its size, in bytes.
    pub bytes: u64,
    /// What a process without privileges can still write, in bytes.
    pub free_bytes: u64,
    /// How many files it can hold; zero where it sets no limit.
    pub files: u64,
    /// How many more.
    pub free_files: u64,
}

/// The room of the file system that holds `path`.
///
/// # Errors
/// As [`free_bytes`].
pub fn room(path: &Path) -> Result<Room> {
    let stat = rustix::fs::statvfs(path)
        .map_err(|error| Error::io("examine the file system of", path, error.into()))?;
    Ok(Room {
        bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
        free_bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
        files: stat.f_files,
        free_files: stat.f_favail,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_where_something_is_and_none_is_told_of_what_is_not_there() {
        let dir = tempfile::tempdir().unwrap();
        assert!(free_bytes(dir.path()).unwrap() > 0);
        let room = room(dir.path()).unwrap();
        assert!(room.free_bytes <= room.bytes && room.free_files <= room.files);
        let error = free_bytes(&dir.path().join("gone")).unwrap_err();
        assert!(error.to_string().contains("gone"), "{error}");
    }
}
