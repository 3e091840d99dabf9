//! Programs run as the current user, by one thread that waits for whatever comes first: room for their
//! input, their output, their end, or the word to stop.

use std::io::{self, Read, Write as _};
use std::mem;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, kill_process_group, pidfd_open};

use super::{Finished, Invocation, Launcher, Watch};
use crate::cancel::NOTICE;
use crate::error::{Error, ErrorKind, Result};

/// What a pipe takes without blocking once it says that it has room (POSIX's `PIPE_BUF` on Linux).
const PIPE_BYTES: usize = 4096;
/// Longer lines of standard error are cut.
const LINE_BYTES: usize = 16 << 10;

/// Runs programs as the current user.
///
/// A watched program ([`Launcher::run_watched`]) is the head of a process group of its own. When stop is
/// said it gets SIGTERM; what is left of the group after [`DirectLauncher::GRACE`] gets SIGKILL. A
/// program outlives a caller that is killed by SIGKILL: the kernel tells a child of its parent's death
/// only where the child has asked for that, which a program that is started this way can not be made to
/// without `unsafe`. Where that matters, start it through one that asks for it and then becomes it.
#[derive(Debug, Clone)]
pub struct DirectLauncher {
    /// The `PATH` children get and are looked up on.
    pub path: String,
}

impl Default for DirectLauncher {
    fn default() -> Self {
        Self {
            path: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
        }
    }
}

impl Launcher for DirectLauncher {
    fn run(&self, invocation: &Invocation) -> Result<Finished> {
        Running::start(&mut self.command(invocation), invocation)?.finish(None)
    }

    fn run_watched(&self, invocation: &Invocation, watch: &Watch<'_>) -> Result<Finished> {
        watch.cancel.check()?;
        Running::start(self.command(invocation).process_group(0), invocation)?.finish(Some(watch))
    }
}

impl DirectLauncher {
    /// How long a program that was told to stop has to end by itself.
    pub const GRACE: Duration = Duration::from_secs(5);

    fn command(&self, invocation: &Invocation) -> Command {
        let mut command = Command::new(&invocation.program);
        command
            .args(&invocation.arguments)
            .env_clear()
            .env("PATH", &self.path)
            .env("LC_ALL", "C");
        command.envs(
            invocation
                .environment
                .iter()
                .map(|(name, value)| (name, value)),
        );
        if let Some(directory) = &invocation.directory {
            command.current_dir(directory);
        }
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }
}

/// What a running program is waited for by.
#[derive(Debug, Clone, Copy)]
enum Event {
    TakesInput,
    Output,
    Errors,
    Exit,
}

/// A program that runs; each part of it is `None` once it has ended.
struct Running<'a> {
    invocation: &'a Invocation,
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    exit: Option<OwnedFd>,
    written: usize,
    output: Vec<u8>,
    errors: Vec<u8>,
}

