//! Services around a swap: stopped in order before it, started in the opposite order after it, and asked
//! whether they are well.
//!
//! Which service uses what is the operator's to say (`[services]`); without it nothing is stopped, and clients
//! whose sessions the swap ends connect anew by themselves.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pefo_core::clock::Clock;
use pefo_core::launch::{Finished, Invocation, Launcher};
use pefo_core::{Error, ErrorKind, Result};
use serde::Serialize;

use crate::config::{self, ServiceManager};
use crate::host::Host;

/// How often the services are asked whether they are well.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// Where Puppet's packages put the program, which is on few paths.
pub const PUPPET: &str = "/opt/puppetlabs/bin/puppet";

/// The configured services.
pub struct Services {
    settings: config::Services,
    launcher: Arc<dyn Launcher>,
    clock: Arc<dyn Clock>,
}

/// What was done to the services around a swap.
#[derive(Debug, Clone, Serialize)]
pub struct Bounced {
    /// Those that were stopped and started.
    pub services: Vec<String>,
    /// Milliseconds from the first stop to the last start.
    pub down_ms: u64,
    /// Milliseconds until the probe said that they are well; nothing where there is no probe.
    pub well_after_ms: Option<u64>,
}

impl Services {
    /// Those of this host.
    pub fn of(host: &Host) -> Self {
        Self {
            settings: host.config.services.clone(),
            launcher: Arc::clone(&host.launcher),
            clock: Arc::clone(&host.clock),
        }
    }

    /// Whether there is anything to do around a swap.
    pub fn is_empty(&self) -> bool {
        self.settings.is_empty()
    }

    /// Stops them, has `swap` put another database in place, and starts them again, whatever came of it.
    ///
    /// # Errors
    /// What `swap` says. A service that does not stop leaves the database as it is, and one that does not
    /// start, or is not well after it, is in the second answer: what was swapped in is to go.
    pub fn around<T>(
        &self,
        swap: impl FnOnce() -> Result<T>,
    ) -> Result<(T, Result<Option<Bounced>>)> {
        if self.is_empty() {
            return swap().map(|swapped| (swapped, Ok(None)));
        }
        let began = self.clock.monotonic();
        let swapped = self.stop().and_then(|()| swap());
        let started = self.start();
        let down = self.clock.monotonic().saturating_sub(began);
        let swapped = match (swapped, &started) {
            (Ok(swapped), _) => swapped,
            (Err(error), Ok(())) => return Err(error),
            (Err(error), Err(also)) => {
                let hint = format!("services that were stopped do not start: {also}");
                return Err(error.hint(hint));
            }
        };
        let bounced = started.and_then(|()| {
            Ok(Some(Bounced {
                services: self.settings.bounce.clone(),
                down_ms: u64::try_from(down.as_millis()).unwrap_or(u64::MAX),
                well_after_ms: self.probe()?,
            }))
        });
        Ok((swapped, bounced))
    }

    fn stop(&self) -> Result<()> {
        let stop = |name: &String| self.set(name, false);
        let stopped = self.run_hook(&self.settings.before);
        let stopped = stopped.and_then(|()| self.settings.bounce.iter().try_for_each(stop));
        stopped.map_err(|error| {
            error.hint("nothing was swapped; the services that had stopped were started again")
        })
    }

    /// Starts all of them, those that run already too.
    ///
    /// # Errors
    /// `Child`: the first that does not start; the others are started all the same.
    pub fn start(&self) -> Result<()> {
        let mut outcome = Ok(());
        for name in self.settings.bounce.iter().rev() {
            outcome = outcome.and(self.set(name, true));
        }
        outcome.and_then(|()| self.run_hook(&self.settings.after))
    }

    /// Stops others than those of a swap, in this order: all of them, also where one fails.
    ///
    /// # Errors
    /// `Child`: the first that does not stop.
    pub fn halt(&self, names: &[String]) -> Result<()> {
        let each = names.iter().map(|name| self.set(name, false));
        each.fold(Ok(()), Result::and)
    }

    /// Starts others than those of a swap, in the opposite order.
    ///
    /// # Errors
    /// `Child`: the first that does not start.
    pub fn raise(&self, names: &[String]) -> Result<()> {
        let each = names.iter().rev().map(|name| self.set(name, true));
        each.fold(Ok(()), Result::and)
    }

