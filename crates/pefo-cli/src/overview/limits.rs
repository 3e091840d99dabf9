//! From when on a lag is a warning, and from when on critical.
//!
//! What `[status]` says counts. Where it says nothing, the limits follow from how often something happens:
//!
//! - a CA that is watched has a heartbeat every 10 s: 2 min and 5 min;
//! - otherwise the interval is that of the schedule, or the usual time between the last successes where that is
//!   longer, up to a day: a site that pushes by its own timetable is not told for ever that it is late. A spare may
//!   be two intervals behind, since each side has its own turn, and is critical after four.

use std::time::Duration;

use pefo_core::clock::Timestamp;
use pefo_core::generation::DataSet;
use pefo_core::reign::Role;

use super::course::Course;
use crate::config::Config;
use crate::outcome::Health;
use crate::schedule::next_due;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
/// A pace is believed up to this: what comes more rarely is no warm spare, and is to be said in the configuration.
const SLOWEST: Duration = Duration::from_secs(24 * 3600);

/// The limits in force for a lag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Longer is a warning.
    pub warn: Duration,
    /// Longer is critical.
    pub critical: Duration,
}

impl Limits {
    /// Those of a data set on a host of this role.
    pub fn of(
        config: &Config,
        role: Role,
        dataset: &DataSet,
        course: &Course,
        now: Timestamp,
    ) -> Self {
        let set = config.status.lag(dataset);
        let derived = if course.is_watched {
            Self {
                warn: 2 * MINUTE,
                critical: 5 * MINUTE,
            }
        } else {
            Self::of_interval(interval(config, role, dataset, now).max(seen(course)))
        };
        let set = (
            set.warn_lag.map(|span| span.duration()),
            set.critical_lag.map(|span| span.duration()),
        );
        match set {
            (Some(warn), Some(critical)) => Self { warn, critical },
            (Some(warn), None) => Self {
                warn,
                critical: derived.critical.max(2 * warn),
            },
            (None, Some(critical)) => Self {
                warn: derived.warn.min(critical),
                critical,
            },
            (None, None) => derived,
        }
    }

    fn of_interval(interval: Duration) -> Self {
        Self {
            warn: 2 * interval + 3 * MINUTE,
            critical: 4 * interval + 11 * MINUTE,
        }
    }

    /// How bad a lag is.
    pub fn judge(&self, lag: Duration) -> Health {
        if lag > self.critical {
            Health::Critical
        } else if lag > self.warn {
            Health::Warning
        } else {
            Health::Ok
        }
    }
}

/// From one scheduled run to the next.
fn interval(config: &Config, role: Role, dataset: &DataSet, now: Timestamp) -> Duration {
    let due = |now| next_due(config, role, dataset, now);
    let first = due(now);
    let second = first.and_then(due);
    match (first, second) {
        (Some(first), Some(second)) => second.since(first),
        _ => HOUR,
    }
}

fn seen(course: &Course) -> Duration {
    course.pace.unwrap_or_default().min(SLOWEST)
}
