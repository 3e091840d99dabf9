//! Is the source's CRL one we may put in force? (RFC 5280 §5.2 and §3.3)
//!
//! Each CRL of a bundle is judged by itself: ours by the signing CA, the ancestors' by theirs. A CRL is
//! taken where it verifies, is newer by number, and still revokes everything that ours does, less what
//! has expired. Two servers that re-sign the same CRL at the same time make two with one number; that
//! is innocent as long as no local revocation is missing from the source's. Never the other way round:
//! a revocation that is in force here is never dropped in silence.

use std::collections::BTreeMap;
use std::sync::Arc;

use pefo_core::RelPath;
use pefo_core::clock::Timestamp;

use super::{Action, Draft, Rule, find};
use crate::cert::{CaChain, Cert};
use crate::crl::{Crl, CrlBundle};
use crate::serial::Serial;
use crate::snapshot::{Part, Snapshot};

/// Serial → until when the certificate is valid, as far as anybody wrote it down.
pub(super) type Expiry = BTreeMap<Serial, Timestamp>;

/// What became of one file.
pub(super) struct Judged {
    /// Our CRL as it will be in force.
    pub(super) in_force: Option<Crl>,
    /// The step, where the file changes.
    pub(super) action: Option<Action>,
}

/// Judges one file of CRLs.
pub(super) fn judge(
    draft: &mut Draft<'_>,
    name: &str,
    local: &Snapshot,
    source: &Snapshot,
    ca: &CaChain,
    expiry: &Expiry,
) -> Judged {
    let (here, there) = if name == "ca_crl.pem" {
        (&local.ca_crl, &source.ca_crl)
    } else {
        (&local.infra_crl, &source.infra_crl)
    };
    let ours_in = |part: &Part<CrlBundle>| {
        part.get()
            .and_then(|bundle| bundle.find(ca.signing()))
            .cloned()
    };
    let keep = Judged {
        in_force: ours_in(here),
        action: None,
    };
    let theirs = match there {
        Part::Read(bundle) => bundle,
        // infra_crl.pem is optional; a source without it leaves ours alone.
        Part::Absent if name != "ca_crl.pem" => return keep,
        Part::Absent => {
            draft.refuse(Rule::CrlMissing, name, "is missing at the source");
            return keep;
        }
        Part::Unreadable(error) => {
            draft.refuse(Rule::CrlUnreadable, name, error.to_string());
            return keep;
        }
    };
    let no_local = CrlBundle::of(Vec::new());
    let ours = match here {
        Part::Read(bundle) => bundle,
        Part::Absent => &no_local,
        Part::Unreadable(error) => {
            if !draft.refuse(Rule::CrlLocalUnreadable, name, error.to_string()) {
                return keep;
            }
            &no_local
        }
    };
    let (result, reasons) = merge(draft, name, ours, theirs, ca, expiry);
    let changed = result
        .iter()
        .map(Crl::der)
        .ne(ours.crls().iter().map(Crl::der));
    let is_theirs = result
        .iter()
        .map(Crl::der)
        .eq(theirs.crls().iter().map(Crl::der));
    let result = CrlBundle::of(result);
    let in_force = result.find(ca.signing()).cloned();
    if !changed || result.crls().is_empty() {
        return Judged {
            in_force,
            action: None,
        };
    }
    let source_file = find(&source.files, name);
    let bytes: Arc<[u8]> = match source_file {
        Some((_, file)) if is_theirs => Arc::clone(&file.bytes),
        _ => result.to_pem().into_bytes().into(),
    };
    let expects = find(&local.files, name).map(|(_, file)| Arc::clone(&file.bytes));
    let why = if reasons.is_empty() {
        "our CRL goes first".to_owned()
    } else {
        reasons.join(", ")
    };
    let action = RelPath::new(name).ok().map(|path| Action::Put {
        path,
        why,
        bytes,
        mode: 0o644,
        expects,
    });
    Judged { in_force, action }
}

/// The bundle to be: ours first, then the ancestors' in the source's order, then what only we have.
fn merge(
    draft: &mut Draft<'_>,
    name: &str,
    ours: &CrlBundle,
    theirs: &CrlBundle,
    ca: &CaChain,
    expiry: &Expiry,
) -> (Vec<Crl>, Vec<String>) {
    let mut result: Vec<Crl> = Vec::new();
    let mut reasons = Vec::new();
    let signing = ca.signing();
    let nothing = Expiry::new();
    if !theirs
        .crls()
        .iter()
        .any(|crl| crl.issuer == signing.subject)
    {
        draft.refuse(
            Rule::CrlMissing,
            name,
            format!("the source's has no CRL of {}", signing.subject),
        );
    }
    // Ours first, wherever it stands in the source's file.
    let (first, rest): (Vec<&Crl>, Vec<&Crl>) = theirs
        .crls()
        .iter()
        .partition(|crl| crl.issuer == signing.subject);
    for incoming in first.into_iter().chain(rest) {
        let Some(authority) = ca
            .certs()
            .iter()
            .find(|cert| cert.subject == incoming.issuer)
        else {
            draft.refuse(
                Rule::CrlUnknownIssuer,
                name,
                format!("a CRL of {}, who is not in the CA's chain", incoming.issuer),
            );
            continue;
        };
        if result.iter().any(|crl| crl.issuer == incoming.issuer) {
            draft.refuse(
                Rule::CrlUnknownIssuer,
                name,
                format!("a second CRL of {}", incoming.issuer),
            );
            continue;
        }
        let current = ours.find(authority);
        // Expiry is known for what the signing CA issued; serials of ancestors are another's.
        let expiry = if std::ptr::eq(authority, signing) {
            expiry
        } else {
            &nothing
        };
        match accept(draft, name, current, incoming, authority, expiry) {
            Verdict::Keep => result.extend(current.cloned()),
            Verdict::Take(reason) => {
                reasons.push(reason);
                result.push(incoming.clone());
            }
        }
    }
    for crl in ours.crls() {
        if !result.iter().any(|kept| kept.issuer == crl.issuer) {
            result.push(crl.clone());
        }
    }
    // Where the source had none of ours, ours still goes first.
    result.sort_by_key(|crl| crl.issuer != signing.subject);
    (result, reasons)
}

