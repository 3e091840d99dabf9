//! The configuration file: TOML, the same shape on both masters, without secrets.
//!
//! Unknown keys are errors that name the nearest known key: a misspelt guard must not be no guard.

mod bandwidth;
mod database;
mod facts;
mod puppetdb;
mod services;
mod size;
mod unknown;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pefo_core::disk::read_capped;
use pefo_core::{Certname, Error, ErrorKind, Result};
use pefo_nc::import::IdPolicy;
use serde::{Deserialize, Serialize};

pub use bandwidth::Bandwidth;
pub use database::{Database, DatabaseTls};
pub use facts::{Facts, FactsFile, FactsFormat};
pub use puppetdb::PuppetDb;
pub use services::{ServiceManager, Services};
pub use size::Size;

/// The commented example: also the list of all known keys.
pub const EXAMPLE: &str = include_str!("example.toml");

/// The whole file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Config {
    /// Who this host is, and where it keeps things.
    pub site: Site,
    /// How peers are reached, where pairing did not say.
    #[serde(default)]
    pub peer: Vec<Peer>,
    /// ssh.
    #[serde(default)]
    pub transport: Transport,
    /// The certificate authority.
    #[serde(default)]
    pub ca: Ca,
    /// The node classifier, where there is one.
    #[serde(default)]
    pub classifier: Option<Classifier>,
    /// Databases, where there are any.
    #[serde(default)]
    pub database: Option<Database>,
    /// What is stopped while a database is swapped.
    #[serde(default)]
    pub services: Services,
    /// Minutes past the hour.
    #[serde(default)]
    pub schedule: Schedule,
    /// How much is kept.
    #[serde(default)]
    pub retention: Retention,
    /// Programs that are told what happens.
    #[serde(default)]
    pub hooks: Hooks,
    /// The original module's facts.
    #[serde(default)]
    pub facts: Facts,
    /// The PuppetDB that a promotion asks for exported resources.
    #[serde(default)]
    pub puppetdb: Option<PuppetDb>,
}

/// `[site]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Site {
    /// This master's certname.
    pub certname: Certname,
    /// Keys, reign, ledgers, verified generations.
    #[serde(default = "default_state_dir")]
    pub state_dir: PathBuf,
    /// What the peer's transfer account may write.
    #[serde(default = "default_spool_dir")]
    pub spool_dir: PathBuf,
    /// The transfer account on this host.
    #[serde(default = "default_transfer_user")]
    pub transfer_user: String,
    /// Where sshd looks for that account's keys.
    #[serde(default)]
    pub authorized_keys: Option<PathBuf>,
}

fn default_state_dir() -> PathBuf {
    "/var/lib/pefo".into()
}
fn default_spool_dir() -> PathBuf {
    "/opt/pe_failover".into()
}
fn default_transfer_user() -> String {
    "pe-transfer".into()
}

/// `[[peer]]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Peer {
    /// The peer's certname.
    pub certname: Certname,
    /// Where its sshd is.
    #[serde(default)]
    pub host: Option<String>,
    /// That sshd's port.
    #[serde(default)]
    pub port: Option<u16>,
    /// The transfer account there.
    #[serde(default)]
    pub user: Option<String>,
}

/// `[transport]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Transport {
    /// How the peer reaches this host.
    pub host: Option<String>,
    /// This host's sshd port.
    pub port: u16,
    /// This host's public sshd keys.
    pub host_keys: Vec<PathBuf>,
    /// Seconds.
    pub connect_timeout: u64,
    /// Seconds.
    pub io_timeout: u64,
    /// How what is sent is compressed, where the peer can.
    pub compression: Compression,
    /// How fast a push may send; as fast as the line where it is not said.
    pub bandwidth_limit: Option<Bandwidth>,
}

/// `transport.compression`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// At its fastest level, and not where it is in vain.
    #[default]
    Zstd,
    /// Not at all.
    None,
}

impl Default for Transport {
    fn default() -> Self {
        Self {
            host: None,
            port: 22,
            host_keys: vec!["/etc/ssh/ssh_host_ed25519_key.pub".into()],
            connect_timeout: 10,
            io_timeout: 60,
            compression: Compression::Zstd,
            bandwidth_limit: None,
        }
    }
}

/// `[ca]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ca {
    /// The CA directory, or `auto`.
    pub cadir: PathBuf,
    /// Where the CA service is disabled: whose `crl.pem` follows the CA's.
    pub ssldir: Option<PathBuf>,
    /// Owner of the CA's files.
    pub owner: Option<String>,
    /// Group of the CA's files.
    pub group: Option<String>,
    /// Certnames whose certificates never cross.
    pub exclude_certs: Vec<Certname>,
    /// The most certificates that one apply may delete.
    pub max_deletes: usize,
}

impl Default for Ca {
    fn default() -> Self {
        Self {
            cadir: "auto".into(),
            ssldir: None,
            owner: None,
            group: None,
            exclude_certs: Vec::new(),
            max_deletes: 50,
        }
    }
}

