//! Is a CA sound by itself?
//!
//! Each certificate of signed/ is verified, on all processors: that the CA issued it, to the name of its
//! file, under a serial that nobody else has and that the inventory tells the same of. The findings stand
//! in the order of their items, however many threads looked for them.

use std::time::Duration;

use pefo_core::Certname;
use pefo_core::clock::Timestamp;

use super::{CheckFinding, CheckReport, CrlFile, Fault, Item, Tally, issued};
use crate::authority::Authority;
use crate::cert::{CaChain, Cert};
use crate::crl::Crl;
use crate::index::CertIndex;
use crate::inventory::Row;
use crate::parallel::Threads;
use crate::plan::SerialMode;
use crate::serial::{Serial, SerialBlock};
use crate::snapshot::{Part, Snapshot};

/// How a CA is checked.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct CheckOptions {
    /// The time by which expiry is judged.
    pub now: Timestamp,
    /// What expires within this time is noted.
    pub soon: Duration,
    /// How this host's counter is set.
    pub serial: SerialMode,
    /// Blocks that other hosts issue from: the counter need not cover them.
    pub other_blocks: Vec<SerialBlock>,
    /// How many threads verify; the outcome is the same.
    pub threads: Threads,
}

impl CheckOptions {
    /// The usual check at `now`: what expires within 30 days is noted, as puppetserver signs its CRL again
    /// by then; one counter; all processors.
    pub fn new(now: Timestamp) -> Self {
        Self {
            now,
            soon: Duration::from_secs(30 * 86_400),
            serial: SerialMode::Mirror,
            other_blocks: Vec::new(),
            threads: Threads::default(),
        }
    }

    /// Notes what expires within this time.
    #[must_use]
    pub fn soon(mut self, soon: Duration) -> Self {
        self.soon = soon;
        self
    }

    /// This host issues from a block of its own.
    #[must_use]
    pub fn block(mut self, block: SerialBlock) -> Self {
        self.serial = SerialMode::Block(block);
        self
    }

    /// Another host issues from this block.
    #[must_use]
    pub fn other_block(mut self, block: SerialBlock) -> Self {
        self.other_blocks.push(block);
        self
    }

    /// Sets how many threads verify.
    #[must_use]
    pub fn threads(mut self, threads: Threads) -> Self {
        self.threads = threads;
        self
    }
}

/// Checks a CA by itself.
pub fn check(snapshot: &Snapshot, options: &CheckOptions) -> CheckReport {
    let mut check = Check {
        snapshot,
        options,
        found: Vec::new(),
        checked: Tally::default(),
    };
    check.files();
    check.chain();
    check.certificates();
    check.rows();
    check.counter();
    for file in [CrlFile::Ca, CrlFile::Infra] {
        check.crls(file);
    }
    check.finish()
}

type Found = (Fault, String);

struct Check<'s> {
    snapshot: &'s Snapshot,
    options: &'s CheckOptions,
    found: Vec<CheckFinding>,
    checked: Tally,
}

impl<'s> Check<'s> {
    fn note(&mut self, item: Item, (fault, message): Found) {
        let defect = fault.is_defect();
        self.found.push(CheckFinding {
            item,
            fault,
            defect,
            message,
        });
    }

    fn finish(mut self) -> CheckReport {
        // Findings of one item stay in the order in which they are looked for.
        self.found
            .sort_by(|a, b| (!a.defect, &a.item).cmp(&(!b.defect, &b.item)));
        CheckReport {
            findings: self.found,
            checked: self.checked,
        }
    }

