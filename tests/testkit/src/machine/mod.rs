//! Fresh machines: each boots systemd as its first process, on a root of its own.
//!
//! A [`Machine`] stands on a [`Host`] of a network, with mount, pid, uts, ipc and cgroup namespaces of its
//! own. Its root is this machine's as it is, seen through an overlay: what is installed, written and
//! removed there is kept in memory and gone on drop. So a package is installed for real, accounts are made, services run
//! under all that their units say, as systemd does it.
//!
//! What it guarantees: nothing that happens there changes a file, a process or a setting of this machine;
//! `/proc/sys` and `/sys` are read-only. As on a fresh installation no service is enabled, there is no ssh host key, and no
//! state of pefo's. On drop every process on it is killed.

#![expect(
    clippy::disallowed_methods,
    reason = "a test's own scratch files are no data of pefo's"
)]

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::child::Child;
use crate::masters::Run;
use crate::network::Host;
use crate::place;
use crate::skip::{self, Skip};
use crate::wait;

const BOOT: &str = include_str!("boot.sh");
const SYSTEMD: &str = "/lib/systemd/systemd";
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// How long a machine may take to boot.
const BOOTED: Duration = Duration::from_secs(90);
/// A process dies at once, unless a disk holds it.
const DEATH: Duration = Duration::from_secs(20);
/// No command on it takes longer than that, in seconds.
const LONGEST: &str = "300";

/// A machine that has booted; gone on drop.
#[derive(Debug)]
pub struct Machine {
    name: String,
    first: u32,
    boot: Child,
    _place: TempDir,
}

impl Machine {
    /// Boots one on `host`, called `name`, which knows `hosts`, as lines of /etc/hosts, by name.
    ///
    /// # Errors
    /// A skip, where this is not root, or there is no systemd, or the kernel gives no overlay or cgroups.
    ///
    /// # Panics
    /// Where it boots and does not come up.
    pub fn boot(host: &Host, name: &str, hosts: &str) -> Result<Self, Skip> {
        skip::require_root("a machine of its own")?;
        skip::require_path(Path::new(SYSTEMD), "needs-systemd", "systemd")?;
        let place = place::directory("machine");
        let (root, pid) = (place.path().join("root"), place.path().join("pid"));
        if let Err(error) = std::fs::create_dir(&root) {
            panic!("make {}: {error}", root.display());
        }
        let log = place.path().join("boot.log");
        let written = match std::fs::File::create(&log) {
            Ok(file) => file,
            Err(error) => panic!("make {}: {error}", log.display()),
        };
        let mut command = host.command("unshare");
        command
            .args(["--mount", "--uts", "--pid", "--ipc", "--cgroup", "--fork"])
            .args(["--kill-child", "--", "/bin/sh", "-c", BOOT, "boot"])
            .arg(&root)
            .arg(&pid)
            .args([name, hosts])
            .stdout(Stdio::null())
            .stderr(written);
        let mut boot = Child::spawn(&mut command);
        let first = wait::within(BOOTED, || {
            if boot.ended().is_some() {
                return Some(None);
            }
            let first = std::fs::read_to_string(&pid).ok()?;
            first.trim().parse().ok().map(Some)
        });
        let Some(first) = first.flatten() else {
            let why = std::fs::read_to_string(&log).unwrap_or_default();
            return Err(Skip::new(
                "needs-machine",
                format!("no machine can be booted here: {}", why.trim()),
            ));
        };
        let machine = Self {
            name: name.to_owned(),
            first,
            boot,
            _place: place,
        };
        let state = || machine.run("systemctl is-system-running").stdout;
        wait::until("the machine's systemd", BOOTED, || {
            ["running", "degraded"].contains(&state().trim())
        });
        Ok(machine)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A path on it, as this machine reaches it.
    ///
    /// # Panics
    /// Where the path is not absolute.
    pub fn path(&self, inside: impl AsRef<Path>) -> PathBuf {
        match inside.as_ref().strip_prefix("/") {
            Ok(path) => Path::new("/proc")
                .join(self.first.to_string())
                .join("root")
                .join(path),
            Err(_) => panic!("{} is not absolute", inside.as_ref().display()),
        }
    }

    /// A command that runs `program` on it, as root, with a clean environment.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["--target", &self.first.to_string()])
            .args(["--mount", "--uts", "--ipc", "--net", "--pid"])
            .args(["--root", "--wd", "--", "/usr/bin/env", "-i"])
            .arg(format!("PATH={PATH}"))
            .args(["HOME=/root", "LANG=C.UTF-8"])
            .arg(program)
            .stdin(Stdio::null());
        command
    }

    /// Runs a line of shell on it, as its root types it.
    ///
    /// # Panics
    /// Where it cannot be started.
    pub fn run(&self, line: &str) -> Run {
        let output = self
            .command("timeout")
            .args([LONGEST, "/bin/sh", "-c", line])
            .output();
        let output = match output {
            Ok(output) => output,
            Err(error) => panic!("[{}] {line}: {error}", self.name),
        };
        Run {
            line: format!("[{}] {line}", self.name),
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.boot.kill();
        // The first process becomes a zombie once no other is left; who reaps it is not ours to say.
        let stat = format!("/proc/{}/stat", self.first);
        let ended = wait::within(DEATH, || {
            let stat = std::fs::read_to_string(&stat).unwrap_or_default();
            let state = stat.rsplit_once(") ").map(|(_, state)| state);
            state
                .is_none_or(|state| state.starts_with('Z'))
                .then_some(())
        });
        if !std::thread::panicking() {
            assert!(ended.is_some(), "{} does not end", self.name);
        }
    }
}