    /// Waits until they are well; tells after how many milliseconds, where there is a probe.
    ///
    /// # Errors
    /// `Child`: what the probe said last.
    pub fn probe(&self) -> Result<Option<u64>> {
        let began = self.clock.monotonic();
        let limit = Duration::from_secs(self.settings.probe_timeout);
        let Some(probe) = self.probe_program() else {
            return Ok(None);
        };
        loop {
            let asked = self.launcher.run(&probe);
            let waited = self.clock.monotonic().saturating_sub(began);
            match asked.and_then(|finished| finished.success(&probe)) {
                Ok(_) => return Ok(Some(u64::try_from(waited.as_millis()).unwrap_or(u64::MAX))),
                Err(error) if waited >= limit => {
                    let message = format!("not well within {} s: {error}", limit.as_secs());
                    return Err(Error::new(ErrorKind::Child, message).with_source(error));
                }
                Err(error) => tracing::debug!(%error, "not well yet"),
            }
            self.clock.wait(ASK_EVERY);
        }
    }

    /// The operator's, else systemd's own word where that starts them.
    fn probe_program(&self) -> Option<Invocation> {
        let own = program(&self.settings.probe);
        let is_systemd = self.settings.manager == ServiceManager::Systemd;
        own.or_else(|| {
            let asked = is_systemd && !self.settings.bounce.is_empty();
            asked.then(|| {
                let ask = Invocation::new("systemctl").arg("is-active");
                self.settings.bounce.iter().fold(ask, Invocation::arg)
            })
        })
    }

    fn run_hook(&self, hook: &[String]) -> Result<()> {
        match program(hook) {
            Some(hook) => self.run(&hook).map(drop),
            None => Ok(()),
        }
    }

    fn set(&self, name: &str, runs: bool) -> Result<()> {
        let verb = if runs { "start" } else { "stop" };
        tracing::info!(service = name, "{verb}");
        match self.settings.manager {
            ServiceManager::Systemd => {
                let systemctl = Invocation::new("systemctl").arg(verb).arg(name);
                self.run(&systemctl).map(drop)
            }
            ServiceManager::Command => {
                let words = match runs {
                    true => &self.settings.start,
                    false => &self.settings.stop,
                };
                let words: Vec<String> =
                    words.iter().map(|word| word.replace("{}", name)).collect();
                self.run_hook(&words)
            }
            ServiceManager::Puppet => {
                let is_packaged = Path::new(PUPPET).exists();
                let wanted = if runs { "running" } else { "stopped" };
                let puppet = Invocation::new(if is_packaged { PUPPET } else { "puppet" })
                    .arg("resource")
                    .arg("service")
                    .arg(name)
                    .arg(format!("ensure={wanted}"));
                let finished = self.run(&puppet)?;
                // It ends with 0 whatever came of it, and prints what is.
                if says_ensure(&String::from_utf8_lossy(&finished.stdout), wanted) {
                    return Ok(());
                }
                let message = format!("service {name} is not {wanted}: {}", puppet.line());
                Err(Error::new(ErrorKind::Child, message)
                    .hint("run that by hand to see what Puppet says"))
            }
        }
    }

    fn run(&self, invocation: &Invocation) -> Result<Finished> {
        self.launcher.run(invocation)?.success(invocation)
    }
}

/// A program with its arguments; nothing where there is none.
fn program(words: &[String]) -> Option<Invocation> {
    let (program, arguments) = words.split_first()?;
    Some(
        arguments
            .iter()
            .fold(Invocation::new(program), Invocation::arg),
    )
}

