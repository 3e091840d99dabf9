//! The staging of one change: what it needs is copied, asked for, taken in, and checked.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read, Write};

use pefo_core::digest::{Digest, Hasher};
use pefo_core::disk::{Beneath, NewFile, Rooted};
use pefo_core::{Error, ErrorKind, RelPath, Result};

use super::plan::Tree;
use super::stage::{PRIVATE_DIR, Stage, remove_all_but};
use crate::delta::{self, PatchLimits, Seed, signature};
use crate::exchange::{Candidate, Chain, Planned, Sink, Want, plan_deltas};
use crate::message::Ask;
use crate::tree::entry::{Entry, FileNode, Node};

/// From this size on a file that is cut in the middle is gone on with.
const PART_BYTES: u64 = 1 << 20;

/// The staging of one change.
pub(super) struct Filling<'s> {
    stage: &'s Stage,
    entries: &'s [Entry],
    tree: &'s Tree,
    dest: Option<Beneath>,
    has: BTreeMap<u32, Has>,
    current: Option<Current>,
    /// Entries whose content is staged, whole.
    pub(super) staged: BTreeSet<u32>,
    /// Entries that did not come as announced.
    pub(super) skipped: Vec<u32>,
}

/// A file that is being written.
struct Current {
    index: u32,
    file: NewFile,
    came: Came,
    /// Where it is written, if not at its path.
    part: Option<RelPath>,
}

/// What is known of the bytes of a file that is being written.
enum Came {
    /// They are hashed as they come.
    Hashed(Box<Hasher>),
    /// Whoever writes them says whether they are the announced ones.
    Vouched(bool),
}

impl Came {
    fn is_whole(&self, announced: &FileNode) -> bool {
        match self {
            Self::Hashed(hasher) => {
                hasher.len() == announced.size && hasher.digest() == announced.digest
            }
            Self::Vouched(whole) => *whole,
        }
    }
}

impl Stage {
    /// Begins the filling for a plan's entries; `tree` is what stands, below `dest`.
    pub(super) fn filling<'s>(
        &'s self,
        entries: &'s [Entry],
        tree: &'s Tree,
        dest: Option<Beneath>,
    ) -> Filling<'s> {
        Filling {
            stage: self,
            entries,
            tree,
            dest,
            has: BTreeMap::new(),
            current: None,
            staged: BTreeSet::new(),
            skipped: Vec::new(),
        }
    }
}

