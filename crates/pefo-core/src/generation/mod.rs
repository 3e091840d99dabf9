//! Generations: one sealed, signed step of a data set, from the active.
//!
//! A *full* generation carries a whole state and needs only to be newer than what was accepted. A
//! *batch* carries the steps from one state to the next and applies only if it starts where the last
//! accepted one ended. [`manifest`] is the schema, [`outgoing`] makes generations on the active,
//! [`verify`] is the only way to a [`Verified`] on the passive, and [`batch`] steps a state forward.

pub mod batch;
pub mod manifest;
mod names;
pub mod outgoing;
pub mod spool;
pub mod verify;

pub use manifest::{Content, FileEntry, Manifest, Step};
pub use names::{DataSet, Position, Site};
pub use outgoing::{Outgoing, Payload};
pub use verify::{Accepted, Gate, Verified};
