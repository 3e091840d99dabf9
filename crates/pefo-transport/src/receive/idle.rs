//! A reader that gives up when nothing comes for too long.
//!
//! A receiver whose line died without a word would otherwise hold its data set's lock until sshd
//! notices.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Reads from an unbuffered descriptor; `TimedOut` where nothing comes within the limit.
///
/// The reader must hold back no bytes of its own: give it a `File` of standard input's descriptor
/// (`File::from(stdin().as_fd().try_clone_to_owned()?)`), not `Stdin`.
#[derive(Debug)]
pub struct IdleLimited<R> {
    inner: R,
    limit: Duration,
}

impl<R: Read + AsFd> IdleLimited<R> {
    /// Reads from `inner`, waiting at most `limit` each time.
    pub fn new(inner: R, limit: Duration) -> Self {
        Self { inner, limit }
    }
}

impl<R: Read + AsFd> Read for IdleLimited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let end = Instant::now() + self.limit;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
            let mut polled = [PollFd::new(&self.inner, PollFlags::IN)];
            match poll(&mut polled, Some(&timeout)) {
                Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
                Ok(_) => return self.inner.read(buffer),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
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
}
