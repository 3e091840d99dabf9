//! The gates, by name: what each means, how far it reaches, and what an operator does about it.

use std::fmt;

use serde::{Serialize, Serializer};

/// How far a refusal reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// Nothing is applied.
    Everything,
    /// The serial, the inventory, signed/ and requests/ wait; CRLs do not.
    Issuing,
    /// Only what it names is left as it is.
    Item,
}

macro_rules! rules {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $scope:ident, $acceptable:literal, $hint:literal;)*) => {
        /// A gate of the plan; its name is stable and is what `--accept` takes.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Rule {
            $($(#[$doc])* $variant,)*
        }

        impl Rule {
            /// Every rule.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The stable name.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// How far it reaches.
            pub const fn scope(self) -> Scope {
                match self { $(Self::$variant => Scope::$scope,)* }
            }

            /// Whether an operator may overrule it by name.
            pub const fn is_acceptable(self) -> bool {
                match self { $(Self::$variant => $acceptable,)* }
            }

            /// What to do about it.
            pub const fn hint(self) -> &'static str {
                match self { $(Self::$variant => $hint,)* }
            }
        }
    };
}

rules! {
    /// The source's authority is not ours.
    CaIdentity = "ca-identity", Everything, false,
        "Two authorities are never merged. Check that the peer is the right one; to replace this CA, seed it again.";
    /// The local CA cannot be read.
    CaLocalUnreadable = "ca-local-unreadable", Everything, false,
        "Restore the file from a backup, or seed this host again from the active.";
    /// The source lacks something without which it is no CA.
    CaSourceUnreadable = "ca-source-unreadable", Everything, false,
        "Look at the file on the source; nothing is taken from a half CA.";
    /// The source has nothing in it.
    CaSourceEmpty = "ca-source-empty", Everything, false,
        "An emptied source is never followed; look at the source's disk and mounts.";
    /// The CA's certificate was replaced, its key and name being the same.
    CaCertificate = "ca-certificate", Item, true,
        "If the CA's certificate was renewed on purpose, accept ca-certificate.";
    /// The standby's private key does not serve it.
    CaKeyMissing = "ca-key-missing", Item, false,
        "Without ca_key.pem this host cannot sign when promoted; seed it again, or restore the key.";
    /// ca_pub.pem is not the CA's key.
    CaPubMismatch = "ca-pub-mismatch", Item, false,
        "Compare ca_pub.pem with the key in ca_crt.pem on the source.";
    /// The source's CRL is older than ours.
    CrlRollback = "crl-rollback", Item, false,
        "An older CRL would let revoked nodes in again. Was the source restored from a backup? Then merge this side's revocations into it.";
    /// Two CRLs have the same number, and taking the source's would drop a revocation.
    CrlFork = "crl-fork", Item, false,
        "Both masters revoked by themselves: a split brain. Merge on the side that holds the reign.";
    /// A newer CRL lacks a revocation of an unexpired certificate.
    CrlShrink = "crl-shrink", Item, true,
        "Find out why these serials were taken off. If it was on purpose, accept crl-shrink.";
    /// A CRL's signature does not verify.
    CrlSignature = "crl-signature", Item, false,
        "The file was changed or is another CA's; look at the CRL on the source.";
    /// A CRL is only a difference.
    CrlDelta = "crl-delta", Item, false,
        "Puppet cannot use delta CRLs; put the full CRL in place on the source.";
    /// A CRL is of another key.
    CrlAuthorityKey = "crl-authority-key", Item, false,
        "The CRL names another key of the CA; look at which tool signed it on the source.";
    /// A CRL has no number.
    CrlNumber = "crl-number", Item, true,
        "Without a number nobody can tell old from new. Let the CA sign its CRL again; or accept crl-number once.";
    /// There is no higher number for a CRL.
    CrlNumberExhausted = "crl-number-exhausted", Item, false,
        "No honest CA counts that far; look at which tool signed the CRL. The CA has to be renewed.";
    /// The source has no CRL of the CA.
    CrlMissing = "crl-missing", Item, false,
        "Every Puppet CA has ca_crl.pem with its own CRL; look at the source.";
    /// The source's CRL cannot be read.
    CrlUnreadable = "crl-unreadable", Item, false,
        "Look at the file on the source; the CRL here stays as it is.";
    /// The local CRL cannot be read.
    CrlLocalUnreadable = "crl-local-unreadable", Item, true,
        "What it revoked cannot be told any more. Compare with the backup; to take the source's, accept crl-local-unreadable.";
    /// A CRL of nobody in the chain.
    CrlUnknownIssuer = "crl-unknown-issuer", Item, false,
        "The CRL belongs to no certificate in ca_crt.pem and is left out.";
    /// One serial names two certificates.
    SerialCollision = "serial-collision", Item, false,
        "Both masters issued this serial: revoking one would kill the other. Sign one of the two nodes anew.";
    /// The source's counter stands in the block reserved for this host.
    SerialBlock = "serial-block", Item, false,
        "The active counts inside the spare's own block; give the spare a fresh block.";
    /// The counter has no room left.
    SerialExhausted = "serial-exhausted", Issuing, false,
        "puppetserver cannot count beyond 7FFFFFFF; the CA has to be renewed.";
    /// One serial, two different rows.
    InventoryCollision = "inventory-collision", Item, false,
        "Both masters issued this serial. Sign one of the two nodes anew.";
    /// A line of the source's inventory is no row.
    InventoryMalformed = "inventory-malformed", Item, false,
        "Correct the line on the source; the other rows are taken.";
    /// A certificate was not issued by our CA.
    CertUnknownIssuer = "cert-unknown-issuer", Item, false,
        "Remove the file from signed/ on the source, or clean the node and sign it anew.";
    /// A certificate's name is not its file's.
    CertNameMismatch = "cert-name-mismatch", Item, false,
        "Rename or remove the file in signed/ on the source.";
    /// A certificate cannot be read.
    CertUnreadable = "cert-unreadable", Item, false,
        "Look at the file on the source; if it stays torn, clean the node and sign it anew.";
    /// The source's certificate is older than ours.
    CertOlder = "cert-older", Item, true,
        "This host holds a newer certificate for the name. To take the source's all the same, accept cert-older.";
    /// The source still holds what is revoked here.
    CertRevoked = "cert-revoked", Item, false,
        "The source has not seen this revocation: was it restored from a backup? Merge this side's revocations into it.";
    /// A name that cannot be a certname's file.
    NameRefused = "name-refused", Item, false,
        "Remove the file from signed/ or requests/ on the source; Puppet's certnames are lower case.";
    /// More deletions than allowed at once.
    CaMassDelete = "ca-mass-delete", Item, true,
        "If so many nodes were cleaned on purpose, accept ca-mass-delete or raise max_deletes.";
    /// A request cannot be used.
    RequestUnreadable = "request-unreadable", Item, false,
        "Let the agent send its request anew.";
    /// A request's name is not its file's.
    RequestNameMismatch = "request-name-mismatch", Item, false,
        "Remove the request on the source.";
    /// infra_inventory.txt or infra_serials cannot be read.
    InfraUnreadable = "infra-unreadable", Item, false,
        "Correct the line on the source; the file here stays as it is.";
}

impl Rule {
    /// The rule of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|rule| rule.name() == name)
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Rule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// A refusal: which rule, about what, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Conflict {
    /// The rule.
    pub rule: Rule,
    /// The file or serial it is about.
    pub subject: String,
    /// What was found, a lower-case fragment.
    pub message: String,
}

impl Conflict {
    pub(crate) fn new(rule: Rule, subject: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            rule,
            subject: subject.into(),
            message: message.into(),
        }
    }

    /// As an error, with the rule's hint.
    pub fn to_error(&self) -> pefo_core::Error {
        pefo_core::Error::refused(
            self.rule.name(),
            format!("{}: {}", self.subject, self.message),
        )
        .hint(self.rule.hint())
    }
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} [{}]", self.subject, self.message, self.rule)
    }
}
