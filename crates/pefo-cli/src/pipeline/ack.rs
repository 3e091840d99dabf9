//! Acks: the passive publishes what it has applied, the active keeps what each peer has proved.

use std::path::Path;

use pefo_core::ack::Ack;
use pefo_core::disk::{Attributes, Beneath, read_capped};
use pefo_core::generation::{Accepted, DataSet, spool};
use pefo_core::heartbeat::Heartbeat;
use pefo_core::pairing::Introduction;
use pefo_core::reign::Standing;
use pefo_core::{RelPath, Result};
use pefo_transport::Connection;

use super::requests;
use crate::host::Host;

/// Publishes what this host has accepted and applied of a data set.
///
/// # Errors
/// `Io`.
pub fn publish(
    host: &Host,
    dataset: &DataSet,
    reconcile: Option<String>,
    refused: Vec<String>,
) -> Result<Ack> {
    let me = host.introduction()?;
    let accepted = Accepted::load(&host.record_path("accepted", dataset))?;
    let wished = requests::wished(host, dataset, accepted.as_ref().map(|it| it.position))?;
    let ack = Ack {
        format: 1,
        site: me.site,
        certname: me.certname,
        dataset: dataset.clone(),
        accepted: accepted.as_ref().map(|accepted| accepted.position),
        applied: accepted.as_ref().and_then(|accepted| accepted.applied),
        source_state: accepted.as_ref().map(|accepted| accepted.state),
        reconcile: reconcile.or(wished),
        refused,
        heartbeat: newest_heartbeat(host)?.map(|heartbeat| heartbeat.time),
        time: host.clock.now(),
    };
    let document = ack.sign(&host.signing_key()?)?;
    host.disk
        .publish(&host.own_ack(dataset), &document, &Attributes::mode(0o644))?;
    Ok(ack)
}

/// The ack that this host published last.
///
/// # Errors
/// `Io`, or `Refused` where it is not this host's.
pub fn own(host: &Host, dataset: &DataSet) -> Result<Option<Ack>> {
    let me = host.introduction()?;
    load(&host.own_ack(dataset), &me, &me, dataset)
}

/// The newest heartbeat in the spool that the reign's holder signed. What an active of old once said, by a clock
/// that may be ahead, says nothing of this reign.
///
/// # Errors
/// `Io` where the spool cannot be opened; a forged heartbeat is none.
pub fn newest_heartbeat(host: &Host) -> Result<Option<Heartbeat>> {
    let (me, (_, reign)) = (host.introduction()?, host.station()?);
    let spool_dir = Beneath::open(&host.config.site.spool_dir)?;
    let mut newest: Option<Heartbeat> = None;
    for peer in host.peers()? {
        let path = spool::heartbeat_path(Path::new(""), &peer.certname);
        let path = RelPath::new(path.to_string_lossy())?;
        let Ok(bytes) = spool_dir.read(&path, Heartbeat::MAX_BYTES) else {
            continue;
        };
        let Ok(heartbeat) = Heartbeat::check(&bytes, &me.site, &[peer.signing]) else {
            continue;
        };
        if reign.standing_of(heartbeat.epoch, &heartbeat.holder) != Standing::Same {
            continue;
        }
        if newest
            .as_ref()
            .is_none_or(|newest| newest.time < heartbeat.time)
        {
            newest = Some(heartbeat);
        }
    }
    Ok(newest)
}

/// Asks a peer for its ack of a data set, checks it, and keeps it for `pefo status`.
///
/// # Errors
/// What the session says; `Refused` where the peer relays an ack that its root did not sign.
pub fn fetch(
    host: &Host,
    me: &Introduction,
    peer: &Introduction,
    dataset: &DataSet,
    connection: &mut Connection,
) -> Result<Option<Ack>> {
    let mut documents = connection.acks(std::slice::from_ref(dataset))?;
    let Some(document) = documents.remove(dataset) else {
        return Ok(None);
    };
    let ack = Ack::check(&document, &me.site, dataset, &[peer.signing])?;
    let path = host.peer_ack(&peer.certname, dataset);
    if let Some(parent) = path.parent() {
        host.disk.create_dir_all(parent, &Attributes::mode(0o700))?;
    }
    host.disk
        .publish(&path, &document, &Attributes::mode(0o600))?;
    Ok(Some(ack))
}

/// The newest ack of a peer that this host has seen.
///
/// # Errors
/// `Io`, or `Refused` where it is not the peer's.
pub fn known(host: &Host, peer: &Introduction, dataset: &DataSet) -> Result<Option<Ack>> {
    let path = host.peer_ack(&peer.certname, dataset);
    load(&path, &host.introduction()?, peer, dataset)
}

/// The ack that `by` has signed, where there is one.
fn load(
    path: &Path,
    me: &Introduction,
    by: &Introduction,
    dataset: &DataSet,
) -> Result<Option<Ack>> {
    match read_capped(path, Ack::MAX_BYTES) {
        Err(error) if error.io_kind() == Some(std::io::ErrorKind::NotFound) => Ok(None),
        Err(error) => Err(error),
        Ok(document) => Ack::check(&document, &me.site, dataset, &[by.signing]).map(Some),
    }
}
