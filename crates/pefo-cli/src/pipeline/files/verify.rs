//! `pefo files verify`: does the spare have the files that the active sent last?

use pefo_core::files::PARENT_OPEN;
use pefo_core::generation::{Accepted, DataSet, Verified};
use pefo_core::{Error, ErrorKind, Result};
use serde_json::json;

use super::{planned, told};
use crate::arguments::Change;
use crate::host::Host;
use crate::outcome::{Health, Report};
use crate::pipeline::apply::Passive;

/// Compares the files here with what was accepted last; what applying would refuse is told as differing.
///
/// # Errors
/// `WrongRole` on the active, `NotFound` where nothing was accepted yet; as of the plan.
pub fn run(host: &Host) -> Result<Report> {
    let dataset = DataSet::Files;
    let passive = Passive::open(host)?;
    let accepted = Accepted::load(&host.record_path("accepted", &dataset))?;
    let accepted = accepted.ok_or_else(|| {
        Error::new(ErrorKind::NotFound, "files: nothing was accepted yet")
            .hint("run 'pefo files push' on the active and 'pefo files apply' here")
    })?;
    let received = passive.accepted(&dataset, &accepted)?;
    let (plan, bundle) = planned(host, received.full(), &looking())?;
    let differing = plan.steps.len() + plan.refused.len();
    let position = accepted.position;
    let is_behind = accepted.applied != Some(position);
    let health = match (differing, is_behind) {
        (0, false) => Health::Ok,
        (0, true) => Health::Warning,
        _ => Health::Critical,
    };
    let mut text = format!(
        "PEFO {}: {differing} of {} files differ from {position} | 'differing'={differing}\n",
        health.word(),
        bundle.index().files.len()
    );
    if differing > 0 {
        text.push_str(&plan.to_string());
    }
    if is_behind {
        text.push_str("note       what was received is not applied whole: run 'pefo files diff'\n");
    }
    let details = json!({
        "generation": position.to_string(),
        "applied": !is_behind,
        "differing": differing,
        "plan": told(&plan)?,
    });
    Ok(Report::ok(details, text).health(health).about(dataset))
}

/// Whether this host has any file otherwise than a generation, or one that it has not; and which.
///
/// # Errors
/// As of the plan.
pub fn differences(host: &Host, verified: &Verified) -> Result<(bool, String)> {
    let (plan, _) = planned(host, verified, &looking())?;
    let differs = !plan.is_empty() || !plan.refused.is_empty() || !plan.only_here.is_empty();
    Ok((differs, plan.to_string()))
}

/// Nothing is written, so that it does not matter who else may write.
fn looking() -> Change {
    Change {
        dry_run: true,
        accept: vec![PARENT_OPEN.to_owned()],
    }
}
