//! Services and programs that the configuration names: that they are there before they are needed.

use std::path::Path;

use pefo_core::launch::{Invocation, Launcher};
use pefo_core::{Error, ErrorKind, Result};

use super::point::{Point, bad};
use crate::arguments::Change;
use crate::config::ServiceManager;
use crate::host::Host;
use crate::outcome::Health;
use crate::pipeline;
use crate::pipeline::services::PUPPET;
use crate::products;

/// What starts and stops services knows them, and something stops what signs once this host's reign has ended.
pub(super) fn services(host: &Host) -> Point {
    let mut point = Point::new("services");
    let settings = &host.config.services;
    let names: Vec<(&str, &String)> = settings.names().collect();
    match settings.manager {
        ServiceManager::Systemd => {
            for (list, name) in &names {
                if let Err(error) = known_to_systemd(&*host.launcher, name) {
                    point.fault(Health::Critical, error.context(format!("services.{list}")));
                }
            }
        }
        ServiceManager::Puppet if !names.is_empty() && !Path::new(PUPPET).exists() => {
            if let Err(error) = is_there(&*host.launcher, "puppet") {
                point.fault(Health::Critical, error.context("services.manager"));
            }
        }
        ServiceManager::Puppet => {}
        ServiceManager::Command => {
            for (key, words) in [("stop", &settings.stop), ("start", &settings.start)] {
                if let Some(program) = words.first()
                    && let Err(error) = is_there(&*host.launcher, program)
                {
                    point.fault(Health::Critical, error.context(format!("services.{key}")));
                }
            }
        }
    }
    if settings.on_fence.is_empty() && has_ca_key(host) {
        let service = match Path::new(products::PE_VERSION).exists() {
            true => "pe-puppetserver",
            false => "puppetserver",
        };
        point.fault(
            Health::Warning,
            bad(
                "services.on_fence is empty: once another master reigns, nothing stops this one from signing",
                format!("add to [services]: on_fence = [\"{service}\"]"),
            ),
        );
    }
    point.say(match names.len() {
        0 => "none is configured".to_owned(),
        count => format!("{count} are known"),
    });
    point
}

fn has_ca_key(host: &Host) -> bool {
    let layout = pipeline::ca::layout(host, &Change::default());
    layout.is_ok_and(|layout| layout.key_path().is_ok())
}

/// Programs that are run when something happens can be run.
pub(super) fn hooks(host: &Host) -> Point {
    let config = &host.config;
    let mut point = Point::new("hooks");
    let programs = [
        ("services.before", &config.services.before),
        ("services.after", &config.services.after),
        ("services.probe", &config.services.probe),
        ("hooks.role_changed", &config.hooks.role_changed),
        ("hooks.failed", &config.hooks.failed),
        ("hooks.recovered", &config.hooks.recovered),
    ];
    let mut there = 0;
    for (key, words) in programs {
        let Some(program) = words.first() else {
            continue;
        };
        match is_there(&*host.launcher, program) {
            Ok(()) => there += 1,
            Err(error) => point.fault(Health::Critical, error.context(key)),
        }
    }
    point.say(match there {
        0 => "none is configured".to_owned(),
        count => format!("{count} programs are there"),
    });
    point
}

/// Asked by its unit's file, which works without a running systemd too. Before version 246 the exit code tells
/// nothing, so what is printed counts.
fn known_to_systemd(launcher: &dyn Launcher, name: &str) -> Result<()> {
    let unit = match name.contains('.') {
        true => name.to_owned(),
        false => format!("{name}.service"),
    };
    let asked = Invocation::new("systemctl")
        .arg("list-unit-files")
        .arg("--no-legend")
        .arg("--no-pager")
        .arg(&unit);
    let finished = launcher.run(&asked).map_err(|error| {
        error.hint("set [services] manager to what starts and stops services here: \"puppet\" or \"command\"")
    })?;
    let printed = String::from_utf8_lossy(&finished.stdout).into_owned();
    let is_known = printed
        .lines()
        .any(|line| line.split_whitespace().next() == Some(unit.as_str()));
    if is_known {
        return Ok(());
    }
    Err(bad(
        format!("systemd knows no unit {unit}"),
        "mend the name: 'systemctl list-unit-files' shows those there are",
    ))
}

/// What a shell calls a command may be a builtin, which is no program: only files count.
const FIND: &str = r#"
case $1 in */*) test -f "$1" && test -x "$1"; exit;; '') exit 1;; esac
IFS=:
for dir in $PATH; do test -f "$dir/$1" && test -x "$dir/$1" && exit 0; done
exit 1"#;

/// A program by path, or by name on the path that programs are started with.
fn is_there(launcher: &dyn Launcher, program: &str) -> Result<()> {
    let asked = Invocation::new("sh")
        .arg("-c")
        .arg(FIND)
        .arg("sh")
        .arg(program);
    if launcher.run(&asked)?.code == Some(0) {
        return Ok(());
    }
    let error = Error::new(
        ErrorKind::NotFound,
        format!("there is no program {program:?} that can be run"),
    );
    Err(error.hint("mend its path, or install it and make it executable"))
}

#[cfg(test)]
mod tests {
    use pefo_core::launch::{DirectLauncher, Finished};

    use super::*;

    #[test]
    fn a_program_is_there_where_it_can_be_run() {
        let launcher = DirectLauncher::default();
        assert!(is_there(&launcher, "sh").is_ok());
        assert!(is_there(&launcher, "/bin/sh").is_ok());
        for missing in [
            "/etc/passwd",
            "no-such-program-here",
            "/nonexistent/hook",
            "$(id)",
            "",
        ] {
            let error = is_there(&launcher, missing).unwrap_err();
            assert!(error.hint_text().is_some(), "{missing}");
        }
    }

    /// Prints what systemctl prints of its two units.
    struct Systemctl;

    impl Launcher for Systemctl {
        fn run(&self, invocation: &Invocation) -> Result<Finished> {
            let units = ["puppetserver.service", "pefo.timer"];
            let asked = invocation
                .arguments
                .last()
                .unwrap()
                .to_string_lossy()
                .into_owned();
            let found = units.iter().filter(|unit| **unit == asked);
            let printed: String = found
                .map(|unit| format!("{unit} enabled enabled\n"))
                .collect();
            Ok(Finished::new(Some(0), printed, ""))
        }
    }

    #[test]
    fn a_service_is_known_where_systemd_has_its_unit() {
        assert!(known_to_systemd(&Systemctl, "puppetserver").is_ok());
        assert!(known_to_systemd(&Systemctl, "pefo.timer").is_ok());
        let error = known_to_systemd(&Systemctl, "puppetsever").unwrap_err();
        assert_eq!(
            error.to_string(),
            "systemd knows no unit puppetsever.service"
        );
    }
}
