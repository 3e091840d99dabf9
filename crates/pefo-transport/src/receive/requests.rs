//! Requests to root, its answers, and notices of a newer reign.
//!
//! The receiver only carries: it checks a request as far as the transfer account can, makes it durable
//! in the spool for root, and relays what root has published. At most [`MAX_REQUESTS`] of an active
//! wait; nothing that waits is ever put out for a newer one. What is answered waits no more.

use std::io;
use std::path::Path;

use pefo_core::disk::{Attributes, Beneath, Disk, read_capped};
use pefo_core::generation::spool::{self, MAX_REQUESTS};
use pefo_core::lock::Lock;
use pefo_core::reign::{self, Standing, Station};
use pefo_core::request::{Answer, Nonce, Request};
use pefo_core::{Error, ErrorKind, Result};

use super::{ReceiverOptions, gate};

const PRIVATE_DIR: Attributes = Attributes::mode(0o700);
const PRIVATE_FILE: Attributes = Attributes::mode(0o600);

/// Puts a signed request where root looks for it; the same one again is fine.
pub(super) fn take(options: &ReceiverOptions, disk: &Disk, document: &[u8]) -> Result<()> {
    let reign = gate::admit(options)?;
    let request = Request::check(document, &options.site, &options.keys)?;
    reign.admit(request.epoch, &request.holder)?;
    // The name is a directory's: only the reign's own.
    if request.certname != reign.certname {
        return Err(Error::refused(
            "request-record",
            format!(
                "the request is in the name of {}, and {} reigns",
                request.certname, reign.certname
            ),
        ));
    }
    let dir = spool::requests_dir(&options.spool, &request.certname);
    if let Some(parent) = dir.parent() {
        disk.create_dir(parent, &PRIVATE_DIR)?;
    }
    disk.create_dir(&dir, &PRIVATE_DIR)?;
    let _lock = lock(options, &dir)?;
    disk.remove_temps(&dir)?;
    let path = dir.join(request.nonce.as_str());
    match read_capped(&path, Request::MAX_BYTES) {
        // It may have been shown by a session that was killed before it could make that durable.
        Ok(known) if known == document => return disk.sync_dir(&dir),
        Ok(_) => return Err(conflict(&request.nonce)),
        Err(error) if error.io_kind() == Some(io::ErrorKind::NotFound) => {}
        Err(error) => return Err(error),
    }
    if is_answered(options, &request.nonce) {
        // Of another request of this nonce the asker finds out by the answer's digest.
        return Ok(());
    }
    make_room(options, disk, &dir)?;
    disk.publish(&path, document, &PRIVATE_FILE)
}

fn lock(options: &ReceiverOptions, dir: &Path) -> Result<Lock> {
    Lock::take(&dir.join(".pefo-lock")).map_err(|error| {
        if error.kind() == ErrorKind::Locked {
            Error::new(
                ErrorKind::Locked,
                format!(
                    "another session is handing a request to {}",
                    options.certname
                ),
            )
            .hint("it takes a moment; try again")
        } else {
            error
        }
    })
}

fn conflict(nonce: &Nonce) -> Error {
    Error::refused(
        "request-conflict",
        format!("another request of nonce {nonce} waits"),
    )
    .hint("a nonce is drawn at random for each request: does this master's random source repeat?")
}

fn is_answered(options: &ReceiverOptions, nonce: &Nonce) -> bool {
    std::fs::symlink_metadata(spool::answer_path(&options.answers, nonce)).is_ok()
}

/// Removes what is answered; says no where too many wait still.
fn make_room(options: &ReceiverOptions, disk: &Disk, dir: &Path) -> Result<()> {
    let mut waiting = 0;
    for nonce in spool::list_requests(&Beneath::open(dir)?)? {
        if is_answered(options, &nonce) {
            disk.remove_file(&dir.join(nonce.as_str()))?;
        } else {
            waiting += 1;
        }
    }
    if waiting < MAX_REQUESTS {
        return Ok(());
    }
    Err(Error::refused(
        "requests-pending",
        format!("{waiting} requests wait for root on {}", options.certname),
    )
    .hint("root answers at the end of 'pefo apply': see whether it runs there"))
}

/// Root's answer to a request; no bytes where there is none yet.
pub(super) fn answer(options: &ReceiverOptions, nonce: &Nonce) -> Result<Vec<u8>> {
    match read_capped(
        &spool::answer_path(&options.answers, nonce),
        Answer::MAX_BYTES,
    ) {
        Err(error) if error.io_kind() == Some(io::ErrorKind::NotFound) => Ok(Vec::new()),
        other => other,
    }
}

/// Notes a newer reign for root, whatever this host's role; one it knows changes nothing.
pub(super) fn notice(options: &ReceiverOptions, disk: &Disk, record: &[u8]) -> Result<()> {
    if record.len() as u64 > Station::MAX_BYTES {
        return Err(Error::invalid("the reign record is too long"));
    }
    let stand = gate::stand(options)?;
    let theirs = reign::check(record, &options.site, &options.keys)?;
    match stand.reign.standing_of(theirs.epoch, &theirs.holder) {
        Standing::Newer => gate::note(options, disk, &theirs, record),
        Standing::Same | Standing::Older => Ok(()),
        Standing::Split => stand.reign.admit(theirs.epoch, &theirs.holder),
    }
}
