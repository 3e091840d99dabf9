//! CRLs signed with the CA's own key (RFC 5280 §5), as puppetserver signs them.
//!
//! Version 2; the issuer byte for byte the certificate's subject; the authority key identifier that of
//! the certificate; sha256WithRSAEncryption, or ECDSA with the hash that fits the curve. Each CRL is read
//! back, verified under the certificate and compared with what was asked for before it is handed out.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use pefo_core::clock::Timestamp;
use pefo_core::disk::read_capped;
use pefo_core::{Error, Result};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, RSA_PKCS1_SHA256, RsaKeyPair,
};
use time::{Month, OffsetDateTime};
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::der;
use crate::cert::{Cert, parse_certificate};
use crate::crl::{Crl, Revocation};
use crate::key::{self, Secret};
use crate::layout::CaLayout;
use crate::malformed::Malformed;
use crate::plan::{Conflict, Rule};
use crate::serial::Serial;

/// sha256WithRSAEncryption, RFC 4055 §5, with its NULL.
const SHA256_WITH_RSA: &[u8] = b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b\x05\x00";
/// ecdsa-with-SHA256, RFC 5758 §3.2.
const ECDSA_WITH_SHA256: &[u8] = b"\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02";
/// ecdsa-with-SHA384, RFC 5758 §3.2.
const ECDSA_WITH_SHA384: &[u8] = b"\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x03";
/// id-ce-cRLNumber, §5.2.3.
const CRL_NUMBER: &[u8] = b"\x06\x03\x55\x1d\x14";
/// id-ce-authorityKeyIdentifier, §5.2.1.
const AUTHORITY_KEY_IDENTIFIER: &[u8] = b"\x06\x03\x55\x1d\x23";
/// id-ce-cRLReasons, §5.3.1.
const REASON_CODE: &[u8] = b"\x06\x03\x55\x1d\x15";
/// keyIdentifier [0] IMPLICIT in AuthorityKeyIdentifier, §4.2.1.1.
const KEY_IDENTIFIER: u8 = 0x80;
/// crlExtensions [0] EXPLICIT in TBSCertList, §5.1.
const CRL_EXTENSIONS: u8 = 0xa0;

/// secp256r1, RFC 5480 §2.1.1.1.
const P256: &str = "1.2.840.10045.3.1.7";
/// secp384r1, RFC 5480 §2.1.1.1.
const P384: &str = "1.3.132.0.34";

/// How long a CRL is good for, in years, as puppetserver has it.
const VALID_YEARS: i32 = 5;

/// What a CRL shall say: all that Puppet's own say. Extensions of entries other than the reason code (such
/// as invalidityDate, §5.3.2) have no place in it and end with the CRL that had them.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CrlContent {
    /// CRLNumber (§5.2.3).
    pub number: Serial,
    /// What is revoked.
    pub revoked: BTreeMap<Serial, Revocation>,
    /// Issued, to the second.
    pub this_update: Timestamp,
    /// The next one comes by then.
    pub next_update: Timestamp,
}

impl CrlContent {
    /// A CRL issued at `now`, good for five years.
    pub fn new(number: Serial, revoked: BTreeMap<Serial, Revocation>, now: Timestamp) -> Self {
        Self {
            number,
            revoked,
            this_update: now,
            next_update: years_after(now, VALID_YEARS),
        }
    }

    /// Sets both dates.
    #[must_use]
    pub fn dates(mut self, this_update: Timestamp, next_update: Timestamp) -> Self {
        self.this_update = this_update;
        self.next_update = next_update;
        self
    }
}

/// Signs CRLs of one CA. The key is never shown and never given away.
pub struct CrlSigner {
    authority: Cert,
    /// The authority's subject, as its certificate has it.
    name_der: Vec<u8>,
    key_id: Vec<u8>,
    key: Key,
    random: SystemRandom,
}

enum Key {
    Rsa(Box<RsaKeyPair>),
    Ecdsa(Box<EcdsaKeyPair>, &'static [u8]),
}

impl CrlSigner {
    /// Reads the key of a live CA.
    ///
    /// # Errors
    /// `Refused` (`ca-key-missing`), `Io`, and those of [`CrlSigner::new`].
    pub fn load(layout: &CaLayout, authority: &Cert) -> Result<Self> {
        Self::new(&read_capped(&layout.key_path()?, 1 << 20)?, authority)
    }

