//! What a host's CA needs before it signs for everybody: a block of serials of its own, and CRLs whose
//! numbers nobody has used.
//!
//! First [`Succession::choose`] chooses both, to be written down before a file changes: whoever is killed in
//! between goes on with the same choice, and no number leaps twice. Then [`Succession::plan`] says what is left
//! to do; once all is done, that is nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use pefo_core::clock::Timestamp;
use pefo_core::{Error, RelPath, Result};
use serde::{Deserialize, Serialize};

use super::block::{KnownSerials, fresh_block};
use super::namings::Namings;
use super::resign::{leap, not_of, own};
use super::signer::{CrlContent, CrlSigner};
use super::union::{CrlUnion, union};
use crate::cert::Cert;
use crate::crl::{Crl, CrlBundle};
use crate::plan::{Action, Plan, find};
use crate::serial::{Serial, SerialBlock};
use crate::snapshot::{Part, Snapshot};

/// The files with a CRL of our own, in the order in which they are put in place.
const FILES: [&str; 2] = ["infra_crl.pem", "ca_crl.pem"];

/// What was chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Succession {
    /// The serials that this host issues from then on.
    pub block: SerialBlock,
    /// The number of each file's CRL, which is at least that.
    pub crl_numbers: BTreeMap<String, Serial>,
}

impl Succession {
    /// Chooses, for the CA in `local`. `source` is what the former active was last known to have, where that
    /// is not all in `local`. `gap` is by how much the numbers leap:
    /// [`CRL_NUMBER_GAP`](super::CRL_NUMBER_GAP) for each reign since this CRL was last in step, as those that
    /// ruled meanwhile have leapt as well.
    ///
    /// # Errors
    /// `Refused`: `serial-exhausted`, `crl-number-exhausted`, `crl-missing` and what else is wrong with a CRL
    /// here; `ca-missing` where there is no certificate.
    pub fn choose(
        local: &Snapshot,
        source: Option<&Snapshot>,
        known: &KnownSerials,
        gap: u32,
    ) -> Result<Self> {
        let block = fresh_block(std::iter::once(local).chain(source), known)?;
        let authority = authority(local)?;
        let mut crl_numbers = BTreeMap::new();
        for name in FILES {
            let Some(bundle) = bundle(local, name)? else {
                continue;
            };
            let ours = own(bundle, authority).map_err(|conflict| conflict.to_error())?;
            let theirs = source.and_then(|source| theirs(source, name, authority));
            let numbers = [ours.number, theirs.and_then(|theirs| theirs.number)];
            let number = leap(numbers, gap).map_err(|conflict| conflict.to_error())?;
            crl_numbers.insert(name.to_owned(), number);
        }
        Ok(Self { block, crl_numbers })
    }

    /// What is left to do. A revocation that only `source` has, because its CRL was held back here, comes in
    /// as long as its serial names no other certificate here.
    ///
    /// # Errors
    /// As [`Succession::choose`], and those of [`CrlSigner::sign`].
    pub fn plan(
        &self,
        local: &Snapshot,
        source: Option<&Snapshot>,
        signer: &CrlSigner,
        now: Timestamp,
    ) -> Result<Plan> {
        let mut plan = Plan {
            actions: self.serial(local).into_iter().collect(),
            conflicts: Vec::new(),
            overruled: Vec::new(),
            notes: Vec::new(),
            source_serial: source.and_then(Snapshot::serial),
        };
        for name in FILES {
            let (Some(bundle), Some(number)) = (bundle(local, name)?, self.crl_numbers.get(name))
            else {
                continue;
            };
            let authority = signer.authority();
            let ours = own(bundle, authority).map_err(|conflict| conflict.to_error())?;
            let united = source
                .and_then(|source| Some((source, theirs(source, name, authority)?)))
                .map(|(source, theirs)| {
                    union(ours, theirs, authority, &Namings::of(local, source), 1)
                })
                .transpose()?;
            let imported = united.as_ref().map_or(0, |union| union.imported.len());
            if ours.number >= Some(*number) && imported == 0 {
                continue;
            }
            if let Some(union) = &united {
                plan.conflicts.extend(union.conflicts.iter().cloned());
            }
            let signed = sign(ours, united, *number, signer, now)?;
            let why = format!(
                "signed for the new reign, number {} -> {}, {imported} more revoked",
                ours.number_text(),
                signed.number_text()
            );
            let others = not_of(bundle, authority).cloned();
            let bundle = CrlBundle::of(std::iter::once(signed).chain(others).collect());
            plan.actions.push(Action::Put {
                path: RelPath::new(name)?,
                why,
                bytes: bundle.to_pem().into_bytes().into(),
                mode: 0o644,
                expects: find(&local.files, name).map(|(_, file)| Arc::clone(&file.bytes)),
            });
        }
        Ok(plan)
    }

    /// Whether a CRL of `local` has the chosen number already, or a higher one.
    ///
    /// # Errors
    /// As [`Succession::choose`].
    pub fn has_begun(&self, local: &Snapshot) -> Result<bool> {
        let authority = authority(local)?;
        for (name, number) in &self.crl_numbers {
            let Some(bundle) = bundle(local, name)? else {
                continue;
            };
            let ours = own(bundle, authority).map_err(|conflict| conflict.to_error())?;
            if ours.number >= Some(*number) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Sets the counter into the block, where it is not there yet.
    fn serial(&self, local: &Snapshot) -> Option<Action> {
        let here = local.serial();
        if here.is_some_and(|serial| self.block.contains(serial)) {
            return None;
        }
        Some(Action::Serial {
            from: here,
            to: self.block.first(),
            expects: find(&local.files, "serial").map(|(_, file)| Arc::clone(&file.bytes)),
        })
    }
}

fn authority(local: &Snapshot) -> Result<&Cert> {
    let chain = local.chain().ok_or_else(|| {
        Error::refused(
            "ca-missing",
            "this host's CA has no certificate that can be read",
        )
        .hint("seed it: 'pefo ca push --seed' on the active, or restore it from a backup")
    })?;
    Ok(chain.signing())
}

/// The CRLs of a file; `infra_crl.pem` may be absent.
fn bundle<'s>(local: &'s Snapshot, name: &str) -> Result<Option<&'s CrlBundle>> {
    let part = match name {
        "ca_crl.pem" => &local.ca_crl,
        _ => &local.infra_crl,
    };
    match part {
        Part::Read(bundle) => Ok(Some(bundle)),
        Part::Absent if name != "ca_crl.pem" => Ok(None),
        part => {
            let message = format!("{name} {}", part.reason());
            Err(Error::refused("crl-missing", message)
                .hint("a CRL that nobody can read cannot be signed anew: restore it from a backup"))
        }
    }
}

/// The source's CRL of a file, where there is one to be trusted.
fn theirs<'s>(source: &'s Snapshot, name: &str, authority: &Cert) -> Option<&'s Crl> {
    let bundle = bundle(source, name).ok().flatten()?;
    own(bundle, authority).ok()
}

fn sign(
    ours: &Crl,
    united: Option<CrlUnion>,
    number: Serial,
    signer: &CrlSigner,
    now: Timestamp,
) -> Result<Crl> {
    let (revoked, least) = match united {
        Some(union) => (union.revoked, union.number),
        None => ((*ours.revoked).clone(), number),
    };
    signer.sign(&CrlContent::new(number.max(least), revoked, now))
}
