//! A line that can be slow, late, stalled or cut: a TCP proxy between a client and a server.
//!
//! The kernel may lack netem, so bad lines are played here, in user space and without root. What it
//! guarantees:
//!
//! - Bytes pass unchanged and in order, half-closes too; [`Line::passed`] counts what was delivered,
//!   [`Line::turns`] how often the direction changed.
//! - [`Line::cut`] ends every connection at once and turns new ones away until [`Line::mend`].
//!   [`Line::cut_after`] does so when exactly so many more bytes have passed in one direction;
//!   [`Line::break_after`] ends the connections then, but lets a client connect again.
//! - A rate is a token bucket for each direction, shared by all connections, as on a real line.
//! - Latency is one way, in each direction: a question and its answer take twice as long. It delays
//!   without holding up what follows: a window of data is under way, as on a real line.
//! - A stalled line holds everything, without an end of file and without an error, until it goes on.
//! - On drop every connection is closed and every thread has ended.

mod flow;
mod queue;

use std::collections::HashMap;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use self::flow::Bucket;

/// How long connecting to the target may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// A direction on the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the client that connected to the line, to the target.
    Forward,
    /// From the target back to the client.
    Back,
}

/// A proxy on 127.0.0.1 to one target, with switches that may be thrown at any time.
#[derive(Debug)]
pub struct Line {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

impl Line {
    /// Opens a line to `target`, for instance `("127.0.0.1", port)`, on a free port.
    ///
    /// # Panics
    /// Where no port can be bound or `target` names no address.
    pub fn to(target: impl ToSocketAddrs) -> Self {
        let target = resolve(target);
        let (listener, address) =
            match TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr().map(|a| (l, a))) {
                Ok(bound) => bound,
                Err(error) => panic!("bind a port for the line: {error}"),
            };
        let shared = Arc::new(Shared::default());
        let for_thread = Arc::clone(&shared);
        let acceptor = std::thread::spawn(move || accept(&listener, target, &for_thread));
        Self {
            address,
            shared,
            acceptor: Some(acceptor),
        }
    }

    /// Where clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The port clients connect to, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Leads new connections to another target from now on, as a shared name that moves does; those that are open
    /// stay where they are.
    ///
    /// # Panics
    /// Where `target` names no address.
    pub fn lead_to(&self, target: impl ToSocketAddrs) {
        self.shared.lock().moved_to = Some(resolve(target));
    }

    /// Ends every connection now and turns new ones away, until [`Line::mend`].
    pub fn cut(&self) {
        let mut state = self.shared.lock();
        state.cut = true;
        self.shared.end_connections(&mut state);
    }

    /// Ends every connection now; clients may connect again.
    pub fn break_now(&self) {
        self.shared.end_connections(&mut self.shared.lock());
    }

    /// Cuts the line when exactly `bytes` more have passed in `direction`.
    pub fn cut_after(&self, direction: Direction, bytes: u64) {
        self.limit(direction, bytes, Ending::Cut);
    }

    /// Ends the connections, once, when exactly `bytes` more have passed in `direction`.
    pub fn break_after(&self, direction: Direction, bytes: u64) {
        self.limit(direction, bytes, Ending::Break);
    }

    /// Lets new connections through again, and forgets [`Line::cut_after`] and [`Line::break_after`].
    pub fn mend(&self) {
        let mut state = self.shared.lock();
        state.cut = false;
        state.lanes = state.lanes.map(|lane| Lane {
            limit: None,
            ..lane
        });
        self.shared.changed.notify_all();
    }

    /// Limits each direction to so many bytes a second, or lifts the limit.
    pub fn set_rate(&self, bytes_per_second: Option<u32>) {
        let mut state = self.shared.lock();
        state.lanes = state.lanes.map(|lane| Lane {
            bucket: bytes_per_second.map(Bucket::new),
            ..lane
        });
        self.shared.changed.notify_all();
    }

    /// Delays what is read from now on by `one_way` in each direction.
    pub fn set_latency(&self, one_way: Duration) {
        self.shared.lock().latency = one_way;
        self.shared.changed.notify_all();
    }

    /// Holds everything (`true`), or lets it go on.
    pub fn set_stalled(&self, stalled: bool) {
        self.shared.lock().stalled = stalled;
        self.shared.changed.notify_all();
    }

    /// How many bytes have been delivered in `direction`, over all connections.
    pub fn passed(&self, direction: Direction) -> u64 {
        self.shared.lock().lanes[direction as usize].passed
    }

    /// How often what was delivered changed its direction, over all connections; the first bytes count
    /// too. A question and its answer are two turns, however long they are; on a line that is busy both
    /// ways at once it says nothing.
    pub fn turns(&self) -> u64 {
        self.shared.lock().turns
    }

    /// How many connections have been let through, and how many of them are open.
    pub fn connections(&self) -> (u64, usize) {
        let state = self.shared.lock();
        (state.accepted, state.open.len())
    }

