//! What this host is: its role and reign, what has come between, and a change that has begun.
//!
//! One file, world-readable for the receiver, changed by one rename. What it guarantees: a host does its part
//! ([`Station::in_force`]) only under the newest reign that it knows of, and not while its role is changing.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Epoch, Reign, Role, Standing, check, split};
use crate::certname::Certname;
use crate::clock::Timestamp;
use crate::digest::Digest;
use crate::disk::{Attributes, Disk, read_capped};
use crate::error::{Error, ErrorKind, Result};
use crate::generation::Site;
use crate::keys::{PublicKey, SigningKey};

/// Role and reign of this host.
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
    /// The signed record of another reign, newer or as new, that this host knows of and does not live under:
    /// until that is settled it does nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rival: Option<String>,
    /// A change of role that has begun: until it has ended nothing is taken and nothing given out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changing: Option<Changing>,
}

/// A change of role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Changing {
    /// What this host will be.
    pub to: Role,
    /// The reign under which it will be that.
    pub epoch: Epoch,
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
        Self::new(Role::Active, &reign.sign(key)?, None)
    }

    /// A role under the reign whose signed record is `current`.
    ///
    /// # Errors
    /// `Invalid` where a record is not text.
    pub fn new(role: Role, current: &[u8], before: Option<&[u8]>) -> Result<Self> {
        Ok(Self {
            format: 1,
            role,
            current: text(current)?,
            before: before.map(text).transpose()?,
            rival: None,
            changing: None,
        })
    }

    /// The signed record of a reign of `key`'s that follows the current one, at `epoch`.
    ///
    /// # Errors
    /// `Invalid` where the record cannot be written.
    pub fn successor(
        &self,
        site: &Site,
        certname: &Certname,
        key: &SigningKey,
        epoch: Epoch,
        now: Timestamp,
    ) -> Result<Vec<u8>> {
        let reign = Reign {
            format: 1,
            site: site.clone(),
            epoch,
            holder: key.public().id(),
            certname: certname.clone(),
            since: now,
            before: Some(Digest::of(self.current.as_bytes())),
        };
        reign.sign(key)
    }

    /// The same host with another role under another reign: whatever stood in its way is over.
    ///
    /// # Errors
    /// `Invalid` where the record is not text.
    pub fn under(&self, role: Role, record: &[u8]) -> Result<Self> {
        Self::new(role, record, Some(self.current.as_bytes()))
    }

    /// The same station, its role about to change.
    #[must_use]
    pub fn about_to(mut self, to: Role, epoch: Epoch) -> Self {
        self.changing = Some(Changing { to, epoch });
        self
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

    /// The other reign that stands in this host's way, its signature checked; `None` where there is none.
    ///
    /// # Errors
    /// As [`Station::reign`].
    pub fn rival(&self, site: &Site, keys: &[PublicKey]) -> Result<Option<Reign>> {
        let rival = self.rival.as_deref();
        rival
            .map(|record| check(record.as_bytes(), site, keys))
            .transpose()
    }

    /// The reign under which this host does its part.
    ///
    /// # Errors
    /// `Fenced` where a newer reign has ended it, or while this host's role is changing; `Refused`
    /// (`split-reign`) where another host holds the same epoch; as [`Station::reign`].
    pub fn in_force(&self, site: &Site, keys: &[PublicKey]) -> Result<Reign> {
        let reign = self.reign(site, keys)?;
        if let Some(changing) = self.changing {
            return Err(changing.error());
        }
        let Some(rival) = self.rival(site, keys)? else {
            return Ok(reign);
        };
        match reign.standing_of(rival.epoch, &rival.holder) {
            Standing::Newer => Err(rival.has_ended(reign.epoch)),
            Standing::Split => Err(split(
                reign.epoch,
                reign.certname.as_str(),
                rival.certname.as_str(),
            )),
            Standing::Same | Standing::Older => Ok(reign),
        }
    }
}

impl Changing {
    fn error(self) -> Error {
        let message = format!(
            "this host is about to be the {} in epoch {}, and does nothing else meanwhile",
            self.to, self.epoch
        );
        Error::new(ErrorKind::Fenced, message).hint(match self.to {
            Role::Active => "where that was broken off, run 'pefo promote' again: it goes on",
            Role::Passive => "where that was broken off, run 'pefo switchover' again: it goes on",
        })
    }
}

