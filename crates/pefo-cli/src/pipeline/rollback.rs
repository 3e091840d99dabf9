//! `pefo ca apply --rollback GENERATION`: back to what this host had, by the operator's own act; and what
//! holds for every data set after that.
//!
//! What was deleted or replaced since comes back, by the CA's rules; what was added since stays; a revocation
//! in force is taken back only where that was asked for by name. From then on nothing of the active is
//! applied until the operator says so: the next batch would undo it.

use std::path::PathBuf;

use pefo_core::clock::Timestamp;
use pefo_core::generation::{DataSet, Position};
use pefo_core::record;
use pefo_core::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::apply::{Passive, left_undone};
use super::{ack, ca};
use crate::arguments::Change;
use crate::host::Host;
use crate::outcome::Report;

/// The rule that holds everything from the active back, and what `--accept` takes to go on.
pub const ROLLED_BACK: &str = "rolled-back";

/// A host that an operator has rolled back.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Hold {
    /// Version of this record's schema: 1.
    format: u32,
    /// To what: a generation, or a database that was kept.
    to: String,
    /// When.
    time: Timestamp,
}

fn path(host: &Host, dataset: &DataSet) -> PathBuf {
    host.state("accepted")
        .join(format!("{}.hold.json", dataset.dir_name()))
}

/// Lets nothing pass where an operator has rolled this host back and not gone on since.
///
/// # Errors
/// `Refused` (`rolled-back`); `Io`.
pub fn check(host: &Host, dataset: &DataSet) -> Result<()> {
    match record::load::<Hold>(&path(host, dataset))? {
        None => Ok(()),
        Some(hold) => Err(Error::refused(
            ROLLED_BACK,
            format!(
                "{dataset} was rolled back to {} at {}, and nothing of the active is applied since",
                hold.to, hold.time
            ),
        )
        .hint(match dataset {
            DataSet::Classifier => "to follow the active again: 'pefo nc restore --accept rolled-back'",
            DataSet::Database(_) => "to follow the active again: 'pefo db restore --accept rolled-back'",
            _ => "to follow the active again: stop 'pefo ca watch' here, then run 'pefo ca apply --accept rolled-back'",
        })),
    }
}

/// Holds everything of the active back from now on: what an operator has gone back from would come again with
/// the next run.
///
/// # Errors
/// `Io`.
pub fn hold(host: &Host, dataset: &DataSet, to: String) -> Result<()> {
    let hold = Hold {
        format: 1,
        to,
        time: host.clock.now(),
    };
    host.store_json(&path(host, dataset), &hold, 0o600)
}

/// Goes on after a rollback, where the operator says so.
///
/// # Errors
/// `Io`.
pub fn release(host: &Host, dataset: &DataSet, change: &Change) -> Result<()> {
    if change.accept.iter().any(|rule| rule == ROLLED_BACK) {
        lift(host, dataset)?;
    }
    Ok(())
}

/// Holds nothing back any more.
///
/// # Errors
/// `Io`.
pub fn lift(host: &Host, dataset: &DataSet) -> Result<()> {
    host.disk.remove_file(&path(host, dataset))
}

/// Brings back what this host's CA had at a generation.
///
/// # Errors
/// `WrongRole` on the active, `Locked`, `NotFound` where root's store does not have it; what the plan refuses.
pub fn run(
    host: &Host,
    generation: Position,
    allow_unrevoke: bool,
    change: &Change,
) -> Result<Report> {
    let dataset = DataSet::Ca;
    let passive = Passive::open(host)?;
    let _lock = host.lock("apply-ca")?;
    let received = passive.at(&dataset, generation)?;
    let applied = ca::roll_back(host, &received, allow_unrevoke, change, || {
        // First: a crash in between leaves a host that waits for its operator, not one that goes on.
        hold(host, &dataset, generation.to_string())
    })?;
    if !change.dry_run {
        ack::publish(host, &dataset, None, vec![ROLLED_BACK.to_owned()])?;
    }
    let verb = if change.dry_run {
        "would roll back"
    } else {
        "rolled back"
    };
    let text = format!("{dataset}: {verb} to {generation}\n{}", applied.text);
    let details = json!({ "generation": generation.to_string(), "changes": applied.details });
    let report = if applied.changed {
        Report::ok(details, text)
    } else {
        Report::unchanged(details, text)
    };
    Ok(left_undone(report, applied.errors).about(dataset))
}
