//! Two CRLs of one CA that grew apart, made one.
//!
//! In a split brain both masters revoke. Whatever one of them revoked stays revoked: the union has all
//! entries of the local CRL, and of the other's all but those whose serial names another certificate
//! here. Its number is well above both.

use std::collections::BTreeMap;

use pefo_core::Result;
use serde::Serialize;

use super::namings::Namings;
use super::resign::leap;
use crate::cert::Cert;
use crate::crl::{Crl, Revocation};
use crate::plan::crl::distrust;
use crate::plan::{Conflict, Rule};
use crate::serial::Serial;

/// What a united CRL would say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CrlUnion {
    /// Its number.
    pub number: Serial,
    /// All it revokes.
    #[serde(skip)]
    pub revoked: BTreeMap<Serial, Revocation>,
    /// What of it only the other side has revoked so far.
    pub imported: BTreeMap<Serial, Revocation>,
    /// Revocations of the other side that were left out (`serial-collision`).
    pub conflicts: Vec<Conflict>,
}

/// Unites the local CRL of `authority` with another's.
///
/// Of an entry that both have, the earlier date and its reason are kept. A revocation whose serial
/// `namings` knows to name different certificates is not imported, but a local one is never dropped.
/// The number is the higher of both plus `gap` (at least 1).
///
/// # Errors
/// `Refused`: `crl-delta`, `crl-authority-key` or `crl-signature` where one of the two is not to be
/// trusted; `crl-number-exhausted`.
pub fn union(
    local: &Crl,
    other: &Crl,
    authority: &Cert,
    namings: &Namings<'_>,
    gap: u32,
) -> Result<CrlUnion> {
    for (crl, which) in [(local, "the CRL here"), (other, "the CRL there")] {
        if let Some((rule, message)) = distrust(crl, authority) {
            return Err(Conflict::new(rule, which, message).to_error());
        }
    }
    unite(Some(local), other, namings, gap).map_err(|conflict| conflict.to_error())
}

/// As [`union`], of CRLs that are trusted.
///
/// # Errors
/// `crl-number-exhausted`.
pub(super) fn unite(
    local: Option<&Crl>,
    other: &Crl,
    namings: &Namings<'_>,
    gap: u32,
) -> Result<CrlUnion, Conflict> {
    let number = leap([local.and_then(|local| local.number), other.number], gap)?;
    let mut revoked = local
        .map(|local| (*local.revoked).clone())
        .unwrap_or_default();
    let mut imported = BTreeMap::new();
    let mut conflicts = Vec::new();
    for (serial, theirs) in &*other.revoked {
        let difference = namings.differ(*serial);
        match (revoked.get_mut(serial), difference) {
            // Whose date it is depends on which certificate is meant.
            (Some(_), Some(_)) => {}
            (Some(ours), None) => {
                if theirs.date < ours.date {
                    *ours = *theirs;
                }
            }
            (None, Some(difference)) => conflicts.push(Conflict::new(
                Rule::SerialCollision,
                "CRL",
                format!("{serial} is revoked there, but {difference}"),
            )),
            (None, None) => {
                revoked.insert(*serial, *theirs);
                imported.insert(*serial, *theirs);
            }
        }
    }
    Ok(CrlUnion {
        number,
        revoked,
        imported,
        conflicts,
    })
}
