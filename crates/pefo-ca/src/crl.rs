//! Certificate revocation lists (RFC 5280 §5) and Puppet's bundles of them.
//!
//! `ca_crl.pem` holds our own CRL first, then the ancestors'. Each is parsed by itself and keeps its
//! DER, so that a bundle can be put together anew without touching a signature.

use std::collections::BTreeMap;
use std::sync::Arc;

use pefo_core::clock::Timestamp;
use serde::Serialize;
use x509_parser::prelude::{FromDer as _, ParsedExtension};
use x509_parser::revocation_list::CertificateRevocationList;

use crate::cert::{Cert, Name, parse_certificate, timestamp};
use crate::malformed::Malformed;
use crate::pem;
use crate::serial::Serial;

/// Delta CRL indicator, RFC 5280 §5.2.4.
const DELTA_CRL_INDICATOR: &str = "2.5.29.27";

/// Since when and why a serial is revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Revocation {
    /// Revoked since.
    pub date: Timestamp,
    /// The reason code (§5.3.1); Puppet writes 1, keyCompromise.
    pub reason: Option<u8>,
}

/// One CRL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Crl {
    der: Arc<[u8]>,
    /// Whose it is.
    pub issuer: Name,
    /// Which key of the issuer signed it (§5.2.1).
    pub authority_key_id: Option<Vec<u8>>,
    /// CRLNumber (§5.2.3).
    pub number: Option<Serial>,
    /// Issued.
    pub this_update: Timestamp,
    /// The next one comes by then; agents refuse everything after it.
    pub next_update: Option<Timestamp>,
    /// What is revoked; of duplicate entries the first.
    pub revoked: Arc<BTreeMap<Serial, Revocation>>,
    /// Whether it is only a difference to another CRL.
    pub is_delta: bool,
}

impl Crl {
    /// Parses DER.
    ///
    /// # Errors
    /// `crl-der`, `serial-range`, `date-range`.
    pub fn from_der(der: &[u8]) -> Result<Self, Malformed> {
        let crl = parse(der)?;
        let mut revoked = BTreeMap::new();
        for entry in crl.iter_revoked_certificates() {
            let serial = Serial::from_be_bytes(entry.raw_serial())?;
            let date = timestamp(entry.revocation_date)?;
            let reason = entry.reason_code().map(|(_, reason)| reason.0);
            revoked.entry(serial).or_insert(Revocation { date, reason });
        }
        let authority_key_id =
            crl.extensions()
                .iter()
                .find_map(|extension| match extension.parsed_extension() {
                    ParsedExtension::AuthorityKeyIdentifier(id) => {
                        id.key_identifier.as_ref().map(|id| id.0.to_vec())
                    }
                    _ => None,
                });
        let number = crl
            .crl_number()
            .map(|number| Serial::from_be_bytes(&number.to_bytes_be()))
            .transpose()?;
        Ok(Self {
            der: der.into(),
            issuer: Name::of(crl.issuer()),
            authority_key_id,
            number,
            this_update: timestamp(crl.last_update())?,
            next_update: crl.next_update().map(timestamp).transpose()?,
            revoked: Arc::new(revoked),
            is_delta: crl
                .extensions()
                .iter()
                .any(|extension| extension.oid.to_id_string() == DELTA_CRL_INDICATOR),
        })
    }

    /// The CRL's DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The issuer's name as the CRL has it, byte for byte.
    ///
    /// # Errors
    /// `crl-der`, which a CRL that was parsed before never has.
    pub fn issuer_der(&self) -> Result<&[u8], Malformed> {
        parse(&self.der).map(|crl| crl.tbs_cert_list.issuer.as_raw())
    }

    /// Whether it claims to be of this CA: the issuer's name, and its key where both say one.
    pub fn is_of(&self, authority: &Cert) -> bool {
        self.issuer == authority.subject && self.names_key_of(authority)
    }

    /// Whether the key identifier is that of `authority`, as far as both have one.
    pub(crate) fn names_key_of(&self, authority: &Cert) -> bool {
        match (&self.authority_key_id, &authority.subject_key_id) {
            (Some(says), Some(is)) => says == is,
            _ => true,
        }
    }

    /// Checks the signature under the CA's key.
    ///
    /// # Errors
    /// `crl-signature`.
    pub fn verify_signed_by(&self, authority: &Cert) -> Result<(), Malformed> {
        let authority_cert = parse_certificate(authority.der())?;
        parse(&self.der)?
            .verify_signature(authority_cert.public_key())
            .map_err(|error| {
                Malformed::new(
                    "crl-signature",
                    format!("the signature is not {}'s: {error}", authority.subject),
                )
            })
    }

    /// The number for people, `7`, or `none`.
    pub fn number_text(&self) -> String {
        match self.number.map(|number| (number, number.counter())) {
            None => "none".to_owned(),
            Some((_, Some(number))) => number.to_string(),
            Some((number, None)) => number.to_string(),
        }
    }
}

/// A file of CRLs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CrlBundle(Vec<Crl>);

impl CrlBundle {
    /// Parses `ca_crl.pem` or `infra_crl.pem`.
    ///
    /// # Errors
    /// A rule of [`pem`] or of [`Crl::from_der`], with the line of the block.
    pub fn from_pem(bytes: &[u8]) -> Result<Self, Malformed> {
        let crls = pem::blocks_of("X509 CRL", bytes)?
            .iter()
            .map(|block| Crl::from_der(&block.der).map_err(|error| error.at(block.line)))
            .collect::<Result<_, _>>()?;
        Ok(Self(crls))
    }

    /// A bundle of these, in this order.
    pub fn of(crls: Vec<Crl>) -> Self {
        Self(crls)
    }

    /// The CRLs, in the file's order.
    pub fn crls(&self) -> &[Crl] {
        &self.0
    }

    /// The CRL of `authority`.
    pub fn find(&self, authority: &Cert) -> Option<&Crl> {
        self.0.iter().find(|crl| crl.is_of(authority))
    }

    /// The file's content.
    pub fn to_pem(&self) -> String {
        self.0
            .iter()
            .map(|crl| pem::encode("X509 CRL", &crl.der))
            .collect()
    }
}

fn parse(der: &[u8]) -> Result<CertificateRevocationList<'_>, Malformed> {
    match CertificateRevocationList::from_der(der) {
        Ok(([], crl)) => Ok(crl),
        Ok(_) => Err(Malformed::new("crl-der", "bytes follow the CRL")),
        Err(error) => Err(Malformed::new("crl-der", error.to_string())),
    }
}
