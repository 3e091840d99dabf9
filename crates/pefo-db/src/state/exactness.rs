//! Which tables are compared by every value, and which by their number of rows only.
//!
//! A digest reads and prints each value, a count reads the rows only: of a table of many gigabytes the
//! first takes as long as dumping it. A dump digests up to a limit; whoever compares with it digests what
//! it has digested.

use std::collections::BTreeSet;

use super::DatabaseState;

/// Which tables get a digest; the others are counted.
#[derive(Debug)]
pub(crate) enum Exactness<'a> {
    /// Those up to so many bytes, with what is stored out of line and without indexes.
    UpTo(u64),
    /// Those that have one in another state.
    As {
        /// Schema and name.
        tables: BTreeSet<(&'a str, &'a str)>,
        large_objects: bool,
    },
}

impl<'a> Exactness<'a> {
    /// What has a digest in `state` gets one: enough to compare with it.
    pub(crate) fn of(state: &'a DatabaseState) -> Self {
        let digested = state
            .relations
            .iter()
            .filter(|relation| relation.digest.is_some());
        Self::As {
            tables: digested
                .map(|relation| (relation.schema.as_str(), relation.name.as_str()))
                .collect(),
            large_objects: state.large_objects.digest.is_some(),
        }
    }

    /// Whether a table of this size is digested.
    pub(super) fn digests_table(&self, schema: &str, name: &str, size_bytes: u64) -> bool {
        match self {
            Self::UpTo(limit) => size_bytes <= *limit,
            Self::As { tables, .. } => tables.contains(&(schema, name)),
        }
    }

    /// Whether large objects that take so many bytes are digested.
    pub(super) fn digests_large_objects(&self, size_bytes: u64) -> bool {
        match self {
            Self::UpTo(limit) => size_bytes <= *limit,
            Self::As { large_objects, .. } => *large_objects,
        }
    }
}
