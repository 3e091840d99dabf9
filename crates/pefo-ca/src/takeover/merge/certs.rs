//! Certificates and requests of the returning side, name by name.
//!
//! A certificate that is revoked or has expired is of no use to anybody and would only be in its node's
//! way: the server gives out what stands in signed/ and takes no request for a name that stands there.
//! It stays out; its inventory row and its revocation do come in.

use std::collections::BTreeMap;
use std::sync::Arc;

use pefo_core::Certname;

use super::{InForce, Merging};
use crate::cert::{CaChain, Cert};
use crate::inventory::Inventory;
use crate::plan::admission::shown;
use crate::plan::draft::Draft;
use crate::plan::{Rule, find};
use crate::serial::Serial;
use crate::snapshot::Part;

/// Plans signed/, then requests/.
pub(super) fn plan(draft: &mut Draft<'_>, merging: &Merging<'_>, in_force: &InForce<'_>) {
    draft.refuse_names(merging.returning);
    let mut standing: BTreeMap<&Certname, &Cert> = merging.local.signed().collect();
    additions(draft, merging, in_force, &mut standing);
    cleaned(draft, merging, in_force, &mut standing);
    requests(draft, merging, in_force, &standing);
}

fn additions<'s>(
    draft: &mut Draft<'_>,
    merging: &Merging<'s>,
    in_force: &InForce<'_>,
    standing: &mut BTreeMap<&'s Certname, &'s Cert>,
) {
    let (mut revoked, mut expired) = (Vec::new(), Vec::new());
    for (name, part) in &merging.returning.signed {
        if is_left_out(draft, merging, name) {
            continue;
        }
        let path = format!("signed/{name}.pem");
        let Some(cert) = draft.certificate(&path, part) else {
            continue;
        };
        let current = merging.local.signed.get(name).and_then(Part::get);
        if current.is_some_and(|current| current.der() == cert.der())
            || !is_sound(draft, merging, &path, name, cert)
        {
            continue;
        }
        if in_force.has(cert.serial) {
            revoked.push(name);
        } else if cert.is_expired(draft.rules.now) {
            expired.push(name);
        } else if let Some(why) = admit(draft, merging, in_force, &path, name, cert)
            && let Some((rel, file)) = find(&merging.returning.files, &path)
        {
            let here = find(&merging.local.files, &path).map(|(_, file)| Arc::clone(&file.bytes));
            draft.put(rel.clone(), file, here, why);
            standing.insert(name, cert);
        }
    }
    for (names, what) in [(revoked, "is revoked"), (expired, "has expired")] {
        if !names.is_empty() {
            let (count, names) = (names.len(), shown(&names));
            draft.note(format!(
                "{count} certificate(s) of the returning side stay out of signed/, as each {what}: {names}"
            ));
        }
    }
}

/// Whether a certificate is what its file says, ours, and the only one with its serial.
fn is_sound(
    draft: &mut Draft<'_>,
    merging: &Merging<'_>,
    path: &str,
    name: &Certname,
    cert: &Cert,
) -> bool {
    if !draft.is_issued_to(path, name, cert, merging.authority()) {
        return false;
    }
    if let Some(difference) = merging.namings.differ(cert.serial) {
        let message = format!("serial {} {difference}", cert.serial);
        draft.refuse(Rule::SerialCollision, path, message);
        return false;
    }
    true
}

/// Whether a certificate that is good may stand here; the reason for people where it may.
fn admit(
    draft: &mut Draft<'_>,
    merging: &Merging<'_>,
    in_force: &InForce<'_>,
    path: &str,
    name: &Certname,
    cert: &Cert,
) -> Option<String> {
    let serial = cert.serial;
    let current = match merging.local.signed.get(name) {
        None => return Some(format!("serial {serial}")),
        Some(Part::Read(current)) => current,
        Some(torn) => return Some(format!("serial {serial}; the file here {}", torn.reason())),
    };
    let is_newer = (cert.not_before, serial) > (current.not_before, current.serial);
    let is_spent = current.is_expired(draft.rules.now) || in_force.has(current.serial);
    if !is_newer && !is_spent {
        // Known here already, and followed since by the one that stands here.
        if knows(merging.local.inventory(), serial) {
            return None;
        }
        let message = format!(
            "the returning side's, serial {serial}, is older than ours, serial {}",
            current.serial
        );
        if !draft.refuse(Rule::CertOlder, path, message) {
            return None;
        }
    }
    Some(format!("serial {} -> {serial}", current.serial))
}

