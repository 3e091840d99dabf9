//! A PostgreSQL server, and a session on it.
//!
//! It guarantees: every session has the settings that decide how values print, and how long a
//! statement may take, pinned to fixed values, whatever `postgresql.conf`, the role or the database
//! says; so both masters print alike. A session that breaks says why it broke.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use pefo_core::{Error, ErrorKind, Result};
use tokio_postgres::error::SqlState;

use crate::name::DatabaseName;
use crate::passfile;
use crate::tls::{self, ServerTls};

mod session;

pub(crate) use session::{Line, Session, describe, get};

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
    /// How a server on another host is reached by TLS. Without it, what is said over TCP is plain text.
    pub tls: Option<ServerTls>,
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

    /// A server on TCP, port 5432. On another host it should be reached by [`Server::tls`]: without it
    /// everything that is dumped and restored crosses the line in plain text, and so does the password
    /// where the server asks for it by the method `password`.
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
            tls: None,
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

    /// Reaches it by TLS or not at all.
    #[must_use]
    pub fn tls(mut self, tls: ServerTls) -> Self {
        self.tls = Some(tls);
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
        let line = self.line()?;
        let connected =
            tokio::time::timeout(self.connect_timeout, Session::open(&mut config, line)).await;
        let session = match connected {
            Ok(outcome) => outcome.map_err(|error| self.connect_error(database, error))?,
            Err(_) => {
                return Err(
                    self.unreachable(format!("no answer within {:?}", self.connect_timeout))
                );
            }
        };
        session.prepare().await?;
        Ok(session)
    }

    fn line(&self) -> Result<Line> {
        match (&self.host, &self.tls) {
            (_, None) => Ok(Line::Plain),
            (Host::Tcp(_), Some(tls)) => Ok(Line::Tls(tls.connector()?)),
            (Host::Socket(dir), Some(_)) => {
                let message = format!(
                    "{} is a socket's directory, where PostgreSQL has no TLS",
                    dir.display()
                );
                Err(Error::new(ErrorKind::Config, message)
                    .hint("TLS needs a host name ([database] host)"))
            }
        }
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
        if let Some(tls) = &self.tls
            && let Some(failure) = tls::failure(self, tls, &error)
        {
            return failure.with_source(error);
        }
        let said = describe(&error);
        let message = format!(
            "connect to database {:?} as {:?}: {said}",
            database.as_str(),
            self.user
        );
        let code = error.code().map_or("", SqlState::code);
        let mapped = match code {
            "3D000" => Error::new(ErrorKind::NotFound, format!("database {:?} does not exist", database.as_str())),
            _ if code.starts_with("28") && (said.contains("no encryption") || said.contains("SSL off")) => {
                Error::new(ErrorKind::Denied, message).hint(
                    "its pg_hba.conf lets this host in by TLS only, if at all: set [database] tls",
                )
            }
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
