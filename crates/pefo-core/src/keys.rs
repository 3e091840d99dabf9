//! Ed25519 keys: who signed a document, and is that the peer we paired with?
//!
//! The private key is a PKCS#8 file, mode 0600, of root's; the public key travels in the pairing
//! line. A [`KeyId`] names a key: the first 16 bytes of the BLAKE3 digest of the public key.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SecureRandom;
use ring::signature::{Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use serde::{Deserialize, Serialize};

use crate::disk::{Attributes, Disk, read_capped};
use crate::error::{Error, ErrorKind, Result};

/// Names a public key: 32 hex digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyId(String);

impl KeyId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for KeyId {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        if text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            Ok(Self(text))
        } else {
            Err(Error::invalid(format!(
                "key id {text:?} is not 32 lower-case hex digits"
            )))
        }
    }
}

impl From<KeyId> for String {
    fn from(id: KeyId) -> Self {
        id.0
    }
}

/// An Ed25519 public key (RFC 8032); written as unpadded URL-safe base64.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// The key's name.
    pub fn id(&self) -> KeyId {
        KeyId(
            blake3::hash(&self.0)
                .to_hex()
                .as_str()
                .chars()
                .take(32)
                .collect(),
        )
    }

    /// Checks a signature.
    ///
    /// # Errors
    /// `Refused` with rule `signature` where it is not this key's over these bytes.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<()> {
        UnparsedPublicKey::new(&ring::signature::ED25519, &self.0)
            .verify(message, signature)
            .map_err(|_| {
                Error::refused(
                    "signature",
                    format!("the signature is not that of key {}", self.id()),
                )
            })
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl FromStr for PublicKey {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let bytes = URL_SAFE_NO_PAD
            .decode(text)
            .ok()
            .and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        bytes.map(Self).ok_or_else(|| {
            Error::invalid(format!("{text:?} is not an Ed25519 public key in base64"))
        })
    }
}

impl TryFrom<String> for PublicKey {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> Self {
        key.to_string()
    }
}

/// An Ed25519 signing key. Its `Debug` shows the public half only.
pub struct SigningKey(Ed25519KeyPair);

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.public().id())
    }
}

impl SigningKey {
    /// Makes a key and stores it at `path`, mode 0600.
    ///
    /// # Errors
    /// `Io` where it cannot be stored.
    pub fn create(disk: &Disk, path: &Path, random: &dyn SecureRandom) -> Result<Self> {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(random)
            .map_err(|_| Error::new(ErrorKind::Io, "the system's random source failed"))?;
        disk.publish(path, pkcs8.as_ref(), &Attributes::mode(0o600))?;
        Self::from_pkcs8(pkcs8.as_ref()).map_err(|error| error.context(path.display()))
    }

    /// Reads the key stored at `path`.
    ///
    /// # Errors
    /// `Io`, or `Invalid` where it holds no Ed25519 key.
    pub fn load(path: &Path) -> Result<Self> {
        let bytes = read_capped(path, 4096)?;
        Self::from_pkcs8(&bytes).map_err(|error| error.context(path.display()))
    }

    /// From PKCS#8 bytes (RFC 8410).
    ///
    /// # Errors
    /// `Invalid`.
    pub fn from_pkcs8(bytes: &[u8]) -> Result<Self> {
        Ed25519KeyPair::from_pkcs8(bytes)
            .map(Self)
            .map_err(|_| Error::invalid("no Ed25519 key in PKCS#8"))
    }

    /// A key that is stored nowhere.
    ///
    /// # Errors
    /// `Io` where the random source fails.
    pub fn ephemeral(random: &dyn SecureRandom) -> Result<Self> {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(random)
            .map_err(|_| Error::new(ErrorKind::Io, "the system's random source failed"))?;
        Self::from_pkcs8(pkcs8.as_ref())
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        let mut bytes = [0; 32];
        for (to, from) in bytes.iter_mut().zip(self.0.public_key().as_ref()) {
            *to = *from;
        }
        PublicKey(bytes)
    }

    /// Signs a message.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.0.sign(message).as_ref().to_vec()
    }
}

/// The system's random source, for those who have no other to hand in.
pub fn system_random() -> impl SecureRandom {
    ring::rand::SystemRandom::new()
}

/// `N` random bytes.
///
/// # Errors
/// `Io` where the random source fails.
pub fn random_bytes<const N: usize>(random: &dyn SecureRandom) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    random
        .fill(&mut bytes)
        .map_err(|_| Error::new(ErrorKind::Io, "the system's random source failed"))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_bound_to_key_and_message() {
        let (one, two) = (
            SigningKey::ephemeral(&system_random()).unwrap(),
            SigningKey::ephemeral(&system_random()).unwrap(),
        );
        let signature = one.sign(b"message");
        one.public().verify(b"message", &signature).unwrap();
        assert_eq!(
            one.public()
                .verify(b"massage", &signature)
                .unwrap_err()
                .rule(),
            Some("signature")
        );
        assert_eq!(
            two.public()
                .verify(b"message", &signature)
                .unwrap_err()
                .rule(),
            Some("signature")
        );
        assert!(one.public().verify(b"message", &[]).is_err());
    }

    #[test]
    fn a_stored_key_is_private_and_reads_back() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("signing.key");
        let key = SigningKey::create(&Disk::new(), &path, &system_random()).unwrap();
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(SigningKey::load(&path).unwrap().public(), key.public());
    }

    #[test]
    fn a_public_key_travels_as_text() {
        let key = SigningKey::ephemeral(&system_random()).unwrap().public();
        assert_eq!(key.to_string().parse::<PublicKey>().unwrap(), key);
        assert!("short".parse::<PublicKey>().is_err());
    }
}
