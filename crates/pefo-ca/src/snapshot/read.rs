//! Reads a cadir in the safe order, again where something moved.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pefo_core::clock::Clock;
use pefo_core::digest_cache::Identity;
use pefo_core::disk::read_capped;
use pefo_core::{Certname, RelPath, Result};

use super::files::{self, Loaded, MAX_CERT_BYTES, Names};
use super::overlay::{self, Overlay};
use super::{FileEntry, Outline, Part, Problem, Slice, Snapshot, SnapshotOptions};
use crate::cert::{CaChain, Cert, Request};
use crate::crl::CrlBundle;
use crate::inventory::Inventory;
use crate::key;
use crate::malformed::Malformed;
use crate::serial::{self, Serial};
use crate::source::Change;

pub(super) struct Reader<'a> {
    dir: &'a Path,
    options: &'a SnapshotOptions,
    /// `None` where nobody writes.
    clock: Option<&'a dyn Clock>,
    /// What was read before, of a directory that may hold the same.
    known: Option<&'a Snapshot>,
    files: BTreeMap<RelPath, FileEntry>,
    stamps: BTreeMap<RelPath, Identity>,
    not_files: BTreeMap<RelPath, Malformed>,
    problems: Vec<Problem>,
    excluded: BTreeSet<Certname>,
    overlay: Overlay,
    only: Option<&'a BTreeSet<RelPath>>,
}

impl<'a> Reader<'a> {
    pub(super) fn live(dir: &'a Path, options: &'a SnapshotOptions, clock: &'a dyn Clock) -> Self {
        Self {
            clock: Some(clock),
            ..Self::still(dir, options)
        }
    }

    pub(super) fn still(dir: &'a Path, options: &'a SnapshotOptions) -> Self {
        Self {
            dir,
            options,
            clock: None,
            known: None,
            files: BTreeMap::new(),
            stamps: BTreeMap::new(),
            not_files: BTreeMap::new(),
            problems: Vec::new(),
            excluded: BTreeSet::new(),
            overlay: Overlay::new(),
            only: None,
        }
    }

    /// Of what `changes`, one after the other, make of a directory that nobody writes to.
    pub(super) fn still_after(
        dir: &'a Path,
        options: &'a SnapshotOptions,
        changes: &[Change],
    ) -> Result<Self> {
        Ok(Self {
            overlay: overlay::of(dir, changes)?,
            ..Self::still(dir, options)
        })
    }

    /// Of signed/ and requests/ only these.
    pub(super) fn only(mut self, paths: &'a BTreeSet<RelPath>) -> Self {
        self.only = Some(paths);
        self
    }

    /// Takes files that are as `known` has them from there, with what they say.
    pub(super) fn knowing(mut self, known: &'a Snapshot) -> Self {
        self.known = Some(known);
        self
    }

    /// All but the certificates, of which only who has one is kept, and with which serial where that is
    /// asked for.
    pub(super) fn outline(mut self, has_serials: bool) -> Result<Outline> {
        for name in files::FIRST {
            self.load(&rel(name)?)?;
        }
        let requests = self.list("requests")?.unwrap_or_default();
        let listing = self.list("signed")?;
        let has_signed_dir = listing.is_some();
        let listing = listing.unwrap_or_default();
        self.load_all(&requests)?;
        let threads = self.options.threads;
        let serials = threads.map(&listing, |(_, path)| -> Result<Option<Option<Serial>>> {
            if !has_serials {
                return Ok(Some(None));
            }
            let bytes = match self.overlay.get(path) {
                Some(entry) => entry.as_ref().map(|file| Arc::clone(&file.bytes)),
                None => match files::load(self.dir, path)? {
                    Loaded::Absent => None,
                    Loaded::NotAFile(_) => return Ok(Some(None)),
                    Loaded::File(_, file) => Some(file.bytes),
                },
            };
            let serial_of = |bytes: Arc<[u8]>| Cert::from_pem(&bytes).ok().map(|cert| cert.serial);
            Ok(bytes.map(serial_of))
        });
        let mut certificates = Vec::with_capacity(listing.len());
        for ((name, _), serial) in listing.into_iter().zip(serials) {
            certificates.extend(serial?.map(|serial| (name, serial)));
        }
        // The listing is in the order of file names, which is another one: '-' sorts before '.'.
        certificates.sort();
        self.load_last()?;
        self.settle()?;
        let key_matches = self.key_matches()?;
        // Its rows are indexed, not parsed: that takes a tenth of the memory.
        let inventory = self.files.remove(&rel(files::INVENTORY)?);
        let rest = self.finish(requests, Vec::new(), has_signed_dir, key_matches)?;
        Ok(Outline {
            rest,
            inventory: inventory.map(|file| file.bytes),
            certificates,
        })
    }

