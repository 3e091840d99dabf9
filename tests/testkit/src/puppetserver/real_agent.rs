//! Runs of Puppet's own agent.

#![expect(
    clippy::disallowed_methods,
    reason = "an agent's own files are no data of pefo's"
)]

use std::path::Path;
use std::process::{Command, Stdio};

use super::{Agent, Instance};
use crate::masters::Run;
use crate::place;
use crate::skip::{self, Skip};

const PUPPET: &str = "/usr/bin/puppet";

/// Whether Puppet's agent is installed.
///
/// # Errors
/// The skip `needs-puppet-agent`.
pub fn agent_available() -> Result<(), Skip> {
    skip::require_path(Path::new(PUPPET), "needs-puppet-agent", "puppet-agent")
}

impl Instance {
    /// Runs `puppet agent --test --noop` as a node with a signed certificate. The node keeps what it
    /// has fetched, the CRL above all, for its next run.
    ///
    /// The agent resolves names: the server's certificate must bear `localhost`
    /// ([`super::Options::alt_name`]).
    ///
    /// # Panics
    /// Where it cannot be run.
    pub fn run_agent(&self, agent: &Agent) -> Run {
        self.run_agent_through(agent, self.port())
    }

    /// As [`Instance::run_agent`], against whatever is reached through a port of 127.0.0.1: a name that several
    /// servers share.
    ///
    /// # Panics
    /// Where it cannot be run.
    pub fn run_agent_through(&self, agent: &Agent, port: u16) -> Run {
        let home = self
            .directory()
            .join("agents")
            .join(format!("{}.d", agent.certname()));
        let file = format!("{}.pem", agent.certname());
        let identity = agent.identity();
        for (name, from) in [
            ("certs", &identity.certificate),
            ("private_keys", &identity.key),
        ] {
            let directory = home.join("ssl").join(name);
            if let Err(error) = std::fs::create_dir_all(&directory) {
                panic!("make {}: {error}", directory.display());
            }
            place::write(&directory.join(&file), place::read(from));
        }
        let mut command = Command::new(PUPPET);
        command
            .env_clear()
            .env(
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            )
            .env("LC_ALL", "C.UTF-8")
            .env("HOME", &home)
            .args(["agent", "--test", "--noop", "--color=false", "--server"])
            .args(["localhost", "--certname", agent.certname()]);
        for option in ["--serverport", "--ca_port"] {
            command.arg(option).arg(port.to_string());
        }
        for (option, name) in [
            ("--confdir", ""),
            ("--ssldir", "ssl"),
            ("--vardir", "var"),
            ("--rundir", "run"),
            ("--logdir", "log"),
        ] {
            command.arg(option).arg(home.join(name));
        }
        match command.stdin(Stdio::null()).output() {
            Ok(output) => Run {
                line: format!("[{}] puppet agent --test --noop", agent.certname()),
                code: output.status.code().unwrap_or(-1),
                stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
                stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            },
            Err(error) => panic!("run {PUPPET}: {error}"),
        }
    }
}
