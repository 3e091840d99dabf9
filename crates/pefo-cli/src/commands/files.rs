//! `pefo files diff`.

use pefo_core::files::IndexDiff;
use pefo_core::generation::DataSet;
use pefo_core::reign::Role;
use pefo_core::{Error, Result};
use serde_json::json;

use crate::arguments::Change;
use crate::host::Host;
use crate::outcome::Report;
use crate::pipeline;

/// On the passive: the plan of the newest generation. On the active: what was changed since the last push.
pub(super) fn diff(host: &Host) -> Result<Report> {
    let (station, _) = host.station()?;
    if station.role == Role::Passive {
        let dry = Change {
            dry_run: true,
            accept: Vec::new(),
        };
        return Ok(pipeline::apply::show(host, &DataSet::Files, &dry)?.about(DataSet::Files));
    }
    let before = pipeline::files::last_sent(host)?;
    let now = pipeline::files::read(host)?;
    let now = now.bundle.index();
    let Some(before) = before else {
        let count = now.files.len();
        let text = format!("files: {count} files, nothing was sent yet\n");
        return Ok(Report::ok(json!({ "files": count }), text).about(DataSet::Files));
    };
    let diff = IndexDiff::between(&before, now);
    let details = serde_json::to_value(&diff)
        .map_err(|error| Error::invalid(format!("write the diff: {error}")))?;
    let report = if diff.is_empty() {
        Report::unchanged(details, "files: unchanged since the last push\n")
    } else {
        Report::ok(details, diff.to_string())
    };
    Ok(report.about(DataSet::Files))
}