impl Filling<'_> {
    /// A seed for one file's signature.
    fn seed(&self, index: u32) -> Seed {
        let mut hasher = blake3::Hasher::new_derive_key("pefo tree signature seed v1");
        hasher
            .update(&self.stage.seed.0)
            .update(&index.to_le_bytes());
        let mut own = [0; 16];
        hasher.finalize_xof().fill(&mut own);
        Seed(own)
    }

    fn entry(&self, index: u32) -> Result<(&RelPath, &FileNode)> {
        usize::try_from(index)
            .ok()
            .and_then(|index| self.entries.get(index))
            .and_then(|entry| Some((&entry.path, entry.node.as_ref()?.file()?)))
            .ok_or_else(|| Error::new(ErrorKind::Protocol, "a file came that is in no list"))
    }

    /// Takes what an earlier session staged and this one wants; removes the rest of it.
    pub(super) fn recollect(&mut self, wanted: &[u32]) -> Result<()> {
        let mut keep = BTreeSet::new();
        for index in wanted {
            let (path, file) = self.entry(*index)?;
            let stands = self.stage.staged.stat(path)?;
            if stands.is_some_and(|stands| stands.identity.size == file.size)
                && let Ok(open) = self.stage.staged.reading()?.file(path)
                && let Ok((digest, _)) = Digest::of_reader(open)
                && digest == file.digest
            {
                let attributes = self.stage.attributes(file);
                self.stage.staged.set_attributes(path, &attributes)?;
                keep.insert(*index);
            }
        }
        let kept: BTreeSet<&RelPath> = keep
            .iter()
            .filter_map(|index| self.entry(*index).ok())
            .map(|(path, _)| path)
            .collect();
        remove_all_but(&self.stage.staged, &kept)?;
        self.staged = keep;
        Ok(())
    }

    /// What is still to be staged of these files: bytes beyond those that are here, and files.
    pub(super) fn missing(&self, content: &[u32]) -> Result<(u64, u64)> {
        let (mut bytes, mut files) = (0_u64, 0);
        for index in content.iter().filter(|index| !self.staged.contains(index)) {
            let (_, file) = self.entry(*index)?;
            let here = self.part_of(file)?.map_or(0, |(_, size)| size);
            bytes = bytes.saturating_add(file.size - here);
            files += 1;
        }
        Ok((bytes, files))
    }

    /// How each of these files is wanted.
    pub(super) fn wants(&mut self, content: &[u32], can_ask: bool) -> Result<Vec<(u32, Want)>> {
        let missing: Vec<u32> = content
            .iter()
            .filter(|index| !self.staged.contains(index))
            .copied()
            .collect();
        if !can_ask {
            return Ok(missing
                .into_iter()
                .map(|index| (index, Want::Whole))
                .collect());
        }
        let mut candidates = Vec::new();
        for index in &missing {
            let (path, file) = self.entry(*index)?;
            let has = Has {
                old: self.tree.get(path).and_then(Node::file).map(|old| old.size),
                part: self.part_of(file)?.map(|(_, bytes)| bytes),
                planned: None,
            };
            // Without an older file there is nothing to make a delta against.
            if has.old.is_some() {
                candidates.push(Candidate {
                    index: *index,
                    base_bytes: has.base_bytes(),
                    new_bytes: file.size,
                });
            }
            if has.base_bytes() > 0 {
                self.has.insert(*index, has);
            }
        }
        let parts = self.has.values().filter(|has| has.part.is_some()).count();
        for planned in plan_deltas(&candidates, Ask::MAX_ASKS.saturating_sub(parts)) {
            let index = planned.index;
            let Some(has) = self.has.get_mut(&index) else {
                continue;
            };
            has.planned = Some(planned);
            if has.part.is_some() {
                // What was put together becomes a base; the file itself begins anew.
                let (_, file) = self.entry(index)?;
                let (part, base) = part_names(file)?;
                self.stage.parts.rename(&part, &self.stage.parts, &base)?;
            }
        }
        let want = |index: &u32| match self.has.get(index) {
            Some(Has {
                planned: Some(planned),
                ..
            }) => Want::Delta {
                signature_bytes: planned.signature_bytes,
            },
            Some(Has {
                part: Some(part), ..
            }) => Want::From(*part),
            _ => Want::Whole,
        };
        Ok(missing.iter().map(|index| (*index, want(index))).collect())
    }

    /// The beginning of a long file that is here, and its length.
    fn part_of(&self, file: &FileNode) -> Result<Option<(RelPath, u64)>> {
        if file.size < PART_BYTES {
            return Ok(None);
        }
        let (part, _) = part_names(file)?;
        let stands = self.stage.parts.stat(&part)?;
        let length = stands.map(|stands| stands.identity.size);
        Ok(length
            .filter(|length| (1..file.size).contains(length))
            .map(|length| (part, length)))
    }

    /// Copies what stands elsewhere in the tree; false where it is not what it was.
    pub(super) fn copy(&mut self, index: u32, from: &RelPath) -> Result<bool> {
        let Some(dest) = &self.dest else {
            return Ok(false);
        };
        let Ok(mut source) = dest.file(from) else {
            return Ok(false);
        };
        let size = self.entry(index)?.1.size;
        self.start(index, None)?;
        let mut buffer = vec![0; 128 * 1024];
        let mut left = size;
        while left > 0 {
            let most = usize::try_from(left)
                .unwrap_or(usize::MAX)
                .min(buffer.len());
            match source.read(buffer.get_mut(..most).unwrap_or_default()) {
                Ok(0) | Err(_) => break,
                Ok(count) => {
                    self.write(buffer.get(..count).unwrap_or_default())?;
                    left -= count as u64;
                }
            }
        }
        self.settle()
    }

    /// Opens the file for what will come; `from` is how much of it is here already.
    fn start(&mut self, index: u32, from: Option<u64>) -> Result<()> {
        let (path, file) = self.entry(index)?;
        let attributes = self.stage.attributes(file);
        let stage = self.stage;
        let current = if file.size < PART_BYTES {
            stage.staged.create_parents(path, PRIVATE_DIR)?;
            Current {
                index,
                file: stage.staged.create(path, &attributes)?,
                came: Came::Hashed(Box::default()),
                part: None,
            }
        } else {
            let (part, _) = part_names(file)?;
            let mut hasher = Hasher::default();
            let new = match from {
                None => {
                    stage.parts.remove_tree(&part)?;
                    stage.parts.create(&part, &attributes)?
                }
                Some(from) => {
                    hash_beginning(&stage.parts, &part, from, &mut hasher)?;
                    stage.parts.resume(&part, &attributes)?
                }
            };
            Current {
                index,
                file: new,
                came: Came::Hashed(Box::new(hasher)),
                part: Some(part),
            }
        };
        self.current = Some(current);
        Ok(())
    }

    /// Ends the file being written; false, and it is gone, where it is not what was announced.
    fn settle(&mut self) -> Result<bool> {
        let Some(current) = self.current.take() else {
            return Ok(false);
        };
        let (path, file) = self.entry(current.index)?;
        let (path, wanted) = (path.clone(), *file);
        current.file.finish()?;
        let stage = self.stage;
        let whole = current.came.is_whole(&wanted);
        match (whole, current.part) {
            (true, Some(part)) => {
                stage.staged.create_parents(&path, PRIVATE_DIR)?;
                stage.parts.rename(&part, &stage.staged, &path)?;
                stage.parts.remove_file(&part_names(&wanted)?.1)?;
            }
            (true, None) => {}
            (false, Some(part)) => stage.parts.remove_file(&part)?,
            (false, None) => stage.staged.remove_file(&path)?,
        }
        if whole {
            self.staged.insert(current.index);
        }
        Ok(whole)
    }

    /// The signature that was made when the old file came, where the old file is all of the base.
    fn kept_signature(&self, index: u32, bytes: u64, planned: &Planned) -> Option<Vec<u8>> {
        let has = self.has.get(&index).filter(|has| has.part.is_none())?;
        let (path, _) = self.entry(index).ok()?;
        let old = self.tree.get(path).and_then(Node::file)?;
        debug_assert_eq!(has.old, Some(old.size));
        let signatures = &self.stage.signatures;
        signatures.get(&old.digest, bytes, planned)
    }

    /// What a delta is made against: what stands, and behind it what a cut delta had put together.
    fn base(&self, index: u32) -> Result<Chain> {
        let (path, file) = self.entry(index)?;
        let has = self.has.get(&index);
        let mut chain = Chain::default();
        if let (Some(dest), Some(bytes)) = (&self.dest, has.and_then(|has| has.old)) {
            chain.push(dest.file(path)?, bytes);
        }
        if let Some(bytes) = has.and_then(|has| has.part) {
            let base = self.stage.parts.reading()?.file(&part_names(file)?.1)?;
            chain.push(base, bytes);
        }
        Ok(chain)
    }
}

