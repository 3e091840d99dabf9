//! JSON records: small files of our own that are replaced whole and read with a cap.

use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::disk::{Attributes, Disk, read_capped};
use crate::error::{Error, Result};

/// The largest record.
pub const MAX_BYTES: u64 = 1 << 20;

/// Reads the record at `path`; `None` where it does not exist.
///
/// # Errors
/// `Io`, or `Invalid` where it is malformed or larger than [`MAX_BYTES`].
pub fn load<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    match read_capped(path, MAX_BYTES) {
        Err(error) if error.io_kind() == Some(std::io::ErrorKind::NotFound) => Ok(None),
        Err(error) => Err(error),
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| {
            Error::invalid(format!("{}: {error}", path.display())).with_source(error)
        }),
    }
}

/// Replaces the record at `path`, durably.
///
/// # Errors
/// `Io`, or `Invalid` where the value cannot be written as JSON.
pub fn store<T: Serialize>(disk: &Disk, path: &Path, value: &T, mode: u32) -> Result<()> {
    let bytes = serde_json::to_vec_pretty(value).map_err(|error| {
        Error::invalid(format!("write {}: {error}", path.display())).with_source(error)
    })?;
    disk.publish(path, &bytes, &Attributes::mode(mode))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_back_and_a_torn_one_names_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger.json");
        assert_eq!(load::<u32>(&path).unwrap(), None);
        store(&Disk::new(), &path, &7_u32, 0o600).unwrap();
        assert_eq!(load(&path).unwrap(), Some(7_u32));
        Disk::new()
            .publish(&path, b"{", &Attributes::mode(0o600))
            .unwrap();
        assert!(
            load::<u32>(&path)
                .unwrap_err()
                .to_string()
                .contains("ledger.json")
        );
    }
}
