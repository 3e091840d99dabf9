//! Digests of files that need not be read again.
//!
//! A file's content is known again by its device, inode, size, mtime and ctime: whoever writes to a
//! file moves its ctime, which no program can set back. What it guarantees: [`DigestCache::get`] gives
//! a digest only where all five are as they were when the file was read, and were already old by
//! then. A file that changed within the clock's grain of being read could change again without
//! moving its times; such a digest is [kept out](DigestCache::put), and the file is read again next
//! time. A clock set back makes files look younger than they are: that costs reading, nothing else.
//!
//! The stored form is a cache and nothing more. It is published whole but not fsynced; a torn, foreign
//! or missing one is an empty cache. It must lie where only its user can write.
//!
//! ```text
//! "PDIG" 1 0 0 0 | entries: device inode size (u64) mtime ctime (i64 s, u32 ns) digest | BLAKE3 of all before
//! ```
//! Numbers are little-endian.

use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use crate::digest::{Digest, Hasher};
use crate::disk::{Attributes, Disk};
use crate::error::{Error, Result};

const MAGIC: [u8; 8] = *b"PDIG\x01\0\0\0";
const ENTRY_BYTES: usize = 80;
const SEAL_BYTES: usize = 32;
/// Largest stored cache that is read: some 13 million files.
const MAX_BYTES: u64 = 1 << 30;

/// Times tell finer than this where they have nanoseconds: kernels stamp files at each tick.
const FINE_GRAIN: Duration = Duration::from_millis(50);
/// A time of whole seconds may come from a file system that knows no finer.
const COARSE_GRAIN: Duration = Duration::from_millis(2100);

/// A moment as file systems tell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileTime {
    /// Seconds since 1970.
    pub seconds: i64,
    /// Nanoseconds of the second.
    pub nanoseconds: u32,
}

impl FileTime {
    fn age(self, now: SystemTime) -> Duration {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let whole = u64::try_from(self.seconds).unwrap_or(0);
        now.saturating_sub(Duration::new(whole, self.nanoseconds))
    }

    /// The same as the system counts; 1970 where the system can't count so far.
    pub fn system(self) -> SystemTime {
        let whole = Duration::from_secs(self.seconds.unsigned_abs());
        let since = if self.seconds < 0 {
            UNIX_EPOCH.checked_sub(whole)
        } else {
            UNIX_EPOCH.checked_add(whole)
        };
        let part = Duration::from_nanos(self.nanoseconds.into());
        since
            .and_then(|since| since.checked_add(part))
            .unwrap_or(UNIX_EPOCH)
    }

    fn is_settled(self, now: SystemTime) -> bool {
        let grain = if self.nanoseconds == 0 {
            COARSE_GRAIN
        } else {
            FINE_GRAIN
        };
        self.age(now) >= grain
    }
}

/// What tells whether a file is the one that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The device it lies on.
    pub device: u64,
    /// Its inode.
    pub inode: u64,
    /// Its size in bytes.
    pub size: u64,
    /// When its content changed, as its owner says.
    pub mtime: FileTime,
    /// When anything of it changed, as the kernel says.
    pub ctime: FileTime,
}

impl From<&Metadata> for Identity {
    fn from(meta: &Metadata) -> Self {
        let time = |seconds, nanoseconds: i64| FileTime {
            seconds,
            nanoseconds: u32::try_from(nanoseconds).unwrap_or(0),
        };
        Self {
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.size(),
            mtime: time(meta.mtime(), meta.mtime_nsec()),
            ctime: time(meta.ctime(), meta.ctime_nsec()),
        }
    }
}

/// What a file held, and when that was so.
type Known = (Identity, Digest);

