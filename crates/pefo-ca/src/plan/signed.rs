//! signed/ and requests/, name by name.
//!
//! A certificate is taken where our CA issued it to the name of its file and no other certificate here
//! has its serial; one is deleted only for a reason that can be shown: revoked by the CRL in force,
//! expired, or named by a tombstone. A request goes when it was answered.

use std::collections::BTreeMap;
use std::sync::Arc;

use pefo_core::Certname;
use pefo_core::clock::Timestamp;

use super::admission::shown;
use super::issued::subject_here;
use super::{Draft, Rule, find};
use crate::cert::{CaChain, Cert};
use crate::crl::Crl;
use crate::index::{CertIndex, NewestRows};
use crate::inventory::Row;
use crate::serial::Serial;
use crate::snapshot::{Part, Snapshot};

/// The two sides, and what rules over them.
#[derive(Clone, Copy)]
pub(super) struct Sides<'s> {
    pub(super) local: &'s Snapshot,
    pub(super) source: &'s Snapshot,
    pub(super) ca: &'s CaChain,
    /// Our CRL as it will be in force.
    pub(super) in_force: Option<&'s Crl>,
    /// Who has which serial here.
    pub(super) holders: &'s CertIndex<'s>,
    /// Whose row of the source's inventory is the newest.
    pub(super) newest: &'s NewestRows<'s>,
}

impl Sides<'_> {
    fn is_revoked(&self, serial: Serial) -> bool {
        self.in_force
            .is_some_and(|crl| crl.revoked.contains_key(&serial))
    }

    fn source_revokes(&self, serial: Serial) -> bool {
        let theirs = self
            .source
            .ca_crl()
            .and_then(|bundle| bundle.find(self.ca.signing()));
        theirs.is_some_and(|crl| crl.revoked.contains_key(&serial))
    }
}

/// Plans signed/, then requests/.
pub(super) fn plan(draft: &mut Draft<'_>, sides: Sides<'_>) {
    draft.refuse_names(sides.source);
    let mut standing: BTreeMap<&Certname, &Cert> = sides.local.signed().collect();
    additions(draft, sides, &mut standing);
    deletions(draft, sides, &mut standing);
    requests(draft, sides, &standing);
}

/// Takes what the source signed.
fn additions<'s>(
    draft: &mut Draft<'_>,
    sides: Sides<'s>,
    standing: &mut BTreeMap<&'s Certname, &'s Cert>,
) {
    for (name, part) in &sides.source.signed {
        if draft.rules.exclude.contains(name) {
            continue;
        }
        let path = format!("signed/{name}.pem");
        let Some(cert) = draft.certificate(&path, part) else {
            continue;
        };
        let current = sides.local.signed.get(name).and_then(Part::get);
        if current.is_some_and(|current| current.der() == cert.der()) {
            continue;
        }
        let Some(why) = admit(draft, sides, &path, name, cert) else {
            continue;
        };
        let Some((rel, file)) = find(&sides.source.files, &path) else {
            continue;
        };
        let here = find(&sides.local.files, &path).map(|(_, file)| Arc::clone(&file.bytes));
        draft.put(rel.clone(), file, here, why);
        standing.insert(name, cert);
    }
}

/// Whether the source's certificate may stand here; the reason for people where it may.
fn admit(
    draft: &mut Draft<'_>,
    sides: Sides<'_>,
    path: &str,
    name: &Certname,
    cert: &Cert,
) -> Option<String> {
    let serial = cert.serial;
    if !draft.is_issued_to(path, name, cert, sides.ca.signing()) {
        return None;
    }
    // Revoked here, and the source does not know it: a copy from before the revocation.
    if sides.is_revoked(serial) && !sides.source_revokes(serial) {
        let message = format!("serial {serial} is revoked here, and the source does not know");
        draft.refuse(Rule::CertRevoked, path, message);
        return None;
    }
    if let Some(other) = holder_of(sides, name, serial) {
        draft.refuse(
            Rule::SerialCollision,
            path,
            format!("serial {serial} is {other} here"),
        );
        return None;
    }
    let current = match sides.local.signed.get(name) {
        None => return Some(format!("serial {serial}")),
        Some(Part::Read(current)) => current,
        Some(torn) => return Some(format!("serial {serial}; the file here {}", torn.reason())),
    };
    let is_newer = (cert.not_before, serial) > (current.not_before, current.serial);
    let is_spent = current.is_expired(draft.rules.now) || sides.is_revoked(current.serial);
    if !is_newer && !is_spent {
        let message = format!(
            "the source's, serial {serial}, is older than ours, serial {}",
            current.serial
        );
        if !draft.refuse(Rule::CertOlder, path, message) {
            return None;
        }
    }
    Some(format!("serial {} -> {serial}", current.serial))
}

