//! Write, sign, revoke, and look at it each time.

use std::path::PathBuf;
use std::sync::Arc;

use pefo_core::clock::{Clock, Timestamp};
use pefo_core::disk::{Attributes, Disk};
use pefo_core::{Error, RelPath, Result};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};

use super::{RehearsalOptions, defects};
use crate::apply::{ApplyOptions, apply};
use crate::cert::Cert;
use crate::crl::{Crl, CrlBundle};
use crate::inventory::{Inventory, Row};
use crate::layout::CaLayout;
use crate::pem;
use crate::plan::{Action, Plan, find};
use crate::serial::Serial;
use crate::snapshot::{Snapshot, SnapshotOptions};
use crate::takeover::{CertContent, CrlSigner, p256_public_key, revoke};
use crate::verify::{CheckOptions, check};

const CRL: &str = "ca_crl.pem";
const INVENTORY: &str = "inventory.txt";
const SERIAL: &str = "serial";

/// Where it is rehearsed, and what.
pub(super) struct Stage<'s> {
    pub(super) disk: &'s Disk,
    pub(super) source: &'s Snapshot,
    pub(super) signer: &'s CrlSigner,
    pub(super) cadir: PathBuf,
    pub(super) options: &'s RehearsalOptions,
    pub(super) serial: u32,
}

impl Stage<'_> {
    /// Puts the CA down, without its key. Nothing is synced: it need not outlive this process.
    pub(super) fn write(&self) -> Result<()> {
        let directory = Attributes::mode(0o700);
        self.disk.create_dir_unsynced(&self.cadir, &directory)?;
        for sub in ["signed", "requests"] {
            let dir = self.cadir.join(sub);
            self.disk.create_dir_unsynced(&dir, &directory)?;
        }
        for (path, bytes, _) in self.source.files() {
            let path = path.in_dir(&self.cadir);
            let mut file = self.disk.create(&path, &Attributes::mode(0o600))?;
            file.write(bytes)?;
            file.finish()?;
        }
        Ok(())
    }

    /// Issues the certificate, in the order of the rules.
    pub(super) fn sign(&self, until: Timestamp, clock: &dyn Clock) -> Result<Cert> {
        let name = &self.options.certname;
        let serial = Serial::from(self.serial);
        let content = CertContent::new(
            name.clone(),
            serial,
            fresh_public_key()?,
            clock.now(),
            until,
        );
        let cert = self.signer.issuer().issue(&content)?;
        let row = Row::of(&cert).map_err(|error| failed(error.to_string()))?;
        // A sound inventory has no torn tail.
        let length = self.source.inventory().map(Inventory::whole_bytes);
        let actions = vec![
            Action::Serial {
                from: self.source.serial(),
                to: self.serial + 1,
                expects: bytes_of(self.source, SERIAL),
            },
            Action::Inventory {
                expects_bytes: length,
                keeps_bytes: length.unwrap_or(0),
                rows: vec![row.text().to_owned()],
            },
            Action::Put {
                path: self.signed_path()?,
                why: format!("serial {serial}"),
                bytes: pem::encode("CERTIFICATE", cert.der()).into_bytes().into(),
                mode: 0o600,
                expects: None,
            },
        ];
        self.apply(actions, clock)?;
        Ok(cert)
    }

    /// The CA with the certificate in it, which verifies and is not revoked.
    pub(super) fn read_signed(&self, cert: &Cert, options: &CheckOptions) -> Result<Snapshot> {
        let signed = self.read(self.source, options)?;
        let path = self.signed_path()?;
        require_rest_unchanged(self.source, &signed, &[SERIAL, INVENTORY, path.as_str()])?;
        let name = &self.options.certname;
        let held = signed.signed().find(|(held, _)| *held == name);
        if held.is_none_or(|(_, held)| held != cert) {
            return Err(failed(format!(
                "{path} is not the certificate that was issued"
            )));
        }
        let next = self.serial + 1;
        if signed.serial() != Some(Serial::from(next)) {
            return Err(failed(format!(
                "the counter does not stand at 0x{next:04X}"
            )));
        }
        if !grew_by_one_row(self.source, &signed, cert.serial) {
            return Err(failed(format!(
                "the inventory has no one row more, {}",
                cert.serial
            )));
        }
        cert.verify_issued_by(self.signer.authority())
            .map_err(|error| failed(error.to_string()))?;
        if self.our_crl(&signed)?.revoked.contains_key(&cert.serial) {
            return Err(failed(format!("serial {} is revoked already", cert.serial)));
        }
        Ok(signed)
    }

    /// Revokes what was issued.
    pub(super) fn revoke(&self, signed: &Snapshot, clock: &dyn Clock) -> Result<()> {
        let serial = Serial::from(self.serial);
        let bundle = revoke(crls(signed)?, self.signer, serial, clock.now())?;
        let action = Action::Put {
            path: RelPath::new(CRL)?,
            why: format!("serial {serial} is revoked"),
            bytes: bundle.to_pem().into_bytes().into(),
            mode: 0o600,
            expects: bytes_of(signed, CRL),
        };
        self.apply(vec![action], clock)
    }

    /// The CA with exactly this one revocation more, under the next number.
    pub(super) fn read_revoked(
        &self,
        signed: &Snapshot,
        options: &CheckOptions,
    ) -> Result<Snapshot> {
        let after = self.read(signed, options)?;
        require_rest_unchanged(signed, &after, &[CRL])?;
        let (old, new) = (self.our_crl(signed)?, self.our_crl(&after)?);
        let serial = Serial::from(self.serial);
        let mut expected = (*old.revoked).clone();
        let Some(revocation) = new.revoked.get(&serial) else {
            return Err(failed(format!("serial {serial} is not revoked")));
        };
        expected.insert(serial, *revocation);
        if *new.revoked != expected {
            return Err(failed("not every older revocation was kept as it was"));
        }
        if new.number != old.number.and_then(|number| number.checked_add(1)) {
            let message = format!(
                "the CRL's number went from {} to {}",
                old.number_text(),
                new.number_text()
            );
            return Err(failed(message));
        }
        if !crls(&after)?
            .crls()
            .iter()
            .skip(1)
            .eq(ancestors(crls(signed)?, old))
        {
            return Err(failed(
                "the CRLs of the CA's ancestors are not as they were",
            ));
        }
        Ok(after)
    }

    /// Reads the copy back; it must be sound.
    fn read(&self, before: &Snapshot, options: &CheckOptions) -> Result<Snapshot> {
        let reading = SnapshotOptions::default().threads(self.options.threads);
        let read = Snapshot::read_dir_beside(&self.cadir, &reading, &[], before)?;
        let report = check(&read, options);
        if report.is_sound() {
            Ok(read)
        } else {
            Err(failed(defects(&report)))
        }
    }

    fn apply(&self, actions: Vec<Action>, clock: &dyn Clock) -> Result<()> {
        let plan = Plan {
            actions,
            conflicts: Vec::new(),
            overruled: Vec::new(),
            notes: Vec::new(),
            source_serial: None,
        };
        let layout = CaLayout::at(&self.cadir)?;
        let options = ApplyOptions::default().tidies(false);
        apply(self.disk, &layout, &plan, &options, clock).map(drop)
    }

    fn signed_path(&self) -> Result<RelPath> {
        RelPath::new(format!("signed/{}.pem", self.options.certname))
    }

    fn our_crl<'c>(&self, snapshot: &'c Snapshot) -> Result<&'c Crl> {
        let ours = crls(snapshot)?.find(self.signer.authority());
        ours.ok_or_else(|| failed("the CA's own CRL is gone"))
    }
}

