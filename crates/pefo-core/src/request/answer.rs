//! What the spare's root answers to a request.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Nonce, Request, bounded};
use crate::certname::Certname;
use crate::clock::Timestamp;
use crate::digest::Digest;
use crate::document::{self, Domain, Kind};
use crate::error::{Error, Result};
use crate::generation::{DataSet, Position, Site};
use crate::keys::{PublicKey, SigningKey};
use crate::path::RelPath;

/// What the spare's root says to one request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// Version of this record's schema: 1.
    pub format: u32,
    /// The pair it is about.
    pub site: Site,
    /// Who answers.
    pub certname: Certname,
    /// The request's nonce.
    pub nonce: Nonce,
    /// The digest of the whole signed request.
    pub request: Digest,
    /// When, by the spare's clock.
    pub time: Timestamp,
    /// What it says.
    pub outcome: Outcome,
}

/// How a request ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Outcome {
    /// What root holds of a data set.
    Items(Items),
    /// What this host has of a data set that the asker's generations do not.
    Brought(Brought),
    /// It was done.
    Done,
    /// It was not.
    Refused {
        /// The rule that said no.
        rule: String,
        /// What, where, why.
        message: String,
        /// What to do next.
        hint: Option<String>,
    },
}

impl Outcome {
    /// Says no for the reason of `error`.
    pub fn refused(error: &Error) -> Self {
        Self::Refused {
            rule: error
                .rule()
                .unwrap_or_else(|| error.kind().name())
                .to_owned(),
            message: error.message().to_owned(),
            hint: error.hint_text().map(str::to_owned),
        }
    }
}

/// What root holds of a data set, as it reads there now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Items {
    /// The data set.
    pub dataset: DataSet,
    /// The newest generation that was accepted.
    pub position: Position,
    /// The digest of all items with their modes ([`crate::digest::StateHash`]): equal to the generation's
    /// own state where nothing has changed since.
    pub state: Digest,
    /// The digest of each item's plain content.
    pub items: BTreeMap<RelPath, Digest>,
    /// How many more there are than an answer can hold, in the names' order after those that are here.
    pub left_out: u64,
}

impl Items {
    /// Bytes of an answer that are kept for what is not an item.
    const HEAD_BYTES: u64 = 16 * 1024;
    /// What an item takes beyond its name: quotes, colon, comma and a digest.
    const ITEM_BYTES: u64 = 64 + 6;

    /// As many of `items` as an answer holds, in order; the rest is counted.
    pub fn of(
        dataset: DataSet,
        position: Position,
        state: Digest,
        items: BTreeMap<RelPath, Digest>,
    ) -> Self {
        Self::within(Answer::MAX_BYTES, dataset, position, state, items)
    }

    pub(super) fn within(
        max_bytes: u64,
        dataset: DataSet,
        position: Position,
        state: Digest,
        items: BTreeMap<RelPath, Digest>,
    ) -> Self {
        let all = items.len() as u64;
        let mut room = max_bytes.saturating_sub(Self::HEAD_BYTES);
        let fits = |(name, _): &(RelPath, Digest)| {
            // JSON writes two bytes for a quote; a path has nothing else that it would write longer.
            let quotes = name.as_str().bytes().filter(|byte| *byte == b'"').count();
            let bytes = (name.as_str().len() + quotes) as u64 + Self::ITEM_BYTES;
            match room.checked_sub(bytes) {
                Some(left) => {
                    room = left;
                    true
                }
                None => false,
            }
        };
        let items: BTreeMap<RelPath, Digest> = items.into_iter().take_while(fits).collect();
        Self {
            dataset,
            position,
            state,
            left_out: all - items.len() as u64,
            items,
        }
    }
}

/// What this host has of a data set, compared with the newest generation it accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Brought {
    /// The data set.
    pub dataset: DataSet,
    /// The generation it was compared with.
    pub position: Position,
    /// The files that are other ones there, or not there at all. They are readable for everybody on their way.
    pub files: BTreeMap<RelPath, BroughtFile>,
}

