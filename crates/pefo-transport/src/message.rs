//! What the frames carry.
//!
//! Control bodies are JSON objects. A reader ignores fields it does not know (a newer peer may add
//! some that an older one can do without; whatever it can't do without is a capability). Names of
//! sites, masters, data sets and positions are pefo-core's types, so that a malformed one never gets
//! past decoding. Texts for people come from the peer: [`Refuse::into_error`] strips and cuts them.

mod ask;
mod capability;
mod refuse;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use pefo_core::clock::Timestamp;
use pefo_core::generation::spool::Form;
use pefo_core::generation::{DataSet, Position, Site};
use pefo_core::reign::Role;
use pefo_core::{Certname, Error, Result};
use serde::{Deserialize, Serialize};

pub use ask::{AnswerHead, AnswerQuery, Ask};
pub use capability::Capabilities;
pub(crate) use refuse::plain;
pub use refuse::{RETRY_RULE, Refuse};

/// The oldest protocol this version speaks.
pub const PROTOCOL_MIN: u16 = 1;
/// The newest protocol this version speaks.
pub const PROTOCOL_MAX: u16 = 1;

/// A range of protocol versions, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Protocols {
    /// The oldest.
    pub min: u16,
    /// The newest.
    pub max: u16,
}

impl Protocols {
    /// What this version speaks.
    pub const OURS: Self = Self {
        min: PROTOCOL_MIN,
        max: PROTOCOL_MAX,
    };

    /// The newest version that both ranges have.
    pub fn common(self, other: Self) -> Option<u16> {
        let newest = self.max.min(other.max);
        (newest >= self.min.max(other.min)).then_some(newest)
    }
}

impl fmt::Display for Protocols {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.min == self.max {
            write!(f, "{}", self.min)
        } else {
            write!(f, "{} to {}", self.min, self.max)
        }
    }
}

/// What a session is for: a data set's kind, `acks` or `ask`; 1 to 32 of a-z and `-`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Purpose(String);

impl Purpose {
    /// Pushes of a data set: `ca`, `nc`, `db` (all databases), `files` or `code`.
    pub fn of(dataset: &DataSet) -> Self {
        Self(
            match dataset {
                DataSet::Ca => "ca",
                DataSet::Classifier => "nc",
                DataSet::Database(_) => "db",
                DataSet::Files => "files",
                DataSet::Code => "code",
            }
            .to_owned(),
        )
    }

    /// Reading acks only.
    pub fn acks() -> Self {
        Self("acks".to_owned())
    }

    /// Asking for the peer's role and reign: the one purpose for which the receiver greets back
    /// whatever reign it is told, so that a master of an ended reign can learn who reigns now.
    pub fn ask() -> Self {
        Self("ask".to_owned())
    }

    /// The purpose as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Purpose {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let plain = text.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
        if plain && (1..=32).contains(&text.len()) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Error::invalid(format!("{text:?} is no session's purpose")))
        }
    }
}

impl TryFrom<String> for Purpose {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Purpose> for String {
    fn from(purpose: Purpose) -> Self {
        purpose.0
    }
}

/// The sender's first frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The protocols it speaks. This and `tool` are read before all the rest, by every version.
    pub protocol: Protocols,
    /// Its pefo, such as `pefo 0.1.0`.
    pub tool: String,
    /// The pair it belongs to.
    pub site: Site,
    /// Its certname.
    pub certname: Certname,
    /// Its role.
    pub role: Role,
    /// What the session is for.
    pub purpose: Purpose,
    /// The signed record of the reign it lives under.
    pub reign: String,
    /// What it can do beyond the protocol's base.
    pub capabilities: Vec<String>,
}

/// The part of [`Hello`] that every version can read.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct HelloHead {
    pub(crate) protocol: Protocols,
    pub(crate) tool: String,
}

/// The receiver's answer to [`Hello`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The protocol that both will speak.
    pub protocol: u16,
    /// The receiver's pefo.
    pub tool: String,
    /// The pair it belongs to.
    pub site: Site,
    /// Its certname.
    pub certname: Certname,
    /// Its role.
    pub role: Role,
    /// The signed record of the reign it lives under.
    pub reign: String,
    /// What it can do beyond the protocol's base.
    pub capabilities: Vec<String>,
    /// What time it is, by the receiver's clock; one that does not say does as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Timestamp>,
}

/// A generation's form, as the wire names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shape {
    /// A whole state.
    Full,
    /// A step from one state to the next.
    Batch,
}

