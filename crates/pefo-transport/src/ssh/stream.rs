//! One exec channel as a stream that never blocks on one direction alone.
//!
//! libssh2 is kept non-blocking. Whatever the peer says is taken in whenever we touch the channel:
//! words of pefo's into an inbox, standard error into a short tail. Writing stops as soon as there is
//! something to read, since in a half-duplex phase that can only be a refusal. Only the first words are
//! said whatever has come: both sides begin at once, and the peer's preamble may be here before ours
//! is on its way. Stop is heard while it waits, and only then: what can go on without waiting does, so
//! that last words get through on a line that is free.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use pefo_core::cancel::Cancel;
use ssh2::{Channel, Session};

use super::SshTarget;
use super::opening::{awaited, would_block};
use super::socket::Socket;
use crate::message::plain;
use crate::wire::Stream;

/// Above this the peer has to wait until we read.
const INBOX_BYTES: usize = 4 << 20;
/// How much of standard error is kept.
const STDERR_BYTES: usize = 1000;
/// How long the last words of an ended session may take.
const FAREWELL: Duration = Duration::from_secs(5);

pub(crate) struct SshStream {
    // Dropped first.
    socket: Socket,
    session: Session,
    channel: Channel,
    inbox: VecDeque<u8>,
    stderr: Vec<u8>,
    ended: bool,
    /// Whether our first words were said.
    greeted: bool,
    io_timeout: Duration,
    answer_timeout: Duration,
    cancel: Cancel,
}

/// How long one operation has waited, and since when there was no sign of life.
struct Patience {
    begun: Instant,
    alive: Instant,
}

impl Patience {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            begun: now,
            alive: now,
        }
    }
}

impl SshStream {
    pub(super) fn new(
        (socket, session, channel): (Socket, Session, Channel),
        target: &SshTarget,
        cancel: &Cancel,
    ) -> Self {
        let interval = u32::try_from(target.io_timeout.as_secs() / 3).unwrap_or(u32::MAX);
        // With want_reply the server answers each: that is the sign of life.
        session.set_keepalive(true, interval.max(1));
        Self {
            socket,
            session,
            channel,
            inbox: VecDeque::new(),
            stderr: Vec::new(),
            ended: false,
            greeted: false,
            io_timeout: target.io_timeout,
            answer_timeout: target.answer_timeout,
            cancel: cancel.clone(),
        }
    }

    /// Takes in all that has arrived.
    fn pump(&mut self) -> io::Result<()> {
        let mut buffer = [0; 32 * 1024];
        while !self.ended && self.inbox.len() < INBOX_BYTES {
            match self.channel.read(&mut buffer) {
                Ok(0) => self.ended = true,
                Ok(count) => self.inbox.extend(buffer.iter().take(count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        loop {
            match self.channel.stderr().read(&mut buffer) {
                Ok(count @ 1..) => {
                    let room = STDERR_BYTES.saturating_sub(self.stderr.len());
                    self.stderr.extend(buffer.iter().take(count.min(room)));
                }
                Ok(0) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits until the socket can go on.
    fn wait(&mut self, patience: &mut Patience) -> io::Result<()> {
        let next_keepalive = match self.session.keepalive_send() {
            Ok(seconds) => Duration::from_secs(seconds.into()),
            Err(error) => match io::Error::from(error) {
                error if error.kind() == io::ErrorKind::WouldBlock => Duration::from_secs(1),
                error => return Err(error),
            },
        };
        let left = |since: Instant, limit: Duration| limit.saturating_sub(since.elapsed());
        let limit = next_keepalive
            .min(left(patience.alive, self.io_timeout))
            .min(left(patience.begun, self.answer_timeout))
            .max(Duration::from_millis(10));
        let ready = self
            .socket
            .wait(awaited(&self.session), limit, &self.cancel)?;
        let now = Instant::now();
        if ready {
            patience.alive = now;
        }
        let silent = now.duration_since(patience.alive) >= self.io_timeout;
        if silent || now.duration_since(patience.begun) >= self.answer_timeout {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(())
    }

    /// Takes one of the last steps, until `end` at the latest.
    fn settle(&mut self, end: Instant, step: fn(&mut Channel) -> Result<(), ssh2::Error>) {
        while step(&mut self.channel).is_err_and(|error| would_block(&error)) {
            let left = end.saturating_duration_since(Instant::now());
            let waited = self.socket.wait(awaited(&self.session), left, &self.cancel);
            if left.is_zero() || waited.is_err() {
                return;
            }
        }
    }
}

impl Read for SshStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut patience = Patience::new();
        loop {
            if !self.inbox.is_empty() {
                return self.inbox.read(buffer);
            }
            if self.ended {
                return Ok(0);
            }
            self.pump()?;
            if self.inbox.is_empty() && !self.ended {
                self.wait(&mut patience)?;
            }
        }
    }
}

impl Write for SshStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut patience = Patience::new();
        loop {
            self.pump()?;
            if self.ended || (self.greeted && !self.inbox.is_empty()) {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            match self.channel.write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.wait(&mut patience)?;
                }
                other => return other,
            }
        }
    }

    /// What was written is on its way already. libssh2's flush is not that of a writer: it throws away
    /// what was received and not yet read.
    fn flush(&mut self) -> io::Result<()> {
        self.greeted = true;
        Ok(())
    }
}

impl Stream for SshStream {
    fn farewell(&mut self) -> Option<String> {
        let ended = self.ended;
        drop(self.pump());
        if ended {
            // The exit status comes after the end of the output.
            let end = Instant::now() + FAREWELL;
            self.settle(end, Channel::close);
            self.settle(end, Channel::wait_close);
            drop(self.pump());
        }
        let stderr = plain(String::from_utf8_lossy(&self.stderr).trim());
        let said = (!stderr.is_empty()).then(|| format!("it said {stderr:?}"));
        let status = self.channel.exit_status().ok().filter(|_| ended);
        let status = status.map(|status| format!("exit status {status}"));
        match (status, said) {
            (Some(status), Some(said)) => Some(format!("{status}, {said}")),
            (status, said) => status.or(said),
        }
    }

    fn finish(&mut self) -> io::Result<()> {
        let end = Instant::now() + FAREWELL;
        // After the last frame the receiver ends, and its sshd may have closed the channel before we do;
        // libssh2 then calls each of these an error. Nothing rests on them: all was answered.
        self.settle(end, Channel::send_eof);
        self.settle(end, Channel::close);
        self.settle(end, Channel::wait_close);
        Ok(())
    }
}
