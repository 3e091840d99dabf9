//! Work on many files spread over the processors.
//!
//! Results come in the order of the items, whatever the number of threads: nobody can tell from an
//! outcome how it was shared out. No thread outlives the call.

use std::num::NonZeroUsize;
use std::thread;

/// Fewer items than this are not worth a thread of their own.
const LEAST_SHARE: usize = 16;

/// How many threads a piece of work may take, the caller's own among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Threads(NonZeroUsize);

impl Threads {
    /// At most so many; 0 counts as 1.
    pub const fn new(count: usize) -> Self {
        match NonZeroUsize::new(count) {
            Some(count) => Self(count),
            None => Self(NonZeroUsize::MIN),
        }
    }

    /// One for each processor that this process may use; one where that cannot be told.
    pub fn available() -> Self {
        Self(thread::available_parallelism().unwrap_or(NonZeroUsize::MIN))
    }

    /// What `work` makes of each item.
    pub(crate) fn map<T: Sync, R: Send>(
        self,
        items: &[T],
        work: impl Fn(&T) -> R + Sync,
    ) -> Vec<R> {
        let threads = self.0.get().min(items.len() / LEAST_SHARE).max(1);
        let mut shares = items.chunks(items.len().div_ceil(threads).max(1));
        let own = shares.next().unwrap_or_default();
        let on_all = |share: &[T]| share.iter().map(&work).collect::<Vec<R>>();
        thread::scope(|scope| {
            let others: Vec<_> = shares
                .map(|share| {
                    let builder = thread::Builder::new();
                    // Where the system gives no thread, the work is done all the same, later and here.
                    let started = builder.spawn_scoped(scope, || on_all(share));
                    (share, started.ok())
                })
                .collect();
            let mut results = on_all(own);
            for (share, started) in others {
                results.extend(match started.map(thread::ScopedJoinHandle::join) {
                    Some(Ok(part)) => part,
                    Some(Err(panic)) => std::panic::resume_unwind(panic),
                    None => on_all(share),
                });
            }
            results
        })
    }
}

impl Default for Threads {
    fn default() -> Self {
        Self::available()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn results_stand_in_the_order_of_the_items(items in prop::collection::vec(any::<u16>(), 0..200), threads in 0_usize..9) {
            let doubled = Threads::new(threads).map(&items, |item| u32::from(*item) * 2);
            prop_assert_eq!(doubled, items.iter().map(|item| u32::from(*item) * 2).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_work_is_shared_out() {
        let items = vec![(); 3 * LEAST_SHARE];
        let workers = Threads::new(3).map(&items, |()| thread::current().id());
        let distinct: std::collections::HashSet<_> = workers.iter().collect();
        assert_eq!(distinct.len(), 3);
        let alone = Threads::new(3).map(&items[..LEAST_SHARE], |()| thread::current().id());
        assert!(alone.iter().all(|worker| *worker == thread::current().id()));
    }

    #[test]
    #[should_panic(expected = "item 40")]
    fn a_panic_is_not_lost() {
        let items: Vec<usize> = (0..48).collect();
        Threads::new(3).map(&items, |item| assert_ne!(*item, 40, "item 40"));
    }
}
