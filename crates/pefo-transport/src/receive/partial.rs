//! What was begun and is not whole: `.pefo-POSITION.partial` in a data set's directory.
//!
//! ```text
//! manifest          the signed manifest it is being received for
//! data/PATH         files that have arrived whole, and links to what was here before
//! incoming/DIGEST   the beginning of a long file whose digest will be DIGEST
//! incoming/DIGEST.next   the same, as far as a delta had made it
//! whole/DIGEST      empty: this content failed to come in parts, and is asked for whole
//! batch             the head of a long batch's file and the beginning of its payload
//! ```
//!
//! A partial outlives its session, also one that was killed. Nothing in it is made durable and nothing
//! in it is trusted: what is taken up is hashed again first. There is one for each data set, the newest;
//! for as long as another one takes it up there are two. It goes when a generation at or above its
//! position is published, or when the sender abandons it.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::os::unix::fs::MetadataExt as _;

use pefo_core::disk::{Attributes, EntryKind, Rooted, Standing};
use pefo_core::generation::spool;
use pefo_core::generation::{Manifest, Position};
use pefo_core::{Digest, Error, RelPath, Result};

pub(super) const PRIVATE_FILE: Attributes = Attributes::mode(0o600);
pub(super) const PRIVATE_DIR: u32 = 0o700;
const INCOMING: &str = "incoming";
const WHOLE: &str = "whole";
/// A long batch's file.
pub(super) const BATCH: &str = "batch";
const NEXT: &str = ".next";
/// How many files there may be in `incoming` or `whole`.
const MAX_PARTS: usize = 100_000;

/// The begun generation of one session.
#[derive(Debug)]
pub(super) struct Partial {
    pub(super) name: RelPath,
    pub(super) root: Rooted,
    /// Whether it was begun before, for this very manifest.
    pub(super) resumed: bool,
    pub(super) data: Rooted,
    pub(super) incoming: Rooted,
}

pub(super) fn rel(path: impl AsRef<str>) -> Result<RelPath> {
    RelPath::new(path)
}

/// The path of a content in `incoming` or `whole`.
pub(super) fn of_digest(digest: &Digest) -> Result<RelPath> {
    rel(digest.to_string())
}

/// Where a delta puts a content together.
pub(super) fn next_of_digest(digest: &Digest) -> Result<RelPath> {
    rel(format!("{digest}{NEXT}"))
}

/// What stands where only a file or a directory of ours may.
pub(super) fn planted(root: &Rooted, path: &RelPath) -> Error {
    let path = path.in_dir(root.path());
    Error::refused(
        "spool-symlink",
        format!("{} is a symlink or not what was put there", path.display()),
    )
    .hint("somebody else writes in the spool; see who has the transfer account")
}

/// A regular file's size and identity; `None` where nothing stands.
pub(super) fn regular(root: &Rooted, path: &RelPath) -> Result<Option<Standing>> {
    match root.stat(path)? {
        Some(standing) if standing.kind != EntryKind::File => Err(planted(root, path)),
        other => Ok(other),
    }
}

/// All partials of a data set, newest first.
///
/// # Errors
/// `Refused` (`spool-symlink`) where one is no directory.
pub(super) fn list(room: &Rooted) -> Result<Vec<(Position, RelPath)>> {
    let mut found = Vec::new();
    for (name, kind) in room.reading()?.entries(spool::MAX_GENERATIONS)? {
        let Some(position) = spool::parse_partial(name.as_str()) else {
            continue;
        };
        if kind != EntryKind::Directory {
            return Err(planted(room, &name));
        }
        found.push((position, name));
    }
    found.sort_by(|a, b| b.cmp(a));
    Ok(found)
}

/// Removes the partials that a generation at `position` has overtaken; all of them where it is `None`.
pub(super) fn remove(room: &Rooted, position: Option<Position>) -> Result<()> {
    for (begun, name) in list(room)? {
        if position.is_none_or(|position| begun <= position) {
            room.remove_tree(&name)?;
        }
    }
    Ok(())
}

