//! The classifier's part of `pefo run`: a change on the active is at the passive within seconds.
//!
//! The active asks its classifier and looks at the bytes of the answer; only other bytes are exported and
//! pushed. The passive imports what appears in the spool. Both go through the same gates as the commands, and
//! neither ends because something went wrong: they wait longer and try again, and say so once.

use std::time::Duration;

use pefo_core::cancel::Cancel;
use pefo_core::clock::Timestamp;
use pefo_core::generation::spool;
use pefo_core::generation::{Accepted, DataSet, Position};
use pefo_core::reign::Role;
use pefo_core::run::Outcome;
use pefo_core::{Error, ErrorKind, Result};

use super::arrivals::{Arrivals, Kind};
use super::pace::Pace;
use super::{CHANGING, Course, HEARTBEAT};
use crate::arguments::Change;
use crate::host::Host;
use crate::outcome::Report;
use crate::pipeline::push::PushOptions;
use crate::pipeline::{apply, nc, push, received};
use crate::reigns::pause;

/// A push is made after this long even where nothing was changed: a peer may ask for it to be sent again.
const ANYWAY: Duration = Duration::from_secs(900);

/// A peer that has not got what there is is tried again after this.
const PEER_AGAIN: Duration = Duration::from_secs(15);

/// Keeps the classifier in step until stop is said or the reign ends; what ended it for good is logged.
pub(super) fn run(host: &Host, role: Role, poll: Duration, cancel: &Cancel) {
    loop {
        let ended = match role {
            Role::Active => active(host, poll, cancel),
            Role::Passive => passive(host, cancel),
        };
        match ended {
            Err(error) if error.kind() == ErrorKind::Cancelled => return,
            Err(error) if is_over(&error) => {
                return tracing::error!(%error, "the classifier is not watched any more");
            }
            Err(error) => tracing::error!(%error, "the classifier is not watched for a while"),
            Ok(()) => {}
        }
        if cancel.wait(&*host.clock, HEARTBEAT).is_err() {
            return;
        }
    }
}

/// What a later round can not mend.
fn is_over(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::WrongRole | ErrorKind::Fenced)
}

fn active(host: &Host, poll: Duration, cancel: &Cancel) -> Result<()> {
    let (mut course, mut pace) = (
        Course::of("nc push", DataSet::Classifier),
        Pace::every(poll),
    );
    // When every peer was last known to have all there is.
    let mut in_step: Option<Duration> = None;
    loop {
        let began = host.clock.monotonic();
        let is_due = in_step.is_none_or(|at| began.saturating_sub(at) >= ANYWAY);
        let is_due = is_due || lacks(host)?;
        let ended = if is_due {
            Ok(false)
        } else {
            nc::is_unchanged(host)
        };
        // What the console takes; a peer that is slow, or away, is no reason to ask it less.
        let took = host.clock.monotonic().saturating_sub(began);
        let mut behind = None;
        let ended = match ended {
            Ok(true) => Ok(()),
            Ok(false) => {
                in_step = None;
                send(host, &mut course).map(|peers| match peers {
                    Some(error) => behind = Some(error),
                    None => in_step = Some(began),
                })
            }
            Err(error) => Err(error),
        };
        if let Some(error) = behind.take_if(|error| is_over(error)) {
            return Err(error);
        }
        match &ended {
            Err(error) if is_over(error) => return ended,
            // Somebody else does it just now; whether it went well is seen the next time.
            Err(error) if error.kind() == ErrorKind::Locked => {
                cancel.wait(&*host.clock, poll)?;
                continue;
            }
            Err(error) => tracing::warn!(%error, "the classifier's groups are not sent"),
            Ok(()) => {}
        }
        if let Some(error) = &behind {
            tracing::warn!(%error, "a peer has not got the classifier's groups");
        }
        course.note(host, None, ended.as_ref().err().or(behind.as_ref()));
        let wait = pace.wait(ended.is_ok(), took);
        let wait = behind.map_or(wait, |_| wait.max(PEER_AGAIN));
        cancel.wait(&*host.clock, wait)?;
    }
}

