//! Signed documents: manifests, reigns, acks, heartbeats, requests, answers.
//!
//! A stored document is
//!
//! ```text
//! pefo-document 1 KIND\n
//! KEY-ID SIGNATURE-IN-BASE64\n
//! BODY (JSON, to the end)
//! ```
//!
//! The signature covers the exact stored bytes of the body, separated by domain: format version,
//! kind, site and data set, each with its length, so that no document can stand for another kind,
//! site or data set. What is not signed by a key we pinned is never parsed.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::generation::{DataSet, Site};
use crate::keys::{KeyId, PublicKey, SigningKey};

/// What a document is; part of what its signature covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// A generation's manifest.
    Manifest,
    /// A reign record.
    Reign,
    /// A passive's ack.
    Ack,
    /// An active's heartbeat.
    Heartbeat,
    /// What an active asks of its spare's root.
    Request,
    /// What that root answers.
    Answer,
}

impl Kind {
    /// The name in the document's first line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Manifest => "manifest",
            Self::Reign => "reign",
            Self::Ack => "ack",
            Self::Heartbeat => "heartbeat",
            Self::Request => "request",
            Self::Answer => "answer",
        }
    }
}

/// What a signature is bound to besides the body.
#[derive(Debug, Clone, Copy)]
pub struct Domain<'a> {
    /// What the document is.
    pub kind: Kind,
    /// The pair it belongs to.
    pub site: &'a Site,
    /// The data set; `None` for documents about all of them.
    pub dataset: Option<&'a DataSet>,
}

impl Domain<'_> {
    fn message(&self, body: &[u8]) -> Vec<u8> {
        let dataset = self.dataset.map(ToString::to_string).unwrap_or_default();
        let mut message = b"pefo-document 1\0".to_vec();
        for part in [self.kind.name(), self.site.as_str(), &dataset] {
            message.extend_from_slice(&(part.len() as u64).to_le_bytes());
            message.extend_from_slice(part.as_bytes());
        }
        message.extend_from_slice(body);
        message
    }
}

/// A document's parts, not yet checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unchecked<'a> {
    kind: &'a str,
    signer: KeyId,
    signature: Vec<u8>,
    body: &'a [u8],
}

/// Signs `value` as JSON and gives the document's bytes.
///
/// # Errors
/// `Invalid` where `value` cannot be written as JSON.
pub fn sign<T: Serialize>(value: &T, domain: Domain<'_>, key: &SigningKey) -> Result<Vec<u8>> {
    let body = serde_json::to_vec(value).map_err(|error| {
        Error::invalid(format!("write {}: {error}", domain.kind.name())).with_source(error)
    })?;
    let signature = STANDARD_NO_PAD.encode(key.sign(&domain.message(&body)));
    let mut bytes = format!(
        "pefo-document 1 {}\n{} {signature}\n",
        domain.kind.name(),
        key.public().id()
    )
    .into_bytes();
    bytes.extend_from_slice(&body);
    Ok(bytes)
}

/// Splits a document without believing it.
///
/// # Errors
/// `Invalid`, where it is no document or of a format this version does not read.
pub fn split(bytes: &[u8]) -> Result<Unchecked<'_>> {
    let bad = |what: &str| Error::invalid(format!("not a signed document: {what}"));
    let (head, rest) = split_line(bytes).ok_or_else(|| bad("no first line"))?;
    let (signed, body) = split_line(rest).ok_or_else(|| bad("no signature line"))?;
    let mut words = head.split(' ');
    match (words.next(), words.next()) {
        (Some("pefo-document"), Some("1")) => {}
        (Some("pefo-document"), Some(version)) => {
            return Err(Error::invalid(format!(
                "document format {version:?} is newer than this pefo reads"
            ))
            .hint("upgrade pefo on this host"));
        }
        _ => return Err(bad("the first line is not 'pefo-document 1 KIND'")),
    }
    let kind = words.next().ok_or_else(|| bad("no kind"))?;
    if words.next().is_some() {
        return Err(bad("words follow its kind"));
    }
    let (signer, signature) = signed
        .split_once(' ')
        .ok_or_else(|| bad("the second line is not 'KEY-ID SIGNATURE'"))?;
    let signature = STANDARD_NO_PAD
        .decode(signature)
        .map_err(|_| bad("the signature is not base64"))?;
    Ok(Unchecked {
        kind,
        signer: signer.to_owned().try_into()?,
        signature,
        body,
    })
}

fn split_line(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let end = bytes.iter().take(512).position(|byte| *byte == b'\n')?;
    let (line, rest) = bytes.split_at(end);
    Some((std::str::from_utf8(line).ok()?, rest.get(1..)?))
}

