//! Sessions with peers: pinned host key, this host's own key, what this host says of itself.
//!
//! A peer that refuses because of who reigns is asked for the record that proves it, which is learnt first: what
//! [`connect`] then fails with is what counts for this host.

use std::sync::Arc;
use std::time::Duration;

use pefo_core::Result;
use pefo_core::cancel::Cancel;
use pefo_core::pairing::Introduction;
use pefo_transport::{Connection, Introduced, LinkOptions, Pace, Purpose, SshTarget};

use crate::TOOL;
use crate::config::Compression;
use crate::host::Host;
use crate::reigns::learn;

/// How long a peer that is asked who reigns may take.
const ASKED: Duration = Duration::from_secs(3);

/// Opens a session with a peer: pinned host key, our own key, handshake. Where it refuses because of who reigns,
/// that is learnt first.
///
/// # Errors
/// `Unreachable`, `Denied`, `Refused` (`host-key`), `Protocol`, `Fenced`.
pub fn connect(
    host: &Host,
    me: &Introduction,
    peer: &Introduction,
    purpose: &Purpose,
) -> Result<Connection> {
    connect_until(host, me, peer, purpose, &Cancel::new())
}

/// As [`connect`], for as long as nobody cancels.
///
/// # Errors
/// As [`connect`], and `Cancelled`.
pub fn connect_until(
    host: &Host,
    me: &Introduction,
    peer: &Introduction,
    purpose: &Purpose,
    cancel: &Cancel,
) -> Result<Connection> {
    dial(host, me, peer, purpose, cancel).map_err(|error| learn::why(host, peer, error))
}

/// Opens a session, and asks nothing else of who refuses.
///
/// # Errors
/// As [`connect`].
pub fn dial(
    host: &Host,
    me: &Introduction,
    peer: &Introduction,
    purpose: &Purpose,
    cancel: &Cancel,
) -> Result<Connection> {
    let settings = &host.config.transport;
    let mut target = SshTarget::new(
        peer.host.clone(),
        peer.port,
        peer.user.clone(),
        host.state("keys/ssh"),
        peer.host_keys.clone(),
    );
    target.connect_timeout = Duration::from_secs(settings.connect_timeout);
    target.io_timeout = Duration::from_secs(settings.io_timeout);
    if *purpose == Purpose::ask() {
        // Who does not say at once who reigns is not waited for while nobody does.
        target.connect_timeout = target.connect_timeout.min(ASKED);
        target.io_timeout = target.io_timeout.min(ASKED);
    }
    let (station, _) = host.station()?;
    let level = match settings.compression {
        Compression::Zstd => Introduced::COMPRESSION,
        Compression::None => 0,
    };
    let introduced =
        Introduced::new(me.site.clone(), me.certname.clone(), station, TOOL).compression(level);
    let pace = match settings.bandwidth_limit {
        Some(limit) => Pace::limited(limit.bytes_per_second(), Arc::clone(&host.clock))?,
        None => Pace::unlimited(),
    };
    Connection::open_with(
        &target,
        &introduced,
        purpose,
        &LinkOptions::new().pace(pace).cancel(cancel.clone()),
    )
}
