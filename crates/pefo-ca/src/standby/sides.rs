//! What the rules can ask for of both sides where a batch is planned.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pefo_core::{Certname, RelPath, Result};

use super::{CRLS, CrlFile, Standby, of_whom, rows};
use crate::cert::{Cert, Request};
use crate::inventory::{Inventory, Row};
use crate::malformed::Malformed;
use crate::plan::{PlanRules, SerialMode};
use crate::serial::{self, Serial};
use crate::snapshot::files::{self, INVENTORY, Loaded};
use crate::snapshot::{FileEntry, Part, Problem, Slice, Snapshot};
use crate::source::Change;

/// Both sides, as much of them as a batch is about.
pub(super) struct Sides {
    pub(super) local: Snapshot,
    pub(super) source: Snapshot,
    /// The source's files of CRLs after the batch.
    pub(super) crls: BTreeMap<&'static str, CrlFile>,
}

/// Which certificates, requests and rows are to be looked at.
#[derive(Default)]
struct Names {
    /// Whose certificate the batch tells of.
    certificates: BTreeSet<Certname>,
    /// Whose request it tells of, or may have been answered.
    requests: BTreeSet<Certname>,
    serials: BTreeSet<Serial>,
}

impl Sides {
    /// `None` where the batch is about more than events are.
    pub(super) fn cut(
        standby: &Standby,
        changes: &[Change],
        rules: &PlanRules,
    ) -> Result<Option<Self>> {
        let mut source = Snapshot::part(standby.source.chain.clone(), Part::Absent);
        source.serial = standby.source.serial.clone();
        let mut crls = standby.source.crls.clone();
        let mut names = Names::default();
        let mut appended = Inventory::default();
        let mut gone = BTreeSet::new();
        for change in changes {
            let bytes: Arc<[u8]> = change.bytes().into();
            let path = change.path();
            match (change, of_whom(path)) {
                (Change::Append { .. }, _) if path.as_str() == INVENTORY => {
                    appended = Inventory::parse(&bytes);
                }
                (Change::Append { .. }, _) => return Ok(None),
                (Change::Put { mode, .. }, ("signed" | "requests", Some(name))) => {
                    let file = FileEntry { bytes, mode: *mode };
                    put(&mut source, &mut names, path, name, file);
                }
                (Change::Delete { .. }, ("signed", Some(name))) => {
                    names.certificates.insert(name);
                }
                (Change::Delete { .. }, ("requests", Some(name))) => {
                    gone.insert(path.as_str());
                    names.requests.insert(name);
                }
                (_, ("signed" | "requests", None)) => source.problems.push(Problem {
                    path: path.to_string(),
                    error: Malformed::new("name-refused", "is no file of a certname"),
                }),
                (Change::Put { mode, .. }, _) => {
                    let name = path.as_str();
                    if let Some(name) = CRLS.into_iter().find(|crl| *crl == name) {
                        crls.insert(name, CrlFile::parse(bytes, *mode));
                    } else if name == "serial" {
                        source.serial = read(serial::parse_file(&bytes));
                        source
                            .files
                            .insert(path.clone(), FileEntry { bytes, mode: *mode });
                    } else {
                        return Ok(None);
                    }
                }
                (Change::Delete { .. }, _) => return Ok(None),
            }
        }
        for row in appended.rows() {
            names.serials.insert(row.serial);
            let name = row.common_name().and_then(|name| Certname::new(name).ok());
            // One that was renewed and cleaned may go now.
            let only_here = name.iter().filter(|name| standby.only_here.contains(*name));
            names.certificates.extend(only_here.cloned());
            names.requests.extend(name);
        }
        standby.dropped(&crls, &mut names);
        for (name, crl) in &crls {
            let (file, part) = (crl.file.clone(), crl.bundle.clone());
            if let Some(file) = file {
                source.files.insert(RelPath::new(*name)?, file);
            }
            if *name == "ca_crl.pem" {
                source.ca_crl = part;
            } else {
                source.infra_crl = part;
            }
        }
        let gone = |name: &Certname| {
            let path = format!("requests/{name}.pem");
            gone.contains(path.as_str())
        };
        for name in names.certificates.iter().chain(&names.requests) {
            if let Some(file) = standby.source.requests.get(name)
                && !source.requests.contains_key(name)
                && !gone(name)
            {
                let path = RelPath::new(format!("requests/{name}.pem"))?;
                let request = read(Request::from_pem(&file.bytes));
                source.files.insert(path, file.clone());
                source.requests.insert(name.clone(), request);
            }
        }
        let local = standby.slice(&names, rules)?;
        let rows = standby.known_to_source(&names, rules)?;
        let rows = rows.into_iter().chain(appended.rows().iter().cloned());
        source.inventory = Part::Read(Inventory::slice(rows, 0).with_malformed(&appended));
        source.slice = Some(Slice {
            certificates: names.certificates,
            issued: Vec::new(),
        });
        Ok(Some(Self {
            local,
            source,
            crls,
        }))
    }
}

fn put(source: &mut Snapshot, names: &mut Names, path: &RelPath, name: Certname, file: FileEntry) {
    if path.as_str().starts_with("signed/") {
        let cert = read(Cert::from_pem(&file.bytes));
        names.serials.extend(cert.get().map(|cert| cert.serial));
        names.certificates.insert(name.clone());
        source.signed.insert(name, cert);
    } else {
        names.requests.insert(name.clone());
        let request = read(Request::from_pem(&file.bytes));
        source.requests.insert(name, request);
    }
    source.files.insert(path.clone(), file);
}

