//! The content of files that nothing is known of: read and hashed, between two looks at what they are.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use pefo_core::digest::Hasher;
use pefo_core::digest_cache::{Identity, identify};
use pefo_core::disk::{Beneath, Standing};
use pefo_core::{Digest, Error, ErrorKind, RelPath, Result};

use super::{Scanner, joined};

const BUFFER_BYTES: usize = 128 * 1024;
/// How often a file that changes under the reader's eyes is read before it is given up.
const TRIES: usize = 3;

fn is_gone(error: &Error) -> bool {
    error.io_kind() == Some(io::ErrorKind::NotFound)
}

impl Scanner<'_> {
    /// Adds a file by what is known of it, or by reading it.
    pub(super) fn file(
        &mut self,
        open: impl Fn() -> Result<File>,
        path: RelPath,
        full: &Path,
        standing: Standing,
    ) -> Result<()> {
        let read = match self.cache.get(&standing.identity) {
            Some(digest) => Ok(Some((standing.identity, digest))),
            None => self.read(open, full),
        };
        match read {
            Ok(Some((identity, digest))) => self.push(path, &standing, &identity, digest),
            Ok(None) => {}
            Err(error) if error.kind() == ErrorKind::Cancelled => return Err(error),
            Err(error) => self.scan.unreadable.push(error),
        }
        Ok(())
    }

    /// Reads the long files, the longest first.
    pub(super) fn read_long(&mut self, root: &Path, threads: usize) -> Result<()> {
        let mut long = std::mem::take(&mut self.long);
        if long.is_empty() {
            return Ok(());
        }
        long.sort_by_key(|(_, standing)| std::cmp::Reverse(standing.identity.size));
        let beneath = Beneath::open(root)?;
        let next = AtomicUsize::new(0);
        let read = |scanner: &mut Scanner<'_>| {
            while let Some((path, standing)) = long.get(next.fetch_add(1, Ordering::Relaxed)) {
                let full = path.in_dir(root);
                scanner.file(|| beneath.file(path), path.clone(), &full, *standing)?;
            }
            Ok::<_, Error>(())
        };
        let (cache, cancel) = (self.cache, self.cancel);
        std::thread::scope(|scope| {
            let others: Vec<_> = (0..threads.min(long.len()))
                .map(|_| {
                    scope.spawn(|| {
                        let mut scanner = Scanner::new(cache, cancel);
                        read(&mut scanner).map(|()| scanner)
                    })
                })
                .collect();
            for other in others {
                self.take_over(joined(other)?);
            }
            Ok(())
        })
    }

    /// Reads and hashes a file; `None` where it is gone.
    fn read(
        &mut self,
        open: impl Fn() -> Result<File>,
        full: &Path,
    ) -> Result<Option<(Identity, Digest)>> {
        for _ in 0..TRIES {
            self.cancel.check()?;
            let file = match open() {
                Err(error) if is_gone(&error) => return Ok(None),
                other => other?,
            };
            let before = identify(&file, full)?;
            let (digest, bytes) = self
                .hash(&file)
                .map_err(|error| Error::io("read", full, error))?;
            self.scan.read.0 += 1;
            self.scan.read.1 += bytes;
            if bytes == before.size && identify(&file, full)? == before {
                self.learnt.push((before, digest));
                return Ok(Some((before, digest)));
            }
        }
        let message = format!("read {}: it changes while it is read", full.display());
        Err(Error::new(ErrorKind::Io, message)
            .retryable(true)
            .hint("it is sent by a later run, once it is at rest"))
    }

    /// As [`Digest::of_reader`], with one buffer for all files.
    fn hash(&mut self, mut file: &File) -> io::Result<(Digest, u64)> {
        let mut hasher = Hasher::default();
        self.buffer.resize(BUFFER_BYTES, 0);
        loop {
            match file.read(&mut self.buffer) {
                Ok(0) => return Ok((hasher.digest(), hasher.len())),
                Ok(count) => hasher.update(self.buffer.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}
