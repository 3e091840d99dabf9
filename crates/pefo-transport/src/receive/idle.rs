//! A line that gives up when nothing comes or goes for too long, or when a newer session takes over.
//!
//! A receiver whose line died without a word would otherwise hold its data set's lock until sshd
//! notices.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::Succession;

/// How often a silent session looks whether it is superseded.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A pipe that has room at all has room for so much (POSIX's PIPE_BUF on Linux).
const ROOM_BYTES: usize = 4096;

/// Reads from or writes to an unbuffered descriptor; `TimedOut` where that cannot be done within the
/// limit, `ConnectionAborted` where the session is superseded.
///
/// A reader must hold back no bytes of its own: give it a `File` of standard input's descriptor
/// (`File::from(stdin().as_fd().try_clone_to_owned()?)`), not `Stdin`.
#[derive(Debug)]
pub struct IdleLimited<T> {
    inner: T,
    limit: Duration,
    succession: Option<Succession>,
}

impl<T: AsFd> IdleLimited<T> {
    /// Waits for `inner` at most `limit` each time.
    pub fn new(inner: T, limit: Duration) -> Self {
        Self {
            inner,
            limit,
            succession: None,
        }
    }

    /// Ends the session where a newer one takes its place.
    #[must_use]
    pub fn succession(mut self, succession: Succession) -> Self {
        self.succession = Some(succession);
        self
    }

    /// Waits until `inner` is ready.
    fn wait(&self, flags: PollFlags) -> io::Result<()> {
        let begun = Instant::now();
        loop {
            let left = self.limit.saturating_sub(begun.elapsed());
            let slice = match &self.succession {
                Some(succession) => left.min(LOOK_EVERY).min(succession.quiet_time()),
                None => left,
            };
            let timeout = Timespec::try_from(slice).map_err(io::Error::other)?;
            let mut polled = [PollFd::new(&self.inner, flags)];
            match poll(&mut polled, Some(&timeout)) {
                Ok(0) if left.is_zero() => return Err(io::ErrorKind::TimedOut.into()),
                Ok(0) => {}
                Ok(_) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            if let Some(succession) = &self.succession
                && begun.elapsed() >= succession.quiet_time()
                && succession.is_superseded()
            {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
        }
    }
}

impl<R: Read + AsFd> Read for IdleLimited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.wait(PollFlags::IN)?;
        self.inner.read(buffer)
    }
}

impl<W: Write + AsFd> Write for IdleLimited<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.wait(PollFlags::OUT)?;
        // More might block, and then nobody looks at the time.
        let some = bytes.len().min(ROOM_BYTES);
        self.inner.write(bytes.get(..some).unwrap_or_default())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn what_comes_in_time_is_read_and_silence_ends() {
        let (mut peer, ours) = UnixStream::pair().unwrap();
        let mut reader = IdleLimited::new(ours, Duration::from_millis(30));
        peer.write_all(b"x").unwrap();
        let mut buffer = [0; 4];
        assert_eq!(reader.read(&mut buffer).unwrap(), 1);
        let error = reader.read(&mut buffer).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(peer);
        assert_eq!(reader.read(&mut buffer).unwrap(), 0);
    }

    #[test]
    fn a_pipe_that_nobody_empties_ends_the_writer_too() {
        let (reader, writer) = std::io::pipe().unwrap();
        let mut writer = IdleLimited::new(writer, Duration::from_millis(30));
        let error = writer.write_all(&vec![0; 10 << 20]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(reader);
    }
}