/// Whether a peer has nothing of this reign yet: it has come to be a passive since.
fn lacks(host: &Host) -> Result<bool> {
    let (_, reign) = host.station()?;
    for peer in host.peers()? {
        let delivered = host.delivered(&peer.certname, &DataSet::Classifier)?;
        if delivered.is_none_or(|delivered| delivered.position.epoch != reign.epoch) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Exports and pushes; gives why a peer has not got it.
fn send(host: &Host, course: &mut Course) -> Result<Option<Error>> {
    let began = host.clock.now();
    let report = push::run(
        host,
        &DataSet::Classifier,
        &Change::default(),
        PushOptions::default(),
    )?;
    Ok(tell(host, course, began, report).err())
}

/// Leaves a record of a run that did something; gives what it left undone.
fn tell(host: &Host, course: &mut Course, began: Timestamp, report: Report) -> Result<()> {
    let position = report.details["generation"]
        .as_str()
        .and_then(|text| text.parse::<Position>().ok());
    if report.outcome == Outcome::Ok {
        course.ran(host, began, position);
    }
    report.errors.into_iter().next().map_or(Ok(()), Err)
}

fn passive(host: &Host, cancel: &Cancel) -> Result<()> {
    let dataset = DataSet::Classifier;
    let spool_dir = &host.config.site.spool_dir;
    let place = spool::dataset_dir(spool_dir, &dataset);
    let public = host.state("public");
    let places = vec![(Kind::Generations, place), (Kind::Station, public)];
    let mut arrivals = Arrivals::start(spool_dir, places)?;
    let (mut course, mut pace) = (Course::of("nc restore", dataset), Pace::every(HEARTBEAT));
    // What was refused or failed is tried again after a while, or at once where something newer came.
    let mut failed: Option<(Option<Position>, Duration)> = None;
    loop {
        let began = host.clock.monotonic();
        // Whoever may write to the spool decides what a look at it says: never a reason to end.
        let found = next(host);
        let position = found.as_ref().ok().copied().flatten();
        let waits = failed.is_some_and(|(at, until)| at == position && began < until);
        let ended = match found {
            _ if waits => None,
            Ok(None) => apply::note_caught_up(host, &DataSet::Classifier)
                .err()
                .map(Err),
            Ok(Some(_)) => Some(restore(host, &mut course)),
            Err(error) => Some(Err(error)),
        };
        if let Some(ended) = ended {
            match &ended {
                Err(error) if is_over(error) => return ended,
                Err(error) => tracing::warn!(%error, "what was received is not imported"),
                Ok(()) => {}
            }
            course.note(host, position, ended.as_ref().err());
            let now = host.clock.monotonic();
            let wait = pace.wait(ended.is_ok(), now.saturating_sub(began));
            failed = ended.is_err().then_some((position, now + wait));
        }
        arrivals.wait_unless(HEARTBEAT, &*host.clock, &|| cancel.check())?;
        cancel.check()?;
        until_it_goes_on(host, cancel)?;
    }
}

/// Waits while this host is no passive that does its part: the CA's half ends with that, and says stop, unless all
/// is as it was before it has seen it.
fn until_it_goes_on(host: &Host, cancel: &Cancel) -> Result<()> {
    while host.require(Role::Passive).is_err() || pause::paused(host)?.is_some() {
        cancel.wait(&*host.clock, CHANGING)?;
    }
    Ok(())
}

/// What is in the spool, or was accepted, and is not imported yet.
fn next(host: &Host) -> Result<Option<Position>> {
    let dataset = DataSet::Classifier;
    let accepted = Accepted::load(&host.record_path("accepted", &dataset))?;
    let position = accepted.as_ref().map(|accepted| accepted.position);
    let epoch = host.station()?.1.epoch;
    let newer = match received::spool_dir(host, &dataset)? {
        Some(dir) => received::next(&dir, position, |_| true)?.map(|(position, _)| position),
        None => None,
    };
    let position = position.filter(|position| position.epoch == epoch);
    let is_applied = accepted.is_none_or(|accepted| accepted.applied == Some(accepted.position));
    Ok(newer.or(position.filter(|_| !is_applied)))
}

fn restore(host: &Host, course: &mut Course) -> Result<()> {
    let began = host.clock.now();
    let report = apply::run(host, &DataSet::Classifier, &Change::default())?;
    tell(host, course, began, report)
}
