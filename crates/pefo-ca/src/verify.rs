//! Would the standby serve the same as its source, and is a CA sound by itself?
//!
//! [`compare`] is pure: two snapshots and the rules in, one [`Comparison`] out. It names each item that
//! differs, says what each side has of it, and tells a defect (the standby would not serve the same)
//! from what the rules expect of a standby: what it issued from its own block of serials, what it
//! revoked, what nobody gave a reason to delete. It does not plan: what brings both sides in step is
//! [`plan`](mod@crate::plan)'s business, and after a plan was applied whole there is no defect.
//!
//! [`check`] looks at one side by itself: each certificate's signature, name and inventory row, each
//! serial, the CRLs and the counter.
//!
//! Names that are excluded on either side are left out and listed. What is equal is counted, so that a
//! report without a difference says how much it is about.

mod check;
mod crl;
mod difference;
mod files;
mod issued;
mod report;
mod signed;

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use pefo_core::clock::Timestamp;
use pefo_core::{Certname, RelPath};
use serde::Serialize;

use crate::cert::CaChain;
use crate::exclude::Exclusions;
use crate::plan::SerialMode;
use crate::serial::{Serial, SerialBlock};
use crate::snapshot::{Beside, FileEntry, Snapshot};

pub use check::{CheckOptions, check};
pub use difference::{CrlFile, Difference, Finding, Held, Item};
pub use report::{CheckFinding, CheckReport, Fault};

/// By which rules two sides are compared.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct VerifyRules {
    /// The time by which expiry is judged.
    pub now: Timestamp,
    /// Certnames that are left alone.
    pub exclude: Exclusions,
    /// How the standby's counter is set.
    pub serial: SerialMode,
}

impl VerifyRules {
    /// The usual rules at `now`: the standby mirrors, and nothing is excluded.
    pub fn new(now: Timestamp) -> Self {
        Self {
            now,
            exclude: Exclusions::new(),
            serial: SerialMode::Mirror,
        }
    }

    /// Leaves certnames alone.
    #[must_use]
    pub fn exclude(mut self, exclude: Exclusions) -> Self {
        self.exclude = exclude;
        self
    }

    /// The standby issues from a block of its own.
    #[must_use]
    pub fn block(mut self, block: SerialBlock) -> Self {
        self.serial = SerialMode::Block(block);
        self
    }
}

/// How much was found to be as it should.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Tally {
    /// Files in signed/.
    pub certificates: usize,
    /// Files in requests/.
    pub requests: usize,
    /// Serials of inventory.txt.
    pub rows: usize,
    /// CRLs, in both files.
    pub crls: usize,
    /// Revocations in them.
    pub revocations: usize,
    /// Other files: the CA's certificate and keys, the infra lists, the counter.
    pub files: usize,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |count: usize, what: &str| {
            format!("{count} {what}{}", if count == 1 { "" } else { "s" })
        };
        write!(
            f,
            "{}, {}, {}, {} with {}, {}",
            count(self.certificates, "certificate"),
            count(self.requests, "request"),
            count(self.rows, "row"),
            count(self.crls, "CRL"),
            count(self.revocations, "revocation"),
            count(self.files, "other file"),
        )
    }
}

/// What differs between a standby and its source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Comparison {
    /// Each difference: defects first, each kind sorted by item.
    pub differences: Vec<Difference>,
    /// How much is the same on both sides.
    pub same: Tally,
    /// Names that are there and were left out, sorted.
    pub excluded: BTreeSet<Certname>,
}

impl Comparison {
    /// Whether the standby would serve the same: there is no defect.
    pub fn is_same(&self) -> bool {
        self.defects().next().is_none()
    }

    /// Where the standby would not serve the same.
    pub fn defects(&self) -> impl Iterator<Item = &Difference> {
        self.differences
            .iter()
            .filter(|difference| difference.defect)
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for difference in &self.differences {
            let verdict = if difference.defect {
                "defect"
            } else {
                "expected"
            };
            writeln!(f, "{verdict:<8} {difference}")?;
        }
        for name in &self.excluded {
            writeln!(f, "left out {name}")?;
        }
        writeln!(f, "same     {}", self.same)
    }
}

/// Compares a standby with its source under the rules.
pub fn compare(local: &Snapshot, source: &Snapshot, rules: &VerifyRules) -> Comparison {
    compare_rest(local, source, rules, (0, 0))
}

