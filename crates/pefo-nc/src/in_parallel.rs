//! The same work on many groups, spread over the processors, with the results in order.
//!
//! Reading or rewriting 5,000 groups is hundreds of milliseconds of one processor; fewer are not worth a
//! thread. Threads are scoped: none outlives the call.

use std::num::NonZero;
use std::thread;

/// From so many items on.
const WORTH_IT: usize = 1_000;
/// More would wait for each other's allocations.
const MOST: usize = 4;

/// Does `work` on slices of `items`, as many as there are processors to use, and gives what each gave.
pub(crate) fn chunks<T: Sync, R: Send>(items: &[T], work: impl Fn(&[T]) -> R + Sync) -> Vec<R> {
    let processors = thread::available_parallelism()
        .map_or(1, NonZero::get)
        .min(MOST);
    if processors == 1 || items.len() < WORTH_IT {
        return vec![work(items)];
    }
    let size = items.len().div_ceil(processors);
    thread::scope(|scope| {
        let work = &work;
        let started: Vec<_> = items
            .chunks(size)
            .map(|chunk| (chunk, scope.spawn(move || work(chunk))))
            .collect();
        started
            .into_iter()
            // A thread that panicked: the same panic, here.
            .map(|(chunk, thread)| thread.join().unwrap_or_else(|_| work(chunk)))
            .collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_results_are_in_the_order_of_the_items() {
        for count in [0, 1, 999, 1_000, 5_003] {
            let items: Vec<usize> = (0..count).collect();
            let given = chunks(&items, |part| {
                part.iter().map(|item| item * 2).collect::<Vec<_>>()
            });
            let expected: Vec<usize> = items.iter().map(|item| item * 2).collect();
            assert_eq!(given.concat(), expected);
        }
    }
}
