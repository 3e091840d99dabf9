//! `pefo init unpair`: a peer is parted from.
//!
//! First its key is taken out of the transfer account's file, then it is forgotten; run again after a crash, the rest
//! is done. The peer itself is told nothing: what it still pushes finds no door.

use pefo_core::pairing::Introduction;
use pefo_core::{Certname, Error, ErrorKind, Result};
use serde_json::json;

use super::accounts;
use crate::host::Host;
use crate::outcome::Report;

/// Parts from a peer.
///
/// # Errors
/// `Config` where this host is not set up; `NotFound` where it is no peer; `Refused` (`peer-reigns`) where this host lives under its reign; `Io`.
pub(in crate::commands) fn run(host: &Host, certname: &Certname, dry_run: bool) -> Result<Report> {
    host.introduction()?;
    let peers = host.peers()?;
    let (gone, stay): (Vec<Introduction>, Vec<Introduction>) = peers
        .into_iter()
        .partition(|peer| peer.certname == *certname);
    let Some(gone) = gone.into_iter().next() else {
        let names: Vec<&str> = stay.iter().map(|peer| peer.certname.as_str()).collect();
        return Err(Error::new(
            ErrorKind::NotFound,
            format!("{certname} is no peer of this host"),
        )
        .hint(format!("its peers: {}", names.join(", "))));
    };
    let (_, reign) = host.station()?;
    if reign.holder == gone.signing.id() {
        let message = format!("this host lives under the reign of {certname}");
        return Err(Error::refused("peer-reigns", message).hint(
            "to take over from it: 'pefo promote', then part; to give this spare up: remove its state directory",
        ));
    }
    let details = json!({ "peer": certname });
    if dry_run {
        let text = format!("would part from {certname}: its key opens nothing here any more\n");
        return Ok(Report::ok(details, text));
    }
    let _lock = host.lock("reign")?;
    accounts::authorize(host, &stay)?;
    for kept in ["delivered", "acks"] {
        host.disk
            .remove_tree(&host.state(kept).join(certname.as_str()))?;
    }
    let known = host.state("public/peers").join(format!("{certname}.json"));
    host.disk.remove_file(&known)?;
    Ok(Report::ok(
        details,
        format!("parted from {certname}: its key opens nothing here any more\n"),
    ))
}
