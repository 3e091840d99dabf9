//! Requests: what the active asks of its spare's root, signed, and what that root answers, signed.
//!
//! Nobody reaches root over the line. A request is put into the spool by the receiver, root reads it
//! there when it next runs, and publishes its answer below its own state directory, where the receiver
//! may only read it. So neither the line nor the transfer account can ask for anything in the active's
//! name, or answer in root's: they can delay, no more.
//!
//! What it guarantees: a checked [`Request`] was signed by the holder of the reign it names. A checked
//! [`Answer`] was given to just this request, byte for byte, by a paired key: it names the request's
//! digest, so that an old answer fits no new request. A [`Nonce`] is 32 hex digits and safe as a file
//! name. What it does not do: tell a new request from an old one that is sent again; whoever acts on one
//! knows by its nonce what was answered already.

mod answer;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use answer::{Answer, Brought, BroughtFile, Items, Outcome};

use crate::certname::Certname;
use crate::clock::Timestamp;
use crate::document::{self, Domain, Kind};
use crate::error::{Error, Result};
use crate::generation::{DataSet, Position, Site};
use crate::keys::{KeyId, PublicKey, SigningKey};
use crate::reign::Epoch;

/// Names one request: 32 lower-case hex digits, never used twice.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Nonce(String);

impl Nonce {
    /// Parses a nonce.
    ///
    /// # Errors
    /// `Invalid`.
    pub fn new(text: impl Into<String>) -> Result<Self> {
        let text = text.into();
        if text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            Ok(Self(text))
        } else {
            Err(Error::invalid(format!(
                "nonce {text:?} is not 32 lower-case hex digits"
            )))
        }
    }

    /// From 16 random bytes.
    pub fn from_random(bytes: [u8; 16]) -> Self {
        Self(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// The nonce as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Nonce {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        Self::new(text)
    }
}

impl TryFrom<String> for Nonce {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        Self::new(text)
    }
}

impl From<Nonce> for String {
    fn from(nonce: Nonce) -> Self {
        nonce.0
    }
}

/// Something that only the spare's root can do or tell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// Version of this record's schema: 1.
    pub format: u32,
    /// The pair it is about.
    pub site: Site,
    /// Who asks.
    pub certname: Certname,
    /// The reign under which it is asked.
    pub epoch: Epoch,
    /// The reign's holder, who signs.
    pub holder: KeyId,
    /// Names this request.
    pub nonce: Nonce,
    /// When, by the active's clock.
    pub time: Timestamp,
    /// What is asked for.
    pub subject: Subject,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Subject {
    /// What root holds of a data set, item by item.
    Verify {
        /// The data set.
        dataset: DataSet,
    },
    /// An ack that wants a full generation.
    Reconcile {
        /// The data set.
        dataset: DataSet,
    },
    /// What this host has of a data set that the asker's generations do not: the files themselves.
    Bring {
        /// The data set.
        dataset: DataSet,
    },
    /// A step of handing the reign over.
    Switchover(Switchover),
}

impl Subject {
    /// The data set it is about, where it is about one.
    pub fn dataset(&self) -> Option<&DataSet> {
        match self {
            Self::Verify { dataset } | Self::Reconcile { dataset } | Self::Bring { dataset } => {
                Some(dataset)
            }
            Self::Switchover(_) => None,
        }
    }
}

/// A step of handing the reign over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Switchover {
    /// The active makes nothing more: apply up to these generations and say when that is done.
    Prepare {
        /// The last generation of each data set.
        heads: BTreeMap<DataSet, Position>,
    },
    /// Take the reign.
    Commit {
        /// The nonce of the request that prepared it: a commit never belongs to another one.
        prepared: Nonce,
    },
    /// Stay what you are; the active goes on.
    Cancel {
        /// The nonce of the request that prepared it.
        prepared: Nonce,
    },
}

impl Request {
    /// The largest signed request.
    pub const MAX_BYTES: u64 = 64 * 1024;

    fn domain(site: &Site) -> Domain<'_> {
        Domain {
            kind: Kind::Request,
            site,
            // Which data set it is about is not known before it is read.
            dataset: None,
        }
    }

    /// Signs it.
    ///
    /// # Errors
    /// `Invalid`, where it cannot be written or is larger than [`Request::MAX_BYTES`].
    pub fn sign(&self, key: &SigningKey) -> Result<Vec<u8>> {
        let document = document::sign(self, Self::domain(&self.site), key)?;
        bounded(&document, Self::MAX_BYTES, "request")?;
        Ok(document)
    }

    /// Checks a signed request.
    ///
    /// # Errors
    /// `Refused` where it is not signed by one of `keys`, by its own holder and for this site; `Invalid`
    /// where it is malformed or larger than [`Request::MAX_BYTES`].
    pub fn check(bytes: &[u8], site: &Site, keys: &[PublicKey]) -> Result<Self> {
        bounded(bytes, Self::MAX_BYTES, "request")?;
        let unchecked = document::split(bytes)?;
        let request: Self = unchecked.check(Self::domain(site), keys)?;
        if request.format != 1 || request.site != *site || request.holder != *unchecked.signer() {
            return Err(Error::refused(
                "request-record",
                "the request is of another site, holder or format",
            ));
        }
        Ok(request)
    }
}

fn bounded(bytes: &[u8], max_bytes: u64, what: &str) -> Result<()> {
    if bytes.len() as u64 <= max_bytes {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "the {what} of {} bytes is longer than {max_bytes}",
        bytes.len()
    )))
}

#[cfg(test)]
mod tests;
