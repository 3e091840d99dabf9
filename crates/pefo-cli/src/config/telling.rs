//! `[hooks]`, `[metrics]`, `[log]`: who is told what happens, besides whoever reads the program's output.

use std::path::{Path, PathBuf};

use pefo_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

/// `[hooks]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Hooks {
    /// A program with its arguments, run when this host's role has changed or its reign has ended.
    pub role_changed: Vec<String>,
    /// Run once when a data set that did well does not any more.
    pub failed: Vec<String>,
    /// Run once when it does well again.
    pub recovered: Vec<String>,
}

/// `[metrics]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Metrics {
    /// A file for node_exporter's textfile collector, which reads names that end in `.prom` only.
    pub textfile: Option<PathBuf>,
}

/// `[log]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Log {
    /// The socket of the system's log, to which the original module's lines go.
    pub syslog: Option<PathBuf>,
}

impl Hooks {
    pub(super) fn validate(&self) -> Result<()> {
        for (key, program) in [
            ("role_changed", &self.role_changed),
            ("failed", &self.failed),
            ("recovered", &self.recovered),
        ] {
            if program.first().is_some_and(String::is_empty) {
                let message = format!("hooks.{key} names no program");
                return Err(Error::new(ErrorKind::Config, message));
            }
        }
        Ok(())
    }
}

impl Metrics {
    pub(super) fn validate(&self) -> Result<()> {
        let Some(path) = &self.textfile else {
            return Ok(());
        };
        absolute("metrics.textfile", path)?;
        if path.extension().is_none_or(|ending| ending != "prom") {
            let message = format!(
                "metrics.textfile = {:?} does not end in .prom: node_exporter would not read it",
                path.display().to_string()
            );
            return Err(Error::new(ErrorKind::Config, message));
        }
        Ok(())
    }
}

impl Log {
    pub(super) fn validate(&self) -> Result<()> {
        self.syslog
            .as_ref()
            .map_or(Ok(()), |path| absolute("log.syslog", path))
    }
}

fn absolute(key: &str, path: &Path) -> Result<()> {
    if path.is_absolute() {
        return Ok(());
    }
    let message = format!(
        "{key} = {:?} is not an absolute path",
        path.display().to_string()
    );
    Err(Error::new(ErrorKind::Config, message))
}