/// One file that is brought.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BroughtFile {
    /// Its permission bits.
    pub mode: u32,
    /// Its content.
    #[serde(with = "base64_text")]
    pub bytes: Vec<u8>,
}

mod base64_text {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize as _, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(from)?;
        STANDARD.decode(text).map_err(de::Error::custom)
    }
}

impl Brought {
    /// Whether an answer can carry it.
    ///
    /// # Errors
    /// `Refused` (`answer-size`).
    pub fn fits(&self) -> Result<()> {
        let sizes = self.files.iter().map(|(path, file)| {
            // Four characters for three bytes, and what stands around them.
            path.as_str().len() as u64 + file.bytes.len() as u64 / 3 * 4 + 64
        });
        let size: u64 = sizes.sum();
        if size <= Answer::MAX_BYTES - Items::HEAD_BYTES {
            return Ok(());
        }
        let message = format!(
            "{} differs by {size} bytes, more than one answer carries",
            self.dataset
        );
        Err(Error::refused("answer-size", message)
            .hint("is it the same CA at all? 'pefo ca verify' there says what differs"))
    }
}

impl Answer {
    /// The largest signed answer.
    pub const MAX_BYTES: u64 = 64 << 20;

    /// An answer to `request`, whose signed bytes are `document`.
    pub fn to(
        request: &Request,
        document: &[u8],
        certname: Certname,
        time: Timestamp,
        outcome: Outcome,
    ) -> Self {
        Self {
            format: 1,
            site: request.site.clone(),
            certname,
            nonce: request.nonce.clone(),
            request: Digest::of(document),
            time,
            outcome,
        }
    }

    fn domain(request: &Request) -> Domain<'_> {
        Domain {
            kind: Kind::Answer,
            site: &request.site,
            dataset: request.subject.dataset(),
        }
    }

    /// Signs an answer to `request`.
    ///
    /// # Errors
    /// `Invalid`, where it cannot be written or is larger than [`Answer::MAX_BYTES`].
    pub fn sign(&self, request: &Request, key: &SigningKey) -> Result<Vec<u8>> {
        let document = document::sign(self, Self::domain(request), key)?;
        bounded(&document, Self::MAX_BYTES, "answer")?;
        Ok(document)
    }

    /// Checks a signed answer to `request`, whose signed bytes were `document`.
    ///
    /// # Errors
    /// `Refused` where it is not signed by one of `keys` for this site and data set (`signature`, …), or
    /// answers another request (`answer-request`); `Invalid` where it is malformed or larger than
    /// [`Answer::MAX_BYTES`].
    pub fn check(
        bytes: &[u8],
        request: &Request,
        document: &[u8],
        keys: &[PublicKey],
    ) -> Result<Self> {
        bounded(bytes, Self::MAX_BYTES, "answer")?;
        let answer: Self = document::split(bytes)?.check(Self::domain(request), keys)?;
        if answer.format != 1 || answer.site != request.site {
            return Err(Error::refused(
                "answer-record",
                "the answer is of another site or format",
            ));
        }
        if answer.nonce != request.nonce || answer.request != Digest::of(document) {
            return Err(Error::refused(
                "answer-request",
                format!(
                    "the answer of {} is not to request {}",
                    answer.certname, request.nonce
                ),
            )
            .hint("an older answer was given instead: ask again"));
        }
        let about = match &answer.outcome {
            Outcome::Items(items) => &items.dataset,
            Outcome::Brought(brought) => &brought.dataset,
            Outcome::Done | Outcome::Refused { .. } => return Ok(answer),
        };
        if Some(about) == request.subject.dataset() {
            return Ok(answer);
        }
        Err(Error::refused(
            "answer-record",
            format!("the answer is about {about}"),
        ))
    }
}
