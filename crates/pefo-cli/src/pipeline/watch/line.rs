//! One peer's thread: sends what waits for it, in order, over a session that stays open.

use std::sync::Arc;
use std::time::Duration;

use pefo_ca::watch::Waker;
use pefo_core::cancel::Cancel;
use pefo_core::clock::Timestamp;
use pefo_core::generation::{DataSet, Position};
use pefo_core::pairing::Introduction;
use pefo_core::progress::Silent;
use pefo_core::reign::Role;
use pefo_core::{Digest, ErrorKind, Result, record};
use pefo_transport::{Backoff, Connection, Dial, Link, Purpose};

use super::active::Active;
use super::outbox::{Outbox, Parcel, Task};
use super::{Course, HEARTBEAT};
use crate::host::Delivered;
use crate::pipeline::{ack, push};

/// After a batch the peer is asked this soon what it made of it.
const SOON: Duration = Duration::from_secs(1);
/// A peer that refused is tried again after this, and after twice that each time it goes on to refuse.
const REFUSED_WAIT: Duration = Duration::from_secs(1);
/// But never later than this.
const LONGEST_REFUSED_WAIT: Duration = Duration::from_secs(30);
/// A full generation that was sent and is wanted again is sent again after this.
const FULL_AGAIN: Duration = Duration::from_secs(60);

/// A line that fails is tried again at least this often: a spare that is back is not to wait for minutes.
const LONGEST_WAIT: Duration = Duration::from_secs(15);

/// What a line needs of the watch it belongs to.
pub(super) struct Line<'a> {
    pub(super) active: &'a Active<'a>,
    pub(super) peer: &'a Introduction,
    pub(super) outbox: &'a Outbox,
    /// Which of the queues is its own.
    pub(super) queue: usize,
    pub(super) waker: Waker,
    /// Ends it, wherever it is.
    pub(super) cancel: Cancel,
    /// The source's state when the watch began, and the first position that it gives out.
    pub(super) begins: (Digest, Position),
}

/// What is known of the peer.
struct Known {
    /// The state that its spool has.
    has: Option<Digest>,
    /// The last generation that it got.
    sent: Option<Position>,
    /// Whether that is noted on disk.
    noted: bool,
    /// The last full one, and when.
    full: Option<(Position, Timestamp)>,
    course: Course,
}