enum Verdict {
    Keep,
    Take(String),
}

/// May `incoming` replace `current`?
fn accept(
    draft: &mut Draft<'_>,
    name: &str,
    current: Option<&Crl>,
    incoming: &Crl,
    authority: &Cert,
    expiry: &Expiry,
) -> Verdict {
    if current.is_some_and(|current| current.der() == incoming.der()) {
        return Verdict::Keep;
    }
    let whose = &authority.subject;
    if let Some((rule, message)) = distrust(incoming, authority) {
        draft.refuse(rule, name, message);
        return Verdict::Keep;
    }
    let Some(current) = current else {
        return Verdict::Take(format!(
            "the CRL of {whose}, number {}",
            incoming.number_text()
        ));
    };
    let missing = lacking(incoming, current, expiry, draft.rules.now);
    if draft.rules.unrevoke && !missing.is_empty() {
        let back = format!(
            "the CRL of {whose}, number {} -> {}, which takes back {}",
            current.number_text(),
            incoming.number_text(),
            list(&missing)
        );
        return Verdict::Take(back);
    }
    let (Some(number_here), Some(number_there)) = (current.number, incoming.number) else {
        let message = format!("the CRL of {whose} has no number, here or at the source");
        if missing.is_empty() && draft.refuse(Rule::CrlNumber, name, message.clone()) {
            return Verdict::Take(format!("a CRL of {whose} without a number"));
        }
        if !missing.is_empty() {
            draft.refuse(
                Rule::CrlShrink,
                name,
                format!("{message}, and lacks {}", list(&missing)),
            );
        }
        return Verdict::Keep;
    };
    let numbers = format!("{} -> {}", current.number_text(), incoming.number_text());
    match number_there.cmp(&number_here) {
        std::cmp::Ordering::Less => {
            let new = lacking(current, incoming, expiry, draft.rules.now);
            if missing.is_empty() && new.is_empty() {
                draft.note(format!("{name}: the CRL of {whose} was signed again here (number {numbers}); both revoke the same"));
            } else {
                let mut message =
                    format!("the source's CRL of {whose} is older than ours (number {numbers})");
                for (what, serials) in [("lacks", &missing), ("revokes what ours does not:", &new)]
                {
                    if !serials.is_empty() {
                        message.push_str(&format!("; it {what} {}", list(serials)));
                    }
                }
                draft.refuse(Rule::CrlRollback, name, message);
            }
            Verdict::Keep
        }
        std::cmp::Ordering::Equal if missing.is_empty() => {
            draft.note(format!("{name}: two CRLs of {whose} have number {}; the source's revokes all that ours does and is taken", current.number_text()));
            Verdict::Take(format!(
                "the CRL of {whose}, number {} signed twice",
                current.number_text()
            ))
        }
        std::cmp::Ordering::Equal => {
            let message = format!(
                "two CRLs of {whose} have number {}; the source's lacks {}",
                current.number_text(),
                list(&missing)
            );
            draft.refuse(Rule::CrlFork, name, message);
            Verdict::Keep
        }
        std::cmp::Ordering::Greater => {
            if !missing.is_empty() {
                let message = format!(
                    "the CRL of {whose} (number {numbers}) no longer revokes {}",
                    list(&missing)
                );
                if !draft.refuse(Rule::CrlShrink, name, message) {
                    return Verdict::Keep;
                }
            }
            let new = incoming
                .revoked
                .keys()
                .filter(|serial| !current.revoked.contains_key(serial))
                .count();
            Verdict::Take(format!(
                "the CRL of {whose}, number {numbers}, {new} more revoked"
            ))
        }
    }
}

/// Why nothing that a CRL says counts, where that is so: each by its rule.
pub(crate) fn distrust(crl: &Crl, authority: &Cert) -> Option<(Rule, String)> {
    let whose = &authority.subject;
    if crl.is_delta {
        let message = format!("the CRL of {whose} is a delta CRL");
        return Some((Rule::CrlDelta, message));
    }
    if !crl.names_key_of(authority) {
        let message = format!("the CRL of {whose} names another key than the CA's");
        return Some((Rule::CrlAuthorityKey, message));
    }
    let error = crl.verify_signed_by(authority).err()?;
    Some((Rule::CrlSignature, error.message))
}

/// What `old` revokes and `new` does not, less the expired.
fn lacking(new: &Crl, old: &Crl, expiry: &Expiry, now: Timestamp) -> Vec<Serial> {
    let gone = old
        .revoked
        .keys()
        .filter(|serial| !new.revoked.contains_key(serial));
    gone.filter(|serial| expiry.get(serial).is_none_or(|until| *until >= now))
        .copied()
        .collect()
}

pub(crate) fn list(serials: &[Serial]) -> String {
    const SHOWN: usize = 5;
    let mut text = serials
        .iter()
        .take(SHOWN)
        .map(Serial::to_string)
        .collect::<Vec<_>>()
        .join(", ");
    if let Some(more) = serials.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        text.push_str(&format!(" and {more} more"));
    }
    text
}
