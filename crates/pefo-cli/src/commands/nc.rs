//! `pefo nc export` and `pefo nc diff`.

use pefo_core::Result;
use pefo_core::generation::DataSet;
use pefo_core::reign::Role;
use pefo_nc::TreeDiff;
use serde_json::json;

use crate::arguments::Change;
use crate::host::Host;
use crate::outcome::Report;
use crate::pipeline;

/// Exports the active's classifier past the export gate.
pub(super) fn export(host: &Host, if_changed: bool, change: &Change) -> Result<Report> {
    host.require(Role::Active)?;
    let _lock = host.lock("push-nc")?;
    let path = pipeline::nc::last_export_path(host);
    let export = if if_changed {
        let Some(export) = pipeline::nc::export_if_changed(host, change)? else {
            let details = json!({ "file": path, "unchanged": true });
            let text = "nc: unchanged since the last good export\n";
            return Ok(Report::unchanged(details, text).about(DataSet::Classifier));
        };
        export
    } else {
        pipeline::nc::export_now(host, change)?
    };
    let details = json!({
        "groups": export.envelope.count(),
        "file": path,
        "unchanged": export.unchanged,
        "accepted": export.accepted,
    });
    let verb = if change.dry_run {
        "would export"
    } else {
        "exported"
    };
    let text = format!(
        "nc: {verb} {} groups to {}\n",
        export.envelope.count(),
        path.display()
    );
    let report = if export.unchanged {
        Report::unchanged(details, text)
    } else {
        Report::ok(details, text)
    };
    Ok(report.about(DataSet::Classifier))
}

/// On the passive: the import plan of the newest generation. On the active: what changed since the last
/// good export.
pub(super) fn diff(host: &Host) -> Result<Report> {
    let dry = Change {
        dry_run: true,
        accept: Vec::new(),
    };
    let (station, _) = host.station()?;
    if station.role == Role::Passive {
        return Ok(
            pipeline::apply::show(host, &DataSet::Classifier, &dry)?.about(DataSet::Classifier)
        );
    }
    let before = pipeline::nc::last_export(host)?;
    let now = pipeline::nc::export_now(host, &dry)?;
    let report = match before {
        None => Report::ok(
            json!({ "groups": now.envelope.count() }),
            format!(
                "nc: {} groups, nothing was exported yet\n",
                now.envelope.count()
            ),
        ),
        Some(before) => {
            let diff = TreeDiff::between(&before.tree, &now.envelope.tree);
            let text = diff.to_string();
            let details = serde_json::to_value(&diff)
                .map_err(|error| pefo_core::Error::invalid(format!("write the diff: {error}")))?;
            if diff.is_empty() {
                Report::unchanged(details, "nc: unchanged since the last good export\n")
            } else {
                Report::ok(details, text)
            }
        }
    };
    Ok(report.about(DataSet::Classifier))
}
