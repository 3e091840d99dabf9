//! A stream to the peer's `pefo receive`, over one ssh exec channel.
//!
//! What it guarantees: the peer's host key is one of those pinned at pairing, or nothing is sent; only
//! the pinned key types are offered, so that a server with several keys shows the pinned one; login
//! is by the transfer key alone. A line without a sign of life ends after
//! [`SshTarget::io_timeout`]: keepalives (RFC 4254 §4, answered by the server) tell a peer that works
//! long from one that is gone. The socket is never blocked on while the peer has something to say, so a
//! refusal stops a long transfer at once and neither side can wait for the other forever.

mod stream;

use std::fmt;
use std::net::{TcpStream, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use pefo_core::{Error, ErrorKind, Result};
use ssh2::{CheckResult, ErrorCode, HashType, KnownHostFileKind, MethodType, Session};

pub(crate) use stream::SshStream;

/// What is asked of the peer's sshd; its forced command decides what really runs.
pub const COMMAND: &str = "pefo receive";

// libssh2.h, LIBSSH2_ERROR_*.
const KEX_FAILURE: ErrorCode = ErrorCode::Session(-5);
const AUTHENTICATION_FAILED: ErrorCode = ErrorCode::Session(-18);
const PUBLICKEY_UNVERIFIED: ErrorCode = ErrorCode::Session(-19);
const METHOD_NONE: ErrorCode = ErrorCode::Session(-17);

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
/// `Unreachable` (no such host, refused, timed out), `Refused` with rule `host-key`, `Denied` where the
/// transfer key is not let in, `Io` where it cannot be read, `Config` where a pinned key is malformed,
/// `Protocol` where the session cannot run a command.
pub(crate) fn connect(target: &SshTarget) -> Result<SshStream> {
    let pinned = Pinned::parse(&target.host_keys)?;
    std::fs::File::open(&target.identity)
        .map_err(|error| Error::io("open", &target.identity, error))?;
    let socket = dial(target)?;
    let polled = socket
        .try_clone()
        .map_err(|error| target.unreachable(&error).with_source(error))?;
    let session = match handshake(target, socket, Some(&pinned.methods())) {
        Err(error) if matches!(error.code(), KEX_FAILURE | METHOD_NONE) => {
            return Err(no_pinned_type(target, &pinned));
        }
        other => other.map_err(|error| target.unreachable(format!("ssh handshake: {error}")))?,
    };
    check_host_key(&session, target, &pinned)?;
    login(&session, target)?;
    let channel = session
        .channel_session()
        .and_then(|mut channel| channel.exec(COMMAND).map(|()| channel))
        .map_err(|error| {
            Error::new(ErrorKind::Protocol, format!("run {COMMAND:?}: {error}"))
                .hint("the transfer account's key must have command=\"pefo receive\": pefo check")
                .with_source(error)
        })?;
    Ok(SshStream::new(
        session,
        channel,
        polled,
        target.io_timeout,
        target.answer_timeout,
    ))
}

fn dial(target: &SshTarget) -> Result<TcpStream> {
    let addresses = (target.host.as_str(), target.port)
        .to_socket_addrs()
        .map_err(|error| {
            target
                .unreachable(format!("find {}: {error}", target.host))
                .with_source(error)
        })?;
    let mut last = None;
    for address in addresses {
        match TcpStream::connect_timeout(&address, target.connect_timeout) {
            Ok(socket) => {
                // Frames are small and answered: Nagle's algorithm would hold each back.
                socket
                    .set_nodelay(true)
                    .map_err(|error| target.unreachable(&error).with_source(error))?;
                return Ok(socket);
            }
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

fn handshake(
    target: &SshTarget,
    socket: TcpStream,
    methods: Option<&str>,
) -> Result<Session, ssh2::Error> {
    let mut session = Session::new()?;
    let limit = u32::try_from(target.connect_timeout.as_millis()).unwrap_or(u32::MAX);
    session.set_timeout(limit.max(1));
    if let Some(methods) = methods {
        session.method_pref(MethodType::HostKey, methods)?;
    }
    session.set_tcp_stream(socket);
    session.handshake()?;
    Ok(session)
}

/// The server has no key of a pinned type. Its key is fetched once more without preference, only to
/// name it.
fn no_pinned_type(target: &SshTarget, pinned: &Pinned) -> Error {
    let shown = dial(target)
        .ok()
        .and_then(|socket| handshake(target, socket, None).ok())
        .and_then(|session| fingerprint_of(&session));
    host_key_refused(target, pinned, shown)
}

fn check_host_key(session: &Session, target: &SshTarget, pinned: &Pinned) -> Result<()> {
    let failed = |error: ssh2::Error| {
        Error::new(ErrorKind::Config, format!("pinned host keys: {error}")).with_source(error)
    };
    let mut known = session.known_hosts().map_err(failed)?;
    for key in &pinned.keys {
        let line = format!(
            "[{}]:{} {} {}",
            target.host, target.port, key.kind, key.body
        );
        known
            .read_str(&line, KnownHostFileKind::OpenSSH)
            .map_err(failed)?;
    }
    let matched = session.host_key().is_some_and(|(key, _)| {
        matches!(
            known.check_port(&target.host, target.port, key),
            CheckResult::Match
        )
    });
    if matched {
        Ok(())
    } else {
        Err(host_key_refused(target, pinned, fingerprint_of(session)))
    }
}

fn fingerprint_of(session: &Session) -> Option<String> {
    session
        .host_key_hash(HashType::Sha256)
        .map(|hash| format!("SHA256:{}", STANDARD_NO_PAD.encode(hash)))
}

fn host_key_refused(target: &SshTarget, pinned: &Pinned, shown: Option<String>) -> Error {
    let expected: Vec<_> = pinned
        .keys
        .iter()
        .map(|key| format!("{} ({})", key.fingerprint(), key.kind))
        .collect();
    Error::refused(
        "host-key",
        format!(
            "{}:{} shows host key {}, pinned is {}",
            target.host,
            target.port,
            shown.as_deref().unwrap_or("of an unknown kind"),
            expected.join(" or ")
        ),
    )
    .hint("if the peer was reinstalled, pair the two masters again (pefo init --rekey); if not, somebody else answers for it")
}

fn login(session: &Session, target: &SshTarget) -> Result<()> {
    let Err(error) = session.userauth_pubkey_file(&target.user, None, &target.identity, None)
    else {
        return Ok(());
    };
    Err(match error.code() {
        AUTHENTICATION_FAILED | PUBLICKEY_UNVERIFIED => Error::new(
            ErrorKind::Denied,
            format!(
                "{} does not let in the transfer key {} as {}",
                target.host,
                target.identity.display(),
                target.user
            ),
        )
        .hint("authorize it there by 'pefo init' with this master's pairing line; 'pefo check' there names what in sshd's configuration forbids it"),
        // What libssh2 says of a key file it cannot use.
        ErrorCode::Session(-16) => Error::new(
            ErrorKind::Config,
            format!("transfer key {}: {error}", target.identity.display()),
        )
        .hint("it must be a private key without a passphrase: pefo init --rekey"),
        _ => target.unreachable(format!("log in: {error}")),
    }
    .with_source(error))
}

/// The host keys pinned at pairing, parsed.
struct Pinned {
    keys: Vec<PinnedKey>,
}

struct PinnedKey {
    kind: String,
    body: String,
    blob: Vec<u8>,
}

impl PinnedKey {
    /// As OpenSSH shows it: SHA-256 over the key's blob (RFC 4253 §6.6), unpadded base64.
    fn fingerprint(&self) -> String {
        let hash = ring::digest::digest(&ring::digest::SHA256, &self.blob);
        format!("SHA256:{}", STANDARD_NO_PAD.encode(hash))
    }
}

impl Pinned {
    fn parse(lines: &[String]) -> Result<Self> {
        let bad = |line: &str| {
            Error::new(
                ErrorKind::Config,
                format!("pinned host key {line:?} is not 'TYPE BASE64'"),
            )
            .hint("pair the two masters again: pefo init")
        };
        let mut keys = Vec::new();
        for line in lines {
            let mut words = line.split_ascii_whitespace();
            let (Some(kind), Some(body)) = (words.next(), words.next()) else {
                return Err(bad(line));
            };
            let blob = STANDARD.decode(body).map_err(|_| bad(line))?;
            keys.push(PinnedKey {
                kind: kind.to_owned(),
                body: body.to_owned(),
                blob,
            });
        }
        if keys.is_empty() {
            return Err(
                Error::new(ErrorKind::Config, "no host key of the peer is pinned")
                    .hint("pair the two masters: pefo init"),
            );
        }
        Ok(Self { keys })
    }

    /// The algorithms to offer: those of the pinned keys only.
    fn methods(&self) -> String {
        let mut methods: Vec<&str> = Vec::new();
        for key in &self.keys {
            let algorithms: &[&str] = match key.kind.as_str() {
                // An RSA key signs with SHA-2 (RFC 8332); with SHA-1 no longer.
                "ssh-rsa" => &["rsa-sha2-512", "rsa-sha2-256"],
                other => &[other],
            };
            for algorithm in algorithms {
                if !methods.contains(algorithm) {
                    methods.push(algorithm);
                }
            }
        }
        methods.join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl comment";

    #[test]
    fn only_the_pinned_types_are_offered() {
        let rsa = "ssh-rsa AAAAB3NzaC1yc2E=".to_owned();
        let pinned = Pinned::parse(&[KEY.to_owned(), rsa, KEY.to_owned()]).unwrap();
        assert_eq!(pinned.methods(), "ssh-ed25519,rsa-sha2-512,rsa-sha2-256");
    }

    #[test]
    fn a_fingerprint_reads_as_openssh_shows_it() {
        // `ssh-keygen -lf` of GitHub's published Ed25519 host key shows this.
        let pinned = Pinned::parse(&[KEY.to_owned()]).unwrap();
        let shown: Vec<_> = pinned.keys.iter().map(PinnedKey::fingerprint).collect();
        assert_eq!(
            shown,
            ["SHA256:+DiY3wvvV6TuJJhbpZisF/zLDA0zPMSvHdkr4UvCOqU"]
        );
    }

    #[test]
    fn a_malformed_pin_is_a_configuration_error() {
        for lines in [
            vec![],
            vec!["ssh-ed25519".to_owned()],
            vec!["ssh-ed25519 !!".to_owned()],
        ] {
            let error = Pinned::parse(&lines).err().unwrap();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.hint_text().is_some());
        }
    }

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
        let error = connect(&target).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}");
        assert!(error.is_retryable());
        assert!(error.hint_text().unwrap().contains(&port.to_string()));
    }
}
