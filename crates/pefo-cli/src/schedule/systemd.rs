//! The schedule as units for systemd: services that may do what they need and no more, and the timers that start
//! them.

use std::path::{Path, PathBuf};

use pefo_core::{Error, Result};

use super::file::{File, HEADER, Place, UNIT_DIR, line};
use super::needs::Needs;
use super::{Entry, Plan, Recurrence};
use crate::arguments::ScheduleShape;

/// Asked before these start, and whatever else `[services] on_fence` names.
const SIGNERS: [&str; 2] = ["puppetserver.service", "pe-puppetserver.service"];
/// A daemon that has said nothing for so long hangs, and is started anew.
const WATCHDOG_SECONDS: u32 = 300;

/// A unit.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unit {
    /// Its file's name.
    pub name: String,
    /// All of the file.
    pub text: String,
    /// How it is brought to life.
    pub start: Start,
}

/// How a unit is brought to life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// At boot, and now.
    Now,
    /// At boot only.
    AtBoot,
    /// By its timer.
    ByTimer,
}

impl Unit {
    /// As it stands on disk.
    pub fn file(&self) -> File {
        File {
            path: PathBuf::from(UNIT_DIR).join(&self.name),
            text: self.text.clone(),
        }
    }
}

/// All units of a schedule.
///
/// # Errors
/// `Config` where a path cannot stand in a unit.
pub fn units(place: &Place<'_>, plan: &Plan, shape: ScheduleShape) -> Result<Vec<Unit>> {
    let mut units = vec![fence(place)?];
    match shape {
        ScheduleShape::Daemon => units.push(lasting(place, "pefo", "run")?),
        ScheduleShape::Watch => units.push(lasting(place, "pefo-watch", "ca watch")?),
        ScheduleShape::Timers => {}
    }
    for entry in plan.entries().iter().filter(|entry| is_timed(entry, shape)) {
        units.extend(timed(place, entry)?);
    }
    Ok(units)
}

/// Whether a timer starts it: what a daemon or a watch does by itself has none.
pub(super) fn is_timed(entry: &Entry, shape: ScheduleShape) -> bool {
    match shape {
        ScheduleShape::Timers => true,
        ScheduleShape::Watch => !entry.command.starts_with("ca "),
        ScheduleShape::Daemon => false,
    }
}

fn head(description: &str) -> String {
    format!(
        "{HEADER}: 'pefo schedule install' replaces it, 'pefo schedule remove' removes it; own settings go into a\n\
         # drop-in (systemctl edit).\n[Unit]\nDescription=pefo: {description}\n"
    )
}

/// Asks the peers who reigns before Puppet's server may sign. Where the reign has ended, it stops what
/// `[services] on_fence` names, whose start waits for it.
fn fence(place: &Place<'_>) -> Result<Unit> {
    let mut before: Vec<String> = SIGNERS.map(str::to_owned).to_vec();
    for name in &place.config.services.on_fence {
        let name = match name.rsplit_once('.') {
            Some((_, "service" | "target" | "socket")) => name.clone(),
            _ => format!("{name}.service"),
        };
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.@:\\".contains(c);
        if name.chars().all(is_plain) && !before.contains(&name) {
            before.push(name);
        }
    }
    let text = format!(
        "{}Wants=network-online.target\nAfter=network-online.target\nBefore={}\n\n\
         [Service]\nType=oneshot\nRemainAfterExit=yes\nTimeoutStartSec=2min\n{}{}\n\
         [Install]\nWantedBy=multi-user.target\n",
        head("who reigns, before anything is signed"),
        before.join(" "),
        exec(place, "--quiet fence")?,
        sandbox(place, "fence")?,
    );
    Ok(Unit {
        name: "pefo-fence.service".to_owned(),
        text,
        start: Start::AtBoot,
    })
}

fn lasting(place: &Place<'_>, name: &str, command: &str) -> Result<Unit> {
    let description = match command {
        "run" => "all that goes on by itself",
        _ => "certificates and revocations as they happen",
    };
    let text = format!(
        "{}Wants=network-online.target\nAfter=network-online.target pefo-fence.service\nStartLimitIntervalSec=0\n{}\n\
         [Service]\nType=notify\nNotifyAccess=main\nWatchdogSec={WATCHDOG_SECONDS}\nRestart=on-failure\nRestartSec=10\n\
         # The configuration is wrong: nothing but another one helps.\nRestartPreventExitStatus=2\n\
         KillMode=mixed\nTimeoutStopSec=30\n{}{}\n[Install]\nWantedBy=multi-user.target\n",
        head(description),
        mounts(place)?,
        exec(place, command)?,
        sandbox(place, command)?,
    );
    Ok(Unit {
        name: format!("{name}.service"),
        text,
        start: Start::Now,
    })
}