/// So many certificates and requests are known to be equal.
fn compare_rest(
    local: &Snapshot,
    source: &Snapshot,
    rules: &VerifyRules,
    (certificates, requests): (usize, usize),
) -> Comparison {
    let mut draft = Draft::new(local, source, rules);
    if files::authority(&mut draft) {
        draft.same.certificates += certificates;
        draft.same.requests += requests;
        files::key(&mut draft);
        files::others(&mut draft);
        issued::counter(&mut draft);
        issued::rows(&mut draft);
        signed::certificates(&mut draft);
        signed::requests(&mut draft);
        signed::strays(&mut draft);
        crl::compare(&mut draft, CrlFile::Ca);
        crl::compare(&mut draft, CrlFile::Infra);
    }
    draft.finish()
}

/// Compares a standby with its source, where what is equal was left out of both snapshots. Whether the
/// counter covers a certificate that has no row and is the same on both sides is not seen.
pub fn compare_beside(sides: &Beside, rules: &VerifyRules) -> Comparison {
    let equal = (sides.certificates, sides.requests);
    compare_rest(&sides.local, &sides.source, rules, equal)
}

/// A comparison in the making.
struct Draft<'s> {
    local: &'s Snapshot,
    source: &'s Snapshot,
    rules: &'s VerifyRules,
    expiry: OnceCell<BTreeMap<Serial, Timestamp>>,
    found: Vec<Difference>,
    same: Tally,
}

impl<'s> Draft<'s> {
    fn new(local: &'s Snapshot, source: &'s Snapshot, rules: &'s VerifyRules) -> Self {
        Self {
            local,
            source,
            rules,
            expiry: OnceCell::new(),
            found: Vec::new(),
            same: Tally::default(),
        }
    }

    fn note(&mut self, item: Item, finding: Finding, local: Held, source: Held) {
        self.found
            .push(Difference::new(item, finding, local, source));
    }

    /// Both sides' authority; the standby's where the source's cannot be read.
    fn ca(&self) -> Option<&'s CaChain> {
        self.source.chain().or_else(|| self.local.chain())
    }

    fn is_left_out(&self, name: &Certname) -> bool {
        let sides = [self.local, self.source];
        self.rules.exclude.contains(name) || sides.iter().any(|side| side.excluded.contains(name))
    }

    /// Whether a serial is of this host's own block.
    fn is_own(&self, serial: Serial) -> bool {
        match self.rules.serial {
            SerialMode::Block(block) => block.contains(serial),
            SerialMode::Mirror => false,
        }
    }

    /// Whether a serial's certificate has expired, as far as either side knows of it.
    fn is_expired(&self, serial: Serial) -> bool {
        let expiry = self
            .expiry
            .get_or_init(|| issued::expiry(self.local, self.source));
        expiry
            .get(&serial)
            .is_some_and(|until| *until < self.rules.now)
    }

    fn finish(mut self) -> Comparison {
        self.found
            .sort_by(|a, b| (!a.defect, &a.item).cmp(&(!b.defect, &b.item)));
        let mut excluded = BTreeSet::new();
        for side in [self.local, self.source] {
            let names = side.signed.keys().chain(side.requests.keys());
            excluded.extend(names.filter(|name| self.is_left_out(name)).cloned());
            excluded.extend(side.excluded.iter().cloned());
        }
        Comparison {
            differences: self.found,
            same: self.same,
            excluded,
        }
    }
}

/// A file of a snapshot, by its path below the cadir.
fn file<'s>(side: &'s Snapshot, path: &str) -> Option<&'s FileEntry> {
    side.files.get(&RelPath::new(path).ok()?)
}

fn bytes<'s>(side: &'s Snapshot, path: &str) -> Option<&'s [u8]> {
    file(side, path).map(|file| &*file.bytes)
}

/// The keys of either map, ascending, with what each map has of them.
fn pairs<'m, K: Ord, V>(
    local: &'m BTreeMap<K, V>,
    source: &'m BTreeMap<K, V>,
) -> impl Iterator<Item = (&'m K, Option<&'m V>, Option<&'m V>)> {
    let (mut local, mut source) = (local.iter().peekable(), source.iter().peekable());
    std::iter::from_fn(move || {
        let order = match (local.peek(), source.peek()) {
            (Some((here, _)), Some((there, _))) => here.cmp(there),
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, _) => std::cmp::Ordering::Greater,
        };
        let here = if order.is_le() { local.next() } else { None };
        let there = if order.is_ge() { source.next() } else { None };
        let (key, _) = here.or(there)?;
        Some((
            key,
            here.map(|(_, value)| value),
            there.map(|(_, value)| value),
        ))
    })
}