impl From<Shape> for Form {
    fn from(shape: Shape) -> Self {
        match shape {
            Shape::Full => Self::Full,
            Shape::Batch => Self::Batch,
        }
    }
}

/// The sender has a generation; its signed manifest follows in Data frames.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// The data set it is a step of.
    pub dataset: DataSet,
    /// Where it stands in the data set's order.
    pub position: Position,
    /// Whole, or a step.
    pub form: Shape,
    /// Bytes of the signed manifest.
    pub document_bytes: u64,
    /// Files that the manifest lists; 0 for a batch.
    pub files: u32,
    /// Bytes of all files, or of the batch's payload, as stored.
    pub payload_bytes: u64,
}

impl Offer {
    /// Whether the receiver says first what it needs of a batch's payload.
    pub fn is_asked(&self, agreed: Capabilities) -> bool {
        self.form == Shape::Batch
            && agreed.ask
            && self.payload_bytes > crate::session::EAGER_BATCH_BYTES
    }
}

/// What the receiver wants of an offered full generation, or of a long batch's payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Need {
    /// Nothing at all: this very generation stands in the spool.
    Already,
    /// The files whose bit is set; the others it has.
    Files(Wanted),
}

/// One bit for each file of a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    bits: Vec<u8>,
}

impl Wanted {
    /// None of `files` files.
    pub fn none(files: u32) -> Self {
        Self {
            bits: vec![0; Self::bytes(files)],
        }
    }

    /// Bytes that `files` bits take.
    pub(crate) fn bytes(files: u32) -> usize {
        usize::try_from(files.div_ceil(8)).unwrap_or(usize::MAX)
    }

    pub(crate) fn from_bits(bits: Vec<u8>) -> Self {
        Self { bits }
    }

    pub(crate) fn bits(&self) -> &[u8] {
        &self.bits
    }

    /// Wants the file at `index`; beyond the last file it does nothing.
    pub fn want(&mut self, index: u32) {
        let byte = usize::try_from(index / 8).unwrap_or(usize::MAX);
        if let Some(byte) = self.bits.get_mut(byte) {
            *byte |= 1 << (index % 8);
        }
    }

    /// Whether the file at `index` is wanted.
    pub fn contains(&self, index: u32) -> bool {
        let byte = usize::try_from(index / 8).unwrap_or(usize::MAX);
        self.bits
            .get(byte)
            .is_some_and(|byte| byte & (1 << (index % 8)) != 0)
    }

    /// The wanted indices, ascending.
    pub fn indices(&self) -> impl Iterator<Item = u32> + '_ {
        (0_u32..)
            .take(self.bits.len().saturating_mul(8))
            .filter(|index| self.contains(*index))
    }

    /// Whether it fits a manifest of `files` files: the right length, and no bit beyond the last.
    pub fn fits(&self, files: u32) -> bool {
        self.bits.len() == Self::bytes(files) && self.indices().all(|index| index < files)
    }
}

/// One file's content follows in Data frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileHead {
    /// Its place in the manifest's list, from 0.
    pub index: u32,
    /// Its bytes.
    pub size: u64,
}

/// The generation stands in the spool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// Which.
    pub position: Position,
    /// Whether it stood there before.
    pub already: bool,
}

/// Asks for the acks of some data sets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcksQuery {
    /// At most [`AcksQuery::MAX`].
    pub datasets: Vec<DataSet>,
}

impl AcksQuery {
    /// The most data sets in one question.
    pub const MAX: usize = 256;
}

/// The acks there are, as the passive's root signed them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AckSet {
    /// The signed documents; a data set without an ack is left out.
    pub documents: BTreeMap<DataSet, String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_meet_at_the_newest_common_one() {
        let range = |min, max| Protocols { min, max };
        assert_eq!(range(1, 2).common(range(2, 3)), Some(2));
        assert_eq!(range(1, 4).common(range(2, 3)), Some(3));
        assert_eq!(range(1, 1).common(range(2, 3)), None);
        assert_eq!(range(4, 5).common(range(2, 3)), None);
    }

    #[test]
    fn what_is_wanted_is_what_was_asked_for() {
        let mut wanted = Wanted::none(10);
        assert!(wanted.fits(10));
        wanted.want(0);
        wanted.want(9);
        assert_eq!(wanted.indices().collect::<Vec<_>>(), [0, 9]);
        assert!(wanted.fits(10) && !wanted.fits(9) && !wanted.fits(17));
        assert!(!Wanted::none(8).contains(8));
    }
}
