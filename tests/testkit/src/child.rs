//! Servers that never outlive the test.
//!
//! A [`Child`] runs in a process group of its own, which is killed on drop. Where the test process
//! itself dies first (a panic that aborts, a kill, a static that is never dropped), a small guard
//! does it: a shell that reads from a pipe whose only writing end is ours, and kills the group when
//! that end closes.

use std::process::{Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal};

/// A running program, dead on drop together with its process group.
#[derive(Debug)]
pub struct Child {
    process: std::process::Child,
    guard: std::process::Child,
}

impl Child {
    /// Starts `command` in a process group of its own, without standard input.
    ///
    /// # Panics
    /// Where it can not be started; callers look for the program first.
    pub fn spawn(command: &mut Command) -> Self {
        use std::os::unix::process::CommandExt as _;
        let mut process = match command.stdin(Stdio::null()).process_group(0).spawn() {
            Ok(process) => process,
            Err(error) => panic!("start {}: {error}", command.get_program().to_string_lossy()),
        };
        let guard = Command::new("/bin/sh")
            .args(["-c", "read -r _; kill -s KILL -- \"-$1\"", "guard"])
            .arg(process.id().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn();
        match guard {
            Ok(guard) => Self { process, guard },
            Err(error) => {
                drop(process.kill());
                panic!(
                    "start the guard of {}: {error}",
                    command.get_program().to_string_lossy()
                );
            }
        }
    }

    /// The process id, which is the id of its process group too.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// How it ended, where it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        match self.process.try_wait() {
            Ok(status) => status,
            Err(error) => panic!("ask for the state of process {}: {error}", self.id()),
        }
    }

    /// Sends a signal to the process (not to its group), unless it has ended.
    pub fn signal(&mut self, signal: Signal) {
        if self.ended().is_none() {
            // It may end between the question and the signal, but as our unreaped child its id is its own.
            let _ = rustix::process::kill_process(self.pid(), signal);
        }
    }

    /// Kills the process group and waits for the process.
    pub fn kill(&mut self) {
        // The guard first: the group's id may be another's once the process is reaped.
        drop(self.guard.kill());
        drop(self.guard.wait());
        if self.ended().is_none() {
            let _ = rustix::process::kill_process_group(self.pid(), Signal::KILL);
            drop(self.process.wait());
        }
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.process)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wait;
    use std::path::PathBuf;
    use std::time::Duration;

    fn alive(pid: u32) -> bool {
        // A zombie is dead; nobody may have reaped it yet.
        let stat =
            std::fs::read_to_string(PathBuf::from(format!("/proc/{pid}/stat"))).unwrap_or_default();
        stat.rsplit(')')
            .next()
            .and_then(|rest| rest.split_whitespace().next())
            .is_some_and(|state| state != "Z")
    }

    fn grandchild(dir: &std::path::Path) -> (Child, u32) {
        let file = dir.join("pid");
        let script = format!(
            "sleep 600 & echo $! > {0}.new; mv {0}.new {0}; wait",
            file.display()
        );
        let child = Child::spawn(Command::new("sh").args(["-c", &script]));
        wait::until("the grandchild's pid", Duration::from_secs(20), || {
            file.exists()
        });
        let pid = std::fs::read_to_string(&file)
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        (child, pid)
    }

    #[test]
    fn a_drop_kills_the_whole_process_group() {
        let dir = tempfile::tempdir().unwrap();
        let (child, grandchild) = grandchild(dir.path());
        let pid = child.id();
        assert!(alive(pid) && alive(grandchild));
        drop(child);
        wait::until("both to die", Duration::from_secs(20), || {
            !alive(pid) && !alive(grandchild)
        });
    }

    #[test]
    fn a_child_does_not_outlive_a_test_process_that_vanishes() {
        let dir = tempfile::tempdir().unwrap();
        let (mut child, grandchild) = grandchild(dir.path());
        // What the kernel does when we die: our end of the guard's pipe closes.
        drop(child.guard.stdin.take());
        wait::until("the group to die", Duration::from_secs(20), || {
            child.ended().is_some() && !alive(grandchild)
        });
    }
}
