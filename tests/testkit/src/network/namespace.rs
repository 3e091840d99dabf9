//! Named network namespaces by iproute2, which bear the id of the process they belong to.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::processes;
use crate::skip::{self, Skip};
use crate::wait;

const IP: &str = "/usr/sbin/ip";
pub(super) const NSENTER: &str = "/usr/bin/nsenter";
/// Where iproute2 binds them.
const DIRECTORY: &str = "/run/netns";
/// What the names of ours begin with; the process id follows, then `-`.
pub(super) const PREFIX: &str = "pefo-";
/// A process dies at once, unless a disk holds it.
const DEATH_LIMIT: Duration = Duration::from_secs(20);

/// A named namespace, gone on drop with every process in it.
#[derive(Debug)]
pub(super) struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes it.
    ///
    /// # Errors
    /// A skip, where the kernel or this container does not allow it.
    pub(super) fn add(name: &str) -> Result<Self, Skip> {
        if path(name).exists() {
            // Of a process that had our id before us.
            remove(name);
        }
        have(&["netns", "add", name])?;
        Ok(Self {
            name: name.to_owned(),
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn ip(&self, arguments: &[&str]) {
        ip(&self.name, arguments);
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let died = end_all(&self.name);
        let deleted = run(&["netns", "delete", &self.name]);
        if !std::thread::panicking() {
            assert!(died, "a process in {} does not die", self.name);
            if let Err(error) = deleted {
                panic!("{error}");
            }
        }
    }
}

/// Where a namespace of this name is bound.
pub(super) fn path(name: &str) -> PathBuf {
    Path::new(DIRECTORY).join(name)
}

/// Kills every process in a namespace.
pub(super) fn kill_all(name: &str) {
    assert!(end_all(name), "a process in {name} does not die");
}

fn end_all(name: &str) -> bool {
    let path = path(name);
    // More than once: one that was being forked while we looked has not been found.
    let gone = wait::within(DEATH_LIMIT, || {
        let found = processes::of_network(&path);
        let died = processes::end_all(&found, DEATH_LIMIT);
        (died && found.is_empty()).then_some(())
    });
    gone.is_some()
}

/// Skips, where a program is missing that networks are made with.
pub(super) fn require_programs() -> Result<(), Skip> {
    skip::require_path(Path::new(IP), "needs-iproute2", "iproute2")?;
    skip::require_path(Path::new(NSENTER), "needs-nsenter", "util-linux")
}

/// Removes the namespaces of processes that are no more, killed before they could do it.
pub(super) fn remove_leftovers() {
    for entry in std::fs::read_dir(DIRECTORY).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if owner(&name).is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists()) {
            remove(&name);
        }
    }
}

fn remove(name: &str) {
    end_all(name);
    // Another test process may be at it too.
    drop(run(&["netns", "delete", name]));
}

/// The process that a namespace of ours belongs to.
fn owner(name: &str) -> Option<u32> {
    let (pid, rest) = name.strip_prefix(PREFIX)?.split_once('-')?;
    let (count, _) = rest.split_once('-')?;
    count.parse::<u32>().ok()?;
    pid.parse().ok()
}

/// Runs `ip` for what the kernel may not have, or this container may not do.
pub(super) fn have(arguments: &[&str]) -> Result<(), Skip> {
    run(arguments).map_err(|error| {
        let why = format!("no network namespaces are to be had here: {error}");
        Skip::new("needs-network-namespaces", why)
    })
}

/// Runs `ip` within a namespace.
///
/// # Panics
/// Where it fails.
pub(super) fn ip(namespace: &str, arguments: &[&str]) {
    if let Err(error) = run(&[&["-n", namespace], arguments].concat()) {
        panic!("{error}");
    }
}

fn run(arguments: &[&str]) -> Result<(), String> {
    let line = || format!("ip {}", arguments.join(" "));
    match Command::new(IP).args(arguments).output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(format!("{}: {}", line(), said.trim()))
        }
        Err(error) => Err(format!("{}: {error}", line())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_ours_have_an_owner() {
        assert_eq!(owner("pefo-4711-0-a"), Some(4711));
        assert_eq!(owner("pefo-4711-12-lan"), Some(4711));
        for name in [
            "pefo-4711",
            "pefo-4711-a",
            "pefo-x-0-a",
            "other-4711-0-a",
            "pefo--1-0-a",
        ] {
            assert_eq!(owner(name), None, "{name}");
        }
    }
}
