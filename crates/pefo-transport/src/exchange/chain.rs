//! What a delta is made against: some files read as one.
//!
//! A delta that was cut goes on against the part that had arrived and the old file behind it, so that
//! neither what had crossed nor what has not changed crosses again.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt as _;

/// Files one behind the other, each as long as it was when the chain was made.
#[derive(Debug, Default)]
pub(crate) struct Chain {
    parts: Vec<(File, u64)>,
    at: u64,
}

impl Chain {
    /// `bytes` of a file behind what is there already.
    pub(crate) fn push(&mut self, file: File, bytes: u64) {
        self.parts.push((file, bytes));
    }

    /// All bytes of it.
    pub(crate) fn len(&self) -> u64 {
        self.parts.iter().map(|(_, bytes)| bytes).sum()
    }
}

impl Read for Chain {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut begin = 0;
        for (file, bytes) in &self.parts {
            let end = begin + bytes;
            if self.at < end {
                let left = usize::try_from(end - self.at).unwrap_or(usize::MAX);
                let most = buffer.len().min(left);
                let part = buffer.get_mut(..most).unwrap_or_default();
                let count = file.read_at(part, self.at - begin)?;
                self.at += count as u64;
                return Ok(count);
            }
            begin = end;
        }
        Ok(0)
    }
}

impl Seek for Chain {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.len().checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = target.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write as _;

    proptest! {
        #[test]
        fn a_chain_reads_as_its_files_one_behind_the_other(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..4), from in 0_u64..100) {
            let mut chain = Chain::default();
            for part in &parts {
                let mut file = tempfile::tempfile().unwrap();
                file.write_all(part).unwrap();
                file.write_all(b"grown since").unwrap();
                chain.push(file, part.len() as u64);
            }
            let whole = parts.concat();
            prop_assert_eq!(chain.seek(SeekFrom::End(0)).unwrap(), whole.len() as u64);
            chain.seek(SeekFrom::Start(from)).unwrap();
            let mut read = Vec::new();
            chain.read_to_end(&mut read).unwrap();
            prop_assert_eq!(&read[..], whole.get(from as usize..).unwrap_or_default());
        }
    }
}
