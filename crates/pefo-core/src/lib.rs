//! What every part of pefo stands on.
//!
//! The way of the data is one direction: *observe → snapshot → generation → transfer → verify →
//! plan → apply → record*. This crate holds the values that travel it and the few rooms that may
//! touch a disk:
//!
//! | module | what it is for |
//! |---|---|
//! | [`error`] | the one public error, with kind, rule, hint and whether a retry makes sense |
//! | [`certname`], [`path`] | names from outside, parsed once, safe afterwards |
//! | [`disk`] | every change to a disk; fault hook and recorded power loss for tests |
//! | [`mod@record`] | small JSON files that are replaced whole |
//! | [`lock`] | flocks that die with their holder |
//! | [`clock`], [`cancel`], [`progress`], [`launch`] | time, the word to stop, progress and child processes, handed in |
//! | [`digest`], [`digest_cache`] | BLAKE3 digests, the state digest that costs what changed; files that need not be read again |
//! | [`keys`], [`sealing`], [`document`] | Ed25519 signatures, sealed payloads, signed documents |
//! | [`reign`], [`pairing`] | who reigns, and how two masters come to know each other |
//! | [`generation`] | manifests, full and batch generations, and `Verified` |
//! | [`files`] | the few files that a spare needs: which, sealed, planned, put in place |
//! | [`ack`], [`heartbeat`], [`run`] | what the passive proves, what the active says, what a run did |
//! | [`request`] | what the active asks of the passive's root, and its answer |
//!
//! The crate is synchronous, uses no network, starts nothing and prints nothing.

pub mod ack;
pub mod cancel;
pub mod certname;
pub mod clock;
pub mod digest;
pub mod digest_cache;
pub mod disk;
pub mod document;
pub mod error;
pub mod files;
pub mod generation;
pub mod heartbeat;
pub mod keys;
pub mod launch;
pub mod lock;
mod packing;
pub mod pairing;
pub mod path;
pub mod progress;
pub mod record;
pub mod reign;
pub mod request;
pub mod run;
pub mod sealing;

pub use certname::Certname;
pub use digest::Digest;

pub use error::{Error, ErrorKind, Result};
pub use path::RelPath;
