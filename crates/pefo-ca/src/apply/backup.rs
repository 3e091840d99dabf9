//! What a run replaces or removes is kept, for so many runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use pefo_core::clock::Timestamp;
use pefo_core::disk::{Attributes, Disk};
use pefo_core::{Error, RelPath, Result};

use crate::plan::{Action, Plan};

/// Keeps what will be replaced or removed; nothing where that is nothing.
pub(super) fn keep(
    disk: &Disk,
    dir: &Path,
    plan: &Plan,
    now: Timestamp,
    keep: usize,
) -> Result<Option<PathBuf>> {
    let doomed: Vec<(&RelPath, &Arc<[u8]>)> = plan
        .actions
        .iter()
        .filter_map(|action| match action {
            Action::Put {
                path,
                expects: Some(bytes),
                ..
            }
            | Action::Remove {
                path,
                expects: bytes,
                ..
            } => Some((path, bytes)),
            _ => None,
        })
        .collect();
    if doomed.is_empty() {
        return Ok(None);
    }
    let private = Attributes::mode(0o700);
    disk.create_dir_all_unsynced(dir, &private)?;
    disk.remove_temps(dir)?;
    let name = format!(
        "ca-{:020}",
        std::time::SystemTime::from(now)
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default()
            .as_nanos()
    );
    let target = free_name(dir, &name);
    let temp = dir.join(format!(".pefo-{name}.tmp"));
    disk.create_dir_unsynced(&temp, &private)?;
    for (path, bytes) in doomed {
        if let Some(parent) = path.parent() {
            disk.create_dir_unsynced(&parent.in_dir(&temp), &private)?;
        }
        let mut file = disk.create(&path.in_dir(&temp), &Attributes::mode(0o600))?;
        file.write(bytes)?;
        file.finish()?;
    }
    disk.sync_filesystem(dir)?;
    disk.rename(&temp, &target)?;
    prune(disk, dir, keep)?;
    Ok(Some(target))
}

fn free_name(dir: &Path, name: &str) -> PathBuf {
    let mut target = dir.join(name);
    let mut count = 1;
    while target.exists() {
        target = dir.join(format!("{name}.{count}"));
        count += 1;
    }
    target
}

/// Names carry their time, so that the oldest sort first.
fn prune(disk: &Disk, dir: &Path, keep: usize) -> Result<()> {
    let mut runs = Vec::new();
    for entry in walkdir::WalkDir::new(dir)
        .min_depth(1)
        .max_depth(1)
        .sort_by_file_name()
    {
        let entry = entry.map_err(|error| Error::io("list", dir, error.into()))?;
        if entry.file_name().to_string_lossy().starts_with("ca-") {
            runs.push(entry.into_path());
        }
    }
    for old in runs.iter().take(runs.len().saturating_sub(keep.max(1))) {
        disk.remove_tree(old)?;
    }
    Ok(())
}
