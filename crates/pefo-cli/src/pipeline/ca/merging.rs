//! What one master's CA has that the other never saw: told where it is, and brought to where the reign is held.

use std::collections::BTreeMap;

use pefo_ca::source::Change;
use pefo_ca::takeover::{self, MergeRules};
use pefo_ca::{Exclusions, PlanRules, Rule, SerialBlock, Snapshot, SnapshotOptions};
use pefo_core::generation::batch::SourceState;
use pefo_core::pairing::Introduction;
use pefo_core::request::{Brought, BroughtFile};
use pefo_core::{Certname, Digest, Error, RelPath, Result, record};
use serde_json::Value;

use super::rules::block_path;
use super::{block_of_its_own, carry_out, exclusions, layout, signer, snapshot, source, to_json};
use crate::arguments;
use crate::host::Host;
use crate::pipeline::received::Received;

/// What came of a merge, or would.
#[derive(Debug)]
pub struct Merged {
    /// For machines.
    pub details: Value,
    /// For people, lines.
    pub text: String,
    /// What was refused.
    pub errors: Vec<Error>,
    /// Whether anything was to be done.
    pub changed: bool,
}

/// The files of this host's CA that are others in `state`, or not in it.
///
/// # Errors
/// As reading the live CA.
pub fn beyond(host: &Host, state: &SourceState) -> Result<BTreeMap<RelPath, BroughtFile>> {
    let layout = layout(host, &arguments::Change::default())?;
    let local = snapshot(host, &layout, Exclusions::new())?;
    let differs = |path: &RelPath, bytes: &[u8]| {
        state.get(path).map(|(_, digest)| digest) != Some(Digest::of(bytes))
    };
    let files = local.files();
    let others = files.filter(|(path, bytes, _)| differs(path, bytes));
    let brought = others.map(|(path, bytes, mode)| {
        let bytes = bytes.to_vec();
        (path.clone(), BroughtFile { mode, bytes })
    });
    Ok(brought.collect())
}

/// What this host's CA has that the one in `received` has not, as it would be brought there. A host that was
/// never a spare gets its own block of serials here: now it is known what its active has issued.
///
/// # Errors
/// As reading the two; `Refused` (`serial-exhausted`). A host without a CA has nothing that nobody saw.
pub fn unseen(host: &Host, received: &Received) -> Result<Option<Merged>> {
    let change = arguments::Change::default();
    let layout = match layout(host, &change) {
        Err(error) if error.rule() == Some("ca-missing") => return Ok(None),
        layout => layout?,
    };
    let local = snapshot(host, &layout, Exclusions::new())?;
    let source = source(received, Some(&local))?;
    block_of_its_own(host, &local, &source)?;
    let peers = host.peers()?.into_iter().map(|peer| peer.certname);
    let rules = merge_rules(host, peers, &change);
    let mut plan = takeover::merge(&source, &local, &rules);
    // The key stays where it is: it is no part of a generation.
    plan.conflicts
        .retain(|conflict| conflict.rule != Rule::CaKeyMissing);
    told(&plan).map(Some)
}

/// Brings what `peer` has over to this host's CA, which holds the reign; or shows what that would be.
///
/// # Errors
/// As reading the live CA; the rule that blocks the merge; what carrying it out says.
pub fn merge(
    host: &Host,
    peer: &Introduction,
    brought: &Brought,
    change: &arguments::Change,
) -> Result<Merged> {
    let layout = layout(host, change)?;
    let local = snapshot(host, &layout, Exclusions::new())?;
    // What is not brought is the same there.
    let changes: Vec<Change> = brought.files.iter().map(put).collect();
    let options = SnapshotOptions::default();
    let returning = Snapshot::read_dir_after(layout.cadir(), &options, &changes)?;
    let mut rules = merge_rules(host, [peer.certname.clone()], change);
    if let Some(block) = record::load::<SerialBlock>(&block_path(host))? {
        rules.plan = rules.plan.block(block);
    }
    let plan = takeover::merge(&local, &returning, &rules);
    if let Some(conflict) = plan.blocked_by() {
        return Err(conflict.to_error());
    }
    if !change.dry_run && !plan.is_empty() {
        let signer = signer(&layout, &local)?;
        let signed = plan.sign(&signer, host.clock.now())?;
        carry_out(host, &layout, &signed, true)?;
    }
    told(&plan)
}

/// What both masters keep to themselves does not cross.
fn merge_rules(
    host: &Host,
    peers: impl IntoIterator<Item = Certname>,
    change: &arguments::Change,
) -> MergeRules {
    let own = peers.into_iter().chain([host.config.site.certname.clone()]);
    let mut rules = PlanRules::new(host.clock.now())
        .max_deletes(host.config.ca.max_deletes)
        .exclude(exclusions(host, own));
    for rule in &change.accept {
        rules = rules.accept(rule);
    }
    MergeRules::new(rules)
}

fn put((path, file): (&RelPath, &BroughtFile)) -> Change {
    Change::Put {
        path: path.clone(),
        mode: file.mode,
        blake3: Digest::of(&file.bytes),
        bytes: file.bytes.clone(),
        replaces: None,
    }
}

fn told(plan: &takeover::MergePlan) -> Result<Merged> {
    let conflicts = plan.conflicts.iter();
    Ok(Merged {
        details: to_json(plan)?,
        text: plan.to_string(),
        errors: conflicts.map(pefo_ca::Conflict::to_error).collect(),
        changed: !plan.is_empty(),
    })
}
