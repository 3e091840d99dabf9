//! What the server does: sign, revoke, clean, renew, take requests, re-sign its CRL.

use std::collections::BTreeMap;

use rcgen::{
    CertificateParams, CertificateRevocationListParams, CustomExtension, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevocationReason,
    RevokedCertParams, SerialNumber,
};
use time::macros::format_description;
use time::{Duration, OffsetDateTime};

use super::{Result, TestCa, keys};

/// How far a signature goes before the "server" stops, in the server's own order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// requests/X stands.
    Request,
    /// The serial is counted on.
    Serial,
    /// The inventory has its row.
    Inventory,
    /// signed/X stands.
    Signed,
    /// requests/X is gone.
    Done,
}

/// What a CRL says, where a test wants another one than the server would write.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct CrlOptions {
    /// CRLNumber.
    pub number: u64,
    /// Revoked serials and since when.
    pub revoked: BTreeMap<u64, OffsetDateTime>,
    /// thisUpdate is a day before; nextUpdate five years after.
    pub now: OffsetDateTime,
    /// Another authority key identifier than the signer's.
    pub authority_key_id: Option<Vec<u8>>,
}

impl Default for CrlOptions {
    fn default() -> Self {
        Self {
            number: 0,
            revoked: BTreeMap::new(),
            now: OffsetDateTime::now_utc(),
            authority_key_id: None,
        }
    }
}

impl CrlOptions {
    /// Sets CRLNumber.
    #[must_use]
    pub fn number(mut self, number: u64) -> Self {
        self.number = number;
        self
    }
    /// Sets the revoked serials, all revoked at the CRL's time.
    #[must_use]
    pub fn revoked(mut self, serials: &[u64]) -> Self {
        self.revoked = serials.iter().map(|serial| (*serial, self.now)).collect();
        self
    }
    /// Sets the time.
    #[must_use]
    pub fn now(mut self, now: OffsetDateTime) -> Self {
        self.now = now;
        self
    }
    /// Sets a foreign authority key identifier.
    #[must_use]
    pub fn authority_key_id(mut self, id: &[u8]) -> Self {
        self.authority_key_id = Some(id.to_vec());
        self
    }
}

impl TestCa {
    /// Signs a certificate for `certname`; returns its serial.
    ///
    /// # Errors
    /// Where the disk or rcgen says no.
    pub fn sign(&mut self, certname: &str) -> Result<u64> {
        self.sign_with_alt_names(certname, &[certname])
    }

    /// Signs with these DNS alternative names (the certname is always among them).
    ///
    /// # Errors
    /// Where the disk or rcgen says no.
    pub fn sign_with_alt_names(&mut self, certname: &str, names: &[&str]) -> Result<u64> {
        self.sign_until(certname, names, Step::Done)
    }

    /// Signs, but stops after `last`, as a server killed or observed in between.
    ///
    /// # Errors
    /// Where the disk or rcgen says no.
    pub fn sign_until(&mut self, certname: &str, names: &[&str], last: Step) -> Result<u64> {
        self.request(certname)?;
        let serial = self.next_serial()?;
        if last < Step::Serial {
            return Ok(serial);
        }
        self.put("serial", format!("{:04X}", serial + 1).as_bytes(), 0o644)?;
        let (pem, row) = self.certificate(certname, names, serial)?;
        if last >= Step::Inventory {
            self.append_inventory(&row)?;
        }
        if last >= Step::Signed {
            self.put(&format!("signed/{certname}.pem"), pem.as_bytes(), 0o644)?;
        }
        if last >= Step::Done {
            self.remove(&format!("requests/{certname}.pem"))?;
        }
        Ok(serial)
    }

    /// A signature with a serial of the caller's choice, through the server's steps but without
    /// counting the serial on.
    ///
    /// # Errors
    /// Where the disk or rcgen says no.
    pub fn sign_with_serial(&mut self, certname: &str, serial: u64) -> Result<()> {
        let (pem, row) = self.certificate(certname, &[certname], serial)?;
        self.append_inventory(&row)?;
        self.put(&format!("signed/{certname}.pem"), pem.as_bytes(), 0o644)
    }

    /// Makes a CA of many years in seconds: signs `name(0)` to `name(count - 1)` without their requests and
    /// with one write of the counter at the end.
    ///
    /// # Errors
    /// Where the disk or rcgen says no.
    pub fn fill(&mut self, count: u64, name: impl Fn(u64) -> String) -> Result<()> {
        let first = self.next_serial()?;
        for number in 0..count {
            self.sign_with_serial(&name(number), first + number)?;
        }
        self.put("serial", format!("{:04X}", first + count).as_bytes(), 0o644)
    }

