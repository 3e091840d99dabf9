//! Everything of a cadir that matters to a standby, read at one moment.
//!
//! A signature is written as serial → inventory → signed, so a snapshot reads the other way round: CRLs,
//! infra files, requests, signed, inventory, and the serial last. Whatever else was caught, the serial
//! covers it. Files that changed while being read are read again, followed by inventory and serial.
//! Nothing is decided by size or mtime: a serial always has four bytes.
//!
//! What cannot be read is a value ([`Part::Unreadable`]), not a failure: one torn certificate must not
//! hold back a revocation. What that means is decided by [`plan`](mod@crate::plan).

mod beside;
pub(crate) mod files;
mod outline;
mod overlay;
mod read;
mod slice;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pefo_core::clock::{Clock, Timestamp};
use pefo_core::{Certname, Error, RelPath, Result};
use serde::Serialize;

use crate::cert::{CaChain, Cert, Request};
use crate::crl::CrlBundle;
use crate::exclude::Exclusions;
use crate::inventory::Inventory;
use crate::layout::CaLayout;
use crate::malformed::Malformed;
use crate::parallel::Threads;
use crate::serial::Serial;
use crate::source::Change;

pub use beside::{Beside, Known};
pub use files::MAX_FILE_BYTES;
pub use outline::Outline;
pub(crate) use slice::Slice;

/// How a snapshot is taken.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SnapshotOptions {
    /// Certnames to leave out of signed/ and requests/.
    pub exclude: Exclusions,
    /// How often a file that changes or does not parse is read again.
    pub attempts: u32,
    /// How long to wait before that.
    pub wait: Duration,
    /// How many threads read and parse files; the outcome is the same.
    pub threads: Threads,
}

impl Default for SnapshotOptions {
    fn default() -> Self {
        Self {
            exclude: Exclusions::new(),
            attempts: 5,
            wait: Duration::from_millis(50),
            threads: Threads::default(),
        }
    }
}

impl SnapshotOptions {
    /// Leaves certnames out.
    #[must_use]
    pub fn exclude(mut self, exclude: Exclusions) -> Self {
        self.exclude = exclude;
        self
    }

    /// Sets how often something unsettled is read again.
    #[must_use]
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts;
        self
    }

    /// Sets how many threads read and parse.
    #[must_use]
    pub fn threads(mut self, threads: Threads) -> Self {
        self.threads = threads;
        self
    }
}

/// One file's meaning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part<T> {
    /// There is no such file.
    Absent,
    /// It is there and cannot be used.
    Unreadable(Malformed),
    /// What it says.
    Read(T),
}

impl<T> Part<T> {
    /// What it says, where it can be read.
    pub fn get(&self) -> Option<&T> {
        match self {
            Self::Read(value) => Some(value),
            _ => None,
        }
    }

    /// Why there is no value.
    pub(crate) fn reason(&self) -> String {
        match self {
            Self::Absent => "is missing".to_owned(),
            Self::Unreadable(error) => error.to_string(),
            Self::Read(_) => "is fine".to_owned(),
        }
    }
}

/// A file's bytes and permission bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileEntry {
    /// The content.
    pub bytes: Arc<[u8]>,
    /// Permission bits.
    pub mode: u32,
}

/// Something in the cadir that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The path below the cadir, escaped where it is no plain text.
    pub path: String,
    /// What is wrong.
    pub error: Malformed,
}

/// A cadir as it was read.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub(crate) files: BTreeMap<RelPath, FileEntry>,
    pub(crate) chain: Part<CaChain>,
    pub(crate) key_matches: Part<bool>,
    pub(crate) serial: Part<Serial>,
    pub(crate) inventory: Part<Inventory>,
    pub(crate) ca_crl: Part<CrlBundle>,
    pub(crate) infra_crl: Part<CrlBundle>,
    pub(crate) has_signed_dir: bool,
    pub(crate) signed: BTreeMap<Certname, Part<Cert>>,
    pub(crate) requests: BTreeMap<Certname, Part<Request>>,
    pub(crate) excluded: BTreeSet<Certname>,
    pub(crate) problems: Vec<Problem>,
    /// What it tells of, where that is not all there is.
    pub(crate) slice: Option<Slice>,
}

impl Snapshot {
    /// Reads a live cadir.
    ///
    /// # Errors
    /// `Io` where a directory cannot be listed or a file not read at all; what is merely torn or missing
    /// is told by [`Snapshot::problems`] and [`Snapshot::require_whole`].
    pub fn read(layout: &CaLayout, options: &SnapshotOptions, clock: &dyn Clock) -> Result<Self> {
        read::Reader::live(layout.cadir(), options, clock).read()
    }

