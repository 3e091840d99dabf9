//! What is copied: trees and files that are the same in every run, on every machine.

pub(crate) mod dump;
pub(crate) mod insertion;
pub(crate) mod pem;

use std::path::Path;
use std::time::{Duration, SystemTime};

use std::fs::File;

use pefo_core::{Error, Result};

/// When the oldest file was written: 2026-01-01 00:00:00 UTC.
const EPOCH_SECONDS: u64 = 1_767_225_600;

/// Gives a file a time `minutes` after the oldest, with nanoseconds, as files have them.
///
/// # Errors
/// A file that does not take it.
pub(crate) fn set_age(path: &Path, minutes: u64) -> Result<()> {
    let since = Duration::new(EPOCH_SECONDS + minutes * 60, 123_456_789);
    File::open(path)
        .and_then(|file| file.set_modified(SystemTime::UNIX_EPOCH + since))
        .map_err(|error| Error::io("set the time of", path, error))
}
