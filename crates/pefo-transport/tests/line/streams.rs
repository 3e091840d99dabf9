//! Streams that record, replay, are cut, or belong to an older pefo.

use std::io::{Cursor, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};

use pefo_transport::frame::{self, Frame, HEADER_BYTES, PREAMBLE};

#[derive(Clone, Default)]
pub(crate) struct Recorded {
    pub(crate) said: Arc<Mutex<Vec<u8>>>,
    pub(crate) heard: Arc<Mutex<Vec<u8>>>,
}

pub(crate) struct Recording<S> {
    pub(crate) inner: S,
    pub(crate) recorded: Recorded,
}

impl<S: Read> Read for Recording<S> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.recorded
            .heard
            .lock()
            .unwrap()
            .extend_from_slice(&buffer[..count]);
        Ok(count)
    }
}

impl<S: Write> Write for Recording<S> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.recorded
            .said
            .lock()
            .unwrap()
            .extend_from_slice(&bytes[..count]);
        Ok(count)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

/// Hears what was recorded, and is heard by nobody.
pub(crate) struct Replay(pub(crate) Cursor<Vec<u8>>);

impl Read for Replay {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Replay {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A line that ends, both ways, once so many bytes were said.
pub(crate) struct Cut {
    inner: UnixStream,
    left: usize,
}

impl Cut {
    pub(crate) fn after(bytes: usize, inner: UnixStream) -> Self {
        Self { inner, left: bytes }
    }
}

impl Read for Cut {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.inner.read(buffer)
    }
}

impl Write for Cut {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = bytes.len().min(self.left);
        self.left -= count;
        self.inner.write_all(&bytes[..count])?;
        if count < bytes.len() {
            self.inner.shutdown(Shutdown::Write)?;
            return Err(std::io::ErrorKind::BrokenPipe.into());
        }
        Ok(count)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

/// A line on which neither side hears what the other can do beyond the protocol's base: as if one of
/// them were older.
pub(crate) struct Older<S> {
    inner: S,
    said: Vec<u8>,
    heard: Vec<u8>,
    greeted: (bool, bool),
}

impl<S> Older<S> {
    pub(crate) fn over(inner: S) -> Self {
        Self {
            inner,
            said: Vec::new(),
            heard: Vec::new(),
            greeted: (false, false),
        }
    }
}

/// Preamble and greeting without capabilities, once they are there.
fn strip(bytes: &mut Vec<u8>) -> bool {
    let Some(rest) = bytes.strip_prefix(PREAMBLE.as_slice()) else {
        return false;
    };
    let Some((mut greeting, used)) = frame::decode(rest).unwrap() else {
        return false;
    };
    match &mut greeting {
        Frame::Hello(hello) => hello.capabilities.clear(),
        Frame::Welcome(welcome) => welcome.capabilities.clear(),
        _ => {}
    }
    let mut stripped = PREAMBLE.to_vec();
    frame::encode(&greeting, &mut stripped).unwrap();
    stripped.extend_from_slice(&rest[used..]);
    *bytes = stripped;
    true
}

impl<S: Read> Read for Older<S> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while !self.greeted.1 {
            let mut some = [0; 4096];
            let count = self.inner.read(&mut some)?;
            self.heard.extend_from_slice(&some[..count]);
            self.greeted.1 = count == 0 || strip(&mut self.heard);
        }
        if self.heard.is_empty() {
            return self.inner.read(buffer);
        }
        let count = buffer.len().min(self.heard.len());
        buffer[..count].copy_from_slice(&self.heard[..count]);
        self.heard.drain(..count);
        Ok(count)
    }
}

impl<S: Write> Write for Older<S> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.greeted.0 {
            return self.inner.write(bytes);
        }
        self.said.extend_from_slice(bytes);
        self.greeted.0 = strip(&mut self.said);
        if self.greeted.0 {
            self.inner.write_all(&self.said)?;
        }
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

/// Where the frames begin in what a side said, and where they end.
pub(crate) fn boundaries(said: &[u8]) -> Vec<usize> {
    let mut at = PREAMBLE.len();
    let mut found = vec![at];
    while let Some(length) = said.get(at..at + 4) {
        at += HEADER_BYTES + u32::from_le_bytes(length.try_into().unwrap()) as usize;
        found.push(at);
    }
    found
}
