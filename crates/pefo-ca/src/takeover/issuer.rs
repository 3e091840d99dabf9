//! Certificates issued with the CA's own key (RFC 5280 §4), in what matters as puppetserver issues a node's.
//!
//! Version 3; the issuer byte for byte the CA's subject; the subject a lone common name; no CA, for clients and
//! servers; the key identifiers of both. Each certificate is read back, verified under the CA and compared with
//! what was asked for before it is handed out. Nothing here puts one into a CA: serial, inventory and `signed/` are
//! its caller's business.

use std::time::Duration;

use pefo_core::clock::Timestamp;
use pefo_core::{Certname, Error, Result};
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::x509::SubjectPublicKeyInfo;

use super::ca_key::{CaKey, key_id_of};
use super::der;
use crate::cert::Cert;
use crate::malformed::Malformed;
use crate::serial::Serial;

/// id-at-commonName, RFC 5280 Appendix A.1.
const COMMON_NAME: &[u8] = b"\x06\x03\x55\x04\x03";
/// id-ce-basicConstraints, §4.2.1.9.
const BASIC_CONSTRAINTS: &[u8] = b"\x06\x03\x55\x1d\x13";
/// id-ce-keyUsage, §4.2.1.3.
const KEY_USAGE: &[u8] = b"\x06\x03\x55\x1d\x0f";
/// id-ce-extKeyUsage, §4.2.1.12.
const EXTENDED_KEY_USAGE: &[u8] = b"\x06\x03\x55\x1d\x25";
/// id-ce-subjectKeyIdentifier, §4.2.1.2.
const SUBJECT_KEY_IDENTIFIER: &[u8] = b"\x06\x03\x55\x1d\x0e";
/// BIT STRING: digitalSignature and keyEncipherment, five bits unused. puppetserver asks for both, whatever the key.
const SIGNATURE_AND_ENCIPHERMENT: &[u8] = b"\x03\x02\x05\xa0";
/// id-kp-serverAuth, §4.2.1.12.
const SERVER_AUTH: &[u8] = b"\x06\x08\x2b\x06\x01\x05\x05\x07\x03\x01";
/// id-kp-clientAuth, §4.2.1.12.
const CLIENT_AUTH: &[u8] = b"\x06\x08\x2b\x06\x01\x05\x05\x07\x03\x02";
/// AlgorithmIdentifier of a public key on secp256r1, RFC 5480 §2.1.1.
const EC_P256: &[u8] =
    b"\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07";
/// version [0] EXPLICIT in TBSCertificate, §4.1.
const VERSION: u8 = 0xa0;
/// extensions [3] EXPLICIT in TBSCertificate, §4.1.
const EXTENSIONS: u8 = 0xa3;

/// A certificate is good from a day before, so that nobody's clock is too slow for it; as puppetserver has it.
const BACKDATED: Duration = Duration::from_secs(86_400);

/// What a certificate shall say.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CertContent {
    /// The subject's common name.
    pub certname: Certname,
    /// Its serial.
    pub serial: Serial,
    /// The DER of the subject's SubjectPublicKeyInfo (§4.1.2.7).
    pub public_key: Vec<u8>,
    /// Valid from, to the second.
    pub not_before: Timestamp,
    /// Valid until, to the second.
    pub not_after: Timestamp,
}

impl CertContent {
    /// A certificate issued at `now`, good from a day before that.
    pub fn new(
        certname: Certname,
        serial: Serial,
        public_key: Vec<u8>,
        now: Timestamp,
        not_after: Timestamp,
    ) -> Self {
        let backdated = i64::try_from(BACKDATED.as_secs()).unwrap_or_default();
        let not_before = Timestamp::from_unix_seconds(now.unix_seconds() - backdated);
        Self {
            certname,
            serial,
            public_key,
            // Before the year 0 there is no earlier one.
            not_before: not_before.unwrap_or(now),
            not_after,
        }
    }
}

/// The SubjectPublicKeyInfo of a key on P-256, from its uncompressed point.
pub(crate) fn p256_public_key(point: &[u8]) -> Vec<u8> {
    der::sequence([EC_P256, &der::bit_string(point)])
}

