//! Frames over a stream: buffers, the preamble, and what went wrong in words.
//!
//! Blocking and single-threaded. What is queued is written at [`Wire::flush`] or when enough of it
//! has gathered; a read never takes more memory than one frame and one buffer.

use std::io::{self, Read, Write};
use std::time::Duration;

use pefo_core::clock::Clock;
use pefo_core::{Error, ErrorKind, Result};

use crate::frame::compression::Compressor;
use crate::frame::{self, Frame, PREAMBLE};
use crate::message::{Capabilities, plain};

const READ_BYTES: usize = 256 * 1024;
const WRITE_BYTES: usize = 256 * 1024;
/// How much of a stranger's first words is shown.
const SHOWN_BYTES: usize = 200;

/// What a stream can tell of the program at its other end, once it has fallen silent.
pub(crate) trait Stream: Read + Write + Send {
    /// Exit status and standard error, where there are such things.
    fn farewell(&mut self) -> Option<String> {
        None
    }
    /// Ends it in order.
    fn finish(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Any stream, without a farewell.
pub(crate) struct Plain<S>(pub(crate) S);

impl<S: Read> Read for Plain<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl<S: Write> Write for Plain<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl<S: Read + Write + Send> Stream for Plain<S> {}

/// Standard input and output as one stream.
pub(crate) struct Duplex<'a> {
    pub(crate) input: &'a mut dyn Read,
    pub(crate) output: &'a mut dyn Write,
}

impl Read for Duplex<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.input.read(buffer)
    }
}

impl Write for Duplex<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.output.write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

/// How long one frame may take to arrive, once it has begun.
pub(crate) struct FrameTime<'a> {
    pub(crate) clock: &'a dyn Clock,
    pub(crate) limit: Duration,
}

pub(crate) struct Wire<'a, S> {
    stream: S,
    read: Vec<u8>,
    taken: usize,
    out: Vec<u8>,
    frame_time: Option<FrameTime<'a>>,
    agreed: Capabilities,
    compressor: Compressor,
    traffic: Traffic,
}

/// Bytes that have crossed, as they crossed; the ssh layer's own are not counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes sent.
    pub sent: u64,
    /// Bytes received.
    pub received: u64,
    /// Bytes that compression took off what was sent.
    pub shortened: u64,
}

impl<'a, S: Read + Write> Wire<'a, S> {
    pub(crate) fn new(stream: S, frame_time: Option<FrameTime<'a>>) -> Self {
        Self {
            stream,
            read: Vec::new(),
            taken: 0,
            out: PREAMBLE.to_vec(),
            frame_time,
            agreed: Capabilities::NONE,
            compressor: Compressor::default(),
            traffic: Traffic::default(),
        }
    }

    /// From now on frames of what was agreed may come, and ours are compressed at zstd's `level` where
    /// that was agreed; 0 never compresses.
    pub(crate) fn agree(&mut self, agreed: Capabilities, level: i32) {
        self.agreed = agreed;
        self.compressor = Compressor::new(if agreed.zstd { level } else { 0 });
    }

    pub(crate) fn agreed(&self) -> Capabilities {
        self.agreed
    }

    pub(crate) fn traffic(&self) -> Traffic {
        self.traffic
    }

    pub(crate) fn stream(&mut self) -> &mut S {
        &mut self.stream
    }

    /// Whether the peer has said anything at all.
    pub(crate) fn was_answered(&self) -> bool {
        !self.read.is_empty()
    }

    /// Reads the peer's preamble.
    pub(crate) fn meet(&mut self) -> Result<()> {
        while self.read.len() < PREAMBLE.len() && PREAMBLE.starts_with(&self.read) {
            if self.fill()? == 0 {
                break;
            }
        }
        if self.read.starts_with(&PREAMBLE) {
            self.taken = PREAMBLE.len();
            return Ok(());
        }
        Err(stranger(&self.read))
    }

