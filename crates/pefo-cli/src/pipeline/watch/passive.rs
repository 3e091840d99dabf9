//! The passive's half: each batch that appears in the spool is verified and applied.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pefo_ca::Standby;
use pefo_core::disk::Beneath;
use pefo_core::generation::spool::{self, Form};
use pefo_core::generation::{Accepted, DataSet, Position, Verified};
use pefo_core::heartbeat::Heartbeat;
use pefo_core::reign::Role;
use pefo_core::{Error, Result};

use super::arrivals::{Arrivals, Came, Kind};
use super::child::compare_in_child;
use super::notices::Notices;
use super::{Beat, Course, HEARTBEAT};
use crate::arguments::Change;
use crate::host::Host;
use crate::outcome::Report;
use crate::pipeline::apply::{self, Passive};
use crate::pipeline::{ack, ca, received, requests};
use crate::reigns::pause;

/// After so many batches a full generation is wanted, from which a restart is quicker.
const BATCHES: usize = 4096;
/// What was refused is looked at again after this, and so is what only time changes.
const WHOLE_AGAIN: Duration = Duration::from_secs(300);

/// Applies what comes.
///
/// # Errors
/// `Locked`, `WrongRole` once this host is promoted, `Io` where the spool cannot be watched.
pub(super) fn run(host: &Host, beat: &dyn Beat) -> Result<Report> {
    let _lock = host.lock("apply-ca")?;
    let mut follower = Follower::new(host);
    let mut notices = Notices::of(host);
    let mut places = follower.places()?;
    places.push(notices.place());
    let mut arrivals = Arrivals::start(&host.config.site.spool_dir, places)?;
    let mut came = Came::ANYTHING;
    let mut passive = Passive::open(host)?;
    pause::check(host, &Change::default())?;
    loop {
        notices.look();
        if !passive.is_current() {
            passive = Passive::open(host)?;
            pause::check(host, &Change::default())?;
        }
        if came.heartbeats {
            follower.hears();
        }
        let ended = follower.round(&passive);
        follower.note(ended.as_ref().err());
        if came.requests
            && let Err(error) = requests::answer_pending(host, Some(&DataSet::Ca))
        {
            tracing::warn!(%error, "requests of the active wait on");
        }
        came = arrivals.wait_unless(HEARTBEAT, &*host.clock, &|| beat.beat())?;
    }
}

/// Takes what comes, and follows.
pub struct Follower<'a> {
    host: &'a Host,
    standby: Option<Standby>,
    accepted: Option<Accepted>,
    /// The rules by which something is held back.
    refused: Vec<String>,
    /// What is held back, as it is told: each begins with what it is about.
    held_back: BTreeSet<String>,
    /// What is held back was changed at the source.
    may_be_over: bool,
    /// Batches since the last full generation.
    batches: usize,
    /// A heartbeat came whose head is not applied yet.
    awaits_head: bool,
    /// What went wrong, or was left undone, when both CAs were last compared.
    problem: Option<Error>,
    /// What is next and was not taken: it waits until both CAs are compared again.
    stuck: Option<Position>,
    /// When both CAs were last compared as wholes, by the clock that never goes back.
    compared: Option<Duration>,
    course: Course,
}

impl<'a> Follower<'a> {
    /// Knows nothing yet: its first round compares both CAs as wholes.
    pub fn new(host: &'a Host) -> Self {
        Self {
            host,
            standby: None,
            accepted: None,
            refused: Vec::new(),
            held_back: BTreeSet::new(),
            may_be_over: false,
            batches: 0,
            awaits_head: false,
            problem: None,
            stuck: None,
            compared: None,
            course: Course::of_ca(Role::Passive),
        }
    }

    /// A heartbeat has come: its head is to be applied.
    pub fn hears(&mut self) {
        self.awaits_head = true;
    }

    /// Where something may come.
    fn places(&self) -> Result<Vec<(Kind, PathBuf)>> {
        let spool_dir = &self.host.config.site.spool_dir;
        let generations = spool::dataset_dir(spool_dir, &DataSet::Ca);
        let mut places = vec![
            (Kind::Station, self.host.state("public")),
            (Kind::Generations, generations),
            (Kind::Heartbeats, spool_dir.join("heartbeats")),
        ];
        for peer in self.host.peers()? {
            let requests = spool::requests_dir(spool_dir, &peer.certname);
            places.push((Kind::Requests, requests));
        }
        Ok(places)
    }

    /// Leaves a run record where how it goes has changed.
    fn note(&mut self, error: Option<&Error>) {
        let position = self.accepted.as_ref().map(|accepted| accepted.position);
        let error = error.or(self.problem.as_ref());
        self.course.note(self.host, position, error);
    }

    /// Takes all that is there. The caller holds the lock `apply-ca`.
    ///
    /// # Errors
    /// What the gate says of what is next; what an apply ended with. Whatever was applied by then stays.
    pub fn round(&mut self, passive: &Passive<'_>) -> Result<()> {
        self.take_all(passive).inspect_err(|error| {
            tracing::warn!(%error, "what was received is not applied whole");
            // What it was planned upon may not be what stands there.
            self.standby = None;
        })
    }