/// Issues certificates of one CA; see [`CrlSigner::issuer`](super::CrlSigner::issuer).
#[derive(Debug, Clone)]
pub struct CertIssuer<'k> {
    key: &'k CaKey,
}

impl<'k> CertIssuer<'k> {
    pub(super) fn of(key: &'k CaKey) -> Self {
        Self { key }
    }

    /// The CA whose certificates these are.
    pub fn authority(&self) -> &'k Cert {
        &self.key.authority
    }

    /// Issues a certificate.
    ///
    /// # Errors
    /// `Refused`: `cert-serial` where the serial is none of a certificate (§4.1.2.2: above 0, at most 20 octets),
    /// `cert-readback` where what was made does not verify or is not what was asked for; `Invalid` where the public key
    /// cannot be read or a date cannot be written.
    pub fn issue(&self, content: &CertContent) -> Result<Cert> {
        let octets = content.serial.to_be_bytes();
        // A 21st octet would be needed to keep it from reading as negative.
        if octets[0] >= 0x80 || content.serial == Serial::from(0) {
            let message = format!("{} can be no certificate's serial", content.serial);
            return Err(Error::refused("cert-serial", message)
                .hint("Look at the file serial and the block of serials."));
        }
        let subject_key_id = match SubjectPublicKeyInfo::from_der(&content.public_key) {
            Ok(([], info)) => key_id_of(&info.subject_public_key.data),
            _ => {
                let message = format!("the public key for {} cannot be read", content.certname);
                return Err(Error::invalid(message));
            }
        };
        let to_be_signed = self.to_be_signed(content, &subject_key_id)?;
        let cert = self
            .key
            .sign(&to_be_signed)
            .map_err(|_| readback("the key did not sign"))?;
        self.read_back(&cert, content, &subject_key_id)
    }

    /// TBSCertificate, §4.1.2.
    fn to_be_signed(&self, content: &CertContent, subject_key_id: &[u8]) -> Result<Vec<u8>> {
        let date = |at: Timestamp| {
            der::time(at).map_err(|error| {
                Error::invalid(format!("date {at} of a certificate")).with_source(error)
            })
        };
        let name = der::element(der::UTF8_STRING, content.certname.as_str().as_bytes());
        let name = der::element(der::SET, &der::sequence([COMMON_NAME, &name]));
        let extensions = der::sequence([
            &self.key.authority_key_identifier(),
            // An empty sequence: no CA is the default.
            &der::critical_extension(BASIC_CONSTRAINTS, &der::sequence([])),
            &der::critical_extension(
                EXTENDED_KEY_USAGE,
                &der::sequence([SERVER_AUTH, CLIENT_AUTH]),
            ),
            &der::critical_extension(KEY_USAGE, SIGNATURE_AND_ENCIPHERMENT),
            &der::extension(
                SUBJECT_KEY_IDENTIFIER,
                &der::element(der::OCTET_STRING, subject_key_id),
            ),
        ]);
        Ok(der::sequence([
            // Version 3 is written as 2.
            &der::element(VERSION, &der::integer(&[2])),
            &der::integer(&content.serial.to_be_bytes()),
            self.key.algorithm(),
            &self.key.name_der,
            &der::sequence([&date(content.not_before)?, &date(content.not_after)?]),
            &der::sequence([&name]),
            &content.public_key,
            &der::element(EXTENSIONS, &extensions),
        ]))
    }

    /// Reads a certificate that was just made as everybody else will.
    fn read_back(&self, der: &[u8], asked: &CertContent, subject_key_id: &[u8]) -> Result<Cert> {
        let refuse = |error: Malformed| readback(error.to_string());
        let cert = Cert::from_der(der).map_err(refuse)?;
        cert.verify_issued_by(self.authority()).map_err(refuse)?;
        let (_, parsed) =
            X509Certificate::from_der(der).map_err(|error| readback(error.to_string()))?;
        let is_as_asked = cert.serial == asked.serial
            && cert.common_name.as_deref() == Some(asked.certname.as_str())
            && parsed.issuer().as_raw() == self.key.name_der
            && cert.public_key() == asked.public_key
            && cert.not_before.unix_seconds() == asked.not_before.unix_seconds()
            && cert.not_after.unix_seconds() == asked.not_after.unix_seconds()
            && cert.subject_key_id.as_deref() == Some(subject_key_id)
            && cert.authority_key_id.as_ref() == Some(&self.key.key_id);
        if is_as_asked && is_of_a_node(&parsed) {
            Ok(cert)
        } else {
            Err(readback("it does not say what was asked for"))
        }
    }
}

