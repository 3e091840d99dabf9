//! A standby's CA and what it knows of its source, so that one event costs what it changes.
//!
//! [`plan`](crate::plan()) compares two whole CAs. A [`Standby`] is made once after such a comparison and
//! then follows: for each batch it cuts out of both sides what the rules can ask for, and hands these two
//! slices to the same [`plan`](crate::plan()). What it guarantees:
//!
//! - The plan of a batch is, action by action, the plan of the whole would be (a property test holds it to
//!   that). What only time changes (a certificate that expired meanwhile) waits for the next comparison of
//!   the whole.
//! - It keeps names, serials, offsets into the inventory, the CRLs and the source's pending requests: some
//!   150 bytes a certificate. What a batch touches is read from disk when it is planned.
//! - Where somebody else changed the live CA ([`Standby::is_current`]), or a batch is about more than an
//!   event, it says so, and the whole is to be compared again.

mod rows;
mod sides;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use pefo_core::digest_cache::Identity;
use pefo_core::{Certname, RelPath, Result};

use crate::cert::{CaChain, Cert};
use crate::crl::CrlBundle;
use crate::inventory::Row;
use crate::layout::CaLayout;
use crate::plan::{Action, Plan, PlanRules, SerialMode, plan};
use crate::serial::{MAX_COUNTER, Serial};
use crate::snapshot::files::{INVENTORY, certname_of};
use crate::snapshot::{FileEntry, Outline, Part, Snapshot};
use crate::source::Change;

use rows::RowIndex;
use sides::Sides;

/// The files of CRLs.
const CRLS: [&str; 2] = ["ca_crl.pem", "infra_crl.pem"];
/// What nobody but pefo changes on a standby as a rule.
const STAMPED: [&str; 7] = [
    "ca_crt.pem",
    "ca_key.pem",
    "ca_crl.pem",
    "infra_crl.pem",
    INVENTORY,
    "serial",
    "signed",
];

/// A file of CRLs, where it stands.
#[derive(Debug, Clone)]
struct CrlFile {
    file: Option<FileEntry>,
    bundle: Part<CrlBundle>,
}

impl CrlFile {
    fn of(snapshot: &Snapshot, name: &str) -> Result<Self> {
        let bundle = if name == "ca_crl.pem" {
            &snapshot.ca_crl
        } else {
            &snapshot.infra_crl
        };
        Ok(Self {
            file: snapshot.files.get(&RelPath::new(name)?).cloned(),
            bundle: bundle.clone(),
        })
    }

    fn parse(bytes: Arc<[u8]>, mode: u32) -> Self {
        let bundle = match CrlBundle::from_pem(&bytes) {
            Ok(bundle) => Part::Read(bundle),
            Err(error) => Part::Unreadable(error),
        };
        let file = Some(FileEntry { bytes, mode });
        Self { file, bundle }
    }
}

/// What is known of the source.
#[derive(Debug, Clone)]
struct Source {
    chain: Part<CaChain>,
    serial: Part<Serial>,
    crls: BTreeMap<&'static str, CrlFile>,
    requests: BTreeMap<Certname, FileEntry>,
}

/// A standby's live CA, and its source, as far as events need them.
#[derive(Debug)]
pub struct Standby {
    layout: CaLayout,
    stamps: Vec<Option<Identity>>,
    chain: CaChain,
    key_matches: Part<bool>,
    crls: BTreeMap<&'static str, CrlFile>,
    rows: RowIndex,
    /// Where those begin that the source's inventory lacked when both were compared as wholes.
    rows_only_here: BTreeSet<u32>,
    /// Whose certificates stand here, and with which serial; none where a file cannot be read.
    certificates: BTreeMap<Certname, Option<Serial>>,
    /// Those whose serial no row says to be theirs.
    rowless: BTreeSet<(Serial, Certname)>,
    /// Those of them that the source does not have.
    only_here: BTreeSet<Certname>,
    source: Source,
}

/// A batch, planned.
#[derive(Debug)]
pub struct Event {
    /// What is to be done.
    pub plan: Plan,
    source: Source,
}

/// What stands at the places that tell of somebody else's changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamps(Vec<Option<Identity>>);

impl Stamps {
    /// Those of a live CA; to be taken before it is read.
    pub fn of(layout: &CaLayout) -> Self {
        let stamp_of = |name: &&str| {
            let meta = std::fs::symlink_metadata(layout.cadir().join(name));
            meta.ok().map(|meta| Identity::from(&meta))
        };
        Self(STAMPED.iter().map(stamp_of).collect())
    }
}

