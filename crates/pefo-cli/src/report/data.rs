//! What a report tells, as a value: from this host's own state only.

use std::collections::BTreeMap;

use pefo_core::clock::Timestamp;
use pefo_core::generation::DataSet;
use pefo_core::reign::{Epoch, Role};
use pefo_core::run::{Outcome, RunRecord};
use pefo_core::{Certname, Result};
use serde::Serialize;

use crate::TOOL;
use crate::config::Span;
use crate::history;
use crate::host::Host;
use crate::outcome::Health;
use crate::overview::{Overview, Problem, Row};
use crate::pipeline::drill;

/// All that a report tells.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ReportData {
    /// This host.
    pub certname: Certname,
    /// What it is.
    pub role: Role,
    /// Under which reign.
    pub epoch: Epoch,
    /// Whose that is.
    pub holder: Certname,
    /// Since when.
    pub reigns_since: Timestamp,
    /// How this host does.
    pub health: Health,
    /// What keeps it from doing its part, what is unfinished, and what else is amiss with the host.
    pub amiss: Vec<Amiss>,
    /// The paired peers.
    pub peers: Vec<Certname>,
    /// What wrote this report.
    pub tool: String,
    /// The beginning of what is told of.
    pub from: Timestamp,
    /// Its end: when the report was made.
    pub until: Timestamp,
    /// Each data set; on the active once for each peer.
    pub datasets: Vec<Told>,
    /// The runs, the newest first.
    pub runs: Vec<RunTold>,
    /// What was refused, the newest first.
    pub refusals: Vec<Refusal>,
    /// The drills, the newest first.
    pub drills: Vec<DrillTold>,
}

/// One data set, now and over time.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Told {
    /// Which.
    pub dataset: DataSet,
    /// On the active: with which peer.
    pub peer: Option<Certname>,
    /// How it does.
    pub health: Health,
    /// Time since the passive last proved that it had applied everything.
    pub lag_seconds: Option<u64>,
    /// When a run about it ended well last.
    pub last_success: Option<Timestamp>,
    /// What is amiss with it, the worst first.
    pub amiss: Vec<Amiss>,
    /// Its lag over time.
    pub lag: Series,
}

/// Something that is amiss, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Amiss {
    /// What.
    pub what: String,
    /// What to do, where that does not stand there already.
    pub hint: Option<String>,
}

/// Values over time.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Series {
    /// In the order of time.
    pub points: Vec<Point>,
    /// From here on it is a warning.
    pub warn: Option<f64>,
    /// And from here on critical.
    pub critical: Option<f64>,
}

/// One value, in seconds; nothing where it was not known.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Point {
    /// When.
    pub at: Timestamp,
    /// How much.
    pub seconds: Option<f64>,
}

/// One run.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct RunTold {
    /// When it began.
    pub began: Timestamp,
    /// How long it took.
    pub took_ms: u64,
    /// The command.
    pub command: String,
    /// What it was about.
    pub dataset: Option<DataSet>,
    /// How it ended.
    pub outcome: Outcome,
    /// What went wrong.
    pub error: Option<String>,
    /// Rules that were overruled.
    pub overruled: Vec<String>,
}

/// A rule by which something was refused.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Refusal {
    /// Its name.
    pub rule: String,
    /// Of what.
    pub dataset: Option<DataSet>,
    /// How often.
    pub times: usize,
    /// When last.
    pub last: Timestamp,
    /// What was said then.
    pub reason: String,
}

/// One drill.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct DrillTold {
    /// When it began.
    pub began: Timestamp,
    /// How it ended.
    pub outcome: Outcome,
    /// How long the data's part of a takeover took.
    pub rto_ms: u64,
    /// How much could have been lost.
    pub rpo_seconds: Option<u64>,
    /// What failed, and why.
    pub failed: Vec<String>,
}

impl ReportData {
    /// Gathers what the last `since` has to tell.
    ///
    /// # Errors
    /// As [`Overview::gather`]; `Io`.
    pub fn gather(host: &Host, since: Span) -> Result<Self> {
        let overview = Overview::gather(host)?;
        let until = overview.now;
        let from = until.minus(since.duration());
        let runs = RunRecord::load_all(&host.state("runs"))?;
        let runs: Vec<RunRecord> = runs.into_iter().filter(|run| run.ended >= from).collect();
        let samples = history::load(host, from)?;
        let told = |row: &Row| {
            let points = samples.iter().filter_map(|sample| {
                let rows = &sample.rows;
                let mine = rows
                    .iter()
                    .find(|it| it.dataset == row.dataset && it.peer == row.peer)?;
                let seconds = mine.lag_seconds.map(|seconds| seconds as f64);
                Some(Point {
                    at: sample.at,
                    seconds,
                })
            });
            Told {
                dataset: row.dataset.clone(),
                peer: row.peer.clone(),
                health: row.health,
                lag_seconds: row.lag.map(|lag| lag.as_secs()),
                last_success: row.last_success,
                amiss: row.problems.iter().map(Amiss::of).collect(),
                lag: Series {
                    points: points.collect(),
                    warn: Some(row.limits.warn.as_secs_f64()),
                    critical: Some(row.limits.critical.as_secs_f64()),
                },
            }
        };
        let mut drills: Vec<DrillTold> = drill::load_all(host)?
            .into_iter()
            .filter(|drill| drill.began >= from)
            .map(DrillTold::of)
            .collect();
        drills.sort_by_key(|drill| std::cmp::Reverse(drill.began));
        let standing = overview.standing.lines().into_iter();
        let spaces = overview
            .spaces
            .iter()
            .filter_map(|space| space.problem.as_ref());
        let others = overview.problems.iter().chain(spaces);
        Ok(Self {
            certname: overview.certname.clone(),
            role: overview.role,
            epoch: overview.reign.epoch,
            holder: overview.reign.certname.clone(),
            reigns_since: overview.reign.since,
            health: overview.health(),
            amiss: standing
                .map(Amiss::told)
                .chain(others.map(Amiss::of))
                .collect(),
            datasets: overview.rows.iter().map(told).collect(),
            peers: overview.peers,
            tool: TOOL.to_owned(),
            from,
            until,
            refusals: refusals(&runs),
            runs: runs.into_iter().rev().map(RunTold::of).collect(),
            drills,
        })
    }
}

