//! Acks: what the passive's root says, signed, that it has applied.
//!
//! Published below root's state directory, one file a data set, world-readable; the receiver only
//! relays it. Everything the active shows as *applied* rests on it.

use serde::{Deserialize, Serialize};

use crate::certname::Certname;
use crate::clock::Timestamp;
use crate::digest::Digest;
use crate::document::{self, Domain, Kind};
use crate::error::{Error, Result};
use crate::generation::{DataSet, Position, Site};
use crate::keys::{PublicKey, SigningKey};

/// What the passive has done with a data set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ack {
    /// Version of this record's schema: 1.
    pub format: u32,
    /// The pair it is about.
    pub site: Site,
    /// Who applied.
    pub certname: Certname,
    /// The data set it is about.
    pub dataset: DataSet,
    /// The newest generation that was verified and accepted.
    pub accepted: Option<Position>,
    /// The newest generation that was applied.
    pub applied: Option<Position>,
    /// The source's state as accepted: what the next batch must start from.
    pub source_state: Option<Digest>,
    /// Why a full generation is needed, where one is.
    pub reconcile: Option<String>,
    /// What kept the newest generation from being applied whole: the rules' names.
    pub refused: Vec<String>,
    /// When the newest heartbeat seen was made, by the active's clock.
    pub heartbeat: Option<Timestamp>,
    /// When this was said, by the passive's clock.
    pub time: Timestamp,
}

impl Ack {
    /// The largest signed ack.
    pub const MAX_BYTES: u64 = 64 * 1024;

    /// Signs it.
    ///
    /// # Errors
    /// `Invalid`, where it cannot be written.
    pub fn sign(&self, key: &SigningKey) -> Result<Vec<u8>> {
        document::sign(
            self,
            Domain {
                kind: Kind::Ack,
                site: &self.site,
                dataset: Some(&self.dataset),
            },
            key,
        )
    }

    /// Checks a signed ack about `dataset`.
    ///
    /// # Errors
    /// `Refused` where it is not signed by one of `keys` for this site and data set.
    pub fn check(bytes: &[u8], site: &Site, dataset: &DataSet, keys: &[PublicKey]) -> Result<Self> {
        let ack: Self = document::split(bytes)?.check(
            Domain {
                kind: Kind::Ack,
                site,
                dataset: Some(dataset),
            },
            keys,
        )?;
        if ack.format != 1 || ack.site != *site || ack.dataset != *dataset {
            return Err(Error::refused(
                "ack-record",
                "the ack is of another site, data set or format",
            ));
        }
        Ok(ack)
    }
}