impl Unchecked<'_> {
    /// Who claims to have signed it.
    pub fn signer(&self) -> &KeyId {
        &self.signer
    }

    /// Reads the body without checking the signature: for those who relay a document and only need to
    /// know where it belongs. Nothing may be decided by it that the document's reader decides.
    ///
    /// # Errors
    /// `Invalid`, where it is not the JSON of a `T`.
    pub fn peek<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(self.body).map_err(|error| {
            Error::invalid(format!("{} is malformed: {error}", self.kind)).with_source(error)
        })
    }

    /// Checks the signature and reads the body.
    ///
    /// # Errors
    /// `Refused`: `document-kind`, `signer-unknown` or `signature`; `Invalid` where the signed body is
    /// malformed.
    pub fn check<T: DeserializeOwned>(&self, domain: Domain<'_>, keys: &[PublicKey]) -> Result<T> {
        if self.kind != domain.kind.name() {
            let message = format!(
                "a {} was expected, this is a {:?}",
                domain.kind.name(),
                self.kind
            );
            return Err(Error::refused("document-kind", message));
        }
        let Some(key) = keys.iter().find(|key| key.id() == self.signer) else {
            return Err(Error::refused(
                "signer-unknown",
                format!(
                    "the {} is signed by key {}, which is not paired",
                    self.kind, self.signer
                ),
            )
            .hint("pair the two masters again: pefo init"));
        };
        key.verify(&domain.message(self.body), &self.signature)
            .map_err(|error| error.context(self.kind))?;
        self.peek()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::system_random;
    use proptest::prelude::*;

    fn site() -> Site {
        Site::new("0123456789abcdef0123456789abcdef").unwrap()
    }

    #[test]
    fn a_document_is_bound_to_kind_site_and_data_set() {
        let (key, site, ca) = (
            SigningKey::ephemeral(&system_random()).unwrap(),
            site(),
            DataSet::Ca,
        );
        let domain = Domain {
            kind: Kind::Ack,
            site: &site,
            dataset: Some(&ca),
        };
        let bytes = sign(&"hello", domain, &key).unwrap();
        let document = split(&bytes).unwrap();
        assert_eq!(
            document.check::<String>(domain, &[key.public()]).unwrap(),
            "hello"
        );
        let other = Site::new("ffffffffffffffffffffffffffffffff").unwrap();
        let wrong = [
            (
                Domain {
                    site: &other,
                    ..domain
                },
                "signature",
            ),
            (
                Domain {
                    dataset: Some(&DataSet::Classifier),
                    ..domain
                },
                "signature",
            ),
            (
                Domain {
                    dataset: None,
                    ..domain
                },
                "signature",
            ),
            (
                Domain {
                    kind: Kind::Heartbeat,
                    ..domain
                },
                "document-kind",
            ),
        ];
        for (domain, rule) in wrong {
            assert_eq!(
                document
                    .check::<String>(domain, &[key.public()])
                    .unwrap_err()
                    .rule(),
                Some(rule)
            );
        }
        let stranger = SigningKey::ephemeral(&system_random()).unwrap();
        assert_eq!(
            document
                .check::<String>(domain, &[stranger.public()])
                .unwrap_err()
                .rule(),
            Some("signer-unknown")
        );
    }

    #[test]
    fn a_newer_format_is_told_apart_from_garbage() {
        let error = split(b"pefo-document 2 ack\nx y\n{}").unwrap_err();
        assert!(error.hint_text().unwrap().contains("upgrade"));
    }

    #[test]
    fn a_document_has_one_spelling() {
        let (key, site) = (SigningKey::ephemeral(&system_random()).unwrap(), site());
        let domain = Domain {
            kind: Kind::Reign,
            site: &site,
            dataset: None,
        };
        let text = String::from_utf8(sign(&"x", domain, &key).unwrap()).unwrap();
        for (from, to) in [
            ("reign\n", "reign \n"),
            ("reign\n", "reign and more\n"),
            ("1 reign", "1  reign"),
            ("\n\"", "=\n\""),
            ("\n\"", " \n\""),
        ] {
            let other = text.replacen(from, to, 1);
            assert_ne!(other, text);
            let passed = split(other.as_bytes())
                .and_then(|document| document.check::<String>(domain, &[key.public()]));
            assert!(passed.is_err(), "{other:?}");
        }
    }

    proptest! {
        #[test]
        fn a_changed_document_never_passes(at in 0_usize..400, bit in 0_u8..8) {
            let (key, site) = (SigningKey::ephemeral(&system_random()).unwrap(), site());
            let domain = Domain { kind: Kind::Reign, site: &site, dataset: None };
            let mut bytes = sign(&"x".repeat(200), domain, &key).unwrap();
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            // Base64 without padding has spare bits in its last digit; the decoder refuses them.
            let passed = split(&bytes).and_then(|document| document.check::<String>(domain, &[key.public()]));
            prop_assert!(passed.is_err());
        }

        #[test]
        fn any_bytes_are_split_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            drop(split(&bytes));
        }
    }
}
