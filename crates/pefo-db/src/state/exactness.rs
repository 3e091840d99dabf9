//! Which tables are compared by every value, and which by their number of rows only.
//!
//! A digest reads and prints each value, a count reads the rows only: of a table of many gigabytes the
//! first takes as long as dumping it. A dump digests up to a limit; whoever compares with it digests what
//! it has digested.

use std::collections::BTreeSet;

use pefo_core::Result;

use super::DigestAlgorithm;
use crate::manifest::DumpManifest;

/// Which tables get a digest, and which one; the others are counted.
#[derive(Debug)]
pub(crate) struct Exactness<'a> {
    pub(crate) algorithm: DigestAlgorithm,
    pub(crate) tables: Tables<'a>,
}

/// Which tables get a digest.
#[derive(Debug)]
pub(crate) enum Tables<'a> {
    /// Those up to so many bytes, with what is stored out of line and without indexes.
    UpTo(u64),
    /// Those that have one in a manifest.
    As {
        /// Schema and name.
        tables: BTreeSet<(&'a str, &'a str)>,
        large_objects: bool,
    },
}

impl<'a> Exactness<'a> {
    /// What has a digest in a manifest gets the same one: enough to compare with it.
    ///
    /// # Errors
    /// The refusal `db-digest-unknown`.
    pub(crate) fn of(manifest: &'a DumpManifest) -> Result<Self> {
        let state = &manifest.state;
        let digested = state
            .relations
            .iter()
            .filter(|relation| relation.digest.is_some());
        Ok(Self {
            algorithm: DigestAlgorithm::named(&manifest.digest_algorithm)?,
            tables: Tables::As {
                tables: digested
                    .map(|relation| (relation.schema.as_str(), relation.name.as_str()))
                    .collect(),
                large_objects: state.large_objects.digest.is_some(),
            },
        })
    }

    /// Whether a table of this size is digested.
    pub(super) fn digests_table(&self, schema: &str, name: &str, size_bytes: u64) -> bool {
        match &self.tables {
            Tables::UpTo(limit) => size_bytes <= *limit,
            Tables::As { tables, .. } => tables.contains(&(schema, name)),
        }
    }

    /// Whether large objects that take so many bytes are digested.
    pub(super) fn digests_large_objects(&self, size_bytes: u64) -> bool {
        match &self.tables {
            Tables::UpTo(limit) => size_bytes <= *limit,
            Tables::As { large_objects, .. } => *large_objects,
        }
    }
}
