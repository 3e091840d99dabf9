//! `[status]`: from when on something is a warning, and from when on critical.

use pefo_core::generation::DataSet;
use pefo_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

use super::{Size, Span};

/// `[status]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// Of certificates and revocations.
    pub ca: Lag,
    /// Of classification.
    pub classifier: Lag,
    /// Of every database.
    pub database: Lag,
    /// Of the files.
    pub files: Lag,
    /// Of what is deployed of Puppet code.
    pub code: Lag,
    /// Less room than this on the file system of spool or state is a warning.
    pub warn_free: Size,
    /// And less than this is critical.
    pub critical_free: Size,
    /// Clocks that are this far apart are a warning.
    pub warn_skew: Span,
}

/// How long a spare may have proved nothing; where it is not said, the schedule and the pace of the runs tell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Lag {
    /// Longer is a warning.
    pub warn_lag: Option<Span>,
    /// Longer is critical.
    pub critical_lag: Option<Span>,
}

impl Default for Status {
    fn default() -> Self {
        Self {
            ca: Lag::default(),
            classifier: Lag::default(),
            database: Lag::default(),
            files: Lag::default(),
            code: Lag::default(),
            warn_free: Size::of(1 << 30),
            critical_free: Size::of(256 << 20),
            warn_skew: Span::of_seconds(30),
        }
    }
}

impl Status {
    /// What is said of a data set's lag.
    pub fn lag(&self, dataset: &DataSet) -> Lag {
        self.named(dataset).1
    }

    /// The key that says it.
    pub fn key(&self, dataset: &DataSet) -> &'static str {
        self.named(dataset).0
    }

    fn named(&self, dataset: &DataSet) -> (&'static str, Lag) {
        match dataset {
            DataSet::Ca => ("ca", self.ca),
            DataSet::Classifier => ("classifier", self.classifier),
            DataSet::Database(_) => ("database", self.database),
            DataSet::Files => ("files", self.files),
            DataSet::Code => ("code", self.code),
        }
    }

    pub(super) fn validate(&self) -> Result<()> {
        let bad = |message: String| Err(Error::new(ErrorKind::Config, message));
        for (key, lag) in [
            ("ca", self.ca),
            ("classifier", self.classifier),
            ("database", self.database),
            ("files", self.files),
            ("code", self.code),
        ] {
            if let (Some(warn), Some(critical)) = (lag.warn_lag, lag.critical_lag)
                && warn > critical
            {
                return bad(format!(
                    "status.{key}: critical_lag = \"{critical}\" would come before warn_lag = \"{warn}\""
                ));
            }
        }
        if self.warn_free < self.critical_free {
            let (warn, critical) = (self.warn_free, self.critical_free);
            return bad(format!(
                "status.critical_free = \"{critical}\" would come before status.warn_free = \"{warn}\""
            ));
        }
        Ok(())
    }
}
