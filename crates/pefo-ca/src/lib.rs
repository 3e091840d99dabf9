//! Puppet CA directories: read them, compare them, bring a standby's in step with its source's.
//!
//! A certificate authority is not a directory tree: copying it file by file forgets revocations, issues
//! a serial twice, or merges two authorities. This crate knows what each file means and keeps the rules
//! of a correct standby:
//!
//! | module | what it is for |
//! |---|---|
//! | [`layout`] | where the cadir is, whose it is, and whether it is one we may touch |
//! | [`serial`], [`inventory`], [`cert`], [`crl`], [`key`], [`pem`] | parsers; errors say line and rule |
//! | [`authority`] | checks signatures under the CA |
//! | [`snapshot`] | everything that matters, read in an order that cannot catch a half-done signature |
//! | [`index`] | certificates by serial, rows by name |
//! | [`exclude`] | certnames that stay out of it |
//! | [`plan`](mod@plan) | local and source snapshot → what would be done, and what is refused and why; pure |
//! | [`apply`](mod@apply) | does it, durably, in the order that keeps serial ≥ inventory ≥ signed at any crash |
//! | [`source`] | a source's CA followed change by change, each look as the steps of a batch |
//! | [`seed`](mod@seed) | an empty standby gets the CA whole, by one rename |
//! | [`takeover`] | the promoted host: serials of its own, CRLs signed anew, a returning active merged |
//! | [`rehearsal`] | could this host sign and revoke? tried out in a copy that nobody else sees |
//! | [`verify`] | would the standby serve the same, and is a CA sound by itself; pure |
//! | [`expiry`] | until when certificates and CRLs hold |
//! | [`watch`] | hints that something changed |
//!
//! Sources for what is said about Puppet here: puppetserver's `certificate_authority.clj`, the
//! `puppetserver-ca` CLI, RFC 5280, and runs against real servers. The crate is synchronous, uses no
//! network, prints nothing and changes disks through [`pefo_core::disk`] only.

pub mod apply;
pub mod authority;
pub mod cert;
pub mod crl;
mod detect;
pub mod exclude;
pub mod expiry;
pub mod index;
pub mod inventory;
pub mod key;
pub mod layout;
pub mod malformed;
pub mod parallel;
pub mod pem;
pub mod plan;
pub mod rehearsal;
pub mod seed;
pub mod serial;
pub mod snapshot;
pub mod source;
pub mod standby;
pub mod takeover;
pub mod verify;
pub mod watch;

pub use apply::{ApplyOptions, ApplyReport, apply};
pub use exclude::Exclusions;
pub use layout::{CaLayout, DetectOptions, Series};
pub use malformed::Malformed;
pub use parallel::Threads;
pub use plan::{Conflict, Plan, PlanRules, Rule, SerialMode, plan};
pub use rehearsal::{Rehearsal, RehearsalOptions, rehearse};
pub use seed::{SeedKey, SeedOptions, SeedReport, ca_fingerprint, seed};
pub use serial::{Serial, SerialBlock};
pub use snapshot::{Snapshot, SnapshotOptions};
pub use source::SourceIndex;
pub use standby::Standby;
