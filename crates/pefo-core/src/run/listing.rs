//! Which runs there were, by the names of their records: to know how it goes, few of a thousand records need
//! to be read.
//!
//! A name tells when the run began, about which data set it was, and how it ended. It is written together with
//! the record, so that it cannot say something else; what it does not say for certain is read from the record.

use std::path::{Path, PathBuf};

use super::{Outcome, RunRecord};
use crate::clock::Timestamp;
use crate::disk::read_capped;
use crate::error::Result;
use crate::generation::DataSet;

/// All records of a directory, not yet read.
#[derive(Debug, Clone)]
pub struct Runs {
    dir: PathBuf,
    /// Sorted, the oldest first.
    names: Vec<String>,
}

impl Runs {
    /// Lists the records below `dir`.
    ///
    /// # Errors
    /// `Io`, where the directory cannot be listed.
    pub fn list(dir: &Path) -> Result<Self> {
        Ok(Self {
            dir: dir.to_owned(),
            names: super::names(dir)?.into_iter().collect(),
        })
    }

    /// The runs about a data set, the newest first. One of another data set may be among them, whose name reads
    /// alike: [`Run::read`] leaves it out.
    pub fn of<'a>(&'a self, dataset: &'a DataSet) -> impl Iterator<Item = Run<'a>> {
        let ending = format!("-{}", plain(&dataset.dir_name()));
        self.names.iter().rev().filter_map(move |name| {
            let (head, outcome) = parts(name)?;
            head.ends_with(&ending).then(|| Run {
                dir: &self.dir,
                name,
                dataset,
                outcome,
            })
        })
    }
}

/// One run, by its record's name.
#[derive(Debug, Clone, Copy)]
pub struct Run<'a> {
    dir: &'a Path,
    name: &'a str,
    dataset: &'a DataSet,
    outcome: Option<Outcome>,
}

impl Run<'_> {
    /// When it began, to the second.
    pub fn began(&self) -> Option<Timestamp> {
        let stamp = self.name.get(..15)?;
        let text = format!(
            "{}-{}-{}:{}:{}Z",
            stamp.get(..4)?,
            stamp.get(4..6)?,
            stamp.get(6..11)?,
            stamp.get(11..13)?,
            stamp.get(13..15)?
        );
        text.parse().ok()
    }

    /// How it ended; read from the record where the name does not say it.
    pub fn outcome(&self) -> Option<Outcome> {
        self.outcome
            .or_else(|| self.read().map(|record| record.outcome))
    }

    /// The record; none where it cannot be read or is of another data set.
    pub fn read(&self) -> Option<RunRecord> {
        let bytes = read_capped(&self.dir.join(self.name), super::MAX_BYTES).ok()?;
        let record: RunRecord = serde_json::from_slice(&bytes).ok()?;
        (record.dataset.as_ref() == Some(self.dataset)).then_some(record)
    }
}

/// What may stand in a record's name.
pub(super) fn plain(text: &str) -> String {
    let mut text = text.replace(' ', "-");
    text.retain(|c| c.is_ascii_alphanumeric() || c == '-');
    text
}

/// What stands before the process's number, and how the run ended, where the name tells it.
fn parts(name: &str) -> Option<(&str, Option<Outcome>)> {
    let name = name.strip_suffix(".json")?;
    let (head, last) = name.rsplit_once('-')?;
    match Outcome::from_word(last) {
        Some(outcome) => Some((head.rsplit_once('-')?.0, Some(outcome))),
        // As the first records were named.
        None => Some((head, None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{Attributes, Disk};
    use crate::run::tests::record;

    #[test]
    fn the_names_tell_when_about_what_and_how_it_ended() {
        let dir = tempfile::tempdir().unwrap();
        for (second, outcome) in [
            (1, Outcome::Ok),
            (2, Outcome::Refused),
            (3, Outcome::Locked),
        ] {
            record(second, "ca push", outcome)
                .store(&Disk::new(), dir.path())
                .unwrap();
        }
        let runs = Runs::list(dir.path()).unwrap();
        let found: Vec<_> = runs.of(&DataSet::Ca).collect();
        let told: Vec<_> = found.iter().map(|run| run.outcome).collect();
        assert_eq!(
            told,
            [Outcome::Locked, Outcome::Refused, Outcome::Ok].map(Some)
        );
        let began = found[0].began().unwrap();
        assert_eq!(began.unix_seconds(), 1_763_800_003);
        assert_eq!(found[2].read().unwrap().outcome, Outcome::Ok);
    }

    #[test]
    fn data_sets_of_like_names_are_kept_apart_by_the_record() {
        let dir = tempfile::tempdir().unwrap();
        let sets = ["db:a-nc", "db:a_b", "db:ab", "nc", "ca"].map(|it| it.parse().unwrap());
        for (second, dataset) in (1..).zip(&sets) {
            let mut record = record(second, "db push", Outcome::Ok);
            record.dataset = Some(DataSet::clone(dataset));
            record.store(&Disk::new(), dir.path()).unwrap();
        }
        let runs = Runs::list(dir.path()).unwrap();
        for dataset in &sets {
            let read: Vec<_> = runs.of(dataset).filter_map(|run| run.read()).collect();
            assert_eq!(read.len(), 1, "{dataset}");
            assert_eq!(read[0].dataset.as_ref(), Some(dataset));
        }
    }

    #[test]
    fn a_record_named_as_the_first_ones_were_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let bytes = serde_json::to_vec(&record(1, "ca push", Outcome::Failed)).unwrap();
        let path = dir
            .path()
            .join("20251122T082641.000000000-ca-push-ca-4711.json");
        Disk::new()
            .publish(&path, &bytes, &Attributes::mode(0o600))
            .unwrap();
        let runs = Runs::list(dir.path()).unwrap();
        let found: Vec<_> = runs.of(&DataSet::Ca).collect();
        assert_eq!(found[0].outcome(), Some(Outcome::Failed));
    }

    proptest::proptest! {
        #[test]
        fn no_name_makes_it_panic(name in ".{0,40}") {
            let run = Run { dir: Path::new("/"), name: &name, dataset: &DataSet::Ca, outcome: None };
            let _ = (parts(&name), run.began());
        }
    }
}
