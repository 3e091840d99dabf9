//! Clients that read from a database all the time, and what they see of a restore.
//!
//! A client reads one row, again and again, on a session that it renews after some reads and whenever it is
//! ended, as a service's pool does. What counts is the longest time between a read that succeeded and the
//! next one, of any client, less the client's usual time between two: from outside, nobody can tell a
//! database that is not there from one that does not answer.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use pefo_core::{Error, ErrorKind, Result};
use pefo_testkit::postgres::Cluster;
use pefo_testkit::wait;
use tokio_postgres::{Client, Config, NoTls};

use crate::numbers::median;
use crate::process::milliseconds;

/// So many clients read side by side.
pub(crate) const READERS: usize = 4;
/// Between two reads of a client.
const PAUSE: Duration = Duration::from_millis(10);
/// So many reads share a session.
const READS_OF_A_SESSION: usize = 10;
/// A read that takes longer is given up and tried anew.
const PATIENCE: Duration = Duration::from_secs(5);
/// So many reads show a client's pace.
const PACE: usize = 100;
/// Nobody waits longer for all clients to read.
const LIMIT: Duration = Duration::from_secs(60);

/// When each client's reads succeeded.
type Successes = Vec<Vec<Instant>>;

/// Clients at work.
pub(crate) struct Readers {
    stop: Arc<AtomicBool>,
    successes: Arc<Mutex<Successes>>,
    thread: JoinHandle<()>,
}

impl Readers {
    /// Lets clients read by `query`, which must give a row, until [`Readers::stop`]; returns when each of
    /// them has found its pace.
    ///
    /// # Errors
    /// A client that finds nothing to read.
    pub(crate) fn start(cluster: &Cluster, database: &str, query: &'static str) -> Result<Self> {
        let text = cluster.connection_string(database);
        let config: Config = text
            .parse()
            .map_err(|error| Error::invalid(format!("{text}: {error}")))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Error::new(ErrorKind::Io, "start the readers").with_source(error))?;
        let stop = Arc::new(AtomicBool::new(false));
        let successes = Arc::new(Mutex::new(vec![Vec::new(); READERS]));
        let client = |number: usize| {
            let (config, stop, successes) =
                (config.clone(), Arc::clone(&stop), Arc::clone(&successes));
            async move {
                while !stop.load(Ordering::Relaxed) {
                    session(&config, query, &stop, || {
                        lock(&successes)[number].push(Instant::now())
                    })
                    .await;
                }
            }
        };
        let clients: Vec<_> = (0..READERS).map(client).collect();
        let thread = std::thread::spawn(move || {
            runtime.block_on(async {
                let tasks: Vec<_> = clients.into_iter().map(tokio::spawn).collect();
                for task in tasks {
                    // One that panics reads no more, and is waited for in vain.
                    drop(task.await);
                }
            });
        });
        let readers = Self {
            stop,
            successes,
            thread,
        };
        readers.wait_for_reads(PACE)?;
        Ok(readers)
    }

    /// Ends the clients when each of them has read again; gives the longest silence of any, in milliseconds.
    ///
    /// # Errors
    /// A client that finds nothing to read any more.
    pub(crate) fn stop(self) -> Result<f64> {
        self.wait_for_reads(1)?;
        self.stop.store(true, Ordering::Relaxed);
        drop(self.thread.join());
        let successes = lock(&self.successes);
        let silences = successes.iter().map(|client| silence(client));
        Ok(silences.fold(0.0, f64::max))
    }

    /// Waits until each client has read `count` times more.
    fn wait_for_reads(&self, count: usize) -> Result<()> {
        let had: Vec<usize> = lock(&self.successes).iter().map(Vec::len).collect();
        let all_have = || {
            let now = lock(&self.successes);
            let mut clients = now.iter().zip(&had);
            clients
                .all(|(now, had)| now.len() >= had + count)
                .then_some(())
        };
        wait::within(LIMIT, all_have).ok_or_else(|| {
            let message = format!("the readers do not read {count} times in {LIMIT:?}");
            Error::new(ErrorKind::Unreachable, message)
        })
    }
}

/// One session: as many reads as it is for, or until it fails. Why it fails is no matter: the client
/// tries again.
async fn session(
    config: &Config,
    query: &str,
    stop: &AtomicBool,
    mut succeeded: impl FnMut() + Send,
) {
    let connected = tokio::time::timeout(PATIENCE, config.connect(NoTls)).await;
    let Ok(Ok((client, connection))) = connected else {
        tokio::time::sleep(PAUSE).await;
        return;
    };
    let connection = tokio::spawn(connection);
    for _ in 0..READS_OF_A_SESSION {
        if stop.load(Ordering::Relaxed) || !reads(&client, query).await {
            break;
        }
        succeeded();
        tokio::time::sleep(PAUSE).await;
    }
    drop(client);
    drop(connection.await);
}

async fn reads(client: &Client, query: &str) -> bool {
    let read = tokio::time::timeout(PATIENCE, client.query(query, &[])).await;
    matches!(read, Ok(Ok(rows)) if !rows.is_empty())
}

/// The longest time between two reads, less the usual one, in milliseconds.
fn silence(successes: &[Instant]) -> f64 {
    let gaps: Vec<f64> = successes
        .windows(2)
        .map(|pair| milliseconds(pair[1].saturating_duration_since(pair[0])))
        .collect();
    let longest = gaps.iter().copied().fold(0.0, f64::max);
    longest - median(&gaps).unwrap_or_default()
}

/// A client that panicked has left whole entries behind.
fn lock(successes: &Mutex<Successes>) -> MutexGuard<'_, Successes> {
    successes.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silence_is_the_longest_time_between_two_reads_less_the_usual_one() {
        let begin = Instant::now();
        let at = |ms: &[u64]| -> Vec<Instant> {
            ms.iter()
                .map(|&ms| begin + Duration::from_millis(ms))
                .collect()
        };
        assert_eq!(silence(&at(&[0, 10, 20, 30, 190, 200])), 150.0);
        assert_eq!(silence(&at(&[0, 10, 20])), 0.0);
        assert_eq!(silence(&at(&[7])), 0.0);
    }
}
