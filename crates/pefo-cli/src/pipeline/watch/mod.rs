//! `pefo ca watch`, and `pefo run`, which watches the classifier too: what cron's push and apply do every few
//! minutes, in milliseconds and for as long as it runs, in whatever role this host comes to be.
//!
//! On the active ([`active`]) hints from inotify become batches, and one thread for each peer sends them
//! over a session that stays open ([`line`]). On the passive ([`passive`]) each batch that appears in the
//! spool is verified and applied. Nothing rests on either of them: whatever happened while one of them was
//! away is found by comparing digests when it is back, and both may be killed at any time.

mod active;
mod arrivals;
mod child;
mod classifier;
mod known;
mod line;
mod notices;
mod numbers;
mod outbox;
mod pace;
mod passive;

use std::time::Duration;

use pefo_core::cancel::Cancel;
use pefo_core::clock::Timestamp;
use pefo_core::generation::{DataSet, Position};
use pefo_core::reign::Role;
use pefo_core::run::{Outcome, RunRecord};
use pefo_core::{Error, ErrorKind, Result};

use super::apply::stamps;
use super::requests;
use crate::bulletin;
use crate::health;
use crate::host::Host;
use crate::original::{self, Status};
use crate::outcome::{Report, original_script, outcome_of};
use crate::reigns::{look, pause};

pub use active::{Active, Feed};
pub use child::compare;
pub use known::{FULL_AGAIN, Known, Standing};
pub use outbox::Parcel;
pub use passive::Follower;

/// How often an active that has nothing to send says so, and looks for what its peers say.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// How often it is looked whether a host that rests may go on.
const RESTING: Duration = Duration::from_secs(1);
/// And how often while its role is changing.
const CHANGING: Duration = Duration::from_millis(50);

/// Watches until it is stopped, in whatever role this host is.
///
/// # Errors
/// `Locked` where another run does this host's part; `Fenced` once its reign has ended; what makes going on
/// pointless.
pub fn run(host: &Host) -> Result<Report> {
    bulletin::while_in(host, || parts(host, |role| one(host, role)))
}

/// Watches all there is to watch until it is stopped: the CA, and the classifier where one is
/// configured.
///
/// # Errors
/// As [`run`].
pub fn run_all(host: &Host) -> Result<Report> {
    let cancel = Cancel::new();
    std::thread::scope(|scope| {
        scope.spawn(|| health::serve(host, &cancel));
        let ended = bulletin::while_in(host, || parts(host, |role| both(host, role)));
        cancel.cancel();
        ended
    })
}

fn both(host: &Host, role: Role) -> Result<Report> {
    let cancel = Cancel::new();
    std::thread::scope(|scope| {
        if let Some(settings) = &host.config.classifier {
            let poll = Duration::from_secs(settings.poll_seconds.into());
            let cancel = &cancel;
            scope.spawn(move || classifier::run(host, role, poll, cancel));
        }
        let ended = one(host, role);
        cancel.cancel();
        ended
    })
}

fn one(host: &Host, role: Role) -> Result<Report> {
    match role {
        Role::Active => active::run(host),
        Role::Passive => passive::run(host),
    }
}

/// Does the part of this host's role, and goes on with the other one's when that has changed.
fn parts(host: &Host, mut part: impl FnMut(Role) -> Result<Report>) -> Result<Report> {
    loop {
        look(host)?;
        let stamps = stamps(host);
        let (station, _) = host.station()?;
        let ended = match part(station.role) {
            Ok(report) => return Ok(report),
            Err(error) => error,
        };
        let rests = ended.rule() == Some(pause::PAUSED);
        let speaks_of_role = matches!(ended.kind(), ErrorKind::WrongRole | ErrorKind::Fenced);
        if !rests && !speaks_of_role {
            return Err(ended);
        }
        until_it_may_go_on(host)?;
        // Nothing has changed: what ended it would end it again.
        if !rests && stamps == self::stamps(host) {
            return Err(ended);
        }
    }
}

