//! What is revoked: CRL by CRL, revocation by revocation (RFC 5280 §5.2 and §3.3).

use std::cmp::Ordering;
use std::collections::BTreeSet;

use super::{CrlFile, Draft, Finding, Held, Item, bytes};
use crate::cert::CaChain;
use crate::crl::{Crl, CrlBundle};
use crate::serial::Serial;
use crate::snapshot::Part;

/// Compares one file of CRLs.
pub(super) fn compare(draft: &mut Draft<'_>, file: CrlFile) {
    let (local, source) = (draft.local, draft.source);
    let (here, there) = match file {
        CrlFile::Ca => (&local.ca_crl, &source.ca_crl),
        CrlFile::Infra => (&local.infra_crl, &source.infra_crl),
    };
    let finding = match (here, there) {
        (Part::Read(ours), Part::Read(theirs)) => return bundles(draft, file, ours, theirs),
        (Part::Absent, Part::Absent) if file == CrlFile::Infra => return,
        (Part::Unreadable(_), _) | (_, Part::Unreadable(_)) => Finding::Unreadable,
        (Part::Absent, Part::Read(_)) => Finding::Missing,
        // Every CA has a CRL; infra_crl.pem is optional.
        (_, Part::Absent) if file == CrlFile::Ca => Finding::SourceLacks,
        (_, Part::Absent) => Finding::Kept,
    };
    let held = |side, part| {
        Held::part(Some(part), |_: &CrlBundle| {
            Held::bytes(bytes(side, file.name()))
        })
    };
    let item = Item::File { name: file.name() };
    draft.note(item, finding, held(local, here), held(source, there));
}

fn bundles(draft: &mut Draft<'_>, file: CrlFile, ours: &CrlBundle, theirs: &CrlBundle) {
    let before = draft.found.len();
    let of = |bundle: &CrlBundle, crl: &Crl| {
        let mut crls = bundle.crls().iter();
        crls.find(|other| other.issuer == crl.issuer).cloned()
    };
    for there in theirs.crls() {
        let item = Item::Crl {
            file,
            issuer: there.issuer.clone(),
        };
        match of(ours, there) {
            None => draft.note(item, Finding::Missing, Held::Nothing, Held::crl(there)),
            Some(here) if here.der() == there.der() => {
                draft.same.crls += 1;
                draft.same.revocations += here.revoked.len();
            }
            Some(here) => one(draft, file, &here, there),
        }
    }
    for here in ours.crls().iter().filter(|here| of(theirs, here).is_none()) {
        let finding = if is_forged(draft, here) {
            Finding::Forged
        } else {
            Finding::Kept
        };
        let item = Item::Crl {
            file,
            issuer: here.issuer.clone(),
        };
        draft.note(item, finding, Held::crl(here), Held::Nothing);
    }
    let (local, source) = (
        bytes(draft.local, file.name()),
        bytes(draft.source, file.name()),
    );
    if draft.found.len() == before && local != source {
        // puppetserver takes the first CRL for its own.
        let signing = draft.ca().map(CaChain::signing);
        let is_first = |bundle: &CrlBundle| {
            let first = bundle.crls().first();
            first
                .zip(signing)
                .is_none_or(|(crl, signing)| crl.issuer == signing.subject)
        };
        let finding = if is_first(ours) {
            Finding::Rewritten
        } else {
            Finding::Differs
        };
        let item = Item::File { name: file.name() };
        draft.note(item, finding, Held::bytes(local), Held::bytes(source));
    }
}

/// Whether the CA that it says it is of has not signed it.
fn is_forged(draft: &Draft<'_>, crl: &Crl) -> bool {
    let certs = draft.ca().map(CaChain::certs).unwrap_or_default();
    let authority = certs.iter().find(|cert| cert.subject == crl.issuer);
    authority.is_some_and(|authority| crl.verify_signed_by(authority).is_err())
}

/// Two CRLs of one issuer that are not the same.
fn one(draft: &mut Draft<'_>, file: CrlFile, here: &Crl, there: &Crl) {
    let item = Item::Crl {
        file,
        issuer: here.issuer.clone(),
    };
    if is_forged(draft, here) {
        // What it says means nothing.
        return draft.note(item, Finding::Forged, Held::crl(here), Held::crl(there));
    }
    let is_ours = draft
        .ca()
        .is_some_and(|ca| ca.signing().subject == here.issuer);
    // Expiry is known of what the signing CA issued; serials of ancestors are another's.
    let is_spent = |draft: &Draft<'_>, serial| is_ours && draft.is_expired(serial);
    let serials: BTreeSet<Serial> = here
        .revoked
        .keys()
        .chain(there.revoked.keys())
        .copied()
        .collect();
    let mut revokes_the_same = true;
    for serial in serials {
        let (ours, theirs) = (here.revoked.get(&serial), there.revoked.get(&serial));
        let finding = match (ours, theirs) {
            (Some(_), Some(_)) | (None, None) => {
                draft.same.revocations += 1;
                continue;
            }
            (Some(_), None) => Finding::Kept,
            (None, Some(_)) if is_spent(draft, serial) => Finding::Expired,
            (None, Some(_)) => Finding::Missing,
        };
        revokes_the_same &= is_spent(draft, serial);
        let held = |revocation: Option<&crate::crl::Revocation>| {
            revocation.map_or(Held::Nothing, |revocation| Held::Revoked {
                since: revocation.date,
            })
        };
        let issuer = here.issuer.clone();
        let item = Item::Revocation {
            file,
            issuer,
            serial,
        };
        draft.note(item, finding, held(ours), held(theirs));
    }
    let finding = match (here.number, there.number) {
        _ if here.is_delta != there.is_delta => Finding::Differs,
        (Some(ours), Some(theirs)) => match ours.cmp(&theirs) {
            Ordering::Less => Finding::Older,
            Ordering::Greater => Finding::Ahead,
            Ordering::Equal if revokes_the_same => Finding::SignedTwice,
            Ordering::Equal => Finding::Forked,
        },
        _ => Finding::Differs,
    };
    draft.note(item, finding, Held::crl(here), Held::crl(there));
}
