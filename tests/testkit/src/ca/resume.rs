//! A server that takes a CA over from what stands on the disk, as every server does when it starts.

use std::collections::BTreeMap;
use std::path::Path;

use time::OffsetDateTime;
use x509_parser::prelude::FromDer as _;
use x509_parser::revocation_list::CertificateRevocationList;

use super::{Result, TestCa};

/// What one CRL says.
struct Said {
    number: u64,
    revoked: BTreeMap<u64, OffsetDateTime>,
}

impl TestCa {
    /// Goes on over another directory with the same keys, from what stands there: its counter, its CRLs.
    ///
    /// # Errors
    /// Where the keys cannot be loaded again, or a CRL there cannot be read.
    pub fn resumed(&self, dir: &Path) -> Result<Self> {
        let mut resumed = self.twin(dir)?;
        resumed.reread()?;
        Ok(resumed)
    }

    /// Goes on from what stands in the directory by now.
    ///
    /// # Errors
    /// Where a CRL there cannot be read.
    pub fn reread(&mut self) -> Result<()> {
        let ca = first_crl(&self.dir.join("ca_crl.pem"))?;
        (self.crl_number, self.revoked) = (ca.number, ca.revoked);
        let infra = self.dir.join("infra_crl.pem");
        if infra.exists() {
            let infra = first_crl(&infra)?;
            (self.infra_crl_number, self.infra_revoked) = (infra.number, infra.revoked);
        }
        Ok(())
    }
}

/// Our own CRL stands first.
fn first_crl(path: &Path) -> Result<Said> {
    let pem = std::fs::read(path)?;
    let (_, pem) = x509_parser::pem::parse_x509_pem(&pem).map_err(|error| error.to_string())?;
    let (_, crl) =
        CertificateRevocationList::from_der(&pem.contents).map_err(|error| error.to_string())?;
    let number = crl.crl_number().and_then(|number| number.try_into().ok());
    let entries = crl.iter_revoked_certificates().map(|entry| {
        let octets = entry.raw_serial().iter();
        let serial = octets.fold(0_u64, |serial, octet| serial << 8 | u64::from(*octet));
        (serial, entry.revocation_date.to_datetime())
    });
    Ok(Said {
        number: number.ok_or("the CRL has no number that fits 64 bits")?,
        revoked: entries.collect(),
    })
}