/// Waits while this host is paused or its role is changing.
fn until_it_may_go_on(host: &Host) -> Result<()> {
    loop {
        let (station, _) = host.station()?;
        if station.changing.is_some() {
            // What was broken off is asked for again by the one who waits for it.
            if let Err(error) = requests::answer_pending(host, None) {
                tracing::warn!(%error, "requests of the active wait on");
            }
            host.clock.wait(CHANGING);
        } else if pause::paused(host)?.is_some() {
            host.clock.wait(RESTING);
        } else {
            return host.require(station.role).map(drop);
        }
    }
}

/// Leaves a run record where how it goes has changed, and tells it: thousands of events are not thousands of runs.
struct Course {
    command: &'static str,
    /// The original module's script that did this.
    script: &'static str,
    dataset: DataSet,
    last: Option<Ended>,
}

/// How it goes.
#[derive(Clone, PartialEq, Eq)]
struct Ended {
    outcome: Outcome,
    error: Option<String>,
    rule: Option<String>,
}

impl Ended {
    const WELL: Self = Self {
        outcome: Outcome::Ok,
        error: None,
        rule: None,
    };

    fn by(error: &Error) -> Self {
        Self {
            outcome: outcome_of(error.kind()),
            error: Some(error.to_string()),
            rule: error.rule().map(str::to_owned),
        }
    }
}

impl Course {
    /// Of what `command` does for a data set; nothing is known yet.
    fn of(command: &'static str, dataset: DataSet) -> Self {
        Self {
            command,
            script: original_script(command),
            dataset,
            last: None,
        }
    }

    /// Of the CA's watch.
    fn of_ca(role: Role) -> Self {
        let instead_of = match role {
            Role::Active => "ca push",
            Role::Passive => "ca apply",
        };
        Self {
            script: original_script(instead_of),
            ..Self::of("ca watch", DataSet::Ca)
        }
    }

    /// Notes that it goes well again, where it did not.
    fn goes_on(&mut self, host: &Host) {
        if self.last.as_ref().is_some_and(|last| *last != Ended::WELL) {
            self.note(host, None, None);
        }
    }

    fn note(&mut self, host: &Host, position: Option<Position>, error: Option<&Error>) {
        let ended = error.map_or(Ended::WELL, Ended::by);
        if self.last.as_ref() != Some(&ended) {
            self.record(host, host.clock.now(), position, ended);
        }
    }

    /// Notes a run that did something and went well.
    fn ran(&mut self, host: &Host, began: Timestamp, position: Option<Position>) {
        self.record(host, began, position, Ended::WELL);
    }

    fn record(&mut self, host: &Host, began: Timestamp, position: Option<Position>, ended: Ended) {
        let record = RunRecord {
            format: 1,
            command: self.command.to_owned(),
            dataset: Some(self.dataset.clone()),
            position,
            began,
            ended: host.clock.now(),
            outcome: ended.outcome,
            error: ended.error.clone(),
            rule: ended.rule.clone(),
            accepted: std::collections::BTreeSet::new(),
        };
        if let Err(error) = record.store(&host.disk, &host.state("runs")) {
            tracing::warn!(%error, "how the watch goes was not recorded");
        }
        self.tell(host, position, &ended);
        self.last = Some(ended);
    }

    fn tell(&self, host: &Host, position: Option<Position>, ended: &Ended) {
        let dataset = &self.dataset;
        let was_bad = self.last.as_ref().is_some_and(|it| *it != Ended::WELL);
        let what = match (&ended.error, position) {
            (Some(error), _) => format!("{dataset}: {error}"),
            (None, _) if was_bad => format!("{dataset}: goes well again"),
            (None, Some(position)) => format!("{dataset}: in step at {position}"),
            (None, None) => format!("{dataset}: goes well"),
        };
        original::tell(host, self.script, Status::of(ended.outcome), &what);
    }
}