impl Amiss {
    fn of(problem: &Problem) -> Self {
        Self {
            what: problem.what.clone(),
            hint: Some(problem.hint.clone()),
        }
    }

    fn told(what: String) -> Self {
        Self { what, hint: None }
    }
}

impl RunTold {
    fn of(run: RunRecord) -> Self {
        Self {
            began: run.began,
            took_ms: milliseconds(run.ended.since(run.began)),
            command: run.command,
            dataset: run.dataset,
            outcome: run.outcome,
            error: run.error,
            overruled: run.accepted.into_iter().collect(),
        }
    }
}

impl DrillTold {
    fn of(drill: drill::Whole) -> Self {
        let failed = drill
            .datasets
            .iter()
            .filter(|part| !part.outcome.is_success());
        let failed = failed.map(|part| {
            let message = part
                .errors
                .first()
                .and_then(|error| error.get("message")?.as_str());
            message.map_or_else(|| part.dataset.to_string(), str::to_owned)
        });
        Self {
            began: drill.began,
            outcome: drill.outcome,
            rto_ms: drill.rto_ms,
            rpo_seconds: drill.rpo_seconds,
            failed: failed.collect(),
        }
    }
}

fn milliseconds(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// What was refused, by rule and data set, the newest first.
fn refusals(runs: &[RunRecord]) -> Vec<Refusal> {
    let mut found: BTreeMap<(String, Option<DataSet>), Refusal> = BTreeMap::new();
    for run in runs {
        let Some(rule) = &run.rule else {
            continue;
        };
        // The rule stands beside it.
        let reason = run.error.as_deref().unwrap_or("no reason was recorded");
        let reason = reason.strip_suffix(&format!(" [{rule}]")).unwrap_or(reason);
        let key = (rule.clone(), run.dataset.clone());
        let refusal = found.entry(key).or_insert_with(|| Refusal {
            rule: rule.clone(),
            dataset: run.dataset.clone(),
            times: 0,
            last: run.ended,
            reason: String::new(),
        });
        refusal.times += 1;
        refusal.last = run.ended;
        reason.clone_into(&mut refusal.reason);
    }
    let mut found: Vec<Refusal> = found.into_values().collect();
    found.sort_by(|a, b| b.last.cmp(&a.last).then_with(|| a.rule.cmp(&b.rule)));
    found
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn refusals_are_counted_by_rule_and_data_set_and_the_newest_comes_first() {
        let run = |second: i64, dataset: DataSet, error: Option<(&str, &str)>| {
            let time = Timestamp::from_unix_seconds(1_763_800_000 + second).unwrap();
            RunRecord {
                format: 1,
                command: "apply".to_owned(),
                dataset: Some(dataset),
                position: None,
                began: time,
                ended: time,
                outcome: error.map_or(Outcome::Ok, |_| Outcome::Refused),
                error: error.map(|(rule, reason)| format!("{reason} [{rule}]")),
                rule: error.map(|(rule, _)| rule.to_owned()),
                accepted: BTreeSet::new(),
            }
        };
        let rbac = || DataSet::Database("pe-rbac".to_owned());
        let runs = [
            run(
                1,
                DataSet::Ca,
                Some(("crl-rollback", "CRL number 3 is older than 5")),
            ),
            run(2, rbac(), Some(("db-version", "b.lab: no [x] y"))),
            run(
                3,
                DataSet::Ca,
                Some(("crl-rollback", "CRL number 4 is older than 5")),
            ),
            run(5, DataSet::Ca, None),
        ];
        let found = refusals(&runs);
        let told = found
            .iter()
            .map(|it| (it.rule.as_str(), it.times, it.reason.as_str()));
        assert_eq!(
            told.collect::<Vec<_>>(),
            [
                ("crl-rollback", 2, "CRL number 4 is older than 5"),
                ("db-version", 1, "b.lab: no [x] y"),
            ]
        );
    }
}
