//! What this host's classifier held before each import: the copies that 'pefo nc rollback' brings back.
//!
//! It guarantees: a copy is on disk before anything is sent, the newest is the last in order, and none is
//! deleted but by age, once there are more than are to be kept.

use std::path::{Path, PathBuf};

use pefo_core::disk::{Attributes, read_capped};
use pefo_core::{Error, ErrorKind, Result};
use pefo_nc::Envelope;

use super::MAX_EXPORT_BYTES;
use crate::host::Host;

/// Copies are named by their order, and by what was about to be imported.
const ORDER_DIGITS: usize = 8;

fn dir(host: &Host) -> PathBuf {
    host.state("backups/nc")
}

/// Every copy with its place in the order, the oldest first.
fn all(dir: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io("list", dir, error)),
    };
    let mut copies = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| Error::io("list", dir, error))?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let order = name
            .filter(|name| name.ends_with(".json"))
            .and_then(|name| name.get(..ORDER_DIGITS)?.parse().ok());
        copies.extend(order.map(|order| (order, path)));
    }
    copies.sort();
    Ok(copies)
}

/// Keeps a copy, the newest from now on, and no more than the configured number of them.
///
/// # Errors
/// `Io`.
pub(super) fn keep(host: &Host, copy: &Envelope, before: &str) -> Result<()> {
    let dir = dir(host);
    host.disk.create_dir_all(&dir, &Attributes::mode(0o700))?;
    let copies = all(&dir)?;
    let order = copies.last().map_or(0, |(order, _)| order + 1);
    let name = format!("{order:0ORDER_DIGITS$}-before-{before}.json");
    host.disk
        .publish(&dir.join(name), &copy.to_bytes()?, &Attributes::mode(0o600))?;
    let kept = host.config.retention.generations;
    let outdated = (copies.len() + 1).saturating_sub(kept);
    for (_, path) in copies.iter().take(outdated) {
        host.disk.remove_file(path)?;
    }
    Ok(())
}

/// The newest copy: what this host's classifier held before the last import.
///
/// # Errors
/// `NotFound` where nothing was imported yet; what reading it says.
pub(super) fn newest(host: &Host) -> Result<Envelope> {
    let Some((_, path)) = all(&dir(host))?.pop() else {
        return Err(Error::new(
            ErrorKind::NotFound,
            "nc: nothing was imported here yet, so there is nothing to go back to",
        )
        .hint("'pefo nc restore' imports what the active has sent"));
    };
    Envelope::parse(&read_capped(&path, MAX_EXPORT_BYTES)?)
        .map_err(|error| error.context(path.display()))
}
