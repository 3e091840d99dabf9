//! The socket below a session: found, connected, waited on; never longer than is allowed, and no longer
//! once stop was said.
//!
//! Neither the system's resolver nor a plain connect can be stopped, so a name is looked up in a thread
//! that may be left behind (it ends with the resolver's own patience, and holds nothing), and the socket
//! connects without blocking.

use std::io;
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream, ToSocketAddrs as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use pefo_core::cancel::{Cancel, NOTICE};
use pefo_core::{Error, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with, sockopt};

use super::SshTarget;

/// A connected socket that does not block.
///
/// On drop it is shut down, whoever else holds it: libssh2 frees a session only when it need not wait
/// for the peer any more, so it must be dropped before the session that uses it.
pub(super) struct Socket(TcpStream);

impl Drop for Socket {
    fn drop(&mut self) {
        // It may be gone already.
        drop(self.0.shutdown(Shutdown::Both));
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Socket {
    /// Connects to the first of the target's addresses that answers.
    pub(super) fn dial(target: &SshTarget, cancel: &Cancel) -> Result<Self> {
        let mut last = None;
        for address in resolve(target, cancel)? {
            match Self::connect(address, target.connect_timeout, cancel) {
                Ok(socket) => return Ok(socket),
                Err(error) => last = Some((address, error)),
            }
        }
        Err(match last {
            Some((address, error)) => target
                .unreachable(format!("connect to {address}: {error}"))
                .with_source(error),
            None => target.unreachable(format!("{} has no address", target.host)),
        })
    }

    fn connect(address: SocketAddr, limit: Duration, cancel: &Cancel) -> io::Result<Self> {
        let family = match address {
            SocketAddr::V4(_) => AddressFamily::INET,
            SocketAddr::V6(_) => AddressFamily::INET6,
        };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = Self(socket_with(family, SocketType::STREAM, flags, None)?.into());
        match rustix::net::connect(&socket, &address) {
            Ok(()) => {}
            Err(Errno::INPROGRESS | Errno::INTR) => {
                let begun = Instant::now();
                while !socket.wait(PollFlags::OUT, limit, cancel)? {
                    if begun.elapsed() >= limit {
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                }
                sockopt::socket_error(&socket)??;
            }
            Err(error) => return Err(error.into()),
        }
        // Frames are small and answered: Nagle's algorithm would hold each back.
        socket.0.set_nodelay(true)?;
        Ok(socket)
    }

    /// Another handle to the same socket.
    pub(super) fn share(&self) -> io::Result<TcpStream> {
        self.0.try_clone()
    }

    /// Waits until one of `flags` holds, for `limit` or less; tells whether one does.
    ///
    /// It fails where stop was said: a session that need not wait is not stopped here.
    pub(super) fn wait(
        &self,
        flags: PollFlags,
        limit: Duration,
        cancel: &Cancel,
    ) -> io::Result<bool> {
        if cancel.is_cancelled() {
            return Err(io::Error::other("it was cancelled"));
        }
        let slice = Timespec::try_from(limit.min(NOTICE)).map_err(io::Error::other)?;
        let mut polled = [PollFd::new(self, flags)];
        match poll(&mut polled, Some(&slice)) {
            Ok(ready) => Ok(ready > 0),
            Err(Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether nothing more can come, not even an answer.
    pub(super) fn is_cut(&self) -> bool {
        match self.0.peek(&mut [0]) {
            Ok(count) => count == 0,
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        }
    }
}

fn resolve(target: &SshTarget, cancel: &Cancel) -> Result<Vec<SocketAddr>> {
    if let Ok(address) = target.host.parse::<IpAddr>() {
        return Ok(vec![(address, target.port).into()]);
    }
    let failed = |error: io::Error| -> Error {
        target
            .unreachable(format!("find {}: {error}", target.host))
            .with_source(error)
    };
    let (tell, told) = mpsc::sync_channel(1);
    let (host, port) = (target.host.clone(), target.port);
    std::thread::Builder::new()
        .name("resolve".into())
        .spawn(move || {
            let found = (host.as_str(), port).to_socket_addrs().map(Vec::from_iter);
            // Nobody may be waiting any more.
            drop(tell.send(found));
        })
        .map_err(failed)?;
    let begun = Instant::now();
    loop {
        match told.recv_timeout(NOTICE.min(target.connect_timeout)) {
            Ok(found) => return found.map_err(failed),
            Err(RecvTimeoutError::Timeout) => cancel.check()?,
            Err(RecvTimeoutError::Disconnected) => {
                return Err(failed(io::ErrorKind::UnexpectedEof.into()));
            }
        }
        if begun.elapsed() >= target.connect_timeout {
            return Err(failed(io::ErrorKind::TimedOut.into()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pefo_core::ErrorKind;
    use std::net::TcpListener;

    fn target(host: &str, port: u16) -> SshTarget {
        SshTarget::new(host, port, "nobody", "/dev/null", vec![])
    }

    #[test]
    fn a_name_and_an_address_both_lead_to_the_listener() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        for host in ["127.0.0.1", "localhost"] {
            let socket = Socket::dial(&target(host, port), &Cancel::new()).unwrap();
            assert!(!socket.is_cut());
        }
    }

    #[test]
    fn a_name_that_nobody_has_is_unreachable() {
        let error = Socket::dial(&target("no-such-host.invalid", 22), &Cancel::new())
            .err()
            .unwrap();
        assert_eq!(error.kind(), ErrorKind::Unreachable);
        assert!(error.to_string().starts_with("find no-such-host.invalid"));
    }

    #[test]
    fn an_end_of_the_line_shows_after_all_was_read() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let cancel = Cancel::new();
        let socket = Socket::dial(&target("127.0.0.1", port), &cancel).unwrap();
        drop(listener.accept().unwrap());
        while !socket
            .wait(PollFlags::IN, Duration::from_secs(10), &cancel)
            .unwrap()
        {}
        assert!(socket.is_cut());
    }

    #[test]
    fn nothing_is_waited_for_once_stop_was_said() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let cancel = Cancel::new();
        let socket = Socket::dial(&target("127.0.0.1", port), &cancel).unwrap();
        cancel.cancel();
        let waited = socket.wait(PollFlags::IN, Duration::from_secs(10), &cancel);
        assert_eq!(waited.unwrap_err().kind(), io::ErrorKind::Other);
    }
}
