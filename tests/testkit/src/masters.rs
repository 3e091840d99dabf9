//! Two masters on one machine, each with its own sshd, state, spool and configuration, driven through
//! the `pefo` program as operators and cron drive it.
//!
//! A [`Master`] is a directory of its own, entered by the transfer account through a real sshd. The
//! program runs with a scrubbed environment; [`Run`] holds what it said. Give it a CA directory
//! ([`crate::ca`], [`crate::puppetserver`]), a database cluster or a classifier by its sections.

#![expect(
    clippy::disallowed_methods,
    reason = "a test's own scratch files are no data of pefo's"
)]

mod program;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

pub use self::program::built_binary;
use self::program::within_reach;
use crate::account::TransferAccount;
use crate::child::Child;
use crate::classifier::ClassifierDouble;
use crate::network::Host;
use crate::place;
use crate::postgres::Cluster;
use crate::skip::{self, Skip};
use crate::sshd::{self, Sshd};

/// What signs on a master is stopped by a program that does nothing, where a test names nothing else.
const FENCED: &str = "[services]\nmanager = \"command\"\nstop = [\"true\", \"{}\"]\nstart = [\"true\", \"{}\"]\non_fence = [\"puppetserver\"]\n";

/// What one run of the program left.
#[derive(Debug, Clone)]
pub struct Run {
    /// The command line, for messages.
    pub line: String,
    /// The exit code.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Run {
    /// The run, where it exited with `code`.
    ///
    /// # Panics
    /// Where it did not, showing all it said.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(
            self.code, code,
            "{}\n--- stdout\n{}--- stderr\n{}",
            self.line, self.stdout, self.stderr
        );
        self
    }

    /// The one JSON object of a run with `--json`.
    ///
    /// # Panics
    /// Where standard output is anything else.
    #[track_caller]
    pub fn json(&self) -> Value {
        match serde_json::from_str(&self.stdout) {
            Ok(value) => value,
            Err(error) => panic!(
                "{}: standard output is not one JSON object: {error}\n{}\n{}",
                self.line, self.stdout, self.stderr
            ),
        }
    }

    /// Whether it refused by `rule`, as standard error shows it.
    pub fn refused_by(&self, rule: &str) -> bool {
        self.stderr.contains(&format!("[{rule}]"))
    }
}

/// One master.
#[derive(Debug)]
pub struct Master {
    certname: String,
    directory: TempDir,
    binary: PathBuf,
    sshd: Sshd,
    host: Option<Host>,
    connect_timeout: Duration,
    io_timeout: Duration,
    sections: String,
}

impl Master {
    /// A master called `certname`, reached through its own sshd, with the program at `binary`. A copy of
    /// the program is made that the transfer account can run.
    ///
    /// # Errors
    /// A [`Skip`] where this is not root or there is no sshd.
    pub fn prepare(binary: &Path, certname: &str) -> Result<Self, Skip> {
        Self::prepare_at(binary, certname, None)
    }

    /// As [`Master::prepare`], on a host of a network, where its sshd and every run of the program take
    /// place. What goes on there is noticed soon: it waits 3 s for a connection and 5 s for a sign of
    /// life, unless [`Master::set_timeouts`] says otherwise. A classifier for it is started on its host
    /// too, by [`Host::enter`].
    ///
    /// # Errors
    /// As [`Master::prepare`].
    pub fn prepare_on(binary: &Path, certname: &str, host: &Host) -> Result<Self, Skip> {
        let mut master = Self::prepare_at(binary, certname, Some(host))?;
        master.set_timeouts(Duration::from_secs(3), Duration::from_secs(5));
        Ok(master)
    }

    fn prepare_at(binary: &Path, certname: &str, host: Option<&Host>) -> Result<Self, Skip> {
        skip::require_root("a pair of masters needs root: accounts, sshd and root's own state")?;
        let account = TransferAccount::ensure()?;
        let mut options = sshd::Options::default().account(account.name());
        options.host = host.cloned();
        let sshd = Sshd::start(&options)?;
        let directory = place::directory("master");
        let mut master = Self {
            certname: certname.to_owned(),
            directory,
            binary: within_reach(binary),
            sshd,
            host: host.cloned(),
            connect_timeout: Duration::from_secs(10),
            io_timeout: Duration::from_secs(20),
            sections: String::new(),
        };
        master.configure("");
        Ok(master)
    }

