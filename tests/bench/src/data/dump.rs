//! A database dump as `pg_dump -Fd -Z0` writes one, in two versions of which 1 row in 1,000 differs.
//!
//! A file a table, rows of `COPY` text of about 100 bytes, and a table of contents. The changed rows
//! are scattered at random; most keep their length, one in five becomes a byte longer, so that
//! everything behind it moves.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use pefo_core::{Error, Result};

use crate::random::Stream;

/// The tables' files, and each one's share of the dump in percent.
const TABLES: [(&str, u64); 6] = [
    ("3401.dat", 63),
    ("3403.dat", 20),
    ("3405.dat", 10),
    ("3407.dat", 4),
    ("3409.dat", 2),
    ("3411.dat", 1),
];
/// One row in so many is another in the new version.
const CHANGED_ONE_IN: u64 = 1_000;
/// One changed row in so many is a byte longer.
const LONGER_ONE_IN: u64 = 5;
/// Random bytes behind a row's values: six for the time, twenty for the digest, two for the factor.
const VALUE_BYTES: usize = 28;

/// Writes both versions of a dump of `bytes` bytes into two empty directories.
///
/// # Errors
/// A file that can not be written.
pub(crate) fn write(bytes: u64, old: &Path, new: &Path) -> Result<()> {
    for (name, percent) in TABLES {
        let (old, new) = (old.join(name), new.join(name));
        let (mut to_old, mut to_new) = (create(&old)?, create(&new)?);
        table(name, bytes * percent / 100, &mut to_old, &mut to_new)
            .and_then(|()| to_old.flush())
            .and_then(|()| to_new.flush())
            .map_err(|error| Error::io("write", &new, error))?;
    }
    for (version, directory) in [("old", old), ("new", new)] {
        let path = directory.join("toc.dat");
        let written = create(&path)?.write_all(&contents(version));
        written.map_err(|error| Error::io("write", &path, error))?;
    }
    Ok(())
}

/// The rows of one table, until its old version has `bytes` bytes.
fn table(
    name: &str,
    bytes: u64,
    old: &mut impl Write,
    new: &mut impl Write,
) -> std::io::Result<()> {
    let mut stream = Stream::new(name);
    let (mut row, mut changed) = (Vec::new(), Vec::new());
    let (mut number, mut written) = (10_000, 0);
    while written < bytes {
        row.clear();
        line(&mut row, number, &stream.bytes(), false)?;
        let other: [u8; VALUE_BYTES] = stream.bytes();
        let draw = stream.below(CHANGED_ONE_IN * LONGER_ONE_IN);
        old.write_all(&row)?;
        if draw.is_multiple_of(CHANGED_ONE_IN) {
            changed.clear();
            line(&mut changed, number, &other, draw == 0)?;
            new.write_all(&changed)?;
        } else {
            new.write_all(&row)?;
        }
        written += row.len() as u64;
        number += 1;
    }
    // How COPY data ends in a dump's file, pg_dump(1).
    for end in [old as &mut dyn Write, new] {
        end.write_all(b"\\.\n\n\n")?;
    }
    Ok(())
}

/// One row: number, name, time, digest, factor.
fn line(
    out: &mut Vec<u8>,
    number: u64,
    values: &[u8; VALUE_BYTES],
    longer: bool,
) -> std::io::Result<()> {
    let [month, day, hour, minute, second, last, ..] = *values;
    write!(
        out,
        "{number}\tnode{number}.example.com\t2026-{:02}-{:02} {:02}:{:02}:{:02}+00\t",
        month % 12 + 1,
        day % 28 + 1,
        hour % 24,
        minute % 60,
        second % 60
    )?;
    for byte in &values[6..26] {
        let digits = b"0123456789abcdef";
        out.extend([byte >> 4, byte & 15].map(|digit| digits[usize::from(digit)]));
    }
    let factor = u16::from_le_bytes([values[26], values[27]]) % 10_000;
    write!(out, "\t0.{factor:04}")?;
    if longer {
        out.push(b'0' + last % 10);
    }
    out.push(b'\n');
    Ok(())
}

/// The table of contents: a few kilobytes, with the time of the dump in front.
fn contents(version: &str) -> Vec<u8> {
    let mut text = format!("PGDMP {version}\0").into_bytes();
    for (name, _) in TABLES {
        let entry: [u8; 1_000] = Stream::new(&format!("toc {name}")).bytes();
        text.extend(name.as_bytes());
        text.extend(entry);
    }
    text
}

#[expect(
    clippy::disallowed_methods,
    reason = "the playground is no data of pefo's"
)]
fn create(path: &Path) -> Result<BufWriter<File>> {
    let created = File::create(path).map_err(|error| Error::io("create", path, error))?;
    Ok(BufWriter::with_capacity(1 << 18, created))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both() -> (String, String) {
        let (mut old, mut new) = (Vec::new(), Vec::new());
        table("test", 3_000_000, &mut old, &mut new).unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (text(old), text(new))
    }

    #[test]
    fn one_row_in_a_thousand_differs_and_some_of_those_are_a_byte_longer() {
        let (old, new) = both();
        let rows = old.lines().count();
        assert_eq!(rows, new.lines().count());
        assert!(
            (95..=105).contains(&(old.len() / rows)),
            "{}",
            old.len() / rows
        );
        let changed: Vec<_> = old
            .lines()
            .zip(new.lines())
            .filter(|(a, b)| a != b)
            .collect();
        let one_in = rows / changed.len();
        assert!((700..1_400).contains(&one_in), "one row in {one_in}");
        let longer = changed
            .iter()
            .filter(|(a, b)| a.len() + 1 == b.len())
            .count();
        let same = changed.iter().filter(|(a, b)| a.len() == b.len()).count();
        assert_eq!(longer + same, changed.len());
        assert!(longer > 0 && longer < same, "{longer} of {}", changed.len());
        // The key stays, the values go.
        let key = |row: &str| row.split('\t').take(2).collect::<String>();
        assert!(changed.iter().all(|(a, b)| key(a) == key(b)));
    }

    #[test]
    fn a_row_reads_as_pg_dump_writes_it() {
        let mut row = Vec::new();
        line(&mut row, 12_345, &[1; VALUE_BYTES], false).unwrap();
        let text = String::from_utf8(row).unwrap();
        let digest = "01".repeat(20);
        assert_eq!(
            text,
            format!("12345\tnode12345.example.com\t2026-02-02 01:01:01+00\t{digest}\t0.0257\n")
        );
    }

    #[test]
    fn the_same_dump_is_written_in_every_run() {
        assert!(both() == both());
        assert_ne!(contents("old"), contents("new"));
    }
}
