//! What would bring the local CA in step with its source, and what stands in the way.
//!
//! [`plan`] is pure: two snapshots and the rules in, one value out. It can always be shown instead of
//! applied. Actions stand in the order in which they must happen: serial, inventory, signed, requests,
//! and the CRLs last; each names what it expects to find, so that applying notices whoever came between.
//!
//! A [`Conflict`] is a refusal by a named rule. Few hold everything back (another authority, an emptied
//! source); most hold back only what they name, and the plan is then partial.

pub(crate) mod admission;
pub(crate) mod crl;
pub(crate) mod draft;
pub(crate) mod issued;
mod rule;
mod signed;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use pefo_core::clock::Timestamp;
use pefo_core::{Certname, RelPath};
use serde::Serialize;

use crate::exclude::Exclusions;
use crate::index::{CertIndex, NewestRows};
use crate::serial::{Serial, SerialBlock};
use crate::snapshot::{FileEntry, Snapshot};

use draft::Draft;
use signed::Sides;

pub use rule::{Conflict, Rule, Scope};

/// How the local counter relates to the source's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum SerialMode {
    /// The standby only mirrors: its counter never falls behind anything issued.
    #[default]
    Mirror,
    /// The standby has a block of its own, and the source's counter is only taken note of.
    Block(SerialBlock),
}

/// What a plan may do.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PlanRules {
    /// The time by which expiry is judged.
    pub now: Timestamp,
    /// Rules that an operator overrules by name.
    pub accept: BTreeSet<String>,
    /// How many files of signed/ one plan may delete.
    pub max_deletes: usize,
    /// Certnames that are left alone.
    pub exclude: Exclusions,
    /// How the counter is set.
    pub serial: SerialMode,
    /// Certnames removed at the source on purpose: their certificate and request may go.
    pub tombstones: BTreeSet<Certname>,
    /// Whether a CRL may be taken that is older than the one in force, or revokes less: an operator goes
    /// back on purpose.
    pub unrevoke: bool,
}

impl PlanRules {
    /// The usual rules at `now`: mirror, at most 10 deletions, nothing accepted or excluded.
    pub fn new(now: Timestamp) -> Self {
        Self {
            now,
            accept: BTreeSet::new(),
            max_deletes: 10,
            exclude: Exclusions::new(),
            serial: SerialMode::Mirror,
            tombstones: BTreeSet::new(),
            unrevoke: false,
        }
    }

    /// Overrules a rule by its name.
    #[must_use]
    pub fn accept(mut self, rule: &str) -> Self {
        self.accept.insert(rule.to_owned());
        self
    }

    /// Sets how many files of signed/ may go at once.
    #[must_use]
    pub fn max_deletes(mut self, max: usize) -> Self {
        self.max_deletes = max;
        self
    }

    /// Leaves certnames alone.
    #[must_use]
    pub fn exclude(mut self, exclude: Exclusions) -> Self {
        self.exclude = exclude;
        self
    }

    /// Gives this host a block of serials of its own.
    #[must_use]
    pub fn block(mut self, block: SerialBlock) -> Self {
        self.serial = SerialMode::Block(block);
        self
    }

    /// Sets whether revocations in force may be taken back. Never for what a source says by itself.
    #[must_use]
    pub fn unrevoke(mut self, unrevoke: bool) -> Self {
        self.unrevoke = unrevoke;
        self
    }

    /// Lets the certificate and the request of `certname` go.
    #[must_use]
    pub fn tombstone(mut self, certname: Certname) -> Self {
        self.tombstones.insert(certname);
        self
    }
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub enum Action {
    /// Sets the counter.
    Serial {
        /// What it says now, where that can be read.
        from: Option<Serial>,
        /// The next serial from then on.
        to: u32,
        /// The file as planned upon.
        #[serde(skip)]
        expects: Option<Arc<[u8]>>,
    },
    /// Adds rows to inventory.txt, in place.
    Inventory {
        /// How long the file is now, in bytes; `None` where there is none.
        expects_bytes: Option<u64>,
        /// How much of it stays: a torn tail is cut off first.
        keeps_bytes: u64,
        /// The rows to add, without newlines.
        rows: Vec<String>,
    },
    /// Puts a file in place, whole.
    Put {
        /// The path below the cadir.
        path: RelPath,
        /// Why, for people.
        why: String,
        /// The content.
        #[serde(skip)]
        bytes: Arc<[u8]>,
        /// Permission bits for a file that is new here.
        mode: u32,
        /// The file it replaces, as planned upon.
        #[serde(skip)]
        expects: Option<Arc<[u8]>>,
    },
    /// Removes a file.
    Remove {
        /// The path below the cadir.
        path: RelPath,
        /// Why, for people.
        why: String,
        /// The file as planned upon.
        #[serde(skip)]
        expects: Arc<[u8]>,
    },
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Serial {
                from: Some(from),
                to,
                ..
            } => write!(f, "serial: {from} -> 0x{to:04X}"),
            Self::Serial { from: None, to, .. } => write!(f, "serial: set to 0x{to:04X}"),
            Self::Inventory {
                expects_bytes,
                keeps_bytes,
                rows,
            } => {
                write!(
                    f,
                    "inventory.txt: {} new row{}",
                    rows.len(),
                    if rows.len() == 1 { "" } else { "s" }
                )?;
                match expects_bytes {
                    Some(now) if now > keeps_bytes => write!(
                        f,
                        ", after cutting a torn tail of {} bytes",
                        now - keeps_bytes
                    ),
                    Some(_) => Ok(()),
                    None => f.write_str(", the file being made anew"),
                }
            }
            Self::Put {
                path, why, expects, ..
            } => {
                write!(
                    f,
                    "{path}: {} ({why})",
                    if expects.is_some() { "replace" } else { "add" }
                )
            }
            Self::Remove { path, why, .. } => write!(f, "{path}: remove ({why})"),
        }
    }
}

