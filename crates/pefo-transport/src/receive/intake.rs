//! A full generation being received: what is here already, how the rest is asked for, and where it goes.
//!
//! Taking up happens in this order for each file of the manifest: it stands in the partial; the newest
//! generation here has it; another partial has it; its beginning is here; an older file is near enough
//! for a delta; it is asked for whole. Whatever a session left is hashed again before it counts, and
//! whatever arrives is hashed against the manifest before it is a generation's file.

mod sink;

pub(super) use sink::not_signed;

use std::collections::{BTreeMap, BTreeSet, HashSet};

use pefo_core::digest::Hasher;
use pefo_core::disk::{EntryKind, NewFile, Rooted, is_disk_refusal};
use pefo_core::generation::{FileEntry, Manifest};
use pefo_core::{Digest, Error, RelPath, Result};

use super::newest::Newest;
use super::partial::{
    PRIVATE_DIR, PRIVATE_FILE, Partial, Source, next_of_digest, of_digest, planted, regular,
};
use crate::delta::Seed;
use crate::exchange::{Candidate, Chain, LEAST_DELTA_BYTES, Planned, Want, plan_deltas};
use crate::message::{Ask, RETRY_RULE};

/// A file this long is received beside the others and gone on with in its middle; shorter ones are
/// received where they belong, and again where they were cut.
pub(super) const LONG_BYTES: u64 = 1 << 20;

/// On what terms a generation is taken.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    /// Whether the peer can be asked for parts and deltas.
    pub(super) ask: bool,
    /// What signatures are keyed with.
    pub(super) secret: Option<[u8; 32]>,
}

/// Content that arrived in part and turned out not to be what was signed, though its sender may be
/// right: it will be asked for whole.
struct Failed {
    index: u32,
    why: String,
}

pub(super) struct Intake<'m> {
    manifest: &'m Manifest,
    partial: Partial,
    newest: Option<Newest>,
    secret: Option<[u8; 32]>,
    wants: Vec<(u32, Want)>,
    /// The hash of what is here of a file whose rest is asked for.
    begun: BTreeMap<u32, Hasher>,
    deltas: BTreeMap<u32, Planned>,
    receiving: Option<Receiving>,
    failed: Vec<Failed>,
}

/// The file whose bytes are arriving.
struct Receiving {
    index: u32,
    file: NewFile,
    hasher: Hasher,
    rest: bool,
}

impl<'m> Intake<'m> {
    /// Takes up what is here of a generation and decides how to ask for the rest. The `sources` can go
    /// afterwards.
    pub(super) fn begin(
        manifest: &'m Manifest,
        partial: Partial,
        sources: &[Source],
        newest: Option<Newest>,
        terms: Terms,
    ) -> Result<Self> {
        let long = manifest
            .files
            .iter()
            .filter(|entry| entry.size >= LONG_BYTES);
        let long: HashSet<Digest> = long.map(|entry| entry.blake3).collect();
        let mut intake = Self {
            manifest,
            partial,
            newest,
            secret: terms.secret.filter(|_| terms.ask),
            wants: Vec::new(),
            begun: BTreeMap::new(),
            deltas: BTreeMap::new(),
            receiving: None,
            failed: Vec::new(),
        };
        for source in sources {
            source.hand_over(&long, &intake.partial)?;
        }
        intake.partial.tidy(&long)?;
        let mut missing = Vec::new();
        for (index, entry) in (0_u32..).zip(&manifest.files) {
            if !intake.has(entry, sources)? {
                missing.push((index, entry));
            }
        }
        intake.decide(&missing, terms.ask)?;
        Ok(intake)
    }

