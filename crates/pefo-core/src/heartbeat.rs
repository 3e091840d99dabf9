//! Heartbeats: the active says, signed, what the newest generation of each data set is.
//!
//! The passive's lag is the age of the newest heartbeat whose heads it has applied: an idle CA has no
//! lag, a silent active has.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::certname::Certname;
use crate::clock::Timestamp;
use crate::document::{self, Domain, Kind};
use crate::error::{Error, Result};
use crate::generation::{DataSet, Position, Site};
use crate::keys::{KeyId, PublicKey, SigningKey};
use crate::reign::Epoch;

/// What the active's data sets have come to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Heartbeat {
    /// Version of this record's schema: 1.
    pub format: u32,
    /// The pair it is about.
    pub site: Site,
    /// Who says so.
    pub certname: Certname,
    /// The reign under which it is said.
    pub epoch: Epoch,
    /// The reign's holder.
    pub holder: KeyId,
    /// The newest generation of each data set.
    pub heads: BTreeMap<DataSet, Position>,
    /// When, by the active's clock.
    pub time: Timestamp,
}

impl Heartbeat {
    /// The largest signed heartbeat.
    pub const MAX_BYTES: u64 = 64 * 1024;

    /// Signs it.
    ///
    /// # Errors
    /// `Invalid`, where it cannot be written.
    pub fn sign(&self, key: &SigningKey) -> Result<Vec<u8>> {
        document::sign(
            self,
            Domain {
                kind: Kind::Heartbeat,
                site: &self.site,
                dataset: None,
            },
            key,
        )
    }

    /// Checks a signed heartbeat.
    ///
    /// # Errors
    /// `Refused` where it is not signed by one of `keys` for this site.
    pub fn check(bytes: &[u8], site: &Site, keys: &[PublicKey]) -> Result<Self> {
        let unchecked = document::split(bytes)?;
        let heartbeat: Self = unchecked.check(
            Domain {
                kind: Kind::Heartbeat,
                site,
                dataset: None,
            },
            keys,
        )?;
        if heartbeat.format != 1
            || heartbeat.site != *site
            || heartbeat.holder != *unchecked.signer()
        {
            return Err(Error::refused(
                "heartbeat-record",
                "the heartbeat is of another site, holder or format",
            ));
        }
        Ok(heartbeat)
    }
}
