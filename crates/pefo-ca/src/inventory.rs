//! `inventory.txt`: one row a certificate ever issued, in the order they were issued.
//!
//! Rows read `0x0002 2026-11-21T12:24:23UTC 2031-11-21T12:24:23UTC /CN=node1.lab`. Servers up to 8.0
//! append in place, so the last line may be torn: what follows the last newline is a tail, never a row.
//! Lines that are no row are kept apart with their numbers: one bad line of a ten-year-old file must
//! not hold the rest back.

use std::collections::BTreeMap;

use pefo_core::clock::Timestamp;

use time::format_description::FormatItem;
use time::macros::format_description;
use time::{OffsetDateTime, PrimitiveDateTime};

use crate::cert::Cert;
use crate::malformed::Malformed;
use crate::serial::Serial;

const DATE: &[FormatItem<'static>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]");

/// One certificate's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its serial.
    pub serial: Serial,
    /// Valid from.
    pub not_before: Timestamp,
    /// Valid until.
    pub not_after: Timestamp,
    /// The subject as written, `/CN=node1.lab`.
    pub subject: String,
    text: String,
}

impl Row {
    /// Parses one line, without its newline.
    ///
    /// # Errors
    /// `inventory-malformed` or a serial's own rule.
    pub fn parse(line: &str) -> Result<Self, Malformed> {
        let bad = |what: &str| Malformed::new("inventory-malformed", what);
        let mut fields = line.splitn(4, ' ');
        let mut next = |what: &str| {
            fields
                .next()
                .filter(|field| !field.is_empty())
                .ok_or_else(|| bad(what))
        };
        let serial = next("no serial")?;
        if !serial.starts_with("0x") {
            return Err(bad("the serial does not begin with 0x"));
        }
        let serial = Serial::from_hex(serial)?;
        let not_before = date(next("no first date")?)?;
        let not_after = date(next("no second date")?)?;
        let subject = next("no subject")?;
        if !subject.starts_with('/') || subject.chars().any(char::is_control) {
            return Err(bad(
                "the subject does not begin with / or has control characters",
            ));
        }
        Ok(Self {
            serial,
            not_before,
            not_after,
            subject: subject.to_owned(),
            text: line.to_owned(),
        })
    }

    /// The row of a certificate, as puppetserver writes it.
    ///
    /// # Errors
    /// `inventory-malformed` where its subject is more than a common name, or a date is beyond all rows.
    pub fn of(cert: &Cert) -> Result<Self, Malformed> {
        let bad = |what: &str| Malformed::new("inventory-malformed", what);
        let date = |at: Timestamp| {
            OffsetDateTime::from_unix_timestamp(at.unix_seconds())
                .ok()
                .and_then(|at| at.format(DATE).ok())
                .ok_or_else(|| bad("a date that no row can have"))
        };
        let name = cert.common_name.as_deref();
        let name = name.ok_or_else(|| bad("a subject without one common name"))?;
        let (from, until) = (date(cert.not_before)?, date(cert.not_after)?);
        Self::parse(&format!("{} {from}UTC {until}UTC /CN={name}", cert.serial))
    }

    /// The line as it was read, without its newline.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The common name, where the subject is one.
    pub fn common_name(&self) -> Option<&str> {
        self.subject.strip_prefix("/CN=")
    }

    /// Whether both rows speak of the same certificate.
    pub fn agrees_with(&self, other: &Self) -> bool {
        (self.serial, self.not_before, self.not_after, &self.subject)
            == (
                other.serial,
                other.not_before,
                other.not_after,
                &other.subject,
            )
    }
}

/// The whole file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inventory {
    rows: Vec<Row>,
    by_serial: BTreeMap<Serial, Vec<usize>>,
    malformed: Vec<Malformed>,
    whole_bytes: u64,
    file_bytes: u64,
    tail: String,
}

