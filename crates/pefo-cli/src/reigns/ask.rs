//! What the peers say of who rules. Each is asked by itself and all at once: one that is down delays no other.

use pefo_core::cancel::Cancel;
use pefo_core::pairing::Introduction;
use pefo_core::reign::{self, Reign, Role};
use pefo_core::{Error, Result};
use pefo_transport::Purpose;

use crate::host::Host;
use crate::pipeline::session;

/// What a peer says of itself.
#[derive(Debug, Clone)]
pub struct Said {
    /// Its role, as its receiver reads it.
    pub role: Role,
    /// The reign under which it lives, as its holder signed it.
    pub reign: Reign,
    /// That record.
    pub record: String,
    /// Its pefo.
    pub tool: String,
}

/// Asks one peer.
///
/// # Errors
/// `Unreachable`, `Denied`, `Protocol`; `Refused` where the record is not signed by a paired key.
pub fn peer(host: &Host, peer: &Introduction) -> Result<Said> {
    let me = host.introduction()?;
    let connection = session::dial(host, &me, peer, &Purpose::ask(), &Cancel::new())?;
    let seen = connection.peer().clone();
    connection.close()?;
    let reign = reign::check(seen.reign.as_bytes(), &me.site, &host.reign_keys()?)?;
    Ok(Said {
        role: seen.role,
        reign,
        record: seen.reign,
        tool: seen.tool,
    })
}

/// Asks every peer.
///
/// # Errors
/// `Config` where none is paired.
pub fn all(host: &Host) -> Result<Vec<(Introduction, Result<Said>)>> {
    let peers = host.peers()?;
    Ok(each(peers, |one| peer(host, one)))
}

/// Does the same with every peer, all at once.
pub fn each<T: Send>(
    peers: Vec<Introduction>,
    act: impl Fn(&Introduction) -> Result<T> + Sync,
) -> Vec<(Introduction, Result<T>)> {
    std::thread::scope(|scope| {
        let act = &act;
        let running: Vec<_> = peers
            .into_iter()
            .map(|peer| {
                let asked = peer.clone();
                (peer, scope.spawn(move || act(&asked)))
            })
            .collect();
        running
            .into_iter()
            .map(|(peer, thread)| {
                let ended = thread.join();
                let gone = |_| {
                    Err(Error::invalid(format!(
                        "{}: its thread ended",
                        peer.certname
                    )))
                };
                let said = ended.unwrap_or_else(gone);
                (peer, said)
            })
            .collect()
    })
}
