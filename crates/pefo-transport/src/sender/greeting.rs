//! Who the two sides of a session say they are.

use pefo_core::clock::Timestamp;
use pefo_core::generation::Site;
use pefo_core::reign::{Role, Station};
use pefo_core::{Certname, Error, ErrorKind, Result};

use crate::message::{Capabilities, Protocols, Welcome};

/// Who we are.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Introduced {
    /// The pair.
    pub site: Site,
    /// This master.
    pub certname: Certname,
    /// Its role and the signed record of its reign.
    pub station: Station,
    /// This pefo, such as `pefo 0.1.0`.
    pub tool: String,
    /// At which of zstd's levels is compressed what is sent, where the peer can; 0 never.
    pub compression: i32,
}

impl Introduced {
    /// The level that is usual: zstd's fastest, which a line of 1 Gbit/s does not wait for.
    pub const COMPRESSION: i32 = 1;

    /// This master, as its station file says.
    pub fn new(site: Site, certname: Certname, station: Station, tool: impl Into<String>) -> Self {
        Self {
            site,
            certname,
            station,
            tool: tool.into(),
            compression: Self::COMPRESSION,
        }
    }

    /// Sets at which of zstd's levels is compressed; 0 never.
    #[must_use]
    pub const fn compression(mut self, level: i32) -> Self {
        self.compression = level;
        self
    }
}

/// Who the other side says it is. The line proves its host key; the reign record proves itself by its
/// signature ([`pefo_core::reign::check`]); the rest is for people.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Peer {
    /// Its certname.
    pub certname: Certname,
    /// Its role.
    pub role: Role,
    /// Its pefo.
    pub tool: String,
    /// The signed record of the reign it lives under, unchecked.
    pub reign: String,
    /// The protocol both speak.
    pub protocol: u16,
    /// What both can do beyond the protocol's base.
    pub capabilities: Capabilities,
    /// What time it was there when it greeted, by its own clock, where it says.
    pub time: Option<Timestamp>,
}

pub(super) fn introduce(welcome: Welcome, me: &Introduced) -> Result<Peer> {
    let ours = Protocols::OURS;
    if !(ours.min..=ours.max).contains(&welcome.protocol) {
        return Err(Error::new(
            ErrorKind::Protocol,
            format!(
                "the peer chose protocol {}, this pefo speaks {ours}",
                welcome.protocol
            ),
        )
        .hint("upgrade pefo on the older of the two masters"));
    }
    if welcome.site != me.site {
        return Err(Error::refused(
            "site",
            format!(
                "{} belongs to site {}, this master to {}",
                welcome.certname,
                welcome.site.as_str(),
                me.site.as_str()
            ),
        )
        .hint("pair the two masters: pefo init"));
    }
    Ok(Peer {
        certname: welcome.certname,
        role: welcome.role,
        tool: crate::message::plain(&welcome.tool),
        reign: welcome.reign,
        protocol: welcome.protocol,
        capabilities: Capabilities::OURS.agree(&welcome.capabilities),
        time: welcome.time,
    })
}
