//! Files of a scheduler, as they are to stand on disk.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use pefo_core::{Error, ErrorKind, Result};

use crate::config::Config;

/// The first line of each file that pefo has written begins with this: others are not touched.
pub const HEADER: &str = "# written by pefo";

/// Where cron looks for tables.
pub const CRON_DIR: &str = "etc/cron.d";
/// Where an administrator's units are.
pub const UNIT_DIR: &str = "etc/systemd/system";

/// A file, by its path below the root directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Such as `etc/cron.d/pefo`.
    pub path: PathBuf,
    /// All of it.
    pub text: String,
}

/// Of which program and which host a schedule is.
#[derive(Debug)]
pub struct Place<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// Where it stands.
    pub config_path: &'a Path,
    /// This program.
    pub program: &'a Path,
    /// The CA's directory, or where it would be.
    pub cadir: &'a Path,
    /// The directories into which the passive puts what the active's files are.
    pub files: &'a [PathBuf],
    /// The directory of Puppet's environments, where one is configured and is there.
    pub environments: Option<&'a Path>,
}

/// A path as text that stands on one line.
///
/// # Errors
/// `Config` where it is not UTF-8, or has control characters.
pub(super) fn line(path: &Path) -> Result<&str> {
    let text = path.as_os_str().to_str();
    text.filter(|text| !text.chars().any(char::is_control))
        .ok_or_else(|| {
            let message = format!(
                "{:?} cannot stand in a schedule: it is not text on one line",
                path.display().to_string()
            );
            Error::new(ErrorKind::Config, message).hint("move it to a plainer path")
        })
}

/// Whether a file's text says that pefo has written it.
pub(super) fn is_ours(text: &str) -> bool {
    text.starts_with(HEADER)
}

/// Whether a unit of this name may be one of ours.
pub(super) fn may_be_ours(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    let stem = ["service", "timer"]
        .into_iter()
        .find_map(|ending| name.strip_suffix(ending)?.strip_suffix('.'));
    stem.is_some_and(|stem| stem == "pefo" || stem.starts_with("pefo-"))
}
