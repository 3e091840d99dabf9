//! `pefo drill`: would the data that this host has carry it, if it had to take over now?
//!
//! Each data set is tried out beside the live one: a certificate is signed and revoked in a copy of the CA, the
//! classification is planned past its gates, each database is restored into scratch, what is deployed is compared. Nothing live is changed, and
//! one that fails keeps no other from being tried.
//!
//! How long all took together is what the data's part of a takeover would take (RTO); the age of the oldest is how
//! much could be lost (RPO). Both go into a report below `STATE/reports`, of which the newest are kept.

use std::path::{Path, PathBuf};

use pefo_core::clock::Timestamp;
use pefo_core::disk::Attributes;
use pefo_core::generation::{Accepted, DataSet, Position, Verified};
use pefo_core::reign::Epoch;
use pefo_core::run::Outcome;
use pefo_core::{Certname, Error, ErrorKind, Result, record};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::apply::{CaughtUp, Passive, caught_up_path};
use super::scratch::Scratch;
use super::{ca, code, db, files, nc};
use crate::arguments::Change;
use crate::host::Host;
use crate::outcome::{Report, error_json};

/// At least so many reports are kept.
const KEEP: usize = 10;

/// Which generation was tried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subject {
    /// The generation.
    pub generation: Position,
    /// When it was made, by the source's clock.
    pub made: Timestamp,
}

impl Subject {
    /// That of this generation.
    pub fn of(verified: &Verified) -> Self {
        Self {
            generation: verified.position(),
            made: verified.manifest().time,
        }
    }
}

/// What a drill of one data set found.
#[derive(Debug)]
pub struct Found {
    /// For machines.
    pub details: Value,
    /// For people: what is said of the generation, and lines after that.
    pub text: String,
}

/// A data set that was tried out.
#[derive(Debug)]
pub struct Tried {
    /// Which generation.
    pub of: Subject,
    /// What came of it.
    pub found: Result<Found>,
}

/// One data set's part of the report.
#[derive(Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Part {
    /// Which.
    pub dataset: DataSet,
    /// How it ended.
    pub outcome: Outcome,
    /// What was tried out, where there is anything.
    pub generation: Option<Position>,
    /// When that was made, by the source's clock.
    pub made: Option<Timestamp>,
    /// How long ago that is, by this host's.
    pub age_seconds: Option<u64>,
    /// How long ago this host proved last that it had applied everything.
    pub lag_seconds: Option<u64>,
    /// How long it took.
    pub took_ms: u64,
    /// What was found, for machines.
    pub details: Value,
    /// What is wrong, as `--json` tells errors.
    pub errors: Vec<Value>,
}

/// The report's file.
#[derive(Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Whole {
    /// Version of this report's schema: 1.
    pub format: u32,
    /// On which host.
    pub certname: Certname,
    /// In which reign.
    pub epoch: Epoch,
    /// When it began.
    pub began: Timestamp,
    /// And ended.
    pub ended: Timestamp,
    /// How.
    pub outcome: Outcome,
    /// All that was tried, one after the other.
    pub rto_ms: u64,
    /// The oldest of what was tried; nothing where nothing was.
    pub rpo_seconds: Option<u64>,
    /// Each data set.
    pub datasets: Vec<Part>,
}

/// The reports that are kept, the oldest first; what cannot be read is left out.
///
/// # Errors
/// `Io`, where the directory cannot be listed.
pub fn load_all(host: &Host) -> Result<Vec<Whole>> {
    let dir = host.state("reports");
    let names = match names(&dir) {
        Err(error) if error.io_kind() == Some(std::io::ErrorKind::NotFound) => Vec::new(),
        names => names?,
    };
    let load = |name: String| record::load::<Whole>(&dir.join(name)).ok().flatten();
    Ok(names.into_iter().filter_map(load).collect())
}

/// Drills every configured data set and writes the report, or shows what would be drilled.
///
/// # Errors
/// `WrongRole` on the active, `Fenced` where its reign has ended; `Locked` where another drill runs. What is wrong
/// with a data set is in the report.
pub fn run(host: &Host, change: &Change) -> Result<Report> {
    let passive = Passive::open(host)?;
    let _lock = host.lock("drill")?;
    let began = host.clock.now();
    let (mut parts, mut reports) = (Vec::new(), Vec::new());
    for dataset in host.datasets() {
        let begun = host.clock.monotonic();
        let tried = try_out(host, &passive, &dataset, change);
        let took = host.clock.monotonic().saturating_sub(begun);
        let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let (part, report) = part(host, dataset, tried, took_ms);
        parts.push(part);
        reports.push(report);
    }
    let mut report = Report::all(reports);
    if change.dry_run {
        return Ok(report);
    }
    let whole = Whole {
        format: 1,
        certname: host.config.site.certname.clone(),
        epoch: passive.epoch(),
        began,
        ended: host.clock.now(),
        outcome: report.outcome,
        rto_ms: parts.iter().map(|part| part.took_ms).sum(),
        rpo_seconds: parts.iter().filter_map(|part| part.age_seconds).max(),
        datasets: parts,
    };
    report.text.push_str(&told(&whole));
    report.details = serde_json::to_value(&whole)
        .map_err(|error| Error::invalid(format!("write the report: {error}")))?;
    Ok(match keep(host, &whole) {
        Ok(path) => {
            report
                .text
                .push_str(&format!("report: {}\n", path.display()));
            if let Some(details) = report.details.as_object_mut() {
                details.insert("report".to_owned(), json!(path));
            }
            report
        }
        Err(error) => report.partial(vec![error.context("the report was not written")]),
    })
}