    /// Whether a file is here, in its place; puts it there where it can be had without being sent.
    fn has(&self, entry: &FileEntry, sources: &[Source]) -> Result<bool> {
        let data = &self.partial.data;
        if self.partial.resumed && self.stands(entry)? {
            return Ok(true);
        }
        if let Some(newest) = &self.newest
            && let Some(path) = newest.same(entry)
            && self.link(newest.data(), path, entry)?
        {
            return Ok(true);
        }
        for source in sources {
            if let Some((root, path)) = source.find(&entry.blake3, entry.size)
                && is_what(root, path, entry)?
                && self.link(root, path, entry)?
            {
                return Ok(true);
            }
        }
        if entry.size >= LONG_BYTES {
            let arrived = of_digest(&entry.blake3)?;
            if is_what(&self.partial.incoming, &arrived, entry)? {
                data.create_parents(&entry.path, PRIVATE_DIR)?;
                self.partial.incoming.rename(&arrived, data, &entry.path)?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether the partial, which was begun for this very manifest, has the file in its place.
    fn stands(&self, entry: &FileEntry) -> Result<bool> {
        let data = &self.partial.data;
        let Some(standing) = data.stat(&entry.path)? else {
            return Ok(false);
        };
        match standing.kind {
            EntryKind::File => {}
            _ => return Err(planted(data, &entry.path)),
        }
        // A link to a file of the newest generation is believed as that one is.
        let linked = self.newest.as_ref().and_then(|newest| {
            let path = newest.same(entry)?;
            newest.data().stat(path).ok()?
        });
        let same = linked.is_some_and(|linked| linked.identity == standing.identity);
        if (same && standing.identity.size == entry.size) || is_what(data, &entry.path, entry)? {
            return Ok(true);
        }
        data.remove_file(&entry.path)?;
        Ok(false)
    }

    /// Links a file that is here already; false where it turned out not to be.
    fn link(&self, from: &Rooted, path: &RelPath, entry: &FileEntry) -> Result<bool> {
        let whole = matches!(regular(from, path), Ok(Some(it)) if it.identity.size == entry.size);
        if !whole {
            return Ok(false);
        }
        let data = &self.partial.data;
        data.create_parents(&entry.path, PRIVATE_DIR)?;
        match from.hard_link(path, data, &entry.path) {
            Ok(()) => Ok(true),
            // Too many names, or just gone: it is asked for like any other.
            Err(error) if !is_disk_refusal(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// How what is missing is asked for.
    fn decide(&mut self, missing: &[(u32, &FileEntry)], ask: bool) -> Result<()> {
        let mut beginnings = BTreeMap::new();
        if ask {
            let whole = self.partial.asked_whole()?;
            let mut claimed = HashSet::new();
            let parts = missing
                .iter()
                .filter(|(_, entry)| entry.size >= LONG_BYTES && !whole.contains(&entry.blake3));
            for (index, entry) in parts.take(Ask::MAX_ASKS / 2) {
                let arrived = of_digest(&entry.blake3)?;
                if let Some(it) = regular(&self.partial.incoming, &arrived)?
                    && (1..entry.size).contains(&it.identity.size)
                    // Of two files with one content only one can be gone on with.
                    && claimed.insert(entry.blake3)
                {
                    beginnings.insert(*index, it.identity.size);
                }
            }
            self.plan(missing, &whole, &beginnings);
        }
        for (index, entry) in missing {
            let want = match (self.deltas.get(index), beginnings.get(index)) {
                (Some(planned), _) => Want::Delta {
                    signature_bytes: planned.signature_bytes,
                },
                (None, Some(bytes)) => {
                    let hasher = hash_prefix(&self.partial.incoming, entry, *bytes)?;
                    self.begun.insert(*index, hasher);
                    Want::From(*bytes)
                }
                (None, None) => Want::Whole,
            };
            self.wants.push((*index, want));
        }
        Ok(())
    }

    fn plan(
        &mut self,
        missing: &[(u32, &FileEntry)],
        whole: &BTreeSet<Digest>,
        beginnings: &BTreeMap<u32, u64>,
    ) {
        let Some(newest) = self.newest.as_ref().filter(|_| self.secret.is_some()) else {
            return;
        };
        let candidate = |(index, entry): &(u32, &FileEntry)| {
            // Sealed bytes are all new each time.
            let worth = !entry.sealed && entry.size >= LEAST_DELTA_BYTES;
            let base = newest.near(entry).filter(|_| worth)?;
            // One that was cut since has nothing to compare with.
            let stands = regular(newest.data(), &base.path).ok()??;
            let worth = stands.identity.size == base.size;
            let begun = beginnings.get(index).copied().unwrap_or(0);
            (worth && !whole.contains(&entry.blake3)).then_some(Candidate {
                index: *index,
                base_bytes: base.size.saturating_add(begun),
                new_bytes: entry.size,
            })
        };
        let candidates: Vec<_> = missing.iter().filter_map(candidate).collect();
        let planned = plan_deltas(&candidates, Ask::MAX_ASKS - beginnings.len());
        self.deltas = planned
            .into_iter()
            .map(|planned| (planned.index, planned))
            .collect();
    }

    /// How each missing file is asked for, ascending.
    pub(super) fn wants(&self) -> &[(u32, Want)] {
        &self.wants
    }

    /// Bytes that are still to come, at most.
    pub(super) fn bytes_to_come(&self) -> u64 {
        let size = |(index, want): &(u32, Want)| {
            let size = self.entry(*index).map_or(0, |entry| entry.size);
            match want {
                Want::From(from) => size.saturating_sub(*from),
                Want::Whole | Want::Delta { .. } => size,
            }
        };
        self.wants.iter().map(size).sum()
    }

    /// What arrived is the whole generation: leaves its files alone.
    ///
    /// # Errors
    /// `Refused` (`transfer-again`, retryable), where a part did not fit what was here: it will be asked
    /// for whole.
    pub(super) fn settle(self) -> Result<Rooted> {
        for Failed { index, .. } in &self.failed {
            let entry = self.entry(*index)?;
            self.partial.ask_whole(&entry.blake3)?;
            self.partial.forget(&entry.blake3)?;
            self.partial.data.remove_file(&entry.path)?;
        }
        if let Some(Failed { index, why }) = self.failed.first() {
            let path = &self.entry(*index)?.path;
            let message = format!("{path} could not be put together from its parts: {why}");
            return Err(Error::refused(RETRY_RULE, message)
                .hint("push again: it will be sent whole")
                .retryable(true));
        }
        self.partial.strip()?;
        Ok(self.partial.root)
    }

    fn entry(&self, index: u32) -> Result<&'m FileEntry> {
        usize::try_from(index)
            .ok()
            .and_then(|index| self.manifest.files.get(index))
            .ok_or_else(|| Error::invalid("the manifest has no such file"))
    }

    /// What a delta is made against: what has arrived, and the older file behind it.
    fn base(&self, entry: &FileEntry) -> Result<Chain> {
        let mut chain = Chain::default();
        let arrived = of_digest(&entry.blake3)?;
        if entry.size >= LONG_BYTES
            && let Some(it) = regular(&self.partial.incoming, &arrived)?
            && it.identity.size < entry.size
        {
            let file = self.partial.incoming.reading()?.file(&arrived)?;
            chain.push(file, it.identity.size);
        }
        if let Some(newest) = &self.newest
            && let Some(base) = newest.near(entry)
        {
            let file = newest.data().reading()?.file(&base.path)?;
            chain.push(file, base.size);
        }
        Ok(chain)
    }

    /// A seed of its own for each signature.
    fn seed(&self, entry: &FileEntry) -> Seed {
        let mut hasher = blake3::Hasher::new_derive_key("pefo generation signature seed v1");
        hasher.update(&self.secret.unwrap_or_default());
        hasher.update(self.manifest.position().to_string().as_bytes());
        hasher.update(entry.path.as_str().as_bytes());
        let mut seed = [0; 16];
        hasher.finalize_xof().fill(&mut seed);
        Seed(seed)
    }

    /// Where a file's bytes are put together, and its path there.
    fn workplace(&self, entry: &FileEntry, delta: bool) -> Result<(&Rooted, RelPath)> {
        if entry.size < LONG_BYTES {
            self.partial.data.create_parents(&entry.path, PRIVATE_DIR)?;
            return Ok((&self.partial.data, entry.path.clone()));
        }
        let path = if delta {
            next_of_digest(&entry.blake3)?
        } else {
            of_digest(&entry.blake3)?
        };
        Ok((&self.partial.incoming, path))
    }

    /// A new file at the place where a file is put together.
    fn create(&self, entry: &FileEntry, delta: bool) -> Result<NewFile> {
        let (root, path) = self.workplace(entry, delta)?;
        if regular(root, &path)?.is_some() {
            root.remove_file(&path)?;
        }
        root.create(&path, &PRIVATE_FILE)
    }

    /// A file is whole and what was signed: to its place.
    fn place(&self, entry: &FileEntry, delta: bool) -> Result<()> {
        if entry.size < LONG_BYTES {
            return Ok(());
        }
        let (root, path) = self.workplace(entry, delta)?;
        let data = &self.partial.data;
        data.create_parents(&entry.path, PRIVATE_DIR)?;
        root.rename(&path, data, &entry.path)?;
        self.partial.forget(&entry.blake3)
    }
}

/// Whether a file is what the manifest says, by its bytes.
fn is_what(root: &Rooted, path: &RelPath, entry: &FileEntry) -> Result<bool> {
    let standing = regular(root, path)?;
    if standing.is_none_or(|it| it.identity.size != entry.size) {
        return Ok(false);
    }
    let file = root.reading()?.file(path)?;
    let hashed = Digest::of_reader(file)
        .map_err(|error| Error::io("read", &path.in_dir(root.path()), error))?;
    Ok(hashed == (entry.blake3, entry.size))
}

/// The hash of the first bytes of what has arrived of a file.
fn hash_prefix(incoming: &Rooted, entry: &FileEntry, bytes: u64) -> Result<Hasher> {
    let path = of_digest(&entry.blake3)?;
    let file = incoming.reading()?.file(&path)?;
    hash_exactly(file, bytes)
        .map_err(|error| Error::io("read", &path.in_dir(incoming.path()), error))
}

/// Hashes all that `input` gives, which must be so many bytes.
pub(super) fn hash_exactly(mut input: impl std::io::Read, bytes: u64) -> std::io::Result<Hasher> {
    let mut hasher = Hasher::default();
    let mut buffer = vec![0; 128 * 1024];
    loop {
        match input.read(&mut buffer) {
            Ok(0) if hasher.len() == bytes => return Ok(hasher),
            Ok(0) => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => hasher.update(buffer.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
