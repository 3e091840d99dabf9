//! The schedule, kept by the daemon itself: each command at its time as a child, and the ticks once a minute.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::thread::Scope;
use std::time::Duration;

use pefo_core::clock::Timestamp;
use pefo_core::generation::DataSet;
use pefo_core::launch::{Invocation, Watch};
use pefo_core::reign::Role;
use pefo_core::{Error, ErrorKind, Result};

use super::{Heart, TICKS, record};
use crate::host::Host;
use crate::outcome::Health;
use crate::overview::Overview;
use crate::pipeline::watch::{Beat, ROUND, standing};
use crate::reigns::returned;
use crate::schedule::{Entry, Plan, Recurrence};

/// How often it is looked whether something came of what a host that has returned waits for.
const AWAITED: Duration = Duration::from_secs(5);

/// Keeps time until stop is said. Returns once every child has ended.
///
/// A change of role waits for no hour: who reigns from then on pushes everything at once, and who follows applies
/// what it waits for as it comes.
pub(super) fn run(host: &Host, heart: &Heart, beat: &dyn Beat) {
    let plan = Plan::of(&host.config);
    let mut looked = host.clock.now();
    let mut reigned = host.station().ok().map(|(_, reign)| reign.epoch);
    let running = Mutex::new(BTreeSet::new());
    tell(host, heart);
    std::thread::scope(|scope| {
        loop {
            // Whoever sets the time back lets nothing run twice, and forward not more than once.
            let left = Recurrence::EveryMinute
                .next(host.clock.now())
                .since(host.clock.now());
            let awaited = returned::awaited(host);
            let left = if awaited.is_empty() {
                left
            } else {
                left.min(AWAITED)
            };
            if until(host, beat, host.clock.monotonic() + left).is_err() {
                return;
            }
            let now = host.clock.now();
            match host.station() {
                Ok((station, reign)) => {
                    let turned = reigned.replace(reign.epoch) != Some(reign.epoch);
                    let wants = |entry: &Entry| match station.role {
                        Role::Active => turned,
                        Role::Passive => entry.datasets.iter().any(|it| awaited.contains(it)),
                    };
                    for entry in due(&plan, station.role, looked, now, wants) {
                        start(scope, host, heart, entry, &running);
                    }
                }
                Err(error) => tracing::warn!(%error, "whose commands are due cannot be told"),
            }
            let minute = |at: Timestamp| at.unix_seconds().div_euclid(60);
            if minute(now) != minute(looked) {
                for tick in TICKS {
                    if let Err(error) = (tick.run)(host) {
                        tracing::warn!(%error, what = tick.what, "not done this minute");
                    }
                }
            }
            looked = now;
            tell(host, heart);
        }
    });
}

/// Waits for `deadline`, or a change of role.
fn until(host: &Host, beat: &dyn Beat, deadline: Duration) -> Result<()> {
    let stands = standing(host);
    loop {
        beat.beat()?;
        let left = deadline.saturating_sub(host.clock.monotonic());
        if left.is_zero() || stands != standing(host) {
            return Ok(());
        }
        host.clock.wait(left.min(ROUND));
    }
}

/// What has come due since `looked`, or is wanted now, of what no watch does.
fn due<'a>(
    plan: &'a Plan,
    role: Role,
    looked: Timestamp,
    now: Timestamp,
    wants: impl Fn(&Entry) -> bool + 'a,
) -> impl Iterator<Item = &'a Entry> {
    let is_watched = |dataset: &DataSet| matches!(dataset, DataSet::Ca | DataSet::Classifier);
    plan.of_role(role)
        .filter(move |entry| !entry.datasets.iter().any(is_watched))
        .filter(move |entry| entry.time.next(looked) <= now || wants(entry))
}

