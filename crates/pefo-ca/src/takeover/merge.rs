//! What a returning active did by itself, brought to the host that holds the reign now.
//!
//! The old active comes back with certificates, revocations and requests that nobody here has seen. They
//! are looked at as a source's are, with one difference: nothing of the local side gives way. The inventories
//! become one, certificates come in under the usual rules, and the CRLs are united, to be signed with the
//! CA's key. What happened twice (one serial, two certificates) is a conflict and stays as it is here.
//!
//! [`merge`] is pure; [`MergePlan::sign`] makes of it a [`Plan`] that [`apply`](mod@crate::apply) carries
//! out: serial, inventory, signed, requests, and the CRLs last. Afterwards the returning host follows this
//! one as any standby does, and finds its own acts there.

mod certs;
mod crls;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use pefo_core::clock::Timestamp;
use pefo_core::{Error, Result};
use serde::Serialize;

use super::namings::Namings;
use super::resign::CRL_NUMBER_GAP;
use super::signer::CrlSigner;
use crate::cert::{CaChain, Cert};
use crate::crl::Revocation;
use crate::plan::draft::Draft;
use crate::plan::{Action, Conflict, Plan, PlanRules, SerialMode, blocking, issued, tell_beside};
use crate::serial::{Serial, SerialBlock};
use crate::snapshot::Snapshot;

pub use crls::CrlToSign;

/// What a merge may do.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct MergeRules {
    /// The rules of a plan, of which the tombstones have no meaning here.
    pub plan: PlanRules,
    /// By how much the number of a united CRL leaps; at least 1.
    pub gap: u32,
}

impl MergeRules {
    /// These rules, and [`CRL_NUMBER_GAP`].
    pub fn new(plan: PlanRules) -> Self {
        Self {
            plan,
            gap: CRL_NUMBER_GAP,
        }
    }

    /// Sets by how much the number of a united CRL leaps.
    #[must_use]
    pub fn gap(mut self, gap: u32) -> Self {
        self.gap = gap;
        self
    }
}

/// What would be taken from a returning active, what is refused, and what is worth knowing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct MergePlan {
    /// The steps before the CRLs, in order; none where a conflict holds everything back.
    pub actions: Vec<Action>,
    /// The CRLs to be signed and put in place after that.
    pub crls: Vec<CrlToSign>,
    /// What is refused.
    pub conflicts: Vec<Conflict>,
    /// What would have been refused and an operator overruled.
    pub overruled: Vec<Conflict>,
    /// What is worth knowing.
    pub notes: Vec<String>,
    /// The returning side's counter.
    pub returning_serial: Option<Serial>,
}

impl MergePlan {
    /// Whether there is nothing to do; conflicts may stand all the same.
    pub fn is_empty(&self) -> bool {
        self.actions.is_empty() && self.crls.is_empty()
    }

    /// The conflict that holds everything back, where there is one.
    pub fn blocked_by(&self) -> Option<&Conflict> {
        blocking(&self.conflicts)
    }

    /// Whether something is left undone while the rest can be done.
    pub fn is_partial(&self) -> bool {
        !self.conflicts.is_empty() && self.blocked_by().is_none()
    }

    /// Signs the united CRLs, issued at `now`, and gives the whole as a plan to apply.
    ///
    /// # Errors
    /// `Refused`: by the rule that blocks the merge; `ca-identity` where the signer is another CA's; those
    /// of [`CrlSigner::sign`].
    pub fn sign(&self, signer: &CrlSigner, now: Timestamp) -> Result<Plan> {
        if let Some(conflict) = self.blocked_by() {
            return Err(conflict.to_error());
        }
        let mut actions = self.actions.clone();
        for crl in &self.crls {
            if !crl.is_of(signer.authority()) {
                let message = format!(
                    "{} does not sign for {}",
                    signer.authority().subject,
                    crl.issuer
                );
                return Err(Error::refused("ca-identity", message)
                    .hint("A CRL is signed by the CA that issued it, and no other."));
            }
            actions.push(crl.sign(signer, now)?);
        }
        Ok(Plan {
            actions,
            conflicts: self.conflicts.clone(),
            overruled: self.overruled.clone(),
            notes: self.notes.clone(),
            source_serial: self.returning_serial,
        })
    }
}

