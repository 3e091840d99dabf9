//! The host keys pinned at pairing: which are offered, whether the server shows one of them.
//!
//! Only the algorithms of pinned keys are offered, so that a server with several keys shows the pinned
//! one. Another key is a refusal that names both fingerprints, as OpenSSH writes them.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use pefo_core::{Error, ErrorKind, Result};
use ssh2::{CheckResult, HashType, KnownHostFileKind, Session};

use super::SshTarget;

/// The pinned keys, parsed.
pub(super) struct Pinned {
    keys: Vec<PinnedKey>,
}

struct PinnedKey {
    kind: String,
    body: String,
    blob: Vec<u8>,
}

impl PinnedKey {
    /// As OpenSSH shows it: SHA-256 over the key's blob (RFC 4253 §6.6), unpadded base64.
    fn fingerprint(&self) -> String {
        let hash = ring::digest::digest(&ring::digest::SHA256, &self.blob);
        format!("SHA256:{}", STANDARD_NO_PAD.encode(hash))
    }
}

impl Pinned {
    pub(super) fn parse(lines: &[String]) -> Result<Self> {
        let bad = |line: &str| {
            Error::new(
                ErrorKind::Config,
                format!("pinned host key {line:?} is not 'TYPE BASE64'"),
            )
            .hint("pair the two masters again: pefo init")
        };
        let mut keys = Vec::new();
        for line in lines {
            let mut words = line.split_ascii_whitespace();
            let (Some(kind), Some(body)) = (words.next(), words.next()) else {
                return Err(bad(line));
            };
            let blob = STANDARD.decode(body).map_err(|_| bad(line))?;
            keys.push(PinnedKey {
                kind: kind.to_owned(),
                body: body.to_owned(),
                blob,
            });
        }
        if keys.is_empty() {
            return Err(
                Error::new(ErrorKind::Config, "no host key of the peer is pinned")
                    .hint("pair the two masters: pefo init"),
            );
        }
        Ok(Self { keys })
    }

    /// The algorithms to offer: those of the pinned keys only.
    pub(super) fn methods(&self) -> String {
        let mut methods: Vec<&str> = Vec::new();
        for key in &self.keys {
            let algorithms: &[&str] = match key.kind.as_str() {
                // An RSA key signs with SHA-2 (RFC 8332); with SHA-1 no longer.
                "ssh-rsa" => &["rsa-sha2-512", "rsa-sha2-256"],
                other => &[other],
            };
            for algorithm in algorithms {
                if !methods.contains(algorithm) {
                    methods.push(algorithm);
                }
            }
        }
        methods.join(",")
    }

    /// Whether the server has shown one of them.
    pub(super) fn shown_by(&self, session: &Session, target: &SshTarget) -> Result<bool> {
        let failed = |error: ssh2::Error| {
            Error::new(ErrorKind::Config, format!("pinned host keys: {error}")).with_source(error)
        };
        let mut known = session.known_hosts().map_err(failed)?;
        for key in &self.keys {
            let line = format!(
                "[{}]:{} {} {}",
                target.host, target.port, key.kind, key.body
            );
            known
                .read_str(&line, KnownHostFileKind::OpenSSH)
                .map_err(failed)?;
        }
        Ok(session.host_key().is_some_and(|(key, _)| {
            matches!(
                known.check_port(&target.host, target.port, key),
                CheckResult::Match
            )
        }))
    }

    /// The server showed another key.
    pub(super) fn refused(&self, target: &SshTarget, session: &Session) -> Error {
        let shown = session
            .host_key_hash(HashType::Sha256)
            .map(|hash| format!("SHA256:{}", STANDARD_NO_PAD.encode(hash)));
        let expected: Vec<_> = self
            .keys
            .iter()
            .map(|key| format!("{} ({})", key.fingerprint(), key.kind))
            .collect();
        Error::refused(
            "host-key",
            format!(
                "{}:{} shows host key {}, pinned is {}",
                target.host,
                target.port,
                shown.as_deref().unwrap_or("of an unknown kind"),
                expected.join(" or ")
            ),
        )
        .hint("if the peer was reinstalled, pair the two masters again (pefo init --rekey); if not, somebody else answers for it")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl comment";

    #[test]
    fn only_the_pinned_types_are_offered() {
        let rsa = "ssh-rsa AAAAB3NzaC1yc2E=".to_owned();
        let pinned = Pinned::parse(&[KEY.to_owned(), rsa, KEY.to_owned()]).unwrap();
        assert_eq!(pinned.methods(), "ssh-ed25519,rsa-sha2-512,rsa-sha2-256");
    }

    #[test]
    fn a_fingerprint_reads_as_openssh_shows_it() {
        // `ssh-keygen -lf` of GitHub's published Ed25519 host key shows this.
        let pinned = Pinned::parse(&[KEY.to_owned()]).unwrap();
        let shown: Vec<_> = pinned.keys.iter().map(PinnedKey::fingerprint).collect();
        assert_eq!(
            shown,
            ["SHA256:+DiY3wvvV6TuJJhbpZisF/zLDA0zPMSvHdkr4UvCOqU"]
        );
    }

    #[test]
    fn a_malformed_pin_is_a_configuration_error() {
        for lines in [
            vec![],
            vec!["ssh-ed25519".to_owned()],
            vec!["ssh-ed25519 !!".to_owned()],
        ] {
            let error = Pinned::parse(&lines).err().unwrap();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.hint_text().is_some());
        }
    }
}
