//! `pefo nc verify`: would the spare classify as the active does?
//!
//! The live classifier is compared with what an import of the newest accepted generation would make of it;
//! nothing is changed, and no gate is asked.

use pefo_core::generation::{Accepted, DataSet, Verified};
use pefo_core::{Error, ErrorKind, Result};
use pefo_nc::import::{
    INFRASTRUCTURE_UNMATCHED, ImportPlan, SOURCE_NOT_MAPPED, TARGET_BROKEN, TARGET_STOCK_GROUP,
};
use serde_json::json;

use super::planned;
use crate::arguments::Change;
use crate::host::Host;
use crate::outcome::{Health, Report};
use crate::pipeline::apply::Passive;

/// Compares what this host's classifier holds with what was accepted last, rewritten for this host.
///
/// # Errors
/// `WrongRole` on the active, `NotFound` where nothing was accepted yet; what the server says.
pub fn run(host: &Host) -> Result<Report> {
    let dataset = DataSet::Classifier;
    let passive = Passive::open(host)?;
    let _lock = host.lock("show-nc")?;
    let accepted = Accepted::load(&host.record_path("accepted", &dataset))?;
    let accepted = accepted.ok_or_else(|| {
        Error::new(ErrorKind::NotFound, "nc: nothing was accepted yet")
            .hint("run 'pefo nc push' on the active and 'pefo nc restore' here")
    })?;
    let received = passive.accepted(&dataset, &accepted)?;
    let plan = compared(host, received.full())?;
    let diff = plan.diff();
    let differing = diff.added.len() + diff.removed.len() + diff.changed.len();
    let position = accepted.position;
    let is_behind = accepted.applied != Some(position);
    let health = match (differing, is_behind) {
        (0, false) => Health::Ok,
        (_, true) => Health::Warning,
        (_, false) => Health::Critical,
    };
    let mut text = format!(
        "PEFO {}: {differing} of {} groups differ from {position} | 'differing'={differing}\n",
        health.word(),
        plan.wanted().len()
    );
    if differing > 0 {
        text.push_str(&format!("{diff}\n"));
    }
    if is_behind {
        text.push_str("note     what was received is not imported: run 'pefo nc diff'\n");
    }
    let details = json!({
        "generation": position.to_string(),
        "applied": !is_behind,
        "groups": plan.wanted().len(),
        "differing": differing,
        "diff": serde_json::to_value(diff)
            .map_err(|error| Error::invalid(format!("write the comparison: {error}")))?,
    });
    Ok(Report::ok(details, text).health(health).about(dataset))
}

/// What an import would make of what this host's classifier holds; what it would ask about is a difference here.
fn compared(host: &Host, verified: &Verified) -> Result<ImportPlan> {
    let asked = [
        SOURCE_NOT_MAPPED,
        TARGET_BROKEN,
        TARGET_STOCK_GROUP,
        INFRASTRUCTURE_UNMATCHED,
    ];
    let all = Change {
        dry_run: true,
        accept: asked.map(str::to_owned).to_vec(),
    };
    planned(host, &super::client(host)?, verified, &all)
}

/// Whether this host's classifier holds anything else than a generation would make of it, and what, group by
/// group.
///
/// # Errors
/// What the server says.
pub fn differences(host: &Host, verified: &Verified) -> Result<(bool, String)> {
    let plan = compared(host, verified)?;
    let diff = plan.diff();
    if diff.is_empty() {
        return Ok((false, "the same groups\n".to_owned()));
    }
    Ok((true, format!("{diff}\n")))
}