/// `[classifier]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Classifier {
    /// The API's address.
    pub url: String,
    /// The client certificate.
    #[serde(default)]
    pub cert: Option<PathBuf>,
    /// Its key.
    #[serde(default)]
    pub key: Option<PathBuf>,
    /// The Puppet CA's certificate: the only one trusted.
    pub ca_cert: PathBuf,
    /// An RBAC token instead.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
    /// Certnames to rewrite on import.
    #[serde(default)]
    pub map: BTreeMap<Certname, Certname>,
    /// Further places to rewrite.
    #[serde(default)]
    pub rewrite: Vec<String>,
    /// Refuse an export that lost more than this share of groups.
    #[serde(default = "default_shrink")]
    pub max_shrink_percent: u8,
    /// Which ids the imported groups have.
    #[serde(default)]
    pub ids: IdPolicy,
    /// How often 'pefo run' asks the active's classifier whether something was changed, in seconds.
    #[serde(default = "default_poll")]
    pub poll_seconds: u32,
    /// After a promotion the original's node groups are made or mended on the new active.
    #[serde(default)]
    pub failover_groups: bool,
    /// After a promotion the classifier is told to read the classes anew.
    #[serde(default)]
    pub refresh_classes: bool,
}

fn default_poll() -> u32 {
    10
}

fn default_shrink() -> u8 {
    20
}

/// `[schedule]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Schedule {
    /// Dumps and exports, on the active.
    pub export_minute: u8,
    /// Pushes, on the active.
    pub push_minute: u8,
    /// The classifier's import, on the passive.
    pub restore_classifier_minute: u8,
    /// The databases' restore, on the passive.
    pub restore_database_minute: u8,
}

impl Default for Schedule {
    fn default() -> Self {
        Self {
            export_minute: 10,
            push_minute: 20,
            restore_classifier_minute: 0,
            restore_database_minute: 3,
        }
    }
}

/// `[retention]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Retention {
    /// Generations of each data set.
    pub generations: usize,
}

impl Default for Retention {
    fn default() -> Self {
        Self { generations: 5 }
    }
}

/// `[hooks]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Hooks {
    /// A program with its arguments, run when this host's role has changed or its reign has ended.
    pub role_changed: Vec<String>,
}

impl Config {
    /// Reads and checks the file.
    ///
    /// # Errors
    /// `Config`, with file, line and what is wrong.
    pub fn load(path: &Path) -> Result<Self> {
        let bytes = read_capped(path, 1 << 20).map_err(|error| {
            Error::new(
                ErrorKind::Config,
                format!("read the configuration: {error}"),
            )
            .hint(format!(
                "write one with: pefo config example > {}",
                path.display()
            ))
        })?;
        let text = String::from_utf8(bytes).map_err(|_| {
            Error::new(
                ErrorKind::Config,
                format!("{}: is not UTF-8", path.display()),
            )
        })?;
        Self::parse(&text).map_err(|error| error.context(path.display()))
    }

    /// Parses and checks a configuration.
    ///
    /// # Errors
    /// `Config`, with line and what is wrong.
    pub fn parse(text: &str) -> Result<Self> {
        let config: Self = unknown::parse(text)?;
        config.validate()?;
        Ok(config)
    }

    fn validate(&self) -> Result<()> {
        let bad = |message: String| Err(Error::new(ErrorKind::Config, message));
        for (name, path) in [
            ("site.state_dir", &self.site.state_dir),
            ("site.spool_dir", &self.site.spool_dir),
        ] {
            if !path.is_absolute() {
                return bad(format!(
                    "{name} = {:?} is not an absolute path",
                    path.display().to_string()
                ));
            }
        }
        if self.site.spool_dir.starts_with(&self.site.state_dir)
            || self.site.state_dir.starts_with(&self.site.spool_dir)
        {
            return bad("site.state_dir and site.spool_dir lie within one another; the spool is the transfer account's".to_owned());
        }
        let schedule = &self.schedule;
        for (name, minute) in [
            ("export_minute", schedule.export_minute),
            ("push_minute", schedule.push_minute),
            (
                "restore_classifier_minute",
                schedule.restore_classifier_minute,
            ),
            ("restore_database_minute", schedule.restore_database_minute),
        ] {
            if minute > 59 {
                return bad(format!(
                    "schedule.{name} = {minute} is no minute of an hour"
                ));
            }
        }
        if let Some(classifier) = &self.classifier {
            if classifier.cert.is_some() != classifier.key.is_some() {
                return bad("classifier.cert and classifier.key belong together".to_owned());
            }
            if classifier.cert.is_none() && classifier.token_file.is_none() {
                return bad("classifier needs cert and key, or token_file".to_owned());
            }
            if classifier.max_shrink_percent > 100 {
                return bad("classifier.max_shrink_percent is above 100".to_owned());
            }
            if classifier.poll_seconds == 0 {
                return bad("classifier.poll_seconds = 0 would never stop asking".to_owned());
            }
        }
        self.services.validate()?;
        if let Some(puppetdb) = &self.puppetdb {
            puppetdb.validate()?;
        }
        if let Some(database) = &self.database
            && let Some(tls) = &database.tls
        {
            if database.host.starts_with('/') {
                return bad(format!(
                    "database.tls needs a host name: database.host = {:?} is a socket's directory, where PostgreSQL has no TLS",
                    database.host
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
        }
        if self.retention.generations == 0 {
            return bad("retention.generations = 0 would keep nothing to go back to".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
