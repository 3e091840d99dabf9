//! Faults for tests: the disk stops at the nth operation, as a killed process would.

use std::io;
use std::sync::Mutex;

use super::{Hook, Operation};

/// Lets `n` operations pass, then fails that one and every one after it, like a process that died:
/// no clean-up of the caller reaches the disk either.
#[derive(Debug)]
pub struct StopAt {
    remaining: Mutex<usize>,
    kind: io::ErrorKind,
}

impl StopAt {
    /// Lets `operations` pass, then stops.
    pub fn new(operations: usize) -> Self {
        Self {
            remaining: Mutex::new(operations),
            kind: io::ErrorKind::Interrupted,
        }
    }

    /// The same, with another error: `StorageFull`, `ReadOnlyFilesystem`.
    pub fn with_kind(operations: usize, kind: io::ErrorKind) -> Self {
        Self {
            remaining: Mutex::new(operations),
            kind,
        }
    }

    /// Whether it has stopped anything.
    pub fn has_stopped(&self) -> bool {
        *self
            .remaining
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            == 0
    }
}

impl Hook for StopAt {
    fn before(&self, _operation: Operation<'_>) -> io::Result<()> {
        let mut remaining = self
            .remaining
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        match remaining.checked_sub(1) {
            Some(left) => {
                *remaining = left;
                Ok(())
            }
            None => Err(io::Error::new(self.kind, "stopped by the test")),
        }
    }
}

/// Counts operations, to know how many points there are to stop at.
#[derive(Debug, Default)]
pub struct Counter(std::sync::atomic::AtomicUsize);

impl Counter {
    /// How many operations there were.
    pub fn count(&self) -> usize {
        self.0.load(std::sync::atomic::Ordering::Relaxed)
    }
}

impl Hook for Counter {
    fn before(&self, _operation: Operation<'_>) -> io::Result<()> {
        self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Ok(())
    }
}