    /// Its certname.
    pub fn certname(&self) -> &str {
        &self.certname
    }

    /// Its directory.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Its sshd.
    pub fn sshd(&self) -> &Sshd {
        &self.sshd
    }

    /// Ends its sshd and every session, until [`Master::restart_sshd`].
    pub fn stop_sshd(&mut self) {
        self.sshd.stop();
    }

    /// Restarts its sshd, which ends every session.
    pub fn restart_sshd(&mut self) {
        self.sshd.restart();
    }

    /// The host of a network that it runs on, where it was prepared on one.
    pub fn host(&self) -> Option<&Host> {
        self.host.as_ref()
    }

    /// Lets the machine die: its line is silent first, so that nobody is told, then every process on its
    /// host is killed, sshd and `pefo` alike. What it keeps on disk stays, until [`Master::boot`]; no
    /// power is lost, so what was not synced stays too.
    ///
    /// # Panics
    /// Where it was not prepared on a host of its own.
    pub fn kill_all(&mut self) {
        let host = self.own_host();
        host.unplug();
        host.kill_all();
    }

    /// Boots the machine after [`Master::kill_all`]: its line and its sshd are back, at the same address
    /// and port. What else should run is the caller's to start. It plugs the line in that
    /// [`Network::cut`](crate::network::Network::cut) took out.
    ///
    /// # Panics
    /// As [`Master::kill_all`], and where sshd does not start.
    pub fn boot(&mut self) {
        self.own_host().plug();
        self.restart_sshd();
    }

    fn own_host(&self) -> &Host {
        match &self.host {
            Some(host) => host,
            None => panic!("{} was not prepared on a host of its own", self.certname),
        }
    }

    /// The program, where the transfer account can run it.
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// The cadir that its configuration names until [`Master::use_cadir`] names another.
    pub fn cadir(&self) -> PathBuf {
        self.directory().join("ca")
    }

    /// Root's own state.
    pub fn state(&self) -> PathBuf {
        self.directory().join("state")
    }

    /// What the transfer account may write.
    pub fn spool(&self) -> PathBuf {
        self.directory().join("spool")
    }

    /// The configuration file.
    pub fn config_path(&self) -> PathBuf {
        self.directory().join("pefo.toml")
    }

    /// Sets how long its program waits for a connection, and on a line that shows no sign of life.
    /// Both are whole seconds.
    pub fn set_timeouts(&mut self, connect: Duration, io: Duration) {
        (self.connect_timeout, self.io_timeout) = (connect, io);
        self.configure("");
    }

    /// Adds sections to the configuration; `[ca]` is there already and may be begun with its keys.
    pub fn configure(&mut self, sections: &str) {
        self.sections.push_str(sections);
        let account = crate::account::NAME;
        let text = format!(
            "[site]\ncertname = \"{}\"\nstate_dir = \"{}\"\nspool_dir = \"{}\"\ntransfer_user = \"{account}\"\n\
             authorized_keys = \"{}\"\n\n[transport]\nhost = \"{}\"\nport = {}\nhost_keys = [\"{}.pub\"]\n\
             connect_timeout = {}\nio_timeout = {}\n\n{}",
            self.certname,
            self.state().display(),
            self.spool().display(),
            self.sshd.authorized_keys_path().display(),
            self.sshd.address(),
            self.sshd.port(),
            self.sshd.host_key_path().display(),
            self.connect_timeout.as_secs(),
            self.io_timeout.as_secs(),
            self.sections,
        );
        let text = match self.sections.contains("[services]") {
            true => text,
            false => text + FENCED,
        };
        write(&self.config_path(), text.as_bytes());
    }

    /// Names the cadir in the configuration.
    pub fn use_cadir(&mut self, cadir: &Path, more: &str) {
        self.configure(&format!("[ca]\ncadir = \"{}\"\n{more}\n", cadir.display()));
    }

