//! One module a command; each gives a [`Report`].

mod ca;
mod check;
mod code;
mod config;
mod db;
mod files;
mod init;
mod nc;
mod receive;
mod reign;
mod schedule;
pub(crate) mod status;
mod verify;

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use pefo_core::cancel::Cancel;
use pefo_core::generation::DataSet;
use pefo_core::run::{Outcome, RunRecord};
use pefo_core::{Error, ErrorKind, Result};

use crate::arguments::{
    Arguments, Ca, Change, Code, Command, Config, Db, Files, Init, LogFormat, Nc,
};
use crate::bulletin;
use crate::daemon::{self, Heart};
use crate::host::Host;
use crate::notify::Notifier;
use crate::original;
use crate::outcome::{Report, original_script};
use crate::overview;
use crate::pipeline;
use crate::pipeline::push::{KeyTravels, PushOptions};
use crate::reigns;
use crate::report;
use crate::schedule::Plan;
use crate::syslog;

/// Runs the command, says what happened, gives the exit code.
pub fn run(arguments: &Arguments) -> ExitCode {
    let command = arguments.command.name();
    match &arguments.command {
        Command::Receive => return receive::run(&arguments.config),
        Command::Db(Db::Stage) => return db::stage(),
        Command::Db(Db::Tied { parent, command }) => return db::tied(*parent, command),
        _ => {}
    }
    let mut report = dispatch(arguments, command).unwrap_or_else(Report::failed);
    if arguments.scheduled && rests(&report) {
        report = Report::unchanged(report.details, "");
    }
    let quiet = arguments.quiet || arguments.scheduled && report.outcome == Outcome::Unchanged;
    report.print(command, arguments.json, quiet);
    if arguments.log_format == LogFormat::PeFailover {
        use std::io::Write as _;
        drop(
            std::io::stderr()
                .lock()
                .write_all(report.pe_failover_line(command).as_bytes()),
        );
    }
    ExitCode::from(report.code())
}

/// Whether it was left undone because it is not this host's part now, or is being done by another run: a schedule
/// that both masters have comes to that all the time.
fn rests(report: &Report) -> bool {
    let rests = |error: &Error| {
        matches!(error.kind(), ErrorKind::WrongRole | ErrorKind::Locked)
            || error.rule() == Some(reigns::pause::PAUSED)
    };
    !report.errors.is_empty() && report.errors.iter().all(rests)
}

/// Whether a scheduled command is the other role's; where that cannot be told, the command itself says why.
fn is_the_others(host: &Host, command: &str) -> bool {
    let plan = Plan::of(&host.config);
    let mut entries = plan.entries().iter();
    let entry = entries.find(|entry| entry.command == command);
    let station = host.station();
    entry.is_some_and(|entry| station.is_ok_and(|(station, _)| station.role != entry.role))
}