impl Inventory {
    /// Parses the file; never fails, since what cannot be read is kept apart.
    pub fn parse(bytes: &[u8]) -> Self {
        let whole = bytes
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |last| last + 1);
        let (lines, tail) = bytes.split_at(whole);
        let mut inventory = Self {
            whole_bytes: whole as u64,
            file_bytes: bytes.len() as u64,
            tail: String::from_utf8_lossy(tail).into_owned(),
            ..Self::default()
        };
        for (index, line) in lines.split(|byte| *byte == b'\n').enumerate() {
            let parsed = match std::str::from_utf8(line).map(|line| line.trim_end_matches('\r')) {
                Ok("") => continue,
                Ok(line) => Row::parse(line),
                Err(_) => Err(Malformed::new("inventory-malformed", "is not UTF-8")),
            };
            match parsed {
                Ok(row) => inventory.push(row),
                Err(error) => inventory.malformed.push(error.at(index + 1)),
            }
        }
        inventory
    }

    /// Some rows of a file whose lines are all whole and take `file_bytes`.
    pub(crate) fn slice(rows: impl IntoIterator<Item = Row>, file_bytes: u64) -> Self {
        let mut inventory = Self {
            whole_bytes: file_bytes,
            file_bytes,
            ..Self::default()
        };
        rows.into_iter().for_each(|row| inventory.push(row));
        inventory
    }

    /// With what is no row in `other`.
    pub(crate) fn with_malformed(mut self, other: &Self) -> Self {
        self.malformed.clone_from(&other.malformed);
        self
    }

    fn push(&mut self, row: Row) {
        let rows = self.by_serial.entry(row.serial).or_default();
        rows.push(self.rows.len());
        self.rows.push(row);
    }

    /// The rows, in order.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The rows of one serial; more than one is a file that was merged by hand.
    pub fn of_serial(&self, serial: Serial) -> impl Iterator<Item = &Row> {
        self.by_serial
            .get(&serial)
            .into_iter()
            .flatten()
            .filter_map(|index| self.rows.get(*index))
    }

    /// The serials, each once, ascending.
    pub fn serials(&self) -> impl Iterator<Item = Serial> {
        self.by_serial.keys().copied()
    }

    /// Lines that are no row.
    pub fn malformed(&self) -> &[Malformed] {
        &self.malformed
    }

    /// How many bytes the whole lines take.
    pub fn whole_bytes(&self) -> u64 {
        self.whole_bytes
    }

    /// How many bytes the file takes.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// What follows the last newline; empty where the file is whole.
    pub fn tail(&self) -> &str {
        &self.tail
    }
}

fn date(text: &str) -> Result<Timestamp, Malformed> {
    let bad = || {
        Malformed::new(
            "inventory-malformed",
            format!("{:?} is no date", text.chars().take(40).collect::<String>()),
        )
    };
    let time = ["UTC", "GMT", "Z"]
        .iter()
        .find_map(|zone| text.strip_suffix(zone))
        .ok_or_else(bad)?;
    let time = PrimitiveDateTime::parse(time, DATE).map_err(|_| bad())?;
    Timestamp::from_unix_seconds(time.assume_utc().unix_timestamp()).map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ROW: &str = "0x0002 2026-11-21T12:24:23UTC 2031-11-21T12:24:23UTC /CN=node1.lab";

    #[test]
    fn a_row_of_puppet_is_read_and_kept_as_written() {
        let row = Row::parse(ROW).unwrap();
        assert_eq!(
            (row.serial, row.common_name(), row.text()),
            (Serial::from(2), Some("node1.lab"), ROW)
        );
        assert_eq!(row.not_before.to_string(), "2026-11-21T12:24:23Z");
    }

    #[test]
    fn a_torn_last_line_is_a_tail_even_where_it_looks_whole() {
        let text = format!(
            "{ROW}\n{}",
            ROW.replace("0x0002", "0x0003").trim_end_matches('b')
        );
        let inventory = Inventory::parse(text.as_bytes());
        assert_eq!(inventory.rows().len(), 1);
        assert_eq!(inventory.whole_bytes(), ROW.len() as u64 + 1);
        assert!(inventory.tail().ends_with("node1.la"));
    }

    #[test]
    fn a_bad_line_is_named_and_holds_nothing_back() {
        let text = format!(
            "{ROW}\n\n0x00G3 x y /CN=z\n{}\n",
            ROW.replace("0x0002", "0x0004")
        );
        let inventory = Inventory::parse(text.as_bytes());
        assert_eq!(inventory.rows().len(), 2);
        assert_eq!(inventory.malformed()[0].line, Some(3));
        assert_eq!(inventory.malformed()[0].rule, "serial-digits");
    }

    proptest! {
        #[test]
        fn rows_are_read_back(serials in proptest::collection::vec(any::<u32>(), 0..20), seconds in 0_i64..4_000_000_000) {
            let date = Timestamp::from_unix_seconds(seconds).unwrap().to_string().replace('Z', "UTC");
            let lines: Vec<String> = serials.iter().map(|serial| format!("0x{serial:04X} {date} {date} /CN=n{serial}.lab")).collect();
            let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
            let inventory = Inventory::parse(text.as_bytes());
            prop_assert_eq!(inventory.rows().iter().map(Row::text).collect::<Vec<_>>(), lines);
            prop_assert!(inventory.malformed().is_empty() && inventory.tail().is_empty());
            prop_assert!(serials.iter().all(|serial| inventory.of_serial(Serial::from(*serial)).count() > 0));
        }

        #[test]
        fn no_input_makes_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let inventory = Inventory::parse(&bytes);
            prop_assert!(inventory.whole_bytes() <= bytes.len() as u64);
        }
    }
}
