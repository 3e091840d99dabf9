//! One exec channel as a stream that never blocks on one direction alone.
//!
//! libssh2 is kept non-blocking. Whatever the peer says is taken in whenever we touch the channel:
//! words of pefo's into an inbox, standard error into a short tail. Writing stops as soon as there is
//! something to read, since in a half-duplex phase that can only be a refusal. Only the first words are
//! said whatever has come: both sides begin at once, and the peer's preamble may be here before ours
//! is on its way.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use ssh2::{BlockDirections, Channel, Session};

use crate::message::plain;
use crate::wire::Stream;

/// Above this the peer has to wait until we read.
const INBOX_BYTES: usize = 4 << 20;
/// How much of standard error is kept.
const STDERR_BYTES: usize = 1000;
/// How long the last words of an ended session may take.
const FAREWELL: Duration = Duration::from_secs(5);

pub(crate) struct SshStream {
    session: Session,
    channel: Channel,
    socket: TcpStream,
    inbox: VecDeque<u8>,
    stderr: Vec<u8>,
    ended: bool,
    /// Whether our first words were said.
    greeted: bool,
    io_timeout: Duration,
    answer_timeout: Duration,
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
        session: Session,
        channel: Channel,
        socket: TcpStream,
        io_timeout: Duration,
        answer_timeout: Duration,
    ) -> Self {
        session.set_blocking(false);
        let interval = u32::try_from(io_timeout.as_secs() / 3).unwrap_or(u32::MAX);
        // With want_reply the server answers each: that is the sign of life.
        session.set_keepalive(true, interval.max(1));
        Self {
            session,
            channel,
            socket,
            inbox: VecDeque::new(),
            stderr: Vec::new(),
            ended: false,
            greeted: false,
            io_timeout,
            answer_timeout,
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
        let mut flags = PollFlags::IN;
        if matches!(
            self.session.block_directions(),
            BlockDirections::Outbound | BlockDirections::Both
        ) {
            flags |= PollFlags::OUT;
        }
        let left = |since: Instant, limit: Duration| limit.saturating_sub(since.elapsed());
        let limit = next_keepalive
            .min(left(patience.alive, self.io_timeout))
            .min(left(patience.begun, self.answer_timeout))
            .clamp(Duration::from_millis(10), Duration::from_secs(5));
        let limit = Timespec::try_from(limit).map_err(io::Error::other)?;
        let mut polled = [PollFd::new(&self.socket, flags)];
        match poll(&mut polled, Some(&limit)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let now = Instant::now();
        if polled.iter().any(|fd| !fd.revents().is_empty()) {
            patience.alive = now;
        }
        let silent = now.duration_since(patience.alive) >= self.io_timeout;
        if silent || now.duration_since(patience.begun) >= self.answer_timeout {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(())
    }

    /// Lets libssh2 block for the last steps, which have nothing to interleave.
    fn block(&self) {
        self.session.set_blocking(true);
        self.session
            .set_timeout(u32::try_from(FAREWELL.as_millis()).unwrap_or(u32::MAX));
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

    fn flush(&mut self) -> io::Result<()> {
        let mut patience = Patience::new();
        loop {
            match self.channel.flush() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.wait(&mut patience)?;
                }
                Ok(()) => {
                    self.greeted = true;
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
    }
}

impl Stream for SshStream {
    fn farewell(&mut self) -> Option<String> {
        let ended = self.ended;
        drop(self.pump());
        if ended {
            self.block();
            // The exit status comes after the end of the output.
            drop(self.channel.close());
            drop(self.channel.wait_close());
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
        self.block();
        // After the last frame the receiver ends, and its sshd may have closed the channel before we do;
        // libssh2 then calls each of these an error. Nothing rests on them: all was answered.
        drop(self.channel.send_eof());
        drop(self.channel.close());
        drop(self.channel.wait_close());
        Ok(())
    }
}
