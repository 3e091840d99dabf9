//! `[schedule]`: when the commands run.

use std::path::PathBuf;

use pefo_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

/// `[schedule]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Schedule {
    /// Dumps and exports, on the active.
    pub export_minute: u8,
    /// Pushes, on the active.
    pub push_minute: u8,
    /// The classifier's import, on the passive.
    pub restore_classifier_minute: u8,
    /// The databases' restore, on the passive.
    pub restore_database_minute: u8,
    /// How often the passive rehearses a takeover.
    pub drill: Drill,
    /// Whether systemd's services are held to what their commands need.
    pub sandbox: bool,
    /// Where they may write besides: for hooks.
    pub writable: Vec<PathBuf>,
}

/// `schedule.drill`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Drill {
    /// When somebody runs it.
    #[default]
    Never,
    /// Every night.
    Daily,
    /// In the night of Sunday.
    Weekly,
}

impl Default for Schedule {
    fn default() -> Self {
        Self {
            export_minute: 10,
            push_minute: 20,
            restore_classifier_minute: 0,
            restore_database_minute: 3,
            drill: Drill::Never,
            sandbox: true,
            writable: Vec::new(),
        }
    }
}

impl Schedule {
    pub(super) fn validate(&self) -> Result<()> {
        let bad = |message: String| Err(Error::new(ErrorKind::Config, message));
        let schedule = self;
        for (name, minute) in [
            ("export_minute", schedule.export_minute),
            ("push_minute", schedule.push_minute),
            (
                "restore_classifier_minute",
                schedule.restore_classifier_minute,
            ),
            ("restore_database_minute", schedule.restore_database_minute),
        ] {
            if minute > 59 {
                return bad(format!(
                    "schedule.{name} = {minute} is no minute of an hour"
                ));
            }
        }
        match schedule.writable.iter().find(|path| !path.is_absolute()) {
            Some(path) => bad(format!(
                "schedule.writable: {:?} is not an absolute path",
                path.display().to_string()
            )),
            None => Ok(()),
        }
    }
}
