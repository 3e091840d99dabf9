//! signed/ and requests/, name by name.

use std::collections::BTreeSet;

use pefo_core::Certname;

use super::{Draft, Finding, Held, Item, bytes, pairs};
use crate::authority::Authority;
use crate::cert::{CaChain, Cert, Request};
use crate::index::NewestRows;
use crate::serial::Serial;
use crate::snapshot::{Part, Snapshot};

/// Compares signed/.
pub(super) fn certificates(draft: &mut Draft<'_>) {
    let (local, source) = (draft.local, draft.source);
    let missing = match (local.has_signed_dir, source.has_signed_dir) {
        (_, false) => Some(Finding::SourceLacks),
        (false, true) => Some(Finding::Missing),
        (true, true) => None,
    };
    if let Some(finding) = missing {
        let item = Item::File { name: "signed" };
        draft.note(item, finding, Held::Nothing, Held::Nothing);
    }
    let rewritten = rewritten(local, source);
    let extras = Extras::of(draft);
    for (name, here, there) in pairs(&local.signed, &source.signed) {
        if draft.is_left_out(name) {
            continue;
        }
        let finding = match (here, there) {
            (Some(Part::Read(ours)), Some(Part::Read(theirs))) if ours.der() == theirs.der() => {
                if !rewritten.contains(name.as_str()) {
                    draft.same.certificates += 1;
                    continue;
                }
                Finding::Rewritten
            }
            (Some(Part::Read(_)), Some(Part::Read(_))) => Finding::Differs,
            (Some(Part::Read(ours)), None) => extras.judge(draft, name, ours),
            (None, Some(Part::Read(_))) => Finding::Missing,
            _ => Finding::Unreadable,
        };
        let (local, source) = (Held::part(here, Held::cert), Held::part(there, Held::cert));
        let item = Item::Certificate {
            certname: name.clone(),
        };
        draft.note(item, finding, local, source);
    }
}

/// The names whose files in signed/ are on both sides and not byte for byte the same.
fn rewritten<'s>(local: &'s Snapshot, source: &'s Snapshot) -> BTreeSet<&'s str> {
    let files = pairs(&local.files, &source.files);
    let differing = files.filter(|(_, here, there)| match (here, there) {
        (Some(here), Some(there)) => here.bytes != there.bytes,
        _ => false,
    });
    let names = differing
        .filter_map(|(path, ..)| path.as_str().strip_prefix("signed/")?.strip_suffix(".pem"));
    names.collect()
}

/// What is judged where only the standby has a certificate.
struct Extras<'s> {
    authority: Option<Authority<'s>>,
    revoking: Vec<&'s crate::crl::Crl>,
    newest: NewestRows<'s>,
}

impl<'s> Extras<'s> {
    fn of(draft: &Draft<'s>) -> Self {
        let signing = draft.ca().map(CaChain::signing);
        let lists = [draft.local.ca_crl(), draft.source.ca_crl()];
        let ours = lists.into_iter().flatten();
        Self {
            authority: signing.and_then(|signing| Authority::of(signing).ok()),
            revoking: ours.filter_map(|bundle| bundle.find(signing?)).collect(),
            newest: NewestRows::of(draft.source.inventory()),
        }
    }

    fn is_revoked(&self, serial: Serial) -> bool {
        self.revoking
            .iter()
            .any(|crl| crl.revoked.contains_key(&serial))
    }

    fn judge(&self, draft: &Draft<'_>, name: &Certname, cert: &Cert) -> Finding {
        if cert.common_name.as_deref() != Some(name.as_str()) {
            return Finding::Misnamed;
        }
        let authority = self.authority.as_ref();
        if authority.is_some_and(|authority| authority.verify(cert).is_err()) {
            return Finding::Forged;
        }
        // Renewed and then cleaned: only the newer serial is revoked, but the file was its file.
        let is_followed = self.newest.of_name(name).is_some_and(|next| {
            (next.not_before, next.serial) > (cert.not_before, cert.serial)
                && self.is_revoked(next.serial)
        });
        if self.is_revoked(cert.serial) || cert.is_expired(draft.rules.now) || is_followed {
            Finding::Leftover
        } else if draft.is_own(cert.serial) {
            Finding::OwnBlock
        } else {
            Finding::Kept
        }
    }
}

/// Compares requests/.
pub(super) fn requests(draft: &mut Draft<'_>) {
    let (local, source) = (draft.local, draft.source);
    for (name, here, there) in pairs(&local.requests, &source.requests) {
        if draft.is_left_out(name) {
            continue;
        }
        let path = format!("requests/{name}.pem");
        let certified = local.signed.get(name).and_then(Part::get);
        let is_answered = |request: &Request| {
            certified.is_some_and(|cert| cert.public_key() == request.public_key())
        };
        let finding = match (here, there) {
            (Some(Part::Unreadable(_)), _) | (_, Some(Part::Unreadable(_))) => Finding::Unreadable,
            (Some(_), Some(_)) if bytes(local, &path) == bytes(source, &path) => {
                draft.same.requests += 1;
                continue;
            }
            // What the source still holds, or what the standby has not removed yet.
            (_, Some(Part::Read(request))) | (Some(Part::Read(request)), None)
                if is_answered(request) =>
            {
                Finding::Answered
            }
            (Some(_), None) => Finding::Kept,
            (None, _) => Finding::Missing,
            (Some(_), Some(_)) => Finding::Differs,
        };
        let held =
            |side: &Snapshot, part| Held::part(part, |_: &Request| Held::bytes(bytes(side, &path)));
        let (local, source) = (held(local, here), held(source, there));
        let item = Item::Request {
            certname: name.clone(),
        };
        draft.note(item, finding, local, source);
    }
}

/// Names in signed/ and requests/ that are neither sent nor taken.
pub(super) fn strays(draft: &mut Draft<'_>) {
    let on = |side: &Snapshot| -> BTreeSet<String> {
        let problems = side.problems.iter();
        let refused = problems.filter(|problem| problem.error.rule == "name-refused");
        refused.map(|problem| problem.path.clone()).collect()
    };
    let (here, there) = (on(draft.local), on(draft.source));
    for path in here.symmetric_difference(&there) {
        let item = Item::Stray { path: path.clone() };
        draft.note(item, Finding::NameRefused, Held::Nothing, Held::Nothing);
    }
}