/// What would be done, what is refused, and what is worth knowing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Plan {
    /// The steps, in order; none where a conflict holds everything back.
    pub actions: Vec<Action>,
    /// What is refused.
    pub conflicts: Vec<Conflict>,
    /// What would have been refused and an operator overruled.
    pub overruled: Vec<Conflict>,
    /// What is worth knowing.
    pub notes: Vec<String>,
    /// The source's counter, which a standby with its own block only records.
    pub source_serial: Option<Serial>,
}

impl Plan {
    /// Whether there is nothing to do; conflicts may stand all the same.
    pub fn is_empty(&self) -> bool {
        self.actions.is_empty()
    }

    /// Whether the CRL that the host's own services read changes with it.
    pub fn changes_crl(&self) -> bool {
        let is_crl = |action: &Action| match action {
            Action::Put { path, .. } => path.as_str() == "ca_crl.pem",
            _ => false,
        };
        self.actions.iter().any(is_crl)
    }

    /// The conflict that holds everything back, where there is one.
    pub fn blocked_by(&self) -> Option<&Conflict> {
        blocking(&self.conflicts)
    }

    /// Whether something is left undone while the rest can be done.
    pub fn is_partial(&self) -> bool {
        !self.conflicts.is_empty() && self.blocked_by().is_none()
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.actions.is_empty() {
            writeln!(f, "nothing to do")?;
        }
        for action in &self.actions {
            writeln!(f, "do       {action}")?;
        }
        tell_beside(f, &self.conflicts, &self.overruled, &self.notes)
    }
}

/// The conflict that holds everything back, where there is one.
pub(crate) fn blocking(conflicts: &[Conflict]) -> Option<&Conflict> {
    let mut conflicts = conflicts.iter();
    conflicts.find(|conflict| conflict.rule.scope() == Scope::Everything)
}

/// What stands beside the actions, for people.
pub(crate) fn tell_beside(
    f: &mut fmt::Formatter<'_>,
    conflicts: &[Conflict],
    overruled: &[Conflict],
    notes: &[String],
) -> fmt::Result {
    for conflict in conflicts {
        writeln!(f, "refused  {conflict}")?;
    }
    for conflict in overruled {
        writeln!(f, "accepted {conflict}")?;
    }
    for note in notes {
        writeln!(f, "note     {note}")?;
    }
    Ok(())
}

/// Compares `source` with `local` under the rules.
///
/// The caller vouches for the source: in pefo it is root's own copy of a verified generation.
pub fn plan(local: &Snapshot, source: &Snapshot, rules: &PlanRules) -> Plan {
    let mut draft = Draft::new(rules);
    let Some(ca) = draft.identity(local, source) else {
        return draft.finish(None);
    };
    let expiry = issued::expiry(local, source);
    let ca_crl = crl::judge(&mut draft, "ca_crl.pem", local, source, ca, &expiry);
    let infra_crl = crl::judge(&mut draft, "infra_crl.pem", local, source, ca, &expiry);
    let in_force = ca_crl.in_force.as_ref();
    issued::serial(&mut draft, local, source);
    issued::inventory(&mut draft, local, source);
    signed::plan(
        &mut draft,
        Sides {
            local,
            source,
            ca,
            in_force,
            holders: &CertIndex::of(local.signed()),
            newest: &NewestRows::of(source.inventory()),
        },
    );
    if draft.holds_issuing() {
        draft.actions.clear();
    }
    draft.ca_files(local, source, ca);
    draft.actions.extend(infra_crl.action);
    draft.actions.extend(ca_crl.action);
    draft.finish(source.serial())
}

pub(crate) fn find<'f>(
    files: &'f BTreeMap<RelPath, FileEntry>,
    name: &str,
) -> Option<(&'f RelPath, &'f FileEntry)> {
    let path = RelPath::new(name).ok()?;
    files.get_key_value(&path)
}