fn text(bytes: &[u8]) -> Result<String> {
    String::from_utf8(bytes.to_vec())
        .map_err(|error| Error::invalid("reign record is not text").with_source(error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::system_random;

    struct Host {
        name: Certname,
        key: SigningKey,
    }

    fn host(name: &str) -> Host {
        Host {
            name: Certname::new(name).unwrap(),
            key: SigningKey::ephemeral(&system_random()).unwrap(),
        }
    }

    fn site() -> Site {
        Site::new("0123456789abcdef0123456789abcdef").unwrap()
    }

    fn now() -> Timestamp {
        Timestamp::from_unix_seconds(1_763_800_000).unwrap()
    }

    fn successor(station: &Station, of: &Host, epoch: u64) -> Vec<u8> {
        station
            .successor(&site(), &of.name, &of.key, Epoch(epoch), now())
            .unwrap()
    }

    #[test]
    fn role_and_reign_are_stored_together_and_read_back() {
        let a = host("a.lab");
        let station = Station::found(&site(), &a.name, &a.key, now()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("station.json");
        let changing = station.clone().about_to(Role::Passive, Epoch(2));
        for station in [station, changing] {
            station.store(&Disk::new(), &path).unwrap();
            let read = Station::load(&path).unwrap();
            assert_eq!(read, station);
            let reign = read.reign(&site(), &[a.key.public()]).unwrap();
            assert_eq!(reign.epoch, Epoch(1));
            let stranger = host("x.lab").key.public();
            assert!(read.reign(&site(), &[stranger]).unwrap_err().is_refusal());
        }
    }

    #[test]
    fn a_host_does_its_part_under_the_newest_reign_it_knows_of_only() {
        let (a, b) = (host("a.lab"), host("b.lab"));
        let keys = [a.key.public(), b.key.public()];
        let station = Station::found(&site(), &a.name, &a.key, now()).unwrap();
        let in_force = |station: &Station| station.in_force(&site(), &keys);
        assert_eq!(in_force(&station).unwrap().epoch, Epoch(1));

        let mut ended = station.clone();
        ended.rival = Some(text(&successor(&station, &b, 2)).unwrap());
        let error = in_force(&ended).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Fenced);
        assert!(error.message().contains("b.lab reigns with epoch 2"));

        let mut split = station.clone();
        split.rival = Some(text(&successor(&station, &b, 1)).unwrap());
        let error = in_force(&split).unwrap_err();
        assert_eq!(error.rule(), Some("split-reign"));
        assert!(error.message().contains("a.lab and b.lab"), "{error}");
        assert!(error.hint_text().unwrap().contains("--epoch-above 1"));

        let above = split
            .under(Role::Active, &successor(&split, &a, 3))
            .unwrap();
        assert_eq!(in_force(&above).unwrap().epoch, Epoch(3));
        assert_eq!(above.before, Some(split.current));
    }

    #[test]
    fn while_its_role_changes_a_host_does_nothing() {
        let (a, b) = (host("a.lab"), host("b.lab"));
        let keys = [a.key.public(), b.key.public()];
        let station = Station::found(&site(), &a.name, &a.key, now()).unwrap();
        let changing = station.clone().about_to(Role::Active, Epoch(2));
        let error = changing.in_force(&site(), &keys).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Fenced);
        assert!(error.hint_text().unwrap().contains("pefo promote"));
        // Whom it lives under is known all the while.
        assert_eq!(changing.reign(&site(), &keys).unwrap().epoch, Epoch(1));
    }

    #[test]
    fn a_reign_follows_the_one_whose_record_it_names() {
        let (a, b) = (host("a.lab"), host("b.lab"));
        let first = Station::found(&site(), &a.name, &a.key, now()).unwrap();
        let second = first
            .under(Role::Active, &successor(&first, &b, 2))
            .unwrap();
        let reign = second.reign(&site(), &[b.key.public()]).unwrap();
        assert!(reign.follows(first.current.as_bytes()));
        assert!(!reign.follows(second.current.as_bytes()));
    }
}
