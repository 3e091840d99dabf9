//! Child processes, handed in: which user they run as, with which environment, is the embedder's
//! decision, and a test can see every command line (none may hold a secret).

mod direct;

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

pub use direct::DirectLauncher;

use crate::cancel::Cancel;
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

/// How a program that runs long is looked after.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct Watch<'a> {
    /// Ends the program when stop is said.
    pub cancel: &'a Cancel,
    /// Hears each line of standard error as it comes, without its end; a long one is cut. It may block,
    /// and holds the program up with that.
    pub hear: &'a dyn Fn(&str),
}

impl<'a> Watch<'a> {
    /// Ends the program on `cancel`, and hands its standard error to `hear`.
    pub fn new(cancel: &'a Cancel, hear: &'a dyn Fn(&str)) -> Self {
        Self { cancel, hear }
    }
}

impl fmt::Debug for Watch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("cancel", self.cancel)
            .finish_non_exhaustive()
    }
}

/// Runs programs on behalf of a library.
pub trait Launcher: Send + Sync {
    /// Runs `invocation` to its end.
    ///
    /// # Errors
    /// `NotFound` where the program does not exist, `Child` where it cannot be started.
    fn run(&self, invocation: &Invocation) -> Result<Finished>;

    /// Runs `invocation` to its end or until stop is said: then, before this returns, the program and
    /// what it has started are ended. Standard error goes to [`Watch::hear`]; what is left in
    /// [`Finished::stderr`] has no meaning.
    ///
    /// What is provided here is for launchers that cannot do better: the program runs to its end
    /// whatever is said, and is heard only then.
    ///
    /// # Errors
    /// As [`Launcher::run`]; `Cancelled` where stop was said.
    fn run_watched(&self, invocation: &Invocation, watch: &Watch<'_>) -> Result<Finished> {
        watch.cancel.check()?;
        let finished = self.run(invocation)?;
        watch.cancel.check()?;
        String::from_utf8_lossy(&finished.stderr)
            .lines()
            .for_each(watch.hear);
        Ok(finished)
    }
}

#[cfg(test)]
mod tests;
