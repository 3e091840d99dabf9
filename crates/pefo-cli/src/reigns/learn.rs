//! A newer reign is taken notice of.
//!
//! A passive follows a reign that goes on from its own; an active that learns of a newer one stops at once, by
//! itself. Nothing is believed but a record that a paired key has signed: whoever owns the transfer account, or
//! the line, can hide a reign and not invent one.

use std::path::Path;

use pefo_core::disk::Beneath;
use pefo_core::generation::spool;
use pefo_core::pairing::Introduction;
use pefo_core::reign::{self, Reign, Role, Standing, Station};
use pefo_core::{Error, ErrorKind, RelPath, Result};

use super::{ask, fence, lock};
use crate::host::Host;

/// Takes notice of what peers have left in the spool, and ends what was begun of an earlier notice.
///
/// # Errors
/// `Config` where this host is not set up; `Io`.
pub fn from_spool(host: &Host) -> Result<()> {
    for record in noted(host)? {
        of(host, &record)?;
    }
    let (station, reign) = host.station()?;
    let rival = station.rival(&reign.site, &host.reign_keys()?)?;
    let Some(rival) = rival.filter(|_| station.role == Role::Active) else {
        return Ok(());
    };
    if reign.standing_of(rival.epoch, &rival.holder) == Standing::Newer {
        fence::carry_out(host, &rival)?;
    }
    Ok(())
}

/// The records in the spool, unchecked.
///
/// # Errors
/// `Config` where no peer is paired.
pub(super) fn noted(host: &Host) -> Result<Vec<Vec<u8>>> {
    let mut records = Vec::new();
    // Whoever needs the spool itself says what is wrong with it.
    let Ok(spool_dir) = Beneath::open(&host.config.site.spool_dir) else {
        return Ok(records);
    };
    for peer in host.peers()? {
        let path = spool::noted_reign_path(Path::new(""), &peer.certname);
        let path = RelPath::new(path.to_string_lossy())?;
        // Whatever stands there instead is the transfer account's doing, and says nothing.
        records.extend(spool_dir.read(&path, Station::MAX_BYTES));
    }
    Ok(records)
}

/// Asks a peer that refused this host, and takes notice of what it says. Gives why this host does not go on in
/// its role, where that is so; else what the peer said, which then is the peer's own trouble.
pub fn why(host: &Host, peer: &Introduction, refused: Error) -> Error {
    let speaks_of_reigns = matches!(refused.kind(), ErrorKind::Fenced | ErrorKind::WrongRole)
        || matches!(refused.rule(), Some("split-reign" | "reign-unknown"));
    if !speaks_of_reigns {
        return refused;
    }
    let learnt = ask::peer(host, peer).and_then(|said| of(host, said.record.as_bytes()));
    if let Err(error) = learnt {
        tracing::warn!(%error, peer = %peer.certname, "it refused, and who reigns could not be learnt");
    }
    match host.station() {
        Ok((station, _)) => match host.require(station.role) {
            Err(ended) => ended.with_source(refused),
            Ok(_) => refused,
        },
        Err(error) => error,
    }
}

/// Takes notice of one record. One that no paired key has signed, or that is older than this host's own, says
/// nothing.
///
/// # Errors
/// `Io`; `Child` where what the end of this host's reign stops does not stop.
pub fn of(host: &Host, record: &[u8]) -> Result<()> {
    let Ok(theirs) = check(host, record) else {
        return Ok(());
    };
    let (station, reign) = host.station()?;
    if !says_something(host, &station, &reign, &theirs)? {
        return Ok(());
    }
    let _lock = match lock(host) {
        // Whoever changes this host's role asks the peers by itself.
        Err(error) if error.kind() == ErrorKind::Locked => return Ok(()),
        lock => lock?,
    };
    // As it stands now that nobody else changes it.
    let (station, reign) = host.station()?;
    if station.changing.is_some() || !says_something(host, &station, &reign, &theirs)? {
        return Ok(());
    }
    // One of its own that it does not know of: it was restored from an older state, and is no spare of itself.
    let is_own = theirs.holder == host.introduction()?.signing.id();
    let follows =
        station.role == Role::Passive && theirs.follows(station.current.as_bytes()) && !is_own;
    let next = if follows {
        station.under(Role::Passive, record)?
    } else {
        let rival = String::from_utf8(record.to_vec());
        let rival = rival.map_err(|_| Error::invalid("reign record is not text"))?;
        Station {
            rival: Some(rival),
            ..station
        }
    };
    next.store(&host.disk, &host.station_path())?;
    if follows {
        tracing::info!(epoch = %theirs.epoch, active = %theirs.certname, "this host follows a new reign");
        return Ok(());
    }
    tracing::error!(epoch = %theirs.epoch, holder = %theirs.certname, "another host reigns");
    if next.role == Role::Active
        && reign.standing_of(theirs.epoch, &theirs.holder) == Standing::Newer
    {
        fence::carry_out(host, &theirs)?;
    }
    Ok(())
}

/// A record that a paired key, or this host's own, has signed.
///
/// # Errors
/// `Refused` where that is not so.
pub(super) fn check(host: &Host, record: &[u8]) -> Result<Reign> {
    reign::check(record, &host.introduction()?.site, &host.reign_keys()?)
}

/// Whether a reign is another than this host's own and as new at least, and newer than what it knows besides.
fn says_something(host: &Host, station: &Station, own: &Reign, theirs: &Reign) -> Result<bool> {
    let standing = |known: &Reign| known.standing_of(theirs.epoch, &theirs.holder);
    let rival = station.rival(&own.site, &host.reign_keys()?)?;
    let is_newest = rival.is_none_or(|rival| standing(&rival) == Standing::Newer);
    Ok(is_newest && matches!(standing(own), Standing::Newer | Standing::Split))
}
