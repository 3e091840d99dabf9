//! A program run to its end, timed, and never for ever.
//!
//! The time is that of the whole process, from before it is started until it has ended, as a cron job
//! would see it. Its output goes to files, so that a program that says much does not wait for us.

#![expect(
    clippy::disallowed_methods,
    reason = "the output of measured programs is no data of pefo's"
)]

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use pefo_core::{Error, ErrorKind, Result};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};

/// How long a program may take before it is killed; every row's work takes seconds.
pub(crate) const LIMIT: Duration = Duration::from_secs(600);

/// How much of what a program said is quoted where it failed.
const QUOTED_BYTES: usize = 2_000;

/// A program that has ended with code 0.
pub(crate) struct Ended {
    /// From before its start to its end.
    pub(crate) took: Duration,
    /// What it wrote to standard output.
    pub(crate) stdout: String,
}

impl Ended {
    /// What it took, in milliseconds.
    pub(crate) fn milliseconds(&self) -> f64 {
        milliseconds(self.took)
    }
}

/// A duration in milliseconds.
pub(crate) fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// Runs `command` to its end; `scratch` is a directory for its output.
///
/// # Errors
/// A program that can not be started, fails, or takes longer than [`LIMIT`].
pub(crate) fn run(command: &mut Command, scratch: &Path) -> Result<Ended> {
    let program = command.get_program().to_string_lossy().into_owned();
    let (out, err) = (scratch.join("stdout"), scratch.join("stderr"));
    command
        .stdin(Stdio::null())
        .stdout(create(&out)?)
        .stderr(create(&err)?);
    let begin = Instant::now();
    let mut child = spawn(command)?;
    let (finish, finished) = mpsc::channel();
    let pid = Pid::from_child(&child);
    let killed = std::thread::scope(|scope| {
        let guard = scope.spawn(move || kill_after(LIMIT, pid, &finished));
        let ended = wait_for(pid);
        let took = begin.elapsed();
        drop(finish);
        // A guard that panics has killed nothing.
        let killed = guard.join().unwrap_or(false);
        ended.map(|()| (took, killed))
    });
    let status = child.wait();
    let (took, killed) =
        killed.map_err(|error| Error::io("wait for", Path::new(&program), error))?;
    let status = status.map_err(|error| Error::io("wait for", Path::new(&program), error))?;
    if killed {
        let message = format!("{program} was killed after {} s", LIMIT.as_secs());
        return Err(Error::new(ErrorKind::Child, message));
    }
    if !status.success() {
        let said = quoted(&err);
        return Err(Error::new(
            ErrorKind::Child,
            format!("{program} ended with {status}: {said}"),
        ));
    }
    let stdout = std::fs::read_to_string(&out).map_err(|error| Error::io("read", &out, error))?;
    Ok(Ended { took, stdout })
}

/// Starts `command`, or says why not.
///
/// # Errors
/// A program that can not be started.
pub(crate) fn spawn(command: &mut Command) -> Result<Child> {
    command
        .spawn()
        .map_err(|error| Error::io("start", Path::new(command.get_program()), error))
}

/// The end of what a program said into the file `path`.
pub(crate) fn quoted(path: &Path) -> String {
    let bytes = std::fs::read(path).unwrap_or_default();
    let start = bytes.len().saturating_sub(QUOTED_BYTES);
    String::from_utf8_lossy(&bytes[start..]).trim().to_owned()
}

/// An empty file for a program's output.
///
/// # Errors
/// A file that can not be made.
pub(crate) fn create(path: &Path) -> Result<File> {
    File::create(path).map_err(|error| Error::io("create", path, error))
}

/// Waits for the end of our child without taking its status: until then its id is its own.
fn wait_for(pid: Pid) -> std::io::Result<()> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    rustix::io::retry_on_intr(|| rustix::process::waitid(WaitId::Pid(pid), options))?;
    Ok(())
}

/// Kills `pid` unless `finished` is closed in time; whether it did.
fn kill_after(limit: Duration, pid: Pid, finished: &Receiver<()>) -> bool {
    match finished.recv_timeout(limit) {
        Err(RecvTimeoutError::Timeout) => rustix::process::kill_process(pid, Signal::KILL).is_ok(),
        Ok(()) | Err(RecvTimeoutError::Disconnected) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_run_to_its_end_and_its_words_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let ended = run(Command::new("sh").args(["-c", "echo word"]), dir.path()).unwrap();
        assert_eq!(ended.stdout, "word\n");
        assert!(ended.milliseconds() > 0.0);
    }

    #[test]
    fn a_program_that_fails_is_told_with_its_last_words() {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        let error = run(command.args(["-c", "echo why >&2; exit 3"]), dir.path())
            .err()
            .unwrap();
        let text = error.to_string();
        assert!(
            text.contains("exit status: 3") && text.ends_with("why"),
            "{text}"
        );
    }

    #[test]
    fn a_program_that_is_not_there_is_told_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let error = run(&mut Command::new("/no/such/program"), dir.path())
            .err()
            .unwrap();
        assert!(error.to_string().contains("/no/such/program"), "{error}");
    }
}
