//! `[puppetdb]`: the PuppetDB that a promotion asks for exported resources.

use std::path::PathBuf;

use pefo_core::{Error, ErrorKind, Result};
use pefo_nc::puppetdb::{Scheme, scheme};
use serde::{Deserialize, Serialize};

/// `[puppetdb]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PuppetDb {
    /// The API's address.
    pub url: String,
    /// The Puppet CA's certificate, for https.
    #[serde(default)]
    pub ca_cert: Option<PathBuf>,
    /// The client certificate, for https.
    #[serde(default)]
    pub cert: Option<PathBuf>,
    /// Its key.
    #[serde(default)]
    pub key: Option<PathBuf>,
}

impl PuppetDb {
    pub(super) fn validate(&self) -> Result<()> {
        let bad = |message: &'static str| Err(Error::new(ErrorKind::Config, message));
        let scheme = scheme(&self.url).map_err(|error| error.context("puppetdb.url"))?;
        if self.cert.is_some() != self.key.is_some() {
            return bad("puppetdb.cert and puppetdb.key belong together");
        }
        if scheme == Scheme::Https && (self.ca_cert.is_none() || self.cert.is_none()) {
            return bad("puppetdb.url with https needs puppetdb.ca_cert, cert and key");
        }
        Ok(())
    }
}