    /// Reads a directory of a cadir's shape that nobody writes to: a staged copy.
    ///
    /// # Errors
    /// As [`Snapshot::read`].
    pub fn read_dir(dir: &Path, options: &SnapshotOptions) -> Result<Self> {
        read::Reader::still(dir, options).read()
    }

    /// As [`Snapshot::read_dir`], with what `changes` made of it since, in their order.
    ///
    /// # Errors
    /// As [`Snapshot::read`]; `Invalid` where rows are appended to another file than stands there.
    pub fn read_dir_after(
        dir: &Path,
        options: &SnapshotOptions,
        changes: &[Change],
    ) -> Result<Self> {
        read::Reader::still_after(dir, options, changes)?.read()
    }

    /// As [`Snapshot::read_dir_after`], beside a snapshot of a directory that mostly holds the same: a file
    /// with the same bytes is kept once and parsed once. The outcome does not depend on `known`.
    ///
    /// # Errors
    /// As [`Snapshot::read_dir_after`].
    pub fn read_dir_beside(
        dir: &Path,
        options: &SnapshotOptions,
        changes: &[Change],
        known: &Self,
    ) -> Result<Self> {
        read::Reader::still_after(dir, options, changes)?
            .knowing(known)
            .read()
    }

    /// Gives files the permission bits that were recorded of them at their source: a staged copy keeps
    /// its files closed to everybody else, and its own bits say nothing. Paths that are not among
    /// [`Snapshot::files`] are passed over.
    #[must_use]
    pub fn with_modes<'m>(mut self, modes: impl IntoIterator<Item = (&'m RelPath, u32)>) -> Self {
        for (path, mode) in modes {
            if let Some(file) = self.files.get_mut(path) {
                file.mode = mode & 0o7777;
            }
        }
        self
    }

    /// The files a standby needs, with content and permission bits, sorted by path. Never `ca_key.pem`
    /// (see [`crate::seed::SeedKey`]) or `root_key.pem`; names that are excluded or refused are not
    /// among them.
    pub fn files(&self) -> impl Iterator<Item = (&RelPath, &[u8], u32)> {
        self.files
            .iter()
            .map(|(path, file)| (path, &*file.bytes, file.mode))
    }

    /// The CA's certificates.
    pub fn chain(&self) -> Option<&CaChain> {
        self.chain.get()
    }

    /// The next serial.
    pub fn serial(&self) -> Option<Serial> {
        self.serial.get().copied()
    }

    /// The inventory.
    pub fn inventory(&self) -> Option<&Inventory> {
        self.inventory.get()
    }

    /// `ca_crl.pem`.
    pub fn ca_crl(&self) -> Option<&CrlBundle> {
        self.ca_crl.get()
    }

    /// `infra_crl.pem`.
    pub fn infra_crl(&self) -> Option<&CrlBundle> {
        self.infra_crl.get()
    }

    /// The readable certificates of signed/, by file name.
    pub fn signed(&self) -> impl Iterator<Item = (&Certname, &Cert)> {
        self.signed
            .iter()
            .filter_map(|(name, part)| Some((name, part.get()?)))
    }

    /// The names that have a pending request.
    pub fn requests(&self) -> impl Iterator<Item = &Certname> {
        self.requests.keys()
    }

    /// Every serial that the signing CA has issued or revoked, by this side's inventory, certificates and
    /// CRLs; some more than once. Serials in an ancestor's CRL are another issuer's and not among them;
    /// where nobody can tell whose a CRL is, they are.
    pub(crate) fn issued(&self) -> impl Iterator<Item = Serial> + '_ {
        let signing = self.chain().map(CaChain::signing);
        let rows = self.inventory().into_iter().flat_map(Inventory::serials);
        let certs = self.signed().map(|(_, cert)| cert.serial);
        let ours = [self.ca_crl(), self.infra_crl()]
            .into_iter()
            .flatten()
            .flat_map(CrlBundle::crls)
            .filter(move |crl| signing.is_none_or(|signing| crl.is_of(signing)));
        let revoked = ours.flat_map(|crl| crl.revoked.keys().copied());
        rows.chain(certs)
            .chain(revoked)
            .chain(self.issued_besides())
    }

    /// Certnames that were left out and are there.
    pub fn excluded(&self) -> impl Iterator<Item = &Certname> {
        self.excluded.iter()
    }

    /// What is not as it should be.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Whether `ca_key.pem` is there and belongs to the signing CA's certificate; `None` where it is not
    /// there (as in every staged copy).
    pub fn key_matches(&self) -> Option<bool> {
        self.key_matches.get().copied()
    }

    /// Checks that a standby can be built from this: CA certificate, inventory, serial, CRL and at least
    /// one certificate. A source that fails this is not sent.
    ///
    /// # Errors
    /// `Refused` (`ca-source-unreadable`, `ca-source-empty`), retryable, naming the file.
    pub fn require_whole(&self) -> Result<()> {
        match self.lacks() {
            Some((rule, what)) => Err(no_source(rule, what)),
            None => match &self.ca_crl {
                Part::Read(_) => Ok(()),
                other => {
                    let what = format!("ca_crl.pem {}", other.reason());
                    Err(no_source("ca-source-unreadable", what))
                }
            },
        }
    }

    /// The first reason why this cannot be a source at all; a bad CRL is not one.
    pub(crate) fn lacks(&self) -> Option<(&'static str, String)> {
        let unreadable =
            |file: &str, reason: String| Some(("ca-source-unreadable", format!("{file} {reason}")));
        if self.slice.is_none() && self.files.is_empty() && self.signed.is_empty() {
            return Some(("ca-source-empty", "the source is empty".to_owned()));
        }
        if self.chain.get().is_none() {
            return unreadable("ca_crt.pem", self.chain.reason());
        }
        if self.inventory.get().is_none() {
            return unreadable("inventory.txt", self.inventory.reason());
        }
        if self.serial.get().is_none() {
            return unreadable("serial", self.serial.reason());
        }
        if !self.has_signed_dir {
            return unreadable("signed/", "is missing".to_owned());
        }
        if self.slice.is_none() && self.signed.is_empty() && self.excluded.is_empty() {
            return Some((
                "ca-source-empty",
                "signed/ of the source is empty".to_owned(),
            ));
        }
        None
    }

    /// What it holds, in numbers.
    pub fn summary(&self) -> CaSummary {
        let signing = self.chain().map(CaChain::signing);
        let crl = signing.and_then(|signing| self.ca_crl()?.find(signing));
        let infra = signing.and_then(|signing| self.infra_crl()?.find(signing));
        CaSummary {
            authority: signing.map(|cert| cert.subject.to_string()),
            fingerprint: self
                .chain()
                .map(|chain| crate::seed::fingerprint_of(chain.signing().der())),
            authority_not_after: signing.map(|cert| cert.not_after),
            next_serial: self.serial(),
            inventory_rows: self
                .inventory()
                .map_or(0, |inventory| inventory.rows().len()),
            certificates: self.signed.len(),
            requests: self.requests.len(),
            revocations: crl.map_or(0, |crl| crl.revoked.len()),
            crl_number: crl.and_then(|crl| crl.number),
            crl_next_update: crl.and_then(|crl| crl.next_update),
            infra_crl_number: infra.and_then(|crl| crl.number),
            excluded: self.excluded.len(),
            problems: self.problems.len(),
        }
    }
}

/// A CA that no standby can follow as it stands.
pub(crate) fn no_source(rule: &'static str, what: String) -> Error {
    Error::refused(rule, what)
        .hint("Look at the file on the source; restore it from a backup before anything is sent.")
        .retryable(true)
}

/// A snapshot in numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CaSummary {
    /// The signing CA's subject.
    pub authority: Option<String>,
    /// SHA-256 of the signing CA's certificate, colon-separated.
    pub fingerprint: Option<String>,
    /// When the signing CA's certificate expires.
    pub authority_not_after: Option<Timestamp>,
    /// The next serial.
    pub next_serial: Option<Serial>,
    /// Rows of inventory.txt.
    pub inventory_rows: usize,
    /// Files in signed/.
    pub certificates: usize,
    /// Files in requests/.
    pub requests: usize,
    /// Entries of our CRL.
    pub revocations: usize,
    /// Its number.
    pub crl_number: Option<Serial>,
    /// When agents stop trusting it.
    pub crl_next_update: Option<Timestamp>,
    /// The number of our CRL in infra_crl.pem.
    pub infra_crl_number: Option<Serial>,
    /// Names that were left out.
    pub excluded: usize,
    /// Things that are not as they should be.
    pub problems: usize,
}