impl Line<'_> {
    /// Until it is over.
    pub(super) fn run(&self) {
        let mut known = Known {
            has: None,
            sent: None,
            noted: true,
            full: None,
            course: Course::default(),
        };
        let purpose = Purpose::of(&DataSet::Ca);
        let dial = || {
            push::connect_until(
                self.active.host,
                &self.active.me,
                self.peer,
                &purpose,
                &self.cancel,
            )
        };
        let clock = Arc::clone(&self.active.host.clock);
        let mut link = Link::new(dial, clock)
            .cancel(self.cancel.clone())
            .backoff(Backoff::new().cap(LONGEST_WAIT));
        let mut result = self.begin(&mut link, &mut known);
        let mut wait = HEARTBEAT;
        let mut refused_wait = REFUSED_WAIT;
        loop {
            let position = known.sent;
            known
                .course
                .note(self.active.host, position, result.as_ref().err());
            if self.cancel.is_cancelled() {
                return;
            }
            if let Err(error) = result {
                tracing::warn!(%error, peer = %self.peer.certname, "the peer does not follow");
                let ends_all = matches!(error.kind(), ErrorKind::Fenced | ErrorKind::WrongRole);
                if ends_all || error.rule() == Some(push::ROLLED_BACK) {
                    self.outbox.end(self.queue, error, ends_all);
                    return self.waker.wake();
                }
                known.has = None;
                let waited = self.cancel.wait(&*self.active.host.clock, refused_wait);
                if waited.is_err() {
                    return;
                }
                refused_wait = LONGEST_REFUSED_WAIT.min(2 * refused_wait);
                self.want_full();
            } else if known.has.is_some() {
                refused_wait = REFUSED_WAIT;
            }
            // Only who is free gets one: woken earlier, the watcher would look for it in vain.
            if self.outbox.free(self.queue) {
                self.waker.wake();
            }
            result = match self.outbox.next(self.queue, wait) {
                Task::Stop => return,
                Task::Send(parcel) => {
                    wait = SOON;
                    self.send(&mut link, &parcel, &mut known)
                }
                Task::Idle => {
                    wait = HEARTBEAT;
                    self.beat(&mut link, &mut known)
                }
            };
        }
    }

    /// Where the peer stands: in step, or in need of a full generation.
    fn begin<D: Dial>(&self, link: &mut Link<D>, known: &mut Known) -> Result<()> {
        let ack = link.with(|connection| self.ack(connection))?;
        let (state, position) = self.begins;
        let accepted = ack.as_ref().and_then(|ack| ack.accepted);
        if let Some(accepted) = accepted.filter(|accepted| *accepted >= position) {
            return Err(push::rolled_back(&self.peer.certname, accepted, position));
        }
        let path = self
            .active
            .host
            .delivered_path(&self.peer.certname, &DataSet::Ca);
        let delivered: Option<Delivered> = record::load(&path)?;
        let delivered = delivered.filter(|it| it.position.epoch == self.active.reign.epoch);
        let noted = delivered.as_ref().map(|delivered| delivered.position);
        // A watch that was killed may not have noted the last that it sent.
        known.sent = noted.max(accepted);
        let wants_full = ack.as_ref().is_some_and(|ack| ack.reconcile.is_some());
        let has = match delivered {
            // It lies in the peer's spool.
            Some(delivered) if Some(delivered.position) > accepted => Some(delivered.state),
            // What the peer says itself: what seeded it, for one, is more than what it is compared with.
            _ => ack.and_then(|ack| ack.source_state),
        };
        if !wants_full && has == Some(state) {
            known.has = Some(state);
            known.noted = known.sent == noted;
        } else {
            self.want_full();
        }
        Ok(())
    }

    fn want_full(&self) {
        self.outbox.want_full(self.queue);
    }

    fn ack(&self, connection: &mut Connection) -> Result<Option<pefo_core::ack::Ack>> {
        ack::fetch(
            self.active.host,
            &self.active.me,
            self.peer,
            &DataSet::Ca,
            connection,
        )
    }

    fn send<D: Dial>(&self, link: &mut Link<D>, parcel: &Parcel, known: &mut Known) -> Result<()> {
        if parcel.from.is_some() && parcel.from != known.has {
            self.want_full();
            return Ok(());
        }
        link.with(|connection| connection.push(&parcel.outgoing, &Silent))?;
        let position = parcel.outgoing.position();
        known.has = Some(parcel.to);
        known.sent = Some(position);
        if parcel.from.is_none() {
            known.full = Some((position, self.active.host.clock.now()));
        }
        tracing::debug!(%position, peer = %self.peer.certname, "sent");
        known.noted = false;
        Ok(())
    }

    /// Notes what the peer has received, where that is new: for the next start, and for `pefo status`.
    fn note(&self, known: &mut Known) -> Result<()> {
        let (Some(position), Some(state), false) = (known.sent, known.has, known.noted) else {
            return Ok(());
        };
        let delivered = Delivered {
            position,
            state,
            time: self.active.host.clock.now(),
        };
        let path = self
            .active
            .host
            .delivered_path(&self.peer.certname, &DataSet::Ca);
        self.active.host.store_json(&path, &delivered, 0o600)?;
        known.noted = true;
        Ok(())
    }

    /// Says that this host is alive, and hears what the peer has made of what it got.
    fn beat<D: Dial>(&self, link: &mut Link<D>, known: &mut Known) -> Result<()> {
        self.active.host.require(Role::Active)?;
        self.note(known)?;
        let heartbeat = push::heartbeat(
            self.active.host,
            &self.active.me,
            &self.active.key,
            &self.active.reign,
            self.peer,
        )?;
        let ack = link.with(|connection| {
            connection.heartbeat(&heartbeat)?;
            self.ack(connection)
        })?;
        let Some(ack) = ack else { return Ok(()) };
        // What stands below where it began is of a watch before this one, which may have been killed before
        // it noted what it sent.
        let (_, begins) = self.begins;
        if let Some(accepted) = ack.accepted.filter(|accepted| *accepted >= begins)
            && known.sent.is_none_or(|sent| accepted > sent)
        {
            let sent = known.sent.unwrap_or(begins);
            return Err(push::rolled_back(&self.peer.certname, accepted, sent));
        }
        let is_under_way = known.full.is_some_and(|(full, at)| {
            ack.accepted.is_none_or(|accepted| accepted < full)
                && self.active.host.clock.now().since(at) < FULL_AGAIN
        });
        if let Some(why) = ack.reconcile.filter(|_| !is_under_way) {
            tracing::info!(%why, peer = %self.peer.certname, "a full generation is wanted");
            self.want_full();
        }
        Ok(())
    }
}
