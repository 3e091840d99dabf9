//! `pefo run`: all that goes on by itself, in one process.
//!
//! ```text
//! parts   each on a thread of its own, kept alive: the watches of CA and classifier, …
//! clock   at their times, the commands of the schedule as children of their own; once a minute, the ticks
//! heart   tells systemd that each of them comes round
//! ```
//!
//! What fails takes nothing else down: a part is begun again, later each time; a command is a process of its own,
//! records its own run and takes its own locks, and gives its memory back by ending. All of it goes on across
//! changes of role, and may be killed at any instruction. Another configuration is read by a restart only.

mod clock;
mod heart;
mod keep;
mod stop;

use std::collections::BTreeSet;

use pefo_core::clock::Timestamp;
use pefo_core::generation::DataSet;
use pefo_core::run::RunRecord;
use pefo_core::{Error, ErrorKind, Result};
use serde_json::Value;

use crate::bulletin;
use crate::health;
use crate::host::Host;
use crate::outcome::{Report, outcome_of};
use crate::pipeline::watch;

pub use heart::{Heart, Pulse};
pub use stop::until_stopped;

/// How many loops a daemon has that the heart waits for: the watch, and the clock.
pub const LOOPS: usize = 2;
const WATCH: usize = 0;
const CLOCK: usize = 1;

/// What goes on beside the clock. It ends with an error where it cannot go on, or with `Cancelled` once the heart
/// says stop, which it asks now and then.
struct Part {
    /// As the record of its failures names it.
    command: &'static str,
    /// What it is about.
    dataset: Option<DataSet>,
    /// Its loop, where the heart waits for it.
    pulse: Option<usize>,
    run: fn(&Host, &Heart) -> Result<()>,
}

/// All parts.
const PARTS: &[Part] = &[
    Part {
        command: "ca watch",
        dataset: Some(DataSet::Ca),
        pulse: Some(WATCH),
        run: |host, heart| watch::run_all(host, &heart.pulse(WATCH)).map(drop),
    },
    Part {
        command: "health",
        dataset: None,
        pulse: None,
        run: |host, heart| {
            health::serve(host, heart.stop());
            // It tries again by itself, and ends where nobody wants it, or by the word to stop.
            Err(Error::new(ErrorKind::Cancelled, "nobody is to be answered"))
        },
    },
];

/// What is done once a minute.
struct Tick {
    what: &'static str,
    run: fn(&Host) -> Result<()>,
}

/// All ticks, in order: each is short, and one that fails is logged.
const TICKS: &[Tick] = &[Tick {
    what: "who is told how this host does",
    run: |host| {
        bulletin::publish(host);
        Ok(())
    },
}];

/// Runs until the heart says stop.
///
/// # Errors
/// `Locked` where another daemon runs; `Config` where this host is not set up. Whatever fails later is gone on with.
pub fn run(host: &Host, heart: &Heart) -> Result<Report> {
    host.station()?;
    let _lock = host.lock("run")?;
    std::thread::scope(|scope| -> Result<()> {
        for part in PARTS {
            // Named, for whoever looks at what a daemon is at.
            let named = std::thread::Builder::new().name(part.command.to_owned());
            let started = named.spawn_scoped(scope, || keep::alive(host, heart, part));
            started.map_err(|error| {
                heart.stop().cancel();
                Error::new(ErrorKind::Io, "start a thread").with_source(error)
            })?;
        }
        clock::run(host, heart, &heart.pulse(CLOCK));
        Ok(())
    })?;
    Ok(Report::ok(Value::Null, ""))
}

/// Watches the CA until the heart says stop.
///
/// # Errors
/// As [`watch::run`].
pub fn watch_ca(host: &Host, heart: &Heart) -> Result<Report> {
    clock::tell(host, heart);
    let watched = bulletin::while_in(host, || watch::run(host, &heart.pulse(WATCH)));
    watched.map(|report| report.about(DataSet::Ca))
}

/// One heart for what the command `pefo ca watch` does.
pub const LOOPS_OF_WATCH: usize = 1;

/// Records a failure that nobody else could.
fn record(host: &Host, command: &str, dataset: Option<DataSet>, began: Timestamp, error: &Error) {
    let record = RunRecord {
        format: 1,
        command: command.to_owned(),
        dataset,
        position: None,
        began,
        ended: host.clock.now(),
        outcome: outcome_of(error.kind()),
        error: Some(error.to_string()),
        rule: error.rule().map(str::to_owned),
        accepted: BTreeSet::new(),
    };
    if let Err(error) = record.store(&host.disk, &host.state("runs")) {
        tracing::warn!(%error, "that it has failed was not recorded");
    }
    bulletin::publish(host);
}
