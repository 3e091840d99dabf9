//! What is under way on the line: parcels in order, each with the moment it is due, bounded in bytes.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Bytes under way.
#[derive(Debug)]
pub(super) struct Parcel {
    pub(super) bytes: Vec<u8>,
    /// When they arrive at the far end.
    pub(super) due: Instant,
}

#[derive(Debug, Default)]
struct Inside {
    parcels: VecDeque<Parcel>,
    bytes: usize,
    ended: bool,
    closed: bool,
}

/// A bounded queue between the reader and the writer of one direction.
#[derive(Debug, Default)]
pub(super) struct Queue {
    inside: Mutex<Inside>,
    changed: Condvar,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a parcel once less than `window_bytes` are under way; false where nobody takes any more.
    pub(super) fn push(&self, parcel: Parcel, window_bytes: usize) -> bool {
        let mut inside = self.lock();
        while inside.bytes >= window_bytes && !inside.closed {
            inside = self
                .changed
                .wait(inside)
                .unwrap_or_else(PoisonError::into_inner);
        }
        if inside.closed {
            return false;
        }
        inside.bytes += parcel.bytes.len();
        inside.parcels.push_back(parcel);
        self.changed.notify_all();
        true
    }

    /// The next parcel; `None` after the end.
    pub(super) fn pop(&self) -> Option<Parcel> {
        let mut inside = self.lock();
        while inside.parcels.is_empty() && !inside.ended {
            inside = self
                .changed
                .wait(inside)
                .unwrap_or_else(PoisonError::into_inner);
        }
        let parcel = inside.parcels.pop_front()?;
        inside.bytes -= parcel.bytes.len();
        self.changed.notify_all();
        Some(parcel)
    }

    /// The reader has seen the end.
    pub(super) fn end(&self) {
        self.lock().ended = true;
        self.changed.notify_all();
    }

    /// The writer takes no more.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }
}