/// Whether `puppet resource` prints that a service is as it should be: `  ensure => 'running',`.
fn says_ensure(printed: &str, wanted: &str) -> bool {
    printed.lines().any(|line| {
        let Some((key, value)) = line.split_once("=>") else {
            return false;
        };
        let value = value.trim().trim_end_matches(',').trim_matches('\'');
        key.trim() == "ensure" && value == wanted
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use pefo_core::clock::{FixedClock, Timestamp};

    use super::*;

    /// Notes every command line; what `answer` says of one is what it does.
    struct Recorder {
        lines: Mutex<Vec<String>>,
        answer: fn(&str) -> Finished,
    }

    impl Launcher for Recorder {
        fn run(&self, invocation: &Invocation) -> Result<Finished> {
            let line = invocation.line();
            let answer = (self.answer)(&line);
            self.lines.lock().unwrap().push(line);
            Ok(answer)
        }
    }

    fn done(_: &str) -> Finished {
        Finished::new(Some(0), "", "")
    }

    fn services(
        settings: config::Services,
        answer: fn(&str) -> Finished,
    ) -> (Services, Arc<Recorder>) {
        let recorder = Arc::new(Recorder {
            lines: Mutex::default(),
            answer,
        });
        let now = Timestamp::from_unix_seconds(1_795_350_600).unwrap();
        let services = Services {
            settings,
            launcher: Arc::clone(&recorder) as Arc<dyn Launcher>,
            clock: Arc::new(FixedClock::new(now)),
        };
        (services, recorder)
    }

    fn two(manager: ServiceManager) -> config::Services {
        config::Services {
            manager,
            bounce: vec!["console".to_owned(), "orchestrator".to_owned()],
            ..config::Services::default()
        }
    }

    fn lines(recorder: &Recorder) -> Vec<String> {
        recorder.lines.lock().unwrap().clone()
    }

    #[test]
    fn systemd_is_told_in_order_and_asked_at_the_end() {
        let (services, recorder) = services(two(ServiceManager::Systemd), done);
        let (swapped, bounced) = services.around(|| Ok("swapped")).unwrap();
        assert_eq!(swapped, "swapped");
        assert_eq!(bounced.unwrap().unwrap().well_after_ms, Some(0));
        assert_eq!(
            lines(&recorder),
            [
                "systemctl stop console",
                "systemctl stop orchestrator",
                "systemctl start orchestrator",
                "systemctl start console",
                "systemctl is-active console orchestrator",
            ]
        );
    }

    #[test]
    fn puppets_word_counts_and_not_its_exit_code() {
        fn stuck(line: &str) -> Finished {
            let is = if line.contains("stopped") {
                "running"
            } else {
                "stopped"
            };
            Finished::new(
                Some(0),
                format!("service {{ 'console':\n  ensure => '{is}',\n}}\n"),
                "",
            )
        }
        let (services, _) = services(two(ServiceManager::Puppet), stuck);
        let error = services.around(|| Ok(())).unwrap_err();
        assert!(
            error.message().contains("service console is not stopped"),
            "{error}"
        );
        let ends = services.start().unwrap_err();
        assert!(ends.message().contains("is not running"), "{ends}");
    }

    #[test]
    fn what_puppet_prints_is_read_whatever_its_spaces() {
        for printed in [
            "service { 'x':\n  ensure   => 'running',\n  enable   => 'true',\n}",
            "ensure=>'running'",
        ] {
            assert!(says_ensure(printed, "running"));
            assert!(!says_ensure(printed, "stopped"));
        }
        assert!(!says_ensure("provider => 'running'", "running"));
        assert!(!says_ensure("Error: Could not start", "running"));
    }

    #[test]
    fn services_are_started_again_where_the_swap_fails_and_its_error_is_told() {
        let (services, recorder) = services(two(ServiceManager::Systemd), done);
        let failed = || Err::<(), _>(Error::refused("db-in-use", "somebody stays"));
        let error = services.around(failed).unwrap_err();
        assert_eq!(error.rule(), Some("db-in-use"));
        assert!(lines(&recorder).ends_with(&["systemctl start console".to_owned()]));
    }

    #[test]
    fn a_probe_is_asked_until_its_time_is_over_and_its_last_word_is_told() {
        fn unwell(line: &str) -> Finished {
            let code = i32::from(line == "probe --now");
            Finished::new(Some(code), "", "no schema 42")
        }
        let settings = config::Services {
            probe: vec!["probe".to_owned(), "--now".to_owned()],
            probe_timeout: 3,
            ..two(ServiceManager::Systemd)
        };
        let (services, recorder) = services(settings, unwell);
        let ((), bounced) = services.around(|| Ok(())).unwrap();
        let error = bounced.unwrap_err();
        assert!(error.message().contains("not well within 3 s"), "{error}");
        assert!(error.message().contains("no schema 42"), "{error}");
        let asked = lines(&recorder);
        assert_eq!(
            asked.iter().filter(|line| *line == "probe --now").count(),
            4
        );
    }

    #[test]
    fn without_services_nothing_is_run() {
        let (services, recorder) = services(config::Services::default(), done);
        let ((), bounced) = services.around(|| Ok(())).unwrap();
        assert!(bounced.unwrap().is_none() && lines(&recorder).is_empty());
    }
}
