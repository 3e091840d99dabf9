//! What a check of one CA found, as values.

use std::fmt;

use serde::Serialize;

use super::difference::findings;
use super::{Item, Tally};

findings! {
    /// What is wrong with an item of a CA, or worth knowing about it; its name is stable.
    Fault;
    /// A file that every CA has is not there.
    Missing = "missing", true, "is missing";
    /// It cannot be read.
    Unreadable = "unreadable", true, "cannot be read";
    /// The private key does not belong to the CA's certificate.
    OtherKey = "other-key", true, "is not the key of the CA's certificate";
    /// It does not carry the CA's signature.
    Forged = "forged", true, "was not signed by the CA";
    /// A certificate's name is not its file's.
    Misnamed = "misnamed", true, "is not of the name of its file";
    /// One serial has two certificates or two rows.
    SerialTwice = "serial-twice", true, "has a serial that another has";
    /// The inventory tells something else of a certificate.
    RowDiffers = "row-differs", true, "is not what the inventory says of its serial";
    /// A CRL has no number.
    Unnumbered = "unnumbered", true, "has no number";
    /// The counter would issue again what was issued.
    Behind = "behind", true, "does not cover what was issued";
    /// The CA's certificate or a CRL has expired: nothing works any more.
    Expired = "expired", true, "has expired";
    /// A certificate has no row; `puppetserver ca generate --ca-client` writes none.
    RowMissing = "row-missing", false, "has no row in the inventory";
    /// A node's certificate has expired.
    CertExpired = "cert-expired", false, "has expired and can go";
    /// Something expires soon.
    ExpiresSoon = "expires-soon", false, "expires soon";
    /// A name that is neither sent nor taken.
    NameRefused = "name-refused", false, "can be no certname's file";
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CheckFinding {
    /// About what.
    pub item: Item,
    /// What it is.
    pub fault: Fault,
    /// Whether something is wrong; otherwise it is worth knowing only.
    pub defect: bool,
    /// What was seen, a lower-case fragment.
    pub message: String,
}

impl fmt::Display for CheckFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = self.fault.words();
        write!(
            f,
            "{}: {words} ({}) [{}]",
            self.item, self.message, self.fault
        )
    }
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CheckReport {
    /// Each finding: defects first, each kind sorted by item.
    pub findings: Vec<CheckFinding>,
    /// How much was looked at.
    pub checked: Tally,
}

impl CheckReport {
    /// Whether nothing is wrong; notes may stand all the same.
    pub fn is_sound(&self) -> bool {
        !self.findings.iter().any(|finding| finding.defect)
    }
}

impl fmt::Display for CheckReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            let verdict = if finding.defect { "defect" } else { "note" };
            writeln!(f, "{verdict:<8} {finding}")?;
        }
        writeln!(f, "checked  {}", self.checked)
    }
}
