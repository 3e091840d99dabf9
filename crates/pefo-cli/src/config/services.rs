//! `[services]`: what uses a database, and is stopped while another takes its place; what signs, and is stopped
//! once this host reigns no more.

use pefo_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

/// `[services]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Services {
    /// What starts and stops them.
    pub manager: ServiceManager,
    /// Stopped in this order before a swap, started in the opposite one after it.
    pub bounce: Vec<String>,
    /// With `manager = "command"`: the program that stops a service, and its arguments; `{}` is the service.
    pub stop: Vec<String>,
    /// With `manager = "command"`: the program that starts one.
    pub start: Vec<String>,
    /// A program with its arguments, run before the first is stopped.
    pub before: Vec<String>,
    /// A program with its arguments, run after the last was started.
    pub after: Vec<String>,
    /// A program with its arguments that ends with 0 once the services are well.
    pub probe: Vec<String>,
    /// Seconds until which the probe must have ended with 0.
    pub probe_timeout: u64,
    /// Stopped in this order once this host's reign has ended: what signs. Started again once it is a spare
    /// that is in step.
    pub on_fence: Vec<String>,
    /// Started once this host is the active.
    pub on_promote: Vec<String>,
}

/// `services.manager`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServiceManager {
    /// `systemctl`.
    #[default]
    Systemd,
    /// `puppet resource service`.
    Puppet,
    /// The programs of `services.stop` and `services.start`.
    Command,
}

impl Default for Services {
    fn default() -> Self {
        Self {
            manager: ServiceManager::Systemd,
            bounce: Vec::new(),
            stop: Vec::new(),
            start: Vec::new(),
            before: Vec::new(),
            after: Vec::new(),
            probe: Vec::new(),
            probe_timeout: 120,
            on_fence: Vec::new(),
            on_promote: Vec::new(),
        }
    }
}

impl Services {
    /// Whether there is anything to do around a swap.
    pub fn is_empty(&self) -> bool {
        let programs = [&self.bounce, &self.before, &self.after, &self.probe];
        programs.into_iter().all(Vec::is_empty)
    }

    /// Every service that is named, and in which list.
    pub fn names(&self) -> impl Iterator<Item = (&'static str, &String)> {
        let lists = [
            ("bounce", &self.bounce),
            ("on_fence", &self.on_fence),
            ("on_promote", &self.on_promote),
        ];
        lists
            .into_iter()
            .flat_map(|(list, names)| names.iter().map(move |name| (list, name)))
    }

    pub(super) fn validate(&self) -> Result<()> {
        let bad = |message: String| Err(Error::new(ErrorKind::Config, message));
        let commands = [&self.stop, &self.start];
        if self.manager == ServiceManager::Command {
            let has_services = self.names().next().is_some();
            if has_services && commands.into_iter().any(Vec::is_empty) {
                return bad(
                    "services.manager = \"command\" needs services.stop and services.start"
                        .to_owned(),
                );
            }
        } else if !commands.into_iter().all(Vec::is_empty) {
            return bad(
                "services.stop and services.start are for services.manager = \"command\""
                    .to_owned(),
            );
        }
        // A name that begins with a dash would be an option of the manager's program.
        let is_none = |name: &&(&str, &String)| name.1.is_empty() || name.1.starts_with('-');
        if let Some((list, name)) = self.names().find(|name| is_none(&name)) {
            return bad(format!("services.{list}: {name:?} is no service"));
        }
        Ok(())
    }
}
