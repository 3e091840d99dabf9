//! Reigns: which master rules, since when, and by what right.
//!
//! A reign is (epoch, holder's key id, the record of the reign before). Records are signed by their
//! holder. Role and reign change together, in one file ([`Station`]), by one rename. A lower epoch than the
//! known one is fenced; the same epoch with another holder is a split reign, which both sides refuse.

mod station;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::certname::Certname;
use crate::clock::Timestamp;
use crate::digest::Digest;
use crate::document::{self, Domain, Kind};
use crate::error::{Error, ErrorKind, Result};
use crate::generation::Site;
use crate::keys::{KeyId, PublicKey, SigningKey};

pub use station::{Changing, Station};

/// Counts reigns, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u64);

impl Epoch {
    /// The one after it; epochs do not run out.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What a master is to its peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Serves, signs and pushes.
    Active,
    /// The warm spare: receives and applies.
    Passive,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Active => "active",
            Self::Passive => "passive",
        })
    }
}

/// One reign's record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reign {
    /// Version of this record's schema: 1.
    pub format: u32,
    /// The pair it is about.
    pub site: Site,
    /// Which reign this is.
    pub epoch: Epoch,
    /// The key of the master that rules, which also signed this record.
    pub holder: KeyId,
    /// That master's certname, for people.
    pub certname: Certname,
    /// When it began, by the holder's clock.
    pub since: Timestamp,
    /// The digest of the signed record of the reign before; `None` for the first.
    pub before: Option<Digest>,
}

/// How an offered reign stands to the known one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// The same reign.
    Same,
    /// A newer one: the known one has ended.
    Newer,
    /// An older one: whoever offers it is fenced.
    Older,
    /// The same epoch with another holder.
    Split,
}

impl Reign {
    /// Signs it.
    ///
    /// # Errors
    /// `Invalid`, where it cannot be written.
    pub fn sign(&self, key: &SigningKey) -> Result<Vec<u8>> {
        document::sign(self, domain(&self.site), key)
    }

    /// Whether it follows the reign whose signed record is `before`, with none between them.
    pub fn follows(&self, before: &[u8]) -> bool {
        self.before == Some(Digest::of(before))
    }

    /// How `offered` (epoch and holder) stands to this reign.
    pub fn standing_of(&self, epoch: Epoch, holder: &KeyId) -> Standing {
        match epoch.cmp(&self.epoch) {
            std::cmp::Ordering::Greater => Standing::Newer,
            std::cmp::Ordering::Less => Standing::Older,
            std::cmp::Ordering::Equal if *holder == self.holder => Standing::Same,
            std::cmp::Ordering::Equal => Standing::Split,
        }
    }

    /// Lets only this reign's holder pass.
    ///
    /// # Errors
    /// `Fenced`: an older epoch; `Refused`: `split-reign`, or `reign-unknown` for a newer epoch whose
    /// record this host has not seen.
    pub fn admit(&self, epoch: Epoch, holder: &KeyId) -> Result<()> {
        match self.standing_of(epoch, holder) {
            Standing::Same => Ok(()),
            Standing::Older => Err(self.has_ended(epoch)),
            Standing::Split => Err(split(
                epoch,
                &format!("key {} ({})", self.holder, self.certname),
                &format!("key {holder}"),
            )),
            Standing::Newer => Err(Error::refused(
                "reign-unknown",
                format!(
                    "epoch {epoch} of key {holder} is newer than the known epoch {} of {}",
                    self.epoch, self.certname
                ),
            )
            .hint("pair with the master that was promoted: 'pefo init passive --join'")),
        }
    }

    /// An older epoch is over, since this reign began.
    fn has_ended(&self, epoch: Epoch) -> Error {
        let message = format!(
            "epoch {epoch} has ended: {} reigns with epoch {}",
            self.certname, self.epoch
        );
        Error::new(ErrorKind::Fenced, message)
            .hint("this master was replaced; 'pefo demote' makes it the spare of the new one")
    }
}

fn split(epoch: Epoch, one: &str, other: &str) -> Error {
    let message = format!("two holders claim epoch {epoch}: {one} and {other}");
    Error::refused("split-reign", message).hint(format!(
        "decide which master stays, and run 'pefo promote --epoch-above {epoch}' there"
    ))
}

fn domain(site: &Site) -> Domain<'_> {
    Domain {
        kind: Kind::Reign,
        site,
        dataset: None,
    }
}

/// Checks a signed reign record.
///
/// # Errors
/// `Refused` where it is not signed by one of `keys`, or not by its own holder.
pub fn check(record: &[u8], site: &Site, keys: &[PublicKey]) -> Result<Reign> {
    let unchecked = document::split(record)?;
    let reign: Reign = unchecked.check(domain(site), keys)?;
    if reign.format != 1 || reign.holder != *unchecked.signer() || reign.site != *site {
        return Err(Error::refused(
            "reign-record",
            "the reign record is not its holder's own, or of another site or format",
        ));
    }
    Ok(reign)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::system_random;

    fn setup() -> (Site, SigningKey, Station) {
        let site = Site::new("0123456789abcdef0123456789abcdef").unwrap();
        let key = SigningKey::ephemeral(&system_random()).unwrap();
        let now = Timestamp::from_unix_seconds(1_763_800_000).unwrap();
        let station = Station::found(&site, &Certname::new("a.lab").unwrap(), &key, now).unwrap();
        (site, key, station)
    }

    #[test]
    fn only_the_reigns_holder_passes() {
        let (site, key, station) = setup();
        let reign = Reign {
            epoch: Epoch(5),
            ..station.reign(&site, &[key.public()]).unwrap()
        };
        let other = SigningKey::ephemeral(&system_random())
            .unwrap()
            .public()
            .id();
        reign.admit(Epoch(5), &key.public().id()).unwrap();
        assert_eq!(
            reign
                .admit(Epoch(4), &key.public().id())
                .unwrap_err()
                .kind(),
            ErrorKind::Fenced
        );
        assert_eq!(
            reign.admit(Epoch(5), &other).unwrap_err().rule(),
            Some("split-reign")
        );
        assert_eq!(
            reign.admit(Epoch(6), &other).unwrap_err().rule(),
            Some("reign-unknown")
        );
    }
}
