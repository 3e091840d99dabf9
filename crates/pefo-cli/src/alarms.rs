//! `[hooks] failed` and `recovered`: a program of the operator's is run once when a data set does not do well any
//! more, and once when it does again.
//!
//! What was told stands in STATE/alarms/DATASET.json. It is written once the hook has ended, whether well or not: a
//! crash in between tells it twice, and never not at all. Whoever comes by looks at how it goes now, not at what has
//! changed: it makes no difference whether a command, a watch or time itself changed it.

use std::path::PathBuf;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use pefo_core::cancel::Cancel;
use pefo_core::clock::Timestamp;
use pefo_core::generation::DataSet;
use pefo_core::launch::{Invocation, Watch};
use pefo_core::{Error, ErrorKind, Result, record};
use serde::{Deserialize, Serialize};

use crate::host::Host;
use crate::outcome::Health;
use crate::overview::{Overview, Row};

/// How long a hook may take.
const LIMIT: Duration = Duration::from_secs(30);

/// That a data set does not do well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Alarm {
    /// Version of this record's schema: 1.
    format: u32,
    /// Since when.
    since: Timestamp,
    /// The rule that refused, or the kind of problem.
    reason: String,
    /// For people.
    message: String,
}

/// Runs the hooks of what has changed.
///
/// # Errors
/// `Io`, where what was told cannot be noted. A hook that fails is logged.
pub fn look(host: &Host, overview: &Overview) -> Result<()> {
    let hooks = &host.config.hooks;
    if hooks.failed.is_empty() && hooks.recovered.is_empty() {
        return Ok(());
    }
    // Then it is the operator's word, or another hook's matter.
    if overview.standing.paused.is_some()
        || overview.standing.fenced.is_some()
        || overview.changing.is_some()
    {
        return Ok(());
    }
    // Whoever holds it looks at the same.
    let _lock = match host.lock("alarms") {
        Err(error) if error.kind() == ErrorKind::Locked => return Ok(()),
        lock => lock?,
    };
    for dataset in host.datasets() {
        let path = path(host, &dataset);
        let known: Option<Alarm> = record::load(&path)?;
        let mut rows = overview.rows.iter().filter(|row| row.dataset == dataset);
        let now = rows.find_map(|row| alarm(row, overview.now));
        match (known, now) {
            (None, Some(alarm)) => {
                run(host, "failed", &hooks.failed, &dataset, &alarm);
                host.store_json(&path, &alarm, 0o600)?;
            }
            (Some(alarm), None) => {
                run(host, "recovered", &hooks.recovered, &dataset, &alarm);
                host.disk.remove_file(&path)?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// What is to be told of a row: runs that fail, what is refused, a lag that is critical.
fn alarm(row: &Row, now: Timestamp) -> Option<Alarm> {
    let is_told = |kind: &str, health| match kind {
        "failing" | "refused" => true,
        "lag" | "silent" => health == Health::Critical,
        _ => false,
    };
    // One that nothing was ever done about is about to be set up.
    if row.last_success.is_none() && row.last_failure.is_none() {
        return None;
    }
    let mut problems = row.problems.iter();
    let problem = problems.find(|problem| is_told(problem.kind, problem.health))?;
    let rule = row.refused.first().filter(|_| problem.kind == "refused");
    let is_run = matches!(problem.kind, "failing" | "refused");
    let failure = row.last_failure.as_ref().filter(|_| is_run);
    Some(Alarm {
        format: 1,
        since: row.failing_since.or(row.caught_up).unwrap_or(now),
        reason: rule.map_or_else(|| problem.kind.to_owned(), String::clone),
        message: failure.map_or_else(|| problem.what.clone(), |(_, why)| why.clone()),
    })
}

fn path(host: &Host, dataset: &DataSet) -> PathBuf {
    host.record_path("alarms", dataset)
}

fn run(host: &Host, name: &str, hook: &[String], dataset: &DataSet, alarm: &Alarm) {
    let Some((program, arguments)) = hook.split_first() else {
        return;
    };
    let invocation = arguments
        .iter()
        .fold(Invocation::new(program), Invocation::arg)
        .arg(dataset.to_string())
        .arg(&alarm.reason)
        .arg(alarm.since.to_string())
        .arg(&alarm.message);
    if let Err(error) = run_limited(host, &invocation) {
        tracing::warn!(%error, "hooks.{name} failed");
    }
}

/// Runs a program that is ended where it takes too long.
fn run_limited(host: &Host, invocation: &Invocation) -> Result<()> {
    let cancel = Cancel::new();
    let (ended, ends) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        let stop = cancel.clone();
        scope.spawn(move || {
            if let Err(RecvTimeoutError::Timeout) = ends.recv_timeout(LIMIT) {
                stop.cancel();
            }
        });
        let hear = |line: &str| tracing::debug!("{line}");
        let finished = host
            .launcher
            .run_watched(invocation, &Watch::new(&cancel, &hear));
        drop(ended);
        match finished {
            Err(error) if error.kind() == ErrorKind::Cancelled => Err(Error::new(
                ErrorKind::Child,
                format!("it was ended after {} s", LIMIT.as_secs()),
            )),
            finished => finished?.success(invocation).map(drop),
        }
    })
}

#[cfg(test)]
mod tests;
