//! One direction of one connection: a reader that stamps what it reads, a writer that delivers it.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::queue::{Parcel, Queue};
use super::{Direction, Ending, Shared, State};

/// The largest piece read at once.
const PIECE_BYTES: usize = 64 * 1024;
/// What may be under way without a rate: a long, fat line.
const WIDE_WINDOW_BYTES: usize = 16 * 1024 * 1024;

/// Tokens of a rate limit: bytes that may pass now.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bucket {
    bytes_per_second: f64,
    tokens: f64,
    filled: Instant,
}

impl Bucket {
    /// An empty bucket; at least one byte a second.
    pub(super) fn new(bytes_per_second: u32) -> Self {
        Self {
            bytes_per_second: f64::from(bytes_per_second.max(1)),
            tokens: 0.0,
            filled: Instant::now(),
        }
    }

    /// How much may pass in one go: 20 ms worth, so that a slow line flows rather than jerks.
    fn burst(&self) -> f64 {
        (self.bytes_per_second / 50.0).max(1.0)
    }

    /// Takes up to `wanted` bytes; or says how long to wait for some.
    fn take(&mut self, wanted: usize, now: Instant) -> Result<usize, Duration> {
        let gained =
            now.saturating_duration_since(self.filled).as_secs_f64() * self.bytes_per_second;
        self.tokens = (self.tokens + gained).min(self.burst());
        self.filled = now;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between 0 and a u32's 50th"
        )]
        let whole = (self.tokens as usize).min(wanted);
        if whole == 0 {
            return Err(Duration::from_secs_f64(
                ((1.0 - self.tokens) / self.bytes_per_second).max(0.000_5),
            ));
        }
        #[expect(clippy::cast_precision_loss, reason = "at most a u32's 50th")]
        let taken = whole as f64;
        self.tokens -= taken;
        Ok(whole)
    }
}

/// A connection, as its two directions share it: the last to end forgets it.
#[derive(Debug)]
pub(super) struct Sides {
    id: u64,
    flowing: AtomicUsize,
}

impl Sides {
    pub(super) fn new(id: u64) -> Self {
        Self {
            id,
            flowing: AtomicUsize::new(2),
        }
    }
}

/// Starts the reader and the writer of one direction.
pub(super) fn start(
    shared: &Arc<Shared>,
    sides: &Arc<Sides>,
    direction: Direction,
    (from, to): (TcpStream, TcpStream),
) {
    shared.lock().threads += 2;
    let queue = Arc::new(Queue::default());
    let (reader_shared, reader_queue, id) = (Arc::clone(shared), Arc::clone(&queue), sides.id);
    std::thread::spawn(move || {
        read(&reader_shared, id, direction, from, &reader_queue);
        reader_queue.end();
        leave(&reader_shared);
    });
    let (writer_shared, sides) = (Arc::clone(shared), Arc::clone(sides));
    std::thread::spawn(move || {
        write(&writer_shared, sides.id, direction, &to, &queue);
        queue.close();
        // A half-close goes on to the other side; a connection that was cut is closed already.
        drop(to.shutdown(Shutdown::Write));
        if sides.flowing.fetch_sub(1, Ordering::AcqRel) == 1 {
            writer_shared.lock().open.remove(&sides.id);
        }
        leave(&writer_shared);
    });
}

fn leave(shared: &Shared) {
    shared.lock().threads -= 1;
    shared.changed.notify_all();
}

fn read(shared: &Shared, id: u64, direction: Direction, mut from: TcpStream, queue: &Queue) {
    let mut buffer = vec![0; PIECE_BYTES];
    loop {
        let count = match from.read(&mut buffer) {
            Ok(0) => return,
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(_) => break,
        };
        let (due, window) = {
            let state = shared.lock();
            (
                Instant::now() + state.latency,
                window_bytes(&state, direction),
            )
        };
        let bytes = buffer.get(..count).unwrap_or_default().to_vec();
        if !queue.push(Parcel { bytes, due }, window) {
            break;
        }
    }
    // One side broke off, or can not be written to: the other side is to see that too, not wait.
    break_off(shared, id);
}