    pub(super) fn read(mut self) -> Result<Snapshot> {
        for name in files::FIRST {
            self.load(&rel(name)?)?;
        }
        let requests = self.list("requests")?.unwrap_or_default();
        let signed_listing = self.list("signed")?;
        let has_signed_dir = signed_listing.is_some();
        let signed = signed_listing.unwrap_or_default();
        self.load_all(&requests)?;
        self.load_all(&signed)?;
        self.load_last()?;
        self.settle()?;
        let key_matches = self.key_matches()?;
        self.finish(requests, signed, has_signed_dir, key_matches)
    }

    /// Reads again what moved since or does not parse, then inventory and serial.
    fn settle(&mut self) -> Result<()> {
        let Some(clock) = self.clock else {
            return Ok(());
        };
        for _ in 0..self.options.attempts {
            let unsettled = self.unsettled();
            if unsettled.is_empty() {
                return Ok(());
            }
            tracing::debug!(
                files = unsettled.len(),
                "reading again what changed or is torn"
            );
            clock.wait(self.options.wait.max(Duration::from_millis(1)));
            for path in unsettled {
                self.load(&path)?;
            }
            self.load_last()?;
        }
        Ok(())
    }

    fn unsettled(&self) -> Vec<RelPath> {
        let paths: Vec<&RelPath> = self.files.keys().collect();
        let threads = self.options.threads;
        let moves = threads.map(&paths, |path| self.is_unsettled(path));
        let moving = paths.into_iter().zip(moves).filter(|(_, moves)| *moves);
        moving.map(|(path, _)| path.clone()).collect()
    }

    fn load_last(&mut self) -> Result<()> {
        let mut last = files::LAST.into_iter();
        last.try_for_each(|name| self.load(&rel(name)?))
    }

    fn is_unsettled(&self, path: &RelPath) -> bool {
        let now = std::fs::symlink_metadata(path.in_dir(self.dir))
            .ok()
            .map(|meta| Identity::from(&meta));
        if now.as_ref() != self.stamps.get(path) {
            return true;
        }
        let file = self.files.get(path);
        file.is_some_and(|file| files::is_torn(path, &file.bytes))
    }

    /// Takes the bytes of a directory's files, in any order among themselves.
    fn load_all(&mut self, files: &[(Certname, RelPath)]) -> Result<()> {
        let threads = self.options.threads;
        let loaded = threads.map(files, |(_, path)| match self.overlay.get(path) {
            Some(_) => Ok(Loaded::Absent),
            None => self.read_file(path),
        });
        let mut stamps = Vec::new();
        let mut entries = Vec::with_capacity(files.len());
        for ((_, path), loaded) in files.iter().zip(loaded) {
            if let Some(entry) = self.overlay.get(path) {
                entries.extend(entry.iter().map(|file| (path.clone(), file.clone())));
                continue;
            }
            match loaded? {
                Loaded::Absent => {}
                Loaded::NotAFile(error) => drop(self.not_files.insert(path.clone(), error)),
                Loaded::File(meta, file) => {
                    // Where nobody writes, nothing moves.
                    if self.clock.is_some() {
                        stamps.push((path.clone(), Identity::from(&meta)));
                    }
                    entries.push((path.clone(), file));
                }
            }
        }
        // At once: fifty thousand single insertions take longer than the rest of this.
        self.stamps.append(&mut stamps.into_iter().collect());
        self.files.append(&mut entries.into_iter().collect());
        Ok(())
    }

    fn read_file(&self, path: &RelPath) -> Result<Loaded> {
        let mut loaded = files::load(self.dir, path)?;
        if let Loaded::File(_, file) = &mut loaded
            && let Some(known) = self.known.and_then(|known| known.files.get(path))
            && known.bytes == file.bytes
        {
            file.bytes = Arc::clone(&known.bytes);
        }
        Ok(loaded)
    }

    /// Whether the file at `path` is, byte for byte, the one that is known.
    fn is_known(&self, path: &RelPath) -> bool {
        let known = self.known.and_then(|known| known.files.get(path));
        let pair = known.zip(self.files.get(path));
        pair.is_some_and(|(known, here)| Arc::ptr_eq(&known.bytes, &here.bytes))
    }

