//! `[classifier]`: the node classifier.

use std::collections::BTreeMap;
use std::path::PathBuf;

use pefo_core::{Certname, Error, ErrorKind, Result};
use pefo_nc::import::IdPolicy;
use serde::{Deserialize, Serialize};

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

impl Classifier {
    pub(super) fn validate(&self) -> Result<()> {
        let bad = |message: String| Err(Error::new(ErrorKind::Config, message));
        if self.cert.is_some() != self.key.is_some() {
            return bad("classifier.cert and classifier.key belong together".to_owned());
        }
        if self.cert.is_none() && self.token_file.is_none() {
            return bad("classifier needs cert and key, or token_file".to_owned());
        }
        if self.max_shrink_percent > 100 {
            return bad("classifier.max_shrink_percent is above 100".to_owned());
        }
        if self.poll_seconds == 0 {
            return bad("classifier.poll_seconds = 0 would never stop asking".to_owned());
        }
        Ok(())
    }
}