fn timed(place: &Place<'_>, entry: &Entry) -> Result<[Unit; 2]> {
    let Entry {
        role,
        command,
        what,
        time,
        ..
    } = entry;
    let name = format!("pefo-{}", command.replace(' ', "-"));
    let head = head(&format!("{what}, on the {role}"));
    let service = format!(
        "{head}Wants=network-online.target\nAfter=network-online.target\n{}\n[Service]\nType=oneshot\n{}{}",
        mounts(place)?,
        exec(place, &format!("--scheduled {command}"))?,
        sandbox(place, command)?,
    );
    // What was missed while the host was down is made up for, where it would else be long until the next.
    let persistent = match time {
        Recurrence::EveryMinute => "",
        _ => "Persistent=yes\n",
    };
    let timer = format!(
        "{head}\n[Timer]\nOnCalendar={}\nAccuracySec=1s\n{persistent}\n[Install]\nWantedBy=timers.target\n",
        time.calendar()
    );
    let unit = |ending, text, start| Unit {
        name: format!("{name}.{ending}"),
        text,
        start,
    };
    Ok([
        unit("service", service, Start::ByTimer),
        unit("timer", timer, Start::Now),
    ])
}

fn mounts(place: &Place<'_>) -> Result<String> {
    let site = &place.config.site;
    let dirs = [&site.state_dir, &site.spool_dir].map(|dir| word(dir));
    let [state, spool] = dirs;
    Ok(format!("RequiresMountsFor={} {}\n", state?, spool?))
}

fn exec(place: &Place<'_>, command: &str) -> Result<String> {
    let (program, config) = (word(place.program)?, word(place.config_path)?);
    // systemd.service(5): in a command line a dollar stands for a variable, elsewhere it does not.
    let command = format!("{program} --config {config} {command}").replace('$', "$$");
    Ok(format!("ExecStart={command}\n"))
}

/// What a service may not do: all that its command has no need of.
fn sandbox(place: &Place<'_>, command: &str) -> Result<String> {
    if !place.config.schedule.sandbox {
        return Ok("UMask=0077\n".to_owned());
    }
    let needs = Needs::of(command, place);
    // Not RestrictSUIDSGID: it takes openat2 away (its flags lie in memory, where no filter looks), by which alone the
    // spool is read.
    let mut text = String::from(
        "UMask=0077\nNoNewPrivileges=yes\nProtectSystem=strict\nPrivateDevices=yes\nPrivateMounts=yes\n\
         ProtectClock=yes\nProtectControlGroups=yes\nProtectHostname=yes\nProtectKernelLogs=yes\n\
         ProtectKernelModules=yes\nProtectKernelTunables=yes\nProtectProc=invisible\nRestrictNamespaces=yes\n\
         RestrictRealtime=yes\nLockPersonality=yes\nKeyringMode=private\n\
         SystemCallArchitectures=native\nSystemCallErrorNumber=EPERM\n\
         SystemCallFilter=@system-service\nSystemCallFilter=~@privileged @resources\n",
    );
    let mut line = |name: &str, value: &str| text.push_str(&format!("{name}={value}\n"));
    // Another account's programs are started by setpriv, which sets capabilities too, and ended by signals.
    let (calls, capabilities) = match needs.other_account || needs.programs {
        true => (
            "@chown @setuid capset",
            "CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER CAP_KILL CAP_SETGID CAP_SETUID",
        ),
        false => ("@chown", "CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER"),
    };
    line("SystemCallFilter", calls);
    line("CapabilityBoundingSet", capabilities);
    if needs.programs {
        // What looks at addresses and routes does so by netlink.
        line(
            "RestrictAddressFamilies",
            "AF_UNIX AF_INET AF_INET6 AF_NETLINK",
        );
    } else {
        line("RestrictAddressFamilies", "AF_UNIX AF_INET AF_INET6");
        line("MemoryDenyWriteExecute", "yes");
        line("ProcSubset", "pid");
    }
    line("ProtectHome", if needs.homes { "read-only" } else { "yes" });
    if !needs.temporary {
        line("PrivateTmp", "yes");
    }
    for path in &needs.writes {
        line("ReadWritePaths", &format!("-{}", word(path)?));
    }
    Ok(text)
}

/// A path as one word of a unit.
fn word(path: &Path) -> Result<String> {
    let text = line(path)?;
    if text.is_empty() {
        return Err(Error::invalid("an empty path in a unit"));
    }
    let text = text.replace('%', "%%");
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+@:,=%$~".contains(c);
    if text.chars().all(is_plain) {
        return Ok(text);
    }
    Ok(format!(
        "\"{}\"",
        text.replace('\\', "\\\\").replace('"', "\\\"")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_systemd_would_take_apart_is_quoted() {
        let word = |path: &str| word(Path::new(path)).map_err(|error| error.to_string());
        assert_eq!(word("/var/lib/pefo").unwrap(), "/var/lib/pefo");
        assert_eq!(word("/srv/my pefo").unwrap(), "\"/srv/my pefo\"");
        assert_eq!(word("/srv/100% \"x\"").unwrap(), r#""/srv/100%% \"x\"""#);
        assert!(
            word("/srv/a\nb")
                .unwrap_err()
                .contains("not text on one line")
        );
    }
}