/// Mixes device and inode: numbers that a kernel gives out, looked up at every file of a tree.
fn mixed(file: &Identity) -> u64 {
    [file.device, file.inode]
        .into_iter()
        .fold(0, |hash, number| {
            // Fibonacci hashing; the high bits, which a multiplication mixes best, are brought down.
            let mixed = (hash ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            mixed ^ (mixed >> 32)
        })
}

/// Whether what stands at a place is this device and inode.
fn is_at(known: &[Known], place: u32, file: &Identity) -> bool {
    let found = known.get(place as usize);
    found.is_some_and(|(found, _)| (found.inode, found.device) == (file.inode, file.device))
}

/// Where in a cache a file stands, until the cache changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place(u32);

/// Digests by device and inode, each with the rest of what identifies the file.
#[derive(Debug, Clone, Default)]
pub struct DigestCache {
    known: Vec<Known>,
    /// Where in `known` a device and inode stand: a table that stays in the processor's own memory while
    /// all files of a tree are looked up.
    places: HashTable<u32>,
    /// Whether it differs from what was loaded.
    changed: bool,
}

impl DigestCache {
    /// Reads a stored cache; an unreadable one is empty.
    pub fn load(path: &Path) -> Self {
        let read = || {
            let file = File::open(path).ok()?;
            let bytes = file.metadata().ok()?.len();
            parse(file, bytes)
        };
        read().unwrap_or_default()
    }

    fn with_capacity(files: usize) -> Self {
        Self {
            known: Vec::with_capacity(files),
            places: HashTable::with_capacity(files),
            changed: false,
        }
    }

    /// The digest of a file that is as it was when it was read.
    pub fn get(&self, file: &Identity) -> Option<Digest> {
        self.find(file).map(|(digest, _)| digest)
    }

    /// As [`DigestCache::get`], and the file's place in the cache, for [`DigestCache::keep_only`].
    pub fn find(&self, file: &Identity) -> Option<(Digest, Place)> {
        let is_it = |place: &u32| is_at(&self.known, *place, file);
        let place = *self.places.find(mixed(file), is_it)?;
        let (identity, digest) = self.known.get(place as usize)?;
        (identity == file).then_some((*digest, Place(place)))
    }

    /// Remembers what a file held, where its times were settled at `now`: the system's clock, read
    /// before the file was. Tells whether it is remembered.
    pub fn put(&mut self, file: Identity, digest: Digest, now: SystemTime) -> bool {
        if file.ctime.is_settled(now) && file.mtime.is_settled(now) {
            self.insert(file, digest);
            return true;
        }
        self.remove(&file);
        false
    }

    fn insert(&mut self, file: Identity, digest: Digest) {
        let Self { known, places, .. } = self;
        let hash_at = |place: &u32| {
            known
                .get(*place as usize)
                .map_or(0, |(file, _)| mixed(file))
        };
        let is_it = |place: &u32| is_at(known, *place, &file);
        let place = places.entry(mixed(&file), is_it, hash_at);
        match place {
            Entry::Occupied(place) => {
                if let Some(known) = known.get_mut(*place.get() as usize)
                    && *known != (file, digest)
                {
                    *known = (file, digest);
                    self.changed = true;
                }
            }
            Entry::Vacant(place) => {
                // Far fewer files than that fit into a stored cache.
                if let Ok(next) = u32::try_from(known.len()) {
                    place.insert(next);
                    known.push((file, digest));
                    self.changed = true;
                }
            }
        }
    }

    fn remove(&mut self, file: &Identity) {
        let Self { known, places, .. } = self;
        let is_it = |place: &u32| is_at(known, *place, file);
        let Ok(found) = places.find_entry(mixed(file), is_it) else {
            return;
        };
        let (gone, _) = found.remove();
        self.changed = true;
        // The last one takes its place.
        known.swap_remove(gone as usize);
        let last = known.len();
        if let Some((moved, _)) = known.get(gone as usize)
            && let Some(place) = places.find_mut(mixed(moved), |place| *place as usize == last)
        {
            *place = gone;
        }
    }

    /// Forgets all files but those at these places, which must have been found since the last change.
    pub fn keep_only(&mut self, places: &[Place]) {
        let mut kept = Self::with_capacity(places.len());
        for Place(place) in places {
            if let Some((file, digest)) = self.known.get(*place as usize) {
                kept.insert(*file, *digest);
            }
        }
        kept.changed = self.changed || kept.len() != self.len();
        *self = kept;
    }

    /// How many files are known.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Stores it, where it differs from what was loaded; not fsynced, since losing it costs reading only.
    ///
    /// # Errors
    /// `Io`.
    pub fn store(&mut self, disk: &Disk, path: &Path) -> Result<()> {
        if !self.changed {
            return Ok(());
        }
        disk.publish_cache(path, &self.to_bytes(), &Attributes::mode(0o600))?;
        self.changed = false;
        Ok(())
    }

    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes =
            Vec::with_capacity(MAGIC.len() + self.known.len() * ENTRY_BYTES + SEAL_BYTES);
        bytes.extend_from_slice(&MAGIC);
        // By inode, as a scan asks for them: neighbours on the disk are then neighbours in memory.
        let mut known: Vec<&Known> = self.known.iter().collect();
        known.sort_unstable_by_key(|(file, _)| (file.device, file.inode));
        for (identity, digest) in known {
            for number in [identity.device, identity.inode, identity.size] {
                bytes.extend_from_slice(&number.to_le_bytes());
            }
            for time in [identity.mtime, identity.ctime] {
                bytes.extend_from_slice(&time.seconds.to_le_bytes());
                bytes.extend_from_slice(&time.nanoseconds.to_le_bytes());
            }
            bytes.extend_from_slice(digest.as_bytes());
        }
        let seal = Digest::of(&bytes);
        bytes.extend_from_slice(seal.as_bytes());
        bytes
    }
}

