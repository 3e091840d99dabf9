//! Who may push here, and what.

use pefo_core::disk::{Attributes, Disk, read_capped};
use pefo_core::generation::spool::noted_reign_path;
use pefo_core::generation::{Manifest, Position};
use pefo_core::keys::KeyId;
use pefo_core::reign::{self, Reign, Role, Standing, Station};
use pefo_core::{Error, ErrorKind, Result};

use super::ReceiverOptions;
use crate::message::{Hello, Offer, Purpose, Shape};

/// Role and reign of this host, read anew each time.
pub(super) struct Stand {
    pub(super) station: Station,
    pub(super) reign: Reign,
}

pub(super) fn stand(options: &ReceiverOptions) -> Result<Stand> {
    let station = Station::load(&options.station).map_err(|error| {
        if error.io_kind() == Some(std::io::ErrorKind::NotFound) {
            Error::new(ErrorKind::Config, "this host is not paired")
                .hint("pair it: pefo init passive --join LINE")
                .with_source(error)
        } else {
            error
        }
    })?;
    let reign = station.reign(&options.site, &options.keys)?;
    Ok(Stand { station, reign })
}

/// Whether the peer may talk to us at all; and the key of the reign it lives under, where a paired key
/// has signed that.
pub(super) fn greet(
    options: &ReceiverOptions,
    disk: &Disk,
    hello: &Hello,
) -> Result<(Stand, Option<KeyId>)> {
    if hello.site != options.site {
        return Err(Error::refused(
            "site",
            format!(
                "{} belongs to site {}, {} to {}",
                hello.certname,
                hello.site.as_str(),
                options.certname,
                options.site.as_str()
            ),
        )
        .hint("pair the two masters: pefo init"));
    }
    if hello.certname == options.certname {
        return Err(Error::refused(
            "same-host",
            format!("{} would push to itself", hello.certname),
        )
        .hint("the peer's host in the configuration leads back to this master"));
    }
    let stand = stand(options)?;
    let theirs = reign::check(hello.reign.as_bytes(), &options.site, &options.keys);
    if let Ok(theirs) = &theirs
        && stand.reign.standing_of(theirs.epoch, &theirs.holder) == Standing::Newer
    {
        // That it cannot be noted is no reason to refuse it for another cause.
        if let Err(error) = note(options, disk, theirs, hello.reign.as_bytes()) {
            tracing::warn!(%error, "a newer reign could not be noted");
        }
    }
    if hello.purpose == Purpose::ask() {
        return Ok((stand, theirs.ok().map(|theirs| theirs.holder)));
    }
    let theirs = theirs?;
    stand
        .reign
        .admit(theirs.epoch, &theirs.holder)
        .map_err(|error| not_yet(options, &stand, &theirs).unwrap_or(error))?;
    // Its own reign may be over, and this host know it already.
    stand.station.in_force(&options.site, &options.keys)?;
    Ok((stand, Some(theirs.holder)))
}

/// A newer reign comes to a host that ruled before: that is told as what it is.
fn not_yet(options: &ReceiverOptions, stand: &Stand, theirs: &Reign) -> Option<Error> {
    let is_newer = stand.reign.standing_of(theirs.epoch, &theirs.holder) == Standing::Newer;
    (is_newer && stand.station.role == Role::Active).then(|| {
        let message = format!(
            "{} was the active until epoch {} and has not stepped down yet",
            options.certname, stand.reign.epoch
        );
        Error::new(ErrorKind::WrongRole, message).hint("run 'pefo demote' there")
    })
}

/// A newer reign is root's to accept; it learns of it from here. What was noted of a still newer one
/// stays: an old record that is sent again takes nothing back.
pub(super) fn note(
    options: &ReceiverOptions,
    disk: &Disk,
    reign: &Reign,
    record: &[u8],
) -> Result<()> {
    let path = noted_reign_path(&options.spool, &reign.certname);
    let noted = read_capped(&path, Station::MAX_BYTES)
        .and_then(|noted| reign::check(&noted, &options.site, &options.keys));
    if noted.is_ok_and(|noted| noted.epoch > reign.epoch) {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        disk.create_dir(parent, &Attributes::mode(0o700))?;
    }
    disk.publish(&path, record, &Attributes::mode(0o600))
}

/// Lets only the holder of this host's reign pass, and only while this host is the spare.
pub(super) fn admit(options: &ReceiverOptions) -> Result<Reign> {
    let Stand { station, .. } = stand(options)?;
    if station.role != Role::Passive {
        return Err(Error::new(
            ErrorKind::WrongRole,
            format!("{} is active and takes nothing", options.certname),
        )
        .hint("'pefo status' on both masters shows who reigns; one of them has to be demoted"));
    }
    station.in_force(&options.site, &options.keys)
}

/// Checks an offered manifest as far as the transfer account can.
pub(super) fn check(
    options: &ReceiverOptions,
    reign: &Reign,
    offer: &Offer,
    document: &[u8],
) -> Result<Manifest> {
    let manifest = Manifest::check(document, &options.site, &offer.dataset, &options.keys)?;
    reign.admit(manifest.epoch, &manifest.holder)?;
    let is_batch = matches!(
        manifest.content,
        pefo_core::generation::Content::Batch { .. }
    );
    if manifest.position() != offer.position
        || is_batch != (offer.form == Shape::Batch)
        || manifest.files.len() as u64 != u64::from(offer.files)
        || manifest.stored_bytes() != offer.payload_bytes
    {
        return Err(Error::new(
            ErrorKind::Protocol,
            format!(
                "the manifest of {} {} is not the one that was offered",
                offer.dataset, offer.position
            ),
        ));
    }
    let limits = &options.limits;
    if offer.payload_bytes > limits.generation_bytes || offer.files > limits.files {
        return Err(too_large(offer.position, offer, options));
    }
    Ok(manifest)
}

fn too_large(position: Position, offer: &Offer, options: &ReceiverOptions) -> Error {
    Error::refused(
        "generation-size",
        format!(
            "{} {position} has {} files of {} bytes; {} takes {} files of {} bytes",
            offer.dataset,
            offer.files,
            offer.payload_bytes,
            options.certname,
            options.limits.files,
            options.limits.generation_bytes
        ),
    )
    .hint("raise the receiver's limits in its configuration")
}