impl Standby {
    /// Begins to follow: `local` was brought in step with `source` and was read after that, `stamps` being
    /// of before it was read. `None` where it is not whole enough to follow by events.
    ///
    /// # Errors
    /// `Invalid`, never for a name that was read.
    pub fn of(
        layout: &CaLayout,
        stamps: Stamps,
        local: Outline,
        source: Outline,
    ) -> Result<Option<Self>> {
        let Outline {
            rest,
            inventory,
            certificates,
        } = local;
        // A torn tail is cut off when both sides are compared as wholes.
        let inventory = inventory.filter(|bytes| bytes.is_empty() || bytes.ends_with(b"\n"));
        let (Some(chain), Some(inventory), true) = (rest.chain(), inventory, rest.has_signed_dir)
        else {
            return Ok(None);
        };
        let crls = |side: &Snapshot| -> Result<_> {
            let file = |name: &'static str| Ok((name, CrlFile::of(side, name)?));
            CRLS.into_iter().map(file).collect()
        };
        let mut requests = BTreeMap::new();
        for name in source.rest.requests.keys() {
            let file = source
                .rest
                .files
                .get(&RelPath::new(format!("requests/{name}.pem"))?);
            requests.extend(file.map(|file| (name.clone(), file.clone())));
        }
        let mut standby = Self {
            layout: layout.clone(),
            stamps: stamps.0,
            chain: chain.clone(),
            key_matches: rest.key_matches.clone(),
            crls: crls(&rest)?,
            rows_only_here: RowIndex::missing_in(
                source.inventory.as_deref().unwrap_or_default(),
                &inventory,
            ),
            rows: RowIndex::of(&inventory),
            certificates: BTreeMap::new(),
            rowless: BTreeSet::new(),
            only_here: BTreeSet::new(),
            source: Source {
                chain: source.rest.chain.clone(),
                serial: source.rest.serial.clone(),
                crls: crls(&source.rest)?,
                requests,
            },
        };
        for (name, serial) in &certificates {
            let there = source
                .certificates
                .binary_search_by(|(there, _)| there.cmp(name));
            if there.is_err() && !source.rest.excluded.contains(name) {
                standby.only_here.insert(name.clone());
            }
            if let Some(serial) =
                serial.filter(|serial| !standby.rows.names(*serial, name.as_str()))
            {
                standby.rowless.insert((serial, name.clone()));
            }
        }
        standby.certificates = certificates.into_iter().collect();
        Ok(Some(standby))
    }

    /// Whether nobody else changed the live CA since, as far as can be told at a glance.
    pub fn is_current(&self) -> bool {
        Stamps::of(&self.layout).0 == self.stamps
    }

    /// The live CA that it follows.
    pub fn layout(&self) -> &CaLayout {
        &self.layout
    }

    /// How many certificates stand here.
    pub fn certificates(&self) -> usize {
        self.certificates.len()
    }

    /// The source's file of CRLs of this name as it was last known, for a delta that starts from it.
    pub fn source_crl(&self, name: &str) -> Option<&[u8]> {
        let file = self.source.crls.get(name)?.file.as_ref()?;
        Some(&file.bytes)
    }

    /// What a batch of the source asks for. `None` where it is about more than an event (another CA
    /// certificate, another inventory): then the whole is to be compared.
    ///
    /// # Errors
    /// `Io` where a file that it is about cannot be read.
    pub fn plan(&self, changes: &[Change], rules: &PlanRules) -> Result<Option<Event>> {
        let Some(sides) = Sides::cut(self, changes, rules)? else {
            return Ok(None);
        };
        let plan = plan(&sides.local, &sides.source, rules);
        let source = Source {
            chain: sides.source.chain,
            serial: sides.source.serial,
            crls: sides.crls,
            requests: BTreeMap::new(),
        };
        Ok(Some(Event { plan, source }))
    }

    /// The event's plan was applied, or had nothing to apply; the source is as the batch says.
    ///
    /// # Errors
    /// `Invalid`, never with what was applied.
    pub fn follow(&mut self, changes: &[Change], event: Event) -> Result<()> {
        for change in changes {
            let (sub, Some(name)) = of_whom(change.path()) else {
                continue;
            };
            match (sub, change) {
                ("requests", Change::Put { mode, bytes, .. }) => {
                    let (bytes, mode) = (bytes.as_slice().into(), *mode);
                    self.source.requests.insert(name, FileEntry { bytes, mode });
                }
                ("requests", Change::Delete { .. }) => {
                    self.source.requests.remove(&name);
                }
                ("signed", Change::Put { .. }) => {
                    self.only_here.remove(&name);
                }
                ("signed", Change::Delete { .. }) if self.certificates.contains_key(&name) => {
                    self.only_here.insert(name);
                }
                _ => {}
            }
        }
        let requests = std::mem::take(&mut self.source.requests);
        self.source = Source {
            requests,
            ..event.source
        };
        self.took(&event.plan)
    }