/// Whether anything of what stands in a partial was received, rather than linked to.
pub(super) fn holds_anything(room: &Rooted, position: Position) -> bool {
    let path = room.path().join(spool::partial_name(position));
    let size = |name: &str| std::fs::symlink_metadata(path.join(name)).map_or(0, |it| it.len());
    // A batch's file begins with its manifest and the manifest's length.
    if size(BATCH) > size(spool::MANIFEST) + 8 {
        return true;
    }
    let received = |entry: walkdir::DirEntry| {
        let meta = entry.metadata();
        meta.is_ok_and(|meta| meta.is_file() && meta.nlink() == 1 && meta.len() > 0)
    };
    [spool::DATA, INCOMING].into_iter().any(|name| {
        let entries = walkdir::WalkDir::new(path.join(name));
        entries.into_iter().filter_map(Result::ok).any(received)
    })
}

impl Partial {
    /// Begins a generation, or goes on with it where it was begun for this very manifest. One that was
    /// begun for another manifest is put aside.
    pub(super) fn begin(room: &Rooted, position: Position, document: &[u8]) -> Result<Self> {
        let name = rel(spool::partial_name(position))?;
        let resumed = match room.stat(&name)? {
            None => false,
            Some(standing) if standing.kind != EntryKind::Directory => {
                return Err(planted(room, &name));
            }
            Some(_) if is_of(room, &name, document)? => true,
            Some(_) => {
                let aside = name.as_str().trim_end_matches(spool::PARTIAL_SUFFIX);
                let aside = rel(format!("{aside}-aside{}", spool::PARTIAL_SUFFIX))?;
                room.remove_tree(&aside)?;
                room.rename(&name, room, &aside)?;
                false
            }
        };
        if !resumed {
            room.create_dir(&name, PRIVATE_DIR)?;
        }
        let root = room.dir(&name)?;
        if !resumed {
            let mut file = root.create(&rel(spool::MANIFEST)?, &PRIVATE_FILE)?;
            file.write(document)?;
            file.finish()?;
        }
        let below = |name: &str| {
            let name = rel(name)?;
            root.create_dir(&name, PRIVATE_DIR)?;
            root.dir(&name)
        };
        Ok(Self {
            data: below(spool::DATA)?,
            incoming: below(INCOMING)?,
            name,
            root,
            resumed,
        })
    }

    /// The contents that are to be asked for whole.
    pub(super) fn asked_whole(&self) -> Result<BTreeSet<Digest>> {
        digests_in(&self.root, WHOLE)
    }

    /// From now on this content is asked for whole.
    pub(super) fn ask_whole(&self, digest: &Digest) -> Result<()> {
        self.root.create_dir(&rel(WHOLE)?, PRIVATE_DIR)?;
        let path = rel(format!("{WHOLE}/{digest}"))?;
        if regular(&self.root, &path)?.is_none() {
            self.root.create(&path, &PRIVATE_FILE)?.finish()?;
        }
        Ok(())
    }

    /// Removes all that has arrived of a content.
    pub(super) fn forget(&self, digest: &Digest) -> Result<()> {
        self.incoming.remove_file(&of_digest(digest)?)?;
        self.incoming.remove_file(&next_of_digest(digest)?)
    }

    /// Keeps, of each content in `incoming`, the longer of its two beginnings, and only of those that
    /// are `wanted`.
    pub(super) fn tidy(&self, wanted: &HashSet<Digest>) -> Result<()> {
        for (name, kind) in self.incoming.reading()?.entries(MAX_PARTS)? {
            if kind != EntryKind::File {
                return Err(planted(&self.incoming, &name));
            }
            let text = name.as_str();
            let digest = text.strip_suffix(NEXT).unwrap_or(text).parse();
            match digest {
                Ok(digest) if wanted.contains(&digest) => {
                    if text.ends_with(NEXT) {
                        take_longer(&self.incoming, &name, &self.incoming, &of_digest(&digest)?)?;
                    }
                }
                _ => self.incoming.remove_file(&name)?,
            }
        }
        Ok(())
    }

