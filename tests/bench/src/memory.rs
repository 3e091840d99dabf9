//! The peak memory of pefo's processes, wherever they were started: the one that was called, its stage in
//! the database's account, its receiver behind sshd.
//!
//! Those that end by themselves do not tell what they took, so they are looked at while they run. `VmHWM`
//! only grows: all that can be missed is what a process takes in its last moments.

use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

/// How often they are looked at: a look at a machine's processes takes less than a millisecond.
const EVERY: Duration = Duration::from_millis(50);

/// Does `work` and gives, with its outcome, the largest peak of any process that ran `program` meanwhile,
/// in KiB.
pub(crate) fn peak_of<T>(program: &Path, work: impl FnOnce() -> T) -> (T, u64) {
    let (finish, finished) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        let looking = scope.spawn(move || {
            let mut peak_kib = 0;
            loop {
                peak_kib = peak_kib.max(largest_kib(program));
                if finished.recv_timeout(EVERY) != Err(RecvTimeoutError::Timeout) {
                    return peak_kib;
                }
            }
        });
        let outcome = work();
        drop(finish);
        // A look that panics has seen nothing.
        (outcome, looking.join().unwrap_or_default())
    })
}

/// The largest peak so far of the processes that run `program`.
fn largest_kib(program: &Path) -> u64 {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|id| std::fs::read_link(format!("/proc/{id}/exe")).is_ok_and(|exe| exe == program))
        .filter_map(|id| status_kib(id, "VmHWM:"))
        .max()
        .unwrap_or_default()
}

/// A size from a process's status, in KiB (proc_pid_status(5)); nothing, where it has ended.
pub(crate) fn status_kib(id: u32, key: &str) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = text.lines().find(|line| line.starts_with(key))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_found_by_its_program_and_no_other_is_counted() {
        let me = std::env::current_exe().unwrap();
        let (outcome, peak_kib) = peak_of(&me, || "done");
        assert_eq!(outcome, "done");
        assert!(peak_kib >= status_kib(std::process::id(), "VmRSS:").unwrap() / 2);
        assert_eq!(peak_of(Path::new("/no/such/program"), || ()).1, 0);
    }
}
