//! A host that has no CA, or is to give up its own, is seeded whole.

use pefo_ca::takeover::{KnownSerials, fresh_block};
use pefo_ca::{SeedKey, SeedOptions, SerialBlock, Snapshot, seed};
use pefo_core::disk::read_capped;
use pefo_core::generation::Verified;
use pefo_core::record;
use pefo_core::{Error, Result};
use serde_json::json;

use super::rules::{block_path, lane};
use super::{KEY, configured, owner};
use crate::host::Host;
use crate::pipeline::apply::Applied;

/// Publishes the CA of a generation that carries its key; in place of another one only where that is said.
///
/// # Errors
/// What seeding refuses; `Refused` (`ca-fingerprint`) where none was pinned.
pub(super) fn seed_from(
    host: &Host,
    verified: &Verified,
    source: &Snapshot,
    (show_only, replace): (bool, bool),
) -> Result<Applied> {
    let source_master = &verified.manifest().source;
    let pinned = host
        .peers()?
        .into_iter()
        .find(|peer| peer.certname == *source_master)
        .and_then(|peer| peer.ca_fingerprint);
    let Some(fingerprint) = pinned else {
        return Err(Error::refused(
            "ca-fingerprint",
            format!("no CA fingerprint of {source_master} was pinned at pairing"),
        )
        .hint("pair again with a line printed after the CA was set up on the active"));
    };
    let cadir = match configured(host) {
        Some(cadir) => cadir,
        None => pefo_ca::layout::seed_target(std::path::Path::new("/"))?,
    };
    let owner = match owner(host)? {
        Some(owner) => owner,
        None => pefo_ca::layout::puppet_owner(std::path::Path::new("/"))?,
    };
    // The block stands on disk before the CA does: a crash in between chooses no second one.
    let block = match record::load::<SerialBlock>(&block_path(host))? {
        Some(block) => block,
        None => fresh_block([source], &KnownSerials::default().lane(lane(host)?))?,
    };
    let summary = source.summary();
    let text = format!(
        "seed {} with {} certificates, {} revocations and the CA's key; this host issues serials from {:04X}\n",
        cadir.display(),
        summary.certificates,
        summary.revocations,
        block.first()
    );
    let mut details =
        json!({ "seed": { "cadir": cadir, "summary": summary, "first_serial": block.first() } });
    if !show_only {
        host.store_json(&block_path(host), &block, 0o600)?;
        let key = SeedKey::new(read_capped(&verified.files()?.join(KEY), 1 << 20)?);
        let report = seed(
            &host.disk,
            &cadir,
            source,
            &key,
            &SeedOptions::new(fingerprint, block, owner).replace(replace),
            &*host.clock,
        )?;
        if let Some(details) = details.as_object_mut() {
            details.insert(
                "report".to_owned(),
                serde_json::to_value(&report).unwrap_or_default(),
            );
        }
    }
    Ok(Applied {
        details,
        text,
        errors: Vec::new(),
        changed: true,
    })
}
