//! Real puppetservers: a CA set up or seeded, a JVM started, certificates signed, revoked and tried.
//!
//! Each [`Instance`] lives in a directory of its own (configuration, code, ssl, log) and runs as the
//! account `puppet` on a free port of 127.0.0.1; the system's own Puppet is read (its packaged
//! `auth.conf` and service lists) and never touched. A JVM takes 850 MB and 20 to 55 s to start, so
//! use one or two for all scenarios of a test file.
//!
//! - **Names need not resolve.** The server itself resolves none; our requests reach it through
//!   curl's `--connect-to`, which still checks the certificate against the name. `/etc/hosts` stays
//!   as it is. Only the network commands of `puppetserver ca` (`list`, `sign`, `revoke`) would need it; the
//!   HTTP API does their work here.
//! - **A CA from elsewhere will do.** [`Instance::setup_ca`] makes one; or put a whole directory at
//!   [`Instance::cadir`], owned by `puppet`, and start: the server then issues its own certificate
//!   from it, with [`Options::dns_alt_names`] and with `pp_cli_auth`, so that it may sign and revoke
//!   over HTTP like one that was set up.
//! - On drop the JVM is dead; it does not outlive the test process either.

mod conf;
mod http;
mod nodes;
mod real_agent;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;

pub use self::http::{Answer, Identity, Request};
pub use self::nodes::Agent;
pub use self::real_agent::agent_available;

use crate::account::Account;
use crate::child::Child;
use crate::skip::{self, Skip};
use crate::wait;

/// The account Debian's package runs the server as.
pub const USER: &str = "puppet";

const JAR: &str = "/usr/share/puppetserver/puppetserver.jar";
const LAUNCHER: &str = "/usr/bin/puppetserver";
/// How long a JVM may take to end by itself after SIGTERM.
/// A server that is told to reload has done it within this; usual are ten seconds.
const HUP_LIMIT: Duration = Duration::from_secs(150);
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// How an instance is set up.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// Further DNS names of the server's own certificate, beside its certname.
    pub dns_alt_names: Vec<String>,
    /// The common name of a CA made by [`Instance::setup_ca`].
    pub ca_name: String,
    /// How long a start or a reload may take.
    pub start_limit: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            dns_alt_names: Vec::new(),
            ca_name: "Puppet CA: pefo test".to_owned(),
            start_limit: Duration::from_secs(240),
        }
    }
}

impl Options {
    /// Adds a DNS name to the server's own certificate.
    #[must_use]
    pub fn alt_name(mut self, name: impl Into<String>) -> Self {
        self.dns_alt_names.push(name.into());
        self
    }

    /// Sets the common name of the CA.
    #[must_use]
    pub fn ca_name(mut self, name: impl Into<String>) -> Self {
        self.ca_name = name.into();
        self
    }

    /// Sets how long a start or a reload may take.
    #[must_use]
    pub fn start_limit(mut self, limit: Duration) -> Self {
        self.start_limit = limit;
        self
    }
}

/// Whether real puppetservers can run here.
///
/// # Errors
/// A skip: not root, or a package is missing.
pub fn available() -> Result<(), Skip> {
    skip::require_root("running a puppetserver as its own account")?;
    skip::require_path(Path::new(JAR), "needs-puppetserver", "puppetserver")?;
    skip::require_path(
        Path::new(conf::PACKAGED),
        "needs-puppetserver",
        "puppetserver",
    )?;
    skip::require_path(
        Path::new("/usr/bin/java"),
        "needs-java",
        "openjdk-17-jre-headless",
    )?;
    skip::require_path(Path::new("/usr/bin/openssl"), "needs-openssl", "openssl")?;
    skip::require_path(Path::new("/usr/bin/curl"), "needs-curl", "curl")?;
    skip::require(
        Account::find(USER).is_some(),
        "needs-puppetserver",
        format!("there is no account {USER}"),
    )
}