    /// Takes over what a plan has done.
    fn took(&mut self, plan: &Plan) -> Result<()> {
        for action in &plan.actions {
            match action {
                Action::Serial { .. } => {}
                Action::Inventory {
                    keeps_bytes, rows, ..
                } => self.rows.append(*keeps_bytes, rows),
                Action::Put {
                    path, bytes, mode, ..
                } => self.stands(path, bytes, *mode)?,
                Action::Remove { path, .. } => {
                    if let ("signed", Some(name)) = of_whom(path) {
                        self.set_certificate(&name, None);
                        self.only_here.remove(&name);
                    }
                }
            }
        }
        if !plan.is_empty() {
            self.stamps = Stamps::of(&self.layout).0;
        }
        Ok(())
    }

    fn stands(&mut self, path: &RelPath, bytes: &Arc<[u8]>, mode: u32) -> Result<()> {
        if let ("signed", Some(name)) = of_whom(path) {
            let serial = Cert::from_pem(bytes).ok().map(|cert| cert.serial);
            self.set_certificate(&name, Some(serial));
        } else if let Some(name) = CRLS.into_iter().find(|name| *name == path.as_str()) {
            let known = self.source.crls.get(name);
            let same =
                known.filter(|known| known.file.as_ref().is_some_and(|file| file.bytes == *bytes));
            let file = match same {
                Some(known) => known.clone(),
                None => CrlFile::parse(Arc::clone(bytes), mode),
            };
            self.crls.insert(name, file);
        } else if path.as_str() == "ca_crt.pem" {
            self.chain =
                CaChain::from_pem(bytes).map_err(|error| error.in_file(Path::new("ca_crt.pem")))?;
        }
        Ok(())
    }

    /// A name's certificate: none, or one whose serial can be read or not.
    fn set_certificate(&mut self, name: &Certname, certificate: Option<Option<Serial>>) {
        let before = match certificate {
            Some(serial) => self.certificates.insert(name.clone(), serial),
            None => self.certificates.remove(name),
        };
        if let Some(Some(serial)) = before {
            self.rowless.remove(&(serial, name.clone()));
        }
        if let Some(Some(serial)) = certificate
            && !self.rows.names(serial, name.as_str())
        {
            self.rowless.insert((serial, name.clone()));
        }
    }

    /// Everybody here whose certificate has one of these serials, by rows that were read of them.
    fn holders(&self, serials: &BTreeSet<Serial>, rows: &[Row]) -> BTreeSet<Certname> {
        let of_rows = rows.iter().filter_map(|row| {
            let name = Certname::new(row.common_name()?).ok()?;
            let holds = self.certificates.get(&name) == Some(&Some(row.serial));
            (holds && serials.contains(&row.serial)).then_some(name)
        });
        let rowless = self
            .rowless
            .iter()
            .filter(|(serial, _)| serials.contains(serial));
        of_rows
            .chain(rowless.map(|(_, name)| name.clone()))
            .collect()
    }

    /// The highest serial in use here, and the highest of this host's own block.
    fn highest(&self, rules: &PlanRules) -> Vec<Serial> {
        let mut ranges = vec![(Serial::from(0), Serial::from(MAX_COUNTER))];
        if let SerialMode::Block(block) = rules.serial {
            ranges.push((Serial::from(block.first()), Serial::from(block.last())));
        }
        let revoked = self.crls.values().filter_map(|file| {
            let bundle = file.bundle.get()?;
            bundle.find(self.chain.signing()).map(|crl| &crl.revoked)
        });
        let revoked: Vec<_> = revoked.collect();
        let highest = |(first, last): (Serial, Serial)| {
            let held = self.rowless.iter().map(|(serial, _)| *serial);
            let held = held.filter(|serial| (first..=last).contains(serial)).max();
            let rows = self.rows.highest(first, last);
            let revoked = revoked
                .iter()
                .filter_map(|revoked| revoked.range(first..=last).next_back())
                .map(|(serial, _)| *serial);
            held.into_iter().chain(rows).chain(revoked).max()
        };
        ranges.into_iter().filter_map(highest).collect()
    }
}

/// In which directory a file stands, and whose it is.
fn of_whom(path: &RelPath) -> (&str, Option<Certname>) {
    match path.as_str().split_once('/') {
        Some((sub, name)) => (sub, certname_of(name).ok()),
        None => ("", None),
    }
}