    /// Revokes many serials with one CRL.
    ///
    /// # Errors
    /// Where the disk or rcgen says no.
    pub fn revoke_serials(&mut self, serials: impl IntoIterator<Item = u64>) -> Result<()> {
        let now = self.now();
        self.revoked
            .extend(serials.into_iter().map(|serial| (serial, now)));
        self.crl_number += 1;
        self.publish_crl()
    }

    /// Renews: counter, inventory, signed/X overwritten; the old serial stays valid (8.2 and later).
    ///
    /// # Errors
    /// Where the disk or rcgen says no.
    pub fn renew(&mut self, certname: &str) -> Result<u64> {
        let serial = self.next_serial()?;
        self.put("serial", format!("{:04X}", serial + 1).as_bytes(), 0o644)?;
        let (pem, row) = self.certificate(certname, &[certname], serial)?;
        self.append_inventory(&row)?;
        self.put(&format!("signed/{certname}.pem"), pem.as_bytes(), 0o644)?;
        Ok(serial)
    }

    /// Leaves a pending request of `certname`.
    ///
    /// # Errors
    /// Where the disk or rcgen says no.
    pub fn request(&mut self, certname: &str) -> Result<()> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, certname);
        let csr = params.serialize_request(&self.node_key)?.pem()?;
        self.put(&format!("requests/{certname}.pem"), csr.as_bytes(), 0o644)
    }

    /// Revokes what is signed for `certname`: the CRL only, its number raised by one.
    ///
    /// # Errors
    /// Where it was never signed, or the disk says no.
    pub fn revoke(&mut self, certname: &str) -> Result<u64> {
        let pem = std::fs::read(self.dir.join(format!("signed/{certname}.pem")))?;
        let (_, pem) = x509_parser::pem::parse_x509_pem(&pem).map_err(|error| error.to_string())?;
        let cert = pem.parse_x509().map_err(|error| error.to_string())?;
        let serial = cert
            .raw_serial()
            .iter()
            .fold(0_u64, |serial, byte| serial << 8 | u64::from(*byte));
        self.revoke_serial(serial)?;
        let infra = std::fs::read_to_string(self.dir.join("infra_inventory.txt"))?;
        if infra.lines().any(|line| line == certname) {
            self.infra_crl_number += 1;
            self.infra_revoked.insert(serial, self.now());
            let bundle = self.bundle(self.infra_crl_number, &self.infra_revoked)?;
            self.put("infra_crl.pem", bundle.as_bytes(), 0o644)?;
        }
        Ok(serial)
    }

    /// Revokes a serial.
    ///
    /// # Errors
    /// Where the disk or rcgen says no.
    pub fn revoke_serial(&mut self, serial: u64) -> Result<()> {
        self.revoked.insert(serial, self.now());
        self.crl_number += 1;
        self.publish_crl()
    }

    /// Signs the CRL again without revoking, dropping these serials: 8.4's daily job.
    ///
    /// # Errors
    /// Where the disk or rcgen says no.
    pub fn resign_crl(&mut self, dropped: &[u64]) -> Result<()> {
        self.revoked.retain(|serial, _| !dropped.contains(serial));
        self.crl_number += 1;
        self.publish_crl()
    }

    /// Revokes, then removes signed/X (the server waits 30 s in between).
    ///
    /// # Errors
    /// As [`TestCa::revoke`].
    pub fn clean(&mut self, certname: &str) -> Result<u64> {
        let serial = self.revoke(certname)?;
        self.remove(&format!("signed/{certname}.pem"))?;
        Ok(serial)
    }

    /// Makes `certname` an infrastructure node: its serial is noted in decimal, and revoking it writes
    /// infra_crl.pem too.
    ///
    /// # Errors
    /// Where the disk says no.
    pub fn add_infra(&mut self, certname: &str, serial: u64) -> Result<()> {
        let names = std::fs::read_to_string(self.dir.join("infra_inventory.txt"))?;
        self.put(
            "infra_inventory.txt",
            format!("{}\n{certname}\n", names.trim_end())
                .trim_start()
                .as_bytes(),
            0o640,
        )?;
        let serials = std::fs::read_to_string(self.dir.join("infra_serials"))?;
        self.put(
            "infra_serials",
            format!("{}\n{serial}\n", serials.trim_end())
                .trim_start()
                .as_bytes(),
            0o644,
        )
    }

    /// One CRL of the signing CA, as PEM: whatever the test wants it to say.
    ///
    /// # Errors
    /// Where rcgen says no.
    pub fn crl(&self, options: &CrlOptions) -> Result<String> {
        crl_pem(&self.issuer, options)
    }

    /// The root's CRL, as PEM.
    pub fn root_crl(&self) -> &str {
        &self.root_crl_pem
    }

    /// The number of the CRL in force.
    pub fn crl_number(&self) -> u64 {
        self.crl_number
    }

    fn publish_crl(&self) -> Result<()> {
        let bundle = self.bundle(self.crl_number, &self.revoked)?;
        self.put("ca_crl.pem", bundle.as_bytes(), 0o644)?;
        match &self.options.ssldir {
            Some(ssldir) => Ok(pefo_core::disk::Disk::new().publish(
                &ssldir.join("crl.pem"),
                bundle.as_bytes(),
                &pefo_core::disk::Attributes::mode(0o644),
            )?),
            None => Ok(()),
        }
    }

    pub(super) fn bundle(
        &self,
        number: u64,
        revoked: &BTreeMap<u64, OffsetDateTime>,
    ) -> Result<String> {
        let mut options = CrlOptions::default().number(number).now(self.now());
        options.revoked.clone_from(revoked);
        Ok(format!("{}{}", self.crl(&options)?, self.root_crl_pem))
    }

    fn next_serial(&self) -> Result<u64> {
        let text = std::fs::read_to_string(self.dir.join("serial"))?;
        Ok(u64::from_str_radix(text.trim(), 16)?)
    }

    fn certificate(&self, certname: &str, names: &[&str], serial: u64) -> Result<(String, String)> {
        let mut all = vec![certname.to_owned()];
        all.extend(
            names
                .iter()
                .filter(|name| **name != certname)
                .map(|name| (*name).to_owned()),
        );
        let mut params = CertificateParams::new(all)?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, certname);
        params.serial_number = Some(serial_number(serial));
        params.not_before = (self.now() - Duration::days(1)).replace_nanosecond(0)?;
        params.not_after = params.not_before + Duration::days(5 * 365);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyEncipherment,
        ];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        params.custom_extensions = vec![netscape_comment()];
        if certname == self.options.server {
            params
                .custom_extensions
                .push(CustomExtension::from_oid_content(
                    PP_CLI_AUTH,
                    b"\x0c\x04true".to_vec(),
                ));
        }
        params.use_authority_key_identifier_extension = true;
        params.key_identifier_method = KeyIdMethod::PreSpecified(keys::key_id(&self.node_key));
        let cert = params.signed_by(&self.node_key, &self.issuer)?;
        let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]UTC");
        let (from, to) = (
            params.not_before.format(format)?,
            params.not_after.format(format)?,
        );
        Ok((
            cert.pem(),
            format!("0x{serial:04X} {from} {to} /CN={certname}\n"),
        ))
    }
}

