//! Throwaway Puppet CAs, written byte for byte as puppetserver writes its cadir.
//!
//! [`TestCa`] keeps the server's formats (signing CA first in `ca_crt.pem`, our CRL first in
//! `ca_crl.pem`, decimal `infra_serials`, hexadecimal `serial` without a newline) and its order of
//! writes: a signature goes through requests/, serial, inventory.txt and signed/; a revocation touches
//! the CRL only; cleaning removes signed/X afterwards. Files are replaced by temp + rename with the
//! server's temp names, or written in place as servers up to 6.11 did.
//!
//! Certificates carry the key identifiers, SANs and extensions of Puppet's own, so that they serve for
//! mutual TLS as well. Keys come from fixtures (fast) or are fresh ECDSA keys.

mod issue;
mod keys;
mod resume;
mod write;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyIdMethod, KeyPair,
    KeyUsagePurpose, SerialNumber,
};
use time::{Duration, OffsetDateTime};

pub use issue::{CrlOptions, Step};
pub use keys::Keys;

/// What can go wrong while making a test CA; tests unwrap it.
pub type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// How a [`TestCa`] is made.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct CaOptions {
    /// The signing CA's common name.
    pub ca_name: String,
    /// The server's own certname, signed at set-up as `puppetserver ca setup` does; none if empty.
    pub server: String,
    /// The server's alternative names.
    pub server_alt_names: Vec<String>,
    /// The time of set-up and of everything after; `None` is the system's clock at each act.
    pub now: Option<OffsetDateTime>,
    /// Which keys.
    pub keys: Keys,
    /// Write serial, certificates and CRLs in place, as puppetserver did up to 6.11.0.
    pub write_in_place: bool,
    /// Replace inventory.txt by temp + rename, as puppetserver does from 8.1.
    pub atomic_inventory: bool,
    /// Where the server copies its CRL after a revocation (`<ssldir>/crl.pem`).
    pub ssldir: Option<PathBuf>,
}

impl Default for CaOptions {
    fn default() -> Self {
        Self {
            ca_name: "Puppet CA: test".to_owned(),
            server: "puppet-a.test".to_owned(),
            server_alt_names: vec!["puppet.test".to_owned(), "localhost".to_owned()],
            now: None,
            keys: Keys::Rsa,
            write_in_place: false,
            atomic_inventory: false,
            ssldir: None,
        }
    }
}

impl CaOptions {
    /// Sets the signing CA's common name.
    #[must_use]
    pub fn ca_name(mut self, name: &str) -> Self {
        name.clone_into(&mut self.ca_name);
        self
    }
    /// Sets the server's certname.
    #[must_use]
    pub fn server(mut self, certname: &str) -> Self {
        certname.clone_into(&mut self.server);
        self
    }
    /// Fixes the time.
    #[must_use]
    pub fn now(mut self, now: OffsetDateTime) -> Self {
        self.now = Some(now);
        self
    }
    /// Chooses the keys.
    #[must_use]
    pub fn keys(mut self, keys: Keys) -> Self {
        self.keys = keys;
        self
    }
    /// Writes in place.
    #[must_use]
    pub fn write_in_place(mut self, yes: bool) -> Self {
        self.write_in_place = yes;
        self
    }
    /// Replaces inventory.txt whole.
    #[must_use]
    pub fn atomic_inventory(mut self, yes: bool) -> Self {
        self.atomic_inventory = yes;
        self
    }
    /// Keeps `<ssldir>/crl.pem` as the server does.
    #[must_use]
    pub fn ssldir(mut self, dir: &Path) -> Self {
        self.ssldir = Some(dir.to_owned());
        self
    }
}

/// What a node holds: its certificate, its key and the CA bundle, as PEM.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// The node's certificate.
    pub cert_pem: String,
    /// The node's private key, PKCS#1 for RSA as Puppet writes it.
    pub key_pem: String,
    /// `ca_crt.pem`.
    pub ca_pem: String,
}

/// A Puppet CA on disk, with the keys to go on.
pub struct TestCa {
    dir: PathBuf,
    options: CaOptions,
    issuer: Issuer<'static, KeyPair>,
    node_key: KeyPair,
    revoked: BTreeMap<u64, OffsetDateTime>,
    crl_number: u64,
    infra_revoked: BTreeMap<u64, OffsetDateTime>,
    infra_crl_number: u64,
    root_crl_pem: String,
    temps: std::cell::Cell<u64>,
}