impl fmt::Display for MergePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            writeln!(f, "nothing to do")?;
        }
        for action in &self.actions {
            writeln!(f, "do       {action}")?;
        }
        for crl in &self.crls {
            writeln!(f, "sign     {crl}")?;
        }
        tell_beside(f, &self.conflicts, &self.overruled, &self.notes)
    }
}

/// The two sides, and what is known of them both.
struct Merging<'s> {
    local: &'s Snapshot,
    returning: &'s Snapshot,
    ca: &'s CaChain,
    namings: &'s Namings<'s>,
    gap: u32,
}

impl Merging<'_> {
    fn authority(&self) -> &Cert {
        self.ca.signing()
    }
}

/// What will be revoked by `ca_crl.pem`.
struct InForce<'c> {
    all: &'c BTreeMap<Serial, Revocation>,
    /// What of it comes from the returning side.
    imported: &'c BTreeMap<Serial, Revocation>,
}

impl InForce<'_> {
    fn has(&self, serial: Serial) -> bool {
        self.all.contains_key(&serial)
    }
}

/// Looks at what the `returning` active has that the `local` side, which holds the reign, never saw.
///
/// The caller vouches for the returning side's copy, as it does for a source's.
pub fn merge(local: &Snapshot, returning: &Snapshot, rules: &MergeRules) -> MergePlan {
    let mut plan_rules = rules.plan.clone();
    if plan_rules.serial == SerialMode::Mirror
        && let Some(own) = own_range(local, returning)
    {
        plan_rules.serial = SerialMode::Block(own);
    }
    let mut draft = Draft::new(&plan_rules);
    let Some(ca) = draft.identity(local, returning) else {
        return finish(draft, Vec::new(), None);
    };
    let merging = Merging {
        local,
        returning,
        ca,
        namings: &Namings::of(local, returning),
        gap: rules.gap,
    };
    let infra_crl = crls::unite_file(&mut draft, &merging, "infra_crl.pem");
    let ca_crl = crls::unite_file(&mut draft, &merging, "ca_crl.pem");
    let nothing = BTreeMap::new();
    let ours = local.ca_crl().and_then(|bundle| bundle.find(ca.signing()));
    let in_force = match &ca_crl {
        Some(crl) => InForce {
            all: &crl.union.revoked,
            imported: &crl.union.imported,
        },
        None => InForce {
            all: ours.map_or(&nothing, |crl| &crl.revoked),
            imported: &nothing,
        },
    };
    issued::serial(&mut draft, local, returning);
    issued::inventory(&mut draft, local, returning);
    certs::plan(&mut draft, &merging, &in_force);
    if draft.holds_issuing() {
        draft.actions.clear();
    }
    for name in ["ca_crt.pem", "infra_inventory.txt", "infra_serials"] {
        certs::note_difference(&mut draft, &merging, name);
    }
    let crls = infra_crl.into_iter().chain(ca_crl).collect();
    finish(draft, crls, returning.serial())
}

/// What the local side counts through, where it never had a block of its own and the returning side counts in one
/// far above: that block stays the other's, however much was issued from it. `None` where both went on from one
/// counter.
fn own_range(local: &Snapshot, returning: &Snapshot) -> Option<SerialBlock> {
    let here = local.serial().and_then(Serial::counter)?;
    let there = returning.serial().and_then(Serial::counter)?;
    let known: BTreeSet<Serial> = local.issued().collect();
    let unseen = returning.issued().filter(|serial| !known.contains(serial));
    let first = unseen.filter_map(Serial::counter).fold(there, u32::min);
    let is_apart = first.saturating_sub(here) >= SerialBlock::SIZE;
    is_apart
        .then(|| SerialBlock::new(1, first - 1).ok())
        .flatten()
}

fn finish(draft: Draft<'_>, crls: Vec<CrlToSign>, returning_serial: Option<Serial>) -> MergePlan {
    let plan = draft.finish(returning_serial);
    MergePlan {
        crls: if plan.blocked_by().is_some() {
            Vec::new()
        } else {
            crls
        },
        actions: plan.actions,
        conflicts: plan.conflicts,
        overruled: plan.overruled,
        notes: plan.notes,
        returning_serial,
    }
}
