//! Puppet Enterprise's node classifier, carried from one master to another.
//!
//! The way of the data is: [`client`] reads the active's groups → [`model`] parses and checks them →
//! [`export`] passes the export gate and seals them into an [`envelope`] → (a verified generation) →
//! [`import::plan`] transforms, compares and decides, without any I/O → [`import::apply`] posts, reads
//! back, and puts the old tree back where the new one did not arrive whole.
//!
//! | module | what it is for | I/O |
//! |---|---|---|
//! | [`model`] | groups, rules and the checked tree; unknown keys and exact numbers are kept | none |
//! | [`canonical`] | what makes two trees equal, and the BLAKE3 digest of that | none |
//! | [`transform`] | one simultaneous certname map over the JSON, with a report of what it left | none |
//! | [`diff`] | groups added, removed, changed, field by field; can be applied | none |
//! | [`envelope`], [`export`] | the export file and its gate | none |
//! | [`accept`] | refusals an operator overrules by name | none |
//! | [`client`] | the HTTP API over mutual TLS or with an RBAC token | network, async |
//! | [`import`] | the import gate: plan (pure), apply (network) | network, async |
//!
//! The crate never starts a runtime, prints, reads the environment or touches a disk.

pub mod accept;
pub mod canonical;
pub mod client;
pub mod diff;
pub mod envelope;
pub mod export;
pub mod import;
pub mod model;
pub mod transform;

pub use accept::Acceptances;
pub use canonical::TreeDigest;
pub use client::ClassifierClient;
pub use diff::TreeDiff;
pub use envelope::Envelope;
pub use model::{Group, GroupId, Rule, Tree};
pub use transform::CertnameMap;

#[cfg(test)]
mod testing;
