//! The export file: all groups, with what proves them whole.
//!
//! One JSON object: `format`, `source`, `time`, `count`, `digest` (of the meaning, see
//! [`TreeDigest`]), `content` (BLAKE3 of the groups' exact compact JSON) and `groups`. Reading checks
//! all of it. The file says what it is; that it comes from the peer is for the generation around it
//! to prove.

use pefo_core::clock::Timestamp;
use pefo_core::digest::Digest;
use pefo_core::{Certname, Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::canonical::TreeDigest;
use crate::model::Tree;

/// The format this release writes, and the newest it reads.
pub const FORMAT: u32 = 1;

/// A whole, checked export.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Envelope {
    /// The master whose classifier was read.
    pub source: Certname,
    /// When it was read.
    pub time: Timestamp,
    /// The digest of what the groups mean.
    pub digest: TreeDigest,
    /// The groups.
    pub tree: Tree,
}

#[derive(Serialize)]
struct Written<'a> {
    format: u32,
    source: &'a Certname,
    time: Timestamp,
    count: usize,
    digest: TreeDigest,
    content: Digest,
    groups: &'a Tree,
}

#[derive(Deserialize)]
struct Head {
    format: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Read<'a> {
    #[serde(rename = "format")]
    _format: u32,
    source: Certname,
    time: Timestamp,
    count: usize,
    digest: TreeDigest,
    content: Digest,
    #[serde(borrow)]
    groups: &'a RawValue,
}

impl Envelope {
    /// Puts `tree` into an envelope.
    pub fn new(source: Certname, time: Timestamp, tree: Tree) -> Self {
        Self {
            source,
            time,
            digest: TreeDigest::of(&tree),
            tree,
        }
    }

    /// How many groups it holds.
    pub fn count(&self) -> usize {
        self.tree.len()
    }