    /// What could not be read, and what is not there.
    fn files(&mut self) {
        let snapshot = self.snapshot;
        for problem in &snapshot.problems {
            let error = &problem.error;
            let found = if error.rule == "name-refused" {
                (Fault::NameRefused, error.message.clone())
            } else {
                (Fault::Unreadable, error.to_string())
            };
            self.note(item_at(&problem.path), found);
        }
        self.checked.requests = snapshot.requests.len();
        self.checked.files = snapshot
            .files
            .keys()
            .filter(|path| path.parent().is_none())
            .count();
        let absent = [
            (matches!(snapshot.chain, Part::Absent), "ca_crt.pem"),
            (matches!(snapshot.inventory, Part::Absent), "inventory.txt"),
            (matches!(snapshot.ca_crl, Part::Absent), "ca_crl.pem"),
            (!snapshot.has_signed_dir, "signed"),
        ];
        for (_, name) in absent.into_iter().filter(|(is_absent, _)| *is_absent) {
            self.note(
                Item::File { name },
                (Fault::Missing, "every CA has it".to_owned()),
            );
        }
        // A staged copy has no key, and that is as it should be.
        if snapshot.key_matches() == Some(false) {
            let message = "compared with the certificate that signs".to_owned();
            self.note(
                Item::File { name: "ca_key.pem" },
                (Fault::OtherKey, message),
            );
        }
    }

    fn chain(&mut self) {
        let certs = self
            .snapshot
            .chain()
            .map(CaChain::certs)
            .unwrap_or_default();
        for cert in certs {
            if let Some((fault, until)) = self.expiry(cert.not_after, Fault::Expired) {
                let message = format!("{}, {until}", cert.subject);
                self.note(Item::File { name: "ca_crt.pem" }, (fault, message));
            }
        }
    }

    fn expiry(&self, until: Timestamp, expired: Fault) -> Option<Found> {
        if until < self.options.now {
            Some((expired, format!("on {until}")))
        } else if until < self.options.now.plus(self.options.soon) {
            Some((Fault::ExpiresSoon, format!("on {until}")))
        } else {
            None
        }
    }

    /// Every certificate, shared out among the threads.
    fn certificates(&mut self) {
        let snapshot = self.snapshot;
        let signing = snapshot.chain().map(CaChain::signing);
        let authority = signing.and_then(|signing| Authority::of(signing).ok());
        let holders = CertIndex::of(snapshot.signed());
        let certs: Vec<(&Certname, &Cert)> = snapshot.signed().collect();
        let threads = self.options.threads;
        let found = threads.map(&certs, |(name, cert)| {
            self.certificate(name, cert, authority.as_ref(), &holders)
        });
        self.checked.certificates = certs.len();
        for ((name, _), found) in certs.into_iter().zip(found) {
            for found in found {
                self.note(
                    Item::Certificate {
                        certname: name.clone(),
                    },
                    found,
                );
            }
        }
    }

    fn certificate(
        &self,
        name: &Certname,
        cert: &Cert,
        authority: Option<&Authority<'_>>,
        holders: &CertIndex<'_>,
    ) -> Vec<Found> {
        let mut found = Vec::new();
        if let Some(Err(error)) = authority.map(|authority| authority.verify(cert)) {
            found.push((Fault::Forged, error.message));
        }
        if cert.common_name.as_deref() != Some(name.as_str()) {
            found.push((Fault::Misnamed, cert.subject.to_string()));
        }
        let serial = cert.serial;
        if let Some(other) = holders.other_than(name, serial) {
            found.push((Fault::SerialTwice, format!("{serial} is also {other}'s")));
        }
        if let Some(inventory) = self.snapshot.inventory() {
            let mut rows = inventory.of_serial(serial).peekable();
            match rows.peek().copied() {
                None => found.push((Fault::RowMissing, format!("serial {serial}"))),
                Some(first) if !rows.any(|row| is_of(row, cert)) => {
                    found.push((Fault::RowDiffers, first.text().to_owned()));
                }
                Some(_) => {}
            }
        }
        found.extend(self.expiry(cert.not_after, Fault::CertExpired));
        found
    }

    /// Rows that share a serial and are not the same.
    fn rows(&mut self) {
        let Some(inventory) = self.snapshot.inventory() else {
            return;
        };
        for serial in inventory.serials() {
            self.checked.rows += 1;
            let mut rows = inventory.of_serial(serial);
            let first = rows.next();
            let other = rows.find(|row| first.is_some_and(|first| !first.agrees_with(row)));
            if let Some((first, other)) = first.zip(other) {
                let message = format!("{} and {}", first.text(), other.text());
                self.note(Item::Row { serial }, (Fault::SerialTwice, message));
            }
        }
    }

