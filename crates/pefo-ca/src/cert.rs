//! Certificates, requests and the CA's own chain: what the rules ask of them.
//!
//! A [`Cert`] is one parsed certificate; whether the CA issued it is a question of its own
//! ([`Cert::verify_issued_by`]: issuer, key identifier and signature, RFC 5280 §4.1–4.2).

use std::fmt;
use std::sync::Arc;

use pefo_core::clock::Timestamp;
use x509_parser::prelude::{
    FromDer as _, ParsedExtension, X509Certificate, X509CertificationRequest, X509Name,
};
use x509_parser::time::ASN1Time;

use crate::malformed::Malformed;
use crate::pem;
use crate::serial::Serial;

/// A distinguished name; equal where it reads the same, whatever string type encodes it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name(String);

impl Name {
    pub(crate) fn of(name: &X509Name<'_>) -> Self {
        Self(name.to_string())
    }

    /// The name as text, `CN=Puppet CA: lab`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cert {
    der: Arc<[u8]>,
    /// Its serial.
    pub serial: Serial,
    /// Its subject.
    pub subject: Name,
    /// The subject's common name, where there is exactly one.
    pub common_name: Option<String>,
    /// Who issued it.
    pub issuer: Name,
    /// Valid from.
    pub not_before: Timestamp,
    /// Valid until.
    pub not_after: Timestamp,
    /// Subject key identifier (RFC 5280 §4.2.1.2).
    pub subject_key_id: Option<Vec<u8>>,
    /// Authority key identifier (§4.2.1.1).
    pub authority_key_id: Option<Vec<u8>>,
    public_key: Vec<u8>,
}

impl Cert {
    /// Parses a PEM file of exactly one certificate.
    ///
    /// # Errors
    /// A rule of [`pem`], `cert-count`, or those of [`Cert::from_der`].
    pub fn from_pem(bytes: &[u8]) -> Result<Self, Malformed> {
        match pem::blocks_of("CERTIFICATE", bytes)?.as_slice() {
            [block] => Self::from_der(&block.der).map_err(|error| error.at(block.line)),
            blocks => Err(Malformed::new(
                "cert-count",
                format!("{} certificates where one is expected", blocks.len()),
            )),
        }
    }

    /// Parses DER.
    ///
    /// # Errors
    /// `cert-der`, `serial-range`.
    pub fn from_der(der: &[u8]) -> Result<Self, Malformed> {
        let cert = parse_certificate(der)?;
        let mut subject_key_id = None;
        let mut authority_key_id = None;
        for extension in cert.extensions() {
            match extension.parsed_extension() {
                ParsedExtension::SubjectKeyIdentifier(id) => subject_key_id = Some(id.0.to_vec()),
                ParsedExtension::AuthorityKeyIdentifier(id) => {
                    authority_key_id = id.key_identifier.as_ref().map(|id| id.0.to_vec());
                }
                _ => {}
            }
        }
        Ok(Self {
            der: der.into(),
            serial: Serial::from_be_bytes(cert.raw_serial())?,
            subject: Name::of(cert.subject()),
            common_name: single_common_name(cert.subject()),
            issuer: Name::of(cert.issuer()),
            not_before: timestamp(cert.validity().not_before)?,
            not_after: timestamp(cert.validity().not_after)?,
            subject_key_id,
            authority_key_id,
            public_key: cert.public_key().raw.to_vec(),
        })
    }

    /// The certificate's DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The DER of its SubjectPublicKeyInfo.
    pub fn public_key(&self) -> &[u8] {
        &self.public_key
    }

    /// Whether it has expired at `now`.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.not_after < now
    }

    /// Checks that `authority` issued it: issuer name, key identifier where both say one, signature.
    /// Dates are not its business.
    ///
    /// # Errors
    /// `cert-unknown-issuer`, saying which of the three.
    pub fn verify_issued_by(&self, authority: &Self) -> Result<(), Malformed> {
        let unknown = |what: String| Err(Malformed::new("cert-unknown-issuer", what));
        if self.issuer != authority.subject {
            return unknown(format!(
                "issued by {}, not by {}",
                self.issuer, authority.subject
            ));
        }
        if let (Some(says), Some(is)) = (&self.authority_key_id, &authority.subject_key_id)
            && says != is
        {
            return unknown(format!("names another key of {}", authority.subject));
        }
        let parsed_authority = parse_certificate(&authority.der)?;
        match parse_certificate(&self.der)?.verify_signature(Some(parsed_authority.public_key())) {
            Ok(()) => Ok(()),
            Err(error) => unknown(format!(
                "the signature is not {}'s: {error}",
                authority.subject
            )),
        }
    }
}

