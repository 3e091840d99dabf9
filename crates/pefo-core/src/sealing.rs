//! Sealed payloads: what crosses the spool and must be read by the peer's root only.
//!
//! age's format (age-encryption.org/v1, X25519): authenticated in chunks, so a cut or changed
//! payload is an error and never a shorter secret. Sealing says nothing about who sealed; that is the
//! signed manifest's business.

use std::fmt;
use std::io::{Read, Write};
use std::path::Path;
use std::str::FromStr;

use age::secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};

use crate::disk::{Attributes, Disk, read_capped};
use crate::error::{Error, Result};
use crate::packing;

/// To whom a payload is sealed: an age recipient (`age1…`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Recipient(String);

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Recipient {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        match text.parse::<age::x25519::Recipient>() {
            Ok(_) => Ok(Self(text.to_owned())),
            Err(reason) => Err(Error::invalid(format!(
                "{text:?} is not an age recipient: {reason}"
            ))),
        }
    }
}

impl TryFrom<String> for Recipient {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Recipient> for String {
    fn from(recipient: Recipient) -> Self {
        recipient.0
    }
}

/// Seals all that `plain` gives into `sealed`; each of `recipients` can open it.
///
/// # Errors
/// `Invalid` where there is no usable recipient or a stream fails.
pub fn seal_stream(
    recipients: &[Recipient],
    mut plain: impl Read,
    sealed: impl Write,
) -> Result<()> {
    let fail = |error: std::io::Error| Error::invalid(format!("seal: {error}")).with_source(error);
    let parsed = recipients
        .iter()
        .map(|recipient| recipient.0.parse::<age::x25519::Recipient>())
        .collect::<std::result::Result<Vec<_>, _>>()
        .map_err(|reason| Error::invalid(format!("age recipient: {reason}")))?;
    let encryptor = age::Encryptor::with_recipients(
        parsed
            .iter()
            .map(|recipient| recipient as &dyn age::Recipient),
    )
    .map_err(|error| Error::invalid(format!("seal: {error}")))?;
    let mut writer = encryptor.wrap_output(sealed).map_err(fail)?;
    std::io::copy(&mut plain, &mut writer).map_err(fail)?;
    writer.finish().map_err(fail)?;
    Ok(())
}

/// Seals some bytes.
///
/// # Errors
/// `Invalid`, where there is no usable recipient.
pub fn seal(recipients: &[Recipient], plain: &[u8]) -> Result<Vec<u8>> {
    let mut sealed = Vec::with_capacity(plain.len() + 512);
    seal_stream(recipients, plain, &mut sealed)?;
    Ok(sealed)
}

/// Opens what was sealed to us; stored as age's own key file, mode 0600, of root's.
pub struct UnsealingKey(age::x25519::Identity);

impl fmt::Debug for UnsealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UnsealingKey({})", self.0.to_public())
    }
}

impl UnsealingKey {
    /// A key that is stored nowhere.
    pub fn ephemeral() -> Self {
        Self(age::x25519::Identity::generate())
    }

    /// Makes a key and stores it at `path`, mode 0600.
    ///
    /// # Errors
    /// `Io` where it cannot be stored.
    pub fn create(disk: &Disk, path: &Path) -> Result<Self> {
        let identity = age::x25519::Identity::generate();
        let text = identity.to_string();
        disk.publish(
            path,
            format!("{}\n", text.expose_secret()).as_bytes(),
            &Attributes::mode(0o600),
        )?;
        Ok(Self(identity))
    }

    /// Reads the key stored at `path`.
    ///
    /// # Errors
    /// `Io`, or `Invalid` where it holds no age identity.
    pub fn load(path: &Path) -> Result<Self> {
        let bytes = read_capped(path, 4096)?;
        let text = String::from_utf8_lossy(&bytes);
        let line = text
            .lines()
            .find(|line| line.starts_with("AGE-SECRET-KEY-"));
        line.and_then(|line| line.trim().parse().ok())
            .map(Self)
            .ok_or_else(|| Error::invalid(format!("{} holds no age identity", path.display())))
    }

    /// To whom others seal.
    pub fn recipient(&self) -> Recipient {
        Recipient(self.0.to_public().to_string())
    }