/// What there is of a file, and how a delta of it is asked for.
struct Has {
    /// Bytes of what stands at its path.
    old: Option<u64>,
    /// Bytes that have arrived of it.
    part: Option<u64>,
    planned: Option<Planned>,
}

impl Has {
    fn base_bytes(&self) -> u64 {
        self.old.unwrap_or(0).saturating_add(self.part.unwrap_or(0))
    }
}

impl Sink for Filling<'_> {
    fn signature(&mut self, index: u32, out: &mut dyn Write) -> Result<()> {
        let base = self.base(index)?;
        let planned = self.has.get(&index).and_then(|has| has.planned);
        let Some(planned) = planned else {
            return Err(Error::new(ErrorKind::Protocol, "no delta was planned"));
        };
        let bytes = base.len();
        if let Some(kept) = self.kept_signature(index, bytes, &planned) {
            let written = out.write_all(&kept);
            return written.map_err(|_| Error::new(ErrorKind::Unreachable, "the line was cut"));
        }
        let base = io::BufReader::with_capacity(1 << 18, base);
        signature::write(base, bytes, &planned.options(self.seed(index)), out)
    }

    fn begin(&mut self, index: u32, size: u64) -> Result<()> {
        let (path, file) = self.entry(index)?;
        let from = match self.has.get(&index) {
            Some(has) if has.planned.is_none() => has.part,
            _ => None,
        };
        if size != file.size - from.unwrap_or(0) {
            let message = format!("{path} came with {size} bytes, which is not what was announced");
            return Err(Error::new(ErrorKind::Protocol, message));
        }
        self.start(index, from)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        if let Some(current) = &mut self.current {
            current.file.write(bytes)?;
            if let Came::Hashed(hasher) = &mut current.came {
                hasher.update(bytes);
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        let index = self.current.as_ref().map(|current| current.index);
        if !self.settle()? {
            self.skipped.extend(index);
        }
        Ok(())
    }

    fn patch(&mut self, index: u32, size: u64, delta: &mut dyn Read) -> Result<()> {
        let (path, file) = self.entry(index)?;
        if size != file.size {
            let message = format!("{path} came with {size} bytes, which is not what was announced");
            return Err(Error::new(ErrorKind::Protocol, message));
        }
        let limits = PatchLimits::new(size).digest(file.digest);
        // What stands there goes once the new file is placed: nobody reads it again.
        let base = self.base(index)?.read_once();
        self.start(index, None)?;
        let mut out = Written {
            current: self.current.as_mut(),
            failed: None,
        };
        let patched = delta::patch(base, delta, &mut out, &limits);
        if let Some(error) = out.failed {
            return Err(error);
        }
        let mut whole = false;
        match patched {
            // The line was cut: what was put together is a base for the next delta.
            Err(error) if error.kind() == ErrorKind::Io => {
                tracing::debug!(%error, index, "a delta was cut");
                self.current = None;
                return Ok(());
            }
            Err(error) => {
                tracing::debug!(%error, index, "a delta did not make the file it was to make");
            }
            Ok(_) => whole = true,
        }
        if let Some(current) = &mut self.current {
            current.came = Came::Vouched(whole);
        }
        self.finish()
    }

    fn skip(&mut self, index: u32) -> Result<()> {
        self.skipped.push(index);
        Ok(())
    }
}

/// The file being written, as a stream; keeps the disk's own error.
struct Written<'c> {
    current: Option<&'c mut Current>,
    failed: Option<Error>,
}

impl Write for Written<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(current) = &mut self.current
            && let Err(error) = current.file.write(bytes)
        {
            self.failed = Some(error);
            return Err(io::ErrorKind::Other.into());
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn part_names(file: &FileNode) -> Result<(RelPath, RelPath)> {
    let name = file.digest.to_string();
    Ok((
        RelPath::new(name.as_str())?,
        RelPath::new(format!("{name}.base"))?,
    ))
}

fn hash_beginning(parts: &Rooted, part: &RelPath, bytes: u64, hasher: &mut Hasher) -> Result<()> {
    let open: File = parts.reading()?.file(part)?;
    let mut beginning = open.take(bytes);
    let mut buffer = vec![0; 128 * 1024];
    loop {
        match beginning.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => hasher.update(buffer.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::io("read", &part.in_dir(parts.path()), error)),
        }
    }
}
