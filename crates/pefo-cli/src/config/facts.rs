//! `[facts]`: where the original module's facts are written, in which of the formats that Facter reads.

use std::path::{Path, PathBuf};

use pefo_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

/// `[facts]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Facts {
    /// Where they are written, as external facts; nowhere where it is not said.
    pub file: Option<FactsFile>,
}

/// `facts.file`: an absolute path whose ending says the format.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "PathBuf", into = "PathBuf")]
pub struct FactsFile {
    path: PathBuf,
    format: FactsFormat,
}

/// How external facts are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FactsFormat {
    /// `.txt`: a line `name=value` each.
    Text,
    /// `.yaml` or `.yml`.
    Yaml,
    /// `.json`.
    Json,
}

impl FactsFile {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How it is written.
    pub fn format(&self) -> FactsFormat {
        self.format
    }
}

impl TryFrom<PathBuf> for FactsFile {
    type Error = Error;

    fn try_from(path: PathBuf) -> Result<Self> {
        let bad = |what: &str| {
            let message = format!("facts.file = {:?} {what}", path.display().to_string());
            Err(Error::new(ErrorKind::Config, message))
        };
        if !path.is_absolute() {
            return bad("is not an absolute path");
        }
        let format = match path.extension().and_then(|ending| ending.to_str()) {
            Some("txt") => FactsFormat::Text,
            Some("yaml" | "yml") => FactsFormat::Yaml,
            Some("json") => FactsFormat::Json,
            _ => return bad("ends in none of .txt, .yaml, .yml and .json, which Facter reads"),
        };
        Ok(Self { path, format })
    }
}

impl From<FactsFile> for PathBuf {
    fn from(file: FactsFile) -> Self {
        file.path
    }
}