/// One puppetserver, stopped or running.
#[derive(Debug)]
pub struct Instance {
    directory: PathBuf,
    certname: String,
    options: Options,
    user: Account,
    port: u16,
    jvm: Option<Child>,
}

impl Instance {
    /// Writes the configuration of a server `certname` into `parent/certname`, without a CA.
    ///
    /// `parent` must be one that the account `puppet` can enter, such as [`crate::place::directory`] makes.
    ///
    /// # Errors
    /// A skip, as [`available`].
    ///
    /// # Panics
    /// Where the directory exists, or `puppet` can not enter it.
    pub fn prepare(parent: &Path, certname: &str, options: &Options) -> Result<Self, Skip> {
        available()?;
        let Some(user) = Account::find(USER) else {
            panic!("the account {USER} vanished")
        };
        let directory = parent.join(certname);
        assert!(
            !directory.exists(),
            "{} is there already",
            directory.display()
        );
        let port = crate::sshd::free_port();
        let instance = Self {
            directory,
            certname: certname.to_owned(),
            options: options.clone(),
            user,
            port,
            jvm: None,
        };
        conf::write(&instance);
        http::run(
            Command::new("chown")
                .args(["-R", &format!("{USER}:")])
                .arg(&instance.directory),
        );
        let entered = instance
            .as_puppet("test")
            .arg("-w")
            .arg(&instance.directory)
            .status();
        assert!(
            entered.is_ok_and(|status| status.success()),
            "{USER} can not enter {}; use pefo_testkit::place::directory",
            instance.directory.display()
        );
        Ok(instance)
    }

    /// Makes a new CA and the server's own certificate by `puppetserver ca setup`, in about 3 s.
    ///
    /// # Panics
    /// Where it fails; the message shows what it says.
    pub fn setup_ca(&self) {
        let mut names = vec![self.certname.clone()];
        names.extend(self.options.dns_alt_names.iter().cloned());
        http::run(
            self.as_puppet(LAUNCHER)
                .args(["ca", "setup", "--config"])
                .arg(self.puppet_conf())
                .args([
                    "--certname",
                    &self.certname,
                    "--subject-alt-names",
                    &names.join(","),
                ])
                .args(["--ca-name", &self.options.ca_name]),
        );
    }

    /// Starts the JVM and waits until it serves; says how long that took.
    ///
    /// # Panics
    /// Where it does not come up in [`Options::start_limit`]; the message shows the end of its log.
    pub fn start(&mut self) -> Duration {
        match self.try_start() {
            Ok(took) => took,
            Err(why) => panic!("puppetserver {} did not start: {why}", self.certname),
        }
    }

    /// As [`Instance::start`], for tests that expect it to refuse, as it does on a partial CA.
    ///
    /// # Errors
    /// The end of its log, where the JVM ended by itself or the limit passed; it is dead then.
    ///
    /// # Panics
    /// Where it runs already.
    pub fn try_start(&mut self) -> Result<Duration, String> {
        assert!(
            !self.is_running(),
            "puppetserver {} runs already",
            self.certname
        );
        if std::net::TcpListener::bind(("127.0.0.1", self.port)).is_err() {
            // Somebody took the port since it was found free.
            self.port = crate::sshd::free_port();
            conf::write_port(self);
        }
        conf::reset_restart_file(self);
        let mut command = conf::java(self);
        self.jvm = Some(Child::spawn(&mut command));
        let took = self.wait_until_up();
        if took.is_err() {
            self.kill();
        }
        took
    }