/// `pp_cli_auth`, which lets `puppetserver ca` speak to the CA's API.
const PP_CLI_AUTH: &[u64] = &[1, 3, 6, 1, 4, 1, 34380, 1, 3, 39];

/// Netscape comment, as every certificate of a Puppet CA carries it.
pub(super) fn netscape_comment() -> CustomExtension {
    let mut value = vec![0x16, 34];
    value.extend_from_slice(b"Puppet Server Internal Certificate");
    CustomExtension::from_oid_content(&[2, 16, 840, 1, 113_730, 1, 13], value)
}

/// A CRL of `issuer`, carrying its key identifier.
pub(super) fn crl_pem(issuer: &Issuer<'_, KeyPair>, options: &CrlOptions) -> Result<String> {
    let revoked = options
        .revoked
        .iter()
        .map(|(serial, since)| RevokedCertParams {
            serial_number: serial_number(*serial),
            revocation_time: *since,
            reason_code: Some(RevocationReason::KeyCompromise),
            invalidity_date: None,
        });
    let id = options
        .authority_key_id
        .clone()
        .unwrap_or_else(|| keys::key_id(issuer.key()));
    let params = CertificateRevocationListParams {
        this_update: options.now - Duration::days(1),
        next_update: options.now + Duration::days(5 * 365),
        crl_number: serial_number(options.number),
        issuing_distribution_point: None,
        revoked_certs: revoked.collect(),
        key_identifier_method: KeyIdMethod::PreSpecified(id),
    };
    Ok(params.signed_by(issuer)?.pem()?)
}

/// DER wants the shortest form.
fn serial_number(serial: u64) -> SerialNumber {
    let bytes = serial.to_be_bytes();
    let first = bytes
        .iter()
        .position(|byte| *byte != 0)
        .unwrap_or(bytes.len() - 1);
    SerialNumber::from_slice(bytes.get(first..).unwrap_or_default())
}
