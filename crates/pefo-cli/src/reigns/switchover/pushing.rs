//! The last pushes of a reign.

use std::time::Duration;

use pefo_core::generation::DataSet;
use pefo_core::pairing::Introduction;
use pefo_core::{Error, ErrorKind, Result};

use crate::arguments::Change;
use crate::host::Host;
use crate::pipeline::push::{self, PushOptions};
use crate::pipeline::{db, nc};

/// How long a push that runs just now is waited for.
const RUNNING: Duration = Duration::from_secs(60);
/// How often it is looked whether it has ended.
const LOOK: Duration = Duration::from_millis(20);

/// Every data set reaches the peer; that another peer is down holds nothing up.
pub(super) fn push_all(
    host: &Host,
    peer: &Introduction,
    change: &Change,
    options: PushOptions,
) -> Result<()> {
    let change = Change {
        dry_run: false,
        accept: change.accept.clone(),
    };
    for dataset in host.datasets() {
        let report = match free(host, &dataset, || {
            push::run(host, &dataset, &change, options)
        }) {
            // A watch does it, and is as quick.
            Err(error) if error.kind() == ErrorKind::Locked && !options.handing_over => continue,
            report => report.map_err(|error| error.context(&dataset))?,
        };
        let name = peer.certname.as_str();
        let reached = |list: &str| {
            let list = report.details[list].as_array();
            list.is_some_and(|names| names.iter().any(|it| it.as_str() == Some(name)))
        };
        if !["sent", "unchanged", "taken_up"].into_iter().any(reached) {
            let why = report.errors.into_iter().next();
            let why = why.unwrap_or_else(|| Error::invalid("the push does not say why"));
            return Err(why.context(&dataset));
        }
    }
    Ok(())
}

/// Waits for a push that runs just now.
fn free<T>(host: &Host, dataset: &DataSet, act: impl Fn() -> Result<T>) -> Result<T> {
    let begun = host.clock.monotonic();
    let limit = match host.station()?.0.changing {
        Some(_) => RUNNING,
        None => Duration::ZERO,
    };
    loop {
        match act() {
            Err(error)
                if error.kind() == ErrorKind::Locked
                    && host.clock.monotonic().saturating_sub(begun) < limit =>
            {
                tracing::debug!(%error, %dataset, "waits");
                host.clock.wait(LOOK);
            }
            other => return other,
        }
    }
}

/// Whether somebody changed the classifier or a database after the last push.
pub(super) fn has_changed(host: &Host) -> Result<bool> {
    if host.config.classifier.is_some() && !nc::is_unchanged(host)? {
        return Ok(true);
    }
    for dataset in host.datasets() {
        if let DataSet::Database(name) = &dataset
            && db::unchanged_since(host, name)?.is_none()
        {
            return Ok(true);
        }
    }
    Ok(false)
}
