//! One peer's thread: sends what waits for it, in order, over a session that stays open.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use pefo_ca::watch::Waker;
use pefo_core::cancel::Cancel;
use pefo_core::generation::{DataSet, Position};
use pefo_core::pairing::Introduction;
use pefo_core::progress::Silent;
use pefo_core::reign::Role;
use pefo_core::{Digest, ErrorKind, Result};
use pefo_transport::{Backoff, Connection, Dial, Link, Purpose};

use super::active::Active;
use super::known::{Known, Standing};
use super::outbox::{Outbox, Parcel, Task};
use super::{Course, HEARTBEAT};
use crate::pipeline::{ack, push, session};
use crate::reigns::learn;

/// After a batch the peer is asked this soon what it made of it.
const SOON: Duration = Duration::from_secs(1);
/// A peer that refused is tried again after this, and after twice that each time it goes on to refuse.
const REFUSED_WAIT: Duration = Duration::from_secs(1);
/// But never later than this.
const LONGEST_REFUSED_WAIT: Duration = Duration::from_secs(30);
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

impl Line<'_> {
    /// Until it is over.
    pub(super) fn run(&self) {
        let mut known = Known::new(self.peer.certname.clone(), self.begins.1);
        let course = RefCell::new(Course::of_ca(Role::Active));
        let purpose = Purpose::of(&DataSet::Ca);
        let dial = || {
            let dialled = session::connect_until(
                self.active.host,
                &self.active.me,
                self.peer,
                &purpose,
                &self.cancel,
            );
            // The link tries for ever: that it tries in vain is told.
            dialled.map_err(|error| {
                let error = error.context(&self.peer.certname);
                if error.kind() != ErrorKind::Cancelled {
                    course
                        .borrow_mut()
                        .note(self.active.host, None, Some(&error));
                }
                error
            })
        };
        let clock = Arc::clone(&self.active.host.clock);
        let mut link = Link::new(dial, clock)
            .cancel(self.cancel.clone())
            .backoff(Backoff::new().cap(LONGEST_WAIT));
        let mut result = self.begin(&mut link, &mut known);
        let mut wait = HEARTBEAT;
        let mut beaten = self.active.host.clock.monotonic();
        let mut refused_wait = REFUSED_WAIT;
        loop {
            course
                .borrow_mut()
                .note(self.active.host, known.sent(), result.as_ref().err());
            if self.cancel.is_cancelled() {
                return;
            }
            if let Err(error) = result {
                // What it says of reigns counts only where a signed record proves it.
                let error = learn::why(self.active.host, self.peer, error);
                tracing::warn!(%error, peer = %self.peer.certname, "the peer does not follow");
                let ends_all = self.active.host.require(Role::Active).is_err();
                if ends_all || error.rule() == Some(push::ROLLED_BACK) {
                    self.outbox.end(self.queue, error, ends_all);
                    return self.waker.wake();
                }
                known.lost();
                let waited = self.cancel.wait(&*self.active.host.clock, refused_wait);
                if waited.is_err() {
                    return;
                }
                refused_wait = LONGEST_REFUSED_WAIT.min(2 * refused_wait);
                self.want_full();
            } else if known.is_in_step() {
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
                    let sent = self.send(&mut link, &parcel, &mut known);
                    // A CA that never rests is no reason to tell and hear nothing.
                    let now = self.active.host.clock.monotonic();
                    if sent.is_ok() && now.saturating_sub(beaten) >= HEARTBEAT {
                        beaten = now;
                        self.beat(&mut link, &mut known)
                    } else {
                        sent
                    }
                }
                Task::Idle => {
                    wait = HEARTBEAT;
                    beaten = self.active.host.clock.monotonic();
                    self.beat(&mut link, &mut known)
                }
            };
        }
    }

    /// Where the peer stands: in step, or in need of a full generation.
    fn begin<D: Dial>(&self, link: &mut Link<D>, known: &mut Known) -> Result<()> {
        let ack = link.with(|connection| self.ack(connection))?;
        tracing::info!(peer = %self.peer.certname, "the line is open");
        let (state, _) = self.begins;
        let standing = known.begin(self.active.host, state, ack)?;
        self.go_on(standing);
        Ok(())
    }

    fn go_on(&self, standing: Standing) {
        if let Standing::WantsFull(why) = standing {
            let why = why.unwrap_or_else(|| "it has another state".to_owned());
            tracing::info!(%why, peer = %self.peer.certname, "a full generation is wanted");
            self.want_full();
        }
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
        if !known.can_take(parcel) {
            self.want_full();
            return Ok(());
        }
        link.with(|connection| connection.push(&parcel.outgoing, &Silent))?;
        known.took(parcel, self.active.host.clock.now());
        tracing::debug!(position = %parcel.outgoing.position(), peer = %self.peer.certname, "sent");
        Ok(())
    }

    /// Says that this host is alive, and hears what the peer has made of what it got.
    fn beat<D: Dial>(&self, link: &mut Link<D>, known: &mut Known) -> Result<()> {
        self.active.host.require(Role::Active)?;
        known.note(self.active.host)?;
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
        let standing = known.hear(ack, self.active.host.clock.now())?;
        self.go_on(standing);
        Ok(())
    }
}