    /// The next frame; `None` where the peer has ended between two frames.
    pub(crate) fn receive(&mut self) -> Result<Option<Frame>> {
        let mut begun: Option<Duration> = None;
        loop {
            let waiting = self.read.get(self.taken..).unwrap_or_default();
            if let Some((frame, used)) = frame::decode_agreed(waiting, self.agreed)? {
                self.taken += used;
                return Ok(Some(frame));
            }
            let partial = !waiting.is_empty();
            if let Some(FrameTime { clock, limit }) = &self.frame_time
                && partial
            {
                // The time of day may be set meanwhile.
                let now = clock.monotonic();
                if now.saturating_sub(*begun.get_or_insert(now)) > *limit {
                    return Err(Error::new(
                        ErrorKind::Unreachable,
                        format!("a frame took longer than {} s to arrive", limit.as_secs()),
                    ));
                }
            }
            match self.fill()? {
                0 if partial => return Err(cut("in the middle of a frame")),
                0 => return Ok(None),
                _ => {}
            }
        }
    }

    fn fill(&mut self) -> Result<usize> {
        // What is left of the frames taken is less than one frame: moving it is cheap.
        self.read.drain(..self.taken);
        self.taken = 0;
        let before = self.read.len();
        self.read.resize(before + READ_BYTES, 0);
        let outcome = loop {
            match self
                .stream
                .read(self.read.get_mut(before..).unwrap_or_default())
            {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        let count = *outcome.as_ref().unwrap_or(&0);
        self.read.truncate(before + count);
        self.traffic.received += count as u64;
        outcome.map_err(|error| line_error("read from", error))
    }

    /// Queues a frame.
    pub(crate) fn queue(&mut self, frame: &Frame) -> Result<()> {
        let before = self.out.len();
        match frame {
            Frame::Data(bytes) => {
                frame::encode_compressed(bytes, &mut self.compressor, &mut self.out)?;
                let taken = self.out.len() - before - frame::HEADER_BYTES;
                self.traffic.shortened += (bytes.len() - taken) as u64;
            }
            frame => frame::encode(frame, &mut self.out)?,
        }
        self.flush_when_long()
    }

    fn flush_when_long(&mut self) -> Result<()> {
        if self.out.len() >= WRITE_BYTES {
            return self.flush();
        }
        Ok(())
    }

    /// Writes what is queued.
    pub(crate) fn flush(&mut self) -> Result<()> {
        let written = self
            .stream
            .write_all(&self.out)
            .and_then(|()| self.stream.flush());
        self.traffic.sent += self.out.len() as u64;
        self.out.clear();
        written.map_err(|error| line_error("write to", error))
    }
}

/// The line ended where it must not.
pub(crate) fn cut(when: &str) -> Error {
    Error::new(
        ErrorKind::Unreachable,
        format!("the line to the peer was cut {when}"),
    )
    .hint("nothing half-sent is in use; the next push takes it up")
}

fn line_error(verb: &str, error: io::Error) -> Error {
    let what = match error.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => {
            format!("{verb} the peer: no sign of life within the time allowed")
        }
        _ => format!("{verb} the peer: {error}"),
    };
    Error::new(ErrorKind::Unreachable, what)
        .hint("nothing half-sent is in use; the next push takes it up")
        .with_source(error)
}

/// What spoke was not pefo.
fn stranger(first: &[u8]) -> Error {
    if first.is_empty() {
        return Error::new(
            ErrorKind::Protocol,
            "the peer ended the session without a word",
        )
        .hint("see whether 'pefo receive' runs on the other master: pefo check");
    }
    let shown = first.get(..first.len().min(SHOWN_BYTES)).unwrap_or(first);
    let text = plain(&String::from_utf8_lossy(shown));
    let hint = if first.starts_with(b"PEFO") {
        "the line changes line ends or cuts bytes; it must be a plain ssh session without a terminal"
    } else if first.starts_with(b"SSH-") {
        "this is an ssh server itself, not a session in it"
    } else {
        "the transfer account's login must start 'pefo receive' and print nothing before: look at its shell, shell start-up files and the command= in authorized_keys"
    };
    Error::new(
        ErrorKind::Protocol,
        format!("the peer did not answer as pefo; its first bytes were {text:?}"),
    )
    .hint(hint)
}

/// A program that said nothing of ours may have said why elsewhere.
pub(crate) fn with_farewell(error: Error, stream: &mut Box<dyn Stream>) -> Error {
    if !matches!(error.kind(), ErrorKind::Protocol | ErrorKind::Unreachable) {
        return error;
    }
    match stream.farewell() {
        None => error,
        Some(words) => {
            let hint = error.hint_text().map(str::to_owned);
            let kind = ErrorKind::Protocol;
            let said = Error::new(kind, format!("{error} ({words})")).with_source(error);
            match hint {
                Some(hint) => said.hint(hint),
                None => said,
            }
        }
    }
}
