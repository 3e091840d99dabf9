//! Does what a plan says, durably and in its order.
//!
//! Each file is published whole with mtime = now (the server answers `If-Modified-Since` from it) and
//! the owner and mode of the file it replaces. Inventory rows are appended in place, after a torn tail
//! has been cut off. Before each step the file is compared with what the plan saw: where somebody came
//! between, nothing more is done and the caller plans again.
//!
//! It can die at any instruction. What was done by then is in order: the counter covers the inventory,
//! the inventory covers signed/, and no revocation in force is lost. The next plan finishes the rest.

mod backup;
mod steps;

use std::path::{Path, PathBuf};

use pefo_core::Result;
use pefo_core::clock::Clock;
use pefo_core::disk::{Disk, read_capped};
use serde::Serialize;

use crate::crl::CrlBundle;
use crate::layout::CaLayout;
use crate::plan::{Conflict, Plan};
use crate::snapshot::MAX_FILE_BYTES;

/// How a plan is applied.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ApplyOptions {
    /// Where files that are replaced or removed are kept; `None` keeps none.
    pub backup_dir: Option<PathBuf>,
    /// How many runs' backups are kept.
    pub keep_backups: usize,
    /// Whether missing directories are made and what a killed run left is cleared first: a look at every
    /// name of the CA, which one who applies event after event needs once.
    pub tidies: bool,
}

impl Default for ApplyOptions {
    fn default() -> Self {
        Self {
            backup_dir: None,
            keep_backups: 20,
            tidies: true,
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

    /// Sets whether directories are made and left-overs cleared first.
    #[must_use]
    pub fn tidies(mut self, tidies: bool) -> Self {
        self.tidies = tidies;
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
    if options.tidies {
        steps::tidy(disk, layout)?;
    }
    let now = clock.now();
    if let Some(dir) = &options.backup_dir {
        report.backup = backup::keep(disk, dir, plan, now, options.keep_backups)?;
    }
    let mut rest = plan.actions.as_slice();
    while !rest.is_empty() {
        let (these, after) = rest.split_at(steps::alike(rest));
        steps::perform(disk, layout, these, now)?;
        report.done.extend(these.iter().map(ToString::to_string));
        rest = after;
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
    if steps::current(host_crl)?.as_deref() == Some(&*bytes) {
        return Ok(false);
    }
    disk.publish(
        host_crl,
        &bytes,
        &layout.attributes(host_crl, 0o644).mtime(clock.now().into()),
    )?;
    Ok(true)
}
