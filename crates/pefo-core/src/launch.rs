//! Child processes, handed in: which user they run as, with which environment, is the embedder's
//! decision, and a test can see every command line (none may hold a secret).

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::error::{Error, ErrorKind, Result};

/// One program to run. Its environment is empty but for `PATH`, `LC_ALL=C` and what is set here.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Invocation {
    /// The program, by absolute path or by name on the launcher's `PATH`.
    pub program: OsString,
    /// Its arguments; never a secret.
    pub arguments: Vec<OsString>,
    /// Added environment; secrets only as paths of files with mode 0600.
    pub environment: Vec<(OsString, OsString)>,
    /// Where it runs.
    pub directory: Option<PathBuf>,
    /// What it reads on standard input.
    pub input: Vec<u8>,
}

impl Invocation {
    /// Runs `program` without arguments.
    pub fn new(program: impl Into<OsString>) -> Self {
        Self {
            program: program.into(),
            arguments: Vec::new(),
            environment: Vec::new(),
            directory: None,
            input: Vec::new(),
        }
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Adds one environment variable.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Sets the working directory.
    #[must_use]
    pub fn in_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// Gives it standard input.
    #[must_use]
    pub fn stdin(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = input.into();
        self
    }

    /// The command line as text, for messages.
    pub fn line(&self) -> String {
        let mut line = self.program.to_string_lossy().into_owned();
        for argument in &self.arguments {
            line.push(' ');
            line.push_str(&argument.to_string_lossy());
        }
        line
    }
}

/// What a finished program left.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Finished {
    /// The exit code; `None` where a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
}

impl Finished {
    /// What a program left that a launcher of another kind ran.
    pub fn new(code: Option<i32>, stdout: impl Into<Vec<u8>>, stderr: impl Into<Vec<u8>>) -> Self {
        Self {
            code,
            stdout: stdout.into(),
            stderr: stderr.into(),
        }
    }

    /// Turns a non-zero exit into an error that shows the last lines of standard error.
    ///
    /// # Errors
    /// `Child`, where the program did not exit with 0.
    pub fn success(self, invocation: &Invocation) -> Result<Self> {
        if self.code == Some(0) {
            return Ok(self);
        }
        let text = String::from_utf8_lossy(&self.stderr);
        let mut tail: Vec<&str> = text
            .lines()
            .filter(|line| !line.trim().is_empty())
            .rev()
            .take(5)
            .collect();
        tail.reverse();
        let how = match self.code {
            Some(code) => format!("exit code {code}"),
            None => "ended by a signal".to_owned(),
        };
        Err(Error::new(
            ErrorKind::Child,
            format!("{}: {how}: {}", invocation.line(), tail.join(" | ")),
        ))
    }
}

/// Runs programs on behalf of a library.
pub trait Launcher: Send + Sync {
    /// Runs `invocation` to its end.
    ///
    /// # Errors
    /// `NotFound` where the program does not exist, `Child` where it cannot be started.
    fn run(&self, invocation: &Invocation) -> Result<Finished>;
}

/// Runs programs as the current user.
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
        let mut child = command.spawn().map_err(|error| {
            let kind = match error.kind() {
                std::io::ErrorKind::NotFound => ErrorKind::NotFound,
                _ => ErrorKind::Child,
            };
            Error::new(
                kind,
                format!("start {}: {error}", invocation.program.to_string_lossy()),
            )
            .with_source(error)
        })?;
        // Written from a thread of its own: a child that answers before it has read everything would
        // otherwise fill its pipe while we fill ours.
        let stdin = child.stdin.take();
        let input = invocation.input.clone();
        let writer = std::thread::spawn(move || {
            use std::io::Write as _;
            // A child that does not read its input closes the pipe; its exit code tells the story.
            stdin.map(|mut stdin| stdin.write_all(&input))
        });
        let output = child.wait_with_output().map_err(|error| {
            Error::new(
                ErrorKind::Child,
                format!("wait for {}: {error}", invocation.line()),
            )
            .with_source(error)
        })?;
        drop(writer.join());
        Ok(Finished {
            code: output.status.code(),
            stdout: output.stdout,
            stderr: output.stderr,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_sees_only_the_environment_it_was_given() {
        let invocation = Invocation::new("env").env("PGPASSFILE", "/x");
        let out = DirectLauncher::default()
            .run(&invocation)
            .unwrap()
            .success(&invocation)
            .unwrap();
        let mut names: Vec<String> = String::from_utf8(out.stdout)
            .unwrap()
            .lines()
            .map(|l| l.split('=').next().unwrap().to_owned())
            .collect();
        names.sort();
        assert_eq!(names, ["LC_ALL", "PATH", "PGPASSFILE"]);
    }

    #[test]
    fn a_failed_child_shows_its_last_words() {
        let invocation = Invocation::new("sh")
            .arg("-c")
            .arg("echo one >&2; echo two >&2; exit 7");
        let error = DirectLauncher::default()
            .run(&invocation)
            .unwrap()
            .success(&invocation)
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Child);
        assert!(
            error.to_string().ends_with("exit code 7: one | two"),
            "{error}"
        );
    }

    #[test]
    fn a_large_input_does_not_deadlock() {
        let invocation = Invocation::new("cat").stdin(vec![b'x'; 1 << 20]);
        assert_eq!(
            DirectLauncher::default()
                .run(&invocation)
                .unwrap()
                .stdout
                .len(),
            1 << 20
        );
    }

    #[test]
    fn a_missing_program_is_not_found() {
        let error = DirectLauncher::default()
            .run(&Invocation::new("no-such-program-here"))
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }
}
