//! A stream to the peer's `pefo receive`, over one ssh exec channel.
//!
//! What it guarantees: the peer's host key is one of those pinned at pairing, or nothing is sent; only
//! the pinned key types are offered, so that a server with several keys shows the pinned one; login
//! is by the transfer key alone. A line without a sign of life ends after
//! [`SshTarget::io_timeout`]: keepalives (RFC 4254 §4, answered by the server) tell a peer that works
//! long from one that is gone. The socket is never blocked on while the peer has something to say, so a
//! refusal stops a long transfer at once and neither side can wait for the other forever. Whatever waits,
//! from the look-up of the name to the last answer, ends soon after stop was said.

mod opening;
mod pins;
mod socket;
mod stream;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use pefo_core::cancel::Cancel;
use pefo_core::{Error, ErrorKind, Result};

use self::opening::Opening;
use self::pins::Pinned;
pub(crate) use self::stream::SshStream;
use crate::link::or_cancelled;

/// What is asked of the peer's sshd; its forced command decides what really runs.
pub const COMMAND: &str = "pefo receive";

/// Where the peer's sshd is, whom we are there, and how we know it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SshTarget {
    /// Name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// The transfer account.
    pub user: String,
    /// Our private key file, without a passphrase.
    pub identity: PathBuf,
    /// Its public host keys as pinned at pairing: `ssh-ed25519 AAAA…`.
    pub host_keys: Vec<String>,
    /// How long connecting, and each step of the login, may take.
    pub connect_timeout: Duration,
    /// How long the line may show no sign of life.
    pub io_timeout: Duration,
    /// How long one answer, or the taking of one piece, may take on a line that lives.
    pub answer_timeout: Duration,
}

impl SshTarget {
    /// A target with the usual limits: 15 s to connect, 60 s without a sign of life, 30 minutes for an
    /// answer (the receiver makes a whole generation durable before it answers).
    pub fn new(
        host: impl Into<String>,
        port: u16,
        user: impl Into<String>,
        identity: impl Into<PathBuf>,
        host_keys: Vec<String>,
    ) -> Self {
        Self {
            host: host.into(),
            port,
            user: user.into(),
            identity: identity.into(),
            host_keys,
            connect_timeout: Duration::from_secs(15),
            io_timeout: Duration::from_secs(60),
            answer_timeout: Duration::from_secs(30 * 60),
        }
    }

    /// Sets how long connecting, and each step of the login, may take.
    #[must_use]
    pub const fn connect_timeout(mut self, limit: Duration) -> Self {
        self.connect_timeout = limit;
        self
    }

    /// Sets how long the line may show no sign of life.
    #[must_use]
    pub const fn io_timeout(mut self, limit: Duration) -> Self {
        self.io_timeout = limit;
        self
    }

    /// Sets how long one answer may take on a line that lives.
    #[must_use]
    pub const fn answer_timeout(mut self, limit: Duration) -> Self {
        self.answer_timeout = limit;
        self
    }

    fn unreachable(&self, message: impl fmt::Display) -> Error {
        Error::new(ErrorKind::Unreachable, message.to_string()).hint(format!(
            "see whether sshd runs on {} and port {} is open on the way",
            self.host, self.port
        ))
    }
}

impl fmt::Display for SshTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}:{}", self.user, self.host, self.port)
    }
}

/// Connects, checks the host key, logs in and starts the receiver.
///
/// # Errors
/// `Unreachable` (no such host, refused, timed out, cut on the way), `Refused` with rule `host-key`,
/// `Denied` where the transfer key is not let in, `Io` where it cannot be read, `Config` where a pinned
/// key is malformed, `Protocol` where the session cannot run a command, `Cancelled`.
pub(crate) fn connect(target: &SshTarget, cancel: &Cancel) -> Result<SshStream> {
    cancel.check()?;
    open(target, cancel).map_err(|error| or_cancelled(cancel, error))
}

fn open(target: &SshTarget, cancel: &Cancel) -> Result<SshStream> {
    let pinned = Pinned::parse(&target.host_keys)?;
    std::fs::File::open(&target.identity)
        .map_err(|error| Error::io("open", &target.identity, error))?;
    let mut opening = Opening::begin(target, &pinned, cancel)?;
    opening.login()?;
    Ok(SshStream::new(opening.run()?, target, cancel))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl comment";

    #[test]
    fn nobody_listening_is_unreachable_and_worth_a_retry() {
        let dir = tempfile::tempdir().unwrap();
        let port = {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            listener.local_addr().unwrap().port()
        };
        // Any readable file: the key is not used before the connection stands.
        let target = SshTarget::new(
            "127.0.0.1",
            port,
            "nobody",
            dir.path(),
            vec![KEY.to_owned()],
        );
        let error = connect(&target, &Cancel::new()).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}");
        assert!(error.is_retryable());
        assert!(error.hint_text().unwrap().contains(&port.to_string()));
    }
}
