//! Deploys by the program that the site has: r10k, Code Manager's command, or one of its own.
//!
//! The program runs with an empty environment but for `PATH`, `HOME` and a UTF-8 locale (r10k fails over names
//! that are not ASCII without one), as `code.run_as` where that is set, and is stopped after `code.timeout`. No
//! secret is on its command line: tokens and keys are named by their files.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use pefo_core::cancel::Cancel;
use pefo_core::launch::{DirectLauncher, Finished, Invocation, Launcher, Watch};
use pefo_core::{Error, ErrorKind, Result};

use super::answer::{Said, one_line, parse};
use super::{EnvironmentName, Label, read};
use crate::config::{Code, CodeManager};
use crate::host::Host;
use crate::launcher::{Account, AccountLauncher, account};

/// Where packages install r10k outside of `PATH`.
const R10K: &str = "/opt/puppetlabs/puppet/bin/r10k";
/// And Code Manager's command.
const PUPPET_CODE: &str = "/opt/puppetlabs/bin/puppet-code";
/// So many last lines of what a program says are kept.
const KEPT_LINES: usize = 20;

/// What a manager's run left, by its own word. What is deployed then is for [`read`] to tell.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Ran {
    /// Environments that it did not deploy, and why.
    pub failed: BTreeMap<EnvironmentName, Error>,
    /// Why it ended badly, where that is not about one environment.
    pub stopped: Option<Error>,
    /// Environments that it says it has deployed, and at which commit.
    pub claims: BTreeMap<EnvironmentName, Option<Label>>,
}

/// One run of the program.
#[derive(Debug, Clone)]
pub struct Step {
    /// The environment it is for; all of them where there is none.
    pub environment: Option<EnvironmentName>,
    /// The program.
    pub invocation: Invocation,
}

/// The site's manager of code.
pub struct Manager<'a> {
    host: &'a Host,
    settings: &'a Code,
}

impl<'a> Manager<'a> {
    /// The one that is configured.
    ///
    /// # Errors
    /// `Config` where none is.
    pub fn of(host: &'a Host) -> Result<Self> {
        let settings = read::settings(host)?;
        Ok(Self { host, settings })
    }

    /// Which it is.
    pub fn kind(&self) -> CodeManager {
        self.settings.manager
    }

    /// Whether the program is there, and what it needs; tells where it is.
    ///
    /// # Errors
    /// `NotFound`, `Config`: what is missing, or open to others.
    pub fn ready(&self) -> Result<String> {
        let program = self.program();
        let path = find(&program).ok_or_else(|| {
            let message = format!("{} is not there, or is no program", program.display());
            Error::new(ErrorKind::NotFound, message)
                .hint("install it, or set program in the [code] section")
        })?;
        if let Some(config) = &self.settings.config {
            std::fs::metadata(config).map_err(|error| Error::io("examine", config, error))?;
        }
        if let Some(token) = &self.settings.token_file {
            let meta =
                std::fs::metadata(token).map_err(|error| Error::io("examine", token, error))?;
            if meta.permissions().mode() & 0o077 != 0 {
                let message = format!("{} is open to others than its owner", token.display());
                return Err(Error::new(ErrorKind::Config, message).hint(
                    "chmod go-rwx it; where others may have read it, revoke the token and make a new one",
                ));
            }
        }
        self.account()?;
        Ok(path.display().to_string())
    }

    fn program(&self) -> PathBuf {
        let usual = |path: &str, name: &str| match Path::new(path).exists() {
            true => path.into(),
            false => name.into(),
        };
        match (&self.settings.program, self.settings.manager) {
            (Some(program), _) => program.clone(),
            (None, CodeManager::R10k) => usual(R10K, "r10k"),
            (None, CodeManager::CodeManager) => usual(PUPPET_CODE, "puppet-code"),
            (None, CodeManager::Command) => self
                .settings
                .command
                .first()
                .map(PathBuf::from)
                .unwrap_or_default(),
        }
    }

