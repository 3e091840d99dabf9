//! The active at work: what its feed makes of hints, and what its sender makes of that.

use std::sync::Arc;
use std::time::Duration;

use pefo_ca::CaLayout;
use pefo_ca::watch::{Hint, Watcher};
use pefo_cli::pipeline::watch::{FULL_AGAIN, Feed, Parcel};
use pefo_cli::pipeline::{ack, push};
use pefo_core::Digest;
use pefo_core::disk::fault::StopAt;
use pefo_core::generation::outgoing::Sent;
use pefo_core::generation::{DataSet, Position, spool};
use pefo_core::reign::Epoch;

use crate::line::{Landed, Line};
use crate::moves::Way;
use crate::pair::{ACTIVE, Tree, certname};
use crate::source::{View, view_after};
use crate::world::{Aside, World};

impl World<'_> {
    /// Starts the active's feed anew, and finds out where the peer stands.
    pub(crate) fn restart_feed(&mut self) {
        self.stop_feed();
        let layout = CaLayout::at(self.pair.a.cadir()).unwrap();
        let watcher = Watcher::start(&self.pair.a.cadir()).unwrap();
        let Ok(feed) = Feed::read(self.active, layout) else {
            return;
        };
        let state = feed.state();
        (self.watcher, self.feed) = (Some(watcher), Some(feed));
        self.line = Line {
            late: std::mem::take(&mut self.line.late),
            arrived: std::mem::take(&mut self.line.arrived),
            ..Line::new(self.next_position())
        };
        let host = &self.pair.a.host;
        let ack = self.ack();
        match self.line.known.begin(host, state, ack) {
            Ok(standing) => self.line.go_on(&standing),
            Err(error) => self.line.stop(&error),
        }
    }

    pub(crate) fn stop_feed(&mut self) {
        (self.watcher, self.feed) = (None, None);
        self.hints.clear();
    }

    /// The state that the feed is in.
    pub(crate) fn state(&self) -> Option<Digest> {
        self.feed.as_ref().map(Feed::state)
    }

    fn ledger(&self) -> Option<Sent> {
        Sent::load(&self.pair.a.host.record_path("sent", &DataSet::Ca)).unwrap()
    }

    /// The first position that a feed which starts now gives out.
    fn next_position(&self) -> Position {
        Sent::next(self.ledger().as_ref(), Epoch(1))
    }

    /// The operator lets a source that was rolled back go on: above what the peer has accepted.
    pub(crate) fn accept_rollback(&mut self) {
        let accepted = self.ack().and_then(|ack| ack.accepted).unwrap();
        let sent = Sent {
            format: 1,
            position: accepted,
            state: Digest::of(b""),
        };
        let path = self.pair.a.host.record_path("sent", &DataSet::Ca);
        sent.store(&pefo_core::disk::Disk::new(), &path).unwrap();
        self.restart_feed();
    }

    /// Takes the hints that have come.
    fn drain(&mut self) {
        let Some(watcher) = &mut self.watcher else {
            return;
        };
        while let Some(hint) = watcher.next(Duration::ZERO).unwrap() {
            self.hints.push(hint);
        }
    }

    pub(crate) fn lose_hints(&mut self) {
        self.drain();
        self.hints.clear();
    }

    pub(crate) fn overflow(&mut self) {
        self.lose_hints();
        self.hints.push(Hint::Rescan);
        self.look();
    }

    /// Looks at what the hints name, and offers what is different to the line.
    pub(crate) fn look(&mut self) {
        self.drain();
        if self.hints.is_empty() {
            return;
        }
        let hints = std::mem::take(&mut self.hints);
        let Some(feed) = &mut self.feed else { return };
        match feed.look(&hints) {
            Ok((batch, unsettled)) => {
                self.hints = unsettled;
                if let Some(batch) = batch {
                    self.told(&batch);
                    self.line.offer(batch);
                }
            }
            Err(error) if error.is_retryable() => self.hints = vec![Hint::Rescan],
            Err(_) => self.stop_feed(),
        }
    }

    /// The active's feed dies at one of its operations.
    pub(crate) fn kill_feed_at(&mut self, at: usize) {
        let stop = Arc::new(StopAt::new(at));
        self.pair.a.switch.set(Some(stop.clone()));
        self.look();
        self.send(Way::Arrives);
        self.pair.a.switch.set(None);
        if stop.has_stopped() {
            self.stop_feed();
        }
    }

    fn told(&mut self, parcel: &Parcel) {
        let nothing = View::new();
        let before = parcel.from.and_then(|from| self.states.get(&from));
        if parcel.from.is_none() || before.is_some() {
            let manifest = &parcel.outgoing.manifest;
            let view = view_after(manifest, before.unwrap_or(&nothing));
            // What a source that was rolled back tells anew under an old number is never taken, nor where
            // something of that number stands in the spool already.
            let position = manifest.position();
            let accepted = self.ack().and_then(|ack| ack.accepted);
            let stands = |landed: &Landed| landed.position == position;
            if accepted < Some(position) && !self.line.arrived.iter().any(stands) {
                let views = &mut self.source.past.views;
                views.insert(manifest.position(), view.clone());
            }
            self.states.insert(parcel.to, view);
        }
    }

    /// Sends the next parcel; tells whether there was one.
    pub(crate) fn send(&mut self, way: Way) -> bool {
        if self.line.is_stopped {
            return false;
        }
        if self.line.wants_full
            && let Some(feed) = &mut self.feed
        {
            match feed.full() {
                Ok(full) => {
                    self.told(&full);
                    self.line.wants_full = false;
                    self.line.queue = [full].into();
                }
                Err(_) => self.hints.push(Hint::Rescan),
            }
        }
        let Some(parcel) = self.line.queue.pop_front() else {
            return false;
        };
        if !self.line.known.can_take(&parcel) {
            self.line.want_full();
            return true;
        }
        let spool_dir = &self.pair.b.host.config.site.spool_dir;
        let mut landed = Landed::of(&parcel);
        if let Some(landed) = &mut landed {
            landed.view = self.states.get(&parcel.to).cloned();
        }
        let ack = ack::own(&self.pair.b.host, &DataSet::Ca).unwrap();
        let taken = landed.filter(|landed| landed.is_taken(spool_dir, ack.as_ref()));
        let Some(landed) = taken else {
            self.line.broke();
            return true;
        };
        match way {
            Way::Arrives => {
                landed.write(spool_dir);
                self.line.arrived.push(landed);
            }
            Way::GetsLost => {}
            Way::IsLate => self.line.late.push(landed),
            Way::Breaks => {
                self.line.broke();
                return true;
            }
        }
        self.line.known.took(&parcel, self.pair.a.host.clock.now());
        true
    }

    /// Sends what there is, until the line breaks twice.
    pub(crate) fn send_all(&mut self) {
        let mut broke = 0;
        while broke < 2 && self.send(Way::Arrives) {
            broke += usize::from(self.line.wants_full);
        }
    }

    /// What a sender that asks nobody would send next.
    pub(crate) fn next_landed(&mut self) -> Option<Landed> {
        let full = self.feed.as_mut()?.full().ok()?;
        self.told(&full);
        Landed::of(&full)
    }

    /// Says that the active is alive, and hears what the peer has made of what it got.
    pub(crate) fn beat(&mut self, is_patient: bool) {
        if self.line.is_stopped || self.feed.is_none() {
            return;
        }
        let (a, b) = (&self.pair.a.host, &self.pair.b.host);
        self.line.known.note(a).unwrap();
        let peer = a.peers().unwrap().remove(0);
        let (me, key) = (a.introduction().unwrap(), a.signing_key().unwrap());
        let reign = a.station().unwrap().1;
        let heartbeat = push::heartbeat(a, &me, &key, &reign, &peer).unwrap();
        let path = spool::heartbeat_path(&b.config.site.spool_dir, &certname(ACTIVE));
        std::fs::write(path, heartbeat).unwrap();
        if let Some(follower) = &mut self.follower {
            follower.hears();
        }
        let Some(ack) = self.ack() else { return };
        let now = a.clock.now();
        let now = if is_patient {
            now
        } else {
            now.plus(FULL_AGAIN)
        };
        match self.line.known.hear(ack, now) {
            Ok(standing) => self.line.go_on(&standing),
            Err(error) => self.line.stop(&error),
        }
    }

    pub(crate) fn put_aside(&mut self) -> Aside {
        Aside {
            ca: self.source.copy(),
            state: Tree::read(&self.pair.a.root.join("state")),
        }
    }

    /// The whole host is what it was, and starts anew.
    pub(crate) fn put_host_back(&mut self, aside: &Aside) {
        self.stop_feed();
        self.source.put_back(&aside.ca);
        aside.state.replace(&self.pair.a.root.join("state"));
        self.restart_feed();
    }
}
