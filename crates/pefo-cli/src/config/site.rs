//! `[site]`: who this host is, and where it keeps things.

use std::path::PathBuf;

use pefo_core::{Certname, Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

/// `[site]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Site {
    /// This master's certname.
    pub certname: Certname,
    /// The name by which agents reach whichever master is the active.
    #[serde(default)]
    pub shared_name: Option<Certname>,
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

impl Site {
    pub(super) fn validate(&self) -> Result<()> {
        let bad = |message: String| Err(Error::new(ErrorKind::Config, message));
        for (name, path) in [
            ("site.state_dir", &self.state_dir),
            ("site.spool_dir", &self.spool_dir),
        ] {
            if !path.is_absolute() {
                return bad(format!(
                    "{name} = {:?} is not an absolute path",
                    path.display().to_string()
                ));
            }
        }
        if self.spool_dir.starts_with(&self.state_dir)
            || self.state_dir.starts_with(&self.spool_dir)
        {
            return bad("site.state_dir and site.spool_dir lie within one another; the spool is the transfer account's".to_owned());
        }
        Ok(())
    }
}