/// What may be under way in one direction: what a line of that rate and latency holds, and a buffer.
fn window_bytes(state: &State, direction: Direction) -> usize {
    if state.latency.is_zero() {
        return PIECE_BYTES;
    }
    match state.lanes[direction as usize].bucket {
        None => WIDE_WINDOW_BYTES,
        Some(bucket) => {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "capped below; never negative"
            )]
            let held = (bucket.bytes_per_second * state.latency.as_secs_f64()).min(1e7) as usize;
            held + PIECE_BYTES
        }
    }
}

fn write(shared: &Shared, id: u64, direction: Direction, mut to: &TcpStream, queue: &Queue) {
    while let Some(parcel) = queue.pop() {
        let mut rest = parcel.bytes.as_slice();
        while !rest.is_empty() {
            let Some(granted) = grant(shared, id, direction, parcel.due, rest.len()) else {
                return;
            };
            let (piece, later) = rest.split_at(granted.bytes);
            let written = to.write_all(piece);
            let mut state = shared.lock();
            if written.is_ok() {
                state.lanes[direction as usize].passed += granted.bytes as u64;
            }
            if let Some(ending) = granted.ending {
                shared.end_by(&mut state, direction, ending);
            }
            drop(state);
            if written.is_err() {
                break_off(shared, id);
                return;
            }
            rest = later;
        }
    }
}

/// What a writer may deliver now.
struct Granted {
    bytes: usize,
    /// Where these are the last bytes before a limit: what follows once they are delivered.
    ending: Option<Ending>,
}

/// Waits until some of `wanted` bytes may pass; `None` where the connection has ended meanwhile.
///
/// What is granted is taken off the limit at once, so that two connections never pass more than it.
fn grant(
    shared: &Shared,
    id: u64,
    direction: Direction,
    due: Instant,
    wanted: usize,
) -> Option<Granted> {
    let mut state = shared.lock();
    loop {
        if !state.open.contains_key(&id) {
            return None;
        }
        let now = Instant::now();
        let early = due.saturating_duration_since(now);
        let left = state.lanes[direction as usize]
            .limit
            .map_or(u64::MAX, |limit| limit.left);
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(wanted);
        let pause = if !early.is_zero() {
            Some(early)
        } else if state.stalled || wanted == 0 {
            // Stalled; or another connection is about to deliver the last bytes before the end.
            None
        } else {
            let lane = &mut state.lanes[direction as usize];
            match lane
                .bucket
                .as_mut()
                .map_or(Ok(wanted), |bucket| bucket.take(wanted, now))
            {
                Ok(granted) => {
                    let mut ending = None;
                    if let Some(limit) = &mut lane.limit {
                        limit.left -= granted as u64;
                        ending = (limit.left == 0).then_some(limit.ending);
                    }
                    state.turn_to(direction);
                    return Some(Granted {
                        bytes: granted,
                        ending,
                    });
                }
                Err(pause) => Some(pause),
            }
        };
        state = shared.wait(state, pause);
    }
}

/// Ends one connection, on both sides.
fn break_off(shared: &Shared, id: u64) {
    let ends = shared.lock().open.remove(&id);
    for end in ends.into_iter().flatten() {
        drop(end.shutdown(Shutdown::Both));
    }
    shared.changed.notify_all();
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_bucket_never_gives_more_than_its_rate_and_keeps_what_it_announces(
            rate in 1u32..10_000_000,
            asks in prop::collection::vec((0u64..50, 1usize..100_000), 1..60),
        ) {
            let mut bucket = Bucket::new(rate);
            let begin = bucket.filled;
            let (mut now, mut given) = (begin, 0usize);
            for (pause_ms, wanted) in asks {
                now += Duration::from_millis(pause_ms);
                let taken = match bucket.take(wanted, now) {
                    Ok(taken) => taken,
                    Err(pause) => {
                        now += pause + Duration::from_millis(1);
                        let taken = bucket.take(wanted, now);
                        prop_assert!(taken.is_ok(), "the announced pause of {pause:?} was too short");
                        taken.unwrap()
                    }
                };
                prop_assert!(taken >= 1 && taken <= wanted);
                given += taken;
            }
            let most = f64::from(rate) * (now - begin).as_secs_f64();
            prop_assert!(given as f64 <= most + 1.0, "{given} bytes where {most} may pass");
        }
    }
}
