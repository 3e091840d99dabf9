//! CRLs signed with the CA's own key (RFC 5280 §5), as puppetserver signs them.
//!
//! Version 2; the issuer byte for byte the certificate's subject; the authority key identifier that of
//! the certificate; sha256WithRSAEncryption, or ECDSA with the hash that fits the curve. Each CRL is read
//! back, verified under the certificate and compared with what was asked for before it is handed out.

use std::collections::BTreeMap;
use std::fmt;

use pefo_core::clock::Timestamp;
use pefo_core::{Error, Result};
use time::{Month, OffsetDateTime};

use super::ca_key::CaKey;
use super::der;
use super::issuer::CertIssuer;
use crate::cert::Cert;
use crate::crl::{Crl, Revocation};
use crate::layout::CaLayout;
use crate::malformed::Malformed;
use crate::plan::{Conflict, Rule};
use crate::serial::Serial;

/// id-ce-cRLNumber, §5.2.3.
const CRL_NUMBER: &[u8] = b"\x06\x03\x55\x1d\x14";
/// id-ce-cRLReasons, §5.3.1.
const REASON_CODE: &[u8] = b"\x06\x03\x55\x1d\x15";
/// crlExtensions [0] EXPLICIT in TBSCertList, §5.1.
const CRL_EXTENSIONS: u8 = 0xa0;

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
    key: CaKey,
}

impl CrlSigner {
    /// Reads the key of a live CA.
    ///
    /// # Errors
    /// `Refused` (`ca-key-missing`), `Io`, and those of [`CrlSigner::new`].
    pub fn load(layout: &CaLayout, authority: &Cert) -> Result<Self> {
        CaKey::load(layout, authority).map(|key| Self { key })
    }

    /// Takes the CA's key as PEM (PKCS#1, SEC 1 or PKCS#8) and its certificate.
    ///
    /// # Errors
    /// `Invalid` where the key cannot be read; `Refused`: `ca-identity` where it is not the
    /// certificate's, `ca-key-unsupported` where nothing here signs with it.
    pub fn new(key_pem: &[u8], authority: &Cert) -> Result<Self> {
        CaKey::new(key_pem, authority).map(|key| Self { key })
    }

    /// What issues certificates with the same key.
    pub fn issuer(&self) -> CertIssuer<'_> {
        CertIssuer::of(&self.key)
    }

    /// The CA whose CRLs these are.
    pub fn authority(&self) -> &Cert {
        &self.key.authority
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
        let list = self
            .key
            .sign(&signed_part)
            .map_err(|_| readback("the key did not sign"))?;
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
        let extensions = der::sequence([
            &der::extension(CRL_NUMBER, &der::integer(&content.number.to_be_bytes())),
            &self.key.authority_key_identifier(),
        ]);
        Ok(der::sequence([
            // Version 2 is written as 1.
            &der::integer(&[1]),
            self.key.algorithm(),
            &self.key.name_der,
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
        crl.verify_signed_by(self.authority()).map_err(refuse)?;
        let seconds = |revoked: &BTreeMap<Serial, Revocation>| -> Vec<_> {
            revoked
                .iter()
                .map(|(serial, why)| (*serial, why.date.unix_seconds(), why.reason))
                .collect()
        };
        let is_as_asked = crl.is_of(self.authority())
            && crl.authority_key_id.as_ref() == Some(&self.key.key_id)
            && crl.issuer_der().is_ok_and(|name| name == self.key.name_der)
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
        write!(f, "CrlSigner({})", self.authority().subject)
    }
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
            (signer.key.key_id.clone(), signer.key.key_id.clone()),
            (signer.key.name_der.clone(), vec![7; 20]),
        ] {
            let mut wrong = CrlSigner::new(&read("ca_key.pem"), chain.signing()).unwrap();
            (wrong.key.name_der, wrong.key.key_id) = (name_der, key_id);
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
