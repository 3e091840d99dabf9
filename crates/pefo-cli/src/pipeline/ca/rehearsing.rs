//! A spare proves that it could sign and revoke for everybody, in a copy of the CA that nobody sees.

use pefo_ca::takeover::{KnownSerials, fresh_block};
use pefo_ca::{Exclusions, Rehearsal, RehearsalOptions, SerialBlock, rehearse as rehearse_in};
use pefo_core::{Certname, Result, record};

use super::rules::{block_path, lane};
use super::{layout, signer, snapshot, source};
use crate::arguments::Change;
use crate::host::Host;
use crate::pipeline::received::Received;

/// For whom a certificate is issued in the copy: a name that nobody can have (RFC 6761 §6.4).
const NOBODY: &str = "pefo-drill.invalid";

/// Signs and revokes in a copy of the CA that `received` tells of, with this host's key and the serials that are
/// its own. The live CA is only read.
///
/// # Errors
/// As [`layout`], and those of a rehearsal.
pub fn rehearse(host: &Host, received: &Received) -> Result<Rehearsal> {
    let layout = layout(host, &Change::default())?;
    let local = snapshot(host, &layout, Exclusions::new())?;
    let source = source(received, Some(&local))?;
    let signer = signer(&layout, &local)?;
    let block = match record::load::<SerialBlock>(&block_path(host))? {
        Some(block) => block,
        // As it would get one when it is promoted.
        None => {
            let known = KnownSerials::default().lane(lane(host)?);
            fresh_block([&local, &source], &known.source_counter(source.serial()))?
        }
    };
    let options = RehearsalOptions::new(Certname::new(NOBODY)?).block(block);
    let scratch = host.state("work").join("drill-ca");
    rehearse_in(
        &host.disk,
        &source,
        &signer,
        &scratch,
        &options,
        &*host.clock,
    )
}