    /// Leaves what a generation is made of, and nothing else.
    pub(super) fn strip(&self) -> Result<()> {
        self.root.remove_tree(&rel(INCOMING)?)?;
        self.root.remove_tree(&rel(WHOLE)?)
    }
}

/// Whether the partial is of this very manifest; one that was cut is not.
fn is_of(room: &Rooted, name: &RelPath, document: &[u8]) -> Result<bool> {
    let manifest = rel(spool::MANIFEST)?;
    let dir = room.dir(name)?;
    if regular(&dir, &manifest)?.is_none_or(|it| it.identity.size != document.len() as u64) {
        return Ok(false);
    }
    Ok(dir.reading()?.read(&manifest, Manifest::MAX_BYTES)? == document)
}

/// Moves a beginning to where another one of the same content may stand: the longer one stays.
fn take_longer(from: &Rooted, name: &RelPath, to: &Rooted, target: &RelPath) -> Result<()> {
    let size = |root, path| Ok::<_, Error>(regular(root, path)?.map(|it| it.identity.size));
    if size(from, name)? > size(to, target)? {
        from.rename(name, to, target)
    } else {
        from.remove_file(name)
    }
}

fn digests_in(root: &Rooted, dir: &str) -> Result<BTreeSet<Digest>> {
    let dir = rel(dir)?;
    if root.stat(&dir)?.is_none() {
        return Ok(BTreeSet::new());
    }
    let entries = root.dir(&dir)?.reading()?.entries(MAX_PARTS)?;
    let digests = entries.into_iter();
    Ok(digests
        .filter_map(|(name, _)| name.as_str().parse().ok())
        .collect())
}

/// Another partial, which the one of this session takes from.
#[derive(Debug)]
pub(super) struct Source {
    root: Rooted,
    /// Its files, as its own manifest has them.
    files: HashMap<(Digest, u64), RelPath>,
    data: Option<Rooted>,
}

impl Source {
    /// Opens one; `manifest` makes one of signed bytes, if a paired key signed them.
    pub(super) fn open(
        room: &Rooted,
        name: &RelPath,
        manifest: impl Fn(&[u8]) -> Result<Manifest>,
    ) -> Result<Self> {
        let root = room.dir(name)?;
        let document = root
            .reading()?
            .read(&rel(spool::MANIFEST)?, Manifest::MAX_BYTES);
        // One whose manifest was cut has begun nothing else.
        let files = document.and_then(|document| manifest(&document));
        let files = files.map(|manifest| manifest.files).unwrap_or_default();
        let data = rel(spool::DATA)?;
        Ok(Self {
            data: match root.stat(&data)? {
                Some(_) => Some(root.dir(&data)?),
                None => None,
            },
            root,
            files: files
                .into_iter()
                .map(|entry| ((entry.blake3, entry.size), entry.path))
                .collect(),
        })
    }

    /// Where it has this content, if it has it; not checked yet.
    pub(super) fn find(&self, digest: &Digest, size: u64) -> Option<(&Rooted, &RelPath)> {
        self.data.as_ref().zip(self.files.get(&(*digest, size)))
    }

    /// Hands over what it has begun of the `wanted` contents, and what it knows of them.
    pub(super) fn hand_over(&self, wanted: &HashSet<Digest>, to: &Partial) -> Result<()> {
        let incoming = rel(INCOMING)?;
        if self.root.stat(&incoming)?.is_some() {
            let incoming = self.root.dir(&incoming)?;
            for (name, kind) in incoming.reading()?.entries(MAX_PARTS)? {
                let text = name.as_str();
                let digest = text.strip_suffix(NEXT).unwrap_or(text).parse::<Digest>();
                if kind == EntryKind::File
                    && let Ok(digest) = digest
                    && wanted.contains(&digest)
                {
                    take_longer(&incoming, &name, &to.incoming, &of_digest(&digest)?)?;
                }
            }
        }
        for digest in digests_in(&self.root, WHOLE)? {
            if wanted.contains(&digest) {
                to.ask_whole(&digest)?;
            }
        }
        Ok(())
    }
}
