//! Keeping a tree over a line: both sides, real directories.

#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests play the tree's owner, and fail where their world does"
)]

mod crash;
mod cut;
mod guard;
mod hostile;
mod power;
mod resume;
mod sync;
mod world;
