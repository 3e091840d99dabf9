//! What a delta is made against: some files read as one.
//!
//! A delta that was cut goes on against the part that had arrived and the old file behind it, so that
//! neither what had crossed nor what has not changed crosses again.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt as _;

use rustix::fs::{Advice, fadvise};

/// Memory of what was read once is given back in pieces of so many bytes.
const GIVEN_BACK_BYTES: u64 = 4 << 20;

/// Files one behind the other, each as long as it was when the chain was made.
#[derive(Debug, Default)]
pub(crate) struct Chain {
    parts: Vec<(File, u64)>,
    at: u64,
    read_once: bool,
    /// From here to `at` all was read and is still in the kernel's memory.
    kept_from: u64,
}

impl Chain {
    /// `bytes` of a file behind what is there already.
    pub(crate) fn push(&mut self, file: File, bytes: u64) {
        self.parts.push((file, bytes));
    }

    /// Tells that what was read will hardly be read again: the kernel may use its memory for the file that
    /// is being written from it, and need not push out what others use.
    pub(crate) fn read_once(mut self) -> Self {
        self.read_once = true;
        self
    }

    /// Gives back what lies behind in this part, which begins at `begin`.
    fn give_back(&mut self, file: usize, begin: u64) {
        let from = self.kept_from.max(begin);
        let length = NonZeroU64::new(self.at.saturating_sub(from));
        if let (Some(length), Some((file, _))) = (length, self.parts.get(file)) {
            let _ = fadvise(file, from - begin, Some(length), Advice::DontNeed);
        }
        self.kept_from = self.at;
    }

    /// All bytes of it.
    pub(crate) fn len(&self) -> u64 {
        self.parts.iter().map(|(_, bytes)| bytes).sum()
    }
}

impl Read for Chain {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut begin = 0;
        for (index, (file, bytes)) in self.parts.iter().enumerate() {
            let end = begin + bytes;
            if self.at < end {
                let left = usize::try_from(end - self.at).unwrap_or(usize::MAX);
                let most = buffer.len().min(left);
                let part = buffer.get_mut(..most).unwrap_or_default();
                let count = file.read_at(part, self.at - begin)?;
                self.at += count as u64;
                let behind = self.at.saturating_sub(self.kept_from);
                if self.read_once && (behind >= GIVEN_BACK_BYTES || self.at == end) {
                    self.give_back(index, begin);
                }
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
        let target = target.ok_or(io::ErrorKind::InvalidInput)?;
        if target < self.kept_from || target > self.at.saturating_add(GIVEN_BACK_BYTES) {
            self.kept_from = target;
        }
        self.at = target;
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
        fn a_chain_reads_as_its_files_one_behind_the_other(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..4), from in 0_u64..100, once in any::<bool>()) {
            let mut chain = Chain::default();
            for part in &parts {
                let mut file = tempfile::tempfile().unwrap();
                file.write_all(part).unwrap();
                file.write_all(b"grown since").unwrap();
                chain.push(file, part.len() as u64);
            }
            if once {
                chain = chain.read_once();
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
