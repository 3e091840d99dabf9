//! How each data set did over time: a sample a minute, for reports to draw.
//!
//! STATE/history/YYYY-MM-DD.jsonl holds a day, a line a sample. A line is appended and fsynced; one that a crash
//! cut off is passed over, and the next begins on a line of its own. Days older than `[retention] history_days` go.
//! Nothing rests on it.

use std::path::{Path, PathBuf};

use pefo_core::clock::Timestamp;
use pefo_core::disk::{Attributes, read_capped};
use pefo_core::generation::DataSet;
use pefo_core::{Certname, Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

use crate::host::Host;
use crate::outcome::Health;
use crate::overview::Overview;

/// The largest day that is read: a sample a minute of many data sets and peers.
const MAX_DAY_BYTES: u64 = 16 << 20;
const ENDING: &str = ".jsonl";

/// How all data sets did at one time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// When.
    pub at: Timestamp,
    /// Each data set, on the active with each peer.
    pub rows: Vec<SampleRow>,
}

/// How one data set did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SampleRow {
    /// Which.
    pub dataset: DataSet,
    /// On the active: with which peer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<Certname>,
    /// Time since the passive last proved that it had applied everything, in seconds.
    pub lag_seconds: Option<u64>,
    /// How it did.
    pub health: Health,
}

impl Sample {
    /// What is known now.
    pub fn of(overview: &Overview) -> Self {
        let row = |row: &crate::overview::Row| SampleRow {
            dataset: row.dataset.clone(),
            peer: row.peer.clone(),
            lag_seconds: row.lag.map(|lag| lag.as_secs()),
            health: row.health,
        };
        Self {
            at: overview.now,
            rows: overview.rows.iter().map(row).collect(),
        }
    }
}

/// Adds a sample where the last is of another minute, and takes away what is too old.
///
/// # Errors
/// `Io`.
pub fn sample(host: &Host, overview: &Overview) -> Result<()> {
    let days = host.config.retention.history_days;
    if days == 0 {
        return Ok(());
    }
    // Whoever else adds one now adds the same.
    let _lock = match host.lock("history") {
        Err(error) if error.kind() == ErrorKind::Locked => return Ok(()),
        lock => lock?,
    };
    let (dir, sample) = (host.state("history"), Sample::of(overview));
    host.disk.create_dir_all(&dir, &Attributes::mode(0o700))?;
    let path = dir.join(format!("{}{ENDING}", day(sample.at)));
    let is_new = !path.exists();
    if is_new {
        host.disk.publish(&path, b"", &Attributes::mode(0o600))?;
    }
    let known = read_capped(&path, MAX_DAY_BYTES)?;
    let minute = |at: Timestamp| at.unix_seconds().div_euclid(60);
    if newest(&known).is_some_and(|last| minute(last) == minute(sample.at)) {
        return Ok(());
    }
    let mut line = serde_json::to_vec(&sample)
        .map_err(|error| Error::invalid(format!("write a sample: {error}")))?;
    line.push(b'\n');
    if known.last().is_some_and(|last| *last != b'\n') {
        line.insert(0, b'\n');
    }
    let length = u64::try_from(known.len()).unwrap_or(u64::MAX);
    host.disk.append(&path, length, &line)?;
    if is_new {
        forget(host, &dir, sample.at, days)?;
    }
    Ok(())
}

/// The samples from `since` on, the oldest first.
///
/// # Errors
/// `Io`, where there are some that cannot be read.
pub fn load(host: &Host, since: Timestamp) -> Result<Vec<Sample>> {
    let mut samples = Vec::new();
    for (day_of, path) in days(&host.state("history"))? {
        if day_of < day(since) {
            continue;
        }
        let bytes = read_capped(&path, MAX_DAY_BYTES)?;
        samples.extend(lines(&bytes).filter(|sample| sample.at >= since));
    }
    // Clocks are set back too.
    samples.sort_by_key(|sample| sample.at);
    Ok(samples)
}

fn lines(bytes: &[u8]) -> impl Iterator<Item = Sample> {
    bytes
        .split(|byte| *byte == b'\n')
        .filter_map(|line| serde_json::from_slice(line).ok())
}

/// When the last whole sample was taken.
fn newest(bytes: &[u8]) -> Option<Timestamp> {
    let mut lines = bytes.rsplit(|byte| *byte == b'\n');
    lines.find_map(|line| serde_json::from_slice::<Sample>(line).ok().map(|it| it.at))
}

fn day(at: Timestamp) -> String {
    at.to_string().chars().take(10).collect()
}

/// The days there are, by their names, the oldest first.
fn days(dir: &Path) -> Result<Vec<(String, PathBuf)>> {
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|error| Error::io("list", dir, error))?,
    };
    let mut days = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| Error::io("list", dir, error))?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.and_then(|name| name.strip_suffix(ENDING));
        if let Some(name) = name.filter(|name| name.len() == 10 && !name.starts_with('.')) {
            days.push((name.to_owned(), path));
        }
    }
    days.sort();
    Ok(days)
}

fn forget(host: &Host, dir: &Path, now: Timestamp, kept: u16) -> Result<()> {
    let seconds = now.unix_seconds() - i64::from(kept) * 86_400;
    let oldest = day(Timestamp::from_unix_seconds(seconds)?);
    for (day, path) in days(dir)? {
        if day < oldest {
            host.disk.remove_file(&path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
