//! `target/bench.json`: the last numbers of every row.
//!
//! It guarantees: a row that was not run keeps its entry, to the last field, whoever wrote it; a row
//! that failed loses it; the file is replaced whole, after every row.

#![expect(
    clippy::disallowed_methods,
    reason = "the bench's own report is no data of pefo's"
)]

use std::path::Path;

use pefo_core::clock::{Clock as _, SystemClock};
use pefo_core::{Error, Result};
use serde::Serialize;
use serde_json::{Number, Value};

use crate::row::{Measured, Row, Unit};

/// An entry of the file. Times are in milliseconds, sizes in bytes.
#[derive(Debug, Serialize)]
struct Entry<'a> {
    name: &'a str,
    what: &'a str,
    unit: &'a str,
    pefo: Number,
    peer: Number,
    peer_name: &'a str,
    ratio: Number,
    ratio_min: Number,
    ratio_max: Number,
    pairs: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    wanted: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_mib: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    p99: Option<Number>,
    #[serde(skip_serializing_if = "Option::is_none")]
    publish_ms: Option<Number>,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<&'a str>,
    measured_at: String,
}

/// Puts the numbers of `row` into the file at `path`, or takes them out where there are none.
///
/// # Errors
/// A file that is no list of rows, or that can not be written.
pub(crate) fn record(
    path: &Path,
    known: &[&str],
    row: &Row,
    measured: Option<&Measured>,
) -> Result<()> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => "[]".to_owned(),
        Err(error) => return Err(Error::io("read", path, error)),
    };
    let old: Vec<Value> = serde_json::from_str(&text).map_err(|error| {
        Error::invalid(format!("{} is no list of rows: {error}", path.display()))
            .hint("Remove the file; every row that is run writes its entry anew.")
    })?;
    let now = SystemClock.now().to_string();
    let entry = measured.map(|measured| entry(row, measured, now));
    let new = merge(old, known, row.name, entry);
    let fresh = path.with_extension("json.new");
    let mut text = pretty(&new);
    text.push('\n');
    std::fs::write(&fresh, text).map_err(|error| Error::io("write", &fresh, error))?;
    std::fs::rename(&fresh, path).map_err(|error| Error::io("replace", path, error))
}

fn entry(row: &Row, measured: &Measured, measured_at: String) -> Value {
    let summary = measured.summary;
    let entry = Entry {
        name: row.name,
        what: row.what,
        unit: row.unit.name(),
        pefo: number(row.unit, summary.pefo),
        peer: number(row.unit, summary.peer),
        peer_name: &measured.peer_name,
        ratio: rounded(summary.ratio),
        ratio_min: rounded(summary.ratio_min),
        ratio_max: rounded(summary.ratio_max),
        pairs: summary.pairs,
        wanted: row.wanted,
        memory_mib: measured.memory_mib,
        p99: measured.p99.map(|value| number(row.unit, value)),
        publish_ms: measured
            .publish
            .map(|value| number(Unit::Milliseconds, value)),
        note: measured.note.as_deref(),
        measured_at,
    };
    // Strings and finite numbers only: this can not fail.
    serde_json::to_value(entry).unwrap_or_default()
}

/// Replaces or removes the entry `name`, and puts the rows into the order of `known`, others last.
fn merge(old: Vec<Value>, known: &[&str], name: &str, new: Option<Value>) -> Vec<Value> {
    let name_of = |entry: &Value| entry["name"].as_str().unwrap_or_default().to_owned();
    let mut entries: Vec<Value> = old
        .into_iter()
        .filter(|entry| name_of(entry) != name)
        .chain(new)
        .collect();
    entries.sort_by_key(|entry| {
        let name = name_of(entry);
        let place = known.iter().position(|&known| known == name);
        place.unwrap_or(known.len())
    });
    entries
}

fn pretty(entries: &[Value]) -> String {
    serde_json::to_string_pretty(entries).unwrap_or_default()
}

/// Whole bytes, or milliseconds to the microsecond.
fn number(unit: Unit, value: f64) -> Number {
    match unit {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a count of bytes, or the mean of two"
        )]
        Unit::Bytes => Number::from(value.round() as u64),
        Unit::Milliseconds => decimal((value * 1e3).round() / 1e3),
    }
}

/// A ratio, to four places.
fn rounded(ratio: f64) -> Number {
    decimal((ratio * 1e4).round() / 1e4)
}

fn decimal(value: f64) -> Number {
    Number::from_f64(value).unwrap_or_else(|| Number::from(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numbers::Pair;
    use serde_json::json;

    const KNOWN: [&str; 3] = ["a", "b", "c"];

    fn row(name: &'static str, unit: Unit) -> Row {
        Row {
            name,
            what: "some work",
            unit,
            wanted: Some(0.5),
            pairs: 1,
            run: |_, _| unreachable!("nothing is run here"),
        }
    }

    fn measured() -> Measured {
        let pair = Pair {
            pefo: 1234.5678,
            peer: 9876.0,
        };
        Measured::of(&[pair], "peer 1.0").unwrap()
    }

    fn names(entries: &[Value]) -> Vec<&str> {
        let name = |entry: &'_ Value| entry["name"].as_str().map(str::len);
        assert!(entries.iter().all(|entry| name(entry).is_some()));
        entries
            .iter()
            .filter_map(|entry| entry["name"].as_str())
            .collect()
    }

    #[test]
    fn a_row_replaces_its_own_entry_and_no_other() {
        let old = vec![
            json!({"name": "gone", "ratio": 1}),
            json!({"name": "c", "ratio": 1, "later field": [1]}),
            json!({"name": "a", "ratio": 1}),
        ];
        let new = merge(old, &KNOWN, "a", Some(json!({"name": "a", "ratio": 2})));
        assert_eq!(names(&new), ["a", "c", "gone"]);
        assert_eq!(new[0]["ratio"], 2);
        assert_eq!(new[1]["later field"], json!([1]));
        let new = merge(new, &KNOWN, "b", Some(json!({"name": "b"})));
        assert_eq!(names(&new), ["a", "b", "c", "gone"]);
    }

    #[test]
    fn a_row_that_failed_has_no_entry() {
        let old = vec![json!({"name": "a"}), json!({"name": "b"})];
        assert_eq!(names(&merge(old, &KNOWN, "a", None)), ["b"]);
    }

    #[test]
    fn the_file_is_written_and_read_back_row_by_row() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bench.json");
        let (a, b) = (row("a", Unit::Milliseconds), row("b", Unit::Bytes));
        record(&path, &KNOWN, &b, Some(&measured())).unwrap();
        record(&path, &KNOWN, &a, Some(&measured().memory_kib(1025))).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let entries: Vec<Value> = serde_json::from_str(&text).unwrap();
        assert_eq!(names(&entries), ["a", "b"]);
        assert_eq!(entries[0]["pefo"], json!(1234.568));
        assert_eq!(entries[0]["memory_mib"], json!(2));
        assert_eq!(entries[1]["pefo"], json!(1235));
        assert_eq!(entries[1]["ratio"], json!(0.125));
        assert!(entries[1].get("note").is_none());
        record(&path, &KNOWN, &a, None).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains("\"a\"") && text.contains("\"b\""), "{text}");
    }

    #[test]
    fn a_file_that_is_something_else_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bench.json");
        std::fs::write(&path, "{}").unwrap();
        let error = record(&path, &KNOWN, &row("a", Unit::Bytes), None).unwrap_err();
        assert!(error.to_string().contains("no list of rows"), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{}");
    }
}
