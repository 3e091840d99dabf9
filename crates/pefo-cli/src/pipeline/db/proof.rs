//! Proofs on the passive: that the newest dump can be restored, and that the live database still holds it.

use std::fmt;
use std::path::Path;

use pefo_core::generation::{Accepted, DataSet, Verified};
use pefo_core::{Error, ErrorKind, Result};
use pefo_db::{Difference, DrillReport, VerifyReport};
use serde::Serialize;
use serde_json::json;

use super::lent;
use super::stage::{Dumped, Stage, Stands, answered, perform};
use crate::arguments::Change;
use crate::host::Host;
use crate::outcome::Report;
use crate::pipeline::apply::Passive;
use crate::pipeline::drill::{Found, Subject, Tried};

/// So many differences are shown to people.
const SHOWN: usize = 20;

/// Has `read` look at the newest generation that this host has accepted, from root's own store.
fn newest<T>(
    host: &Host,
    name: &str,
    (what, lock): (&str, &str),
    read: impl FnOnce(&Path) -> Result<T>,
) -> Result<(Subject, T)> {
    let dataset = DataSet::Database(name.to_owned());
    let passive = Passive::open(host)?;
    let _lock = host.lock(&format!("{lock}-{}", dataset.dir_name()))?;
    let accepted = Accepted::load(&host.record_path("accepted", &dataset))?;
    let accepted = accepted.ok_or_else(|| {
        Error::new(
            ErrorKind::NotFound,
            format!("{dataset}: nothing was accepted yet"),
        )
        .hint("run 'pefo db push' on the active and 'pefo db restore' here")
    })?;
    let received = passive.accepted(&dataset, &accepted)?;
    let answer = lent(host, received.full(), what, read)?;
    Ok((Subject::of(received.full()), answer))
}

/// Restores the newest generation into scratch, compares it, drops it, and shows that the live database is
/// what it was.
///
/// # Errors
/// `WrongRole` on the active, `Locked`, `NotFound` where nothing was accepted; what a restore says.
pub fn drill(host: &Host, name: &str, change: &Change) -> Result<Report> {
    let dataset = DataSet::Database(name.to_owned());
    let tried = try_out(host, name, change)?;
    let (generation, found) = (tried.of.generation, tried.found?);
    let text = format!("{dataset}: {generation} {}", found.text);
    let mut details = found.details;
    if let Some(details) = details.as_object_mut()
        && !change.dry_run
    {
        details.insert("generation".to_owned(), json!(generation));
    }
    Ok(Report::ok(details, text).about(dataset))
}

/// As [`drill`], for a part of a larger one; what the server says is in what is given.
///
/// # Errors
/// `WrongRole` on the active, `Locked`, `NotFound` where nothing was accepted.
pub fn try_out(host: &Host, name: &str, change: &Change) -> Result<Tried> {
    let (of, answer) = newest(host, name, ("drill", "apply"), |dir| {
        let dumped = Dumped {
            name: name.to_owned(),
            dir: dir.to_owned(),
            accept: change.accept.clone(),
            stands: Stands::Unknown,
        };
        let stage = match change.dry_run {
            true => Stage::Plan(dumped),
            false => Stage::Drill(dumped),
        };
        Ok(perform(host, stage))
    })?;
    let found = answer.and_then(|answer| match change.dry_run {
        true => Ok(Found {
            details: answer,
            text: "would be restored into scratch, compared and dropped\n".to_owned(),
        }),
        false => restored(answered(answer)?),
    });
    Ok(Tried { of, found })
}

fn restored(drilled: DrillReport) -> Result<Found> {
    let (restored, changed) = (&drilled.restored, &drilled.live_changed);
    let took: u64 = restored.steps.iter().map(|step| step.ms).sum();
    let mut text = format!(
        "restores: {} tables with {} rows in {:.1} s\n",
        restored.tables,
        restored.rows,
        took as f64 / 1000.0
    );
    text.push_str(&match changed {
        Some(changed) if changed.is_empty() => "  the live database is what it was\n".to_owned(),
        Some(changed) => {
            let what = differences(changed);
            format!("  the live database was written to meanwhile, not by the drill:\n{what}")
        }
        None => "  there is no live database yet\n".to_owned(),
    });
    let details = json!({ "took_ms": took, "drill": drilled });
    Ok(Found { details, text })
}

/// What a comparison came to.
#[derive(Debug, Serialize)]
pub struct Compared {
    /// The database.
    pub dataset: DataSet,
    /// The generation it was compared with.
    pub generation: String,
    /// Every difference.
    #[serde(flatten)]
    pub verified: VerifyReport,
}

impl fmt::Display for Compared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (dataset, found) = (&self.dataset, &self.verified.differences);
        let (tables, generation) = (self.verified.tables, &self.generation);
        if found.is_empty() {
            writeln!(f, "{dataset}: {tables} tables are those of {generation}")?;
            return match self.verified.counted_only {
                0 => Ok(()),
                counted => writeln!(f, "  {counted} of them were only counted"),
            };
        }
        writeln!(
            f,
            "{dataset}: {} differences from {generation}:",
            found.len()
        )?;
        f.write_str(&differences(found))
    }
}

/// Compares the live database with the manifest of the newest generation.
///
/// # Errors
/// `WrongRole` on the active, `NotFound` where nothing was accepted; what the server says.
pub fn verify(host: &Host, name: &str) -> Result<Compared> {
    let dataset = DataSet::Database(name.to_owned());
    let (of, verified) = newest(host, name, ("verify", "show"), |dir| {
        let (name, dir) = (name.to_owned(), dir.to_owned());
        answered(perform(host, Stage::Verify { name, dir })?)
    })?;
    Ok(Compared {
        dataset,
        generation: of.generation.to_string(),
        verified,
    })
}

/// Compares the live database with a generation that is about to be restored.
///
/// # Errors
/// What the server says.
pub fn compare(host: &Host, name: &str, generation: &Verified) -> Result<Compared> {
    let verified = lent(host, generation, "compare", |dir| {
        let (name, dir) = (name.to_owned(), dir.to_owned());
        answered(perform(host, Stage::Verify { name, dir })?)
    })?;
    Ok(Compared {
        dataset: DataSet::Database(name.to_owned()),
        generation: generation.position().to_string(),
        verified,
    })
}

fn differences(found: &[Difference]) -> String {
    let shown = found.iter().take(SHOWN);
    let mut text: String = shown.map(|one| format!("  {one}\n")).collect();
    if let Some(more) = found.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        text.push_str(&format!("  and {more} more\n"));
    }
    text
}