    /// Names a cluster's database in the configuration, reached as its superuser by peer authentication.
    pub fn use_database(&mut self, cluster: &Cluster, names: &[&str]) {
        self.configure(&format!(
            "[database]\nnames = {names:?}\nhost = \"{}\"\nport = {}\nuser = \"{}\"\nrun_as = \"postgres\"\nbin_dir = \"{}\"\n\n",
            cluster.socket_dir().display(),
            cluster.port(),
            cluster.superuser(),
            cluster.bin_dir().display(),
        ));
    }

    /// Names a classifier in the configuration, with a client certificate of this master's name.
    pub fn use_classifier(&mut self, double: &ClassifierDouble, more: &str) {
        let client = double.client(&self.certname);
        let file = |name: &str, pem: &str| {
            let path = self.directory().join(name);
            write(&path, pem.as_bytes());
            path.display().to_string()
        };
        let (cert, key) = (
            file("nc-cert.pem", &client.certificate_pem),
            file("nc-key.pem", &client.key_pem),
        );
        place::set_mode(Path::new(&key), 0o600);
        let ca = file("nc-ca.pem", double.ca_pem());
        self.configure(&format!(
            "[classifier]\nurl = \"{}\"\ncert = \"{cert}\"\nkey = \"{key}\"\nca_cert = \"{ca}\"\n{more}\n",
            double.url()
        ));
    }

    /// Runs `pefo` with its configuration.
    pub fn pefo<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Run {
        let arguments: Vec<&str> = arguments.into_iter().collect();
        let mut command = self.command();
        command.args(&arguments);
        finish(
            &mut command,
            format!("[{}] pefo {}", self.certname, arguments.join(" ")),
        )
    }

    /// Starts `pefo ca watch`, which runs until it is dropped; what it says goes to `watch.log` in this
    /// master's directory.
    ///
    /// # Panics
    /// Where it cannot be started.
    pub fn watch(&self) -> Child {
        self.goes_on(&["ca", "watch"])
    }

    /// Starts `pefo run`, as [`Master::watch`].
    ///
    /// # Panics
    /// Where it cannot be started.
    pub fn run(&self) -> Child {
        self.goes_on(&["run"])
    }

    fn goes_on(&self, arguments: &[&str]) -> Child {
        let path = self.directory().join("watch.log");
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(&path);
        let log = match log {
            Ok(log) => log,
            Err(error) => panic!("open {}: {error}", path.display()),
        };
        let mut command = self.command();
        command
            .arg("-vv")
            .args(arguments)
            .stdout(std::process::Stdio::null())
            .stderr(log);
        Child::spawn(&mut command)
    }

    /// What [`Master::watch`] and [`Master::run`] have said so far.
    pub fn watch_log(&self) -> String {
        std::fs::read_to_string(self.directory().join("watch.log")).unwrap_or_default()
    }

    /// The program with its configuration and a scrubbed environment, for runs that are to be killed.
    pub fn command(&self) -> Command {
        let mut command = match &self.host {
            Some(host) => host.command(&self.binary),
            None => Command::new(&self.binary),
        };
        command
            .env_clear()
            .env(
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            )
            .env("LC_ALL", "C");
        command.arg("--config").arg(self.config_path());
        command
    }
}

/// Pairs an active and a passive, as an operator does: three commands and two lines carried over.
///
/// # Panics
/// Where one of them fails.
pub fn pair(active: &Master, passive: &Master) {
    let line = active.pefo(["init", "active"]).exits(0).stdout;
    let back = passive
        .pefo(["init", "passive", "--join", line.trim()])
        .exits(0)
        .stdout;
    active
        .pefo(["init", "active", "--accept", back.trim()])
        .exits(0);
}

fn write(path: &Path, bytes: &[u8]) {
    if let Err(error) = std::fs::write(path, bytes) {
        panic!("write {}: {error}", path.display());
    }
}

fn finish(command: &mut Command, line: String) -> Run {
    match command.stdin(std::process::Stdio::null()).output() {
        Ok(output) => Run {
            line,
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        },
        Err(error) => panic!("{line}: {error}"),
    }
}
