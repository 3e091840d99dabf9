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
//! | [`failover`] | the masters' own node groups: plan (pure), ensure (network) | network, async |
//! | [`puppetdb`] | how many exported resources the PuppetDB at hand holds | network, async |
//! | [`import`] | the import gate: plan (pure), apply (network) | network, async |
//!
//! Two trees, and what they differ in once the one is rewritten for the other's master:
//!
//! ```
//! use pefo_core::Certname;
//! use pefo_nc::transform::{TransformOptions, transform};
//! use pefo_nc::{CertnameMap, Tree, TreeDiff};
//!
//! # fn main() -> pefo_core::Result<()> {
//! let root = r#"{"name": "All Nodes", "id": "00000000-0000-4000-8000-000000000000",
//!     "parent": "00000000-0000-4000-8000-000000000000", "environment": "production", "classes": {},
//!     "rule": ["=", "name", "HOST"]}"#;
//! let active = Tree::from_json(format!("[{}]", root.replace("HOST", "a.lab")).as_bytes())?;
//! let passive = Tree::from_json(format!("[{}]", root.replace("HOST", "old.lab")).as_bytes())?;
//! let map = CertnameMap::one(Certname::new("a.lab")?, Certname::new("b.lab")?);
//! let wanted = transform(&active, &map, &TransformOptions::default()).tree;
//! let diff = TreeDiff::between(&passive, &wanted);
//! assert!(diff.to_string().ends_with(r#"rule: ["=","name","old.lab"] → ["=","name","b.lab"]"#));
//! # Ok(())
//! # }
//! ```
//!
//! The crate never starts a runtime, prints, reads the environment or touches a disk. Large trees are read and
//! rewritten by a few scoped threads.

pub mod accept;
pub mod canonical;
pub mod client;
pub mod diff;
pub mod envelope;
pub mod export;
pub mod failover;
mod http;
pub mod import;
mod in_parallel;
pub mod model;
pub mod puppetdb;
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
