//! Whether the classifier was changed since the last good export, told from the bytes of its answer.
//!
//! The API has no digest of its groups, so they are asked for; but an answer of the same bytes is neither
//! parsed nor compared. Another order of the groups is no change, and is found to be none by the export.

use std::path::PathBuf;

use pefo_core::{Digest, Result, record};
use pefo_nc::client::GroupsAnswer;
use serde::{Deserialize, Serialize};

use super::{block_on, client, last_export_path};
use crate::host::Host;

/// The answer that the last good export was made from.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Seen {
    /// Version of this record's schema: 1.
    format: u32,
    /// BLAKE3 of its bytes.
    answer: Digest,
}

fn path(host: &Host) -> PathBuf {
    host.state("exports/nc.seen.json")
}

/// Whether the classifier answers now what the last good export was made from.
///
/// # Errors
/// What the server says.
pub fn is_unchanged(host: &Host) -> Result<bool> {
    is_that(host, &block_on(client(host)?.groups_answer())?)
}

pub(super) fn is_that(host: &Host, answer: &GroupsAnswer) -> Result<bool> {
    let seen: Option<Seen> = record::load(&path(host))?;
    Ok(seen.is_some_and(|seen| seen.answer == answer.digest()) && last_export_path(host).exists())
}

pub(super) fn note(host: &Host, answer: &GroupsAnswer) -> Result<()> {
    let seen = Seen {
        format: 1,
        answer: answer.digest(),
    };
    host.store_json(&path(host), &seen, 0o600)
}
