//! Why nobody answers at the configured address, for `pefo status`: which runs in another process.

use std::path::PathBuf;

use pefo_core::clock::Timestamp;
use pefo_core::{Result, record};
use serde::{Deserialize, Serialize};

use crate::config::Listen;
use crate::host::Host;
use crate::outcome::Health;
use crate::overview::Problem;

/// An address that could not be listened on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Unheard {
    /// Version of this record's schema: 1.
    format: u32,
    listen: Listen,
    since: Timestamp,
    /// What the system says.
    reason: String,
}

fn path(host: &Host) -> PathBuf {
    host.state("health.json")
}

/// What keeps the health endpoint from answering, as `pefo run` has found; nothing where it answers, and where
/// the configuration names another address by now or none.
///
/// # Errors
/// `Io`, or `Invalid` where the record is malformed.
pub fn problem(host: &Host) -> Result<Option<Problem>> {
    Ok(unheard(host)?.map(|unheard| Problem {
        kind: "health",
        health: Health::Warning,
        what: format!(
            "the health endpoint could not listen on {} since {}: {}",
            unheard.listen, unheard.since, unheard.reason
        ),
        hint: "let nothing else have that address, or name another by [health] listen; 'pefo run' tries again by itself"
            .to_owned(),
    }))
}

fn unheard(host: &Host) -> Result<Option<Unheard>> {
    let unheard: Option<Unheard> = record::load(&path(host))?;
    let listen = host.config.health.as_ref().map(|health| &health.listen);
    Ok(unheard.filter(|unheard| Some(&unheard.listen) == listen))
}

/// Notes why the address cannot be listened on; the first time of many counts.
pub(super) fn note(host: &Host, listen: &Listen, reason: &str) {
    if let Ok(Some(known)) = unheard(host)
        && known.reason == reason
    {
        return;
    }
    let unheard = Unheard {
        format: 1,
        listen: listen.clone(),
        since: host.clock.now(),
        reason: reason.to_owned(),
    };
    if let Err(error) = host.store_json(&path(host), &unheard, 0o600) {
        tracing::warn!(%error, "'pefo status' is not told");
    }
}

/// Forgets it.
pub(super) fn over(host: &Host) {
    let path = path(host);
    if path.exists()
        && let Err(error) = host.disk.remove_file(&path)
    {
        tracing::warn!(%error, "'pefo status' is not told");
    }
}