impl TestCa {
    /// Sets up a CA in `dir` (made where missing), as `puppetserver ca setup` does.
    ///
    /// # Errors
    /// Where the disk or rcgen says no.
    pub fn create(dir: &Path, options: CaOptions) -> Result<Self> {
        for sub in ["", "signed", "requests"] {
            write::make_dir(&dir.join(sub))?;
        }
        let (ca_key, root_key, node_key) = options.keys.load()?;
        let now = options.now.unwrap_or_else(OffsetDateTime::now_utc);
        let root_params = authority(
            &format!("Puppet Root CA: {}", fingerprint(&root_key)),
            &root_key,
            1,
            now,
        );
        let root_cert = root_params.self_signed(&root_key)?;
        let root = Issuer::new(root_params, root_key);
        let params = authority(&options.ca_name, &ca_key, 2, now);
        let cert = params.signed_by(&ca_key, &root)?;
        let root_crl_pem = issue::crl_pem(&root, &CrlOptions::default().now(now))?;
        let ca = Self {
            dir: dir.to_owned(),
            issuer: Issuer::new(params, ca_key),
            options,
            node_key,
            revoked: BTreeMap::new(),
            crl_number: 0,
            infra_revoked: BTreeMap::new(),
            infra_crl_number: 0,
            root_crl_pem,
            temps: std::cell::Cell::new(2_521_590_098_723_415_117),
        };
        let secret = 0o640;
        ca.put(
            "ca_crt.pem",
            format!("{}{}", cert.pem(), root_cert.pem()).as_bytes(),
            secret,
        )?;
        ca.put(
            "ca_key.pem",
            keys::traditional_pem(ca.issuer.key()).as_bytes(),
            secret,
        )?;
        ca.put(
            "root_key.pem",
            keys::traditional_pem(root.key()).as_bytes(),
            secret,
        )?;
        ca.put(
            "ca_pub.pem",
            ca.issuer.key().public_key_pem().as_bytes(),
            secret,
        )?;
        ca.put("infra_inventory.txt", b"\n", secret)?;
        ca.put("infra_serials", b"\n", secret)?;
        ca.put("inventory.txt", b"", secret)?;
        ca.put("serial", b"001\n", secret)?;
        ca.put(
            "ca_crl.pem",
            ca.bundle(ca.crl_number, &ca.revoked)?.as_bytes(),
            secret,
        )?;
        ca.put(
            "infra_crl.pem",
            ca.bundle(0, &ca.infra_revoked)?.as_bytes(),
            secret,
        )?;
        let mut ca = ca;
        if !ca.options.server.is_empty() {
            let (server, names) = (
                ca.options.server.clone(),
                ca.options.server_alt_names.clone(),
            );
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            ca.sign_with_alt_names(&server, &names)?;
        }
        Ok(ca)
    }

    /// The cadir.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// `ca_crt.pem`'s content.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn ca_pem(&self) -> Result<String> {
        Ok(std::fs::read_to_string(self.dir.join("ca_crt.pem"))?)
    }

    /// The key that every node uses, as PEM.
    pub fn node_key_pem(&self) -> String {
        keys::traditional_pem(&self.node_key)
    }

    /// What the node `certname`, signed before, would hold.
    ///
    /// # Errors
    /// Where it was never signed.
    pub fn credentials(&self, certname: &str) -> Result<Credentials> {
        let cert_pem =
            std::fs::read_to_string(self.dir.join("signed").join(format!("{certname}.pem")))?;
        Ok(Credentials {
            cert_pem,
            key_pem: self.node_key_pem(),
            ca_pem: self.ca_pem()?,
        })
    }

    /// Moves this CA's acts to another time.
    pub fn set_now(&mut self, now: OffsetDateTime) {
        self.options.now = Some(now);
    }

    /// Goes on over another directory: the same keys, the same counters, as a split brain has them, or a
    /// copy that was put aside.
    ///
    /// # Errors
    /// Where the keys cannot be loaded again.
    pub fn twin(&self, dir: &Path) -> Result<Self> {
        let ca_key = keys::again(self.issuer.key())?;
        let params = authority(&self.options.ca_name, &ca_key, 2, self.now());
        Ok(Self {
            dir: dir.to_owned(),
            options: self.options.clone(),
            issuer: Issuer::new(params, ca_key),
            node_key: keys::again(&self.node_key)?,
            revoked: self.revoked.clone(),
            crl_number: self.crl_number,
            infra_revoked: self.infra_revoked.clone(),
            infra_crl_number: self.infra_crl_number,
            root_crl_pem: self.root_crl_pem.clone(),
            temps: std::cell::Cell::new(self.temps.get() + 1_000_000),
        })
    }

    /// Writes in place from now on, or no more.
    pub fn set_write_in_place(&mut self, yes: bool) {
        self.options.write_in_place = yes;
    }

    /// Replaces inventory.txt whole from now on, or no more.
    pub fn set_atomic_inventory(&mut self, yes: bool) {
        self.options.atomic_inventory = yes;
    }

    fn now(&self) -> OffsetDateTime {
        self.options.now.unwrap_or_else(OffsetDateTime::now_utc)
    }
}

/// Copies a whole tree, for tests that need two of it: `to` becomes what `from` is.
///
/// # Errors
/// Where a file cannot be read or written.
pub fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    write::make_dir(to)?;
    fs_extra::dir::copy(
        from,
        to,
        &fs_extra::dir::CopyOptions::new()
            .content_only(true)
            .overwrite(true),
    )?;
    Ok(())
}

fn authority(name: &str, key: &KeyPair, serial: u64, now: OffsetDateTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.serial_number = Some(SerialNumber::from(serial));
    params.not_before = now - Duration::days(1);
    params.not_after = now + Duration::days(5 * 365);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.custom_extensions = vec![issue::netscape_comment()];
    params.use_authority_key_identifier_extension = true;
    params.key_identifier_method = KeyIdMethod::PreSpecified(keys::key_id(key));
    params
}

fn fingerprint(key: &KeyPair) -> String {
    keys::key_id(key)
        .iter()
        .take(7)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests;