fn try_out(
    host: &Host,
    passive: &Passive<'_>,
    dataset: &DataSet,
    change: &Change,
) -> Result<Tried> {
    match dataset {
        DataSet::Ca => try_ca(host, passive, change),
        DataSet::Classifier => try_classifier(host, passive, change),
        DataSet::Database(name) => db::try_out(host, name, change),
        DataSet::Files => try_files(host, passive, change),
        DataSet::Code => code::try_out(host),
    }
}

fn try_ca(host: &Host, passive: &Passive<'_>, change: &Change) -> Result<Tried> {
    let dataset = DataSet::Ca;
    let accepted = Accepted::load(&host.record_path("accepted", &dataset))?;
    let accepted = accepted.ok_or_else(|| {
        Error::new(ErrorKind::NotFound, "nothing was accepted yet")
            .hint("run 'pefo ca push' on the active and 'pefo ca apply' here")
    })?;
    let received = passive.accepted(&dataset, &accepted)?;
    let of = Subject::of(received.newest());
    if change.dry_run {
        let text = "would be copied; a certificate would be signed and revoked there\n";
        return Ok(would(of, text));
    }
    let found = ca::rehearse(host, &received).and_then(|rehearsal| {
        let details = serde_json::to_value(&rehearsal)
            .map_err(|error| Error::invalid(format!("write the rehearsal: {error}")))?;
        let text = format!(
            "signs and revokes: serial {} in a copy of {} certificates and {} revocations\n",
            rehearsal.serial, rehearsal.certificates, rehearsal.revocations
        );
        Ok(Found { details, text })
    });
    Ok(Tried { of, found })
}

fn try_classifier(host: &Host, passive: &Passive<'_>, change: &Change) -> Result<Tried> {
    let dataset = DataSet::Classifier;
    let _lock = host.lock("show-nc")?;
    let scratch = Scratch::new(host, &dataset)?;
    let received = passive.take(&dataset, &scratch.path().join("store"))?;
    let of = Subject::of(received.full());
    if change.dry_run {
        return Ok(would(of, "would be planned, and nothing sent\n"));
    }
    let found = nc::try_out(host, received.full(), change).map(|trial| {
        let (groups, differing) = (trial.plan.wanted().len(), trial.differing());
        let mut text = format!("passes every gate: {differing} of {groups} groups would change\n");
        let missing: Vec<String> = trial.missing.iter().map(ToString::to_string).collect();
        if let Some(first) = missing.first() {
            text.push_str(&format!(
                "  the classifier here did not know {} of what they use when it last read its classes: {first}{}\n",
                missing.len(),
                if missing.len() > 1 { ", …" } else { "" }
            ));
        }
        let details = json!({
            "groups": groups,
            "differing": differing,
            "needs_import": trial.plan.needs_import(),
            "accepted": trial.plan.accepted(),
            "missing": missing,
        });
        Found { details, text }
    });
    Ok(Tried { of, found })
}

fn try_files(host: &Host, passive: &Passive<'_>, change: &Change) -> Result<Tried> {
    let dataset = DataSet::Files;
    let _lock = host.lock("show-files")?;
    let scratch = Scratch::new(host, &dataset)?;
    let received = passive.take(&dataset, &scratch.path().join("store"))?;
    let of = Subject::of(received.full());
    if change.dry_run {
        return Ok(would(
            of,
            "would be opened and planned, and nothing written\n",
        ));
    }
    let found = files::planned(host, received.full(), change).and_then(|(plan, bundle)| {
        if let Some(refused) = plan.errors().into_iter().next() {
            return Err(refused);
        }
        let (files, differing) = (bundle.index().files.len(), plan.steps.len());
        let text =
            format!("opens and passes every gate: {differing} of {files} files would change\n");
        let details = json!({ "files": files, "differing": differing });
        Ok(Found { details, text })
    });
    Ok(Tried { of, found })
}

