//! What waits to be sent, for each peer.
//!
//! The watcher puts batches in, each peer's thread takes them out in order. A peer that is down delays no
//! other: its queue is bounded, and one that falls too far behind gets a full generation when it is back.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pefo_core::generation::Outgoing;
use pefo_core::{Digest, Error};

/// More batches than this wait for nobody.
const QUEUE: usize = 256;

/// A generation on its way.
#[derive(Debug)]
pub struct Parcel {
    /// The generation.
    pub outgoing: Outgoing,
    /// The state that the peer must have for it; any for a full generation.
    pub from: Option<Digest>,
    /// The state that it has with it.
    pub to: Digest,
}

#[derive(Debug, Default)]
struct Slot {
    queue: VecDeque<Arc<Parcel>>,
    is_busy: bool,
    wants_full: bool,
    has_ended: bool,
}

impl Slot {
    fn is_ready(&self) -> bool {
        !self.has_ended && !self.is_busy && self.queue.is_empty()
    }
}

#[derive(Debug, Default)]
struct Slots {
    slots: Vec<Slot>,
    /// Why it is over.
    over: Option<Error>,
    is_over: bool,
}

/// The queues of all peers.
#[derive(Debug)]
pub(super) struct Outbox {
    slots: Mutex<Slots>,
    changed: Condvar,
}

/// What a peer's thread is to do.
pub(super) enum Task {
    Send(Arc<Parcel>),
    /// Nothing came in the time.
    Idle,
    Stop,
}

impl Outbox {
    pub(super) fn new(peers: usize) -> Self {
        let slots = (0..peers).map(|_| Slot::default()).collect();
        Self {
            slots: Mutex::new(Slots {
                slots,
                ..Slots::default()
            }),
            changed: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a batch into the queue of everybody who follows.
    pub(super) fn offer(&self, batch: &Arc<Parcel>) {
        for slot in &mut self.lock().slots {
            if slot.has_ended || slot.wants_full {
                continue;
            }
            if slot.queue.len() >= QUEUE {
                slot.queue.clear();
                slot.wants_full = true;
            } else {
                slot.queue.push_back(Arc::clone(batch));
            }
        }
        self.changed.notify_all();
    }

    /// Gives one peer a full generation: whatever waited for it is overtaken.
    pub(super) fn offer_full(&self, peer: usize, full: Arc<Parcel>) {
        if let Some(slot) = self.lock().slots.get_mut(peer) {
            slot.queue.clear();
            slot.wants_full = false;
            slot.queue.push_back(full);
        }
        self.changed.notify_all();
    }

    /// Says that a peer can go on with a full generation only.
    pub(super) fn want_full(&self, peer: usize) {
        if let Some(slot) = self.lock().slots.get_mut(peer) {
            slot.queue.clear();
            slot.wants_full = true;
        }
    }

    /// Who wants a full generation and waits for it.
    pub(super) fn wanting(&self) -> Vec<usize> {
        let slots = self.lock();
        let wanting = slots.slots.iter().enumerate();
        wanting
            .filter(|(_, slot)| slot.wants_full && slot.is_ready())
            .map(|(peer, _)| peer)
            .collect()
    }

    /// Waits until somebody has nothing to do, so that what comes meanwhile makes one batch. False where it
    /// is over, or nobody was ready in the time.
    pub(super) fn wait_ready(&self, timeout: Duration) -> bool {
        let is_busy = |slots: &mut Slots| !slots.is_over && !slots.slots.iter().any(Slot::is_ready);
        let waited = self
            .changed
            .wait_timeout_while(self.lock(), timeout, is_busy);
        let (slots, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        !slots.is_over && !waited.timed_out()
    }

    /// A peer's thread has done its task; tells whether a full generation is to be made for it now.
    pub(super) fn free(&self, peer: usize) -> bool {
        let mut slots = self.lock();
        let slot = slots.slots.get_mut(peer);
        let wants_full = slot.is_some_and(|slot| {
            slot.is_busy = false;
            slot.wants_full
        });
        self.changed.notify_all();
        wants_full
    }

    /// The next task of a peer's thread, which is free.
    pub(super) fn next(&self, peer: usize, timeout: Duration) -> Task {
        let until = Instant::now() + timeout;
        let mut slots = self.lock();
        loop {
            if slots.is_over {
                return Task::Stop;
            }
            let slot = slots.slots.get_mut(peer);
            if let Some(slot) = slot
                && let Some(parcel) = slot.queue.pop_front()
            {
                slot.is_busy = true;
                return Task::Send(parcel);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                if let Some(slot) = slots.slots.get_mut(peer) {
                    slot.is_busy = true;
                }
                return Task::Idle;
            }
            let waited = self.changed.wait_timeout(slots, left);
            slots = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// A peer's thread has ended; it is over where that was the last one, or where nobody may go on.
    pub(super) fn end(&self, peer: usize, error: Error, ends_all: bool) {
        let mut slots = self.lock();
        if let Some(slot) = slots.slots.get_mut(peer) {
            slot.has_ended = true;
        }
        if ends_all || slots.slots.iter().all(|slot| slot.has_ended) {
            slots.is_over = true;
            slots.over.get_or_insert(error);
        }
        self.changed.notify_all();
    }

    /// Ends it for all.
    pub(super) fn stop(&self) {
        self.lock().is_over = true;
        self.changed.notify_all();
    }

    /// Why it is over, where it is.
    pub(super) fn over(&self) -> Option<Error> {
        self.lock().over.take()
    }

    /// Whether it is over.
    pub(super) fn is_over(&self) -> bool {
        self.lock().is_over
    }
}
