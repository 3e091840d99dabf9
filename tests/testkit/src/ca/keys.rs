//! The keys of throwaway CAs: fixtures for RSA, which ring cannot generate, or fresh ECDSA keys.

use rcgen::KeyPair;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

use super::Result;

const CA: &str = include_str!("../../fixtures/ca/ca-rsa.pem");
const ROOT: &str = include_str!("../../fixtures/ca/root-rsa.pem");
const NODE: &str = include_str!("../../fixtures/ca/node-rsa.pem");

/// The header of an RSA key of 2048 to 4096 bits in PKCS#8: what follows is its PKCS#1 form.
const PKCS8_RSA_HEADER_BYTES: usize = 26;

/// Which keys a CA gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keys {
    /// The fixtures: the same CA key every time.
    Rsa,
    /// The fixtures with CA and root swapped: another authority.
    OtherRsa,
    /// Fresh P-256 keys: fast, for model tests.
    Ecdsa,
}

impl Keys {
    /// Signing CA, root, nodes.
    pub(super) fn load(self) -> Result<(KeyPair, KeyPair, KeyPair)> {
        Ok(match self {
            Self::Rsa => (
                KeyPair::from_pem(CA)?,
                KeyPair::from_pem(ROOT)?,
                KeyPair::from_pem(NODE)?,
            ),
            Self::OtherRsa => (
                KeyPair::from_pem(ROOT)?,
                KeyPair::from_pem(CA)?,
                KeyPair::from_pem(NODE)?,
            ),
            Self::Ecdsa => (
                KeyPair::generate()?,
                KeyPair::generate()?,
                KeyPair::generate()?,
            ),
        })
    }
}

/// The same key once more.
pub(super) fn again(key: &KeyPair) -> Result<KeyPair> {
    Ok(KeyPair::from_pem(&key.serialize_pem())?)
}

/// The key identifier as Puppet computes it: SHA-1 of the public key (RFC 5280 §4.2.1.2, method 1).
pub(super) fn key_id(key: &KeyPair) -> Vec<u8> {
    digest(&SHA1_FOR_LEGACY_USE_ONLY, key.public_key_raw())
        .as_ref()
        .to_vec()
}

/// The private key as Puppet writes it: PKCS#1 for RSA, PKCS#8 for the rest.
pub(super) fn traditional_pem(key: &KeyPair) -> String {
    if key.is_compatible(&rcgen::PKCS_RSA_SHA256) {
        let inner = key
            .serialized_der()
            .get(PKCS8_RSA_HEADER_BYTES..)
            .unwrap_or_default();
        super::write::pem("RSA PRIVATE KEY", inner)
    } else {
        key.serialize_pem()
    }
}