    fn take_all(&mut self, passive: &Passive<'_>) -> Result<()> {
        let begins = self.compared.is_none();
        let is_due = self.compared.is_some_and(|at| {
            let waits = !self.refused.is_empty() || self.standby.is_none() || self.stuck.is_some();
            waits && self.host.clock.monotonic().saturating_sub(at) >= WHOLE_AGAIN
        });
        if begins || is_due {
            self.compare(passive)?;
        }
        // Looked at before the spool is: what a heartbeat names stood there when it was sent.
        let heartbeat = if self.awaits_head {
            ack::newest_heartbeat(self.host)?
        } else {
            None
        };
        let mut has_news = false;
        while let Some((dir, position, form)) = self.next(passive)? {
            if self.stuck == Some(position) {
                break;
            }
            match form {
                Form::Full => self.compare(passive)?,
                Form::Batch => has_news |= self.batch(passive, &dir, position)?,
            }
            let accepted = self.accepted.as_ref().map(|accepted| accepted.position);
            if accepted < Some(position) {
                self.stuck = Some(position);
            }
        }
        if has_news {
            self.acknowledge()?;
        }
        if std::mem::take(&mut self.may_be_over) {
            self.compare(passive)?;
        }
        heartbeat.map_or(Ok(()), |heartbeat| self.hear(&heartbeat))
    }

    /// Tells the active how far this host is, by a heartbeat that came before all was taken.
    fn hear(&mut self, heartbeat: &Heartbeat) -> Result<()> {
        let (host, dataset) = (self.host, DataSet::Ca);
        if apply::note_caught_up(host, &dataset)? {
            self.awaits_head = false;
            // What was asked for and has not come is asked for on.
            let reconcile = ack::own(host, &dataset)?.and_then(|ack| ack.reconcile);
            return ack::publish(host, &dataset, reconcile, self.refused.clone()).map(drop);
        }
        let accepted = self.accepted.as_ref().map(|accepted| accepted.position);
        let head = heartbeat.heads.get(&dataset).copied();
        let is_missing = |head: &Position| accepted.is_none_or(|at| at < *head);
        if let Some(head) = head.filter(is_missing).filter(|_| self.stuck.is_none()) {
            // The next heartbeat asks again.
            self.awaits_head = false;
            let reconcile = Some(apply::vanished(head));
            ack::publish(host, &dataset, reconcile, self.refused.clone())?;
        }
        Ok(())
    }

    fn next(&self, passive: &Passive<'_>) -> Result<Option<(Beneath, Position, Form)>> {
        let Some(dir) = received::spool_dir(self.host, &DataSet::Ca)? else {
            return Ok(None);
        };
        let accepted = self.accepted.as_ref().map(|accepted| accepted.position);
        let may = |position| passive.may_take(&DataSet::Ca, position);
        let next = received::next(&dir, accepted, may)?;
        Ok(next.map(|(position, form)| (dir, position, form)))
    }

    /// Compares both CAs as wholes, with all that was received by now.
    fn compare(&mut self, passive: &Passive<'_>) -> Result<()> {
        let (host, dataset) = (self.host, DataSet::Ca);
        self.compared = Some(host.clock.monotonic());
        self.standby = None;
        self.stuck = None;
        let compared = compare_in_child(host)?;
        self.accepted = Accepted::load(&host.record_path("accepted", &dataset))?;
        // A passive that waits for its first generation of a reign is well.
        let epoch = passive.epoch();
        let accepted = self.accepted.as_ref();
        let Some(accepted) = accepted.filter(|accepted| accepted.position.epoch == epoch) else {
            return Ok(());
        };
        self.refused = ack::own(host, &dataset)?
            .map(|ack| ack.refused)
            .unwrap_or_default();
        if compared.can_follow {
            let received = passive.accepted(&dataset, accepted)?;
            self.batches = received.batches().len();
            self.standby = ca::standby(host, &received)?;
        }
        for error in &compared.errors {
            tracing::warn!(%error, "what was received is not applied whole");
        }
        self.may_be_over = false;
        self.held_back = compared.errors.iter().map(ToString::to_string).collect();
        self.problem = compared.errors.into_iter().next();
        Ok(())
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
            Ok(Some(undone)) => self.record(&batch, &store, undone).map(|()| true),
            Ok(None) => self.compare(passive).map(|()| false),
            Err(error) if error.rule() == Some("ca-moved") => {
                tracing::info!(%error, "somebody came between: both CAs are compared as wholes");
                self.compare(passive).map(|()| false)
            }
            Err(error) => {
                tracing::warn!(%error, %position, "both CAs are compared as wholes");
                self.compare(passive).map(|()| false)
            }
        }
    }

    fn record(&mut self, batch: &Verified, store: &Path, undone: Vec<Error>) -> Result<()> {
        batch.keep(store, &self.host.disk)?;
        self.batches += 1;
        for (step, _) in batch.steps()? {
            let about = format!("{}: ", step.path());
            self.may_be_over |= self.held_back.iter().any(|it| it.starts_with(&about));
        }
        self.held_back
            .extend(undone.iter().map(ToString::to_string));
        for error in &undone {
            tracing::warn!(%error, "what was received is not applied whole");
        }
        let rules = undone.iter().filter_map(|error| error.rule());
        self.refused.extend(rules.map(str::to_owned));
        self.refused.sort();
        self.refused.dedup();
        self.problem = self.problem.take().or(undone.into_iter().next());
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
        ack::publish(self.host, &DataSet::Ca, reconcile, self.refused.clone()).map(drop)
    }
}
