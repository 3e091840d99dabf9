//! Until when certificates and CRLs hold, read from any PEM file of Puppet's.
//!
//! A CRL that is out of date stops more than a certificate: agents that check revocation refuse every server
//! after its `nextUpdate`, whatever their own certificates say. So both are told in the same way, each block of
//! a file by itself. Whose a certificate is, and who signed it, is not looked at.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use pefo_core::Result;
use pefo_core::clock::Timestamp;
use pefo_core::disk::read_capped;
use serde::Serialize;

use crate::cert::Cert;
use crate::crl::Crl;
use crate::malformed::Malformed;
use crate::pem;

/// The largest file that is read, in bytes: a CRL of a million revocations is shorter.
const MAX_BYTES: u64 = 256 << 20;

/// What holds for a time only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A certificate.
    Certificate,
    /// A revocation list.
    Crl,
}

/// From when until when one certificate or CRL holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Validity {
    /// What it is.
    pub kind: Kind,
    /// A certificate's subject, or a CRL's issuer.
    pub name: String,
    /// Valid from (RFC 5280 §4.1.2.5), or issued (§5.1.2.4).
    pub from: Timestamp,
    /// Valid until, or when the next one comes (§5.1.2.5). A CRL need not say.
    pub until: Option<Timestamp>,
}

/// How much time before the end is little.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Margins {
    /// Less than this is told.
    pub soon: Duration,
    /// Less than this needs somebody now.
    pub now: Duration,
}

/// How urgent a renewal is, the worst last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Urgency {
    /// It holds long enough.
    Fine,
    /// It should be renewed.
    Soon,
    /// It must be renewed now.
    Now,
    /// It does not hold yet: it is from the future, or the clock is wrong.
    NotYet,
    /// It holds no more.
    Over,
}

impl Validity {
    /// Every certificate and CRL of a PEM file, in its order; other blocks, such as keys, are passed over.
    ///
    /// # Errors
    /// `Io`; `Invalid` where the file is torn or a block is none of what it says.
    pub fn read(path: &Path) -> Result<Vec<Self>> {
        let bytes = read_capped(path, MAX_BYTES)?;
        Self::of_pem(&bytes).map_err(|error| error.in_file(path))
    }

    /// As [`Validity::read`], of a file's bytes.
    ///
    /// # Errors
    /// A rule of [`pem`], `cert-der`, `crl-der`, `date-range`.
    pub fn of_pem(bytes: &[u8]) -> Result<Vec<Self>, Malformed> {
        let mut found = Vec::new();
        for block in pem::blocks(bytes)? {
            let one = match block.label.as_str() {
                "CERTIFICATE" | "TRUSTED CERTIFICATE" | "X509 CERTIFICATE" => {
                    Cert::from_der(&block.der).map(|cert| Self::of_cert(&cert))
                }
                "X509 CRL" => Crl::from_der(&block.der).map(|crl| Self::of_crl(&crl)),
                _ => continue,
            };
            found.push(one.map_err(|error| error.at(block.line))?);
        }
        Ok(found)
    }

    /// That of a certificate.
    pub fn of_cert(cert: &Cert) -> Self {
        Self {
            kind: Kind::Certificate,
            name: cert.subject.to_string(),
            from: cert.not_before,
            until: Some(cert.not_after),
        }
    }

    /// That of a CRL.
    pub fn of_crl(crl: &Crl) -> Self {
        Self {
            kind: Kind::Crl,
            name: crl.issuer.to_string(),
            from: crl.this_update,
            until: crl.next_update,
        }
    }

    /// How long it still holds at `now`; `None` where it says no end.
    pub fn left(&self, now: Timestamp) -> Option<Duration> {
        self.until.map(|until| until.since(now))
    }

    /// How urgent its renewal is at `now`.
    pub fn urgency(&self, now: Timestamp, margins: &Margins) -> Urgency {
        if self.until.is_some_and(|until| until < now) {
            return Urgency::Over;
        }
        if self.from > now {
            return Urgency::NotYet;
        }
        match self.left(now) {
            Some(left) if left < margins.now => Urgency::Now,
            Some(left) if left < margins.soon => Urgency::Soon,
            _ => Urgency::Fine,
        }
    }
}

impl fmt::Display for Validity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::Certificate => write!(f, "the certificate of {}", self.name),
            Kind::Crl => write!(f, "the CRL of {}", self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY: u64 = 86_400;
    const MARGINS: Margins = Margins {
        soon: Duration::from_secs(30 * DAY),
        now: Duration::from_secs(7 * DAY),
    };

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_unix_seconds(i64::try_from(seconds).unwrap()).unwrap()
    }

    fn holds(from: u64, until: Option<u64>) -> Validity {
        Validity {
            kind: Kind::Crl,
            name: "CN=Puppet CA: lab".to_owned(),
            from: at(from),
            until: until.map(at),
        }
    }

    #[test]
    fn the_nearer_the_end_the_more_urgent_it_is() {
        let crl = holds(DAY, Some(100 * DAY));
        let urgency = |now| crl.urgency(at(now), &MARGINS);
        assert_eq!(urgency(DAY - 1), Urgency::NotYet);
        assert_eq!(urgency(70 * DAY), Urgency::Fine);
        assert_eq!(urgency(70 * DAY + 1), Urgency::Soon);
        assert_eq!(urgency(93 * DAY + 1), Urgency::Now);
        assert_eq!(urgency(100 * DAY), Urgency::Now);
        assert_eq!(urgency(100 * DAY + 1), Urgency::Over);
        assert_eq!(
            holds(0, None).urgency(at(9_000 * DAY), &MARGINS),
            Urgency::Fine
        );
    }

    #[test]
    fn what_is_no_pem_is_an_error_and_a_key_is_passed_over() {
        assert_eq!(Validity::of_pem(b"").unwrap_err().rule, "pem-empty");
        let key = pem::encode("PRIVATE KEY", b"secret");
        assert_eq!(Validity::of_pem(key.as_bytes()).unwrap(), []);
        let torn = pem::encode("X509 CRL", b"no crl");
        assert_eq!(
            Validity::of_pem(torn.as_bytes()).unwrap_err().rule,
            "crl-der"
        );
    }

    proptest! {
        #[test]
        fn it_grows_more_urgent_with_time_and_never_less(
            until in 0..400_u64, a in 0..500_u64, b in 0..500_u64,
        ) {
            let crl = holds(0, Some(until * DAY));
            let (first, second) = (a.min(b), a.max(b));
            prop_assert!(crl.urgency(at(first * DAY), &MARGINS) <= crl.urgency(at(second * DAY), &MARGINS));
        }
    }
}
