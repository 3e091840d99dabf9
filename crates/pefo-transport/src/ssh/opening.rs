//! From a socket to a running receiver: handshake, host key, login, command.
//!
//! libssh2 is never let block: each step is taken again until it has what it waits for, the time allowed
//! is over, or stop was said. A line that ends on the way is told from a server that says no, since only
//! the first is worth another try.

use std::io;
use std::time::Instant;

use pefo_core::cancel::Cancel;
use pefo_core::{Error, ErrorKind, Result};
use rustix::event::PollFlags;
use ssh2::{BlockDirections, Channel, ErrorCode, MethodType, Session};

use super::pins::Pinned;
use super::socket::Socket;
use super::{COMMAND, SshTarget};

// libssh2.h, LIBSSH2_ERROR_*.
const KEX_FAILURE: ErrorCode = ErrorCode::Session(-5);
const SOCKET_SEND: ErrorCode = ErrorCode::Session(-7);
const TIMEOUT: ErrorCode = ErrorCode::Session(-9);
const SOCKET_DISCONNECT: ErrorCode = ErrorCode::Session(-13);
const FILE: ErrorCode = ErrorCode::Session(-16);
const METHOD_NONE: ErrorCode = ErrorCode::Session(-17);
const AUTHENTICATION_FAILED: ErrorCode = ErrorCode::Session(-18);
const PUBLICKEY_UNVERIFIED: ErrorCode = ErrorCode::Session(-19);
const WOULD_BLOCK: ErrorCode = ErrorCode::Session(-37);
const SOCKET_RECV: ErrorCode = ErrorCode::Session(-43);

/// What libssh2 waits for. Also when it waits to send, something to read has to be taken first.
pub(super) fn awaited(session: &Session) -> PollFlags {
    match session.block_directions() {
        BlockDirections::Outbound | BlockDirections::Both => PollFlags::IN | PollFlags::OUT,
        BlockDirections::Inbound | BlockDirections::None => PollFlags::IN,
    }
}

pub(super) fn would_block(error: &ssh2::Error) -> bool {
    error.code() == WOULD_BLOCK
}

/// A session on its way.
pub(super) struct Opening<'a> {
    // Dropped first.
    socket: Socket,
    session: Session,
    target: &'a SshTarget,
    cancel: &'a Cancel,
}

impl<'a> Opening<'a> {
    /// Connects, and shakes hands with a server that has one of the pinned keys.
    pub(super) fn begin(
        target: &'a SshTarget,
        pinned: &Pinned,
        cancel: &'a Cancel,
    ) -> Result<Self> {
        let mut opening = Self::connect(target, cancel)?;
        if let Err(error) = opening.handshake(Some(&pinned.methods())) {
            // A server ends the session when it has none of the keys that were offered, so an end of
            // the line says nothing here.
            let other_key = matches!(error.code(), KEX_FAILURE | METHOD_NONE);
            let failed = target
                .unreachable(format!("ssh handshake: {error}"))
                .with_source(error);
            let named = other_key.then(|| Self::other_key(target, pinned, cancel));
            return Err(named.flatten().unwrap_or(failed));
        }
        if pinned.shown_by(&opening.session, target)? {
            Ok(opening)
        } else {
            Err(pinned.refused(target, &opening.session))
        }
    }

    fn connect(target: &'a SshTarget, cancel: &'a Cancel) -> Result<Self> {
        let socket = Socket::dial(target, cancel)?;
        let failed = |error: io::Error| target.unreachable(&error).with_source(error);
        let mut session = Session::new().map_err(|error| failed(error.into()))?;
        session.set_blocking(false);
        session.set_tcp_stream(socket.share().map_err(failed)?);
        Ok(Self {
            socket,
            session,
            target,
            cancel,
        })
    }

    /// The server has no key of a pinned type, it seems. Its key is fetched once more without
    /// preference, only to name it; there is none to name where it has a pinned one after all.
    fn other_key(target: &'a SshTarget, pinned: &Pinned, cancel: &'a Cancel) -> Option<Error> {
        let mut opening = Self::connect(target, cancel).ok()?;
        opening.handshake(None).ok()?;
        let pinned_after_all = pinned.shown_by(&opening.session, target).ok()?;
        (!pinned_after_all).then(|| pinned.refused(target, &opening.session))
    }

    /// Takes `step` until it does not have to wait.
    fn take<T>(
        &mut self,
        mut step: impl FnMut(&mut Session) -> Result<T, ssh2::Error>,
    ) -> Result<T, ssh2::Error> {
        let begun = Instant::now();
        loop {
            match step(&mut self.session) {
                Err(error) if would_block(&error) => {}
                other => return other,
            }
            let left = self.target.connect_timeout.saturating_sub(begun.elapsed());
            if left.is_zero() {
                let words = "nothing came within the time allowed";
                return Err(ssh2::Error::new(TIMEOUT, words));
            }
            let flags = awaited(&self.session);
            if self.socket.wait(flags, left, self.cancel).is_err() {
                return Err(ssh2::Error::new(TIMEOUT, "it was given up"));
            }
        }
    }

    fn handshake(&mut self, methods: Option<&str>) -> Result<(), ssh2::Error> {
        if let Some(methods) = methods {
            self.session.method_pref(MethodType::HostKey, methods)?;
        }
        self.take(Session::handshake)
    }

    /// Whether a step failed because the line did.
    fn was_cut(&self, error: &ssh2::Error) -> bool {
        matches!(
            error.code(),
            SOCKET_SEND | TIMEOUT | SOCKET_DISCONNECT | SOCKET_RECV
        ) || self.socket.is_cut()
    }

    /// Logs in with the transfer key.
    pub(super) fn login(&mut self) -> Result<()> {
        let target = self.target;
        let login = |session: &mut Session| {
            session.userauth_pubkey_file(&target.user, None, &target.identity, None)
        };
        let Err(error) = self.take(login) else {
            return Ok(());
        };
        Err(match error.code() {
            // What libssh2 says of a key file it cannot use.
            FILE => Error::new(
                ErrorKind::Config,
                format!("transfer key {}: {error}", target.identity.display()),
            )
            .hint("it must be a private key without a passphrase: pefo init --rekey"),
            // It calls an end of the line while it waits for the answer a key that was not verified.
            PUBLICKEY_UNVERIFIED if self.was_cut(&error) => Error::new(
                ErrorKind::Unreachable,
                format!("log in: {} ended the session before it answered", target.host),
            )
            .hint("if that lasts, look at what sshd logs there: it may know a reason to turn this account away"),
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
            _ => target.unreachable(format!("log in: {error}")),
        }
        .with_source(error))
    }

    /// Starts the receiver.
    pub(super) fn run(mut self) -> Result<(Socket, Session, Channel)> {
        let opened = self.take(|session| session.channel_session());
        let started = opened.and_then(|mut channel| {
            self.take(|_| channel.exec(COMMAND))?;
            Ok(channel)
        });
        match started {
            Ok(channel) => Ok((self.socket, self.session, channel)),
            Err(error) if self.was_cut(&error) => Err(self
                .target
                .unreachable(format!("run {COMMAND:?}: {error}"))
                .with_source(error)),
            Err(error) => Err(
                Error::new(ErrorKind::Protocol, format!("run {COMMAND:?}: {error}"))
                    .hint(
                        "the transfer account's key must have command=\"pefo receive\": pefo check",
                    )
                    .with_source(error),
            ),
        }
    }
}
