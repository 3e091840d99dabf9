//! A socket in front of a [`Cluster`]'s, which counts what clients say to the server and can act at the nth
//! time: kill whoever speaks, say. So a run is stopped at a chosen statement, not at a random moment.

use std::io::{Read, Write as _};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::process::Pid;
use tempfile::TempDir;

use super::Cluster;
use crate::place;

/// What is done to whoever speaks, once.
type Act = Box<dyn FnOnce(Pid) + Send>;

#[derive(Default)]
struct Count {
    said: usize,
    armed: Option<(usize, Act)>,
}

/// A counting socket; its threads end with it.
pub struct Tap {
    dir: TempDir,
    path: PathBuf,
    count: Arc<Mutex<Count>>,
}

impl std::fmt::Debug for Tap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Tap").field(&self.path).finish()
    }
}

impl Tap {
    /// In front of `cluster`, on a socket of the same port in another directory.
    ///
    /// # Panics
    /// Where it cannot listen.
    pub fn before(cluster: &Cluster) -> Self {
        let dir = place::directory("tap");
        let name = format!(".s.PGSQL.{}", cluster.port());
        let path = dir.path().join(&name);
        let listener = match UnixListener::bind(&path) {
            Ok(listener) => listener,
            Err(error) => panic!("listen on {}: {error}", path.display()),
        };
        place::set_mode(&path, 0o777);
        let server = cluster.socket_dir().join(name);
        let count = Arc::new(Mutex::new(Count::default()));
        let shared = Arc::clone(&count);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                // Whoever holds the tap's count is alive; the last connection only wakes this thread.
                let (Ok(client), false) = (client, Arc::strong_count(&shared) == 1) else {
                    return;
                };
                if let Ok(server) = UnixStream::connect(&server) {
                    serve(client, server, &shared);
                }
            }
        });
        Self { dir, path, count }
    }

    /// Where its socket is.
    pub fn socket_dir(&self) -> &Path {
        self.dir.path()
    }

    /// Counts anew, and does `act` to whoever speaks for the `number`th time, which the server does not hear.
    pub fn at(&self, number: usize, act: impl FnOnce(Pid) + Send + 'static) {
        *lock(&self.count) = Count {
            said: 0,
            armed: Some((number, Box::new(act))),
        };
    }

    /// How often something was said since it counts anew.
    pub fn said(&self) -> usize {
        lock(&self.count).said
    }

    /// Does nothing any more, whoever speaks; tells whether the act was done.
    pub fn disarm(&self) -> bool {
        lock(&self.count).armed.take().is_none()
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.count = Arc::default();
        drop(UnixStream::connect(&self.path));
    }
}

fn lock(count: &Mutex<Count>) -> std::sync::MutexGuard<'_, Count> {
    count.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Carries one connection, on two threads that end with it.
fn serve(client: UnixStream, server: UnixStream, count: &Arc<Mutex<Count>>) {
    let (Ok(from_client), Ok(to_client)) = (client.try_clone(), client.try_clone()) else {
        return;
    };
    let (Ok(from_server), Ok(to_server)) = (server.try_clone(), server.try_clone()) else {
        return;
    };
    let speaker = rustix::net::sockopt::socket_peercred(&client).map(|peer| peer.pid);
    let count = Arc::downgrade(count);
    std::thread::spawn(move || {
        carry(from_client, to_server, || {
            let (Some(count), Ok(speaker)) = (count.upgrade(), speaker) else {
                return true;
            };
            let mut count = lock(&count);
            count.said += 1;
            let said = count.said;
            match count.armed.take_if(|(number, _)| *number == said) {
                Some((_, act)) => {
                    act(speaker);
                    false
                }
                None => true,
            }
        });
    });
    std::thread::spawn(move || carry(from_server, to_client, || true));
}

/// Carries what comes, as long as `passes` lets it, and closes both sides at the end.
fn carry(mut from: UnixStream, mut to: UnixStream, mut passes: impl FnMut() -> bool) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let piece = buffer.get(..count).unwrap_or_default();
        if !passes() || to.write_all(piece).is_err() {
            break;
        }
    }
    // Either may be closed already.
    drop(from.shutdown(Shutdown::Both));
    drop(to.shutdown(Shutdown::Both));
}
