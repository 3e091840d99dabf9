//! Whose CA it is, its key, and the files that belong to the CA itself.

use super::{Draft, Finding, Held, Item, bytes};
use crate::cert::{CaChain, Cert};
use crate::pem;
use crate::snapshot::Part;

const CA_CERT: &str = "ca_crt.pem";

/// Whether both sides are one authority, as far as that can be told.
pub(super) fn authority(draft: &mut Draft<'_>) -> bool {
    let (here, there) = (&draft.local.chain, &draft.source.chain);
    let held = |part| {
        Held::part(Some(part), |chain: &CaChain| Held::Authority {
            subject: chain.signing().subject.clone(),
            fingerprint: crate::seed::fingerprint_of(chain.signing().der()),
        })
    };
    let finding = match (here, there) {
        (Part::Read(ours), Part::Read(theirs)) => {
            let same =
                |a: &Cert, b: &Cert| a.public_key() == b.public_key() && a.subject == b.subject;
            if !same(ours.signing(), theirs.signing()) || !same(ours.root(), theirs.root()) {
                Finding::OtherAuthority
            } else if ours.certs() != theirs.certs() {
                Finding::Differs
            } else if bytes(draft.local, CA_CERT) != bytes(draft.source, CA_CERT) {
                Finding::Rewritten
            } else {
                draft.same.files += 1;
                return true;
            }
        }
        (Part::Absent, Part::Read(_)) => Finding::Missing,
        (_, Part::Absent) => Finding::SourceLacks,
        _ => Finding::Unreadable,
    };
    draft.note(
        Item::File { name: CA_CERT },
        finding,
        held(here),
        held(there),
    );
    finding != Finding::OtherAuthority
}

/// The key that a promoted standby signs with.
pub(super) fn key(draft: &mut Draft<'_>) {
    // Without the certificate nobody can tell whose key it is, and that is said already.
    if draft.local.chain().is_none() {
        return;
    }
    let (finding, local) = match &draft.local.key_matches {
        Part::Read(true) => return draft.same.files += 1,
        Part::Read(false) => (Finding::OtherKey, Held::Nothing),
        Part::Absent => (Finding::Missing, Held::Nothing),
        Part::Unreadable(error) => (
            Finding::Unreadable,
            Held::Unreadable {
                error: error.clone(),
            },
        ),
    };
    let item = Item::File { name: "ca_key.pem" };
    draft.note(item, finding, local, Held::Nothing);
}

/// `ca_pub.pem` and the two infra lists.
pub(super) fn others(draft: &mut Draft<'_>) {
    for name in ["ca_pub.pem", "infra_inventory.txt", "infra_serials"] {
        let (here, there) = (bytes(draft.local, name), bytes(draft.source, name));
        let problem = |side: &crate::Snapshot| {
            let mut problems = side.problems.iter();
            let found = problems.find(|problem| problem.path == name);
            found.map(|problem| problem.error.clone())
        };
        let (bad_here, bad_there) = (problem(draft.local), problem(draft.source));
        let finding = match (here, there) {
            (Some(here), Some(there)) if here == there => {
                draft.same.files += 1;
                continue;
            }
            _ if bad_here.is_some() || bad_there.is_some() => Finding::Unreadable,
            (None, None) => continue,
            (None, Some(_)) => Finding::Missing,
            (Some(_), None) => Finding::Kept,
            (Some(here), Some(there)) if says_the_same(name, here, there) => Finding::Rewritten,
            (Some(_), Some(_)) => Finding::Differs,
        };
        let held = |bytes, problem: Option<_>| {
            problem.map_or_else(|| Held::bytes(bytes), |error| Held::Unreadable { error })
        };
        let (local, source) = (held(here, bad_here), held(there, bad_there));
        draft.note(Item::File { name }, finding, local, source);
    }
}

fn says_the_same(name: &str, here: &[u8], there: &[u8]) -> bool {
    if name.ends_with(".pem") {
        let ders = |bytes| {
            let blocks = pem::blocks(bytes).ok()?;
            Some(
                blocks
                    .into_iter()
                    .map(|block| (block.label, block.der))
                    .collect::<Vec<_>>(),
            )
        };
        return ders(here).is_some_and(|here| Some(here) == ders(there));
    }
    let entries = |bytes: &'_ [u8]| {
        let text = String::from_utf8_lossy(bytes);
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    entries(here) == entries(there)
}
