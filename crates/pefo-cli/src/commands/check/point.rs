//! One point of a check: what was found, what is wrong with it and how bad that is, and its numbers.

use pefo_core::{Error, ErrorKind, Result};
use serde_json::{Map, Value, json};

use crate::outcome::{Health, Report};

/// One point.
#[derive(Debug)]
pub(super) struct Point {
    /// Its name, which monitoring relies on.
    pub(super) name: &'static str,
    /// What was found where nothing is wrong.
    said: Vec<String>,
    faults: Vec<Fault>,
    numbers: Vec<Number>,
}

/// Something that is wrong.
#[derive(Debug)]
struct Fault {
    weight: Health,
    error: Error,
}

/// A number for monitoring.
#[derive(Debug)]
pub(super) struct Number {
    /// Its label.
    pub(super) label: String,
    /// The number.
    pub(super) value: u64,
    /// `s`, `ms`, `B`, or nothing.
    pub(super) unit: &'static str,
    /// From where on it is a warning and critical, as plugins write ranges.
    pub(super) ranges: Option<(String, String)>,
}

impl Point {
    /// A point of which nothing is known yet.
    pub(super) fn new(name: &'static str) -> Self {
        Self {
            name,
            said: Vec::new(),
            faults: Vec::new(),
            numbers: Vec::new(),
        }
    }

    /// A point with one outcome; where it is an error, that weighs so much.
    pub(super) fn of(name: &'static str, weight: Health, outcome: Result<String>) -> Self {
        let mut point = Self::new(name);
        match outcome {
            Ok(said) => point.say(said),
            Err(error) => point.fault(weight, error),
        }
        point
    }

    /// Adds what was found.
    pub(super) fn say(&mut self, said: impl Into<String>) {
        self.said.push(said.into());
    }

    /// Adds something that is wrong.
    pub(super) fn fault(&mut self, weight: Health, error: Error) {
        self.faults.push(Fault { weight, error });
    }

    /// Adds what came of something.
    pub(super) fn found(&mut self, weight: Health, outcome: Result<String>) {
        match outcome {
            Ok(said) => self.say(said),
            Err(error) => self.fault(weight, error),
        }
    }

    /// Adds a number.
    pub(super) fn number(&mut self, number: Number) {
        self.numbers.push(number);
    }

    /// Whether nothing is known of it yet.
    pub(super) fn is_empty(&self) -> bool {
        self.said.is_empty() && self.faults.is_empty()
    }

    /// The worst that is wrong with it.
    pub(super) fn health(&self) -> Health {
        let weights = self.faults.iter().map(|fault| fault.weight);
        weights.max().unwrap_or(Health::Ok)
    }

    #[cfg(test)]
    pub(super) fn faults(&self) -> Vec<(Health, String)> {
        let told = |fault: &Fault| (fault.weight, fault.error.to_string());
        self.faults.iter().map(told).collect()
    }

    /// The faults, the worst first.
    fn worst_first(&self) -> Vec<&Fault> {
        let mut faults: Vec<&Fault> = self.faults.iter().collect();
        faults.sort_by_key(|fault| std::cmp::Reverse(fault.weight));
        faults
    }

    fn lines(&self) -> String {
        let mut text = String::new();
        if self.faults.is_empty() {
            text.push_str(&line("ok", self.name, &self.said.join("; ")));
        }
        for fault in self.worst_first() {
            let word = fault.weight.word().to_lowercase();
            text.push_str(&line(&word, self.name, &fault.error.to_string()));
            if let Some(hint) = fault.error.hint_text() {
                text.push_str(&line("", "", &format!("hint: {hint}")));
            }
        }
        text
    }

    fn json(&self) -> Value {
        let faults = self.worst_first();
        let told = |fault: &Fault| {
            json!({
                "health": fault.weight.word(),
                "rule": fault.error.rule(),
                "message": fault.error.to_string(),
                "hint": fault.error.hint_text(),
            })
        };
        let numbers = self.numbers.iter();
        let numbers: Map<String, Value> = numbers
            .map(|number| (number.label.clone(), json!(number.value)))
            .collect();
        json!({
            "point": self.name,
            "ok": faults.is_empty(),
            "health": self.health().word(),
            "message": faults.first().map_or_else(|| self.said.join("; "), |fault| fault.error.to_string()),
            "hint": faults.first().and_then(|fault| fault.error.hint_text()),
            "faults": faults.into_iter().map(told).collect::<Vec<_>>(),
            "numbers": numbers,
        })
    }
}

fn line(word: &str, name: &str, what: &str) -> String {
    format!("  {word:<8} {name:<12} {what}\n")
}

impl Number {
    fn perfdata(&self) -> String {
        let ranges = self.ranges.as_ref();
        let ranges = ranges.map_or_else(String::new, |(warning, critical)| {
            format!(";{warning};{critical}")
        });
        format!(" '{}'={}{}{ranges}", self.label, self.value, self.unit)
    }
}

/// All points as one answer: the worst counts, and the first line names those that failed.
pub(super) fn report(points: &[Point]) -> Report {
    let health = points.iter().map(Point::health).max();
    let health = health.unwrap_or(Health::Unknown);
    let failed: Vec<&Point> = points
        .iter()
        .filter(|point| !point.faults.is_empty())
        .collect();
    let names: Vec<&str> = failed.iter().map(|point| point.name).collect();
    let names = match names.as_slice() {
        [] => String::new(),
        names => format!(": {}", names.join(", ")),
    };
    let mut text = format!(
        "PEFO {}: {count} points checked, {bad} failed{names} | 'failed'={bad} 'points'={count}",
        health.word(),
        count = points.len(),
        bad = failed.len(),
    );
    for number in points.iter().flat_map(|point| &point.numbers) {
        text.push_str(&number.perfdata());
    }
    text.push('\n');
    for point in points {
        text.push_str(&point.lines());
    }
    let details: Vec<Value> = points.iter().map(Point::json).collect();
    Report::ok(Value::Array(details), text).health(health)
}

/// A fault, and what to do about it.
pub(super) fn bad(message: impl Into<String>, hint: impl Into<String>) -> Error {
    Error::new(ErrorKind::Config, message.into()).hint(hint.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_names_what_failed_the_worst_first_and_what_to_type() {
        let mut room = Point::new("room");
        room.say("not shown where something is wrong");
        room.fault(Health::Warning, bad("half full", "make room"));
        room.fault(
            Health::Critical,
            Error::refused("read-only", "/var is read-only").hint("mount it rw"),
        );
        room.number(Number {
            label: "state_free".to_owned(),
            value: 7,
            unit: "B",
            ranges: Some(("20:".to_owned(), "10:".to_owned())),
        });
        let good = Point::of("spool", Health::Critical, Ok("/spool".to_owned()));
        let report = report(&[good, room]);
        assert_eq!(report.code(), 2);
        insta::assert_snapshot!(report.text, @r"
        PEFO CRITICAL: 2 points checked, 1 failed: room | 'failed'=1 'points'=2 'state_free'=7B;20:;10:
          ok       spool        /spool
          critical room         /var is read-only [read-only]
                                hint: mount it rw
          warning  room         half full
                                hint: make room
        ");
        let room = &report.details[1];
        assert_eq!(
            (&room["message"], &room["hint"]),
            (
                &json!("/var is read-only [read-only]"),
                &json!("mount it rw")
            )
        );
        assert_eq!(room["faults"][1]["health"], "WARNING");
        assert_eq!(room["numbers"]["state_free"], 7);
        assert_eq!(report.details[0]["faults"], json!([]));
    }
}
