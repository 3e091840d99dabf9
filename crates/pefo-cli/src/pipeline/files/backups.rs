//! The files that were replaced here: a directory for each apply that replaced any, below `STATE/backups/files`.
//!
//! Paths, owners and modes in it are as they were, so that a copy brings one back. The oldest go, once there are
//! more than are to be kept.

use std::path::{Path, PathBuf};

use pefo_core::files::Backup;
use pefo_core::{Error, Result};

use super::settings;
use crate::host::Host;

/// Directories are named by their order, and by what was about to be applied.
const ORDER_DIGITS: usize = 8;

/// Every directory with its place in the order, the oldest first.
fn all(dir: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io("list", dir, error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| Error::io("list", dir, error))?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let order = name.and_then(|name| name.get(..ORDER_DIGITS)?.parse().ok());
        found.extend(order.map(|order| (order, path)));
    }
    found.sort();
    Ok(found)
}

/// Has `act` keep what it replaces, before `position` is applied; gives where, where it replaced anything.
pub(super) fn beside(
    host: &Host,
    position: &str,
    act: impl FnOnce(&Backup<'_>) -> Result<Option<PathBuf>>,
) -> Result<Option<PathBuf>> {
    let dir = host.state("backups/files");
    let before = all(&dir)?;
    let order = before.last().map_or(0, |(order, _)| order + 1);
    let kept = act(&Backup {
        dir: &dir,
        name: &format!("{order:0ORDER_DIGITS$}-before-{position}"),
        max_bytes: settings(host)?.limits().max_bytes,
    })?;
    if kept.is_some() {
        let outdated = (before.len() + 1).saturating_sub(host.config.retention.generations);
        for (_, path) in before.iter().take(outdated) {
            host.disk.remove_tree(path)?;
        }
    }
    Ok(kept)
}
