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

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::account::TransferAccount;
use crate::child::Child;
use crate::classifier::ClassifierDouble;
use crate::place;
use crate::postgres::Cluster;
use crate::skip::{self, Skip};
use crate::sshd::{self, Sshd};

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
    sections: String,
}

impl Master {
    /// A master called `certname`, reached through its own sshd, with the program at `binary`. A copy of
    /// the program is made that the transfer account can run.
    ///
    /// # Errors
    /// A [`Skip`] where this is not root or there is no sshd.
    pub fn prepare(binary: &Path, certname: &str) -> Result<Self, Skip> {
        skip::require_root("a pair of masters needs root: accounts, sshd and root's own state")?;
        let account = TransferAccount::ensure()?;
        let sshd = Sshd::start(&sshd::Options::default().account(account.name()))?;
        let directory = place::directory("master");
        let mut master = Self {
            certname: certname.to_owned(),
            directory,
            binary: within_reach(binary),
            sshd,
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

    /// Adds sections to the configuration; `[ca]` is there already and may be begun with its keys.
    pub fn configure(&mut self, sections: &str) {
        self.sections.push_str(sections);
        let account = crate::account::NAME;
        let text = format!(
            "[site]\ncertname = \"{}\"\nstate_dir = \"{}\"\nspool_dir = \"{}\"\ntransfer_user = \"{account}\"\n\
             authorized_keys = \"{}\"\n\n[transport]\nhost = \"127.0.0.1\"\nport = {}\nhost_keys = [\"{}.pub\"]\n\
             connect_timeout = 10\nio_timeout = 20\n\n{}",
            self.certname,
            self.state().display(),
            self.spool().display(),
            self.sshd.authorized_keys_path().display(),
            self.sshd.port(),
            self.sshd.host_key_path().display(),
            self.sections,
        );
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
        let mut command = Command::new(&self.binary);
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

/// The `pefo` that was built beside the running test or example.
///
/// # Panics
/// Where it was not built.
pub fn built_binary() -> PathBuf {
    let me = std::env::current_exe().unwrap_or_default();
    let found = me
        .ancestors()
        .skip(1)
        .map(|dir| dir.join("pefo"))
        .find(|path| path.is_file());
    match found {
        Some(path) => path,
        None => panic!(
            "pefo was not built beside {}: run 'cargo build -p pefo-cli' first, or 'make test'",
            me.display()
        ),
    }
}

/// A copy of the program below a directory that every account may enter, named by its content, so that
/// test processes share it. Copies that were not used for a day go.
fn within_reach(binary: &Path) -> PathBuf {
    static COPY: OnceLock<PathBuf> = OnceLock::new();
    COPY.get_or_init(|| match copy_of(binary) {
        Ok(copy) => copy,
        Err(error) => panic!("copy {}: {error}", binary.display()),
    })
    .clone()
}

fn copy_of(binary: &Path) -> std::io::Result<PathBuf> {
    let bin = Path::new(place::ROOT).join("bin");
    place::make_traversable(&bin);
    for entry in std::fs::read_dir(&bin)? {
        let path = entry?.path();
        let is_old = path
            .metadata()?
            .modified()?
            .elapsed()
            .is_ok_and(|age| age > Duration::from_secs(24 * 3600));
        if is_old {
            std::fs::remove_dir_all(&path)?;
        }
    }
    let (digest, _) = pefo_core::Digest::of_reader(std::fs::File::open(binary)?)?;
    let directory = bin.join(digest.short());
    let copy = directory.join("pefo");
    if !copy.exists() {
        // Made under another name and renamed: a test process beside this one may look for it now.
        let part = tempfile::Builder::new()
            .permissions(std::fs::Permissions::from_mode(0o755))
            .tempdir_in(&bin)?;
        std::fs::copy(binary, part.path().join("pefo"))?;
        std::fs::set_permissions(part.path(), std::fs::Permissions::from_mode(0o755))?;
        match std::fs::rename(part.path(), &directory) {
            Ok(()) => {
                // Renamed away: nothing is left for the guard to remove.
                let _ = part.keep();
            }
            Err(_) if copy.exists() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(copy)
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
