//! What follows once a role has changed: facts, services, node groups, hooks. All of it may be done twice.

use std::collections::BTreeMap;

use pefo_core::disk::Attributes;
use pefo_core::launch::Invocation;
use pefo_core::reign::{Reign, Role};
use pefo_core::{Error, ErrorKind, Result};

use super::fence;
use crate::host::Host;
use crate::pipeline::services::Services;

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

/// Writes the original module's four facts as external facts, where a file is configured: what classified
/// masters by them goes on to.
///
/// # Errors
/// `Io`, or `Config` where the file's ending is none that Facter reads.
pub fn write_facts(host: &Host, role: Role) -> Result<()> {
    let Some(path) = &host.config.facts.file else {
        return Ok(());
    };
    let facts = facts(host, role)?;
    let text = match path.extension().and_then(|ending| ending.to_str()) {
        Some("txt") => facts
            .iter()
            .map(|(name, value)| format!("{name}={value}\n"))
            .collect(),
        // A quoted string of JSON is one of YAML.
        Some("yaml" | "yml") => facts
            .iter()
            .map(|(name, value)| format!("{name}: {}\n", serde_json::Value::from(value.as_str())))
            .collect(),
        Some("json") => serde_json::to_string_pretty(&facts)
            .map_err(|error| Error::invalid(format!("write the facts: {error}")))?,
        _ => {
            let message = format!(
                "facts.file = {:?}: Facter reads .txt, .yaml and .json",
                path
            );
            return Err(Error::new(ErrorKind::Config, message));
        }
    };
    if let Some(parent) = path.parent() {
        host.disk.create_dir_all(parent, &Attributes::mode(0o755))?;
    }
    host.disk
        .publish(path, text.as_bytes(), &Attributes::mode(0o644))
}

/// The original's names: the mode, the key with which the active logs in, the passive, and the master whose
/// PuppetDB is the other one.
fn facts(host: &Host, role: Role) -> Result<BTreeMap<&'static str, String>> {
    let me = host.introduction()?;
    let peers = host.peers()?;
    let other = peers
        .first()
        .map(|peer| peer.certname.to_string())
        .unwrap_or_default();
    let passive = match role {
        Role::Active => other.clone(),
        Role::Passive => me.certname.to_string(),
    };
    // The original shared the bare key, without its kind and comment.
    let key = me.ssh_key.split(' ').nth(1).unwrap_or_default().to_owned();
    Ok(BTreeMap::from([
        ("pe_failover_mode", role.to_string()),
        ("pe_failover_key", key),
        ("pe_failover_passive_master", passive),
        ("pe_failover_pdb_peer", other),
    ]))
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
        tell_hooks(host, Event::Promoted, reign).map_err(|error| error.context("hooks")),
    ];
    let failed: Vec<Error> = done.into_iter().filter_map(Result::err).collect();
    if failed.is_empty() {
        Ok(())
    } else {
        Err(failed)
    }
}

/// What a promotion warns of: exported resources of nodes that this host's PuppetDB does not hold would be
/// purged where a collector purges.
pub fn exported_resources(_host: &Host) -> Option<String> {
    None
}
