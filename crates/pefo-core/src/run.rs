//! Run records: what each run did, kept so that `pefo status` can answer from local state only.
//!
//! One JSON file a run, below a directory of root's, named so that names sort by time. The newest
//! success and the newest failure of each (command, data set) survive pruning.

mod listing;

use std::collections::BTreeSet;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::disk::{Attributes, Disk, read_capped};
use crate::error::{Error, Result};
use crate::generation::{DataSet, Position};

pub use listing::{Run, Runs};

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Outcome {
    /// Done.
    Ok,
    /// There was nothing to do.
    Unchanged,
    /// Some of it was done.
    Partial,
    /// A gate said no.
    Refused,
    /// It failed.
    Failed,
    /// Another run held the lock.
    Locked,
    /// This host's reign has ended, or the command is the other role's.
    Fenced,
}

impl Outcome {
    /// Whether the passive or the active is as it should be after it.
    pub const fn is_success(self) -> bool {
        matches!(self, Self::Ok | Self::Unchanged)
    }

    /// As it is written down.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Unchanged => "unchanged",
            Self::Partial => "partial",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Locked => "locked",
            Self::Fenced => "fenced",
        }
    }

    fn from_word(word: &str) -> Option<Self> {
        let all = [
            Self::Ok,
            Self::Unchanged,
            Self::Partial,
            Self::Refused,
            Self::Failed,
            Self::Locked,
            Self::Fenced,
        ];
        all.into_iter().find(|outcome| outcome.word() == word)
    }
}

/// What one run did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRecord {
    /// Version of this record's schema: 1.
    pub format: u32,
    /// The command, such as `ca push`.
    pub command: String,
    /// The data set it was about.
    pub dataset: Option<DataSet>,
    /// The generation it made or applied.
    pub position: Option<Position>,
    /// When it began.
    pub began: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
    /// How it ended.
    pub outcome: Outcome,
    /// What went wrong, as shown to the operator.
    pub error: Option<String>,
    /// The rule that refused, where one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Rules overruled by `--accept`.
    pub accepted: BTreeSet<String>,
}

/// How many records are kept besides each command's newest success and failure.
pub const KEEP: usize = 1000;
/// The largest record.
const MAX_BYTES: u64 = 1 << 20;

impl RunRecord {
    /// Stores it below `dir` and prunes what is old.
    ///
    /// # Errors
    /// `Io`.
    pub fn store(&self, disk: &Disk, dir: &Path) -> Result<()> {
        let bytes = serde_json::to_vec(self)
            .map_err(|error| Error::invalid(format!("write run record: {error}")))?;
        let whole = Timestamp::from_unix_seconds(self.began.unix_seconds())?;
        let stamp = whole.to_string().replace([':', '-', 'Z'], "");
        // One run may leave several records within a second; names sort by time all the same.
        let nanos = self.began.since(whole).subsec_nanos();
        let dataset = self.dataset.as_ref().map(DataSet::dir_name);
        let name = format!(
            "{stamp}.{nanos:09}-{}-{}-{}-{}.json",
            listing::plain(&self.command),
            listing::plain(&dataset.unwrap_or_default()),
            std::process::id(),
            self.outcome.word()
        );
        disk.publish(&dir.join(name), &bytes, &Attributes::mode(0o600))?;
        prune(disk, dir)
    }

    /// All records below `dir`, oldest first; what cannot be read is left out.
    ///
    /// # Errors
    /// `Io`, where the directory cannot be listed.
    pub fn load_all(dir: &Path) -> Result<Vec<Self>> {
        let records = names(dir)?.into_iter().filter_map(|name| {
            let bytes = read_capped(&dir.join(name), MAX_BYTES).ok()?;
            serde_json::from_slice(&bytes).ok()
        });
        Ok(records.collect())
    }
}

fn names(dir: &Path) -> Result<BTreeSet<String>> {
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        entries => entries.map_err(|error| Error::io("list", dir, error))?,
    };
    let mut names = BTreeSet::new();
    for entry in entries {
        let name = entry
            .map_err(|error| Error::io("list", dir, error))?
            .file_name();
        if let Some(name) = name
            .to_str()
            .filter(|name| name.ends_with(".json") && !name.starts_with('.'))
        {
            names.insert(name.to_owned());
        }
    }
    Ok(names)
}

fn prune(disk: &Disk, dir: &Path) -> Result<()> {
    let names = names(dir)?;
    // Read only when there is something to take away: a run's own cost stays flat.
    if names.len() <= KEEP + KEEP / 10 {
        return Ok(());
    }
    let mut newest: BTreeSet<(String, Option<DataSet>, bool)> = BTreeSet::new();
    for (age, name) in names.iter().rev().enumerate() {
        let path = dir.join(name);
        let record = read_capped(&path, MAX_BYTES)
            .ok()
            .and_then(|bytes| serde_json::from_slice::<RunRecord>(&bytes).ok());
        let first_of_its_kind = record.is_some_and(|record| {
            newest.insert((record.command, record.dataset, record.outcome.is_success()))
        });
        if age >= KEEP && !first_of_its_kind {
            disk.remove_file(&path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn record(second: i64, command: &str, outcome: Outcome) -> RunRecord {
        let time = Timestamp::from_unix_seconds(1_763_800_000 + second).unwrap();
        RunRecord {
            format: 1,
            command: command.into(),
            dataset: Some(DataSet::Ca),
            position: None,
            began: time,
            ended: time,
            outcome,
            error: None,
            rule: None,
            accepted: BTreeSet::new(),
        }
    }

    #[test]
    fn records_read_back_in_the_order_of_time() {
        let dir = tempfile::tempdir().unwrap();
        for (second, command) in [(2, "ca push"), (1, "nc push"), (3, "db push")] {
            record(second, command, Outcome::Ok)
                .store(&Disk::new(), dir.path())
                .unwrap();
        }
        let commands: Vec<_> = RunRecord::load_all(dir.path())
            .unwrap()
            .into_iter()
            .map(|r| r.command)
            .collect();
        assert_eq!(commands, ["nc push", "ca push", "db push"]);
    }

    #[test]
    fn records_of_one_second_are_kept_apart_and_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let sets = [DataSet::Ca, DataSet::Classifier, DataSet::Files];
        for (dataset, nanos) in sets.iter().zip([7, 80, 900]) {
            let mut record = record(1, "apply", Outcome::Ok);
            record.began = record.began.plus(std::time::Duration::from_nanos(nanos));
            record.dataset = Some(dataset.clone());
            record.store(&Disk::new(), dir.path()).unwrap();
        }
        let found = RunRecord::load_all(dir.path()).unwrap();
        let found: Vec<_> = found.into_iter().filter_map(|r| r.dataset).collect();
        assert_eq!(found, sets);
    }

    #[test]
    fn the_last_success_survives_any_number_of_failures() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::new();
        record(0, "ca push", Outcome::Ok)
            .store(&disk, dir.path())
            .unwrap();
        for second in 1..=(KEEP as i64 + 200) {
            record(second, "ca push", Outcome::Failed)
                .store(&disk, dir.path())
                .unwrap();
        }
        let records = RunRecord::load_all(dir.path()).unwrap();
        assert!(records.len() <= KEEP + KEEP / 10 + 1);
        assert_eq!(records[0].outcome, Outcome::Ok);
    }
}
