//! `pefo code status` and `pefo code deploy`.

use std::time::Duration;

use pefo_core::Result;
use pefo_core::generation::DataSet;
use pefo_core::reign::Role;

use crate::code::{EnvironmentName, deploy, read};
use crate::host::Host;
use crate::outcome::Report;
use crate::pipeline;

/// Whether both masters have the same code. Where that cannot be told, the answer is the plugins' unknown.
pub(super) fn status(host: &Host, timeout: u64) -> Report {
    let told = read::settings(host).and_then(|_| {
        let (station, _) = host.station()?;
        match station.role {
            Role::Active => pipeline::code::on_active(host, Duration::from_secs(timeout)),
            Role::Passive => pipeline::code::on_passive(host),
        }
    });
    told.unwrap_or_else(Report::unknown)
}

/// Deploys on this host, in whichever role it is.
pub(super) fn deploy(host: &Host, names: &[EnvironmentName], dry_run: bool) -> Result<Report> {
    let report = deploy::deploy(host, names, dry_run)?;
    if !dry_run && host.is_initialised() {
        pipeline::code::look_again(host);
    }
    Ok(report.about(DataSet::Code))
}
