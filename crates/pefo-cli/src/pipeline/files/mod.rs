//! The files: what pefo-core's snapshot of them sends, and how its plan is reached from a verified generation.

mod accounts;
mod backups;
mod verify;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pefo_core::disk::{Attributes, read_capped};
use pefo_core::files::{
    self, Bundle, FileList, FilesPlan, HostPath, Ids, Index, KeptApart, PlanRules, Preset,
    Snapshot, Survey,
};
use pefo_core::generation::Verified;
use pefo_core::generation::outgoing::Description;
use pefo_core::sealing::Recipient;
use pefo_core::{Error, ErrorKind, Result};
use serde_json::{Value, json};

use super::apply::Applied;
use super::ca;
use super::push::Collected;
use crate::arguments::Change;
use crate::config::{self, Files};
use crate::host::Host;

use accounts::SystemAccounts;

pub use verify::{differences, run as verify};

/// Where the files are: a host has one root directory.
const ROOT: &str = "/";
/// The largest index that is read back.
const MAX_INDEX_BYTES: u64 = 32 << 20;

/// The configured files.
///
/// # Errors
/// `Config` where there are none.
pub fn settings(host: &Host) -> Result<&Files> {
    host.config.files.as_ref().ok_or_else(|| {
        Error::new(ErrorKind::Config, "no files are configured")
            .hint("add a [files] section, on both masters; 'pefo config example' shows one")
    })
}

/// This host's own list, and the preset in it.
///
/// # Errors
/// `Config`, where no product is to be seen, or the list names what is another's.
pub fn list(host: &Host) -> Result<(Preset, FileList)> {
    let settings = settings(host)?;
    let found = settings.preset.named();
    let preset = found
        .or_else(|| Preset::detect(Path::new(ROOT)))
        .ok_or_else(|| {
            Error::new(
                ErrorKind::Config,
                "files.preset = \"auto\" finds nothing of Puppet's installed here",
            )
            .hint("name the product in files.preset, or set it to \"none\" and list files.paths")
        })?;
    let mut apart = config::apart(&host.config.site, &host.config.ca)?;
    // One that Puppet's own configuration puts elsewhere.
    if let Ok(layout) = ca::layout(host, &Change::default())
        && let Ok(path) = HostPath::of(layout.cadir())
    {
        let why = "is the CA's directory, which the ca data set carries";
        apart.push(KeptApart { path, why });
    }
    Ok((preset, settings.list(preset, &apart)?))
}

/// Reads all that is listed on this host.
///
/// # Errors
/// `Config`; what reading refuses; `NotFound` where nothing that is listed is there.
pub fn read(host: &Host) -> Result<Snapshot> {
    let (preset, list) = list(host)?;
    let accounts = SystemAccounts::of(host);
    let limits = settings(host)?.limits();
    let snapshot = Snapshot::read(Path::new(ROOT), &list, &accounts, &limits)?;
    if snapshot.bundle.index().files.is_empty() {
        let message = format!(
            "none of the files is here that preset {} and files.paths list",
            preset.name()
        );
        return Err(Error::new(ErrorKind::NotFound, message)
            .hint("name this host's product in files.preset"));
    }
    Ok(snapshot)
}

fn last_sent_path(host: &Host) -> PathBuf {
    host.state("exports/files.json")
}

/// The index of what the last push read, where there was one.
///
/// # Errors
/// `Io`, or `Invalid` where it is damaged.
pub fn last_sent(host: &Host) -> Result<Option<Index>> {
    let path = last_sent_path(host);
    match read_capped(&path, MAX_INDEX_BYTES) {
        Err(error) if error.io_kind() == Some(std::io::ErrorKind::NotFound) => Ok(None),
        Err(error) => Err(error),
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|error| Error::invalid(format!("{}: {error}", path.display()))),
    }
}

/// The files as a generation's items, sealed.
///
/// # Errors
/// As [`read`].
pub fn collect(host: &Host, change: &Change, recipients: &[Recipient]) -> Result<Collected> {
    let Snapshot {
        bundle, missing, ..
    } = read(host)?;
    let index = bundle.index();
    let count = index.files.len();
    if !change.dry_run {
        let bytes = serde_json::to_vec(index)
            .map_err(|error| Error::invalid(format!("write the index of files: {error}")))?;
        let path = last_sent_path(host);
        if let Some(dir) = path.parent() {
            host.disk.create_dir_all(dir, &Attributes::mode(0o700))?;
        }
        host.disk.publish(&path, &bytes, &Attributes::mode(0o600))?;
    }
    let mut text = format!("{count} {}", if count == 1 { "file" } else { "files" });
    if !missing.is_empty() {
        text.push_str(&format!(" (wanted and not there: {})", joined(&missing)));
    }
    Ok(Collected {
        meaning: index.meaning()?,
        items: bundle.items(recipients)?,
        description: Description {
            products: BTreeMap::new(),
            time: host.clock.now(),
            // Everybody who can read the spool can read this.
            summary: json!({ "files": count }),
        },
        text,
    })
}

/// What this host's list wants and is not here.
pub fn missing(list: &FileList) -> Vec<HostPath> {
    files::snapshot::missing(Path::new(ROOT), list)
}

fn joined(paths: &[HostPath]) -> String {
    let paths: Vec<String> = paths.iter().map(ToString::to_string).collect();
    paths.join(", ")
}

/// What a generation would come to on this host, with its contents.
///
/// # Errors
/// `Config`; `Refused` (`files-too-large`); `Invalid` where the bundle is malformed; `Io`.
pub(super) fn planned(
    host: &Host,
    verified: &Verified,
    change: &Change,
) -> Result<(FilesPlan, Bundle)> {
    let (_, list) = list(host)?;
    let limits = settings(host)?.limits();
    let bundle = Bundle::of(verified, &limits)?;
    let survey = Survey::take(Path::new(ROOT), bundle.index(), &list)?;
    let ids = Ids::of(bundle.index(), &SystemAccounts::of(host))?;
    let rules = PlanRules::new(limits.max_bytes).accept(change.accept.iter().cloned());
    let plan = files::plan(bundle.index(), &survey, &list, &ids, &rules);
    Ok((plan, bundle))
}

pub(super) fn told(plan: &FilesPlan) -> Result<Value> {
    serde_json::to_value(plan).map_err(|error| Error::invalid(format!("write the plan: {error}")))
}

/// Plans from a verified generation, and puts its files in place unless it is only to be shown. What is
/// refused holds up no other file, and is told.
///
/// # Errors
/// As of the plan; `Io`.
pub fn apply(
    host: &Host,
    verified: &Verified,
    change: &Change,
    show_only: bool,
) -> Result<Applied> {
    let (plan, bundle) = planned(host, verified, change)?;
    let mut details = told(&plan)?;
    let mut text = plan.to_string();
    if !show_only {
        let kept = backups::beside(host, &verified.position().to_string(), |backup| {
            files::apply(&host.disk, Path::new(ROOT), &plan, &bundle, backup)
        })?;
        if let Some(kept) = kept {
            text.push_str(&format!(
                "what was replaced is kept in {}\n",
                kept.display()
            ));
            if let Some(details) = details.as_object_mut() {
                details.insert("kept".to_owned(), json!(kept));
            }
        }
    }
    Ok(Applied {
        details,
        text,
        errors: plan.errors(),
        changed: !plan.is_empty(),
    })
}