    fn counter(&mut self) {
        let next = match &self.snapshot.serial {
            Part::Read(next) => *next,
            Part::Unreadable(_) => return,
            Part::Absent => {
                return self.note(
                    Item::Counter,
                    (Fault::Missing, "every CA has it".to_owned()),
                );
            }
        };
        let is_apart = |serial: u32| {
            let mut blocks = self.options.other_blocks.iter();
            blocks.any(|block| block.contains(Serial::from(serial)))
        };
        let is_counted = |serial: &u32| match self.options.serial {
            SerialMode::Mirror => !is_apart(*serial),
            SerialMode::Block(block) => block.contains(Serial::from(*serial)),
        };
        let Some(counter) = next.counter() else {
            let message = format!("{next} is more than puppetserver can read");
            return self.note(Item::Counter, (Fault::Behind, message));
        };
        let highest = issued::counted(self.snapshot).filter(is_counted).max();
        if let Some(highest) = highest.filter(|highest| counter <= *highest) {
            let message = format!("{next} is next, and {} was issued", Serial::from(highest));
            self.note(Item::Counter, (Fault::Behind, message));
        }
    }

    fn crls(&mut self, file: CrlFile) {
        let bundle = match file {
            CrlFile::Ca => self.snapshot.ca_crl(),
            CrlFile::Infra => self.snapshot.infra_crl(),
        };
        let Some(bundle) = bundle else { return };
        let certs = self
            .snapshot
            .chain()
            .map(CaChain::certs)
            .unwrap_or_default();
        for crl in bundle.crls() {
            self.checked.crls += 1;
            self.checked.revocations += crl.revoked.len();
            for found in self.crl(crl, certs) {
                self.note(
                    Item::Crl {
                        file,
                        issuer: crl.issuer.clone(),
                    },
                    found,
                );
            }
        }
        if let Some(signing) = certs.first()
            && bundle.find(signing).is_none()
        {
            let issuer = signing.subject.clone();
            self.note(
                Item::Crl { file, issuer },
                (Fault::Missing, "every CA has one".to_owned()),
            );
        }
    }

    fn crl(&self, crl: &Crl, certs: &[Cert]) -> Vec<Found> {
        let mut found = Vec::new();
        let authority = certs.iter().find(|cert| cert.subject == crl.issuer);
        match authority.map(|authority| crl.verify_signed_by(authority)) {
            None if certs.is_empty() => {}
            None => found.push((Fault::Forged, "its issuer is not in ca_crt.pem".to_owned())),
            Some(Ok(())) => {}
            Some(Err(error)) => found.push((Fault::Forged, error.message)),
        }
        if crl.number.is_none() {
            found.push((Fault::Unnumbered, "nobody can tell old from new".to_owned()));
        }
        if let Some(until) = crl.next_update {
            found.extend(self.expiry(until, Fault::Expired));
        }
        found
    }
}

/// Whether a row is this certificate's: its dates and its subject.
fn is_of(row: &Row, cert: &Cert) -> bool {
    let is_subject = row.common_name().is_some()
        && row.common_name() == cert.common_name.as_deref()
        || row.subject == format!("/{}", cert.subject.as_str().replace(", ", "/"));
    (row.not_before, row.not_after) == (cert.not_before, cert.not_after) && is_subject
}

/// What stands at a path that a problem names.
fn item_at(path: &str) -> Item {
    let certname = |sub: &str| {
        let name = path.strip_prefix(sub)?.strip_suffix(".pem")?;
        Certname::new(name).ok()
    };
    let names = [
        "ca_crl.pem",
        "ca_crt.pem",
        "ca_key.pem",
        "infra_crl.pem",
        "infra_inventory.txt",
        "infra_serials",
        "inventory.txt",
    ];
    if let Some(certname) = certname("signed/") {
        Item::Certificate { certname }
    } else if let Some(certname) = certname("requests/") {
        Item::Request { certname }
    } else if path == "serial" {
        Item::Counter
    } else if let Some(name) = names.into_iter().find(|name| *name == path) {
        Item::File { name }
    } else {
        Item::Stray {
            path: path.to_owned(),
        }
    }
}