fn dispatch(arguments: &Arguments, command: &str) -> Result<Report> {
    if let Command::Config(what) = &arguments.command {
        return match what {
            Config::Example => Ok(config::example()),
            Config::Check => config::check(&arguments.config),
            Config::Show => config::show(&arguments.config),
        };
    }
    let host = Host::load(&arguments.config)?;
    if arguments.scheduled && is_the_others(&host, command) {
        return Ok(Report::unchanged(serde_json::Value::Null, ""));
    }
    match &arguments.command {
        Command::Init(Init::Active { accept, options }) => {
            init::active(&host, accept.as_deref(), options)
        }
        Command::Init(Init::Passive { join, options }) => init::passive(&host, join, options),
        Command::Init(Init::Unpair { certname, dry_run }) => {
            init::unpair(&host, certname, dry_run.dry_run)
        }
        Command::Check => Ok(check::run(&host)),
        Command::Status { metrics } => Ok(status::run(&host, *metrics)),
        Command::Report { html, since } => report::run(&host, *since, html.as_deref()),
        Command::Schedule(what) => schedule::run(&host, what),
        Command::Ca(Ca::Diff) => ca::diff(&host),
        Command::Ca(Ca::Watch { in_place }) => {
            if !in_place {
                start_anew_lean();
            }
            lasting(host, daemon::LOOPS_OF_WATCH, daemon::watch_ca)
        }
        Command::Run { in_place } => {
            if !in_place {
                start_anew_lean();
            }
            lasting(host, daemon::LOOPS, daemon::run)
        }
        Command::Ca(Ca::Verify { full, timeout }) => Ok(ca::verify(&host, *full, *timeout)),
        Command::Ca(Ca::Compare) => pipeline::watch::compare(&host),
        Command::Ca(Ca::Exclude) => ca::exclude(&host),
        Command::Ca(Ca::Merge {
            from,
            timeout,
            change,
        }) => Ok(recorded(&host, command, Some(&DataSet::Ca), change, || {
            let timeout = Duration::from_secs(*timeout);
            reigns::merge::run(&host, from.as_ref(), timeout, change)
        })),
        Command::Drill { change } => Ok(recorded(&host, command, None, change, || {
            pipeline::drill::run(&host, change)
        })),
        Command::Promote { .. }
        | Command::Demote { .. }
        | Command::Switchover { .. }
        | Command::Fence
        | Command::Pause { .. }
        | Command::Resume { .. } => reign::run(&host, command, &arguments.command),
        Command::Ca(Ca::Push {
            seed,
            rotate_key,
            change,
        }) => {
            let key_travels = match (seed, rotate_key) {
                (true, _) => KeyTravels::Seed,
                (_, true) => KeyTravels::Again,
                _ => KeyTravels::No,
            };
            let options = PushOptions {
                key_travels,
                ..PushOptions::default()
            };
            push(&host, command, &[DataSet::Ca], change, options)
        }
        Command::Ca(Ca::Apply {
            rollback: Some(generation),
            allow_unrevoke,
            change,
        }) => Ok(recorded(&host, command, Some(&DataSet::Ca), change, || {
            pipeline::rollback::run(&host, *generation, *allow_unrevoke, change)
        })),
        Command::Ca(Ca::Apply { change, .. }) => apply(&host, command, &[DataSet::Ca], change),
        Command::Nc(Nc::Export { if_changed, change }) => nc::export(&host, *if_changed, change),
        Command::Nc(Nc::Rollback { generation, change }) => Ok(recorded(
            &host,
            command,
            Some(&DataSet::Classifier),
            change,
            || pipeline::nc::roll_back(&host, *generation, change),
        )),
        Command::Nc(Nc::Diff) => nc::diff(&host),
        Command::Nc(Nc::Verify) => Ok(pipeline::nc::verify(&host).unwrap_or_else(Report::unknown)),
        Command::Verify { timeout } => Ok(verify::run(&host, *timeout)),
        Command::Nc(Nc::Push { change }) => push(
            &host,
            command,
            &[DataSet::Classifier],
            change,
            PushOptions::default(),
        ),
        Command::Nc(Nc::Restore { change }) => {
            apply(&host, command, &[DataSet::Classifier], change)
        }
        Command::Db(Db::Dump {
            names,
            force,
            change,
        }) => db::dump(&host, names, *force, change),
        Command::Db(Db::List) => db::list(&host),
        Command::Db(Db::Push {
            names,
            force,
            change,
        }) => {
            let options = PushOptions {
                force: *force,
                ..PushOptions::default()
            };
            push(&host, command, &databases(&host, names)?, change, options)
        }
        Command::Db(Db::Rollback { name, dry_run }) => {
            let (dataset, change) = (database(name)?, Change::from(dry_run));
            Ok(recorded(&host, command, Some(&dataset), &change, || {
                pipeline::db::rollback(&host, name, dry_run.dry_run)
            }))
        }
        Command::Db(Db::Drill { names, change }) => {
            db::drill(&host, command, &databases(&host, names)?, change)
        }
        Command::Db(Db::Verify { names }) => Ok(db::verify(&host, names)),
        Command::Db(Db::Restore { names, change }) => {
            apply(&host, command, &databases(&host, names)?, change)
        }
        Command::Files(Files::Push { change }) => push(
            &host,
            command,
            &[DataSet::Files],
            change,
            PushOptions::default(),
        ),
        Command::Files(Files::Diff) => files::diff(&host),
        Command::Files(Files::Apply { change }) => apply(&host, command, &[DataSet::Files], change),
        Command::Files(Files::Verify) => {
            Ok(pipeline::files::verify(&host).unwrap_or_else(Report::unknown))
        }
        Command::Code(Code::Status { timeout }) => Ok(code::status(&host, *timeout)),
        Command::Code(Code::Deploy {
            environments,
            dry_run,
        }) => Ok(recorded(
            &host,
            command,
            Some(&DataSet::Code),
            &Change::from(dry_run),
            || code::deploy(&host, environments, dry_run.dry_run),
        )),
        Command::Push { datasets, change } => {
            let chosen = chosen(&host, command, datasets);
            push(&host, command, &chosen, change, PushOptions::default())
        }
        Command::Apply { datasets, change } => {
            let chosen = chosen(&host, command, datasets);
            apply(&host, command, &chosen, change)
        }
        Command::Config(_) | Command::Receive | Command::Db(Db::Stage | Db::Tied { .. }) => {
            Err(Error::invalid("handled before the configuration is read"))
        }
    }
}

/// Runs what goes on until this process is told to stop, and tells systemd how it does.
fn lasting(host: Host, loops: usize, part: fn(&Host, &Heart) -> Result<Report>) -> Result<Report> {
    let notifier = Notifier::of_environment(|name| std::env::var_os(name), std::process::id());
    let clock = Arc::clone(&host.clock);
    let heart = Arc::new(Heart::new(notifier, clock, Cancel::new(), loops));
    daemon::until_stopped(&heart, move |heart| part(&host, heart))
}

