//! `pefo pause`, `pefo resume`: while an operator works on the pair, nothing is pushed from here and nothing
//! applied here. What the peer sends is still received, and applied after that.

use std::path::PathBuf;

use pefo_core::clock::Timestamp;
use pefo_core::{Error, Result, record};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::arguments::Change;
use crate::host::Host;
use crate::outcome::Report;

/// The rule by which pushes and applies rest.
pub const PAUSED: &str = "paused";

/// Since when, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Paused {
    /// Version of this record's schema: 1.
    pub format: u32,
    /// Since when.
    pub since: Timestamp,
    /// What the operator said of it.
    pub reason: Option<String>,
}

/// Where that stands. Beside the station: what watches the one for a change sees the other.
pub fn path(host: &Host) -> PathBuf {
    host.state("public/paused.json")
}

/// Whether this host rests.
///
/// # Errors
/// `Io`, or `Invalid` where the record is malformed.
pub fn paused(host: &Host) -> Result<Option<Paused>> {
    record::load(&path(host))
}

/// Lets nothing pass while this host rests.
///
/// # Errors
/// `Refused` (`paused`); `Io`.
pub fn check(host: &Host, change: &Change) -> Result<()> {
    let Some(paused) = paused(host)? else {
        return Ok(());
    };
    if change.dry_run || change.accept.iter().any(|rule| rule == PAUSED) {
        return Ok(());
    }
    let reason = paused.reason.map(|reason| format!(" ({reason})"));
    let message = format!(
        "this host is paused since {}{}",
        paused.since,
        reason.unwrap_or_default()
    );
    Err(Error::refused(PAUSED, message)
        .hint("'pefo resume' lets it go on; '--accept paused' lets one run pass"))
}

/// `pefo pause`.
///
/// # Errors
/// `Config` where this host is not set up; `Io`.
pub fn pause(host: &Host, reason: Option<&str>, dry_run: bool) -> Result<Report> {
    host.station()?;
    if let Some(paused) = paused(host)? {
        let text = format!("paused already, since {}\n", paused.since);
        return Ok(Report::unchanged(json!(paused), text));
    }
    let paused = Paused {
        format: 1,
        since: host.clock.now(),
        reason: reason.map(str::to_owned),
    };
    if dry_run {
        return Ok(Report::ok(
            json!(paused),
            "would pause: nothing would be pushed from here and nothing applied here\n",
        ));
    }
    host.store_json(&path(host), &paused, 0o644)?;
    Ok(Report::ok(
        json!(paused),
        "paused: nothing is pushed from here and nothing applied here until 'pefo resume'\n",
    ))
}

/// `pefo resume`.
///
/// # Errors
/// `Config` where this host is not set up; `Io`.
pub fn resume(host: &Host, dry_run: bool) -> Result<Report> {
    host.station()?;
    let Some(paused) = paused(host)? else {
        return Ok(Report::unchanged(json!(null), "was not paused\n"));
    };
    let rested = host.clock.now().since(paused.since).as_secs();
    let verb = if dry_run { "would go on" } else { "goes on" };
    if !dry_run {
        host.disk.remove_file(&path(host))?;
    }
    Ok(Report::ok(
        json!(paused),
        format!("{verb} after {rested} s\n"),
    ))
}
