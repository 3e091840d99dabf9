//! Which files a product's spare needs: presets.
//!
//! Paths are those that the products' own manuals name: Puppet Enterprise's pages on backup and on Code Manager
//! (keys of orchestrator and console, the control repository's key), hiera-eyaml's and r10k's READMEs, Puppet
//! Server's list of configuration files, Debian's package. Left out on purpose is what names its host:
//! `puppet.conf`, `webserver.conf`, certificates; and with Puppet Enterprise `auth.conf`, which each master's
//! own agent writes with that master's name in it.

use std::path::Path;

use super::list::{Entry, Need};
use super::path::HostPath;
use crate::error::Result;

/// A product, as its files lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Preset {
    /// Puppet Enterprise.
    Pe,
    /// Puppet, below `/etc/puppetlabs`.
    Puppet,
    /// OpenVox: where Puppet has them.
    OpenVox,
    /// Debian's and Ubuntu's packages, below `/etc/puppet`.
    Debian,
    /// None: what the operator lists, and nothing else.
    None,
}

use Need::{Optional, Wanted};

const PE: [(&str, Need); 14] = [
    // What the orchestrator's and the inventory's secrets in the databases are encrypted with.
    (
        "/etc/puppetlabs/orchestration-services/conf.d/secrets",
        Wanted,
    ),
    // The same of RBAC's, where there is a directory service.
    ("/etc/puppetlabs/console-services/conf.d/secrets", Optional),
    (
        "/opt/puppetlabs/server/data/console-services/certs/ad_ca_chain.pem",
        Optional,
    ),
    ("/etc/puppetlabs/puppet/hiera.yaml", Wanted),
    ("/etc/puppetlabs/code/hiera.yaml", Optional),
    ("/etc/puppetlabs/puppet/eyaml", Optional),
    ("/etc/puppetlabs/puppet/keys", Optional),
    ("/etc/eyaml/config.yaml", Optional),
    ("/etc/puppetlabs/puppetserver/ssh", Optional),
    ("/etc/puppetlabs/r10k/r10k.yaml", Optional),
    ("/etc/puppetlabs/r10k/ssh", Optional),
    ("/etc/puppetlabs/puppet/autosign.conf", Optional),
    ("/etc/puppetlabs/license.key", Optional),
    ("/etc/puppetlabs/suite-license.lic", Optional),
];

const PUPPET: [(&str, Need); 12] = [
    ("/etc/puppetlabs/puppetserver/conf.d/auth.conf", Wanted),
    ("/etc/puppetlabs/puppetserver/conf.d/ca.conf", Optional),
    ("/etc/puppetlabs/puppet/hiera.yaml", Wanted),
    ("/etc/puppetlabs/code/hiera.yaml", Optional),
    ("/etc/puppetlabs/puppet/eyaml", Optional),
    ("/etc/puppetlabs/puppet/keys", Optional),
    ("/etc/eyaml/config.yaml", Optional),
    ("/etc/puppetlabs/puppetserver/ssh", Optional),
    ("/etc/puppetlabs/r10k/r10k.yaml", Optional),
    ("/etc/puppetlabs/r10k/ssh", Optional),
    ("/etc/puppetlabs/puppet/autosign.conf", Optional),
    ("/etc/puppetlabs/puppet/fileserver.conf", Optional),
];

const DEBIAN: [(&str, Need); 10] = [
    ("/etc/puppet/puppetserver/conf.d/auth.conf", Wanted),
    ("/etc/puppet/puppetserver/conf.d/ca.conf", Optional),
    ("/etc/puppet/hiera.yaml", Wanted),
    ("/etc/puppet/eyaml", Optional),
    ("/etc/puppet/keys", Optional),
    ("/etc/eyaml/config.yaml", Optional),
    ("/etc/puppetlabs/r10k/r10k.yaml", Optional),
    ("/etc/r10k.yaml", Optional),
    ("/etc/puppet/autosign.conf", Optional),
    ("/etc/puppet/fileserver.conf", Optional),
];

impl Preset {
    /// The product that is installed below `root`; `None` where none is to be seen.
    pub fn detect(root: &Path) -> Option<Self> {
        let stands = |path: &str| root.join(path).exists();
        if stands("opt/puppetlabs/server/pe_version") || stands("etc/puppetlabs/enterprise") {
            Some(Self::Pe)
        } else if stands("etc/puppetlabs/puppetserver") {
            // One list for both: which of them it is does not matter.
            Some(Self::Puppet)
        } else if stands("etc/puppet/puppetserver") {
            Some(Self::Debian)
        } else {
            None
        }
    }

    /// Its files and directories.
    ///
    /// # Errors
    /// None for the presets as they are; a test parses them all.
    pub fn entries(self) -> Result<Vec<Entry>> {
        let paths: &[(&str, Need)] = match self {
            Self::Pe => &PE,
            Self::Puppet | Self::OpenVox => &PUPPET,
            Self::Debian => &DEBIAN,
            Self::None => &[],
        };
        let entry = |(path, need): &(&str, Need)| {
            Ok(Entry {
                path: HostPath::new(path)?,
                need: *need,
            })
        };
        paths.iter().map(entry).collect()
    }

    /// As the configuration names it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pe => "pe",
            Self::Puppet => "puppet",
            Self::OpenVox => "openvox",
            Self::Debian => "debian",
            Self::None => "none",
        }
    }
}