    fn load(&mut self, path: &RelPath) -> Result<()> {
        if let Some(entry) = self.overlay.get(path) {
            let entry = entry.iter().map(|file| (path.clone(), file.clone()));
            self.files.extend(entry);
            return Ok(());
        }
        let loaded = self.read_file(path)?;
        self.keep(path, loaded);
        Ok(())
    }

    /// Keeps a file's bytes in place of what was known of it; one that is gone is absent.
    fn keep(&mut self, path: &RelPath, loaded: Loaded) {
        self.not_files.remove(path);
        match loaded {
            Loaded::File(meta, file) => {
                self.stamps.insert(path.clone(), Identity::from(&meta));
                self.files.insert(path.clone(), file);
            }
            Loaded::Absent => self.forget(path),
            Loaded::NotAFile(error) => {
                self.forget(path);
                self.not_files.insert(path.clone(), error);
            }
        }
    }

    fn forget(&mut self, path: &RelPath) {
        self.stamps.remove(path);
        self.files.remove(path);
    }

    /// The acceptable names of signed/ or requests/, sorted; `None` where there is no such directory.
    fn list(&mut self, sub: &str) -> Result<Option<Vec<(Certname, RelPath)>>> {
        let names = match files::names(self.dir, sub, &self.options.exclude)? {
            // What lies over the directory may be the first that stands in it.
            Err(None) if self.lies_over(sub) => Ok(Names::default()),
            names => names,
        };
        match names {
            Ok(names) => {
                self.excluded.extend(names.excluded);
                self.problems.extend(names.problems);
                if self.overlay.is_empty() && self.only.is_none() {
                    return Ok(Some(names.named));
                }
                let mut named: BTreeMap<Certname, RelPath> = names.named.into_iter().collect();
                for (path, entry) in &self.overlay {
                    let name = path.as_str().split_once('/').filter(|(dir, _)| *dir == sub);
                    let Some(Ok(name)) = name.map(|(_, name)| files::certname_of(name)) else {
                        continue;
                    };
                    if entry.is_none() {
                        named.remove(&name);
                    } else if self.options.exclude.contains(&name) {
                        self.excluded.insert(name);
                    } else {
                        named.insert(name, path.clone());
                    }
                }
                let mut named: Vec<(Certname, RelPath)> = named.into_iter().collect();
                if let Some(only) = self.only {
                    named.retain(|(_, path)| only.contains(path));
                }
                Ok(Some(named))
            }
            Err(problem) => {
                self.problems.extend(problem);
                Ok(None)
            }
        }
    }

    fn lies_over(&self, sub: &str) -> bool {
        let is_in = |path: &RelPath| {
            let dir = path.as_str().split_once('/');
            dir.is_some_and(|(dir, _)| dir == sub)
        };
        let mut over = self.overlay.iter();
        over.any(|(path, entry)| entry.is_some() && is_in(path))
    }

    fn key_matches(&self) -> Result<Part<bool>> {
        let path = self.dir.join("ca_key.pem");
        let bytes = match read_capped(&path, MAX_CERT_BYTES) {
            Ok(bytes) => bytes,
            Err(error) if error.io_kind() == Some(std::io::ErrorKind::NotFound) => {
                return Ok(Part::Absent);
            }
            Err(error) => return Err(error),
        };
        let chain = self.parse("ca_crt.pem", CaChain::from_pem)?;
        Ok(match chain {
            Part::Read(chain) => match key::belongs_to(&bytes, chain.signing()) {
                Ok(matches) => Part::Read(matches),
                Err(error) => Part::Unreadable(error),
            },
            _ => Part::Absent,
        })
    }

    fn parse<T>(
        &self,
        name: &str,
        parse: impl FnOnce(&[u8]) -> Result<T, Malformed>,
    ) -> Result<Part<T>> {
        Ok(self.parse_at(&rel(name)?, parse))
    }

    fn parse_at<T>(
        &self,
        path: &RelPath,
        parse: impl FnOnce(&[u8]) -> Result<T, Malformed>,
    ) -> Part<T> {
        if let Some(error) = self.not_files.get(path) {
            return Part::Unreadable(error.clone());
        }
        match self.files.get(path).map(|file| parse(&file.bytes)) {
            None => Part::Absent,
            Some(Ok(value)) => Part::Read(value),
            Some(Err(error)) => Part::Unreadable(error),
        }
    }

