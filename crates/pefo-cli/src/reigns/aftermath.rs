//! What follows once a role has changed: facts, services, node groups, hooks. All of it may be done twice.

mod exported;
mod facts;

use pefo_core::launch::Invocation;
use pefo_core::reign::{Reign, Role};
use pefo_core::{Error, Result};
use pefo_nc::failover::{FailoverOptions, ensure_groups};

use super::fence;
use crate::host::Host;
use crate::pipeline::services::Services;
use crate::pipeline::{block_on, nc};

pub use exported::{count as count_exported, exported_resources};
pub use facts::write_facts;

/// What a hook is told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// This host became the active.
    Promoted,
    /// This host became the passive.
    Demoted,
    /// This host's reign has ended, and it has stopped.
    Fenced,
}

impl Event {
    /// As hooks are told it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Promoted => "promoted",
            Self::Demoted => "demoted",
            Self::Fenced => "fenced",
        }
    }
}

/// Runs the operator's program of `[hooks] role_changed` with what happened, this host's certname, the epoch,
/// and who reigns.
///
/// # Errors
/// `Child` where it fails.
pub fn tell_hooks(host: &Host, event: Event, reign: &Reign) -> Result<()> {
    let Some((program, arguments)) = host.config.hooks.role_changed.split_first() else {
        return Ok(());
    };
    let invocation = arguments
        .iter()
        .fold(Invocation::new(program), Invocation::arg)
        .arg(event.name())
        .arg(host.config.site.certname.as_str())
        .arg(reign.epoch.to_string())
        .arg(reign.certname.as_str());
    host.launcher.run(&invocation)?.success(&invocation)?;
    Ok(())
}

/// All that follows a promotion; each of it is tried, whatever became of the others.
///
/// # Errors
/// All that failed.
pub fn promoted(host: &Host, reign: &Reign) -> std::result::Result<(), Vec<Error>> {
    let services = Services::of(host);
    let done = [
        write_facts(host, Role::Active).map_err(|error| error.context("facts")),
        // What was stopped when this host's own reign ended.
        fence::lift(host).map_err(|error| error.context("services.on_fence")),
        services
            .raise(&host.config.services.on_promote)
            .map_err(|error| error.context("services.on_promote")),
        classify(host),
        tell_hooks(host, Event::Promoted, reign).map_err(|error| error.context("hooks")),
    ];
    let failed: Vec<Error> = done.into_iter().filter_map(Result::err).collect();
    if failed.is_empty() {
        Ok(())
    } else {
        Err(failed)
    }
}

/// The masters' own node groups, and the classes that the classifier offers, where that is configured: what it was
/// told on the former active is not known here.
fn classify(host: &Host) -> Result<()> {
    let Some(settings) = &host.config.classifier else {
        return Ok(());
    };
    if settings.failover_groups {
        // It has the classifier read its classes too.
        let ensured =
            async { ensure_groups(&nc::client(host)?, &FailoverOptions::default()).await };
        let plan = block_on(ensured);
        let plan = plan.map_err(|error| error.context("classifier.failover_groups"))?;
        for change in plan.changes() {
            tracing::info!(
                group = change.name,
                "a node group of the masters was written"
            );
        }
    } else if settings.refresh_classes {
        let refreshed = async { nc::client(host)?.update_classes(None).await };
        block_on(refreshed).map_err(|error| error.context("classifier.refresh_classes"))?;
    }
    Ok(())
}