impl<'a> Running<'a> {
    fn start(command: &mut Command, invocation: &'a Invocation) -> Result<Self> {
        let mut child = command.spawn().map_err(|error| {
            let kind = match error.kind() {
                io::ErrorKind::NotFound => ErrorKind::NotFound,
                _ => ErrorKind::Child,
            };
            Error::new(
                kind,
                format!("start {}: {error}", invocation.program.to_string_lossy()),
            )
            .with_source(error)
        })?;
        // Where the kernel has no handle of it, the end of its pipes is waited for, and then itself.
        let exit = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).ok();
        Ok(Self {
            invocation,
            stdin: child.stdin.take().filter(|_| !invocation.input.is_empty()),
            stdout: child.stdout.take(),
            stderr: child.stderr.take(),
            exit,
            child,
            written: 0,
            output: Vec::new(),
            errors: Vec::new(),
        })
    }

    fn finish(mut self, watch: Option<&Watch<'_>>) -> Result<Finished> {
        let is_stopped = self.attend(watch).inspect_err(|_| {
            // Nobody could say any more how it goes on.
            drop(self.child.kill());
            drop(self.child.wait());
        })?;
        let status = self
            .child
            .wait()
            .map_err(|error| self.failed("wait for", error))?;
        if is_stopped {
            let message = format!("{}: it was cancelled", self.invocation.line());
            return Err(Error::new(ErrorKind::Cancelled, message));
        }
        if let Some(watch) = watch
            && !self.errors.is_empty()
        {
            tell(&mem::take(&mut self.errors), watch);
        }
        Ok(Finished {
            code: status.code(),
            stdout: self.output,
            stderr: self.errors,
        })
    }

    /// Serves its pipes until they and it have ended; whether it was told to stop.
    fn attend(&mut self, watch: Option<&Watch<'_>>) -> Result<bool> {
        let mut told_to_stop = None;
        while let Some(events) = self.wait(watch.is_some())? {
            for event in events {
                self.serve(event, watch)?;
            }
            if !watch.is_some_and(|watch| watch.cancel.is_cancelled()) {
                continue;
            }
            // The process is ours and not reaped before all is over, so its id is no other's. That it has
            // ended meanwhile is no failure.
            let pid = Pid::from_child(&self.child);
            match told_to_stop {
                None => {
                    told_to_stop = Some(Instant::now());
                    let _ = kill_process(pid, Signal::TERM);
                }
                Some(since) if since.elapsed() >= DirectLauncher::GRACE => {
                    let _ = kill_process_group(pid, Signal::KILL);
                    break;
                }
                Some(_) => {}
            }
        }
        Ok(told_to_stop.is_some())
    }

    /// What can be done, at the latest after [`NOTICE`] where somebody may say stop; `None` once the
    /// program has ended, and whoever else holds its pipes.
    fn wait(&self, is_watched: bool) -> Result<Option<Vec<Event>>> {
        let mut events = Vec::new();
        let mut handles = Vec::new();
        let waited_for = [
            (
                Event::TakesInput,
                self.stdin.as_ref().map(|pipe| pipe.as_fd()),
            ),
            (Event::Output, self.stdout.as_ref().map(|pipe| pipe.as_fd())),
            (Event::Errors, self.stderr.as_ref().map(|pipe| pipe.as_fd())),
            (Event::Exit, self.exit.as_ref().map(|exit| exit.as_fd())),
        ];
        for (event, handle) in waited_for {
            let Some(handle) = handle else { continue };
            let flags = match event {
                Event::TakesInput => PollFlags::OUT,
                Event::Output | Event::Errors | Event::Exit => PollFlags::IN,
            };
            events.push(event);
            handles.push(PollFd::from_borrowed_fd(handle, flags));
        }
        if handles.is_empty() {
            return Ok(None);
        }
        let limit = Timespec::try_from(NOTICE).ok().filter(|_| is_watched);
        match poll(&mut handles, limit.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(self.failed("wait for", error.into())),
        }
        let ready = events.into_iter().zip(&handles);
        let ready = ready.filter(|(_, handle)| !handle.revents().is_empty());
        Ok(Some(ready.map(|(event, _)| event).collect()))
    }

    fn serve(&mut self, event: Event, watch: Option<&Watch<'_>>) -> Result<()> {
        match event {
            Event::TakesInput => self.write(),
            Event::Output => {
                let bytes = read(&mut self.stdout).map_err(|error| self.failed("hear", error))?;
                self.output.extend(bytes);
            }
            Event::Errors => {
                let bytes = read(&mut self.stderr).map_err(|error| self.failed("hear", error))?;
                match watch {
                    None => self.errors.extend(bytes),
                    Some(watch) => self.hear(&bytes, watch),
                }
            }
            Event::Exit => self.exit = None,
        }
        Ok(())
    }

    fn write(&mut self) {
        let rest = self
            .invocation
            .input
            .get(self.written..)
            .unwrap_or_default();
        let piece = rest.get(..PIPE_BYTES).unwrap_or(rest);
        match self.stdin.as_mut().map(|stdin| stdin.write(piece)) {
            Some(Ok(count)) if count < rest.len() => self.written += count,
            Some(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            // All is written, or the program does not read it: its exit code tells the story.
            _ => self.stdin = None,
        }
    }

    /// Hands on every line that has ended; the beginning of another waits in `errors`.
    fn hear(&mut self, bytes: &[u8], watch: &Watch<'_>) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let line = piece.strip_suffix(b"\n");
            let room = LINE_BYTES.saturating_sub(self.errors.len());
            self.errors.extend(line.unwrap_or(piece).iter().take(room));
            if line.is_some() {
                tell(&mem::take(&mut self.errors), watch);
            }
        }
    }

    fn failed(&self, what: &str, error: io::Error) -> Error {
        let message = format!("{what} {}: {error}", self.invocation.line());
        Error::new(ErrorKind::Child, message).with_source(error)
    }
}

fn tell(line: &[u8], watch: &Watch<'_>) {
    (watch.hear)(&String::from_utf8_lossy(line));
}

/// What there is to read; the pipe is gone once it has ended.
fn read(pipe: &mut Option<impl Read>) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; 64 << 10];
    let count = match pipe.as_mut().map(|pipe| pipe.read(&mut buffer)) {
        Some(Err(error)) if error.kind() == io::ErrorKind::Interrupted => return Ok(Vec::new()),
        Some(outcome) => outcome?,
        None => 0,
    };
    if count == 0 {
        *pipe = None;
    }
    buffer.truncate(count);
    Ok(buffer)
}