    /// Opens a stream sealed to us into `plain`, at most `max_bytes` of it.
    ///
    /// # Errors
    /// `Refused` (`unseal`) where it is not sealed to this key or was changed or cut; `Invalid` where
    /// it is longer. What was written to `plain` by then must be thrown away.
    pub fn unseal_stream(
        &self,
        sealed: impl Read,
        plain: impl Write,
        max_bytes: u64,
    ) -> Result<u64> {
        let opened = self.opened(sealed)?.take(max_bytes.saturating_add(1));
        copy_capped(opened, plain, max_bytes)
    }

    /// As [`UnsealingKey::unseal_stream`], of what was packed before it was sealed.
    ///
    /// # Errors
    /// As [`UnsealingKey::unseal_stream`]; `Protocol` where this program was built without zstd.
    pub(crate) fn unseal_packed(
        &self,
        sealed: impl Read,
        plain: impl Write,
        max_bytes: u64,
    ) -> Result<u64> {
        copy_capped(
            packing::unpack(self.opened(sealed)?, max_bytes)?,
            plain,
            max_bytes,
        )
    }

    fn opened<R: Read>(&self, sealed: R) -> Result<impl Read + use<R>> {
        let decryptor = age::Decryptor::new(sealed).map_err(refuse)?;
        let identity = std::iter::once(&self.0 as &dyn age::Identity);
        decryptor.decrypt(identity).map_err(refuse)
    }

    /// Opens some bytes, at most `max_bytes` of plain text.
    ///
    /// # Errors
    /// As [`UnsealingKey::unseal_stream`].
    pub fn unseal(&self, sealed: &[u8], max_bytes: u64) -> Result<Vec<u8>> {
        let mut plain = Vec::new();
        self.unseal_stream(sealed, &mut plain, max_bytes)?;
        Ok(plain)
    }
}

fn refuse(reason: impl fmt::Display) -> Error {
    Error::refused("unseal", format!("cannot be opened: {reason}"))
        .hint("it was sealed to another key or damaged; pair again if this host was set up anew")
}

fn copy_capped(mut opened: impl Read, mut plain: impl Write, max_bytes: u64) -> Result<u64> {
    let copied = std::io::copy(&mut opened, &mut plain).map_err(refuse)?;
    if copied > max_bytes {
        return Err(Error::invalid(format!(
            "sealed payload is longer than {max_bytes} bytes"
        )));
    }
    Ok(copied)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_recipient_opens_it() {
        let (ours, other) = (UnsealingKey::ephemeral(), UnsealingKey::ephemeral());
        let sealed = seal(&[ours.recipient()], b"ca key").unwrap();
        assert!(!sealed.windows(6).any(|window| window == b"ca key"));
        assert_eq!(ours.unseal(&sealed, 100).unwrap(), b"ca key");
        assert_eq!(
            other.unseal(&sealed, 100).unwrap_err().rule(),
            Some("unseal")
        );
    }

    #[test]
    fn every_recipient_opens_the_same_payload() {
        let (one, two) = (UnsealingKey::ephemeral(), UnsealingKey::ephemeral());
        let sealed = seal(&[one.recipient(), two.recipient()], b"x").unwrap();
        assert_eq!(
            one.unseal(&sealed, 1).unwrap(),
            two.unseal(&sealed, 1).unwrap()
        );
        assert!(seal(&[], b"x").is_err());
    }

    #[test]
    fn a_cut_or_changed_payload_is_an_error_at_every_byte() {
        let key = UnsealingKey::ephemeral();
        let sealed = seal(&[key.recipient()], b"secret").unwrap();
        for at in 0..sealed.len() {
            assert!(key.unseal(&sealed[..at], 100).is_err(), "cut at {at}");
        }
        for at in (0..sealed.len()).step_by(7) {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(key.unseal(&changed, 100).is_err(), "changed at {at}");
        }
    }

    #[test]
    fn a_longer_payload_than_announced_is_refused() {
        let key = UnsealingKey::ephemeral();
        let sealed = seal(&[key.recipient()], &[0; 100]).unwrap();
        assert!(key.unseal(&sealed, 99).is_err());
    }
}
