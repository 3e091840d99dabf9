//! Signatures of long files that stand in the tree, made when the line is no longer needed, so that the
//! next delta need not wait until the old file was read.
//!
//! One is kept for each long file that this receiver wrote, under the digest of its content, in
//! `STATE/signatures`. It is a cache: published whole but not fsynced, read with its own seal checked,
//! and made anew at the question where it is missing.

use std::io;

use pefo_core::digest::{Digest, Hasher};
use pefo_core::disk::{Attributes, Disk, Rooted};
use pefo_core::{RelPath, Result};

use crate::delta::{Seed, signature};
use crate::exchange::{Candidate, Planned, plan_deltas};
use crate::message::Ask;

/// Shorter files are read as fast as their signature.
pub(super) const LEAST_BYTES: u64 = 8 << 20;
const DIRECTORY: &str = "signatures";

pub(super) struct Signatures {
    dir: Rooted,
    disk: Disk,
}

impl Signatures {
    pub(super) fn open(state: &Rooted, disk: &Disk) -> Result<Self> {
        let name = RelPath::new(DIRECTORY)?;
        state.create_dir(&name, 0o700)?;
        Ok(Self {
            dir: Rooted::open(disk, &name.in_dir(state.path()))?,
            disk: disk.clone(),
        })
    }

    /// The signature of a file of `bytes` with this digest, where there is one as `planned`.
    pub(super) fn get(&self, digest: &Digest, bytes: u64, planned: &Planned) -> Option<Vec<u8>> {
        let name = RelPath::new(digest.to_string()).ok()?;
        let reading = self.dir.reading().ok()?;
        let kept = reading.read(&name, Ask::MAX_SIGNATURE_BYTES).ok()?;
        let is_its = kept.len() as u64 == planned.signature_bytes
            && signature::parse(&kept).is_ok_and(|kept| kept.layout().file_bytes() == bytes);
        is_its.then_some(kept)
    }

    /// Makes the signature of a file of `bytes` with this digest, as a delta of a file as long would want
    /// it, and keeps it; tells whether the file was read and has that digest. Where it has another, nothing
    /// is kept: somebody else wrote to it.
    pub(super) fn make(
        &self,
        file: impl io::Read,
        bytes: u64,
        digest: &Digest,
        seed: Seed,
    ) -> Result<bool> {
        let candidate = Candidate {
            index: 0,
            base_bytes: bytes,
            new_bytes: bytes,
        };
        let planned = plan_deltas(&[candidate], 1);
        let Some(planned) = planned.first() else {
            return Ok(false);
        };
        let mut made = Vec::new();
        let mut file = Hashed {
            file,
            hasher: Hasher::default(),
        };
        let buffered = io::BufReader::with_capacity(1 << 18, &mut file);
        signature::write(buffered, bytes, &planned.options(seed), &mut made)?;
        if file.hasher.digest() != *digest {
            return Ok(false);
        }
        let target = self.dir.path().join(digest.to_string());
        let private = Attributes::mode(0o600);
        self.disk.publish_cache(&target, &made, &private)?;
        Ok(true)
    }

    /// Forgets those of content that no longer stands.
    pub(super) fn forget_all_but(&self, stands: impl Fn(&Digest) -> bool) -> Result<()> {
        for (name, _) in self.dir.reading()?.entries(usize::MAX)? {
            let known = name.as_str().parse().is_ok_and(|digest| stands(&digest));
            if !known {
                self.dir.remove_tree(&name)?;
            }
        }
        Ok(())
    }
}

/// A file that is hashed as it is read.
struct Hashed<R> {
    file: R,
    hasher: Hasher,
}

impl<R: io::Read> io::Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.hasher.update(buffer.get(..count).unwrap_or_default());
        Ok(count)
    }
}
