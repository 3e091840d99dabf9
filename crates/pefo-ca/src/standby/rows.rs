//! The rows of a live inventory.txt: where they stand in it, by serial and by subject.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeSet, HashSet};
use std::fs::File;
use std::hash::{Hash as _, Hasher as _};
use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom};
use std::path::Path;

use pefo_core::{Error, Result};

use crate::inventory::Row;
use crate::serial::Serial;

/// No line of an inventory is longer.
const MAX_LINE_BYTES: u64 = 64 * 1024;

/// Where each row begins.
#[derive(Debug, Default)]
pub(super) struct RowIndex {
    by_serial: BTreeSet<(Serial, u32)>,
    /// By a hash of the subject: what is found is read and compared.
    by_subject: BTreeSet<(u64, u32)>,
    bytes: u64,
}

impl RowIndex {
    /// Of a file's whole lines.
    pub(super) fn of(file: &[u8]) -> Self {
        let whole = file.iter().rposition(|byte| *byte == b'\n');
        let whole = whole.map_or(0, |last| last + 1);
        let lines = file.get(..whole).unwrap_or_default();
        let (mut by_serial, mut by_subject) = (Vec::new(), Vec::new());
        let mut bytes = 0;
        for line in lines.split_inclusive(|byte| *byte == b'\n') {
            if let (Some(row), Ok(at)) = (row(line), u32::try_from(bytes)) {
                by_serial.push((row.serial, at));
                by_subject.push((hash(&row.subject), at));
            }
            bytes += line.len() as u64;
        }
        // At once: trees that grow entry by entry stay half empty.
        Self {
            by_serial: by_serial.into_iter().collect(),
            by_subject: by_subject.into_iter().collect(),
            bytes,
        }
    }

    /// Where the rows of `file` begin that `other` lacks.
    pub(super) fn missing_in(other: &[u8], file: &[u8]) -> BTreeSet<u32> {
        let there: HashSet<&[u8]> = lines(other).map(|(_, line)| line).collect();
        let here = lines(file).filter(|(_, line)| !there.contains(line));
        here.filter_map(|(at, _)| u32::try_from(at).ok()).collect()
    }

    /// How long the file is.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The file was cut to `keeps` bytes, which are whole lines, and these rows were added.
    pub(super) fn append(&mut self, keeps: u64, rows: &[String]) {
        self.bytes = keeps;
        for row in rows {
            self.line(row.as_bytes());
            self.bytes += 1;
        }
    }

    fn line(&mut self, line: &[u8]) {
        if let (Some(row), Ok(at)) = (row(line), u32::try_from(self.bytes)) {
            self.by_serial.insert((row.serial, at));
            self.by_subject.insert((hash(&row.subject), at));
        }
        self.bytes += line.len() as u64;
    }

    /// Whether a row says that a serial is this name's.
    pub(super) fn names(&self, serial: Serial, name: &str) -> bool {
        let hash = hash(&format!("/CN={name}"));
        self.of_serial(serial)
            .any(|at| self.by_subject.contains(&(hash, at)))
    }

    /// The highest serial from `first` to `last` that has a row.
    pub(super) fn highest(&self, first: Serial, last: Serial) -> Option<Serial> {
        let within = self.by_serial.range((first, 0)..=(last, u32::MAX));
        within.last().map(|(serial, _)| *serial)
    }

    /// Where the rows of a serial begin.
    pub(super) fn of_serial(&self, serial: Serial) -> impl Iterator<Item = u32> {
        let range = (serial, 0)..=(serial, u32::MAX);
        self.by_serial.range(range).map(|(_, at)| *at)
    }

    /// Where the rows of a common name begin, and perhaps others.
    pub(super) fn of_name(&self, name: &str) -> impl Iterator<Item = u32> {
        let hash = hash(&format!("/CN={name}"));
        let range = (hash, 0)..=(hash, u32::MAX);
        self.by_subject.range(range).map(|(_, at)| *at)
    }
}

/// The lines of a file, each with where it begins and without its end.
fn lines(file: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut next = 0;
    file.split_inclusive(|byte| *byte == b'\n')
        .map(move |line| {
            let at = next;
            next += line.len();
            (at, line.trim_ascii_end())
        })
}

fn row(line: &[u8]) -> Option<Row> {
    let line = std::str::from_utf8(line).ok()?;
    Row::parse(line.trim_end_matches(['\r', '\n'])).ok()
}

fn hash(subject: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    subject.hash(&mut hasher);
    hasher.finish()
}

/// The rows that begin there, in the file's order.
pub(super) fn read(path: &Path, places: &BTreeSet<u32>) -> Result<Vec<Row>> {
    if places.is_empty() {
        return Ok(Vec::new());
    }
    let failed = |error| Error::io("read", path, error);
    let mut file = BufReader::new(File::open(path).map_err(failed)?);
    let mut rows = Vec::with_capacity(places.len());
    for place in places {
        file.seek(SeekFrom::Start(u64::from(*place)))
            .map_err(failed)?;
        let mut line = String::new();
        let mut limited = std::io::Read::take(&mut file, MAX_LINE_BYTES);
        limited.read_line(&mut line).map_err(failed)?;
        // It is what stood there when it was indexed, or the file is not what the plan expects anyhow.
        rows.extend(Row::parse(line.trim_end_matches(['\r', '\n'])).ok());
    }
    Ok(rows)
}