fn read<T>(parsed: Result<T, Malformed>) -> Part<T> {
    match parsed {
        Ok(value) => Part::Read(value),
        Err(error) => Part::Unreadable(error),
    }
}

impl Standby {
    /// Where CRLs change: who lost a revocation, and whose certificate may go now.
    fn dropped(&self, crls: &BTreeMap<&'static str, CrlFile>, names: &mut Names) {
        for (name, incoming) in crls {
            let Some(current) = self.crls.get(name).and_then(|file| file.bundle.get()) else {
                continue;
            };
            let Some(incoming) = incoming.bundle.get().filter(|it| *it != current) else {
                continue;
            };
            for (old, new) in [(current, incoming), (incoming, current)] {
                let revoked = old.crls().iter().flat_map(|crl| crl.revoked.keys());
                let is_dropped = |serial: &&Serial| {
                    !new.crls()
                        .iter()
                        .any(|crl| crl.revoked.contains_key(*serial))
                };
                names.serials.extend(revoked.filter(is_dropped));
            }
            names.certificates.extend(self.only_here.iter().cloned());
        }
    }

    /// As much of the live CA.
    fn slice(&self, names: &Names, rules: &PlanRules) -> Result<Snapshot> {
        let cadir = self.layout.cadir();
        let chain = Part::Read(self.chain.clone());
        let mut local = Snapshot::part(chain, self.key_matches.clone());
        local.slice = Some(Slice {
            issued: self.highest(rules),
            ..Slice::default()
        });
        for (name, crl) in &self.crls {
            if let Some(file) = &crl.file {
                local.files.insert(RelPath::new(*name)?, file.clone());
            }
            if *name == "ca_crl.pem" {
                local.ca_crl = crl.bundle.clone();
            } else {
                local.infra_crl = crl.bundle.clone();
            }
        }
        let mut load = |path: RelPath| -> Result<Part<Arc<[u8]>>> {
            Ok(match files::load(cadir, &path)? {
                Loaded::Absent => Part::Absent,
                Loaded::NotAFile(error) => Part::Unreadable(error),
                Loaded::File(_, file) => {
                    let bytes = Arc::clone(&file.bytes);
                    local.files.insert(path, file);
                    Part::Read(bytes)
                }
            })
        };
        local.serial = load(RelPath::new("serial")?)?.and_then(|bytes| serial::parse_file(bytes));
        let inventory = cadir.join(INVENTORY);
        let places = names
            .serials
            .iter()
            .flat_map(|serial| self.rows.of_serial(*serial));
        let rows = rows::read(&inventory, &places.collect())?;
        let holders = self.holders(&names.serials, &rows);
        let named = names.certificates.iter().chain(&names.requests);
        let known = named.filter(|name| self.certificates.contains_key(*name));
        for name in known.chain(&holders).collect::<BTreeSet<_>>() {
            let cert = load(RelPath::new(format!("signed/{name}.pem"))?)?;
            let cert = cert.and_then(|bytes| Cert::from_pem(bytes));
            if cert != Part::Absent {
                local.signed.insert(name.clone(), cert);
            }
        }
        for name in names.certificates.iter().chain(&names.requests) {
            let request = load(RelPath::new(format!("requests/{name}.pem"))?)?;
            let request = request.and_then(|bytes| Request::from_pem(bytes));
            if request != Part::Absent {
                local.requests.insert(name.clone(), request);
            }
        }
        let serials = local
            .signed
            .values()
            .filter_map(|cert| Some(cert.get()?.serial));
        let serials: BTreeSet<Serial> = serials.chain(names.serials.iter().copied()).collect();
        let mut places: BTreeSet<u32> = serials
            .iter()
            .flat_map(|serial| self.rows.of_serial(*serial))
            .collect();
        for name in names.certificates.iter().chain(&names.requests) {
            places.extend(self.rows.of_name(name.as_str()));
        }
        let rows = rows::read(&inventory, &places)?;
        local.inventory = Part::Read(Inventory::slice(rows, self.rows.bytes()));
        Ok(local)
    }

    /// The rows of these names that the source has too: not those of this host's own block, nor those that a
    /// source which was put back has no more.
    fn known_to_source(&self, names: &Names, rules: &PlanRules) -> Result<Vec<Row>> {
        let mut places = BTreeSet::new();
        for name in names.certificates.iter().chain(&names.requests) {
            places.extend(self.rows.of_name(name.as_str()));
        }
        places.retain(|place| !self.rows_only_here.contains(place));
        let mut rows = rows::read(&self.layout.cadir().join(INVENTORY), &places)?;
        if let SerialMode::Block(block) = rules.serial {
            rows.retain(|row| !block.contains(row.serial));
        }
        Ok(rows)
    }
}

impl<T> Part<T> {
    fn and_then<U>(&self, parse: impl FnOnce(&T) -> Result<U, Malformed>) -> Part<U> {
        match self {
            Self::Absent => Part::Absent,
            Self::Unreadable(error) => Part::Unreadable(error.clone()),
            Self::Read(value) => read(parse(value)),
        }
    }
}