/// Whether it is no CA, and good for both ends of a connection.
fn is_of_a_node(cert: &X509Certificate<'_>) -> bool {
    let constraints = cert.basic_constraints().ok().flatten();
    let usage = cert.key_usage().ok().flatten();
    let extended = cert.extended_key_usage().ok().flatten();
    constraints.is_some_and(|constraints| !constraints.value.ca)
        && usage.is_some_and(|usage| {
            usage.value.digital_signature()
                && usage.value.key_encipherment()
                && !usage.value.key_cert_sign()
                && !usage.value.crl_sign()
        })
        && extended.is_some_and(|usage| usage.value.client_auth && usage.value.server_auth)
}

fn readback(message: impl std::fmt::Display) -> Error {
    Error::refused(
        "cert-readback",
        format!("the certificate just made is not given out: {message}"),
    )
    .hint("Nothing was signed for anybody. Compare ca_key.pem with ca_crt.pem.")
}

#[cfg(test)]
mod tests {
    use pefo_testkit::ca::{CaOptions, Keys, TestCa};

    use super::*;
    use crate::cert::CaChain;

    #[test]
    fn a_certificate_that_does_not_say_what_was_asked_is_not_given_out() {
        let root = tempfile::tempdir().unwrap();
        let ca = TestCa::create(root.path(), CaOptions::default().keys(Keys::Ecdsa)).unwrap();
        let read = |name: &str| std::fs::read(ca.dir().join(name)).unwrap();
        let chain = CaChain::from_pem(&read("ca_crt.pem")).unwrap();
        let mut key = CaKey::new(&read("ca_key.pem"), chain.signing()).unwrap();
        let at = |seconds: i64| Timestamp::from_unix_seconds(1_795_350_600 + seconds).unwrap();
        // The CA's own public key serves as well as any.
        let public_key = chain.signing().public_key().to_vec();
        let name = |name: &str| Certname::new(name).unwrap();
        let asked = CertContent::new(
            name("node.test"),
            Serial::from(7),
            public_key,
            at(0),
            at(86_400),
        );
        let issuer = CertIssuer::of(&key);
        let cert = issuer.issue(&asked).unwrap();
        let id = cert.subject_key_id.clone().unwrap();
        assert_eq!(asked.not_before, at(-86_400));
        assert!(issuer.read_back(cert.der(), &asked, &id).is_ok());
        let refused = |der: &[u8], asked: &CertContent, id: &[u8]| {
            let refused = issuer.read_back(der, asked, id).unwrap_err();
            assert_eq!(refused.rule(), Some("cert-readback"));
        };
        let with = |change: &dyn Fn(&mut CertContent)| {
            let mut other = asked.clone();
            change(&mut other);
            refused(cert.der(), &other, &id);
        };
        with(&|other| other.serial = Serial::from(8));
        with(&|other| other.certname = name("node2.test"));
        with(&|other| other.not_before = at(0));
        with(&|other| other.not_after = at(1));
        with(&|other| other.public_key = p256_public_key(&[4; 65]));
        refused(cert.der(), &asked, &[7; 20]);
        let mut torn = cert.der().to_vec();
        *torn.last_mut().unwrap() ^= 1;
        refused(&torn, &asked, &id);
        // What a CA says of itself is not what a node's certificate says.
        let (_, authority) = X509Certificate::from_der(chain.signing().der()).unwrap();
        assert!(!is_of_a_node(&authority));
        let no_key = CertContent {
            public_key: b"none".to_vec(),
            ..asked.clone()
        };
        assert!(issuer.issue(&no_key).is_err());
        // Another signature over the same words, by a key that has its name or its identifier wrong.
        let (name_der, key_id) = (key.name_der.clone(), key.key_id.clone());
        for (wrong_name, wrong_id) in [(key_id.clone(), key_id), (name_der, vec![7; 20])] {
            (key.name_der, key.key_id) = (wrong_name, wrong_id);
            assert!(CertIssuer::of(&key).issue(&asked).is_err());
        }
    }
}
