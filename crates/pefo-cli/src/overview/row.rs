//! One data set, on the active with one peer: how far it is, how long ago that was proved, what is amiss.

use std::time::Duration;

use pefo_core::clock::Timestamp;
use pefo_core::generation::{Accepted, DataSet, Position};
use pefo_core::pairing::Introduction;
use pefo_core::reign::{Reign, Role};
use pefo_core::run::RunRecord;
use pefo_core::{Certname, Result, record};

use super::Problem;
use super::course::Course;
use super::limits::Limits;
use crate::code::EnvironmentName;
use crate::host::Host;
use crate::outcome::Health;
use crate::pipeline::apply::{CaughtUp, caught_up_path};
use crate::pipeline::{ack, code};
use crate::schedule::next_due;

/// What is known of one data set.
#[derive(Debug)]
#[non_exhaustive]
pub struct Row {
    /// Which.
    pub dataset: DataSet,
    /// On the active: with which peer.
    pub peer: Option<Certname>,
    /// The newest generation that was accepted here, or delivered to the peer.
    pub received: Option<Position>,
    /// The newest generation that was applied.
    pub applied: Option<Position>,
    /// Time since the passive last proved that it had applied everything.
    pub lag: Option<Duration>,
    /// When that was, by this host's clock; no earlier than the reign under which it counts.
    pub caught_up: Option<Timestamp>,
    /// From when on the lag is a warning, or critical.
    pub limits: Limits,
    /// When a run about it ended well last.
    pub last_success: Option<Timestamp>,
    /// When one did not, and why.
    pub last_failure: Option<(Timestamp, String)>,
    /// Since when each run about it fails.
    pub failing_since: Option<Timestamp>,
    /// How long the last run took that ended well.
    pub last_duration: Option<Duration>,
    /// How large the newest full generation is, in bytes.
    pub generation_bytes: Option<u64>,
    /// The rules that hold something back now.
    pub refused: Vec<String>,
    /// When it is scheduled next; nothing where a watch does it.
    pub next_due: Option<Timestamp>,
    /// How many seconds the peer's clock is ahead of this host's, at least; negative where it is behind. `None`
    /// where nothing tells that they differ.
    pub skew_seconds: Option<i64>,
    /// What is amiss, the worst first.
    pub problems: Vec<Problem>,
    /// How it does.
    pub health: Health,
}

impl Row {
    /// Its name in plain labels: the data set, on the active with the peer.
    pub fn label(&self) -> String {
        match &self.peer {
            Some(peer) => format!("{}@{peer}", self.dataset),
            None => self.dataset.to_string(),
        }
    }
}

/// What all rows are made from.
pub(super) struct Gathering<'a> {
    pub(super) host: &'a Host,
    pub(super) role: Role,
    pub(super) reign: &'a Reign,
    pub(super) now: Timestamp,
}