fn would(of: Subject, text: &str) -> Tried {
    let found = Ok(Found {
        details: json!({ "would_drill": of.generation }),
        text: text.to_owned(),
    });
    Tried { of, found }
}

/// What is said of one data set, in the report and as an outcome of its own.
fn part(host: &Host, dataset: DataSet, tried: Result<Tried>, took_ms: u64) -> (Part, Report) {
    let now = host.clock.now();
    let (of, found) = match tried {
        Ok(tried) => (Some(tried.of), tried.found),
        Err(error) => (None, Err(error)),
    };
    let age_seconds = of.map(|of| now.since(of.made).as_secs());
    let lag_seconds = lag(host, &dataset, now);
    let what = of.map_or_else(
        || dataset.to_string(),
        |of| format!("{dataset}: {}", of.generation),
    );
    let mut report = match found {
        Ok(found) => Report::ok(found.details, format!("{what} {}", found.text)),
        Err(error) => Report {
            text: format!("{what} FAILED\n"),
            ..Report::failed(named(error, &dataset))
        },
    };
    report.dataset = Some(dataset.clone());
    report
        .text
        .push_str(&format!("  took {:.2} s", took_ms as f64 / 1000.0));
    if let Some(age) = age_seconds {
        report.text.push_str(&format!("; made {age} s ago"));
    }
    if let Some(lag) = lag_seconds {
        report
            .text
            .push_str(&format!("; all was applied {lag} s ago"));
    }
    report.text.push('\n');
    let part = Part {
        dataset,
        outcome: report.outcome,
        generation: of.map(|of| of.generation),
        made: of.map(|of| of.made),
        age_seconds,
        lag_seconds,
        took_ms,
        details: report.details.clone(),
        errors: report.errors.iter().map(error_json).collect(),
    };
    (part, report)
}

/// The error, which names its data set.
fn named(error: Error, dataset: &DataSet) -> Error {
    let is_named = error.message().starts_with(&format!("{dataset}: "));
    if is_named {
        error
    } else {
        error.context(dataset)
    }
}

fn lag(host: &Host, dataset: &DataSet, now: Timestamp) -> Option<u64> {
    match record::load::<CaughtUp>(&caught_up_path(host, dataset)) {
        Ok(caught_up) => caught_up.map(|caught_up| now.since(caught_up.at).as_secs()),
        Err(error) => {
            tracing::warn!(%error, %dataset, "its lag is not known");
            None
        }
    }
}

fn told(whole: &Whole) -> String {
    let is_all = whole.datasets.iter().all(|part| part.outcome.is_success());
    let mut text = format!(
        "RTO of the data: {}{:.2} s",
        if is_all { "" } else { "more than " },
        whole.rto_ms as f64 / 1000.0
    );
    if let Some(rpo) = whole.rpo_seconds {
        text.push_str(&format!("; RPO: {rpo} s, the age of the oldest"));
    }
    text.push('\n');
    text
}

/// Writes the report beside those before it, the oldest of which go.
fn keep(host: &Host, whole: &Whole) -> Result<PathBuf> {
    let dir = host.state("reports");
    host.disk.create_dir_all(&dir, &Attributes::mode(0o700))?;
    let path = dir.join(name(whole.began)?);
    record::store(&host.disk, &path, whole, 0o600)?;
    let mut names = names(&dir)?;
    let kept = host.config.retention.generations.max(KEEP);
    names.truncate(names.len().saturating_sub(kept));
    for name in names {
        host.disk.remove_file(&dir.join(name))?;
    }
    Ok(path)
}

/// Names sort by time, also within a second.
fn name(began: Timestamp) -> Result<String> {
    let whole = Timestamp::from_unix_seconds(began.unix_seconds())?;
    let mut stamp = whole.to_string();
    stamp.retain(|c| c.is_ascii_digit() || c == 'T');
    let nanos = began.since(whole).subsec_nanos();
    Ok(format!("drill-{stamp}.{nanos:09}Z.json"))
}

/// The reports that are there, the oldest first.
fn names(dir: &Path) -> Result<Vec<String>> {
    let entries = std::fs::read_dir(dir).map_err(|error| Error::io("list", dir, error))?;
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| Error::io("list", dir, error))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("drill-") && name.ends_with(".json") {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn names_of_reports_sort_as_their_times_do() {
        let whole = Timestamp::from_unix_seconds(1_763_800_000).unwrap();
        let times = [0, 7, 80_000_000, 1_000_000_000, 61_000_000_000];
        let names = times.map(|nanos| name(whole.plus(Duration::from_nanos(nanos))).unwrap());
        assert_eq!(names[0], "drill-20251122T082640.000000000Z.json");
        assert!(names.is_sorted(), "{names:?}");
    }
}
