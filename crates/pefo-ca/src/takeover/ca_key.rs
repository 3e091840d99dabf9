//! The CA's private key, and how its issuer's name and key identifier go into what it signs.
//!
//! Signs with sha256WithRSAEncryption, or with ECDSA and the hash that fits the curve. Where the key is used,
//! the issuer is byte for byte the certificate's subject, and the authority key identifier is that of the
//! certificate.

use std::fmt;
use std::path::Path;

use pefo_core::disk::read_capped;
use pefo_core::{Error, Result};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, RSA_PKCS1_SHA256, RsaKeyPair,
};
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::der;
use crate::cert::{Cert, parse_certificate};
use crate::key::{self, Secret};
use crate::layout::CaLayout;

/// sha256WithRSAEncryption, RFC 4055 §5, with its NULL.
const SHA256_WITH_RSA: &[u8] = b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b\x05\x00";
/// ecdsa-with-SHA256, RFC 5758 §3.2.
const ECDSA_WITH_SHA256: &[u8] = b"\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02";
/// ecdsa-with-SHA384, RFC 5758 §3.2.
const ECDSA_WITH_SHA384: &[u8] = b"\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x03";
/// id-ce-authorityKeyIdentifier, RFC 5280 §4.2.1.1 and §5.2.1.
const AUTHORITY_KEY_IDENTIFIER: &[u8] = b"\x06\x03\x55\x1d\x23";
/// keyIdentifier [0] IMPLICIT in AuthorityKeyIdentifier, §4.2.1.1.
const KEY_IDENTIFIER: u8 = 0x80;

/// secp256r1, RFC 5480 §2.1.1.1.
const P256: &str = "1.2.840.10045.3.1.7";
/// secp384r1, RFC 5480 §2.1.1.1.
const P384: &str = "1.3.132.0.34";

/// The key, beside the certificate that it belongs to. It is never shown and never given away.
pub(super) struct CaKey {
    pub(super) authority: Cert,
    /// The authority's subject, as its certificate has it.
    pub(super) name_der: Vec<u8>,
    pub(super) key_id: Vec<u8>,
    key: Key,
    random: SystemRandom,
}

enum Key {
    Rsa(Box<RsaKeyPair>),
    Ecdsa(Box<EcdsaKeyPair>, &'static [u8]),
}

impl CaKey {
    /// Reads the key of a live CA.
    ///
    /// # Errors
    /// `Refused` (`ca-key-missing`), `Io`, and those of [`CaKey::new`].
    pub(super) fn load(layout: &CaLayout, authority: &Cert) -> Result<Self> {
        Self::new(&read_capped(&layout.key_path()?, 1 << 20)?, authority)
    }

    /// Takes the CA's key as PEM (PKCS#1, SEC 1 or PKCS#8) and its certificate.
    ///
    /// # Errors
    /// `Invalid` where the key cannot be read; `Refused`: `ca-identity` where it is not the
    /// certificate's, `ca-key-unsupported` where nothing here signs with it.
    pub(super) fn new(key_pem: &[u8], authority: &Cert) -> Result<Self> {
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
                None => key_id_of(&certificate.public_key().subject_public_key.data),
            },
            authority: authority.clone(),
            key,
            random: SystemRandom::new(),
        })
    }

    /// AlgorithmIdentifier of what it signs.
    pub(super) fn algorithm(&self) -> &'static [u8] {
        match &self.key {
            Key::Rsa(_) => SHA256_WITH_RSA,
            Key::Ecdsa(_, algorithm) => algorithm,
        }
    }

    /// The extension that names it, in a certificate as in a CRL.
    pub(super) fn authority_key_identifier(&self) -> Vec<u8> {
        let key_id = der::sequence([&der::element(KEY_IDENTIFIER, &self.key_id)]);
        der::extension(AUTHORITY_KEY_IDENTIFIER, &key_id)
    }

    /// Signs, and gives the whole: what was to be signed, the algorithm, the signature.
    ///
    /// # Errors
    /// Where the key does not sign.
    pub(super) fn sign(&self, to_be_signed: &[u8]) -> Result<Vec<u8>, ring::error::Unspecified> {
        let signature = match &self.key {
            Key::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(
                    &RSA_PKCS1_SHA256,
                    &self.random,
                    to_be_signed,
                    &mut signature,
                )?;
                signature
            }
            Key::Ecdsa(pair, _) => pair.sign(&self.random, to_be_signed)?.as_ref().to_vec(),
        };
        Ok(der::sequence([
            to_be_signed,
            self.algorithm(),
            &der::bit_string(&signature),
        ]))
    }
}

impl fmt::Debug for CaKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CaKey({})", self.authority.subject)
    }
}

/// The identifier of a public key, from the octets of its BIT STRING: RFC 5280 §4.2.1.2, method 1.
pub(super) fn key_id_of(public_key: &[u8]) -> Vec<u8> {
    digest(&SHA1_FOR_LEGACY_USE_ONLY, public_key)
        .as_ref()
        .to_vec()
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

fn unsupported(message: impl fmt::Display) -> Error {
    Error::refused("ca-key-unsupported", format!("ca_key.pem {message}"))
        .hint("The CRL has to be signed by puppetserver itself: revoke something there.")
}