/// A key that nobody keeps: the certificate is for nobody.
fn fresh_public_key() -> Result<Vec<u8>> {
    let (random, algorithm) = (SystemRandom::new(), &ECDSA_P256_SHA256_ASN1_SIGNING);
    let pair = EcdsaKeyPair::generate_pkcs8(algorithm, &random)
        .and_then(|key| Ok(EcdsaKeyPair::from_pkcs8(algorithm, key.as_ref(), &random)?))
        .map_err(|_| failed("no key was made for the certificate"))?;
    Ok(p256_public_key(pair.public_key().as_ref()))
}

fn require_rest_unchanged(before: &Snapshot, after: &Snapshot, changed: &[&str]) -> Result<()> {
    if rest(before, changed).eq(rest(after, changed)) {
        return Ok(());
    }
    let changed = changed.join(", ");
    Err(failed(format!("more has changed than {changed}")))
}

/// Each file that is none of those `changed`.
fn rest<'f>(
    snapshot: &'f Snapshot,
    changed: &'f [&str],
) -> impl Iterator<Item = (&'f RelPath, &'f [u8])> {
    let files = snapshot.files().map(|(path, bytes, _)| (path, bytes));
    files.filter(|(path, _)| !changed.contains(&path.as_str()))
}

fn bytes_of(snapshot: &Snapshot, name: &str) -> Option<Arc<[u8]>> {
    find(&snapshot.files, name).map(|(_, file)| Arc::clone(&file.bytes))
}

fn crls(snapshot: &Snapshot) -> Result<&CrlBundle> {
    let bundle = snapshot.ca_crl();
    bundle.ok_or_else(|| failed("ca_crl.pem cannot be read"))
}

/// What stands in a file besides our CRL.
fn ancestors<'b>(bundle: &'b CrlBundle, ours: &'b Crl) -> impl Iterator<Item = &'b Crl> {
    bundle.crls().iter().filter(move |crl| *crl != ours)
}

fn grew_by_one_row(before: &Snapshot, after: &Snapshot, serial: Serial) -> bool {
    let (Some(before), Some(after)) = (before.inventory(), after.inventory()) else {
        return false;
    };
    match after.rows().split_last() {
        Some((row, rest)) => row.serial == serial && rest == before.rows(),
        None => false,
    }
}

fn failed(message: impl Into<String>) -> Error {
    let message = format!("the rehearsal failed: {}", message.into());
    Error::refused("rehearsal-failed", message)
        .hint("The live CA was not touched. Do not promote this host before it can do this.")
}
