//! PostgreSQL's own programs, run through the embedder's launcher.
//!
//! It guarantees: no password and no secret on a command line (libpq reads `PGPASSFILE`), and no
//! program ever waits for one (`--no-password`); none is left running once stop was said, or whoever
//! waited for it is gone; whatever it says, little of it is kept. Which user they run as is the
//! launcher's business.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pefo_core::cancel::Cancel;
use pefo_core::launch::{Finished, Invocation, Launcher, Watch};
use pefo_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::server::Server;
use crate::stop;
use crate::verbose::LastWords;

/// Lines of a program that may wait to be read; then it waits.
const LINES_AHEAD: usize = 64;

/// Where `pg_dump` and `pg_restore` are, what runs them, and what stops the work they are for.
#[derive(Clone)]
#[non_exhaustive]
pub struct Tools {
    /// Their directory; `None` leaves it to the launcher's `PATH`.
    pub bin_dir: Option<PathBuf>,
    /// What runs them.
    pub launcher: Arc<dyn Launcher>,
    /// Stops the dump or restore that they run for: they are ended, our own queries are cancelled, and
    /// what was begun is taken back. A swap that has begun is carried out.
    pub cancel: Cancel,
}

impl fmt::Debug for Tools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tools")
            .field("bin_dir", &self.bin_dir)
            .field("cancel", &self.cancel)
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
            cancel: Cancel::new(),
        }
    }

    /// Programs in `dir`.
    #[must_use]
    pub fn bin_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.bin_dir = Some(dir.into());
        self
    }

    /// Stops whatever they are used for on `cancel`.
    #[must_use]
    pub fn cancel(mut self, cancel: Cancel) -> Self {
        self.cancel = cancel;
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
            .run(invocation.clone(), |_| ())
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
        if let Some(tls) = &server.tls {
            invocation = tls.environment(invocation);
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

    /// The entries with data that `pg_restore` finds in a dump, one a line.
    pub(crate) async fn list_data(&self, dir: &Path) -> Result<String> {
        let invocation = Invocation::new(self.program("pg_restore"))
            .arg("--list")
            .arg("--data-only")
            .arg(dir)
            .in_dir("/");
        let finished = self.run(invocation.clone(), |_| ()).await?;
        let finished = finished.success(&invocation)?;
        Ok(String::from_utf8_lossy(&finished.stdout).into_owned())
    }

    /// Runs a program on a thread that may block; `hear` gets each line of its standard error as it comes,
    /// of which only the last words stay in what is returned. The program ends with the future.
    pub(crate) async fn run(
        &self,
        invocation: Invocation,
        mut hear: impl FnMut(&str),
    ) -> Result<Finished> {
        let launcher = Arc::clone(&self.launcher);
        let program = invocation.program.to_string_lossy().into_owned();
        let stop = stop::OnDrop::default();
        let (told, mut lines) = mpsc::channel::<String>(LINES_AHEAD);
        let run = tokio::task::spawn_blocking({
            let cancel = stop.0.clone();
            move || {
                // Nobody hears it any more where the future is gone; then the program ends.
                let hear = |line: &str| drop(told.blocking_send(line.to_owned()));
                launcher.run_watched(&invocation, &Watch::new(&cancel, &hear))
            }
        });
        let mut words = LastWords::default();
        loop {
            tokio::select! {
                line = lines.recv() => match line {
                    Some(line) => {
                        words.hear(&line);
                        hear(&line);
                    }
                    None => break,
                },
                () = stop::said(&self.cancel), if !stop.0.is_cancelled() => stop.0.cancel(),
            }
        }
        let run = run.await;
        let mut finished = run.map_err(|error| {
            Error::new(
                ErrorKind::Child,
                format!("run {program}: the thread that ran it died"),
            )
            .with_source(error)
        })??;
        let words = words.into_text();
        // A launcher that changes the user (setpriv, runuser) is found, and says 127 itself.
        if finished.code == Some(127) {
            return Err(missing(Error::new(
                ErrorKind::NotFound,
                format!("start {program}: {}", words.trim()),
            )));
        }
        finished.stderr = words.into_bytes();
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

    /// What a program is told of a server, but for what it always is.
    fn told(server: &Server) -> Vec<String> {
        let tools = Tools::new(Arc::new(pefo_core::launch::DirectLauncher::default()));
        let environment = tools.invocation("pg_dump", server).environment;
        let environment = environment
            .into_iter()
            .map(|(name, value)| format!("{}={}", name.to_string_lossy(), value.to_string_lossy()));
        environment
            .filter(|set| set.contains("SSL") || set.contains("GSS"))
            .collect()
    }

    #[test]
    fn a_program_checks_the_server_as_our_own_sessions_do() {
        let server = Server::on_tcp("db.example.com", "puppet-b.example.com");
        assert_eq!(told(&server), Vec::<String>::new());
        let tls = crate::tls::ServerTls::new("/ca.pem", "/cert.pem", "/key.pem");
        assert_eq!(
            told(&server.tls(tls)),
            [
                "PGSSLMODE=verify-full",
                "PGSSLROOTCERT=/ca.pem",
                "PGSSLCERT=/cert.pem",
                "PGSSLKEY=/key.pem",
                "PGGSSENCMODE=disable",
            ]
        );
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
