//! Schedules: installed and removed, run under their units' restrictions, and kept by the daemon.

mod daemon;
mod installed;
mod machine;
mod units;

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pefo_testkit::masters::{Master, Run};

const LONG: Duration = Duration::from_secs(60);

/// The minute of the hour that it will be.
pub(crate) fn in_minutes(minutes: u64) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    (now.as_secs() / 60 + minutes) % 60
}

/// A `[schedule]` in which everything hourly is at one minute.
pub(crate) fn minutes(minute: u64) -> String {
    format!(
        "[schedule]\nexport_minute = {minute}\npush_minute = {minute}\nrestore_classifier_minute = {minute}\n\
         restore_database_minute = {minute}\n\n"
    )
}

/// `pefo schedule install` into a directory.
fn install(master: &Master, root: &Path, more: &[&str]) -> Run {
    let root = root.to_str().unwrap();
    let words = ["schedule", "install", "--root", root];
    master.pefo(words.into_iter().chain(more.iter().copied()))
}