    /// Takes the CA's key as PEM (PKCS#1, SEC 1 or PKCS#8) and its certificate.
    ///
    /// # Errors
    /// `Invalid` where the key cannot be read; `Refused`: `ca-identity` where it is not the
    /// certificate's, `ca-key-unsupported` where nothing here signs with it.
    pub fn new(key_pem: &[u8], authority: &Cert) -> Result<Self> {
        let file = Path::new("ca_key.pem");
        let belongs = key::belongs_to(key_pem, authority).map_err(|error| error.in_file(file))?;
        if !belongs {
            let message = format!("ca_key.pem is not the key of {}", authority.subject);
            return Err(Error::refused("ca-identity", message)
                .hint("Only the CA's own key can sign its CRL; restore it from the backup."));
        }
        let key = match key::secret(key_pem).map_err(|error| error.in_file(file))? {
            Secret::Rsa { pkcs1, bits } => rsa(&pkcs1, bits)?,
            Secret::Ec(octets) => ecdsa(&octets, authority)?,
        };
        let certificate = parse_certificate(authority.der())
            .map_err(|error| error.in_file(Path::new("ca_crt.pem")))?;
        Ok(Self {
            name_der: certificate.subject().as_raw().to_vec(),
            key_id: match &authority.subject_key_id {
                Some(id) => id.clone(),
                // What puppetserver takes as well: §4.2.1.2, method 1.
                None => digest(
                    &SHA1_FOR_LEGACY_USE_ONLY,
                    &certificate.public_key().subject_public_key.data,
                )
                .as_ref()
                .to_vec(),
            },
            authority: authority.clone(),
            key,
            random: SystemRandom::new(),
        })
    }

    /// The CA whose CRLs these are.
    pub fn authority(&self) -> &Cert {
        &self.authority
    }

    /// Signs a CRL.
    ///
    /// # Errors
    /// `Refused`: `crl-number-exhausted` where the number takes more than 20 octets (§5.2.3), `crl-readback`
    /// where what was made does not verify or is not what was asked for; `Invalid` where a date cannot be written.
    pub fn sign(&self, content: &CrlContent) -> Result<Crl> {
        // A 21st octet would be needed to keep it from reading as negative.
        if content.number.to_be_bytes()[0] >= 0x80 {
            let message = "its number takes more than 20 octets";
            return Err(Conflict::new(Rule::CrlNumberExhausted, "CRL", message).to_error());
        }
        let signed_part = self.to_be_signed(content)?;
        let signature = self
            .key
            .sign(&self.random, &signed_part)
            .map_err(|_| readback("the key did not sign"))?;
        let list = der::sequence([
            &signed_part,
            self.key.algorithm(),
            &der::bit_string(&signature),
        ]);
        self.read_back(&list, content)
    }

    /// TBSCertList, §5.1.2.
    fn to_be_signed(&self, content: &CrlContent) -> Result<Vec<u8>> {
        let date = |at: Timestamp| {
            der::time(at)
                .map_err(|error| Error::invalid(format!("date {at} of a CRL")).with_source(error))
        };
        let mut entries = Vec::new();
        for (serial, revocation) in &content.revoked {
            let extensions = revocation.reason.map_or_else(Vec::new, |reason| {
                der::sequence([&der::extension(REASON_CODE, &der::enumerated(reason))])
            });
            entries.extend(der::sequence([
                &der::integer(&serial.to_be_bytes()),
                &date(revocation.date)?,
                &extensions,
            ]));
        }
        // Where nothing is revoked, the list is absent (§5.1.2.6).
        let revoked = if entries.is_empty() {
            Vec::new()
        } else {
            der::element(der::SEQUENCE, &entries)
        };
        let key_id = der::sequence([&der::element(KEY_IDENTIFIER, &self.key_id)]);
        let extensions = der::sequence([
            &der::extension(CRL_NUMBER, &der::integer(&content.number.to_be_bytes())),
            &der::extension(AUTHORITY_KEY_IDENTIFIER, &key_id),
        ]);
        Ok(der::sequence([
            // Version 2 is written as 1.
            &der::integer(&[1]),
            self.key.algorithm(),
            &self.name_der,
            &date(content.this_update)?,
            &date(content.next_update)?,
            &revoked,
            &der::element(CRL_EXTENSIONS, &extensions),
        ]))
    }

