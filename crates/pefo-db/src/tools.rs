//! PostgreSQL's own programs, run through the embedder's launcher.
//!
//! It guarantees: no password and no secret on a command line (libpq reads `PGPASSFILE`), and no
//! program ever waits for one (`--no-password`). Which user they run as is the launcher's business.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use pefo_core::launch::{Finished, Invocation, Launcher};
use pefo_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

use crate::server::Server;

/// Where `pg_dump` and `pg_restore` are, and what runs them.
#[derive(Clone)]
#[non_exhaustive]
pub struct Tools {
    /// Their directory; `None` leaves it to the launcher's `PATH`.
    pub bin_dir: Option<PathBuf>,
    /// What runs them.
    pub launcher: Arc<dyn Launcher>,
}

impl fmt::Debug for Tools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tools")
            .field("bin_dir", &self.bin_dir)
            .finish_non_exhaustive()
    }
}

/// The version of `pg_dump` or `pg_restore`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolVersion {
    /// What `--version` prints.
    pub text: String,
    /// The major version.
    pub major: u32,
}

impl Tools {
    /// Programs on the launcher's `PATH`.
    pub fn new(launcher: Arc<dyn Launcher>) -> Self {
        Self {
            bin_dir: None,
            launcher,
        }
    }

    /// Programs in `dir`.
    #[must_use]
    pub fn bin_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.bin_dir = Some(dir.into());
        self
    }

    /// The version of `program`.
    ///
    /// # Errors
    /// `NotFound`, with the package to install, where there is no such program; `Child` or `Protocol`
    /// where it does not tell its version.
    pub async fn version(&self, program: &'static str) -> Result<ToolVersion> {
        let invocation = Invocation::new(self.program(program)).arg("--version");
        let finished = self
            .run(invocation.clone())
            .await
            .map_err(explain_missing)?
            .success(&invocation)?;
        let text = String::from_utf8_lossy(&finished.stdout).trim().to_owned();
        match parse_major(&text) {
            Some(major) => Ok(ToolVersion { text, major }),
            None => Err(Error::new(
                ErrorKind::Protocol,
                format!("{program} --version printed {text:?}"),
            )),
        }
    }

    /// `program` with the connection of `server` in its environment.
    pub(crate) fn invocation(&self, program: &'static str, server: &Server) -> Invocation {
        let mut invocation = Invocation::new(self.program(program))
            .env("PGHOST", server.host.as_os_string())
            .env("PGPORT", server.port.to_string())
            .env("PGUSER", server.user.as_str())
            .env("PGAPPNAME", "pefo")
            .env(
                "PGCONNECT_TIMEOUT",
                server.connect_timeout.as_secs().max(2).to_string(),
            );
        if let Some(passfile) = &server.passfile {
            invocation = invocation.env("PGPASSFILE", passfile.as_os_str());
        }
        // A working directory that the launcher's user may not enter makes noise and failures.
        invocation.arg("--no-password").in_dir("/")
    }

    fn program(&self, program: &'static str) -> OsString {
        match &self.bin_dir {
            Some(dir) => dir.join(program).into_os_string(),
            None => program.into(),
        }
    }

    /// Runs a program on a thread that may block.
    pub(crate) async fn run(&self, invocation: Invocation) -> Result<Finished> {
        let launcher = Arc::clone(&self.launcher);
        let program = invocation.program.to_string_lossy().into_owned();
        let run = tokio::task::spawn_blocking(move || launcher.run(&invocation)).await;
        let finished = run.map_err(|error| {
            Error::new(
                ErrorKind::Child,
                format!("run {program}: the thread that ran it died"),
            )
            .with_source(error)
        })??;
        // A launcher that changes the user (setpriv, runuser) is found, and says 127 itself.
        if finished.code == Some(127) {
            let said = String::from_utf8_lossy(&finished.stderr).trim().to_owned();
            return Err(missing(Error::new(
                ErrorKind::NotFound,
                format!("start {program}: {said}"),
            )));
        }
        Ok(finished)
    }
}

/// Adds what to install to the error of a program that does not exist.
fn missing(error: Error) -> Error {
    error.hint(
        "install PostgreSQL's client programs of the server's major version \
         (Debian: postgresql-client; Puppet Enterprise: /opt/puppetlabs/server/bin), or set [database] bin_dir",
    )
}

/// Names what to install where `error` says that the program does not exist.
fn explain_missing(error: Error) -> Error {
    if error.kind() == ErrorKind::NotFound && error.hint_text().is_none() {
        missing(error)
    } else {
        error
    }
}

/// The major version in `pg_dump (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)`; before 10 it was two
/// numbers, of which the first is enough to refuse it.
fn parse_major(text: &str) -> Option<u32> {
    let rest = text.split_once("(PostgreSQL) ")?.1;
    let digits = rest
        .find(|char: char| !char.is_ascii_digit())
        .unwrap_or(rest.len());
    rest[..digits].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_major_version_is_read_from_every_form() {
        assert_eq!(
            parse_major("pg_dump (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)"),
            Some(15)
        );
        assert_eq!(parse_major("pg_restore (PostgreSQL) 18beta1"), Some(18));
        assert_eq!(parse_major("pg_dump (PostgreSQL) 9.6.24"), Some(9));
        assert_eq!(parse_major("pg_dump 15"), None);
        assert_eq!(parse_major("pg_dump (PostgreSQL) devel"), None);
    }

    proptest! {
        #[test]
        fn any_output_is_read_without_a_panic(text in ".{0,60}") {
            parse_major(&text);
        }
    }

    #[tokio::test]
    async fn a_missing_program_names_the_package() {
        let tools = Tools::new(Arc::new(pefo_core::launch::DirectLauncher::default()))
            .bin_dir("/nonexistent");
        let error = tools.version("pg_dump").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.hint_text().unwrap().contains("postgresql-client"));
    }
}
