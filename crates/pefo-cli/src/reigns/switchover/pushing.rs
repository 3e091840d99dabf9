//! The last pushes of a reign.

use std::time::Duration;

use pefo_core::generation::DataSet;
use pefo_core::pairing::Introduction;
use pefo_core::{Error, ErrorKind, Result};

use crate::arguments::Change;
use crate::host::Host;
use crate::pipeline::push::{self, PushOptions};
use crate::pipeline::{db, nc};
use crate::reigns::{RUNNING, while_locked};

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
    // Nobody begins another push once the role is changing: the one that runs ends.
    let limit = match host.station()?.0.changing {
        Some(_) => RUNNING,
        None => Duration::ZERO,
    };
    for dataset in host.datasets() {
        match push_one(host, peer, &dataset, &change, options, limit) {
            // Each master deploys its own: that what is deployed here cannot be told holds nothing up.
            Err(error) if dataset == DataSet::Code => {
                tracing::warn!(%error, "what is deployed here is not told");
            }
            pushed => pushed.map_err(|error| error.context(&dataset))?,
        }
    }
    Ok(())
}

/// One data set reaches the peer, or a watch sees to it.
fn push_one(
    host: &Host,
    peer: &Introduction,
    dataset: &DataSet,
    change: &Change,
    options: PushOptions,
    limit: Duration,
) -> Result<()> {
    let report = match while_locked(host, limit, || push::run(host, dataset, change, options)) {
        // A watch does it, and is as quick.
        Err(error) if error.kind() == ErrorKind::Locked && !options.handing_over => return Ok(()),
        report => report?,
    };
    let name = peer.certname.as_str();
    let reached = |list: &str| {
        let list = report.details[list].as_array();
        list.is_some_and(|names| names.iter().any(|it| it.as_str() == Some(name)))
    };
    if !["sent", "unchanged", "taken_up"].into_iter().any(reached) {
        let why = report.errors.into_iter().next();
        let why = why.unwrap_or_else(|| Error::invalid("the push does not say why"));
        return Err(why);
    }
    Ok(())
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
