//! What differs between two sides, as values: which item, what each side holds, and what that means.

use std::fmt;

use pefo_core::Certname;
use pefo_core::clock::Timestamp;
use serde::{Serialize, Serializer};

use crate::cert::{Cert, Name};
use crate::crl::Crl;
use crate::malformed::Malformed;
use crate::serial::Serial;
use crate::snapshot::Part;

/// One of the two files of CRLs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CrlFile {
    /// `ca_crl.pem`.
    Ca,
    /// `infra_crl.pem`.
    Infra,
}

impl CrlFile {
    /// The file's name in the cadir.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ca => "ca_crl.pem",
            Self::Infra => "infra_crl.pem",
        }
    }
}

impl Serialize for CrlFile {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// Something in a cadir that can be the same on both sides or not.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Item {
    /// A file as a whole.
    File {
        /// Its name in the cadir.
        name: &'static str,
    },
    /// The next serial.
    Counter,
    /// What inventory.txt says of a serial.
    Row {
        /// The serial.
        serial: Serial,
    },
    /// A certificate in signed/.
    Certificate {
        /// The name of its file.
        certname: Certname,
    },
    /// A request in requests/.
    Request {
        /// The name of its file.
        certname: Certname,
    },
    /// Something in signed/ or requests/ that cannot be a certname's file.
    Stray {
        /// The path below the cadir, escaped where it is no plain text.
        path: String,
    },
    /// One CRL of a file of CRLs.
    Crl {
        /// The file.
        file: CrlFile,
        /// Whose it is.
        issuer: Name,
    },
    /// A serial that is revoked.
    Revocation {
        /// The file.
        file: CrlFile,
        /// Whose serial it is.
        issuer: Name,
        /// The serial.
        serial: Serial,
    },
}

impl Item {
    /// The path below the cadir of the file it is, or stands in.
    pub fn path(&self) -> String {
        match self {
            Self::File { name } => (*name).to_owned(),
            Self::Counter => "serial".to_owned(),
            Self::Row { .. } => "inventory.txt".to_owned(),
            Self::Certificate { certname } => format!("signed/{certname}.pem"),
            Self::Request { certname } => format!("requests/{certname}.pem"),
            Self::Stray { path } => path.clone(),
            Self::Crl { file, .. } | Self::Revocation { file, .. } => file.name().to_owned(),
        }
    }
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path())?;
        match self {
            Self::Row { serial } => write!(f, ", row {serial}"),
            Self::Crl { issuer, .. } => write!(f, ", CRL of {issuer}"),
            Self::Revocation { serial, .. } => write!(f, ", revocation of {serial}"),
            _ => Ok(()),
        }
    }
}

/// What one side has of an item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Held {
    /// There is none.
    Nothing,
    /// It is there and cannot be used.
    Unreadable {
        /// Why.
        error: Malformed,
    },
    /// A file.
    File {
        /// Its length, in bytes.
        bytes: usize,
    },
    /// A CA, by the certificate that signs.
    Authority {
        /// Its subject.
        subject: Name,
        /// SHA-256 of the certificate, colon-separated.
        fingerprint: String,
    },
    /// A certificate.
    Certificate {
        /// Its serial.
        serial: Serial,
        /// Its subject.
        subject: Name,
        /// Valid until.
        not_after: Timestamp,
    },
    /// The next serial.
    Counter {
        /// Which.
        next: Serial,
    },
    /// Rows of one serial, as they stand in inventory.txt.
    Rows {
        /// The lines, without newlines.
        lines: Vec<String>,
    },
    /// A CRL.
    Crl {
        /// Its number.
        number: Option<Serial>,
        /// How many serials it revokes.
        revoked: usize,
    },
    /// A revocation.
    Revoked {
        /// Since when.
        since: Timestamp,
    },
}

impl Held {
    pub(super) fn bytes(file: Option<&[u8]>) -> Self {
        file.map_or(Self::Nothing, |bytes| Self::File { bytes: bytes.len() })
    }

    pub(super) fn cert(cert: &Cert) -> Self {
        Self::Certificate {
            serial: cert.serial,
            subject: cert.subject.clone(),
            not_after: cert.not_after,
        }
    }

    pub(super) fn crl(crl: &Crl) -> Self {
        Self::Crl {
            number: crl.number,
            revoked: crl.revoked.len(),
        }
    }

    /// What a part says, or that it cannot be told.
    pub(super) fn part<T>(part: Option<&Part<T>>, read: impl FnOnce(&T) -> Self) -> Self {
        match part {
            None | Some(Part::Absent) => Self::Nothing,
            Some(Part::Unreadable(error)) => Self::Unreadable {
                error: error.clone(),
            },
            Some(Part::Read(value)) => read(value),
        }
    }
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("nothing"),
            Self::Unreadable { error } => write!(f, "{error}"),
            Self::File { bytes: 1 } => f.write_str("1 byte"),
            Self::File { bytes } => write!(f, "{bytes} bytes"),
            Self::Authority {
                subject,
                fingerprint,
            } => write!(f, "{subject}, {fingerprint}"),
            Self::Certificate {
                serial,
                subject,
                not_after,
            } => write!(f, "serial {serial} of {subject} until {not_after}"),
            Self::Counter { next } => write!(f, "{next}"),
            Self::Rows { lines } => f.write_str(&lines.join(" and ")),
            Self::Crl { number, revoked } => {
                match number.map(|number| (number, number.counter())) {
                    None => write!(f, "no number, {revoked} revoked"),
                    Some((_, Some(number))) => write!(f, "number {number}, {revoked} revoked"),
                    Some((number, None)) => write!(f, "number {number}, {revoked} revoked"),
                }
            }
            Self::Revoked { since } => write!(f, "revoked since {since}"),
        }
    }
}