/// Runs an entry's command beside everything else, unless it runs still.
fn start<'scope>(
    scope: &'scope Scope<'scope, '_>,
    host: &'scope Host,
    heart: &'scope Heart,
    entry: &Entry,
    running: &'scope Mutex<BTreeSet<&'static str>>,
) {
    let command = entry.command;
    let lock = move || running.lock().unwrap_or_else(PoisonError::into_inner);
    if !lock().insert(command) {
        return tracing::warn!(command, "it runs still since it was last due");
    }
    let datasets = entry.datasets.clone();
    scope.spawn(move || {
        let began = host.clock.now();
        if let Err(error) = child(host, heart, command) {
            tracing::warn!(%error, command, "it was not run to its end");
            for dataset in datasets {
                record(host, command, Some(dataset), began, &error);
            }
        }
        lock().remove(command);
    });
}

/// Runs a command of this program to its end, however it ends: it records that itself.
fn child(host: &Host, heart: &Heart, command: &'static str) -> Result<()> {
    let program = std::env::current_exe()
        .map_err(|error| Error::new(ErrorKind::Io, "find this program").with_source(error))?;
    let invocation = Invocation::new(program)
        .arg("--config")
        .arg(host.config_path.clone())
        .arg("--scheduled");
    let invocation = command.split(' ').fold(invocation, Invocation::arg);
    let hear = |line: &str| tracing::warn!(command, "{line}");
    tracing::info!(command, "due");
    let finished = host
        .launcher
        .run_watched(&invocation, &Watch::new(heart.stop(), &hear));
    match finished {
        Err(error) if error.kind() == ErrorKind::Cancelled => Ok(()),
        Err(error) => Err(error),
        Ok(finished) if finished.code.is_some() => Ok(()),
        Ok(_) => Err(Error::new(ErrorKind::Child, "it was ended by a signal")),
    }
}

/// Tells systemd how this host does, for whoever asks it.
pub(super) fn tell(host: &Host, heart: &Heart) {
    if heart.notifier().is_heard() {
        let text = Overview::gather(host).map_or_else(|error| error.to_string(), |it| line(&it));
        heart.notifier().status(&text);
    }
}

/// Role, reign, and what is not as it should be.
fn line(overview: &Overview) -> String {
    let mut text = format!("{} in epoch {}", overview.role, overview.reign.epoch);
    let ill = overview.rows.iter().filter(|row| row.health > Health::Ok);
    let mut ill: Vec<String> = ill.map(|row| row.dataset.to_string()).collect();
    ill.dedup();
    for what in overview.standing.lines() {
        text.push_str("; ");
        text.push_str(&what);
    }
    if ill.is_empty() {
        text.push_str("; all data sets are well");
    } else {
        text.push_str(&format!("; behind or failing: {}", ill.join(", ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn what_came_due_runs_once_and_what_is_watched_is_left_to_the_watch() {
        let config = Config::parse(
            "[site]\ncertname = \"a.lab\"\n[database]\nnames = [\"x\"]\n[classifier]\nurl = \"https://a.lab:4433/c\"\n\
             token_file = \"/t\"\nca_cert = \"/ca\"\n[schedule]\ndrill = \"daily\"",
        )
        .unwrap();
        let plan = Plan::of(&config);
        let at = |text: &str| {
            let text = format!("2026-11-22T{text}Z");
            serde_json::from_value::<Timestamp>(text.into()).unwrap()
        };
        let due = |role, from: &str, to: &str| -> Vec<&str> {
            let due = due(&plan, role, at(from), at(to), |_| false);
            due.map(|entry| entry.command).collect()
        };
        let none: [&str; 0] = [];
        assert_eq!(due(Role::Active, "10:18:00", "10:19:59"), none);
        assert_eq!(due(Role::Active, "10:19:00", "10:20:00"), ["db push"]);
        assert_eq!(due(Role::Active, "10:20:00", "10:21:00"), none);
        // The time was set: forward by hours is once, and back is not again.
        assert_eq!(due(Role::Active, "01:00:00", "23:00:00"), ["db push"]);
        assert_eq!(due(Role::Active, "23:00:00", "01:00:00"), none);
        assert_eq!(
            due(Role::Passive, "04:00:00", "04:45:00"),
            ["db restore", "drill"]
        );
    }
}
