//! What is stopped once this host's reign has ended, and started again once it is a spare that is in step.
//!
//! The station says first that the reign has ended; whatever dies after that is found here by the next run.

use pefo_core::reign::{Epoch, Reign};
use pefo_core::{Result, record as stored};
use serde::{Deserialize, Serialize};

use super::aftermath::{Event, tell_hooks};
use super::record;
use crate::host::Host;
use crate::pipeline::services::Services;

/// What was stopped, for which reign.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fenced {
    /// Version of this record's schema: 1.
    format: u32,
    /// The reign that ended this host's.
    epoch: Epoch,
}

/// Stops the services of `[services] on_fence` and tells the hook, once for each reign that ends this host's.
///
/// # Errors
/// `Child` where one does not stop: the next run tries again.
pub fn carry_out(host: &Host, by: &Reign) -> Result<()> {
    let path = record(host, "fenced");
    let known: Option<Fenced> = stored::load(&path)?;
    if known.is_some_and(|known| known.epoch == by.epoch) {
        return Ok(());
    }
    Services::of(host).halt(&host.config.services.on_fence)?;
    tell_hooks(host, Event::Fenced, by)?;
    let fenced = Fenced {
        format: 1,
        epoch: by.epoch,
    };
    host.store_json(&path, &fenced, 0o600)
}

/// Stops them because this host hands the reign over.
///
/// # Errors
/// `Child` where one does not stop.
pub fn stop(host: &Host, epoch: Epoch) -> Result<()> {
    // Before the first is stopped: whatever dies here, they are started again.
    let fenced = Fenced { format: 1, epoch };
    host.store_json(&record(host, "fenced"), &fenced, 0o600)?;
    Services::of(host).halt(&host.config.services.on_fence)
}

/// Starts them again, where they were stopped.
///
/// # Errors
/// `Child` where one does not start.
pub fn lift(host: &Host) -> Result<()> {
    let path = record(host, "fenced");
    if stored::load::<Fenced>(&path)?.is_none() {
        return Ok(());
    }
    Services::of(host).raise(&host.config.services.on_fence)?;
    host.disk.remove_file(&path)
}
