//! `[[peer]]` and `[transport]`: how the peers are reached.

use std::path::PathBuf;

use pefo_core::Certname;
use serde::{Deserialize, Serialize};

use super::Bandwidth;

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
