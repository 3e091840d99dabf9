//! `[schedule]`: when the commands run.

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
        Ok(())
    }
}