    /// The file's bytes: compact JSON and a newline.
    ///
    /// # Errors
    /// `Invalid`, where the time cannot be written (a year beyond 9999).
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let written = Written {
            format: FORMAT,
            source: &self.source,
            time: self.time,
            count: self.tree.len(),
            digest: self.digest,
            content: Digest::of(&self.tree.to_json()),
            groups: &self.tree,
        };
        let mut bytes = serde_json::to_vec(&written).map_err(|error| {
            Error::invalid(format!("write classifier export: {error}")).with_source(error)
        })?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// Reads an export and proves it whole.
    ///
    /// # Errors
    /// A refusal: `nc-envelope-format` for a newer format, `nc-envelope-damaged` where it is not JSON
    /// of this shape or where count or digests do not fit, `nc-tree-invalid` where the groups are not
    /// one whole tree.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let damaged = |reason: String| {
            Error::refused(
                "nc-envelope-damaged",
                format!("the classifier export is damaged: {reason}"),
            )
            .hint("export again on the active; nothing was imported")
        };
        let head: Head = serde_json::from_slice(bytes)
            .map_err(|error| damaged(error.to_string()).with_source(error))?;
        if head.format != FORMAT {
            let message = format!(
                "the classifier export has format {}, this release reads {FORMAT}",
                head.format
            );
            return Err(Error::refused("nc-envelope-format", message)
                .hint("install the same release on both masters"));
        }
        let not_json = |error: serde_json::Error| damaged(error.to_string()).with_source(error);
        let read: Read<'_> = serde_json::from_slice(bytes).map_err(not_json)?;
        let groups = read.groups.get().as_bytes();
        let tree = Tree::read(groups).map_err(not_json)?;
        let found = match &tree {
            Ok(tree) => Digest::of(&tree.to_json()),
            Err(_) => Digest::of(groups),
        };
        if found != read.content {
            return Err(damaged(format!(
                "its groups have digest {found}, it promises {}",
                read.content
            )));
        }
        let tree = tree?;
        if tree.len() != read.count {
            return Err(damaged(format!(
                "it holds {} groups, it promises {}",
                tree.len(),
                read.count
            )));
        }
        let digest = TreeDigest::of(&tree);
        if digest != read.digest {
            return Err(damaged(format!(
                "its tree has digest {digest}, it promises {}",
                read.digest
            )));
        }
        Ok(Self {
            source: read.source,
            time: read.time,
            digest,
            tree,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use proptest::prelude::*;

    fn envelope() -> Envelope {
        let time = Timestamp::from_unix_seconds(1_700_000_000).unwrap();
        Envelope::new(
            Certname::new("mastera.lab").unwrap(),
            time,
            Tree::from_json(testing::MASTER1).unwrap(),
        )
    }

    #[test]
    fn an_envelope_reads_back_and_says_what_it_is() {
        let bytes = envelope().to_bytes().unwrap();
        assert_eq!(Envelope::parse(&bytes).unwrap(), envelope());
        let text = String::from_utf8(bytes).unwrap();
        insta::assert_snapshot!(text.split(",\"groups\"").next().unwrap(), @r#"{"format":1,"source":"mastera.lab","time":"2023-11-14T22:13:20Z","count":12,"digest":"c66a8a1e9c26506fa3d6ee5cf456864ce610f5395e740eb4d83368582fa5c440","content":"2ed31910b1f21fc83f8f7430effba4fb042f28d6da0e80247acc8aabb2390493""#);
    }

    #[test]
    fn damage_is_refused_by_name() {
        let text = String::from_utf8(envelope().to_bytes().unwrap()).unwrap();
        for (from, to, rule) in [
            ("\"format\":1", "\"format\":2", "nc-envelope-format"),
            ("\"count\":12", "\"count\":11", "nc-envelope-damaged"),
            (
                "master1.puppet.vm",
                "master9.puppet.vm",
                "nc-envelope-damaged",
            ),
            (
                "\"source\":\"mastera.lab\"",
                "\"source\":\"../x\"",
                "nc-envelope-damaged",
            ),
            (
                "\"format\":1",
                "\"format\":1,\"extra\":1",
                "nc-envelope-damaged",
            ),
        ] {
            let error = Envelope::parse(text.replacen(from, to, 1).as_bytes()).unwrap_err();
            assert_eq!(error.rule(), Some(rule), "{from} → {to}: {error}");
        }
        for length in [0, 1, 50, text.len() / 2, text.len() - 3] {
            assert_eq!(
                Envelope::parse(&text.as_bytes()[..length])
                    .unwrap_err()
                    .rule(),
                Some("nc-envelope-damaged")
            );
        }
    }

    #[test]
    fn damage_that_changes_no_meaning_is_damage_too() {
        let tree = testing::tree_with(serde_json::json!({"serial_number": 41}));
        let envelope = Envelope::new(Certname::new("mastera.lab").unwrap(), envelope().time, tree);
        let text = String::from_utf8(envelope.to_bytes().unwrap()).unwrap();
        let error = Envelope::parse(text.replace(":41", ":42").as_bytes()).unwrap_err();
        assert_eq!(error.rule(), Some("nc-envelope-damaged"));
    }

    proptest! {
        #[test]
        fn every_tree_survives_its_envelope_byte_for_byte(tree in testing::tree()) {
            let envelope = Envelope::new(Certname::new("a").unwrap(), Timestamp::from_unix_seconds(0).unwrap(), tree);
            let again = Envelope::parse(&envelope.to_bytes().unwrap()).unwrap();
            prop_assert_eq!(again.tree.to_json(), envelope.tree.to_json());
        }

        #[test]
        fn one_changed_byte_never_passes_as_another_tree(at: prop::sample::Index, with in any::<u8>()) {
            let good = envelope().to_bytes().unwrap();
            let mut bytes = good.clone();
            let at = at.index(bytes.len());
            bytes[at] = with;
            if let Ok(read) = Envelope::parse(&bytes) {
                prop_assert_eq!(read.tree, envelope().tree);
            }
        }
    }
}
