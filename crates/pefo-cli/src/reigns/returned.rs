//! What a returning active had that the new one never saw.
//!
//! Once it is the passive, the first generation of each data set that it gets is compared with what it had, before
//! anything of it is applied. What was found is kept, for `pefo demote` to show: the CA's part can be brought
//! over (`pefo ca merge` on the active), and stays in this host's CA until then; a classification and a database
//! that are replaced are kept beside as before any other import (`pefo nc rollback`, `pefo db rollback`), and so is
//! each file (`STATE/backups/files`).

use std::path::PathBuf;

use pefo_core::clock::Timestamp;
use pefo_core::generation::DataSet;
use pefo_core::reign::Epoch;
use pefo_core::{Result, record as stored};
use serde::{Deserialize, Serialize};

use super::{fence, record};
use crate::host::Host;
use crate::pipeline::received::Received;
use crate::pipeline::{ca, code, db, files, nc};

/// A data set that is to be compared.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    /// Version of this record's schema: 1.
    format: u32,
    /// The reign in which this host was the active.
    reigned: Epoch,
}

/// What a comparison found.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Found {
    /// Version of this record's schema: 1.
    pub format: u32,
    /// The data set.
    pub dataset: DataSet,
    /// The reign in which this host was the active.
    pub reigned: Epoch,
    /// The generation of the new active with which it was compared.
    pub generation: String,
    /// When.
    pub time: Timestamp,
    /// Whether this host had anything that the new active had not, or had otherwise.
    pub differs: bool,
    /// What, for people.
    pub text: String,
}

fn expected_path(host: &Host, dataset: &DataSet) -> PathBuf {
    record(host, &format!("expected-{}", dataset.dir_name()))
}

fn found_path(host: &Host, dataset: &DataSet) -> PathBuf {
    record(host, &format!("returned-{}", dataset.dir_name()))
}

/// These data sets are to be compared once something of them comes; what was found before is over.
///
/// # Errors
/// `Io`.
pub fn expect(host: &Host, datasets: &[DataSet], reigned: Epoch) -> Result<()> {
    for dataset in host.datasets() {
        host.disk.remove_file(&found_path(host, &dataset))?;
    }
    for dataset in datasets {
        let expected = Expected { format: 1, reigned };
        host.store_json(&expected_path(host, dataset), &expected, 0o600)?;
    }
    Ok(())
}

/// The data sets of which nothing of the new active has come yet.
pub fn awaited(host: &Host) -> Vec<DataSet> {
    let mut datasets = host.datasets();
    datasets.retain(|dataset| expected_path(host, dataset).exists());
    datasets
}

/// What was found of each data set that was compared.
///
/// # Errors
/// `Io`, or `Invalid` where a record is malformed.
pub fn found(host: &Host) -> Result<Vec<Found>> {
    let mut all = Vec::new();
    for dataset in host.datasets() {
        all.extend(stored::load::<Found>(&found_path(host, &dataset))?);
    }
    Ok(all)
}

/// Compares what is about to be applied with what this host had, where it returns.
///
/// # Errors
/// What keeps the comparison from being made and may be over soon: nothing is applied until then.
pub fn settle(host: &Host, dataset: &DataSet, received: &Received) -> Result<()> {
    let path = expected_path(host, dataset);
    let Some(expected) = stored::load::<Expected>(&path)? else {
        return Ok(());
    };
    let (differs, text) = match compare(host, dataset, received) {
        Ok(compared) => compared,
        Err(error) if error.is_retryable() => {
            return Err(error.context("compare what this host had"));
        }
        // A host that was set up again, say.
        Err(error) => (true, format!("cannot be compared: {error}\n")),
    };
    let found = Found {
        format: 1,
        dataset: dataset.clone(),
        reigned: expected.reigned,
        generation: received.position().to_string(),
        time: host.clock.now(),
        differs,
        text,
    };
    host.store_json(&found_path(host, dataset), &found, 0o600)?;
    host.disk.remove_file(&path)
}

/// A spare whose CA is in step serves again what was stopped when its reign ended.
///
/// # Errors
/// `Child` where a service does not start.
pub fn in_step(host: &Host, dataset: &DataSet) -> Result<()> {
    if *dataset != DataSet::Ca || expected_path(host, dataset).exists() {
        return Ok(());
    }
    fence::lift(host)
}

/// Whether it differs, and what.
fn compare(host: &Host, dataset: &DataSet, received: &Received) -> Result<(bool, String)> {
    match dataset {
        DataSet::Ca => Ok(match ca::unseen(host, received)? {
            Some(unseen) => (unseen.changed || !unseen.errors.is_empty(), unseen.text),
            None => (false, "this host had no CA\n".to_owned()),
        }),
        DataSet::Classifier => nc::differences(host, received.full()),
        DataSet::Database(name) => {
            let compared = db::compare(host, name, received.full())?;
            let differs = !compared.verified.differences.is_empty();
            Ok((differs, compared.to_string()))
        }
        DataSet::Files => files::differences(host, received.full()),
        DataSet::Code => code::differences(host, received.full()),
    }
}
