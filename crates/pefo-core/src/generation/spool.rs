//! The spool's layout, frozen: where the transfer account puts what root reads.
//!
//! ```text
//! SPOOL/generations/DATASET/EPOCH-SEQUENCE/manifest       a full generation: the signed manifest
//! SPOOL/generations/DATASET/EPOCH-SEQUENCE/data/PATH        and its files
//! SPOOL/generations/DATASET/EPOCH-SEQUENCE.batch          a batch: length, signed manifest, payload
//! SPOOL/generations/DATASET/.pefo-EPOCH-SEQUENCE.partial  a full generation or a long batch, begun
//! SPOOL/generations/DATASET/.pefo-*.tmp                   being received or removed; nobody's
//! SPOOL/generations/DATASET/.pefo-lock                    flock of the receiver that writes there
//! SPOOL/generations/DATASET/.pefo-claim                   who holds it, or wants to
//! SPOOL/heartbeats/CERTNAME                               the newest heartbeat of each active
//! SPOOL/reigns/CERTNAME                                   a newer reign's record, noted for root
//! SPOOL/requests/CERTNAME/NONCE                           what an active asks of root, signed
//! SPOOL/requests/CERTNAME/.pefo-lock                      flock of the receiver that writes there
//! SPOOL/receive.log, receive.log.1                        who asked for what, a line each session
//! ```
//!
//! A batch's file is the manifest's length (8 bytes, little-endian), the signed manifest, the payload.
//! Everything in the spool is the transfer account's and untrusted; root only reads it, through
//! [`Beneath`]. Acks and answers go the other way and stand outside, below root's state directory.

use std::path::{Path, PathBuf};

use super::names::{DataSet, Position};
use crate::certname::Certname;
use crate::disk::{Beneath, EntryKind};
use crate::error::Result;
use crate::path::RelPath;
use crate::request::Nonce;

/// The signed manifest's name within a full generation.
pub const MANIFEST: &str = "manifest";
/// The directory of a full generation's files.
pub const DATA: &str = "data";
/// The ending of a batch's file.
pub const BATCH_SUFFIX: &str = ".batch";
/// The ending of an answer's file.
pub const ANSWER_SUFFIX: &str = ".answer";
/// The flock of the session that writes to a data set.
pub const LOCK: &str = ".pefo-lock";
/// Which session that is, and which one wants to take its place.
pub const CLAIM: &str = ".pefo-claim";
/// The ending of what was begun and is not whole; it begins with [`PARTIAL_PREFIX`].
pub const PARTIAL_SUFFIX: &str = ".partial";
/// The beginning of what was begun and is not whole.
pub const PARTIAL_PREFIX: &str = ".pefo-";
/// Who asked for what.
pub const LOG: &str = "receive.log";
/// The most generations of one data set that a reader looks at.
pub const MAX_GENERATIONS: usize = 100_000;

/// The most requests of one active that wait for an answer.
pub const MAX_REQUESTS: usize = 16;
/// The most entries of a directory of requests that a reader looks at.
pub const MAX_REQUEST_ENTRIES: usize = 1024;

/// What form a generation has in the spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A directory with manifest and files.
    Full,
    /// One file.
    Batch,
}

/// The directory of a data set's generations.
pub fn dataset_dir(spool: &Path, dataset: &DataSet) -> PathBuf {
    spool.join("generations").join(dataset.dir_name())
}

/// Where an active's newest heartbeat stands.
pub fn heartbeat_path(spool: &Path, active: &Certname) -> PathBuf {
    spool.join("heartbeats").join(active.as_str())
}

/// Where the signed record of a reign newer than the known one is noted: told by a peer, its signature
/// checked against the paired keys. Root decides what to make of it.
pub fn noted_reign_path(spool: &Path, holder: &Certname) -> PathBuf {
    noted_reigns_dir(spool).join(holder.as_str())
}

/// The directory of such records.
pub fn noted_reigns_dir(spool: &Path) -> PathBuf {
    spool.join("reigns")
}

/// The directory of an active's requests.
pub fn requests_dir(spool: &Path, active: &Certname) -> PathBuf {
    spool.join("requests").join(active.as_str())
}

/// The requests in an active's directory, by their nonces. Whether one is what its name says is seen
/// when it is read and checked.
///
/// # Errors
/// `Io`, or `Refused` (`spool-entries`) where there are more than [`MAX_REQUEST_ENTRIES`].
pub fn list_requests(dir: &Beneath) -> Result<Vec<Nonce>> {
    let entries = dir.entries(MAX_REQUEST_ENTRIES)?;
    let files = entries
        .into_iter()
        .filter(|(_, kind)| *kind == EntryKind::File);
    Ok(files
        .filter_map(|(name, _)| Nonce::new(name.as_str()).ok())
        .collect())
}

/// Where root publishes its answer to a request.
pub fn answer_path(answers: &Path, nonce: &Nonce) -> PathBuf {
    answers.join(format!("{nonce}{ANSWER_SUFFIX}"))
}