    /// Whether the line is cut: by [`Line::cut`], or because [`Line::cut_after`] came true.
    pub fn is_cut(&self) -> bool {
        self.shared.lock().cut
    }

    fn limit(&self, direction: Direction, bytes: u64, ending: Ending) {
        let mut state = self.shared.lock();
        state.lanes[direction as usize].limit = Some(Limit {
            left: bytes,
            ending,
        });
        if bytes == 0 {
            self.shared.end_by(&mut state, direction, ending);
        }
        self.shared.changed.notify_all();
    }
}

fn resolve(target: impl ToSocketAddrs) -> SocketAddr {
    match target
        .to_socket_addrs()
        .map(|mut addresses| addresses.next())
    {
        Ok(Some(address)) => address,
        Ok(None) => panic!("the line's target names no address"),
        Err(error) => panic!("resolve the line's target: {error}"),
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        {
            let mut state = self.shared.lock();
            state.stopping = true;
            self.shared.end_connections(&mut state);
        }
        // The acceptor sits in accept(2); a connection of our own lets it look around.
        drop(TcpStream::connect(self.address));
        if let Some(acceptor) = self.acceptor.take() {
            drop(acceptor.join());
        }
        let mut state = self.shared.lock();
        while state.threads > 0 {
            state = self.shared.wait(state, None);
        }
    }
}

/// What all threads of a line see, under one lock.
#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    stopping: bool,
    /// Where new connections lead since the target was moved.
    moved_to: Option<SocketAddr>,
    cut: bool,
    stalled: bool,
    latency: Duration,
    lanes: [Lane; 2],
    turns: u64,
    /// Where the last bytes went.
    last: Option<Direction>,
    open: HashMap<u64, [TcpStream; 2]>,
    accepted: u64,
    threads: usize,
}

/// One direction of the line.
#[derive(Debug, Default, Clone, Copy)]
struct Lane {
    passed: u64,
    bucket: Option<Bucket>,
    limit: Option<Limit>,
}

#[derive(Debug, Clone, Copy)]
struct Limit {
    left: u64,
    ending: Ending,
}

#[derive(Debug, Clone, Copy)]
enum Ending {
    Cut,
    Break,
}

impl State {
    /// Something is about to be delivered: counted before the other end can answer it.
    fn turn_to(&mut self, direction: Direction) {
        if self.last.replace(direction) != Some(direction) {
            self.turns += 1;
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a change, or for `limit`.
    fn wait<'a>(
        &self,
        state: MutexGuard<'a, State>,
        limit: Option<Duration>,
    ) -> MutexGuard<'a, State> {
        match limit {
            None => self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner),
            Some(limit) => {
                self.changed
                    .wait_timeout(state, limit)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0
            }
        }
    }

    /// Closes both ends of every connection, which wakes whoever reads or writes them.
    fn end_connections(&self, state: &mut State) {
        for ends in state.open.drain().map(|(_, ends)| ends) {
            for end in ends {
                // It may be closed already; then there is nothing to end.
                drop(end.shutdown(Shutdown::Both));
            }
        }
        self.changed.notify_all();
    }

    /// What happens when the limit of `direction` is used up.
    fn end_by(&self, state: &mut State, direction: Direction, ending: Ending) {
        state.lanes[direction as usize].limit = None;
        state.cut |= matches!(ending, Ending::Cut);
        self.end_connections(state);
    }
}

fn accept(listener: &TcpListener, target: SocketAddr, shared: &Arc<Shared>) {
    loop {
        let accepted = listener.accept();
        if shared.lock().stopping {
            return;
        }
        let Ok((client, _)) = accepted else { continue };
        if shared.lock().cut {
            continue;
        }
        let target = shared.lock().moved_to.unwrap_or(target);
        // A target that is down shows as a connection that ends at once, as with any proxy.
        if let Ok(server) = TcpStream::connect_timeout(&target, CONNECT_LIMIT) {
            drop(join(&client, &server, shared));
        }
    }
}

/// Registers a connection and starts its four threads: a reader and a writer a direction.
fn join(client: &TcpStream, server: &TcpStream, shared: &Arc<Shared>) -> io::Result<()> {
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let ends = [client.try_clone()?, server.try_clone()?];
    let forward = (client.try_clone()?, server.try_clone()?);
    let back = (server.try_clone()?, client.try_clone()?);
    let id = {
        let mut state = shared.lock();
        if state.cut || state.stopping {
            return Ok(());
        }
        state.accepted += 1;
        let id = state.accepted;
        state.open.insert(id, ends);
        id
    };
    let sides = Arc::new(flow::Sides::new(id));
    flow::start(shared, &sides, Direction::Forward, forward);
    flow::start(shared, &sides, Direction::Back, back);
    Ok(())
}

#[cfg(test)]
mod tests;
