//! A PostgreSQL server, and a session on it.
//!
//! It guarantees: every session has the settings that decide how values print, and how long a
//! statement may take, pinned to fixed values, whatever `postgresql.conf`, the role or the database
//! says; so both masters print alike. A session that breaks says why it broke.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pefo_core::{Error, ErrorKind, Result};
use tokio::task::JoinHandle;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, NoTls, Row};

use crate::name::DatabaseName;
use crate::passfile;

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Host {
    /// The directory of its unix socket.
    Socket(PathBuf),
    /// A host name or address.
    Tcp(String),
}

impl Host {
    pub(crate) fn as_os_string(&self) -> OsString {
        match self {
            Self::Socket(dir) => dir.clone().into_os_string(),
            Self::Tcp(host) => host.into(),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(dir) => write!(f, "{}", dir.display()),
            Self::Tcp(host) => f.write_str(host),
        }
    }
}

/// A server and who connects to it. Passwords come from a password file only.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Server {
    /// Where it listens.
    pub host: Host,
    /// Its port, also part of the socket's name.
    pub port: u16,
    /// The role to connect as.
    pub user: String,
    /// A file in libpq's `.pgpass` format, mode 0600.
    pub passfile: Option<PathBuf>,
    /// The database to connect to for what belongs to no database, and while a live one is renamed.
    pub maintenance_database: DatabaseName,
    /// How long a connection may take to come about.
    pub connect_timeout: Duration,
}

impl Server {
    /// A server on a unix socket in `dir`, port 5432.
    pub fn on_socket(dir: impl Into<PathBuf>, user: impl Into<String>) -> Self {
        Self::new(Host::Socket(dir.into()), user)
    }

    /// A server on TCP, port 5432.
    pub fn on_tcp(host: impl Into<String>, user: impl Into<String>) -> Self {
        Self::new(Host::Tcp(host.into()), user)
    }

    /// A server, port 5432, no password file, ten seconds to connect.
    pub fn new(host: Host, user: impl Into<String>) -> Self {
        Self {
            host,
            port: 5432,
            user: user.into(),
            passfile: None,
            maintenance_database: DatabaseName::postgres(),
            connect_timeout: Duration::from_secs(10),
        }
    }

    /// Sets the port.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// Sets the password file.
    #[must_use]
    pub fn passfile(mut self, path: impl Into<PathBuf>) -> Self {
        self.passfile = Some(path.into());
        self
    }

    /// Sets the maintenance database.
    #[must_use]
    pub fn maintenance_database(mut self, name: DatabaseName) -> Self {
        self.maintenance_database = name;
        self
    }

    /// Sets how long a connection may take to come about.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Connects to `database`.
    pub(crate) async fn connect(&self, database: &DatabaseName) -> Result<Session> {
        match self.try_connect(database).await {
            Err(error)
                if error.kind() == ErrorKind::NotFound
                    && *database != self.maintenance_database =>
            {
                Err(self.name_those_that_exist(error).await)
            }
            outcome => outcome,
        }
    }

    /// Connects to the maintenance database.
    pub(crate) async fn maintain(&self) -> Result<Session> {
        self.try_connect(&self.maintenance_database).await
    }

    async fn try_connect(&self, database: &DatabaseName) -> Result<Session> {
        let mut config = tokio_postgres::Config::new();
        match &self.host {
            Host::Socket(dir) => config.host_path(dir),
            Host::Tcp(host) => config.host(host),
        };
        config
            .port(self.port)
            .user(&self.user)
            .dbname(database.as_str())
            .application_name("pefo");
        config.connect_timeout(self.connect_timeout);
        if let Some(path) = &self.passfile {
            let host = self.host.to_string();
            if let Some(password) =
                passfile::password(path, &host, self.port, database.as_str(), &self.user)?
            {
                config.password(password);
            }
        }
        let connected = tokio::time::timeout(self.connect_timeout, config.connect(NoTls)).await;
        let (client, connection) = match connected {
            Ok(outcome) => outcome.map_err(|error| self.connect_error(database, error))?,
            Err(_) => {
                return Err(
                    self.unreachable(format!("no answer within {:?}", self.connect_timeout))
                );
            }
        };
        let broken = Arc::new(Mutex::new(None));
        let report = Arc::clone(&broken);
        let task = tokio::spawn(async move {
            if let Err(error) = connection.await {
                *report.lock().unwrap_or_else(PoisonError::into_inner) = Some(describe(&error));
            }
        });
        let session = Session {
            client,
            task,
            broken,
        };
        session.batch("prepare the session", PINNED).await?;
        Ok(session)
    }

    fn unreachable(&self, why: impl fmt::Display) -> Error {
        let message = format!(
            "connect to PostgreSQL at {} port {}: {why}",
            self.host, self.port
        );
        Error::new(ErrorKind::Unreachable, message)
            .hint("check that the server runs there: [database] host is a socket directory or a host name")
    }

