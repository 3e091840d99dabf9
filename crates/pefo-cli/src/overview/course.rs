//! What the run records tell of a data set. Of a thousand records a few are read: the names tell the others.

use std::time::Duration;

use pefo_core::clock::Timestamp;
use pefo_core::generation::DataSet;
use pefo_core::reign::Role;
use pefo_core::run::{Outcome, RunRecord, Runs};

use crate::reigns::pause;

/// So many successes are looked at for the pace.
const PACE_OF: usize = 6;

/// How the runs about a data set went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Course {
    /// The newest run that ended well.
    pub last_success: Option<RunRecord>,
    /// The newest that did not.
    pub last_failure: Option<RunRecord>,
    /// When the first run ended that failed after the last success; `None` where the newest run went well.
    pub failing_since: Option<Timestamp>,
    /// The usual time from one success to the next: the median of the last few.
    pub pace: Option<Duration>,
    /// Whether the newest run was a watch's.
    pub is_watched: bool,
}

impl Course {
    /// Of one data set, on a host of this role.
    pub fn of(runs: &Runs, dataset: &DataSet, role: Role) -> Self {
        let mut course = Self::default();
        let mut is_first = true;
        // The oldest of those that failed after the last success.
        let mut first_failure = None;
        let mut successes = Vec::new();
        for run in runs.of(dataset) {
            // What the run comes to that held the lock is what counts.
            let Some(outcome) = run.outcome().filter(|it| *it != Outcome::Locked) else {
                continue;
            };
            if outcome.is_success() {
                if course.last_success.is_none() {
                    course.last_success = run.read();
                }
                successes.extend(run.began());
            } else if course.last_success.is_none() || course.last_failure.is_none() {
                let Some(record) = run.read().filter(|record| counts(record, role)) else {
                    continue;
                };
                if course.last_success.is_none() {
                    first_failure = Some(record.ended);
                }
                course.last_failure.get_or_insert(record);
            }
            let newest = course
                .last_success
                .as_ref()
                .or(course.last_failure.as_ref());
            if let Some(newest) = newest.filter(|_| std::mem::take(&mut is_first)) {
                course.is_watched = newest.command == "ca watch";
            }
            if successes.len() >= PACE_OF && course.last_failure.is_some() {
                break;
            }
        }
        course.failing_since = first_failure;
        course.pace = pace(&successes);
        course
    }
}

/// Whether a failure says something of how it goes: not where the operator's word kept the run from doing anything,
/// and not where it was in the other role.
fn counts(record: &RunRecord, role: Role) -> bool {
    let is_others = match record.command.rsplit(' ').next() {
        Some("push" | "dump" | "export") => role == Role::Passive,
        Some("apply" | "restore") => role == Role::Active,
        _ => false,
    };
    !is_others && record.rule.as_deref() != Some(pause::PAUSED)
}

/// The median of the gaps between the newest successes, the newest first.
fn pace(successes: &[Timestamp]) -> Option<Duration> {
    let newest = successes.iter().take(PACE_OF);
    let mut gaps: Vec<Duration> = newest
        .clone()
        .zip(newest.skip(1))
        .map(|(later, earlier)| later.since(*earlier))
        .collect();
    gaps.sort();
    gaps.get(gaps.len() / 2).copied()
}
