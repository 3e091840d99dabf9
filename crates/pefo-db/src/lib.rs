//! PostgreSQL for a warm spare: a consistent dump, its manifest, and a restore that cannot harm.
//!
//! [`dump`] writes a directory of `pg_dump -Fd` and, from the same snapshot, a [`DumpManifest`] with
//! the row count and digest of every table. [`restore`] loads it into a shadow database, compares
//! everything with the manifest, and only then swaps it into the live one's place by one transaction;
//! the old one is kept for [`rollback`]. [`verify`] names every table in which a live database differs
//! from a manifest, and [`drill`] proves a dump without touching the live one. [`is_unchanged_since`] tells
//! whether anything was committed since a dump, without reading a row.
//!
//! The crate is asynchronous on the embedder's tokio runtime (with time and I/O enabled) and starts
//! none itself. PostgreSQL's programs run through the embedder's [`Launcher`], time comes from its
//! [`Clock`]. Nothing is read from the environment. A dump or a restore ends with `Cancelled`, its programs
//! and queries ended, once the [`Cancel`] handed to [`Tools::cancel`] says stop; and where its future is
//! dropped, the programs end too.
//!
//! ```no_run
//! use pefo_core::{clock::SystemClock, launch::DirectLauncher, progress::Silent};
//! use pefo_db::{DatabaseName, DumpOptions, RestoreOptions, Server, ServerTls, Tools};
//! use std::{path::Path, sync::Arc};
//!
//! # async fn example() -> pefo_core::Result<()> {
//! let tools = Tools::new(Arc::new(DirectLauncher::default()));
//! let database = DatabaseName::new("pe-rbac")?;
//! let tls = ServerTls::new("/etc/pefo/ca.pem", "/etc/pefo/database.pem", "/etc/pefo/database.key");
//! let active = Server::on_tcp("active.example.com", "puppet-b.example.com").tls(tls);
//! let dir = Path::new("/var/lib/pefo/pe-rbac.1");
//! pefo_db::dump(&active, &tools, &database, dir, &DumpOptions::default(), &SystemClock, &Silent).await?;
//!
//! let spare = Server::on_socket("/var/run/postgresql", "pe-postgres");
//! let options = RestoreOptions::default().keep_previous(2);
//! let report = pefo_db::restore(&spare, &tools, &database, dir, &options, &SystemClock, &Silent).await?;
//! assert!(report.notes.is_empty());
//! # Ok(())
//! # }
//! ```
//!
//! [`Launcher`]: pefo_core::launch::Launcher
//! [`Clock`]: pefo_core::clock::Clock
//! [`Cancel`]: pefo_core::cancel::Cancel

mod collation;
mod compare;
mod derived;
mod drill;
mod dump;
mod facts;
mod kept;
mod list;
mod manifest;
mod mark;
mod name;
mod passfile;
mod plan;
mod prepared;
mod properties;
mod readiness;
mod restore;
mod rights;
mod server;
mod sizes;
mod space;
mod state;
mod stop;
mod swap;
mod tablespace;
mod tls;
mod tools;
mod verbose;
mod verify;

pub use collation::CollationVersion;
pub use compare::{Difference, DifferenceKind, compare};
pub use derived::Purpose;
pub use drill::{DrillReport, drill};
pub use dump::{DumpOptions, dump};
pub use facts::ServerFacts;
pub use kept::{kept, rollback};
pub use list::{DatabaseInfo, list};
pub use manifest::{DumpFile, DumpManifest};
pub use mark::{CommitMark, is_unchanged_since};
pub use name::{DatabaseName, MAX_IDENTIFIER_BYTES};
pub use plan::{RestoreOptions, RestorePlan, plan_restore};
pub use prepared::{Prepared, discard, is_swapped_in, prepare, swap_back, swap_in};
pub use readiness::Readiness;
pub use restore::{RestoreOutcome, RestoreReport, StepTime, execute, restore, unchanged};
pub use rights::Right;
pub use server::{Host, Server};
pub use space::{Disks, Space, Volume};
pub use state::{
    DatabaseState, Definition, DigestAlgorithm, Extension, Grant, LargeObjects, LocaleProvider,
    Properties, Relation, RelationKind, SchemaRights, Sequence, SequenceValue, Settings,
};
pub use swap::SwapReport;
pub use tablespace::{Placement, TablespaceUse};
pub use tls::ServerTls;
pub use tools::{ToolVersion, Tools};
pub use verify::{VerifyReport, verify};
