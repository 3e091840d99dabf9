//! Reigns: which master rules, since when, and by what right.
//!
//! A reign is (epoch, holder's key id, the record of the reign before). Records are signed by their
//! holder. Role and reign change together, in one file, by one rename. A lower epoch than the known
//! one is fenced; the same epoch with another holder is a split reign, which both sides refuse.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::certname::Certname;
use crate::clock::Timestamp;
use crate::digest::Digest;
use crate::disk::{Attributes, Disk, read_capped};
use crate::document::{self, Domain, Kind};
use crate::error::{Error, ErrorKind, Result};
use crate::generation::Site;
use crate::keys::{KeyId, PublicKey, SigningKey};

/// Counts reigns, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u64);

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
            Standing::Older => Err(Error::new(
                ErrorKind::Fenced,
                format!(
                    "epoch {epoch} has ended: {} reigns with epoch {}",
                    self.certname, self.epoch
                ),
            )
            .hint("this master was replaced; 'pefo demote' makes it the spare of the new one")),
            Standing::Split => Err(Error::refused(
                "split-reign",
                format!(
                    "two holders claim epoch {epoch}: key {} ({}) and key {holder}",
                    self.holder, self.certname
                ),
            )
            .hint("decide which master stays, and run 'pefo promote --epoch-above N' there")),
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
}

/// Role and reign of this host: one file, world-readable, changed by one rename.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Station {
    /// Version of this file's schema: 1.
    pub format: u32,
    /// What this host is.
    pub role: Role,
    /// The signed record of the current reign.
    pub current: String,
    /// The signed record of the reign before.
    pub before: Option<String>,
}

impl Station {
    /// The largest station file.
    pub const MAX_BYTES: u64 = 64 * 1024;

    /// The first reign of a new pair, held by `key`.
    ///
    /// # Errors
    /// `Invalid` where the record cannot be written.
    pub fn found(
        site: &Site,
        certname: &Certname,
        key: &SigningKey,
        now: Timestamp,
    ) -> Result<Self> {
        let reign = Reign {
            format: 1,
            site: site.clone(),
            epoch: Epoch(1),
            holder: key.public().id(),
            certname: certname.clone(),
            since: now,
            before: None,
        };
        let current = document::sign(
            &reign,
            Domain {
                kind: Kind::Reign,
                site,
                dataset: None,
            },
            key,
        )?;
        Self::new(Role::Active, &current, None)
    }

    /// A role under the reign whose signed record is `current`.
    ///
    /// # Errors
    /// `Invalid` where a record is not text.
    pub fn new(role: Role, current: &[u8], before: Option<&[u8]>) -> Result<Self> {
        let text = |bytes: &[u8]| {
            String::from_utf8(bytes.to_vec())
                .map_err(|error| Error::invalid("reign record is not text").with_source(error))
        };
        Ok(Self {
            format: 1,
            role,
            current: text(current)?,
            before: before.map(text).transpose()?,
        })
    }

    /// Reads the file at `path`.
    ///
    /// # Errors
    /// `Io`, or `Invalid` where it is malformed.
    pub fn load(path: &Path) -> Result<Self> {
        let bytes = read_capped(path, Self::MAX_BYTES)?;
        let station: Self = serde_json::from_slice(&bytes).map_err(|error| {
            Error::invalid(format!("{}: {error}", path.display())).with_source(error)
        })?;
        if station.format != 1 {
            return Err(Error::invalid(format!(
                "{}: format {} is newer than this pefo reads",
                path.display(),
                station.format
            )));
        }
        Ok(station)
    }

    /// Replaces the file at `path`.
    ///
    /// # Errors
    /// `Io`.
    pub fn store(&self, disk: &Disk, path: &Path) -> Result<()> {
        let bytes = serde_json::to_vec_pretty(self)
            .map_err(|error| Error::invalid(format!("write station: {error}")))?;
        disk.publish(path, &bytes, &Attributes::mode(0o644))
    }

    /// The current reign, its signature checked.
    ///
    /// # Errors
    /// `Refused` where it is not signed by one of `keys`, or not by its own holder.
    pub fn reign(&self, site: &Site, keys: &[PublicKey]) -> Result<Reign> {
        check(self.current.as_bytes(), site, keys)
    }
}

/// Checks a signed reign record.
///
/// # Errors
/// `Refused` where it is not signed by one of `keys`, or not by its own holder.
pub fn check(record: &[u8], site: &Site, keys: &[PublicKey]) -> Result<Reign> {
    let unchecked = document::split(record)?;
    let reign: Reign = unchecked.check(
        Domain {
            kind: Kind::Reign,
            site,
            dataset: None,
        },
        keys,
    )?;
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

    #[test]
    fn role_and_reign_are_stored_together_and_read_back() {
        let (site, key, station) = setup();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("station.json");
        station.store(&Disk::new(), &path).unwrap();
        let read = Station::load(&path).unwrap();
        assert_eq!(read, station);
        assert_eq!(read.reign(&site, &[key.public()]).unwrap().epoch, Epoch(1));
        let stranger = SigningKey::ephemeral(&system_random()).unwrap().public();
        assert!(read.reign(&site, &[stranger]).unwrap_err().is_refusal());
    }
}
