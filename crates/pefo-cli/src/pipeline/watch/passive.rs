//! The passive's half: each batch that appears in the spool is verified and applied.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pefo_ca::Standby;
use pefo_core::disk::Beneath;
use pefo_core::generation::spool::{self, Form};
use pefo_core::generation::{Accepted, DataSet, Position, Verified};
use pefo_core::{Error, Result};

use super::arrivals::{Arrivals, Came, Kind};
use super::{Course, HEARTBEAT};
use crate::arguments::Change;
use crate::host::Host;
use crate::outcome::Report;
use crate::pipeline::apply::{self, Applied, Passive};
use crate::pipeline::{ack, ca, received, requests};

/// After so many batches a full generation is wanted, from which a restart is quicker.
const BATCHES: usize = 4096;
/// What was refused is looked at again after this, and so is what only time changes.
const WHOLE_AGAIN: Duration = Duration::from_secs(60);

/// Applies what comes.
///
/// # Errors
/// `Locked`, `WrongRole` once this host is promoted, `Io` where the spool cannot be watched.
pub(super) fn run(host: &Host) -> Result<Report> {
    let _lock = host.lock("apply-ca")?;
    let mut follower = Follower {
        host,
        standby: None,
        accepted: None,
        refused: BTreeSet::new(),
        batches: 0,
        awaits_head: false,
        compared: None,
        course: Course::default(),
    };
    let mut arrivals = Arrivals::start(&host.config.site.spool_dir, follower.places()?)?;
    let mut came = Came::ANYTHING;
    let mut passive = Passive::open(host)?;
    loop {
        if !passive.is_current() {
            passive = Passive::open(host)?;
        }
        follower.awaits_head |= came.heartbeats;
        let ended = follower.round(&passive);
        let position = follower.accepted.as_ref().map(|accepted| accepted.position);
        follower.course.note(host, position, ended.as_ref().err());
        if let Err(error) = ended {
            tracing::warn!(%error, "what was received is not applied whole");
            // What it was planned upon may not be what stands there.
            follower.standby = None;
        }
        if came.requests
            && let Err(error) = requests::answer_pending(host, Some(&DataSet::Ca))
        {
            tracing::warn!(%error, "requests of the active wait on");
        }
        came = arrivals.wait(HEARTBEAT)?;
    }
}

struct Follower<'a> {
    host: &'a Host,
    standby: Option<Standby>,
    accepted: Option<Accepted>,
    /// The rules by which something is held back.
    refused: BTreeSet<String>,
    /// Batches since the last full generation.
    batches: usize,
    /// A heartbeat came whose head is not applied yet.
    awaits_head: bool,
    /// When both CAs were last compared as wholes, by the clock that never goes back.
    compared: Option<Duration>,
    course: Course,
}

