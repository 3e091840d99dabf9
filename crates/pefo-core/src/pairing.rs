//! Pairing lines: how two masters come to know each other.
//!
//! One line of text that an operator carries from one host to the other: public keys, fingerprints
//! and addresses, nothing secret. It ends in a checksum, so that a line cut or mangled on its way is
//! told at once.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::certname::Certname;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::generation::Site;
use crate::keys::PublicKey;
use crate::reign::Role;
use crate::sealing::Recipient;

/// What a master says of itself when it is paired.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Introduction {
    /// Version of this record's schema: 1.
    pub format: u32,
    /// The pair's name, chosen by the first active.
    pub site: Site,
    /// The master's certname.
    pub certname: Certname,
    /// What it is at the time.
    pub role: Role,
    /// The key that signs its documents.
    pub signing: PublicKey,
    /// To whom payloads for its root are sealed.
    pub sealing: Recipient,
    /// The public ssh key it logs in with: `ssh-ed25519 AAAA…`.
    pub ssh_key: String,
    /// Its sshd's public host keys, as in known_hosts without the host.
    pub host_keys: Vec<String>,
    /// Where its sshd is reached.
    pub host: String,
    /// That sshd's port.
    pub port: u16,
    /// The transfer account on it.
    pub user: String,
    /// The SHA-256 fingerprint of its signing CA's certificate, as Puppet prints it.
    pub ca_fingerprint: Option<String>,
    /// The signed record of the reign it lives under; an active's own.
    pub reign: Option<String>,
}

const PREFIX: &str = "pefo-pair-1";

impl Introduction {
    /// The line to carry over.
    ///
    /// # Errors
    /// `Invalid`, where it cannot be written.
    pub fn line(&self) -> Result<String> {
        let json = serde_json::to_vec(self)
            .map_err(|error| Error::invalid(format!("write pairing line: {error}")))?;
        let body = URL_SAFE_NO_PAD.encode(json);
        Ok(format!("{PREFIX}.{body}.{}", checksum(&body)))
    }

    /// Reads a line.
    ///
    /// # Errors
    /// `Invalid`, saying whether it is no pairing line at all or was damaged on its way.
    pub fn parse(line: &str) -> Result<Self> {
        let line = line.trim();
        let mut parts = line.split('.');
        let (Some(PREFIX), Some(body), Some(sum), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Error::invalid("this is no pairing line")
                .hint("it starts with 'pefo-pair-1.' and is printed by 'pefo init' on the other master; quote it"));
        };
        if checksum(body) != sum {
            return Err(Error::invalid(
                "the pairing line was damaged on its way: its checksum differs",
            )
            .hint("copy the whole line again; terminals like to break long lines"));
        }
        let json = URL_SAFE_NO_PAD
            .decode(body)
            .map_err(|error| Error::invalid("pairing line").with_source(error))?;
        let introduction: Self = serde_json::from_slice(&json)
            .map_err(|error| Error::invalid(format!("pairing line: {error}")).with_source(error))?;
        introduction.validate()?;
        Ok(introduction)
    }

    /// What becomes part of ssh's files must be one line of plain words.
    fn validate(&self) -> Result<()> {
        let is_key = |key: &str| {
            let mut words = key.split(' ');
            let of = |word: &str, extra: &[u8]| {
                !word.is_empty()
                    && word
                        .bytes()
                        .all(|b| b.is_ascii_alphanumeric() || extra.contains(&b))
            };
            let kind = words.next().is_some_and(|word| {
                (word.starts_with("ssh-") || word.starts_with("ecdsa-sha2-")) && of(word, b"-@.")
            });
            let body = words.next().is_some_and(|word| of(word, b"+/="));
            kind && body
                && words.all(|word| word.bytes().all(|b| b.is_ascii_graphic() && b != b'"'))
        };
        let is_plain = |text: &str, extra: &[u8]| {
            !text.is_empty()
                && text.len() <= 253
                && text
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || extra.contains(&b))
                && !text.starts_with('-')
        };
        let fault = if self.format != 1 {
            "its format is newer than this pefo reads"
        } else if !is_key(&self.ssh_key)
            || !self.host_keys.iter().all(|key| is_key(key))
            || self.host_keys.is_empty()
        {
            "an ssh key in it is malformed"
        } else if !self.ca_fingerprint.iter().all(|text| is_plain(text, b":")) {
            "its CA's fingerprint is malformed"
        } else if !is_plain(&self.host, b".-_:") || !is_plain(&self.user, b"-_") {
            "its host or user is malformed"
        } else {
            return Ok(());
        };
        Err(Error::invalid(format!("pairing line: {fault}")))
    }
}

fn checksum(body: &str) -> String {
    Digest::of(body.as_bytes()).short()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{SigningKey, system_random};
    use crate::sealing::UnsealingKey;
    use proptest::prelude::*;

    fn introduction() -> Introduction {
        Introduction {
            format: 1,
            site: Site::new("0123456789abcdef0123456789abcdef").unwrap(),
            certname: Certname::new("puppet-b.lab").unwrap(),
            role: Role::Passive,
            signing: SigningKey::ephemeral(&system_random()).unwrap().public(),
            sealing: UnsealingKey::ephemeral().recipient(),
            ssh_key: "ssh-ed25519 AAAAC3Nza pefo@puppet-b".into(),
            host_keys: vec!["ssh-ed25519 AAAAC3NzaC1".into()],
            host: "puppet-b.lab".into(),
            port: 22,
            user: "pe-transfer".into(),
            ca_fingerprint: None,
            reign: None,
        }
    }

    #[test]
    fn a_line_reads_back() {
        let introduction = introduction();
        assert_eq!(
            Introduction::parse(&format!(" {}\n", introduction.line().unwrap())).unwrap(),
            introduction
        );
    }

    #[test]
    fn a_line_that_would_write_options_into_sshs_files_is_refused() {
        let base = introduction();
        for bad in [
            Introduction {
                ssh_key: "command=\"sh\" ssh-ed25519 AAAA".into(),
                ..base.clone()
            },
            Introduction {
                ssh_key: "ssh-ed25519 AAAA\nssh-ed25519 BBBB".into(),
                ..base.clone()
            },
            Introduction {
                ssh_key: "ssh-x\nssh-rsa AAAA".into(),
                ..base.clone()
            },
            Introduction {
                host_keys: vec!["ssh-\u{7f}\"x AAAA".into()],
                ..base.clone()
            },
            Introduction {
                ssh_key: "ssh-ed25519 ".into(),
                ..base.clone()
            },
            Introduction {
                ca_fingerprint: Some("AB:\x1b[2J".into()),
                ..base.clone()
            },
            Introduction {
                host: "-oProxyCommand=x".into(),
                ..base.clone()
            },
            Introduction {
                user: "a b".into(),
                ..base.clone()
            },
            Introduction {
                host_keys: vec![],
                ..base
            },
        ] {
            assert!(
                Introduction::parse(&bad.line().unwrap()).is_err(),
                "{bad:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn a_damaged_line_is_told(at in any::<prop::sample::Index>()) {
            let line = introduction().line().unwrap();
            let mut bytes = line.into_bytes();
            bytes.remove(at.index(bytes.len()));
            prop_assert!(Introduction::parse(&String::from_utf8(bytes).unwrap()).is_err());
        }
    }
}