    fn connect_error(&self, database: &DatabaseName, error: tokio_postgres::Error) -> Error {
        let said = describe(&error);
        let message = format!(
            "connect to database {:?} as {:?}: {said}",
            database.as_str(),
            self.user
        );
        let code = error.code().map_or("", SqlState::code);
        let mapped = match code {
            "3D000" => Error::new(ErrorKind::NotFound, format!("database {:?} does not exist", database.as_str())),
            _ if code.starts_with("28") || (code.is_empty() && said.contains("password")) => {
                Error::new(ErrorKind::Denied, message).hint(
                    "peer authentication needs pefo's database stages to run as the role's system user ([database] run_as); \
                     otherwise put the password into a file named by [database] passfile",
                )
            }
            "42501" => Error::new(ErrorKind::Denied, message),
            "" => self.unreachable(said),
            // Starting up, shutting down, too many connections: it may answer later.
            _ if code.starts_with("57P") || code.starts_with("53") => Error::new(ErrorKind::Unreachable, message),
            _ => Error::new(ErrorKind::Protocol, message),
        };
        mapped.with_source(error)
    }

    async fn name_those_that_exist(&self, error: Error) -> Error {
        match crate::list::list(self).await {
            Ok(found) => {
                let names: Vec<&str> = found
                    .iter()
                    .map(|database| database.name.as_str())
                    .collect();
                error.hint(format!("the server has: {}", names.join(", ")))
            }
            Err(_) => error,
        }
    }
}

/// Everything that changes how a value prints, how long a statement may take, or what a statement
/// sees, as it must be on both masters. `search_path` empty, so that names print qualified.
const PINNED: &str = "\
set datestyle = 'ISO, YMD'; set intervalstyle = 'postgres'; set timezone = 'UTC'; \
set extra_float_digits = 3; set bytea_output = 'hex'; set lc_monetary = 'C'; \
set client_encoding = 'UTF8'; set standard_conforming_strings = on; set quote_all_identifiers = off; \
set search_path = ''; set row_security = off; \
set statement_timeout = 0; set lock_timeout = 0; set idle_in_transaction_session_timeout = 0; \
set default_transaction_read_only = off; set default_transaction_isolation = 'read committed'; \
set default_transaction_deferrable = off; set synchronous_commit = on; \
select pg_catalog.set_config(name, '0', false) from pg_catalog.pg_settings \
  where name in ('idle_session_timeout', 'transaction_timeout');";

/// One connection; closed when dropped.
#[derive(Debug)]
pub(crate) struct Session {
    client: Client,
    task: JoinHandle<()>,
    broken: Arc<Mutex<Option<String>>>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Session {
    /// Ends the session and waits until the connection is closed on our side.
    pub(crate) async fn close(mut self) {
        let task = std::mem::replace(&mut self.task, tokio::spawn(async {}));
        drop(self);
        // The task ends by itself once its client is gone; a panic in it ends it too.
        drop(task.await);
    }

    pub(crate) async fn batch(&self, what: &str, sql: &str) -> Result<()> {
        self.client
            .batch_execute(sql)
            .await
            .map_err(|error| self.error(what, error))
    }

    /// [`Session::batch`] with PostgreSQL's own error, for who must tell its code.
    pub(crate) async fn raw_batch(&self, sql: &str) -> Result<(), tokio_postgres::Error> {
        self.client.batch_execute(sql).await
    }

    pub(crate) async fn rows(
        &self,
        what: &str,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>> {
        self.client
            .query(sql, parameters)
            .await
            .map_err(|error| self.error(what, error))
    }

    pub(crate) async fn row(
        &self,
        what: &str,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Row> {
        self.client
            .query_one(sql, parameters)
            .await
            .map_err(|error| self.error(what, error))
    }

    /// The server's version as one number: 150014 for 15.14.
    pub(crate) async fn version_num(&self) -> Result<u32> {
        let row = self
            .row(
                "ask for the version",
                "select pg_catalog.current_setting('server_version_num')",
                &[],
            )
            .await?;
        let text: String = get(&row, 0)?;
        text.parse().map_err(|_| {
            Error::new(
                ErrorKind::Protocol,
                format!("the server's version is {text:?}"),
            )
        })
    }

    /// An error of PostgreSQL as one of ours, with why the connection broke where it did.
    pub(crate) fn error(&self, what: &str, error: tokio_postgres::Error) -> Error {
        let mut said = describe(&error);
        if error.is_closed()
            && let Some(why) = self
                .broken
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .as_ref()
        {
            said = why.clone();
        }
        let code = error.code().map_or("", SqlState::code);
        let kind = match code {
            "42501" => ErrorKind::Denied,
            "3D000" => ErrorKind::NotFound,
            "57P01" | "57P02" | "57P03" | "" => ErrorKind::Unreachable,
            _ => ErrorKind::Protocol,
        };
        Error::new(kind, format!("{what}: {said}")).with_source(error)
    }
}

/// A column of a row, or `Protocol`.
pub(crate) fn get<'a, T: tokio_postgres::types::FromSql<'a>>(
    row: &'a Row,
    column: usize,
) -> Result<T> {
    row.try_get(column).map_err(|error| {
        Error::new(
            ErrorKind::Protocol,
            format!("column {column} of an answer: {error}"),
        )
        .with_source(error)
    })
}

/// What PostgreSQL said, with its detail, else what went wrong below it.
pub(crate) fn describe(error: &tokio_postgres::Error) -> String {
    if let Some(said) = error.as_db_error() {
        return match said.detail() {
            Some(detail) => format!("{} ({detail})", said.message()),
            None => said.message().to_owned(),
        };
    }
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
