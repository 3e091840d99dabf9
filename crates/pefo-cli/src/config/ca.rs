//! `[ca]`: the certificate authority.

use std::path::PathBuf;

use pefo_core::Certname;
use serde::{Deserialize, Serialize};

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