/// What the returning side cleaned, it revoked and removed: the file goes here as well.
fn cleaned<'s>(
    draft: &mut Draft<'_>,
    merging: &Merging<'s>,
    in_force: &InForce<'_>,
    standing: &mut BTreeMap<&'s Certname, &'s Cert>,
) {
    let doomed: Vec<(&Certname, Serial)> = merging
        .local
        .signed()
        .filter(|(name, _)| {
            !merging.returning.signed.contains_key(name) && !is_left_out(draft, merging, name)
        })
        .filter(|(_, cert)| in_force.imported.contains_key(&cert.serial))
        .map(|(name, cert)| (name, cert.serial))
        .collect();
    if !draft.may_remove(doomed.len()) {
        return;
    }
    for (name, serial) in doomed {
        let why = format!("serial {serial} was cleaned at the returning side");
        draft.remove(merging.local, &format!("signed/{name}.pem"), why);
        standing.remove(name);
    }
}

/// Takes what is pending there and for nobody here; what was answered there goes here.
fn requests(
    draft: &mut Draft<'_>,
    merging: &Merging<'_>,
    in_force: &InForce<'_>,
    standing: &BTreeMap<&Certname, &Cert>,
) {
    let mut kept = Vec::new();
    for (name, part) in &merging.returning.requests {
        if is_left_out(draft, merging, name) {
            continue;
        }
        let path = format!("requests/{name}.pem");
        let Some(request) = draft.request(&path, name, part) else {
            continue;
        };
        let cert = standing.get(name).copied();
        let is_served = cert.is_some_and(|cert| {
            cert.public_key() == request.public_key()
                || !(cert.is_expired(draft.rules.now) || in_force.has(cert.serial))
        });
        let Some((rel, file)) = find(&merging.returning.files, &path) else {
            continue;
        };
        match find(&merging.local.files, &path) {
            Some((_, here)) if here.bytes == file.bytes => {}
            // Whoever asks this host speaks to it now.
            Some(_) => kept.push(name),
            None if is_served => kept.push(name),
            None => draft.put(rel.clone(), file, None, "pending at the returning side"),
        }
    }
    if !kept.is_empty() {
        draft.note(format!(
            "{} request(s) of the returning side stay out, their nodes having a certificate or another request here: {}",
            kept.len(),
            shown(&kept)
        ));
    }
    for (name, part) in &merging.local.requests {
        let answer = standing.get(name).copied();
        let is_answered = answer.is_some_and(|cert| {
            merging.local.signed.get(name).and_then(Part::get) != Some(cert)
                && part
                    .get()
                    .is_some_and(|request| request.public_key() == cert.public_key())
        });
        if is_answered {
            let why = "signed at the returning side".to_owned();
            draft.remove(merging.local, &format!("requests/{name}.pem"), why);
        }
    }
}

/// Says where a file differs that a merge leaves alone.
pub(super) fn note_difference(draft: &mut Draft<'_>, merging: &Merging<'_>, name: &str) {
    let (here, there) = (
        find(&merging.local.files, name),
        find(&merging.returning.files, name),
    );
    let is_same = match (here, there) {
        (Some((_, here)), Some((_, there))) if name == "ca_crt.pem" => {
            here.bytes == there.bytes
                || merging.returning.chain().map(CaChain::certs) == Some(merging.ca.certs())
        }
        (Some((_, here)), Some((_, there))) => here.bytes == there.bytes,
        _ => true,
    };
    if !is_same {
        draft.note(format!(
            "{name}: the returning side's is another; ours stays"
        ));
    }
}

fn is_left_out(draft: &Draft<'_>, merging: &Merging<'_>, name: &Certname) -> bool {
    draft.rules.exclude.contains(name)
        || merging.local.excluded.contains(name)
        || merging.returning.excluded.contains(name)
}

fn knows(inventory: Option<&Inventory>, serial: Serial) -> bool {
    inventory.is_some_and(|inventory| inventory.of_serial(serial).next().is_some())
}