/// Reads a cache of `bytes` bytes in pieces; nothing of it counts before the seal at its end was found to fit.
fn parse(stored: impl Read, bytes: u64) -> Option<DigestCache> {
    /// A piece holds so many entries.
    const PIECE: usize = 1024;
    let around = (MAGIC.len() + SEAL_BYTES) as u64;
    let entries = bytes.checked_sub(around)? / ENTRY_BYTES as u64;
    if bytes > MAX_BYTES || entries * ENTRY_BYTES as u64 + around != bytes {
        return None;
    }
    let mut left = usize::try_from(entries).ok()?;
    let mut stored = stored.take(bytes);
    let mut hasher = Hasher::default();
    let mut buffer = vec![0; PIECE * ENTRY_BYTES];
    let mut magic = [0; MAGIC.len()];
    stored.read_exact(&mut magic).ok()?;
    hasher.update(&magic);
    let mut cache = DigestCache::with_capacity(left);
    while left > 0 {
        let piece = buffer.get_mut(..left.min(PIECE) * ENTRY_BYTES)?;
        stored.read_exact(piece).ok()?;
        hasher.update(piece);
        let (entries, _) = piece.as_chunks::<ENTRY_BYTES>();
        for entry in entries {
            let (identity, digest) = known(entry)?;
            cache.insert(identity, digest);
        }
        left -= entries.len();
    }
    let mut seal = [0; SEAL_BYTES];
    stored.read_exact(&mut seal).ok()?;
    cache.changed = false;
    (magic == MAGIC && seal == *hasher.digest().as_bytes()).then_some(cache)
}

fn known(entry: &[u8; ENTRY_BYTES]) -> Option<Known> {
    let mut rest = entry.as_slice();
    let identity = Identity {
        device: u64::from_le_bytes(part(&mut rest)?),
        inode: u64::from_le_bytes(part(&mut rest)?),
        size: u64::from_le_bytes(part(&mut rest)?),
        mtime: time(&mut rest)?,
        ctime: time(&mut rest)?,
    };
    Some((identity, Digest::from_bytes(part(&mut rest)?)))
}

fn part<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (part, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(*part)
}

fn time(rest: &mut &[u8]) -> Option<FileTime> {
    Some(FileTime {
        seconds: i64::from_le_bytes(part(rest)?),
        nanoseconds: u32::from_le_bytes(part(rest)?),
    })
}

