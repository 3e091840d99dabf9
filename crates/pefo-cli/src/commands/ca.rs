//! `pefo ca diff`, `pefo ca verify` and `pefo ca exclude`.

use std::time::Duration;

use pefo_core::Result;
use pefo_core::generation::DataSet;
use pefo_core::reign::Role;
use serde_json::json;

use crate::arguments::Change;
use crate::host::Host;
use crate::outcome::Report;
use crate::pipeline;
use crate::pipeline::push::PushOptions;

/// On the passive: the plan of the newest generation. On the active: what a push would send.
pub(super) fn diff(host: &Host) -> Result<Report> {
    let dry = Change {
        dry_run: true,
        accept: Vec::new(),
    };
    let (station, _) = host.station()?;
    let report = match station.role {
        Role::Active => pipeline::push::run(host, &DataSet::Ca, &dry, PushOptions::default())?,
        Role::Passive => pipeline::apply::show(host, &DataSet::Ca, &dry)?,
    };
    Ok(report.about(DataSet::Ca))
}

/// Whether both masters would serve the same. Where that cannot be told, the answer is the plugins' unknown.
pub(super) fn verify(host: &Host, full: bool, timeout: u64) -> Report {
    let verified = host.station().and_then(|(station, _)| match station.role {
        Role::Active => pipeline::verify::on_active(host, Duration::from_secs(timeout)),
        Role::Passive => pipeline::verify::on_passive(host, full),
    });
    verified.unwrap_or_else(Report::unknown)
}

/// Which certificates never cross, and why.
pub(super) fn exclude(host: &Host) -> Result<Report> {
    let (station, _) = host.station()?;
    let passives = match station.role {
        Role::Active => host
            .peers()?
            .into_iter()
            .map(|peer| peer.certname)
            .collect(),
        Role::Passive => vec![host.config.site.certname.clone()],
    };
    let exclusions = pipeline::ca::exclusions(host, passives);
    let text = exclusions
        .iter()
        .map(|(name, reason)| format!("{name}: {reason}\n"))
        .collect::<String>();
    let details = exclusions
        .iter()
        .map(|(name, reason)| json!({ "certname": name, "reason": reason }))
        .collect::<Vec<_>>();
    Ok(Report::ok(json!(details), text).about(DataSet::Ca))
}
