//! `pefo promote`, `demote`, `switchover`, `fence`, `pause` and `resume`: what changes who does what.

use std::time::Duration;

use pefo_core::reign::{Epoch, Role};
use pefo_core::{Error, Result};
use serde_json::json;

use super::recorded;
use crate::arguments::{Change, Command};
use crate::host::Host;
use crate::outcome::Report;
use crate::reigns::{ask, demote, learn, look, pause, promote, switchover};

/// Runs one of them.
pub(super) fn run(host: &Host, name: &str, command: &Command) -> Result<Report> {
    let seconds = Duration::from_secs;
    let (change, act): (Change, Box<dyn FnOnce() -> Result<Report> + '_>) = match command {
        Command::Promote {
            epoch_above,
            leave,
            abort,
            change,
        } => {
            let options = promote::PromoteOptions {
                dry_run: change.dry_run,
                accept: change.accept.iter().cloned().collect(),
                leave: leave.iter().cloned().collect(),
                epoch_above: epoch_above.map(Epoch),
                abort: *abort,
            };
            (
                change.clone(),
                Box::new(move || promote::run(host, &options)),
            )
        }
        Command::Demote { wait, dry_run } => {
            let change = Change::from(dry_run);
            let is_dry = change.dry_run;
            (
                change,
                Box::new(move || demote::run(host, seconds(*wait), is_dry)),
            )
        }
        Command::Switchover {
            to,
            timeout,
            change,
        } => (
            change.clone(),
            Box::new(move || switchover::run(host, to.as_ref(), seconds(*timeout), change)),
        ),
        Command::Fence => (Change::default(), Box::new(|| fence(host))),
        Command::Pause { reason, dry_run } => {
            let change = Change::from(dry_run);
            let is_dry = change.dry_run;
            (
                change,
                Box::new(move || pause::pause(host, reason.as_deref(), is_dry)),
            )
        }
        Command::Resume { dry_run } => {
            let change = Change::from(dry_run);
            let is_dry = change.dry_run;
            (change, Box::new(move || pause::resume(host, is_dry)))
        }
        _ => return Err(Error::invalid("no command that changes a role")),
    };
    Ok(recorded(host, name, None, &change, act))
}

/// Asks the peers who reigns. An active whose reign has ended stops what signs, and so does one that finds another
/// holder of its epoch.
fn fence(host: &Host) -> Result<Report> {
    look(host)?;
    let (mut answered, mut silent) = (Vec::new(), Vec::new());
    for (peer, said) in ask::all(host)? {
        match said {
            Ok(said) => {
                learn::of(host, said.record.as_bytes())?;
                answered.push(peer.certname);
            }
            Err(error) => silent.push(error.context(&peer.certname)),
        }
    }
    let (station, _) = host.station()?;
    let reign = host.require(station.role)?;
    let text = format!(
        "this host is the {} in epoch {} of {}; {} of {} peers answer\n",
        station.role,
        reign.epoch,
        reign.certname,
        answered.len(),
        answered.len() + silent.len()
    );
    // That nobody answers says nothing: an active that is alone goes on.
    for error in silent {
        if station.role == Role::Active {
            tracing::warn!(%error, "it does not say who reigns");
        }
    }
    let details = json!({ "role": station.role, "epoch": reign.epoch, "holder": reign.certname, "answered": answered });
    Ok(Report::unchanged(details, text))
}
