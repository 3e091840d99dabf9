//! The few files that a spare needs and no other data set carries: secret keys of the console and of eyaml,
//! keys and settings of r10k, `autosign.conf`, `auth.conf`, `hiera.yaml`.
//!
//! | module | what it is for |
//! |---|---|
//! | [`list`] | which files: presets by product, paths of the operator's, and what is never among them |
//! | [`snapshot`] | reads them on the active, whole or not at all |
//! | [`bundle`] | what crosses: an index and the contents, both sealed |
//! | [`survey`] | what stands in their places on the spare |
//! | [`mod@plan`] | what would have to be done; pure |
//! | [`mod@apply`] | does it |
//!
//! It guarantees: no path and no byte can be read in the spool; a generation writes only what the spare's own
//! list names, whatever its signature; nothing goes through a symlink, on either side; what is replaced is
//! kept first; each file is the old one or the new one, whole, and a run after a crash finishes; nothing is
//! deleted.

pub mod accounts;
pub mod apply;
pub mod bundle;
pub mod list;
pub mod path;
pub mod plan;
pub mod preset;
pub mod snapshot;
pub mod survey;

pub use accounts::{AccountName, Accounts, Ids};
pub use apply::{Backup, apply};
pub use bundle::{Bundle, FileEntry, Index, IndexDiff, NewDirectory};
pub use list::{Entry, FileList, KeptApart, Need, host_specific};
pub use path::HostPath;
pub use plan::{FilesPlan, PARENT_OPEN, PlanRules, plan};
pub use preset::Preset;
pub use snapshot::{Limits, Snapshot};
pub use survey::Survey;

#[cfg(test)]
mod tests;