    /// Reads a CRL that was just made as everybody else will.
    fn read_back(&self, list: &[u8], asked: &CrlContent) -> Result<Crl> {
        let refuse = |error: Malformed| readback(error.to_string());
        let crl = Crl::from_der(list).map_err(refuse)?;
        crl.verify_signed_by(&self.authority).map_err(refuse)?;
        let seconds = |revoked: &BTreeMap<Serial, Revocation>| -> Vec<_> {
            revoked
                .iter()
                .map(|(serial, why)| (*serial, why.date.unix_seconds(), why.reason))
                .collect()
        };
        let is_as_asked = crl.is_of(&self.authority)
            && crl.authority_key_id.as_ref() == Some(&self.key_id)
            && crl.issuer_der().is_ok_and(|name| name == self.name_der)
            && crl.number == Some(asked.number)
            && crl.this_update.unix_seconds() == asked.this_update.unix_seconds()
            && crl.next_update.map(Timestamp::unix_seconds)
                == Some(asked.next_update.unix_seconds())
            && seconds(&crl.revoked) == seconds(&asked.revoked)
            && !crl.is_delta;
        if is_as_asked {
            Ok(crl)
        } else {
            Err(readback("it does not say what was asked for"))
        }
    }
}

impl fmt::Debug for CrlSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CrlSigner({})", self.authority.subject)
    }
}

impl Key {
    /// AlgorithmIdentifier of the signature.
    fn algorithm(&self) -> &'static [u8] {
        match self {
            Self::Rsa(_) => SHA256_WITH_RSA,
            Self::Ecdsa(_, algorithm) => algorithm,
        }
    }

    fn sign(
        &self,
        random: &SystemRandom,
        message: &[u8],
    ) -> Result<Vec<u8>, ring::error::Unspecified> {
        match self {
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, random, message, &mut signature)?;
                Ok(signature)
            }
            Self::Ecdsa(pair, _) => Ok(pair.sign(random, message)?.as_ref().to_vec()),
        }
    }
}

fn rsa(pkcs1: &[u8], bits: usize) -> Result<Key> {
    if !(2048..=4096).contains(&bits) {
        return Err(unsupported(format!(
            "is an RSA key of {bits} bits; those of 2048 to 4096 can sign here"
        )));
    }
    RsaKeyPair::from_der(pkcs1)
        .map(|pair| Key::Rsa(Box::new(pair)))
        .map_err(|error| unsupported(format!("is an RSA key that does not add up: {error}")))
}

/// The public point comes from the certificate: not every form of the key carries it, and whether the
/// two are a pair is checked on the way.
fn ecdsa(octets: &[u8], authority: &Cert) -> Result<Key> {
    let (_, info) = SubjectPublicKeyInfo::from_der(authority.public_key())
        .map_err(|error| Error::invalid(format!("the CA's public key: {error}")))?;
    let curve = info
        .algorithm
        .parameters
        .as_ref()
        .and_then(|parameters| parameters.as_oid().ok())
        .map(|oid| oid.to_id_string());
    let (signing, algorithm): (&'static EcdsaSigningAlgorithm, _) = match curve.as_deref() {
        Some(P256) => (&ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_WITH_SHA256),
        Some(P384) => (&ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_WITH_SHA384),
        _ => {
            return Err(unsupported(
                "is an EC key of another curve than P-256 and P-384",
            ));
        }
    };
    EcdsaKeyPair::from_private_key_and_public_key(
        signing,
        octets,
        &info.subject_public_key.data,
        &SystemRandom::new(),
    )
    .map(|pair| Key::Ecdsa(Box::new(pair), algorithm))
    .map_err(|error| unsupported(format!("is an EC key that does not add up: {error}")))
}