/// The CA's own certificates, as in `ca_crt.pem`: the signing CA first, the root last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaChain(Vec<Cert>);

impl CaChain {
    /// Parses `ca_crt.pem`.
    ///
    /// # Errors
    /// A rule of [`pem`], `cert-der`, or `ca-chain` where a certificate was not issued by the next.
    pub fn from_pem(bytes: &[u8]) -> Result<Self, Malformed> {
        let certs = pem::blocks_of("CERTIFICATE", bytes)?
            .iter()
            .map(|block| Cert::from_der(&block.der).map_err(|error| error.at(block.line)))
            .collect::<Result<Vec<_>, _>>()?;
        for pair in certs.windows(2) {
            if let [cert, next] = pair {
                cert.verify_issued_by(next).map_err(|error| {
                    Malformed::new(
                        "ca-chain",
                        format!(
                            "{} does not follow from the next: {}",
                            cert.subject, error.message
                        ),
                    )
                })?;
            }
        }
        Ok(Self(certs))
    }

    /// The CA that signs the nodes' certificates.
    pub fn signing(&self) -> &Cert {
        // `pem::blocks` gives at least one block.
        &self.0[0]
    }

    /// The last of the chain: the root, or the signing CA itself where it stands alone.
    pub fn root(&self) -> &Cert {
        self.0.last().unwrap_or_else(|| self.signing())
    }

    /// Every certificate, the signing CA first.
    pub fn certs(&self) -> &[Cert] {
        &self.0
    }
}

/// A pending certificate request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The subject's common name, where there is exactly one.
    pub common_name: Option<String>,
    public_key: Vec<u8>,
}

impl Request {
    /// Parses a PEM file of exactly one request (RFC 2986).
    ///
    /// # Errors
    /// A rule of [`pem`], `request-count`, `request-der`.
    pub fn from_pem(bytes: &[u8]) -> Result<Self, Malformed> {
        let blocks = pem::blocks(bytes)?;
        let [block] = blocks.as_slice() else {
            return Err(Malformed::new(
                "request-count",
                format!("{} blocks where one request is expected", blocks.len()),
            ));
        };
        // OpenSSL once wrote NEW CERTIFICATE REQUEST.
        if !block.label.ends_with("CERTIFICATE REQUEST") {
            return Err(Malformed::new(
                "pem-label",
                format!("a {} where a request is expected", block.label),
            )
            .at(block.line));
        }
        let request = match X509CertificationRequest::from_der(&block.der) {
            Ok(([], request)) => request,
            Ok(_) => {
                return Err(
                    Malformed::new("request-der", "bytes follow the request").at(block.line)
                );
            }
            Err(error) => {
                return Err(Malformed::new("request-der", error.to_string()).at(block.line));
            }
        };
        let info = &request.certification_request_info;
        Ok(Self {
            common_name: single_common_name(&info.subject),
            public_key: info.subject_pki.raw.to_vec(),
        })
    }

    /// The DER of its SubjectPublicKeyInfo.
    pub fn public_key(&self) -> &[u8] {
        &self.public_key
    }
}

pub(crate) fn parse_certificate(der: &[u8]) -> Result<X509Certificate<'_>, Malformed> {
    match X509Certificate::from_der(der) {
        Ok(([], cert)) => Ok(cert),
        Ok(_) => Err(Malformed::new("cert-der", "bytes follow the certificate")),
        Err(error) => Err(Malformed::new("cert-der", error.to_string())),
    }
}

pub(crate) fn timestamp(time: ASN1Time) -> Result<Timestamp, Malformed> {
    Timestamp::from_unix_seconds(time.timestamp())
        .map_err(|error| Malformed::new("date-range", error.to_string()))
}

fn single_common_name(name: &X509Name<'_>) -> Option<String> {
    let mut names = name.iter_common_name();
    let first = names.next()?.as_str().ok()?.to_owned();
    names.next().is_none().then_some(first)
}
