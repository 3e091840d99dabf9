//! Certificates, requests and the CA's own chain: what the rules ask of them.
//!
//! A [`Cert`] is one parsed certificate; whether the CA issued it is a question of its own
//! ([`Cert::verify_issued_by`]: issuer, key identifier and signature, RFC 5280 §4.1–4.2).

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use pefo_core::clock::Timestamp;
use serde::Serialize;
use x509_parser::certificate::X509CertificateParser;
use x509_parser::extensions::{AuthorityKeyIdentifier, KeyIdentifier};
use x509_parser::nom::Parser as _;
use x509_parser::oid_registry::{
    OID_X509_COMMON_NAME, OID_X509_EXT_AUTHORITY_KEY_IDENTIFIER,
    OID_X509_EXT_SUBJECT_KEY_IDENTIFIER,
};
use x509_parser::prelude::{
    FromDer as _, GeneralName, X509Certificate, X509CertificationRequest, X509Name,
};
use x509_parser::time::ASN1Time;

use crate::authority::{Authority, SignatureScheme};
use crate::malformed::Malformed;
use crate::pem;
use crate::serial::Serial;

/// A distinguished name; equal where it reads the same, whatever string type encodes it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Name(String);

impl Name {
    pub(crate) fn of(name: &X509Name<'_>) -> Self {
        // Nearly every name is a lone common name, and looking its type up costs more than parsing it.
        let mut attributes = name.iter_attributes();
        if let (Some(only), None) = (attributes.next(), attributes.next())
            && *only.attr_type() == OID_X509_COMMON_NAME
            && let Ok(text) = only.as_str()
        {
            return Self(format!("CN={text}"));
        }
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
    public_key: Range<usize>,
    signed_part: Range<usize>,
    signature: Range<usize>,
    signature_scheme: SignatureScheme,
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
            if extension.oid == OID_X509_EXT_SUBJECT_KEY_IDENTIFIER {
                if let Ok((_, id)) = KeyIdentifier::from_der(extension.value) {
                    subject_key_id = Some(id.0.to_vec());
                }
            } else if extension.oid == OID_X509_EXT_AUTHORITY_KEY_IDENTIFIER
                && let Ok((_, id)) = AuthorityKeyIdentifier::from_der(extension.value)
            {
                authority_key_id = id.key_identifier.map(|id| id.0.to_vec());
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
            public_key: place(der, cert.public_key().raw)?,
            signed_part: place(der, cert.tbs_certificate.as_ref())?,
            signature: place(der, &cert.signature_value.data)?,
            signature_scheme: SignatureScheme::of(&cert.signature_algorithm),
        })
    }

    /// The certificate's DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The DER of its SubjectPublicKeyInfo.
    pub fn public_key(&self) -> &[u8] {
        self.part(&self.public_key)
    }

    /// The DER of its TBSCertificate: what the signature is over.
    pub(crate) fn signed_part(&self) -> &[u8] {
        self.part(&self.signed_part)
    }

    pub(crate) fn signature(&self) -> &[u8] {
        self.part(&self.signature)
    }

    pub(crate) fn signature_scheme(&self) -> SignatureScheme {
        self.signature_scheme
    }

    fn part(&self, place: &Range<usize>) -> &[u8] {
        // A place that was found in this very DER.
        self.der.get(place.clone()).unwrap_or_default()
    }

    /// Whether it has expired at `now`.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.not_after < now
    }

    /// The host names it is for: the DNS names of its subjectAltName (RFC 5280 §4.2.1.6), as they stand there.
    ///
    /// # Errors
    /// `cert-der`, where that extension is malformed.
    pub fn dns_names(&self) -> Result<Vec<String>, Malformed> {
        let bad = |error: String| Malformed::new("cert-der", error);
        let (_, cert) =
            X509Certificate::from_der(&self.der).map_err(|error| bad(error.to_string()))?;
        let names = cert
            .subject_alternative_name()
            .map_err(|error| bad(error.to_string()))?;
        let names = names.iter().flat_map(|names| &names.value.general_names);
        Ok(names
            .filter_map(|name| match name {
                GeneralName::DNSName(name) => Some((*name).to_owned()),
                _ => None,
            })
            .collect())
    }

    /// Whether a client that calls `host` accepts it by one of [`Cert::dns_names`]: the same name, or a `*` for
    /// its first label (RFC 6125 §6.4).
    ///
    /// # Errors
    /// As [`Cert::dns_names`].
    pub fn covers(&self, host: &str) -> Result<bool, Malformed> {
        let is_of = |name: &String| {
            let wild = name.strip_prefix("*.").zip(host.split_once('.'));
            name.eq_ignore_ascii_case(host)
                || wild.is_some_and(|(domain, (_, rest))| domain.eq_ignore_ascii_case(rest))
        };
        Ok(self.dns_names()?.iter().any(is_of))
    }

    /// Checks that `authority` issued it: issuer name, key identifier where both say one, signature.
    /// Dates are not its business. For many certificates of one CA, see [`Authority`].
    ///
    /// # Errors
    /// `cert-unknown-issuer`, saying which of the three.
    pub fn verify_issued_by(&self, authority: &Self) -> Result<(), Malformed> {
        Authority::of(authority)?.verify(self)
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

/// Parses a certificate, its extensions left as bytes: few of them matter here.
pub(crate) fn parse_certificate(der: &[u8]) -> Result<X509Certificate<'_>, Malformed> {
    let mut parser = X509CertificateParser::new().with_deep_parse_extensions(false);
    match parser.parse(der) {
        Ok(([], cert)) => Ok(cert),
        Ok(_) => Err(Malformed::new("cert-der", "bytes follow the certificate")),
        Err(error) => Err(Malformed::new("cert-der", error.to_string())),
    }
}

/// Where in `whole` its part stands.
fn place(whole: &[u8], part: &[u8]) -> Result<Range<usize>, Malformed> {
    let start = part.as_ptr().addr().checked_sub(whole.as_ptr().addr());
    let place = start.map(|start| start..start.saturating_add(part.len()));
    place
        .filter(|place| place.end <= whole.len())
        .ok_or_else(|| Malformed::new("cert-der", "is not in one piece"))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_reads_as_the_parser_spells_it() {
        // A lone common name takes a way of its own.
        let common = |tag: u8, text: &[u8]| {
            let length = u8::try_from(text.len()).unwrap();
            let value = [&[0x06, 3, 0x55, 4, 3, tag, length][..], text].concat();
            let attribute = [&[0x30, length + 7][..], &value].concat();
            [&[0x31, length + 9][..], &attribute].concat()
        };
        let name_of = |parts: &[Vec<u8>]| {
            let parts = parts.concat();
            [&[0x30, u8::try_from(parts.len()).unwrap()][..], &parts].concat()
        };
        let (utf8, printable, t61, integer) = (0x0c, 0x13, 0x14, 0x02);
        for parts in [
            vec![common(utf8, b"Puppet CA: lab")],
            vec![common(printable, b"node1.lab")],
            vec![common(t61, b"old")],
            vec![common(integer, b"7")],
            vec![common(utf8, b"a, CN=b")],
            vec![common(utf8, b"a"), common(utf8, b"b")],
            vec![],
        ] {
            let der = name_of(&parts);
            let (_, name) = X509Name::from_der(&der).unwrap();
            assert_eq!(Name::of(&name).as_str(), name.to_string());
        }
    }
}
