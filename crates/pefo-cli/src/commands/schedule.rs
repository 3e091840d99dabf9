//! `pefo schedule print|install|remove`: when each command runs, as files of cron or systemd.

use std::path::{Path, PathBuf};

use pefo_core::launch::Invocation;
use pefo_core::{Error, ErrorKind, Result};
use serde_json::{Value, json};

use crate::arguments::{Change, Schedule, ScheduleFormat, ScheduleShape, WhichSchedule};
use crate::code::read;
use crate::host::Host;
use crate::outcome::Report;
use crate::pipeline::{ca, files};
use crate::schedule::change::{self, FOREIGN};
use crate::schedule::file::{File, Place};
use crate::schedule::systemd::{Start, Unit};
use crate::schedule::{Plan, cron, systemd};

/// It is there where systemd runs this host, and nowhere else (sd_booted(3)).
const BOOTED: &str = "/run/systemd/system";

pub(super) fn run(host: &Host, command: &Schedule) -> Result<Report> {
    match command {
        Schedule::Print { which } => print(host, *which),
        Schedule::Install {
            which,
            root,
            change,
        } => install(host, &Wanted::of(host, *which)?, root, change),
        Schedule::Remove { root, dry_run } => {
            install(host, &Wanted::default(), root, &Change::from(dry_run))
        }
    }
}

/// The schedule that is asked for.
#[derive(Default)]
struct Wanted {
    files: Vec<File>,
    units: Vec<Unit>,
    details: Value,
}

impl Wanted {
    fn of(host: &Host, which: WhichSchedule) -> Result<Self> {
        // Where 'pefo init' was not run, everything that is scheduled would fail.
        host.introduction()?;
        let by_default = match Path::new(BOOTED).is_dir() {
            true => ScheduleFormat::Systemd,
            false => ScheduleFormat::Cron,
        };
        let format = which.format.unwrap_or(by_default);
        let shape = shape(format, which.shape)?;
        let program = std::env::current_exe()
            .map_err(|error| Error::new(ErrorKind::Io, "find this program").with_source(error))?;
        let (cadir, files) = (ca::place(host)?, file_dirs(host)?);
        let environments = host.config.code.as_ref();
        let environments = environments.and_then(|_| read::directory(host).ok());
        let place = Place {
            config: &host.config,
            config_path: &host.config_path,
            program: &program,
            cadir: &cadir,
            files: &files,
            environments: environments.as_deref(),
        };
        let plan = Plan::of(&host.config);
        let (files, units, name) = match format {
            ScheduleFormat::Cron => (vec![cron::table(&place, &plan)?], Vec::new(), "cron"),
            ScheduleFormat::Systemd => {
                let units = systemd::units(&place, &plan, shape)?;
                (units.iter().map(Unit::file).collect(), units, "systemd")
            }
        };
        let entries: Vec<Value> = plan.entries().iter().map(|entry| {
            json!({ "role": entry.role, "command": entry.command, "datasets": entry.datasets, "time": entry.time.cron() })
        }).collect();
        let shape = match shape {
            ScheduleShape::Timers => "timers",
            ScheduleShape::Watch => "watch",
            ScheduleShape::Daemon => "daemon",
        };
        Ok(Self {
            files,
            units,
            details: json!({ "format": name, "as": shape, "entries": entries }),
        })
    }
}

/// Where the listed files are put: the directory of each, or the nearest above it that is there.
fn file_dirs(host: &Host) -> Result<Vec<PathBuf>> {
    if host.config.files.is_none() {
        return Ok(Vec::new());
    }
    let (_, list) = files::list(host)?;
    let nearest = |entry: &pefo_core::files::Entry| {
        let path = entry.path.below(Path::new("/"));
        let mut above = path.ancestors().skip(1);
        above.find(|dir| dir.is_dir()).map(Path::to_owned)
    };
    let dirs = list.entries().iter().filter_map(nearest);
    // Never all of the host.
    Ok(dirs.filter(|dir| dir.components().count() > 2).collect())
}

/// What goes on running: for systemd the watch, where nothing else is said; cron keeps nothing running.
fn shape(format: ScheduleFormat, named: Option<ScheduleShape>) -> Result<ScheduleShape> {
    match (format, named) {
        (ScheduleFormat::Systemd, named) => Ok(named.unwrap_or(ScheduleShape::Watch)),
        (ScheduleFormat::Cron, None | Some(ScheduleShape::Timers)) => Ok(ScheduleShape::Timers),
        (ScheduleFormat::Cron, Some(_)) => Err(Error::new(
            ErrorKind::Config,
            "cron starts commands at their times and keeps none of them running",
        )
        .hint("use --format systemd, or --as timers; what supervises 'pefo run' otherwise is yours to set up")),
    }
}

fn print(host: &Host, which: WhichSchedule) -> Result<Report> {
    let wanted = Wanted::of(host, which)?;
    let mut text = String::new();
    for file in &wanted.files {
        text.push_str(&format!("# /{}\n{}\n", file.path.display(), file.text));
    }
    let mut details = wanted.details;
    details["files"] = paths(Path::new("/"), wanted.files.iter().map(|file| &file.path));
    Ok(Report::ok(details, text))
}