/// Replaces this process by itself, with an allocator that gives memory back: glibc's keeps for itself what
/// was needed once, as for a full generation, and a watch runs for months. Where that cannot be, all goes on
/// as it is. mallopt(3): set thresholds are no longer raised by what is freed.
fn start_anew_lean() {
    use std::os::unix::process::CommandExt as _;
    const TUNABLES: &str = "glibc.malloc.mmap_threshold=131072:glibc.malloc.trim_threshold=131072:glibc.malloc.arena_max=1";
    let Ok(program) = std::env::current_exe() else {
        return;
    };
    let error = std::process::Command::new(program)
        .args(std::env::args_os().skip(1))
        .arg("--in-place")
        .env("GLIBC_TUNABLES", TUNABLES)
        .exec();
    tracing::debug!(%error, "not started anew");
}

/// The data sets that are named, or all that are configured. Of these the CA is left to a watch that has it: it does
/// the same at once.
fn chosen(host: &Host, command: &str, named: &[DataSet]) -> Vec<DataSet> {
    if !named.is_empty() {
        return named.to_vec();
    }
    let mut all = host.datasets();
    if all.len() > 1 && overview::is_watched(host, command) {
        all.retain(|dataset| *dataset != DataSet::Ca);
    }
    all
}

/// The databases named on the command line, or those of the configuration.
fn databases(host: &Host, names: &[String]) -> Result<Vec<DataSet>> {
    let configured = || {
        host.config
            .database
            .iter()
            .flat_map(|database| database.names.clone())
            .collect()
    };
    let names: Vec<String> = if names.is_empty() {
        configured()
    } else {
        names.to_vec()
    };
    if names.is_empty() {
        return Err(Error::new(
            ErrorKind::Config,
            "no database is named, here or in the configuration",
        )
        .hint("add a [database] section with names = [\"pe-rbac\"]"));
    }
    names.iter().map(|name| database(name)).collect()
}

fn database(name: &str) -> Result<DataSet> {
    format!("db:{name}").parse()
}

fn push(
    host: &Host,
    command: &str,
    datasets: &[DataSet],
    change: &Change,
    options: PushOptions,
) -> Result<Report> {
    let reports = datasets.iter().map(|dataset| {
        recorded(host, command, Some(dataset), change, || {
            pipeline::push::run(host, dataset, change, options)
        })
    });
    Ok(one_or_all(reports.collect()))
}

fn apply(host: &Host, command: &str, datasets: &[DataSet], change: &Change) -> Result<Report> {
    let reports = datasets.iter().map(|dataset| {
        recorded(host, command, Some(dataset), change, || {
            pipeline::apply::run(host, dataset, change)
        })
    });
    let report = one_or_all(reports.collect());
    if change.dry_run || !host.is_initialised() {
        return Ok(report);
    }
    // Also where nothing could be applied: what keeps the data may be just what the active asks about.
    Ok(match pipeline::requests::answer_pending(host, None) {
        Ok(_) => report,
        Err(error) if report.errors.is_empty() => {
            report.partial(vec![error.context("requests of the active")])
        }
        Err(error) => {
            tracing::warn!(%error, "requests of the active wait on");
            report
        }
    })
}

fn one_or_all(mut reports: Vec<Report>) -> Report {
    if reports.len() == 1 {
        reports.remove(0)
    } else {
        Report::all(reports)
    }
}

/// Runs one part, of a data set or of the whole host, and keeps a record of it; a dry run leaves none.
fn recorded(
    host: &Host,
    command: &str,
    dataset: Option<&DataSet>,
    change: &Change,
    run: impl FnOnce() -> Result<Report>,
) -> Report {
    let began = host.clock.now();
    let mut report = run().unwrap_or_else(Report::failed);
    report.dataset = dataset.cloned();
    // The other role's command, called here by mistake, says nothing of how this host does.
    let is_misplaced = report
        .errors
        .first()
        .is_some_and(|error| error.kind() == ErrorKind::WrongRole);
    if change.dry_run || is_misplaced || !host.is_initialised() {
        return report;
    }
    let position = report
        .details
        .get("generation")
        .and_then(|value| value.as_str())
        .and_then(|text| text.parse().ok());
    let record = RunRecord {
        format: 1,
        command: command.to_owned(),
        dataset: dataset.cloned(),
        position,
        began,
        ended: host.clock.now(),
        outcome: report.outcome,
        error: report.errors.first().map(ToString::to_string),
        rule: report
            .errors
            .first()
            .and_then(|error| error.rule().map(str::to_owned)),
        accepted: change.accept.iter().cloned().collect::<BTreeSet<_>>(),
    };
    if let Err(error) = record.store(&host.disk, &host.state("runs")) {
        report = report.partial(vec![error.context("the run was not recorded")]);
    }
    let line = original::line(original_script(command), report.status(), &report.line());
    syslog::send(host, report.status(), &line);
    bulletin::publish(host);
    report
}