/// The same day and time of a later year; of 29 February, the 28th.
fn years_after(at: Timestamp, years: i32) -> Timestamp {
    let later = OffsetDateTime::from_unix_timestamp(at.unix_seconds()).and_then(|at| {
        let at = match (at.month(), at.day()) {
            (Month::February, 29) => at.replace_day(28)?,
            _ => at,
        };
        at.replace_year(at.year() + years)
    });
    // Beyond the year 9999 there is no later one.
    later
        .ok()
        .and_then(|later| Timestamp::from_unix_seconds(later.unix_timestamp()).ok())
        .unwrap_or(at)
}

fn unsupported(message: impl fmt::Display) -> Error {
    Error::refused("ca-key-unsupported", format!("ca_key.pem {message}"))
        .hint("The CRL has to be signed by puppetserver itself: revoke something there.")
}

fn readback(message: impl fmt::Display) -> Error {
    Error::refused(
        "crl-readback",
        format!("the CRL just made is not put in force: {message}"),
    )
    .hint("The CRL that is in force stays. Compare ca_key.pem with ca_crt.pem.")
}

#[cfg(test)]
mod tests {
    use pefo_testkit::ca::{CaOptions, Keys, TestCa};

    use super::*;
    use crate::cert::CaChain;

    #[test]
    fn a_crl_that_does_not_say_what_was_asked_is_not_handed_out() {
        let root = tempfile::tempdir().unwrap();
        let ca = TestCa::create(root.path(), CaOptions::default().keys(Keys::Ecdsa)).unwrap();
        let read = |name: &str| std::fs::read(ca.dir().join(name)).unwrap();
        let chain = CaChain::from_pem(&read("ca_crt.pem")).unwrap();
        let signer = CrlSigner::new(&read("ca_key.pem"), chain.signing()).unwrap();
        let now = Timestamp::from_unix_seconds(1_795_350_600).unwrap();
        let later = Timestamp::from_unix_seconds(1_795_350_601).unwrap();
        let revoked = |date, reason| {
            let revocation = Revocation { date, reason };
            BTreeMap::from([(Serial::from(2), revocation)])
        };
        let asked = CrlContent::new(Serial::from(1), revoked(now, Some(1)), now);
        let list = signer.sign(&asked).unwrap();
        assert!(signer.read_back(list.der(), &asked).is_ok());
        let with = |change: &dyn Fn(&mut CrlContent)| {
            let mut other = asked.clone();
            change(&mut other);
            let refused = signer.read_back(list.der(), &other).unwrap_err();
            assert_eq!(refused.rule(), Some("crl-readback"));
        };
        with(&|other| other.number = Serial::from(2));
        with(&|other| other.revoked = BTreeMap::new());
        with(&|other| other.revoked = revoked(later, Some(1)));
        with(&|other| other.revoked = revoked(now, Some(2)));
        with(&|other| other.this_update = later);
        with(&|other| other.next_update = later);
        let mut torn = list.der().to_vec();
        *torn.last_mut().unwrap() ^= 1;
        let refused = signer.read_back(&torn, &asked).unwrap_err();
        assert_eq!(refused.rule(), Some("crl-readback"));
        // Another signature over the same words, by a signer that has the name or the key wrong.
        for (name_der, key_id) in [
            (signer.key_id.clone(), signer.key_id.clone()),
            (signer.name_der.clone(), vec![7; 20]),
        ] {
            let mut wrong = CrlSigner::new(&read("ca_key.pem"), chain.signing()).unwrap();
            (wrong.name_der, wrong.key_id) = (name_der, key_id);
            assert!(wrong.sign(&asked).is_err());
        }
    }

    #[test]
    fn five_years_later_is_the_same_day_and_the_28th_of_a_leap_days() {
        let later = |text: &str| {
            let at: Timestamp = serde_json::from_str(&format!("{text:?}")).unwrap();
            years_after(at, VALID_YEARS).to_string()
        };
        assert_eq!(later("2026-11-22T12:25:32.5Z"), "2031-11-22T12:25:32Z");
        assert_eq!(later("2028-02-29T00:00:00Z"), "2033-02-28T00:00:00Z");
        assert_eq!(later("9999-01-01T00:00:00Z"), "9999-01-01T00:00:00Z");
    }
}