    /// The runs that deploy these environments; all of them where none is named.
    ///
    /// # Errors
    /// `Config` where the configured program cannot deploy that; `NotFound` where there is nothing to deploy.
    pub fn steps(&self, names: &[EnvironmentName]) -> Result<Vec<Step>> {
        let settings = self.settings;
        let program = Invocation::new(self.program());
        let step = |environment: Option<&EnvironmentName>, invocation| Step {
            environment: environment.cloned(),
            invocation,
        };
        match settings.manager {
            CodeManager::R10k => {
                let mut r10k = program.arg("deploy").arg("environment");
                r10k = names
                    .iter()
                    .fold(r10k, |r10k, name| r10k.arg(name.as_str()));
                if settings.modules {
                    r10k = r10k.arg("--modules");
                }
                if let Some(config) = &settings.config {
                    r10k = r10k.arg("--config").arg(config);
                }
                Ok(vec![step(None, r10k)])
            }
            CodeManager::CodeManager => {
                let mut code = program;
                for (option, path) in [
                    ("--config-file", &settings.config),
                    ("--token-file", &settings.token_file),
                ] {
                    if let Some(path) = path {
                        code = code.arg(option).arg(path);
                    }
                }
                let code = code.arg("deploy");
                if names.is_empty() {
                    return Ok(vec![step(None, code.arg("--all").arg("--wait"))]);
                }
                // It takes one name.
                let each = names.iter().map(|name| {
                    let code = code.clone().arg(name.as_str()).arg("--wait");
                    step(Some(name), code)
                });
                Ok(each.collect())
            }
            CodeManager::Command => self.commands(names, program),
        }
    }

    fn commands(&self, names: &[EnvironmentName], program: Invocation) -> Result<Vec<Step>> {
        let arguments = self.settings.command.get(1..).unwrap_or_default();
        let takes_name = arguments.iter().any(|argument| argument.contains("{}"));
        if !takes_name {
            if !names.is_empty() {
                let message = "code.command deploys all environments: it has no {} for one";
                return Err(Error::new(ErrorKind::Config, message).hint("name none"));
            }
            let invocation = arguments.iter().fold(program, Invocation::arg);
            return Ok(vec![Step {
                environment: None,
                invocation,
            }]);
        }
        let names = match names {
            [] => read::environments(self.host)?.into_keys().collect(),
            names => names.to_vec(),
        };
        if names.is_empty() {
            let message = "there is no environment yet that code.command could deploy";
            return Err(Error::new(ErrorKind::NotFound, message).hint("name it"));
        }
        let each = names.into_iter().map(|name| Step {
            invocation: arguments.iter().fold(program.clone(), |program, argument| {
                program.arg(argument.replace("{}", name.as_str()))
            }),
            environment: Some(name),
        });
        Ok(each.collect())
    }

    /// Runs the steps; one that fails keeps no other from being run.
    ///
    /// # Errors
    /// What keeps all of them from being run.
    pub fn run(&self, steps: &[Step]) -> Result<Ran> {
        let account = self.account()?;
        let mut launcher = Arc::clone(&self.host.launcher);
        if self.settings.run_as.is_some() {
            launcher = Arc::new(AccountLauncher::of(&account, launcher));
        }
        let mut ran = Ran::default();
        for step in steps {
            let invocation = step.invocation.clone();
            let invocation = ["LC_ALL", "LANG"]
                .into_iter()
                .fold(invocation, |it, name| it.env(name, "C.UTF-8"))
                .env("HOME", &account.home)
                .in_dir("/");
            let done = self.finish(&*launcher, &invocation);
            let done = match self.settings.manager {
                CodeManager::CodeManager => {
                    done.and_then(|finished| answered(&mut ran, step, &invocation, finished))
                }
                _ => done
                    .and_then(|finished| finished.success(&invocation))
                    .map(drop),
            };
            match (done, &step.environment) {
                (Ok(()), _) => {}
                (Err(error), Some(name)) => drop(ran.failed.insert(name.clone(), error)),
                (Err(error), None) => ran.stopped = Some(error),
            }
        }
        Ok(ran)
    }