fn paths<'a>(root: &Path, paths: impl Iterator<Item = &'a PathBuf>) -> Value {
    paths
        .map(|path| Value::from(root.join(path).display().to_string()))
        .collect()
}

/// Makes what stands on disk and runs what is wanted. Run again after whatever broke it off, it goes on.
fn install(host: &Host, wanted: &Wanted, root: &Path, options: &Change) -> Result<Report> {
    let may_replace = options.accept.iter().any(|rule| rule == FOREIGN);
    let change = change::Change::towards(root, &wanted.files, may_replace)?;
    let mut details = match &wanted.details {
        Value::Null => json!({}),
        details => details.clone(),
    };
    let stands = |gone| {
        change
            .steps
            .iter()
            .filter(move |step| step.after.is_none() == gone)
    };
    details["written"] = paths(root, stands(false).map(|step| &step.path));
    details["removed"] = paths(root, stands(true).map(|step| &step.path));
    if options.dry_run {
        let text = match change.is_empty() {
            true => "nothing would change\n".to_owned(),
            false => change.diff(root),
        };
        return Ok(Report::ok(details, text));
    }
    let _lock = match host.is_initialised() {
        true => Some(host.lock("schedule")?),
        false => None,
    };
    let systemd = Systemd::of(host, root);
    systemd.stop(&change.removed_units())?;
    change.remove(&host.disk, root)?;
    change.write(&host.disk, root)?;
    let enabled = systemd.start(&wanted.units, &change).map_err(|error| {
        error.hint("the files are written; when that is mended, run 'pefo schedule install' again")
    })?;
    let mut text: String = (change.steps.iter())
        .map(|step| {
            let verb = if step.after.is_none() {
                "removed"
            } else {
                "wrote"
            };
            format!("{verb} {}\n", root.join(&step.path).display())
        })
        .collect();
    text.push_str(enabled);
    Ok(match change.is_empty() {
        true => Report::unchanged(details, text),
        false => Report::ok(details, text),
    })
}

/// systemctl, for the files below a root directory.
struct Systemd<'a> {
    host: &'a Host,
    root: &'a Path,
    is_booted: bool,
}

impl<'a> Systemd<'a> {
    fn of(host: &'a Host, root: &'a Path) -> Self {
        let is_booted = root == Path::new("/") && Path::new(BOOTED).is_dir();
        Self {
            host,
            root,
            is_booted,
        }
    }

    /// Stops what goes away, while its unit still says what it is.
    fn stop(&self, units: &[String]) -> Result<()> {
        if units.is_empty() {
            return Ok(());
        }
        let mut words = vec!["disable"];
        if self.is_booted {
            words.push("--now");
        }
        words.extend(units.iter().map(String::as_str));
        self.systemctl(&words).map(drop)
    }

    /// Enables what stands; starts it, where systemd runs. Tells what became of it.
    fn start(&self, units: &[Unit], change: &change::Change) -> Result<&'static str> {
        let touches_units = !change.removed_units().is_empty()
            || units.iter().any(|unit| change.touches(&unit.name));
        if self.is_booted && touches_units {
            self.systemctl(&["daemon-reload"])?;
        }
        let named = |wanted: &dyn Fn(&Unit) -> bool| -> Vec<&str> {
            let chosen = units.iter().filter(|unit| wanted(unit));
            chosen.map(|unit| unit.name.as_str()).collect()
        };
        let enabled = named(&|unit| unit.start != Start::ByTimer);
        if enabled.is_empty() {
            return Ok("");
        }
        if !self.systemctl(&[&["enable"], enabled.as_slice()].concat())? {
            return Ok("there is no systemctl here: enable the units where systemd runs\n");
        }
        if !self.is_booted {
            return Ok("systemd does not run here: it starts them when it does\n");
        }
        // One that is another than before is started anew; the others are left in peace where they run.
        for (verb, changed) in [("restart", true), ("start", false)] {
            let names =
                named(&|unit| unit.start == Start::Now && change.touches(&unit.name) == changed);
            if !names.is_empty() {
                self.systemctl(&[&[verb, "--no-block"], names.as_slice()].concat())?;
            }
        }
        Ok("")
    }

    /// False where there is no such program.
    fn systemctl(&self, words: &[&str]) -> Result<bool> {
        let mut invocation = Invocation::new("systemctl").arg("--quiet");
        if self.root != Path::new("/") {
            invocation = invocation.arg("--root").arg(self.root);
        }
        let invocation = words.iter().fold(invocation, Invocation::arg);
        match self.host.launcher.run(&invocation) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
            Ok(finished) => finished.success(&invocation).map(|_| true),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cron_keeps_nothing_running() {
        let cron = |named| shape(ScheduleFormat::Cron, named);
        assert_eq!(cron(None).unwrap(), ScheduleShape::Timers);
        for named in [ScheduleShape::Watch, ScheduleShape::Daemon] {
            assert_eq!(cron(Some(named)).unwrap_err().kind(), ErrorKind::Config);
        }
        let systemd = |named| shape(ScheduleFormat::Systemd, named).unwrap();
        assert_eq!(systemd(None), ScheduleShape::Watch);
        assert_eq!(systemd(Some(ScheduleShape::Daemon)), ScheduleShape::Daemon);
    }
}
