//! When each command runs, of whatever role this host is: pure values, made of the configuration alone.
//!
//! | module | what it is for |
//! |---|---|
//! | [`time`] | a time that comes again, and when it next does |
//! | [`cron`], [`systemd`] | the schedule as files of a scheduler |
//! | [`needs`] | what each command writes and may do, for the units' sandboxes |
//! | [`mod@file`], [`change`] | what stands on disk, and what is to |
//!
//! The original module's times are the defaults. Both roles have their entries on both masters: which of them do
//! anything is decided when they run.

pub mod change;
pub mod cron;
pub mod file;
pub mod needs;
pub mod systemd;
pub mod time;

use pefo_core::clock::Timestamp;
use pefo_core::generation::DataSet;
use pefo_core::reign::Role;

use crate::config::{Config, Drill};

pub use time::Recurrence;

/// What is run again and again, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// Whose part it is.
    pub role: Role,
    /// The command's words, such as `db push`.
    pub command: &'static str,
    /// For people.
    pub what: &'static str,
    /// What it is about; none where it is about the whole host.
    pub datasets: Vec<DataSet>,
    /// When it runs.
    pub time: Recurrence,
}

/// All entries, of both roles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    entries: Vec<Entry>,
}

impl Plan {
    /// What the configuration asks for.
    pub fn of(config: &Config) -> Self {
        let mut entries: Vec<Entry> = Vec::new();
        for role in [Role::Active, Role::Passive] {
            for dataset in config.datasets() {
                let entry = entry(config, role, dataset);
                match entries.iter_mut().find(|it| it.command == entry.command) {
                    Some(same) => same.datasets.extend(entry.datasets),
                    None => entries.push(entry),
                }
            }
        }
        if let Some(time) = drill(config.schedule.drill) {
            entries.push(Entry {
                role: Role::Passive,
                command: "drill",
                what: "rehearsal of a takeover",
                datasets: Vec::new(),
                time,
            });
        }
        Self { entries }
    }

    /// Those of both roles.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Those of one role.
    pub fn of_role(&self, role: Role) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(move |entry| entry.role == role)
    }
}

/// When a data set is next due on a host of this role: the first moment after `now` at which an entry about it
/// runs. `None` where nothing is scheduled for it. What is watched is in step long before.
pub fn next_due(
    config: &Config,
    role: Role,
    dataset: &DataSet,
    now: Timestamp,
) -> Option<Timestamp> {
    let plan = Plan::of(config);
    let about = plan
        .of_role(role)
        .filter(|entry| entry.datasets.contains(dataset));
    about.map(|entry| entry.time.next(now)).min()
}

fn entry(config: &Config, role: Role, dataset: DataSet) -> Entry {
    let times = &config.schedule;
    let (push, restore) = (times.push_minute, times.restore_database_minute);
    let hourly = Recurrence::hourly;
    let (what, command, time) = match (&dataset, role) {
        (DataSet::Ca, Role::Active) => (CA, "ca push", Recurrence::EveryMinute),
        (DataSet::Ca, Role::Passive) => (CA, "ca apply", Recurrence::EveryMinute),
        (DataSet::Classifier, Role::Active) => (NC, "nc push", hourly(times.export_minute)),
        (DataSet::Classifier, Role::Passive) => {
            (NC, "nc restore", hourly(times.restore_classifier_minute))
        }
        (DataSet::Database(_), Role::Active) => (DB, "db push", hourly(push)),
        (DataSet::Database(_), Role::Passive) => (DB, "db restore", hourly(restore)),
        (DataSet::Files, Role::Active) => (FILES, "files push", hourly(push)),
        (DataSet::Files, Role::Passive) => (FILES, "files apply", hourly(restore)),
        (DataSet::Code, Role::Active) => (CODE, "push code", hourly(push)),
        (DataSet::Code, Role::Passive) => (CODE, "apply code", hourly(restore)),
    };
    Entry {
        role,
        command,
        what,
        datasets: vec![dataset],
        time,
    }
}

const CA: &str = "certificates and revocations";
const NC: &str = "classification";
const DB: &str = "databases";
const FILES: &str = "files";
const CODE: &str = "what is deployed of Puppet code";

/// In the night of Sunday, when few are at work, and off the minutes of everything else.
fn drill(how_often: Drill) -> Option<Recurrence> {
    let (hour, minute) = (4, 45);
    match how_often {
        Drill::Never => None,
        Drill::Daily => Some(Recurrence::Daily { hour, minute }),
        Drill::Weekly => Some(Recurrence::Sundays { hour, minute }),
    }
}

#[cfg(test)]
mod tests;
