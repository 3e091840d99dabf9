//! This host's CA gets what it needs to sign for everybody, and a spare's what keeps it apart.

use pefo_ca::takeover::{CRL_NUMBER_GAP, KnownSerials, Succession, fresh_block};
use pefo_ca::{Exclusions, SerialBlock, Snapshot};
use pefo_core::{Result, record};

use super::rules::{block_path, lane};
use super::{carry_out, layout, signer, snapshot};
use crate::arguments::Change;
use crate::host::Host;

/// Chooses serials and CRL numbers. `source` is what the former active was last known to have, where that is not
/// all here; `reigns` is how many reigns have begun since this host's CA was in step.
///
/// # Errors
/// As [`Succession::choose`]; `Io`.
pub fn choose(host: &Host, source: Option<&Snapshot>, reigns: u64) -> Result<Succession> {
    let layout = layout(host, &Change::default())?;
    let local = snapshot(host, &layout, Exclusions::new())?;
    let known = KnownSerials::default()
        .lane(lane(host)?)
        .former_block(record::load::<SerialBlock>(&block_path(host))?)
        .unseen_reigns(u32::try_from(reigns.saturating_sub(1)).unwrap_or(u32::MAX))
        .source_counter(source.and_then(Snapshot::serial));
    let leaps = u32::try_from(reigns.max(1)).unwrap_or(u32::MAX);
    Succession::choose(&local, source, &known, CRL_NUMBER_GAP.saturating_mul(leaps))
}

/// Brings the CA to what was chosen; where it is there already, nothing is done.
///
/// # Errors
/// As [`Succession::plan`]; what carrying it out says.
pub fn succeed(host: &Host, source: Option<&Snapshot>, succession: &Succession) -> Result<()> {
    // The block stands on disk before the counter is set into it.
    host.store_json(&block_path(host), &succession.block, 0o600)?;
    let layout = layout(host, &Change::default())?;
    let local = snapshot(host, &layout, Exclusions::new())?;
    let signer = signer(&layout, &local)?;
    let plan = succession.plan(&local, source, &signer, host.clock.now())?;
    for conflict in &plan.conflicts {
        tracing::warn!(%conflict, "left out of the CRL");
    }
    carry_out(host, &layout, &plan, true)
}

/// A host that was never a spare gets a block of serials of its own, once it knows what its active has issued:
/// what it signs then is nobody else's.
///
/// # Errors
/// `Refused` (`serial-exhausted`); `Io`.
pub fn block_of_its_own(host: &Host, local: &Snapshot, source: &Snapshot) -> Result<()> {
    let path = block_path(host);
    if record::load::<SerialBlock>(&path)?.is_some() {
        return Ok(());
    }
    let known = KnownSerials::default()
        .lane(lane(host)?)
        .source_counter(source.serial());
    let block = fresh_block([local, source], &known)?;
    host.store_json(&path, &block, 0o600)
}

/// Whether a CRL is signed for what was chosen already. That the counter stands in the block changes nothing for
/// anybody: it is this host's own in any case.
///
/// # Errors
/// As reading the live CA.
pub fn has_begun(host: &Host, succession: &Succession) -> Result<bool> {
    let layout = layout(host, &Change::default())?;
    let local = snapshot(host, &layout, Exclusions::new())?;
    succession.has_begun(&local)
}