impl Follower<'_> {
    /// Where something may come.
    fn places(&self) -> Result<Vec<(Kind, PathBuf)>> {
        let spool_dir = &self.host.config.site.spool_dir;
        let generations = spool::dataset_dir(spool_dir, &DataSet::Ca);
        let mut places = vec![
            (Kind::Generations, generations),
            (Kind::Heartbeats, spool_dir.join("heartbeats")),
        ];
        for peer in self.host.peers()? {
            let requests = spool::requests_dir(spool_dir, &peer.certname);
            places.push((Kind::Requests, requests));
        }
        Ok(places)
    }

    /// Takes all that is there.
    fn round(&mut self, passive: &Passive<'_>) -> Result<()> {
        let begins = self.compared.is_none();
        let is_due = self.compared.is_some_and(|at| {
            let waits = !self.refused.is_empty() || self.standby.is_none();
            waits && self.host.clock.monotonic().saturating_sub(at) >= WHOLE_AGAIN
        });
        if begins || is_due {
            self.compare(passive)?;
        }
        let mut has_news = false;
        while let Some((dir, position, form)) = self.next()? {
            match form {
                Form::Full => self.compare(passive)?,
                Form::Batch => has_news |= self.batch(passive, &dir, position)?,
            }
        }
        if has_news {
            self.acknowledge()?;
        }
        if self.awaits_head && apply::note_caught_up(self.host, &DataSet::Ca)? {
            self.awaits_head = false;
        }
        Ok(())
    }

    fn next(&self) -> Result<Option<(Beneath, Position, Form)>> {
        let Some(dir) = received::spool_dir(self.host, &DataSet::Ca)? else {
            return Ok(None);
        };
        let accepted = self.accepted.as_ref().map(|accepted| accepted.position);
        let next = received::next(&dir, accepted)?;
        Ok(next.map(|(position, form)| (dir, position, form)))
    }

    /// Compares both CAs as wholes, with all that was received by now.
    fn compare(&mut self, passive: &Passive<'_>) -> Result<()> {
        self.compared = Some(self.host.clock.monotonic());
        self.standby = None;
        let mut standby = None;
        let mut batches = 0;
        let ended = apply::round(passive, &DataSet::Ca, |received| {
            let compared = ca::compare(self.host, received, &Change::default(), false)?;
            standby = compared.standby;
            batches = received.batches().len();
            Ok(compared.applied)
        });
        self.accepted = Accepted::load(&self.host.record_path("accepted", &DataSet::Ca))?;
        let report = match ended {
            // Nothing was received yet: a passive that waits for its first generation is well.
            Err(error) if error.kind() == pefo_core::ErrorKind::NotFound => return Ok(()),
            ended => ended?,
        };
        self.refused = rules(&report.errors);
        (self.standby, self.batches) = (standby, batches);
        report.errors.into_iter().next().map_or(Ok(()), Err)
    }

    /// Applies one batch; tells whether the active is to hear of it.
    fn batch(&mut self, passive: &Passive<'_>, dir: &Beneath, position: Position) -> Result<bool> {
        let (host, dataset) = (self.host, DataSet::Ca);
        let store = host.store(&dataset);
        let gate = passive.gate(&dataset, self.accepted.as_ref());
        let batch = match gate.take(dir, position, Form::Batch, &store, &host.disk) {
            Ok(batch) => batch,
            Err(error) => return Err(apply::not_taken(host, &dataset, error, None)),
        };
        let applied = match &mut self.standby {
            Some(standby) => ca::follow(host, standby, &batch),
            None => Ok(None),
        };
        match applied {
            Ok(Some(applied)) => self.record(&batch, &store, &applied).map(|()| true),
            Ok(None) => self.compare(passive).map(|()| false),
            // Somebody came between.
            Err(error) if error.rule() == Some("ca-moved") => {
                tracing::info!(%error, "both CAs are compared as wholes");
                self.compare(passive).map(|()| false)
            }
            Err(error) => {
                tracing::warn!(%error, %position, "both CAs are compared as wholes");
                self.compare(passive).map(|()| false)
            }
        }
    }

    fn record(&mut self, batch: &Verified, store: &Path, applied: &Applied) -> Result<()> {
        batch.keep(store, &self.host.disk)?;
        self.batches += 1;
        self.refused.extend(rules(&applied.errors));
        let before = self.accepted.as_ref().and_then(|accepted| accepted.applied);
        let applied = if self.refused.is_empty() {
            Some(batch.position())
        } else {
            before
        };
        let accepted = batch.accepted(applied);
        accepted.store(
            &self.host.disk,
            &self.host.record_path("accepted", &DataSet::Ca),
        )?;
        tracing::debug!(position = %batch.position(), "applied");
        self.accepted = Some(accepted);
        Ok(())
    }

    fn acknowledge(&self) -> Result<()> {
        let compaction = || format!("{} batches since the last full generation", self.batches);
        let reconcile = (self.batches >= BATCHES).then(compaction);
        let refused = self.refused.iter().cloned().collect();
        ack::publish(self.host, &DataSet::Ca, reconcile, refused).map(drop)
    }
}

fn rules(errors: &[Error]) -> BTreeSet<String> {
    errors
        .iter()
        .filter_map(|error| error.rule().map(str::to_owned))
        .collect()
}
