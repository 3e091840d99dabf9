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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_where_something_is_and_none_is_told_of_what_is_not_there() {
        let dir = tempfile::tempdir().unwrap();
        assert!(free_bytes(dir.path()).unwrap() > 0);
        let error = free_bytes(&dir.path().join("gone")).unwrap_err();
        assert!(error.to_string().contains("gone"), "{error}");
    }
}
