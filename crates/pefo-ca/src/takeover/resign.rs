//! The CRL of a host that takes over: the same revocations under a number that nobody has used; and one
//! revocation more, under the next number.
//!
//! The former active may have revoked once more before it fell, and signed a CRL that nobody here ever
//! saw. Counting on by one would give two CRLs with one number (RFC 5280 §5.2.3), and whoever has the
//! first would take neither for newer; so the number leaps over more than could have been lost.

use pefo_core::Result;
use pefo_core::clock::Timestamp;

use super::signer::{CrlContent, CrlSigner};
use crate::cert::Cert;
use crate::crl::{Crl, CrlBundle, Revocation};
use crate::plan::crl::distrust;
use crate::plan::{Conflict, Rule};
use crate::serial::Serial;

/// By how much the number of a CRL leaps when a host takes over: more revocations than could have been
/// made unseen. Numbers are cheap, there are 2^159 of them.
pub const CRL_NUMBER_GAP: u32 = 1000;

/// The reason that puppetserver gives for every revocation (RFC 5280 §5.3.1).
const KEY_COMPROMISE: u8 = 1;

/// How a CRL is signed anew.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct ResignOptions {
    /// When it is issued.
    pub now: Timestamp,
    /// By how much its number leaps; at least 1.
    pub gap: u32,
    /// The highest number of the former active's CRL of this file that anybody knows of.
    pub known_number: Option<Serial>,
}

impl ResignOptions {
    /// Issued at `now`, leaping by [`CRL_NUMBER_GAP`].
    pub fn new(now: Timestamp) -> Self {
        Self {
            now,
            gap: CRL_NUMBER_GAP,
            known_number: None,
        }
    }

    /// Sets by how much the number leaps.
    #[must_use]
    pub fn gap(mut self, gap: u32) -> Self {
        self.gap = gap;
        self
    }

    /// Sets the highest number that is known of the former active's.
    #[must_use]
    pub fn known_number(mut self, number: Option<Serial>) -> Self {
        self.known_number = number;
        self
    }
}

/// Signs our CRL of a file anew; what it revokes stays as it is, and so do the ancestors' CRLs behind it.
///
/// `ca_crl.pem` and `infra_crl.pem` count by themselves and are each given here by itself.
///
/// # Errors
/// `Refused`: `crl-missing` where the file has no CRL of the signer's CA, `crl-unknown-issuer` where it
/// has two, `crl-delta`, `crl-authority-key` or `crl-signature` where ours is not to be trusted, and
/// those of [`CrlSigner::sign`].
pub fn resign_for_takeover(
    bundle: &CrlBundle,
    signer: &CrlSigner,
    options: &ResignOptions,
) -> Result<CrlBundle> {
    let authority = signer.authority();
    let ours = own(bundle, authority).map_err(|conflict| conflict.to_error())?;
    let number = leap([ours.number, options.known_number], options.gap)
        .map_err(|conflict| conflict.to_error())?;
    let content = CrlContent::new(number, (*ours.revoked).clone(), options.now);
    signed_first(bundle, signer, &content)
}

/// Revokes a serial as puppetserver does: the number goes up by one, everything else in the file stays. A serial
/// that is revoked already stays so as it was.
///
/// # Errors
/// As [`resign_for_takeover`].
pub fn revoke(
    bundle: &CrlBundle,
    signer: &CrlSigner,
    serial: Serial,
    now: Timestamp,
) -> Result<CrlBundle> {
    let ours = own(bundle, signer.authority()).map_err(|conflict| conflict.to_error())?;
    let number = leap([ours.number], 1).map_err(|conflict| conflict.to_error())?;
    let mut revoked = (*ours.revoked).clone();
    revoked.entry(serial).or_insert(Revocation {
        date: now,
        reason: Some(KEY_COMPROMISE),
    });
    signed_first(bundle, signer, &CrlContent::new(number, revoked, now))
}

/// Our CRL anew, and the ancestors' behind it.
fn signed_first(bundle: &CrlBundle, signer: &CrlSigner, content: &CrlContent) -> Result<CrlBundle> {
    let signed = signer.sign(content)?;
    let ancestors = not_of(bundle, signer.authority()).cloned();
    Ok(CrlBundle::of(
        std::iter::once(signed).chain(ancestors).collect(),
    ))
}

/// The one CRL of the signing CA, trusted.
pub(super) fn own<'b>(bundle: &'b CrlBundle, authority: &Cert) -> Result<&'b Crl, Conflict> {
    let whose = &authority.subject;
    let refuse = |rule, message| Err(Conflict::new(rule, "CRL", message));
    let mut all = bundle.crls().iter().filter(|crl| crl.issuer == *whose);
    let Some(ours) = all.next() else {
        return refuse(Rule::CrlMissing, format!("there is no CRL of {whose}"));
    };
    if all.next().is_some() {
        return refuse(
            Rule::CrlUnknownIssuer,
            format!("there is a second CRL of {whose}"),
        );
    }
    match distrust(ours, authority) {
        Some((rule, message)) => refuse(rule, message),
        None => Ok(ours),
    }
}

/// The ancestors' CRLs of a file.
pub(super) fn not_of<'b>(bundle: &'b CrlBundle, authority: &Cert) -> impl Iterator<Item = &'b Crl> {
    bundle
        .crls()
        .iter()
        .filter(|crl| crl.issuer != authority.subject)
}

/// A number well above these.
///
/// # Errors
/// `crl-number-exhausted`.
pub(super) fn leap(
    numbers: impl IntoIterator<Item = Option<Serial>>,
    gap: u32,
) -> Result<Serial, Conflict> {
    let highest = numbers.into_iter().flatten().max();
    let highest = highest.unwrap_or(Serial::from(0));
    highest.checked_add(gap.max(1)).ok_or_else(|| {
        let message = format!("there is no number above {highest}");
        Conflict::new(Rule::CrlNumberExhausted, "CRL", message)
    })
}
