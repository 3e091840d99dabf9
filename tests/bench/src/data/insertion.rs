//! One large file that does not compress, and the same with pieces inserted: what a delta by fixed
//! blocks can not find.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use pefo_core::{Error, Result};

use crate::random::Stream;

/// A file and its insertions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Insertion {
    /// The size without insertions.
    pub(crate) bytes: u64,
    /// At how many places something is inserted.
    pub(crate) places: u64,
    /// How much is inserted at each.
    pub(crate) inserted_bytes: usize,
}

impl Insertion {
    /// Writes the file without (`old`) and with the insertions (`new`).
    ///
    /// # Errors
    /// A file that can not be written.
    pub(crate) fn write(&self, old: &Path, new: &Path) -> Result<()> {
        let (mut to_old, mut to_new) = (create(old)?, create(new)?);
        self.generate(&mut to_old, &mut to_new)
            .and_then(|()| to_old.flush())
            .and_then(|()| to_new.flush())
            .map_err(|error| Error::io("write", new, error))
    }

    fn generate(&self, old: &mut impl Write, new: &mut impl Write) -> std::io::Result<()> {
        let mut content = Stream::new("insertion: content");
        let mut pieces = Stream::new("insertion: pieces");
        let mut buffer = [0; 1 << 16];
        let mut written = 0;
        for end in self.ends().into_iter().chain([self.bytes]) {
            while written < end {
                let left = usize::try_from(end - written).unwrap_or(usize::MAX);
                let part = &mut buffer[..left.min(1 << 16)];
                content.fill(part);
                old.write_all(part)?;
                new.write_all(part)?;
                written += part.len() as u64;
            }
            if end < self.bytes {
                let mut piece = vec![0; self.inserted_bytes];
                pieces.fill(&mut piece);
                new.write_all(&piece)?;
            }
        }
        Ok(())
    }

    /// Where something is inserted, in the old file's offsets: anywhere, rising.
    fn ends(&self) -> Vec<u64> {
        let mut stream = Stream::new("insertion: places");
        let mut ends: Vec<u64> = (0..self.places).map(|_| stream.below(self.bytes)).collect();
        ends.sort_unstable();
        ends
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the playground is no data of pefo's"
)]
fn create(path: &Path) -> Result<BufWriter<File>> {
    let created = File::create(path).map_err(|error| Error::io("create", path, error))?;
    Ok(BufWriter::with_capacity(1 << 18, created))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_new_file_is_the_old_one_with_pieces_inserted() {
        let insertion = Insertion {
            bytes: 200_000,
            places: 7,
            inserted_bytes: 100,
        };
        let (mut old, mut new) = (Vec::new(), Vec::new());
        insertion.generate(&mut old, &mut new).unwrap();
        assert_eq!((old.len(), new.len()), (200_000, 200_700));
        let mut without = new.clone();
        // From the end: the places are those of the old file.
        for &end in insertion.ends().iter().rev() {
            let nth = insertion
                .ends()
                .iter()
                .filter(|&&other| other < end)
                .count();
            let at = usize::try_from(end).unwrap() + nth * 100;
            without.drain(at..at + 100);
        }
        assert!(without == old);
        let mut again = Vec::new();
        insertion.generate(&mut Vec::new(), &mut again).unwrap();
        assert!(again == new, "not the same in a second run");
    }
}