    /// Has the server read its configuration and CA again (SIGHUP), and says how long that took. One that takes no
    /// notice, as was seen once in a hundred runs while it was replacing its TLS context, is started anew.
    ///
    /// # Panics
    /// Where it is not running, or does not come back, as on a CA that has lost a file.
    pub fn reload(&mut self) -> Duration {
        let begin = Instant::now();
        conf::reset_restart_file(self);
        match &mut self.jvm {
            Some(jvm) => jvm.signal(Signal::HUP),
            None => panic!("puppetserver {} is not running", self.certname),
        }
        let heeds = wait::within(HUP_LIMIT, || {
            let is_up = conf::restart_count(self).is_some_and(|count| count >= 1);
            (is_up || !self.is_running()).then_some(())
        });
        let up = match heeds {
            Some(()) => self.wait_until_up(),
            None => {
                self.kill();
                self.try_start()
            }
        };
        match up {
            Ok(_) => begin.elapsed(),
            Err(why) => panic!("puppetserver {} did not come back: {why}", self.certname),
        }
    }

    /// From the next start or reload on, agents are given the CRL of the infrastructure's nodes
    /// (`infra_crl.pem`) in place of the whole one.
    ///
    /// # Panics
    /// Where the configuration cannot be written.
    pub fn enable_infra_crl(&self) {
        conf::write_ca(self, true);
    }

    /// Ends the JVM in good order (SIGTERM), or kills it after 30 s.
    pub fn stop(&mut self) {
        if let Some(jvm) = &mut self.jvm {
            jvm.signal(Signal::TERM);
            let _ = wait::within(STOP_LIMIT, || jvm.ended());
        }
        self.jvm = None;
    }

    /// Kills the JVM, as a power failure would.
    pub fn kill(&mut self) {
        self.jvm = None;
    }

    /// Whether the JVM runs.
    pub fn is_running(&mut self) -> bool {
        self.jvm.as_mut().is_some_and(|jvm| jvm.ended().is_none())
    }

    /// The server's certname.
    pub fn certname(&self) -> &str {
        &self.certname
    }

    /// The port on 127.0.0.1; final once the server has started.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The instance's own directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Puppet's confdir.
    pub fn confdir(&self) -> PathBuf {
        self.directory.join("conf")
    }

    /// puppet.conf.
    pub fn puppet_conf(&self) -> PathBuf {
        self.confdir().join("puppet.conf")
    }

    /// The CA directory. It does not exist before a CA is set up or seeded; its parent does.
    pub fn cadir(&self) -> PathBuf {
        self.confdir().join("puppetserver/ca")
    }

    /// Puppet's ssldir: the server's own key and certificate, and the CRL it checks clients with.
    pub fn ssldir(&self) -> PathBuf {
        self.directory.join("ssl")
    }

    /// The account the server runs as, which owns everything.
    pub fn user(&self) -> &Account {
        &self.user
    }

    /// The server's own certificate and key. It carries `pp_cli_auth`, so it may sign and revoke.
    pub fn identity(&self) -> Identity {
        let file = format!("{}.pem", self.certname);
        Identity {
            certificate: self.ssldir().join("certs").join(&file),
            key: self.ssldir().join("private_keys").join(&file),
        }
    }

    /// What the server has logged so far, and what it wrote to its console.
    pub fn log(&self) -> String {
        ["log/console.log", "log/puppetserver.log"]
            .into_iter()
            .filter_map(|name| std::fs::read(self.directory.join(name)).ok())
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .collect()
    }

    fn as_puppet(&self, program: &str) -> Command {
        self.user.command_at(&self.directory.join("var"), program)
    }

    fn wait_until_up(&mut self) -> Result<Duration, String> {
        let begin = Instant::now();
        let limit = self.options.start_limit;
        let up = wait::within(limit, || {
            if conf::restart_count(self).is_some_and(|count| count >= 1) {
                return Some(true);
            }
            (!self.is_running()).then_some(false)
        });
        let why = match up {
            Some(true) => return Ok(begin.elapsed()),
            Some(false) => "the JVM ended".to_owned(),
            None => format!("it was not up after {limit:?}"),
        };
        let log = self.log();
        let mut tail: Vec<&str> = log.lines().rev().take(30).collect();
        tail.reverse();
        Err(format!("{why}; its log ends:\n{}", tail.join("\n")))
    }
}
