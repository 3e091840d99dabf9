//! The peer of the tree and delta rows: rsync over OpenSSH.
//!
//! It runs as people run it: a new process for each sync, its own quick check by size and time, and
//! the delta algorithm, since the other end is remote.

use std::path::Path;
use std::process::Command;

use pefo_core::Result;
use pefo_testkit::skip::Skip;

use crate::process;
use crate::row::Halt;
use crate::ssh::Ssh;

/// Whether what rsync has written outlasts a loss of power when it says it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// As rsync is: the kernel writes later.
    None,
    /// Every file is flushed, by rsync itself where it can (3.2.4 and newer), else by `sync -f` at the
    /// end, within the time.
    Fsync,
}

/// An rsync with its flags and its way to the server.
pub(crate) struct Rsync {
    flags: Vec<&'static str>,
    name: String,
    shell: String,
    user: String,
    sync_after: bool,
}

impl Rsync {
    /// rsync with `flags`, through `port`; `scratch` is a directory for output.
    ///
    /// # Errors
    /// A skip, where rsync is not installed.
    pub(crate) fn new(
        ssh: &Ssh,
        port: u16,
        flags: &[&'static str],
        durability: Durability,
        scratch: &Path,
    ) -> Result<Self, Halt> {
        let version = version(scratch)?;
        let knows_fsync = process::run(Command::new("rsync").arg("--help"), scratch)?
            .stdout
            .contains("--fsync");
        let mut flags = flags.to_vec();
        let fsync = durability == Durability::Fsync;
        if fsync && knows_fsync {
            flags.push("--fsync");
        }
        Ok(Self {
            name: format!("rsync {version} {}", flags.join(" ")),
            flags,
            shell: ssh.peer_command(port)?,
            user: ssh.user().to_owned(),
            sync_after: fsync && !knows_fsync,
        })
    }

    /// The peer's name, with version and flags.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// What must be known about this rsync.
    pub(crate) fn note(&self) -> Option<&'static str> {
        self.sync_after
            .then_some("this rsync has no --fsync: 'sync -f' instead, within the time")
    }

    /// Brings the directory `destination` up to `source`, once; gives what that took in milliseconds.
    ///
    /// # Errors
    /// An rsync that fails.
    pub(crate) fn run(&self, source: &Path, destination: &Path, scratch: &Path) -> Result<f64> {
        let mut command = Command::new("rsync");
        command
            .args(&self.flags)
            .arg(format!("--rsh={}", self.shell))
            .arg(format!("{}/", source.display()))
            .arg(format!(
                "{}@127.0.0.1:{}/",
                self.user,
                destination.display()
            ));
        let synced = process::run(&mut command, scratch)?;
        let mut took = synced.milliseconds();
        if self.sync_after {
            let mut command = Command::new("sync");
            took += process::run(command.arg("-f").arg(destination), scratch)?.milliseconds();
        }
        Ok(took)
    }
}

/// The installed version, from the first line of `rsync --version`.
fn version(scratch: &Path) -> Result<String, Skip> {
    let missing = |_| Skip::new("needs-rsync", "rsync is missing (package rsync)");
    let ended = process::run(Command::new("rsync").arg("--version"), scratch).map_err(missing)?;
    Ok(bare(&ended.stdout).to_owned())
}

/// The bare version in `rsync  version 3.5.0  protocol version 32`.
fn bare(text: &str) -> &str {
    let mut words = text.split_whitespace();
    words
        .find(|&word| word == "version")
        .and_then(|_| words.next())
        .unwrap_or("of an unknown version")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_the_first_line() {
        assert_eq!(bare("rsync  version 3.5.0  protocol version 32"), "3.5.0");
        assert_eq!(bare("openrsync"), "of an unknown version");
    }
}
