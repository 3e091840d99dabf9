//! Where the bytes of a full generation go while they arrive.

use std::io::{self, Read, Write};

use pefo_core::digest::Hasher;
use pefo_core::disk::NewFile;
use pefo_core::generation::FileEntry;
use pefo_core::{Error, ErrorKind, Result};

use super::{Failed, Intake, Receiving};
use crate::delta::{self, PatchLimits, signature};
use crate::exchange::Sink;
use crate::receive::partial::{PRIVATE_FILE, of_digest};

impl Sink for Intake<'_> {
    fn signature(&mut self, index: u32, out: &mut dyn Write) -> Result<()> {
        let entry = self.entry(index)?;
        let planned = self.deltas.get(&index).ok_or_else(|| out_of_list(entry))?;
        let base = self.base(entry)?;
        let bytes = base.len();
        let mut base = Noting {
            inner: base,
            failed: false,
        };
        let options = planned.options(self.seed(entry));
        let written = signature::write(&mut base, bytes, &options, out);
        if base.failed {
            // It would fail again: next time the file is asked for whole.
            self.partial.ask_whole(&entry.blake3)?;
            return written.map_err(|error| error.retryable(true));
        }
        written
    }

    fn begin(&mut self, index: u32, size: u64) -> Result<()> {
        let entry = self.entry(index)?;
        let rest = self.begun.remove(&index);
        let expected = entry.size - rest.as_ref().map_or(0, Hasher::len);
        if size != expected {
            return Err(announced(entry, size));
        }
        let (rest, file, hasher) = match rest {
            Some(hasher) => {
                let path = of_digest(&entry.blake3)?;
                let file = self.partial.incoming.resume(&path, &PRIVATE_FILE)?;
                (true, file, hasher)
            }
            None => (false, self.create(entry, false)?, Hasher::default()),
        };
        self.receiving = Some(Receiving {
            index,
            file,
            hasher,
            rest,
        });
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let receiving = self.receiving.as_mut().ok_or_else(nothing_begun)?;
        receiving.file.write(bytes)?;
        receiving.hasher.update(bytes);
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        let Receiving {
            index,
            file,
            hasher,
            rest,
        } = self.receiving.take().ok_or_else(nothing_begun)?;
        let entry = self.entry(index)?;
        if hasher.len() == entry.size && hasher.digest() == entry.blake3 {
            file.finish()?;
            return self.place(entry, false);
        }
        if rest {
            // Which of its two parts is wrong cannot be told.
            let why = "what was here before does not go with what came".to_owned();
            self.failed.push(Failed { index, why });
            return Ok(());
        }
        Err(not_signed(entry.path.as_str()))
    }

    fn patch(&mut self, index: u32, size: u64, delta: &mut dyn Read) -> Result<()> {
        let entry = self.entry(index)?;
        if size != entry.size {
            return Err(announced(entry, size));
        }
        let base = self.base(entry)?;
        let mut out = Out {
            file: self.create(entry, true)?,
            failed: None,
        };
        let limits = PatchLimits::new(entry.size).digest(entry.blake3);
        let patched = delta::patch(base, delta, &mut out, &limits);
        match (out.failed, patched) {
            (Some(error), _) => Err(error),
            (None, Ok(_)) => {
                out.file.finish()?;
                self.place(entry, true)
            }
            (None, Err(error)) => {
                // Where it was the line that failed, the line says so, and this is not asked.
                let why = error.to_string();
                self.failed.push(Failed { index, why });
                Ok(())
            }
        }
    }

    fn skip(&mut self, index: u32) -> Result<()> {
        let path = &self.entry(index)?.path;
        Err(Error::new(
            ErrorKind::Io,
            format!("{path} can no longer be had where it came from"),
        ))
    }
}

/// What the sender was told not to send: a file that is not what was signed.
pub(in crate::receive) fn not_signed(what: &str) -> Error {
    Error::refused("digest", format!("{what} is not what was signed"))
        .hint("it changed while it was sent, or the source's disk is failing; push again")
}

fn announced(entry: &FileEntry, size: u64) -> Error {
    Error::new(
        ErrorKind::Protocol,
        format!(
            "{} was announced with {size} bytes, its manifest says {}",
            entry.path, entry.size
        ),
    )
}

fn out_of_list(entry: &FileEntry) -> Error {
    Error::invalid(format!("no delta of {} was planned", entry.path))
}

fn nothing_begun() -> Error {
    Error::new(ErrorKind::Protocol, "bytes came and no file was begun")
}

/// Notes whether reading failed, rather than what was done with what was read.
struct Noting<R> {
    inner: R,
    failed: bool,
}

impl<R: Read> Read for Noting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer);
        self.failed |= read.is_err();
        read
    }
}

/// A file as a stream, which keeps the disk's own error.
struct Out {
    file: NewFile,
    failed: Option<Error>,
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.file.write(bytes) {
            Ok(()) => Ok(bytes.len()),
            Err(error) => {
                self.failed = Some(error);
                Err(io::ErrorKind::Other.into())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
