//! Data frames as streams: what is written becomes frames, and a run of frames is read until End.
//!
//! The line's own error, which `std::io` would flatten, is kept and given back at the end.

use std::io::{self, Read, Write};

use pefo_core::{Error, Result};

use super::{Turn, out_of_turn};
use crate::frame::{DATA_BYTES, Frame};

/// Gathers what is written into Data frames.
pub(crate) struct DataWriter<'t, T> {
    turn: &'t mut T,
    gathered: Vec<u8>,
    written: u64,
    failed: Option<Error>,
}

impl<'t, T: Turn> DataWriter<'t, T> {
    pub(crate) fn new(turn: &'t mut T) -> Self {
        Self {
            turn,
            gathered: Vec::new(),
            written: 0,
            failed: None,
        }
    }

    fn send(&mut self) -> Result<()> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        let bytes = std::mem::take(&mut self.gathered);
        self.written += bytes.len() as u64;
        self.turn.say(&Frame::Data(bytes))
    }

    /// Says what is left, and tells how many bytes there were in all.
    pub(crate) fn finish(mut self) -> Result<u64> {
        match self.failed.take() {
            Some(error) => Err(error),
            None => self.send().map(|()| self.written),
        }
    }
}

impl<T: Turn> Write for DataWriter<'_, T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = DATA_BYTES - self.gathered.len();
        let count = bytes.len().min(room);
        self.gathered
            .extend_from_slice(bytes.get(..count).unwrap_or_default());
        if self.gathered.len() == DATA_BYTES
            && let Err(error) = self.send()
        {
            self.failed = Some(error);
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads Data frames until End.
pub(crate) struct DataReader<'t, T> {
    turn: &'t mut T,
    bytes: Vec<u8>,
    at: usize,
    ended: bool,
    failed: Option<Error>,
}

impl<'t, T: Turn> DataReader<'t, T> {
    pub(crate) fn new(turn: &'t mut T) -> Self {
        Self {
            turn,
            bytes: Vec::new(),
            at: 0,
            ended: false,
            failed: None,
        }
    }

    fn next(&mut self) -> Result<()> {
        match self.turn.hear()? {
            Frame::Data(bytes) => (self.bytes, self.at) = (bytes, 0),
            Frame::End => self.ended = true,
            Frame::Abandon => return Err(super::abandoned()),
            other => return Err(out_of_turn(&other)),
        }
        Ok(())
    }

    /// Reads to the End, where the line allows.
    pub(crate) fn drain(mut self) -> Result<()> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        while !self.ended {
            self.next()?;
        }
        Ok(())
    }
}

impl<T: Turn> Read for DataReader<'_, T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.bytes.len() && !self.ended {
            if let Err(error) = self.next() {
                self.failed = Some(error);
                return Err(io::ErrorKind::BrokenPipe.into());
            }
        }
        let mut rest = self.bytes.get(self.at..).unwrap_or_default();
        let count = rest.read(buffer)?;
        self.at += count;
        Ok(count)
    }
}