/// The name, in a data set's directory, of a generation that was begun and is not whole.
pub fn partial_name(position: Position) -> String {
    format!("{PARTIAL_PREFIX}{position}{PARTIAL_SUFFIX}")
}

/// Of which generation `name` is the beginning, if it is such a name. What has been put aside, since
/// another generation was begun at the same position, has a further word before the ending.
pub fn parse_partial(name: &str) -> Option<Position> {
    let inner = name
        .strip_prefix(PARTIAL_PREFIX)?
        .strip_suffix(PARTIAL_SUFFIX)?;
    inner.strip_suffix("-aside").unwrap_or(inner).parse().ok()
}

/// The generations that stand whole in a data set's directory, oldest first.
///
/// # Errors
/// `Io`, or `Refused` (`spool-entries`) where there are more than [`MAX_GENERATIONS`].
pub fn list(dataset_dir: &Beneath) -> Result<Vec<(Position, Form)>> {
    let mut found: Vec<_> = dataset_dir
        .entries(MAX_GENERATIONS)?
        .into_iter()
        .filter_map(|(name, kind)| parse_name(&name, kind))
        .collect();
    found.sort_by_key(|(position, _)| *position);
    Ok(found)
}

fn parse_name(name: &RelPath, kind: EntryKind) -> Option<(Position, Form)> {
    match kind {
        EntryKind::Directory => Some((name.as_str().parse().ok()?, Form::Full)),
        EntryKind::File => Some((
            name.as_str().strip_suffix(BATCH_SUFFIX)?.parse().ok()?,
            Form::Batch,
        )),
        EntryKind::Other => None,
    }
}

/// A batch's file: its head and where the payload begins.
///
/// # Errors
/// `Invalid`, where it is cut.
pub fn split_batch(file: &[u8]) -> Result<(&[u8], &[u8])> {
    let parts = file.split_at_checked(8).and_then(|(length, rest)| {
        let length = u64::from_le_bytes(length.try_into().ok()?);
        rest.split_at_checked(usize::try_from(length).ok()?)
    });
    parts.ok_or_else(|| crate::Error::invalid("the batch's file is cut"))
}

/// The bytes of a batch's file.
pub fn join_batch(document: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut file = Vec::with_capacity(8 + document.len() + payload.len());
    file.extend_from_slice(&(document.len() as u64).to_le_bytes());
    file.extend_from_slice(document);
    file.extend_from_slice(payload);
    file
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests lay out a spool by hand")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_whole_generations_are_listed_in_order() {
        let dir = tempfile::tempdir().unwrap();
        for name in [
            "00000001-000000000010",
            "00000001-000000000002",
            ".pefo-1-0-x.tmp",
            ".pefo-00000001-000000000012.partial",
            "junk",
        ] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        std::fs::write(dir.path().join("00000001-000000000011.batch"), "").unwrap();
        std::os::unix::fs::symlink("/etc", dir.path().join("00000001-000000000099")).unwrap();
        let found = list(&Beneath::open(dir.path()).unwrap()).unwrap();
        let sequences: Vec<_> = found
            .iter()
            .map(|(position, form)| (position.sequence, *form))
            .collect();
        assert_eq!(
            sequences,
            [(2, Form::Full), (10, Form::Full), (11, Form::Batch)]
        );
    }

    #[test]
    fn only_files_named_by_a_nonce_are_requests() {
        let dir = tempfile::tempdir().unwrap();
        let (first, second) = ("0".repeat(32), "f".repeat(32));
        for name in [
            &second,
            &first,
            ".pefo-lock",
            ".pefo-1-0-x.tmp",
            &"A".repeat(32),
        ] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        std::fs::create_dir(dir.path().join("1".repeat(32))).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("2".repeat(32))).unwrap();
        let listed = list_requests(&Beneath::open(dir.path()).unwrap()).unwrap();
        assert_eq!(
            listed,
            [first, second].map(|name| Nonce::new(name).unwrap())
        );
    }

    #[test]
    fn what_was_begun_is_told_by_its_name() {
        let position: Position = "00000001-000000000012".parse().unwrap();
        assert_eq!(parse_partial(&partial_name(position)), Some(position));
        let aside = ".pefo-00000001-000000000012-aside.partial";
        assert_eq!(parse_partial(aside), Some(position));
        for other in [
            ".pefo-00000001-000000000012.tmp",
            ".pefo-x.partial",
            "00000001-000000000012.partial",
        ] {
            assert_eq!(parse_partial(other), None);
            assert!(!crate::disk::is_temp_name(&partial_name(position)));
        }
    }

    proptest! {
        #[test]
        fn a_batch_file_splits_as_it_was_joined(document in prop::collection::vec(any::<u8>(), 0..50), payload in prop::collection::vec(any::<u8>(), 0..50)) {
            let file = join_batch(&document, &payload);
            prop_assert_eq!(split_batch(&file).unwrap(), (&document[..], &payload[..]));
        }

        #[test]
        fn any_bytes_split_or_are_refused(file in prop::collection::vec(any::<u8>(), 0..50)) {
            drop(split_batch(&file));
        }
    }
}
