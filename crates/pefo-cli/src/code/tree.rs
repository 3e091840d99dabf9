//! The digest of an environment's files: path, whether it may be executed, content; of a symlink its target.
//!
//! Owners, other permissions, times and empty directories are no part of it. Nor is what is made on each master
//! by itself: `.git` anywhere, and at the top `.r10k-deploy.json` (it tells times) and `.resource_types` (what
//! `puppet generate types` writes). A file that has not changed since it was last looked at is not read again
//! ([`DigestCache`]). Below a directory whose name has a control character or a backslash nothing is looked at;
//! that there is one counts.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use pefo_core::cancel::Cancel;
use pefo_core::digest::Hasher;
use pefo_core::digest_cache::DigestCache;
use pefo_core::{Digest, Error, RelPath, Result};
use pefo_transport::tree::scan::{all_threads, scan};

use super::record::R10K;

/// More parts than that are not told one by one.
const MAX_PARTS: usize = 1000;
/// May be executed by its owner.
const EXECUTABLE: u32 = 0o100;

/// What an environment's files come to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tree {
    /// Of all files.
    pub digest: Digest,
    /// How many.
    pub files: u64,
    /// Of what stands below the same two first components of a path; empty where that would be too many.
    pub parts: BTreeMap<RelPath, Digest>,
}

/// What stands at a path.
enum Standing {
    File { is_executable: bool, digest: Digest },
    Link(PathBuf),
    Other,
}

/// Reads the tree below `dir`. `now` is the system's clock.
///
/// # Errors
/// `Io` where anything cannot be read, which may be over soon where a deployment is at work.
pub fn read(dir: &Path, cache: &mut DigestCache, now: SystemTime) -> Result<Tree> {
    let found = scan(dir, cache, now, all_threads(), &Cancel::new())?;
    if let Some(error) = found.unreadable.into_iter().next() {
        return Err(error
            .retryable(true)
            .hint("is a deployment running just now? run it again once that has ended"));
    }
    let mut standing: BTreeMap<PathBuf, Standing> = BTreeMap::new();
    for (path, node) in found.entries {
        if let Some(file) = node.file().filter(|_| is_part(Path::new(path.as_str()))) {
            let file = Standing::File {
                is_executable: file.mode & EXECUTABLE != 0,
                digest: file.digest,
            };
            standing.insert(path.as_str().into(), file);
        }
    }
    for left_out in found.left_out {
        let path = left_out.path.strip_prefix(dir).unwrap_or(&left_out.path);
        if !is_part(path) {
            continue;
        }
        let other = match std::fs::read_link(&left_out.path) {
            Ok(target) => Standing::Link(target),
            Err(error) if error.kind() == std::io::ErrorKind::InvalidInput => Standing::Other,
            Err(error) => return Err(Error::io("read", &left_out.path, error).retryable(true)),
        };
        standing.insert(path.to_owned(), other);
    }
    Ok(digests(&standing))
}

/// Whether a path is what somebody deployed.
fn is_part(path: &Path) -> bool {
    let mut components = path.components().map(|it| it.as_os_str());
    let first = components.clone().next();
    let is_own = first.is_some_and(|first| {
        let record = first
            .as_bytes()
            .strip_suffix(b"~")
            .unwrap_or(first.as_bytes());
        record == R10K.as_bytes() || first == ".resource_types"
    });
    !is_own && !components.any(|it| it == ".git")
}

fn digests(standing: &BTreeMap<PathBuf, Standing>) -> Tree {
    let mut whole = Hasher::default();
    let mut parts: BTreeMap<RelPath, Hasher> = BTreeMap::new();
    for (path, standing) in standing {
        let entry = entry(path, standing);
        whole.update(&entry);
        let part: PathBuf = path.components().take(2).collect();
        if let Some(part) = part.to_str().and_then(|part| RelPath::new(part).ok()) {
            parts.entry(part).or_default().update(&entry);
        }
    }
    if parts.len() > MAX_PARTS {
        parts.clear();
    }
    let parts = parts
        .into_iter()
        .map(|(part, hasher)| (part, hasher.digest()));
    Tree {
        digest: whole.digest(),
        files: standing.len() as u64,
        parts: parts.collect(),
    }
}

