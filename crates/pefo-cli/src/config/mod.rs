//! The configuration file: TOML, the same shape on both masters, without secrets.
//!
//! Unknown keys are errors that name the nearest known key: a misspelt guard must not be no guard.

mod bandwidth;
mod ca;
mod classifier;
mod code;
mod database;
mod facts;
mod files;
mod health;
mod puppetdb;
mod schedule;
mod services;
mod site;
mod size;
mod span;
mod status;
mod telling;
mod transport;
mod unknown;

use std::path::Path;

use pefo_core::disk::read_capped;
use pefo_core::generation::DataSet;
use pefo_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

pub use bandwidth::Bandwidth;
pub use ca::Ca;
pub use classifier::Classifier;
pub use code::{Code, CodeManager, DeployCode};
pub use database::{Database, DatabaseTls};
pub use facts::{Facts, FactsFile, FactsFormat};
pub use files::{Files, FilesPreset, apart};
pub use health::{Health, Listen};
pub use puppetdb::PuppetDb;
pub use schedule::{Drill, Schedule};
pub use services::{ServiceManager, Services};
pub use site::Site;
pub use size::Size;
pub use span::Span;
pub use status::{Lag, Status};
pub use telling::{Hooks, Log, Metrics};
pub use transport::{Compression, Peer, Transport};

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
    /// The files that no other data set carries, where there are any.
    #[serde(default)]
    pub files: Option<Files>,
    /// Puppet code, where it is compared.
    #[serde(default)]
    pub code: Option<Code>,
    /// What is stopped while a database is swapped.
    #[serde(default)]
    pub services: Services,
    /// Minutes past the hour.
    #[serde(default)]
    pub schedule: Schedule,
    /// How much is kept.
    #[serde(default)]
    pub retention: Retention,
    /// Where load balancers ask how this host does.
    #[serde(default)]
    pub health: Option<Health>,
    /// From when on something is amiss.
    #[serde(default)]
    pub status: Status,
    /// Programs that are told what happens.
    #[serde(default)]
    pub hooks: Hooks,
    /// What Prometheus reads.
    #[serde(default)]
    pub metrics: Metrics,
    /// The system's log.
    #[serde(default)]
    pub log: Log,
    /// The original module's facts.
    #[serde(default)]
    pub facts: Facts,
    /// The PuppetDB that a promotion asks for exported resources.
    #[serde(default)]
    pub puppetdb: Option<PuppetDb>,
}

/// `[retention]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Retention {
    /// Generations of each data set.
    pub generations: usize,
    /// Days for which it is known how each data set did.
    pub history_days: u16,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            generations: 5,
            history_days: 30,
        }
    }
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

    /// The data sets that it names.
    pub fn datasets(&self) -> Vec<DataSet> {
        let mut datasets = vec![DataSet::Ca];
        if self.classifier.is_some() {
            datasets.push(DataSet::Classifier);
        }
        // Before the databases: what is in those is encrypted with keys that are among the files.
        if self.files.is_some() {
            datasets.push(DataSet::Files);
        }
        let names = self.database.iter().flat_map(|database| &database.names);
        datasets.extend(names.cloned().map(DataSet::Database));
        if self.code.is_some() {
            datasets.push(DataSet::Code);
        }
        datasets
    }

    fn validate(&self) -> Result<()> {
        self.site.validate()?;
        self.schedule.validate()?;
        self.services.validate()?;
        self.status.validate()?;
        self.hooks.validate()?;
        self.metrics.validate()?;
        self.log.validate()?;
        if let Some(classifier) = &self.classifier {
            classifier.validate()?;
        }
        if let Some(code) = &self.code {
            code.validate()?;
        }
        if let Some(puppetdb) = &self.puppetdb {
            puppetdb.validate()?;
        }
        if let Some(database) = &self.database {
            database.validate()?;
        }
        if let Some(files) = &self.files {
            files.validate(&self.site, &self.ca)?;
        }
        if self.retention.generations == 0 {
            let message = "retention.generations = 0 would keep nothing to go back to";
            return Err(Error::new(ErrorKind::Config, message));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