/// Who else has this serial here, by certificate or by inventory.
fn holder_of(sides: Sides<'_>, name: &Certname, serial: Serial) -> Option<String> {
    if let Some(other) = sides.holders.other_than(name, serial) {
        return Some(other.to_string());
    }
    let inventory = sides.local.inventory()?;
    let mut rows = inventory.of_serial(serial).peekable();
    rows.peek()?;
    let is_ours = rows.any(|row| row.common_name() == Some(name.as_str()));
    (!is_ours).then(|| subject_here(inventory, serial))
}

/// Deletes what the source no longer has, each for a reason.
fn deletions<'s>(
    draft: &mut Draft<'_>,
    sides: Sides<'s>,
    standing: &mut BTreeMap<&'s Certname, &'s Cert>,
) {
    let Sides { local, source, .. } = sides;
    let mut doomed = Vec::new();
    let mut kept = Vec::new();
    for (name, part) in &local.signed {
        let is_left_out = source.excluded.contains(name) || draft.rules.exclude.contains(name);
        if source.signed.contains_key(name) || is_left_out || !source.tells_of(name) {
            continue;
        }
        let reason = if draft.rules.tombstones.contains(name) {
            Some("removed at the source on purpose".to_owned())
        } else {
            part.get()
                .and_then(|cert| reason_to_go(draft.rules.now, sides, name, cert))
        };
        match reason {
            Some(reason) => doomed.push((name, reason)),
            None => kept.push(name),
        }
    }
    if !kept.is_empty() {
        let (count, names) = (kept.len(), shown(&kept));
        draft.note(format!(
            "{count} certificate(s) not at the source stay, being neither revoked nor expired: {names}"
        ));
    }
    if !draft.may_remove(doomed.len()) {
        return;
    }
    for (name, why) in doomed {
        draft.remove(local, &format!("signed/{name}.pem"), why);
        standing.remove(name);
    }
}

/// Why a certificate that the source does not have may go.
fn reason_to_go(now: Timestamp, sides: Sides<'_>, name: &Certname, cert: &Cert) -> Option<String> {
    let serial = cert.serial;
    if sides.is_revoked(serial) {
        return Some(format!("serial {serial} is revoked"));
    }
    if cert.is_expired(now) {
        return Some(format!("serial {serial} expired on {}", cert.not_after));
    }
    // Renewed and then cleaned: only the newer serial is revoked, but the file was its file.
    let next = sides.newest.of_name(name)?;
    let is_successor = (next.not_before, next.serial) > (cert.not_before, serial);
    (is_successor && sides.is_revoked(next.serial)).then(|| {
        format!(
            "serial {serial} was followed by {}, which is revoked",
            next.serial
        )
    })
}

/// Copies what is pending, removes what was answered.
fn requests(draft: &mut Draft<'_>, sides: Sides<'_>, standing: &BTreeMap<&Certname, &Cert>) {
    let Sides { local, source, .. } = sides;
    for (name, part) in &source.requests {
        if draft.rules.exclude.contains(name) {
            continue;
        }
        let path = format!("requests/{name}.pem");
        let Some(request) = draft.request(&path, name, part) else {
            continue;
        };
        // The server deletes a request right after signing it: one whose key is certified is done.
        if standing
            .get(name)
            .is_some_and(|cert| cert.public_key() == request.public_key())
        {
            continue;
        }
        let Some((rel, file)) = find(&source.files, &path) else {
            continue;
        };
        let here = find(&local.files, &path).map(|(_, file)| Arc::clone(&file.bytes));
        if here.as_ref() != Some(&file.bytes) {
            draft.put(rel.clone(), file, here, "pending at the source");
        }
    }
    for (name, part) in &local.requests {
        if draft.rules.exclude.contains(name) || source.excluded.contains(name) {
            continue;
        }
        let certified = |cert: &&Cert| {
            part.get()
                .is_none_or(|request| request.public_key() == cert.public_key())
        };
        let why = if standing.get(name).is_some_and(certified) {
            "signed".to_owned()
        } else if source.requests.contains_key(name) {
            continue;
        } else if let Some(row) = signed_since(sides, name) {
            format!("signed since, as serial {}", row.serial)
        } else if draft.rules.tombstones.contains(name) {
            "removed at the source on purpose".to_owned()
        } else {
            continue;
        };
        draft.remove(local, &format!("requests/{name}.pem"), why);
    }
}

/// A row of the source's for this name that is new here: its request was answered, whatever became of
/// the certificate.
fn signed_since<'s>(sides: Sides<'s>, name: &Certname) -> Option<&'s Row> {
    let row = sides.newest.of_name(name)?;
    let is_known = sides
        .local
        .inventory()
        .is_some_and(|inventory| inventory.of_serial(row.serial).next().is_some());
    (!is_known).then_some(row)
}