/// What an open file is now.
///
/// # Errors
/// `Io`, naming `path`.
pub fn identify(file: &std::fs::File, path: &Path) -> Result<Identity> {
    let meta = file
        .metadata()
        .map_err(|error| Error::io("examine", path, error))?;
    Ok(Identity::from(&meta))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file_time() -> impl Strategy<Value = FileTime> {
        (0_i64..4_000_000_000, 0_u32..1_000_000_000).prop_map(|(seconds, nanoseconds)| FileTime {
            seconds,
            nanoseconds,
        })
    }

    prop_compose! {
        fn identity()(device in 0_u64..3, inode in any::<u64>(), size in any::<u64>(), mtime in file_time(), ctime in file_time()) -> Identity {
            Identity { device, inode, size, mtime, ctime }
        }
    }

    /// Long after every generated time.
    fn late() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(5_000_000_000)
    }

    proptest! {
        #[test]
        fn a_stored_cache_reads_back(files in prop::collection::vec((identity(), any::<[u8; 32]>()), 0..20)) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("cache");
            let mut cache = DigestCache::default();
            for (identity, digest) in &files {
                prop_assert!(cache.put(*identity, Digest::from_bytes(*digest), late()));
            }
            cache.store(&Disk::new(), &path).unwrap();
            let again = DigestCache::load(&path);
            prop_assert_eq!(again.len(), cache.len());
            for (file, digest) in &cache.known {
                prop_assert_eq!(again.get(file), Some(*digest));
            }
        }

        #[test]
        fn what_is_put_and_forgotten_is_as_in_a_map(steps in prop::collection::vec((identity(), 0_u64..12, any::<bool>()), 0..60)) {
            let mut cache = DigestCache::default();
            let mut map = std::collections::HashMap::new();
            for (mut file, inode, settled) in steps {
                file.inode = inode;
                let digest = Digest::of(&file.size.to_le_bytes());
                // Long before every generated time all are young.
                let now = if settled { late() } else { UNIX_EPOCH };
                prop_assert_eq!(cache.put(file, digest, now), settled);
                match settled {
                    true => drop(map.insert((file.device, inode), (file, digest))),
                    false => drop(map.remove(&(file.device, inode))),
                }
                prop_assert_eq!(cache.len(), map.len());
                for (file, digest) in map.values() {
                    prop_assert_eq!(cache.get(file), Some(*digest));
                }
            }
        }

        #[test]
        fn any_other_bytes_are_an_empty_cache(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(parse(&*bytes, bytes.len() as u64).is_none());
        }

        #[test]
        fn any_part_that_differs_makes_it_another_file(file in identity(), part in 0..5_usize) {
            let mut cache = DigestCache::default();
            cache.put(file, Digest::of(b"x"), late());
            prop_assert_eq!(cache.get(&file), Some(Digest::of(b"x")));
            let mut other = file;
            match part {
                0 => other.device += 1,
                1 => other.inode ^= 1,
                2 => other.size ^= 1,
                3 => other.mtime.nanoseconds ^= 1,
                _ => other.ctime.seconds += 1,
            }
            prop_assert_eq!(cache.get(&other), None);
        }
    }

    #[test]
    fn a_file_that_changed_just_now_is_not_remembered() {
        let file = Identity {
            device: 1,
            inode: 2,
            size: 3,
            mtime: FileTime {
                seconds: 100,
                nanoseconds: 0,
            },
            ctime: FileTime {
                seconds: 200,
                nanoseconds: 7,
            },
        };
        let at = |millis| UNIX_EPOCH + Duration::from_millis(millis);
        let mut cache = DigestCache::default();
        assert!(cache.put(file, Digest::of(b"old"), at(200_051)));
        // A file in the future, as after a clock set back, is young.
        for now in [at(200_000), at(200_049), at(5)] {
            assert!(!cache.put(file, Digest::of(b"new"), now));
            assert_eq!(cache.get(&file), None);
        }
        // Whole seconds may be all that its file system tells.
        let coarse = Identity {
            ctime: FileTime {
                seconds: 200,
                nanoseconds: 0,
            },
            ..file
        };
        assert!(!cache.put(coarse, Digest::of(b"x"), at(202_000)));
        assert!(cache.put(coarse, Digest::of(b"x"), at(202_100)));
    }

    #[test]
    fn every_time_can_be_counted_in() {
        for seconds in [i64::MIN, i64::MIN + 1, -1, 0, 1, i64::MAX] {
            let time = FileTime {
                seconds,
                nanoseconds: 999_999_999,
            };
            assert!(seconds.abs_diff(0) > 1 || time.system() > UNIX_EPOCH - Duration::from_secs(2));
        }
    }

    #[test]
    fn what_is_not_kept_is_forgotten() {
        let file = |inode| Identity {
            device: 1,
            inode,
            size: 3,
            mtime: FileTime {
                seconds: 100,
                nanoseconds: 1,
            },
            ctime: FileTime {
                seconds: 100,
                nanoseconds: 1,
            },
        };
        let mut cache = DigestCache::default();
        for inode in 0..10_u64 {
            cache.put(file(inode), Digest::of(&inode.to_le_bytes()), late());
        }
        let places: Vec<_> = [7, 2]
            .map(|inode| cache.find(&file(inode)).unwrap().1)
            .to_vec();
        cache.keep_only(&places);
        assert_eq!(cache.len(), 2);
        for inode in 0..10_u64 {
            let digest = Digest::of(&inode.to_le_bytes());
            let kept = [2, 7].contains(&inode).then_some(digest);
            assert_eq!(cache.get(&file(inode)), kept);
        }
        assert!(cache.changed);
    }

    #[test]
    fn an_unchanged_cache_is_not_written_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cache");
        let mut cache = DigestCache::load(&path);
        cache.store(&Disk::new(), &path).unwrap();
        assert!(!path.exists());
    }
}
