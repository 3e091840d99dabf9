//! Finding and ending processes that are no children of ours: sessions that left their server's process
//! group, and whatever runs in a network namespace.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, Signal};

/// Every process below `ancestor`, parents before their children.
pub(crate) fn descendants(ancestor: u32) -> Vec<u32> {
    let mut pairs = Vec::new();
    for (pid, directory) in all() {
        // pid (name) state ppid …, proc(5); the name may hold spaces and parentheses.
        let stat = std::fs::read_to_string(directory.join("stat")).unwrap_or_default();
        let parent = stat
            .rsplit(')')
            .next()
            .and_then(|rest| rest.split_whitespace().nth(1)?.parse::<u32>().ok());
        if let Some(parent) = parent {
            pairs.push((parent, pid));
        }
    }
    let mut found = vec![ancestor];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        found.extend(
            pairs
                .iter()
                .filter(|(of, _)| *of == parent)
                .map(|(_, pid)| *pid),
        );
        next += 1;
    }
    found.split_off(1)
}

/// Every process whose network is the namespace bound at `namespace`; none where it is gone. A zombie
/// has no namespace any more, and a thread of ours that looked in is no process.
pub(crate) fn of_network(namespace: &Path) -> Vec<u32> {
    let Some(wanted) = identity(namespace) else {
        return Vec::new();
    };
    all()
        .filter(|(_, directory)| identity(&directory.join("ns/net")) == Some(wanted))
        .map(|(pid, _)| pid)
        .collect()
}

/// Ends them all as power loss would: held first, so that none sees another die and acts on it.
pub(crate) fn kill_all(pids: &[u32]) {
    for signal in [Signal::STOP, Signal::KILL] {
        for pid in pids
            .iter()
            .filter_map(|pid| Pid::from_raw((*pid).try_into().ok()?))
        {
            // It may have ended by itself since it was found.
            let _ = rustix::process::kill_process(pid, signal);
        }
    }
}

/// Ends them all as [`kill_all`] does, and waits until they are dead with all their threads, so that
/// their files are closed and their locks free. Says whether that was so within `limit`.
pub(crate) fn end_all(pids: &[u32], limit: Duration) -> bool {
    let handles: Vec<_> = pids
        .iter()
        .filter_map(|pid| Pid::from_raw((*pid).try_into().ok()?))
        .filter_map(|pid| rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok())
        .collect();
    kill_all(pids);
    let end = Instant::now() + limit;
    handles.iter().all(|handle| {
        // A process's handle is readable once it has ended, reaped or not.
        let mut fds = [PollFd::new(handle, PollFlags::IN)];
        let left = end.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).ok();
        matches!(rustix::event::poll(&mut fds, left.as_ref()), Ok(ready) if ready > 0)
    })
}

/// The processes there are, with their directories below `/proc`.
fn all() -> impl Iterator<Item = (u32, PathBuf)> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())))
}

fn identity(namespace: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt as _;
    let meta = std::fs::metadata(namespace).ok()?;
    Some((meta.dev(), meta.ino()))
}