    /// Who deploys.
    fn account(&self) -> Result<Account> {
        let name = self.settings.run_as.as_deref().unwrap_or("root");
        account(&*self.host.launcher, name)?.ok_or_else(|| {
            Error::new(ErrorKind::Config, format!("there is no account {name}"))
                .hint("set run_as in the [code] section")
        })
    }

    /// Runs a program to its end, or to the end of the time it has.
    fn finish(&self, launcher: &dyn Launcher, invocation: &Invocation) -> Result<Finished> {
        let (cancel, seconds) = (Cancel::new(), self.settings.timeout);
        let heard = RefCell::new(VecDeque::new());
        let hear = |line: &str| {
            let mut heard = heard.borrow_mut();
            heard.push_back(line.to_owned());
            while heard.len() > KEPT_LINES {
                heard.pop_front();
            }
            tracing::debug!(line, "the manager of code says");
        };
        let (ended, end) = channel::<()>();
        let limit = cancel.clone();
        let finished = std::thread::scope(|scope| {
            scope.spawn(move || {
                let waited = end.recv_timeout(Duration::from_secs(seconds));
                if waited == Err(RecvTimeoutError::Timeout) {
                    limit.cancel();
                }
            });
            let finished = launcher.run_watched(invocation, &Watch::new(&cancel, &hear));
            drop(ended);
            finished
        });
        match finished {
            Ok(finished) => {
                let heard = Vec::from(heard.into_inner()).join("\n");
                Ok(Finished::new(finished.code, finished.stdout, heard))
            }
            Err(error) if error.kind() == ErrorKind::Cancelled => {
                let message = format!("{}: stopped after {seconds} s", invocation.line());
                Err(Error::new(ErrorKind::Child, message)
                    .hint("see what it waits for; timeout in the [code] section says how long it may take"))
            }
            Err(error) => Err(error),
        }
    }
}

/// What Code Manager's command says it did.
fn answered(ran: &mut Ran, step: &Step, invocation: &Invocation, finished: Finished) -> Result<()> {
    let stdout = String::from_utf8_lossy(&finished.stdout).into_owned();
    let all = match parse(&stdout) {
        Ok(all) => all,
        // Where it says why by its exit code and standard error, that is what people need.
        Err(error) => {
            return Err(match finished.success(invocation) {
                Ok(_) => error,
                Err(failed) if stdout.trim().is_empty() => failed,
                Err(failed) => failed.context(one_line(&stdout)),
            });
        }
    };
    let is_about = |name: &EnvironmentName| step.environment.as_ref().is_none_or(|it| it == name);
    let mut is_failure_told = false;
    for (name, said) in all.into_iter().filter(|(name, _)| is_about(name)) {
        match said {
            Said::Complete(revision) => drop(ran.claims.insert(name, revision)),
            Said::Failed(why) => {
                is_failure_told = true;
                drop(ran.failed.insert(name, Error::new(ErrorKind::Child, why)));
            }
        }
    }
    if let Some(name) = &step.environment
        && !ran.claims.contains_key(name)
        && !ran.failed.contains_key(name)
    {
        let message = "Code Manager's command says nothing about it";
        return Err(Error::new(ErrorKind::Protocol, message));
    }
    if is_failure_told {
        return Ok(());
    }
    finished.success(invocation).map(drop)
}

/// Where a program is, as it will be found.
fn find(program: &Path) -> Option<PathBuf> {
    let is_program = |path: &PathBuf| {
        std::fs::metadata(path)
            .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    };
    if program.is_absolute() {
        return Some(program.to_owned()).filter(is_program);
    }
    let path = DirectLauncher::default().path;
    path.split(':')
        .map(|dir| Path::new(dir).join(program))
        .find(is_program)
}
