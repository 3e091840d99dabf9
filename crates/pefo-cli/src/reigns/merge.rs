//! `pefo ca merge`: what a peer's CA has that this host, which holds the reign, never saw: certificates it signed,
//! what it revoked, requests it got. The peer's root hands the files over, signed; the CA's own rules decide.

use std::time::Duration;

use pefo_core::generation::DataSet;
use pefo_core::pairing::Introduction;
use pefo_core::reign::Role;
use pefo_core::request::{Outcome, Subject};
use pefo_core::{Certname, Error, ErrorKind, Result};
use serde_json::json;

use crate::arguments::Change;
use crate::host::Host;
use crate::outcome::Report;
use crate::pipeline::apply::left_undone;
use crate::pipeline::{ca, question};

/// Brings over what `from`, or the only peer, has.
///
/// # Errors
/// `WrongRole` on the passive; `Config` where it is not said which peer; what the peer and its root say; the rule
/// that blocks the merge.
pub fn run(
    host: &Host,
    from: Option<&Certname>,
    timeout: Duration,
    change: &Change,
) -> Result<Report> {
    host.require(Role::Active)?;
    let peer = chosen(host, from)?;
    let subject = Subject::Bring {
        dataset: DataSet::Ca,
    };
    let answer = question::ask(host, &peer, subject, timeout);
    let answer = answer.map_err(|error| error.context(&peer.certname))?;
    let Outcome::Brought(brought) = answer else {
        return Err(question::other_answer());
    };
    let merged = ca::merge(host, &peer, &brought, change)?;
    let verb = match (change.dry_run, merged.changed) {
        (_, false) => "nothing to bring over",
        (true, true) => "would bring over",
        (false, true) => "brought over",
    };
    let text = format!("ca: {verb} from {}\n{}", peer.certname, merged.text);
    let details = json!({ "peer": peer.certname, "compared_with": brought.position.to_string(), "changes": merged.details });
    let report = if merged.changed {
        Report::ok(details, text)
    } else {
        Report::unchanged(details, text)
    };
    Ok(left_undone(report, merged.errors))
}

/// The peer of this name, or the only one.
///
/// # Errors
/// `Config` where there is none such, or several and no name.
pub fn chosen(host: &Host, name: Option<&Certname>) -> Result<Introduction> {
    let mut peers = host.peers()?;
    let names = || {
        let names = host.peers().unwrap_or_default();
        let names: Vec<String> = names.iter().map(|peer| peer.certname.to_string()).collect();
        format!("paired are: {}", names.join(", "))
    };
    match name {
        Some(name) => {
            peers.retain(|peer| peer.certname == *name);
            let unknown = || {
                Error::new(
                    ErrorKind::Config,
                    format!("{name} is not a peer of this host"),
                )
                .hint(names())
            };
            peers.pop().ok_or_else(unknown)
        }
        None if peers.len() > 1 => Err(Error::new(
            ErrorKind::Config,
            "this host has several peers, and it is not said which",
        )
        .hint(names())),
        None => peers
            .pop()
            .ok_or_else(|| Error::new(ErrorKind::Config, "no peer is paired")),
    }
}