impl Gathering<'_> {
    /// The row of a passive.
    pub(super) fn passive(&self, dataset: &DataSet, course: &Course) -> Result<Row> {
        let host = self.host;
        let accepted = Accepted::load(&host.record_path("accepted", dataset))?;
        let caught_up: Option<CaughtUp> = record::load(&caught_up_path(host, dataset))?;
        let mut row = self.row(dataset, course);
        row.received = accepted.as_ref().map(|accepted| accepted.position);
        row.applied = accepted.and_then(|accepted| accepted.applied);
        if let Some(caught_up) = &caught_up {
            // Made by the active's clock before it was found here: ahead is ahead by so much at least.
            row.skew_seconds = seconds(caught_up.heartbeat.ahead_of(caught_up.at));
        }
        self.prove(&mut row, caught_up.map(|caught_up| caught_up.at));
        row.refused = ack::own(host, dataset)?
            .map(|ack| ack.refused)
            .unwrap_or_default();
        if row.applied.is_none() {
            row.problems.push(Problem {
                kind: "unproved",
                health: Health::Critical,
                what: "nothing was ever applied here".to_owned(),
                hint: format!("'pefo push {dataset}' on {}, then 'pefo apply {dataset}' here; a spare without a CA is seeded first ('pefo ca push --seed')", self.reign.certname),
            });
        } else if row.lag.is_none() {
            self.unproved(
                &mut row,
                self.reign.since,
                format!(
                    "no heartbeat of {} was ever caught up with",
                    self.reign.certname
                ),
                format!(
                    "look at 'pefo status' on {}: does it push?",
                    self.reign.certname
                ),
            );
        }
        if *dataset == DataSet::Code
            && let Some(noted) = code::noted(host)?
            && !noted.drifted.is_empty()
        {
            let names: Vec<&str> = noted.drifted.iter().map(EnvironmentName::as_str).collect();
            row.problems.push(Problem {
                kind: "drift",
                health: Health::Warning,
                what: format!("not as on {}: {}", self.reign.certname, names.join(", ")),
                hint: "'pefo code status' says how; 'pefo code deploy' on the one that is behind"
                    .to_owned(),
            });
        }
        self.judge(&mut row, course, || {
            format!("is {} up, and does it push? 'pefo status' there, then 'pefo apply {dataset}' here tells what holds it up", self.reign.certname)
        });
        Ok(row)
    }

    /// The row of an active with a peer.
    pub(super) fn active(
        &self,
        dataset: &DataSet,
        peer: &Introduction,
        course: &Course,
    ) -> Result<Row> {
        let host = self.host;
        let delivered = host.delivered(&peer.certname, dataset)?;
        let ack = ack::known(host, peer, dataset)?;
        let mut row = self.row(dataset, course);
        row.peer = Some(peer.certname.clone());
        row.received = delivered.as_ref().map(|delivered| delivered.position);
        row.applied = ack.as_ref().and_then(|ack| ack.applied);
        let is_applied = delivered.is_none() || row.applied >= row.received;
        let delivered_at = delivered.map(|delivered| delivered.time);
        if let Some(heartbeat) = ack.as_ref().and_then(|ack| ack.heartbeat) {
            // A heartbeat whose head waits proves no more than that all was applied before that came.
            let waits_since = delivered_at.filter(|_| !is_applied);
            self.prove(
                &mut row,
                Some(waits_since.map_or(heartbeat, |since| since.min(heartbeat))),
            );
        } else {
            let since = delivered_at.unwrap_or(self.reign.since);
            self.unproved(
                &mut row,
                since.max(self.reign.since),
                format!("{} has never said what it has applied", peer.certname),
                format!("'pefo status' on {}: does it apply? Its word comes with the next 'pefo push {dataset}' here", peer.certname),
            );
        }
        if let Some(ack) = ack {
            // It was said by the peer's clock, after the heartbeat was made here and before now.
            let ahead = ack.time.ahead_of(self.now);
            let behind = ack.heartbeat.unwrap_or(ack.time).ahead_of(ack.time);
            row.skew_seconds = seconds(ahead).or(seconds(behind).map(|seconds| -seconds));
            if !ack.refused.is_empty() {
                let what = format!("the passive refused: {}", ack.refused.join(", "));
                row.last_failure = Some((ack.time.min(self.now), what));
            }
            row.refused = ack.refused;
        }
        self.judge(&mut row, course, || {
            format!(
                "'pefo status' on {}: does it apply, and what does it refuse?",
                peer.certname
            )
        });
        Ok(row)
    }

    /// What the run records and the configuration tell.
    fn row(&self, dataset: &DataSet, course: &Course) -> Row {
        let config = &self.host.config;
        let limits = Limits::of(config, self.role, dataset, course, self.now);
        let due = || next_due(config, self.role, dataset, self.now);
        let reason = |record: &RunRecord| {
            let error = record.error.clone();
            (
                record.ended,
                error.unwrap_or_else(|| "no reason was recorded".to_owned()),
            )
        };
        Row {
            dataset: dataset.clone(),
            peer: None,
            received: None,
            applied: None,
            lag: None,
            caught_up: None,
            limits,
            last_success: course.last_success.as_ref().map(|record| record.ended),
            last_failure: course.last_failure.as_ref().map(reason),
            failing_since: course.failing_since,
            last_duration: course
                .last_success
                .as_ref()
                .map(|record| record.ended.since(record.began)),
            generation_bytes: self.host.generation_bytes(dataset),
            refused: Vec::new(),
            next_due: (!course.is_watched).then(due).flatten(),
            skew_seconds: None,
            problems: Vec::new(),
            health: Health::Ok,
        }
    }

    /// Notes when all was last proved to be applied. What was proved under an earlier reign says nothing of this
    /// one, whose own time begins with it.
    fn prove(&self, row: &mut Row, at: Option<Timestamp>) {
        row.caught_up = at.map(|at| at.max(self.reign.since.min(self.now)));
        row.lag = row.caught_up.map(|at| self.now.since(at));
    }

    /// Nothing was ever proved, since a time from which it could have been.
    fn unproved(&self, row: &mut Row, since: Timestamp, what: String, hint: String) {
        let health = row.limits.judge(self.now.since(since));
        if health > Health::Ok {
            row.problems.push(Problem {
                kind: "silent",
                health,
                what,
                hint,
            });
        }
    }

    /// What is amiss, and how bad all of it is.
    fn judge(&self, row: &mut Row, course: &Course, late: impl FnOnce() -> String) {
        self.judge_runs(row, course);
        if let Some(lag) = row.lag
            && row.limits.judge(lag) > Health::Ok
        {
            let key = self.host.config.status.key(&row.dataset);
            row.problems.push(Problem {
                kind: "lag",
                health: row.limits.judge(lag),
                what: format!(
                    "nothing was proved to be applied for {} s, more than {} s",
                    lag.as_secs(),
                    row.limits.warn.as_secs()
                ),
                hint: format!("{}; where that is usual, set [status] {key}", late()),
            });
        }
        let limit = self.host.config.status.warn_skew.duration().as_secs();
        if let Some(skew) = row.skew_seconds.filter(|skew| skew.unsigned_abs() > limit) {
            let way = if skew > 0 { "ahead of" } else { "behind" };
            row.problems.push(Problem {
                kind: "skew",
                health: Health::Warning,
                what: format!(
                    "the peer's clock is at least {} s {way} this host's",
                    skew.unsigned_abs()
                ),
                hint: "set both by NTP ('chronyc tracking', 'timedatectl'): certificates and CRLs are valid by the clock".to_owned(),
            });
        }
        row.problems
            .sort_by_key(|problem| std::cmp::Reverse(problem.health));
        row.health = row
            .problems
            .iter()
            .map(|problem| problem.health)
            .max()
            .unwrap_or(Health::Ok);
    }

    fn judge_runs(&self, row: &mut Row, course: &Course) {
        let dataset = &row.dataset;
        let command = match self.role {
            Role::Active => format!("pefo push {dataset}"),
            Role::Passive => format!("pefo apply {dataset}"),
        };
        // What a run here held back is told with the run.
        if !row.refused.is_empty() && (self.role == Role::Active || course.failing_since.is_none())
        {
            let (whose, there) = match self.role {
                Role::Active => ("the passive refused", " there"),
                Role::Passive => ("held back here", ""),
            };
            row.problems.push(Problem {
                kind: "refused",
                health: Health::Warning,
                what: format!("{whose}: {}", row.refused.join(", ")),
                hint: format!(
                    "'pefo apply {dataset} --dry-run'{there} shows what; --accept RULE overrules by name where that is right"
                ),
            });
        }
        let health = match (course.failing_since, &course.last_success) {
            (None, Some(_)) => return,
            (Some(_), Some(_)) => Health::Warning,
            (_, None) => Health::Critical,
        };
        let failure = course.last_failure.as_ref();
        let rule = failure.and_then(|record| record.rule.clone());
        if let Some(rule) = rule.clone()
            && !row.refused.contains(&rule)
        {
            row.refused.push(rule);
        }
        let why = failure.and_then(|record| record.error.as_deref());
        row.problems.push(Problem {
            kind: if rule.is_some() { "refused" } else { "failing" },
            health,
            what: match course.failing_since {
                Some(since) => {
                    format!("failing since {since}: {}", why.unwrap_or("no reason was recorded"))
                }
                None => "no run about it has ended well yet".to_owned(),
            },
            hint: match rule {
                Some(rule) => format!(
                    "'{command} --dry-run' shows what it is about; '--accept {rule}' overrules it by name where that is right"
                ),
                None => format!("'{command}' tells all of it, and 'pefo check' what is missing"),
            },
        });
    }
}

/// Whole seconds, where there are any.
fn seconds(duration: Duration) -> Option<i64> {
    i64::try_from(duration.as_secs())
        .ok()
        .filter(|seconds| *seconds > 0)
}