    fn parse_noting<T>(
        &mut self,
        name: &str,
        parse: impl FnOnce(&[u8]) -> Result<T, Malformed>,
    ) -> Result<Part<T>> {
        let part = self.parse(name, parse)?;
        self.note(name, &part);
        Ok(part)
    }

    /// What the files of a directory say, without those that are gone by now.
    fn parse_all<T: Clone + Send + Sync>(
        &mut self,
        files: Vec<(Certname, RelPath)>,
        known: Option<&BTreeMap<Certname, Part<T>>>,
        parse: impl Fn(&[u8]) -> Result<T, Malformed> + Sync,
    ) -> BTreeMap<Certname, Part<T>> {
        let threads = self.options.threads;
        let parts = threads.map(&files, |(name, path)| {
            match known.and_then(|known| known.get(name)) {
                Some(part) if self.is_known(path) => part.clone(),
                _ => self.parse_at(path, &parse),
            }
        });
        for ((_, path), part) in files.iter().zip(&parts) {
            self.note(path.as_str(), part);
        }
        let names = files.into_iter().map(|(name, _)| name);
        let there = names.zip(parts);
        there
            .filter(|(_, part)| !matches!(part, Part::Absent))
            .collect()
    }

    fn note<T>(&mut self, path: &str, part: &Part<T>) {
        if let Part::Unreadable(error) = part {
            self.problem(path, error.clone());
        }
    }

    fn problem(&mut self, path: &str, error: Malformed) {
        self.problems.push(Problem {
            path: path.to_owned(),
            error,
        });
    }

    fn finish(
        mut self,
        requests: Vec<(Certname, RelPath)>,
        signed: Vec<(Certname, RelPath)>,
        has_signed_dir: bool,
        key_matches: Part<bool>,
    ) -> Result<Snapshot> {
        let chain = self.parse_noting("ca_crt.pem", CaChain::from_pem)?;
        let ca_crl = self.parse_noting("ca_crl.pem", CrlBundle::from_pem)?;
        let infra_crl = self.parse_noting("infra_crl.pem", CrlBundle::from_pem)?;
        self.parse_noting("infra_inventory.txt", infra_names)?;
        self.parse_noting("infra_serials", infra_serials)?;
        let serial = self.parse_noting("serial", serial::parse_file)?;
        let inventory = self.parse_noting("inventory.txt", |bytes| Ok(Inventory::parse(bytes)))?;
        if let Part::Read(inventory) = &inventory {
            for error in inventory.malformed().to_vec() {
                self.problem("inventory.txt", error);
            }
            if !inventory.tail().is_empty() {
                let error = Malformed::new("inventory-torn", "the last line has no end")
                    .at(inventory.rows().len() + 1);
                self.problem("inventory.txt", error);
            }
        }
        if let Part::Unreadable(error) = &key_matches {
            self.problem("ca_key.pem", error.clone());
        }
        let known = self.known;
        let signed = self.parse_all(signed, known.map(|known| &known.signed), Cert::from_pem);
        let requests = self.parse_all(
            requests,
            known.map(|known| &known.requests),
            Request::from_pem,
        );
        Ok(Snapshot {
            files: self.files,
            chain,
            key_matches,
            serial,
            inventory,
            ca_crl,
            infra_crl,
            has_signed_dir,
            signed,
            requests,
            excluded: self.excluded,
            problems: self.problems,
            slice: self.only.map(|_| Slice::default()),
        })
    }
}

/// infra_inventory.txt: certnames, one a line.
fn infra_names(bytes: &[u8]) -> Result<Vec<Certname>, Malformed> {
    lines(bytes)?
        .map(|(line, text)| {
            Certname::new(text)
                .map_err(|error| Malformed::new("infra-malformed", error.to_string()).at(line))
        })
        .collect()
}

/// infra_serials: decimal serials, one a line.
fn infra_serials(bytes: &[u8]) -> Result<Vec<Serial>, Malformed> {
    lines(bytes)?
        .map(|(line, text)| Serial::from_decimal(text).map_err(|error| error.at(line)))
        .collect()
}

fn lines(bytes: &[u8]) -> Result<impl Iterator<Item = (usize, &str)>, Malformed> {
    let text =
        std::str::from_utf8(bytes).map_err(|_| Malformed::new("infra-malformed", "is not text"))?;
    Ok(text
        .lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line.trim()))
        .filter(|(_, line)| !line.is_empty()))
}

fn rel(name: &str) -> Result<RelPath> {
    RelPath::new(name)
}
