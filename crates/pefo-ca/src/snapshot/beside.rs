//! A live CA beside what is known of its source by digest: only what differs is read and parsed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::SystemTime;

use pefo_core::clock::Clock;
use pefo_core::digest_cache::{DigestCache, Identity};
use pefo_core::generation::batch::SourceState;
use pefo_core::{Certname, Digest, RelPath, Result};

use super::files::{self, Loaded};
use super::{Snapshot, SnapshotOptions, read};
use crate::layout::CaLayout;
use crate::source::Change;

/// Where the source's files are, and what is known of them.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// A staged copy.
    pub dir: &'a Path,
    /// What was changed since it was made.
    pub changes: &'a [Change],
    /// Every file with its digest, the changes included.
    pub state: &'a SourceState,
}

/// Both sides, without the certificates and requests that are equal.
#[derive(Debug, Clone)]
pub struct Beside {
    /// The live CA.
    pub local: Snapshot,
    /// Its source.
    pub source: Snapshot,
    /// How many certificates are the same, byte for byte, and in neither of them.
    pub certificates: usize,
    /// The same of requests.
    pub requests: usize,
}

impl Beside {
    /// Reads what differs. A file of the live CA whose inode, size and times are those of when `cache` took
    /// its digest is not read for it again; others are, and the cache learns them.
    ///
    /// # Errors
    /// As [`Snapshot::read`] and [`Snapshot::read_dir_after`].
    pub fn read(
        layout: &CaLayout,
        source: Known<'_>,
        options: &SnapshotOptions,
        cache: &mut DigestCache,
        clock: &dyn Clock,
    ) -> Result<Self> {
        let now = SystemTime::from(clock.now());
        let mut here: BTreeMap<RelPath, (Certname, Option<Digest>)> = BTreeMap::new();
        for sub in ["signed", "requests"] {
            let Ok(names) = files::names(layout.cadir(), sub, &options.exclude)? else {
                continue;
            };
            let digests = options.threads.map(&names.named, |(_, path)| {
                digest(layout.cadir(), path, cache)
            });
            for ((name, path), digest) in names.named.into_iter().zip(digests) {
                let digest = digest?.map(|(identity, digest, is_new)| {
                    if is_new {
                        cache.put(identity, digest, now);
                    }
                    digest
                });
                here.insert(path, (name, digest));
            }
        }
        let mut names: BTreeSet<Certname> = BTreeSet::new();
        let mut same: Vec<(&RelPath, &Certname)> = Vec::new();
        for (path, (name, digest)) in &here {
            let there = source.state.get(path).map(|(_, digest)| digest);
            if digest.is_some() && *digest == there {
                same.push((path, name));
            } else {
                names.insert(name.clone());
            }
        }
        for path in source.state.paths().filter(|path| !here.contains_key(path)) {
            let name = path
                .as_str()
                .split_once('/')
                .map(|(_, name)| files::certname_of(name));
            names.extend(name.and_then(Result::ok));
        }
        // What is to be said of a request may rest on the certificate of the same name.
        same.retain(|(_, name)| !names.contains(name));
        let is_certificate =
            |(path, _): &&(&RelPath, &Certname)| path.as_str().starts_with("signed/");
        let certificates = same.iter().filter(is_certificate).count();
        let requests = same.len() - certificates;
        let mut only = BTreeSet::new();
        for name in names {
            for sub in ["signed", "requests"] {
                only.insert(RelPath::new(format!("{sub}/{name}.pem"))?);
            }
        }
        Ok(Self {
            local: read::Reader::live(layout.cadir(), options, clock)
                .only(&only)
                .read()?,
            source: read::Reader::still_after(source.dir, options, source.changes)?
                .only(&only)
                .read()?,
            certificates,
            requests,
        })
    }
}

/// A file's digest, and whether it had to be read; none of what is no file.
fn digest(
    cadir: &Path,
    path: &RelPath,
    cache: &DigestCache,
) -> Result<Option<(Identity, Digest, bool)>> {
    let Ok(meta) = files::examine(cadir, path)? else {
        return Ok(None);
    };
    let identity = Identity::from(&meta);
    if let Some(digest) = cache.get(&identity) {
        return Ok(Some((identity, digest, false)));
    }
    match files::read(cadir, path, meta)? {
        Loaded::File(meta, file) => {
            let identity = Identity::from(&meta);
            Ok(Some((identity, Digest::of(&file.bytes), true)))
        }
        Loaded::Absent | Loaded::NotAFile(_) => Ok(None),
    }
}