/// Path, kind and content, each so that it cannot be taken for a piece of the next.
fn entry(path: &Path, standing: &Standing) -> Vec<u8> {
    let (kind, content) = match standing {
        Standing::File {
            is_executable,
            digest,
        } => (u8::from(*is_executable), digest.as_bytes().to_vec()),
        Standing::Link(target) => (2, target.as_os_str().as_bytes().to_vec()),
        Standing::Other => (3, Vec::new()),
    };
    let path = path.as_os_str().as_bytes();
    let mut bytes = Vec::with_capacity(17 + path.len() + content.len());
    bytes.extend_from_slice(&(path.len() as u64).to_le_bytes());
    bytes.extend_from_slice(path);
    bytes.push(kind);
    bytes.extend_from_slice(&(content.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&content);
    bytes
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests lay out trees by hand")]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::time::Duration;

    use super::*;

    /// A tree, and what it comes to with what is known of it so far.
    struct Place {
        dir: tempfile::TempDir,
        cache: DigestCache,
    }

    impl Place {
        fn new() -> Self {
            let place = Self {
                dir: tempfile::tempdir().unwrap(),
                cache: DigestCache::default(),
            };
            for (path, text) in [
                ("manifests/site.pp", "node default {}\n"),
                ("modules/apache/manifests/init.pp", "class apache {}\n"),
                ("modules/apache/files/run.sh", "#!/bin/sh\n"),
                ("Puppetfile", ""),
            ] {
                place.write(path, text);
            }
            symlink("site.pp", place.path("manifests/also.pp")).unwrap();
            place
        }

        fn path(&self, path: &str) -> PathBuf {
            self.dir.path().join(path)
        }

        fn write(&self, path: &str, text: &str) {
            let path = self.path(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }

        fn tree(&mut self) -> Tree {
            // Late enough that every file is known again where it was not touched.
            let now = SystemTime::now() + Duration::from_secs(60);
            read(self.dir.path(), &mut self.cache, now).unwrap()
        }

        /// The parts that differ once something was done.
        fn change(&mut self, change: impl FnOnce(&Self)) -> Vec<String> {
            let before = self.tree();
            change(self);
            let after = self.tree();
            let all = before.parts.keys().chain(after.parts.keys());
            let mut changed: Vec<String> = all
                .filter(|part| before.parts.get(part) != after.parts.get(part))
                .map(ToString::to_string)
                .collect();
            changed.sort();
            changed.dedup();
            assert_eq!(changed.is_empty(), before.digest == after.digest);
            changed
        }
    }

    #[test]
    fn one_byte_a_right_to_execute_and_a_links_target_are_told_by_their_part() {
        let mut place = Place::new();
        let tree = place.tree();
        assert_eq!((tree.files, tree.parts.len()), (5, 4));
        let changed = place.change(|it| it.write("manifests/site.pp", "node default { }\n"));
        assert_eq!(changed, ["manifests/site.pp"]);
        let changed = place.change(|it| {
            let mode = std::fs::Permissions::from_mode(0o755);
            std::fs::set_permissions(it.path("modules/apache/files/run.sh"), mode).unwrap();
        });
        assert_eq!(changed, ["modules/apache"]);
        let changed = place.change(|it| {
            std::fs::remove_file(it.path("manifests/also.pp")).unwrap();
            symlink("other.pp", it.path("manifests/also.pp")).unwrap();
        });
        assert_eq!(changed, ["manifests/also.pp"]);
        let changed = place.change(|it| it.write("data/nodes/one.yaml", "{}"));
        assert_eq!(changed, ["data/nodes"]);
    }

    #[test]
    fn what_each_master_makes_by_itself_is_no_difference() {
        let mut place = Place::new();
        let changed = place.change(|it| {
            it.write(".git/HEAD", "ref: refs/heads/x\n");
            it.write("modules/apache/.git/index", "x");
            it.write(".r10k-deploy.json", "{}");
            it.write(".r10k-deploy.json~", "{");
            it.write(".resource_types/apache.pp", "x");
            std::fs::create_dir(it.path("empty")).unwrap();
            let mode = std::fs::Permissions::from_mode(0o600);
            std::fs::set_permissions(it.path("Puppetfile"), mode).unwrap();
        });
        assert_eq!(changed, [] as [&str; 0]);
        assert_eq!(
            place.change(|it| it.write("modules/x/.r10k-deploy.json", "")),
            ["modules/x"]
        );
    }

    #[test]
    fn what_cannot_be_a_path_counts_and_leads_nowhere() {
        let mut place = Place::new();
        let before = place.tree().digest;
        std::fs::write(place.path("a\\b"), "x").unwrap();
        let after = place.tree();
        assert_ne!(after.digest, before);
        assert_eq!(after.parts.len(), 4);
    }
}
