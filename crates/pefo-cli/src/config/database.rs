//! `[database]`: which databases, and how their server is reached.

use std::path::PathBuf;

use pefo_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

use super::Size;

/// `[database]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Database {
    /// Which databases.
    pub names: Vec<String>,
    /// A host name, or the directory of the server's socket.
    pub host: String,
    /// The server's port.
    pub port: u16,
    /// The PostgreSQL user.
    pub user: String,
    /// The system account that peer authentication wants.
    pub run_as: Option<String>,
    /// libpq's pgpass file.
    pub passfile: Option<PathBuf>,
    /// How a server on another host is reached by TLS.
    pub tls: Option<DatabaseTls>,
    /// Where pg_dump and pg_restore are.
    pub bin_dir: Option<PathBuf>,
    /// Parallel jobs.
    pub jobs: u16,
    /// Previous databases that are kept after a restore.
    pub keep_previous: usize,
    /// The version of the product that uses the databases; a restore refuses a dump of another one. Puppet
    /// Enterprise tells its own.
    pub product_version: Option<String>,
    /// Tables up to this size are compared row by row, by digest; larger ones are counted.
    pub exact_up_to: Size,
}

impl Default for Database {
    fn default() -> Self {
        Self {
            names: vec!["pe-rbac".into()],
            host: "/var/run/postgresql".into(),
            port: 5432,
            user: "pe-postgres".into(),
            run_as: None,
            passfile: None,
            tls: None,
            bin_dir: None,
            jobs: 2,
            keep_previous: 1,
            product_version: None,
            exact_up_to: Size::of(1 << 30),
        }
    }
}

impl Database {
    pub(super) fn validate(&self) -> Result<()> {
        let bad = |message: String| Err(Error::new(ErrorKind::Config, message));
        let Some(tls) = &self.tls else {
            return Ok(());
        };
        if self.host.starts_with('/') {
            return bad(format!(
                "database.tls needs a host name: database.host = {:?} is a socket's directory, where PostgreSQL has no TLS",
                self.host
            ));
        }
        for (name, path) in [
            ("ca_cert", &tls.ca_cert),
            ("cert", &tls.cert),
            ("key", &tls.key),
        ] {
            if !path.is_absolute() {
                return bad(format!(
                    "database.tls.{name} = {:?} is not an absolute path",
                    path.display().to_string()
                ));
            }
        }
        Ok(())
    }
}

/// `database.tls`: files in PEM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseTls {
    /// The CA that signed the server's certificate: the only one trusted.
    pub ca_cert: PathBuf,
    /// The client certificate.
    pub cert: PathBuf,
    /// Its key, readable for the account that pg_dump runs as and for nobody else.
    pub key: PathBuf,
}
