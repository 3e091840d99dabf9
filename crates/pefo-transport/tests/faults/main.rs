//! What goes wrong between two hosts, played over a real sshd with real programs on both sides.
//!
//! `PEFO_FAULT_ROUNDS=n` plays n times as many rounds, `PEFO_FAULT_SEED=n` the same random moments
//! again; a failure names the seed it was met with.

#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests play the hosts' owner, and fail where their world does"
)]

mod clock;
mod cut;
mod disk;
mod follow;
mod hostile;
mod kill;
mod mirror;
mod slow;
mod spool;
mod world;
