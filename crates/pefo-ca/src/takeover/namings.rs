//! What a serial names on each of two sides.
//!
//! Two masters that counted from the same number have issued one serial twice (RFC 5280 §4.1.2.2 forbids
//! it, a split brain does it). A revocation names nothing but the serial: taken over, it would put a
//! node out of service that nobody ever meant.

use std::collections::BTreeSet;

use pefo_core::clock::Timestamp;

use crate::cert::Cert;
use crate::index::CertIndex;
use crate::inventory::Row;
use crate::serial::Serial;
use crate::snapshot::{Part, Snapshot};

/// The certificates of two sides by serial, as their inventories and signed/ tell.
#[derive(Debug)]
pub struct Namings<'s> {
    here: Side<'s>,
    there: Side<'s>,
}

#[derive(Debug)]
struct Side<'s> {
    snapshot: &'s Snapshot,
    certs: CertIndex<'s>,
}

/// Common name and dates.
type Identity<'s> = (&'s str, Timestamp, Timestamp);

impl<'s> Namings<'s> {
    /// Those of two CA directories.
    pub fn of(here: &'s Snapshot, there: &'s Snapshot) -> Self {
        let side = |snapshot: &'s Snapshot| Side {
            snapshot,
            certs: CertIndex::of(snapshot.signed()),
        };
        Self {
            here: side(here),
            there: side(there),
        }
    }

    /// What `serial` is on each side, for people, where both know it and not as the same; `None` where
    /// they agree, or where one of them never heard of it.
    pub fn differ(&self, serial: Serial) -> Option<String> {
        let (here, there) = (self.here.named(serial), self.there.named(serial));
        if here.is_empty() || there.is_empty() {
            return None;
        }
        // Same name, same second: only the certificates tell.
        let is_other_cert = self.here.holders(serial).any(|ours| {
            self.there
                .holders(serial)
                .any(|theirs| ours.common_name == theirs.common_name && ours.der() != theirs.der())
        });
        (here != there || is_other_cert)
            .then(|| format!("is {} here and {} there", list(&here), list(&there)))
    }
}

impl<'s> Side<'s> {
    fn holders(&self, serial: Serial) -> impl Iterator<Item = &'s Cert> + '_ {
        self.certs
            .holders(serial)
            .filter_map(|name| self.snapshot.signed.get(name).and_then(Part::get))
    }

    fn named(&self, serial: Serial) -> BTreeSet<Identity<'s>> {
        let rows = self.snapshot.inventory().into_iter();
        let rows = rows.flat_map(|inventory| inventory.of_serial(serial));
        let by_rows = rows.map(|row| (name_in(row), row.not_before, row.not_after));
        let certs = self.holders(serial);
        let by_certs = certs.map(|cert| {
            let name = cert.common_name.as_deref();
            let name = name.unwrap_or_else(|| cert.subject.as_str());
            (name, cert.not_before, cert.not_after)
        });
        by_rows.chain(by_certs).collect()
    }
}

/// The common name of a row, the last part of its subject.
fn name_in(row: &Row) -> &str {
    row.subject
        .rsplit_once("/CN=")
        .map_or(row.subject.as_str(), |(_, name)| name)
}

fn list(names: &BTreeSet<Identity<'_>>) -> String {
    let names: Vec<String> = names
        .iter()
        .map(|(name, since, _)| format!("{name} of {since}"))
        .collect();
    names.join(" and ")
}