/// An enum of things that can be found, each with a stable name, whether it is a defect, and words.
macro_rules! findings {
    ($(#[$of:meta])* $enum:ident; $($(#[$doc:meta])* $variant:ident = $name:literal, $defect:literal, $words:literal;)*) => {
        $(#[$of])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum $enum {
            $($(#[$doc])* $variant,)*
        }

        impl $enum {
            /// All there are.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The stable name.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// Whether something is wrong; what is not a defect is worth knowing only.
            pub const fn is_defect(self) -> bool {
                match self { $(Self::$variant => $defect,)* }
            }

            /// What it means, for people: a lower-case fragment about the item.
            pub const fn words(self) -> &'static str {
                match self { $(Self::$variant => $words,)* }
            }
        }

        impl std::fmt::Display for $enum {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }

        impl serde::Serialize for $enum {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.name())
            }
        }
    };
}
pub(super) use findings;

findings! {
    /// What a difference between the two sides means; its name is stable.
    Finding;
    /// The source has it and the standby has not.
    Missing = "missing", true, "is missing here";
    /// Both have it, and not the same.
    Differs = "differs", true, "is not the source's";
    /// One side's cannot be read.
    Unreadable = "unreadable", true, "cannot be read";
    /// The source lacks what every CA has.
    SourceLacks = "missing-at-source", true, "is missing at the source";
    /// The two sides are two authorities.
    OtherAuthority = "other-authority", true, "is another CA's than the source's; nothing else is compared";
    /// The private key does not belong to the CA's certificate.
    OtherKey = "other-key", true, "is not the key of the CA's certificate";
    /// It does not carry the CA's signature.
    Forged = "forged", true, "was not signed by the CA";
    /// A certificate's name is not its file's.
    Misnamed = "misnamed", true, "is not of the name of its file";
    /// One serial is given to two certificates.
    Collision = "collision", true, "is another certificate at the source";
    /// It is revoked, expired or followed by a revoked one, and gone at the source.
    Leftover = "leftover", true, "is gone at the source, and revoked or expired";
    /// The file's last line has no end.
    Torn = "torn", true, "ends in the middle of a line";
    /// The counter would issue again what was issued.
    Behind = "behind", true, "does not cover what was issued";
    /// The counter has left the block that is this host's own.
    OutsideBlock = "outside-block", true, "is not in this host's own block";
    /// The source counts in the block that is this host's own.
    BlockShared = "block-shared", true, "is counted by the source in this host's own block";
    /// A CRL is older than the source's.
    Older = "older", true, "is older than the source's";
    /// Two CRLs have one number and do not revoke the same.
    Forked = "forked", true, "has the source's number and does not revoke the same";
    /// Issued here, from this host's own block.
    OwnBlock = "own-block", false, "is of this host's own block";
    /// Only here, and there is no reason for it to go.
    Kept = "kept", false, "is only here, and stays";
    /// The standby is further than the source.
    Ahead = "ahead", false, "is ahead of the source's";
    /// A request was answered: the certificate is here.
    Answered = "answered", false, "is answered by the certificate here";
    /// A revocation that is not needed any more: the certificate has expired.
    Expired = "expired", false, "is missing here, and the certificate has expired";
    /// Two CRLs have one number and revoke the same.
    SignedTwice = "signed-twice", false, "was signed twice; both revoke the same";
    /// The same in other bytes.
    Rewritten = "rewritten", false, "says the same in other bytes";
    /// A name that is neither sent nor taken.
    NameRefused = "name-refused", false, "can be no certname's file and is left out";
    /// The source's last line has no end yet.
    TornAtSource = "torn-at-source", false, "ends in the middle of a line at the source";
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Difference {
    /// Of what.
    pub item: Item,
    /// What it means.
    pub finding: Finding,
    /// Whether the standby would not serve the same; otherwise the rules expect it.
    pub defect: bool,
    /// What the standby has.
    pub local: Held,
    /// What the source has.
    pub source: Held,
}

impl Difference {
    pub(super) fn new(item: Item, finding: Finding, local: Held, source: Held) -> Self {
        Self {
            item,
            finding,
            defect: finding.is_defect(),
            local,
            source,
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.item, self.finding.words())?;
        match (&self.local, &self.source) {
            (Held::Nothing, Held::Nothing) => {}
            (Held::Nothing, source) => write!(f, " (at the source: {source})")?,
            (local, Held::Nothing) => write!(f, " (here: {local})")?,
            (local, source) => write!(f, " (here: {local}; at the source: {source})")?,
        }
        write!(f, " [{}]", self.finding)
    }
}
