//! Does what a plan says, durably and in its order.
//!
//! Each file is published whole with mtime = now (the server answers `If-Modified-Since` from it) and
//! the owner and mode of the file it replaces. Inventory rows are appended in place, after a torn tail
//! has been cut off. Before each step the file is compared with what the plan saw: where somebody came
//! between, nothing more is done and the caller plans again.
//!
//! It can die at any instruction. What was done by then is in order: the counter covers the inventory,
//! the inventory covers signed/, and no revocation in force is lost. The next plan finishes the rest.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use pefo_core::clock::{Clock, Timestamp};
use pefo_core::disk::{Attributes, Disk, read_capped};
use pefo_core::{Error, RelPath, Result};
use serde::Serialize;

use crate::crl::CrlBundle;
use crate::layout::CaLayout;
use crate::plan::{Action, Conflict, Plan};
use crate::serial;

/// No file of a cadir is larger.
const MAX_FILE_BYTES: u64 = 256 << 20;

/// How a plan is applied.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ApplyOptions {
    /// Where files that are replaced or removed are kept; `None` keeps none.
    pub backup_dir: Option<PathBuf>,
    /// How many runs' backups are kept.
    pub keep_backups: usize,
}

impl Default for ApplyOptions {
    fn default() -> Self {
        Self {
            backup_dir: None,
            keep_backups: 20,
        }
    }
}

impl ApplyOptions {
    /// Keeps replaced and removed files below `dir`, which is made where missing.
    #[must_use]
    pub fn backup_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.backup_dir = Some(dir.into());
        self
    }

    /// Keeps the backups of this many runs.
    #[must_use]
    pub fn keep_backups(mut self, runs: usize) -> Self {
        self.keep_backups = runs;
        self
    }
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ApplyReport {
    /// Each step as the plan shows it.
    pub done: Vec<String>,
    /// What was refused and left as it is.
    pub conflicts: Vec<Conflict>,
    /// What an operator overruled.
    pub overruled: Vec<Conflict>,
    /// What is worth knowing.
    pub notes: Vec<String>,
    /// Where the replaced files are.
    pub backup: Option<PathBuf>,
}

impl ApplyReport {
    /// Whether something was refused.
    pub fn is_partial(&self) -> bool {
        !self.conflicts.is_empty()
    }
}

/// Applies a plan that was made for this cadir.
///
/// # Errors
/// `Refused` by the rule that blocks the plan, before anything is touched; `Refused` (`ca-moved`,
/// retryable) where a file is not what the plan saw; `Io`. What was done before the error stays.
pub fn apply(
    disk: &Disk,
    layout: &CaLayout,
    plan: &Plan,
    options: &ApplyOptions,
    clock: &dyn Clock,
) -> Result<ApplyReport> {
    if let Some(conflict) = plan.blocked_by() {
        return Err(conflict.to_error());
    }
    let mut report = ApplyReport {
        done: Vec::new(),
        conflicts: plan.conflicts.clone(),
        overruled: plan.overruled.clone(),
        notes: plan.notes.clone(),
        backup: None,
    };
    if plan.is_empty() {
        return Ok(report);
    }
    for sub in ["", "signed", "requests"] {
        let dir = layout.cadir().join(sub);
        let (uid, gid) = layout.owner();
        disk.create_dir(&dir, &Attributes::mode(0o750).owner(uid, gid))?;
        disk.remove_temps(&dir)?;
    }
    let now = clock.now();
    if let Some(dir) = &options.backup_dir {
        report.backup = back_up(disk, dir, plan, now, options.keep_backups)?;
    }
    for action in &plan.actions {
        perform(disk, layout, action, now)?;
        report.done.push(action.to_string());
    }
    Ok(report)
}

/// Copies `ca_crl.pem` to the file that the host's own services read (`<ssldir>/crl.pem`), for a standby
/// whose CA service is disabled; where it runs, the server does this itself. True where it changed.
///
/// # Errors
/// `Io`; `Invalid` where `ca_crl.pem` cannot be read, and the copy then stays as it is.
pub fn sync_host_crl(
    disk: &Disk,
    layout: &CaLayout,
    host_crl: &Path,
    clock: &dyn Clock,
) -> Result<bool> {
    let source = layout.cadir().join("ca_crl.pem");
    let bytes = read_capped(&source, MAX_FILE_BYTES)?;
    CrlBundle::from_pem(&bytes).map_err(|error| error.in_file(&source))?;
    if current(host_crl)?.as_deref() == Some(&*bytes) {
        return Ok(false);
    }
    disk.publish(
        host_crl,
        &bytes,
        &layout.attributes(host_crl, 0o644).mtime(clock.now().into()),
    )?;
    Ok(true)
}

fn perform(disk: &Disk, layout: &CaLayout, action: &Action, now: Timestamp) -> Result<()> {
    let cadir = layout.cadir();
    match action {
        Action::Serial { to, expects, .. } => {
            let path = cadir.join("serial");
            expect(&path, expects.as_ref())?;
            let text = serial::format_file(*to).map_err(|error| error.in_file(&path))?;
            disk.publish(
                &path,
                text.as_bytes(),
                &layout.attributes(&path, 0o644).mtime(now.into()),
            )
        }
        Action::Inventory {
            expects_bytes,
            keeps_bytes,
            rows,
        } => {
            let path = cadir.join("inventory.txt");
            let text: String = rows.iter().map(|row| format!("{row}\n")).collect();
            let length = match std::fs::symlink_metadata(&path) {
                Ok(meta) => Some(meta.len()),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
                Err(error) => return Err(Error::io("examine", &path, error)),
            };
            if length != *expects_bytes {
                return Err(moved(&path));
            }
            if length.is_none() {
                return disk.publish(
                    &path,
                    text.as_bytes(),
                    &layout.attributes(&path, 0o640).mtime(now.into()),
                );
            }
            if length != Some(*keeps_bytes) {
                disk.truncate(&path, *keeps_bytes)?;
            }
            if text.is_empty() {
                Ok(())
            } else {
                disk.append(&path, *keeps_bytes, text.as_bytes())
            }
        }
        Action::Put {
            path,
            bytes,
            mode,
            expects,
            ..
        } => {
            let path = path.in_dir(cadir);
            expect(&path, expects.as_ref())?;
            disk.publish(
                &path,
                bytes,
                &layout.attributes(&path, *mode).mtime(now.into()),
            )
        }
        Action::Remove { path, expects, .. } => {
            let path = path.in_dir(cadir);
            expect(&path, Some(expects))?;
            disk.remove_file(&path)
        }
    }
}

/// The file is what the plan saw.
fn expect(path: &Path, expected: Option<&Arc<[u8]>>) -> Result<()> {
    if current(path)?.as_deref() == expected.map(|bytes| &**bytes) {
        Ok(())
    } else {
        Err(moved(path))
    }
}

fn current(path: &Path) -> Result<Option<Vec<u8>>> {
    match read_capped(path, MAX_FILE_BYTES) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.io_kind() == Some(std::io::ErrorKind::NotFound) => Ok(None),
        Err(error) => Err(error),
    }
}

fn moved(path: &Path) -> Error {
    Error::refused(
        "ca-moved",
        format!("{} changed since the plan was made", path.display()),
    )
    .hint("Somebody else writes to this CA; run it again.")
    .retryable(true)
}

/// Keeps what will be replaced or removed; nothing where that is nothing.
fn back_up(
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
