//! Sender and receiver together, over a socket pair or a recorded line, with real generations; what
//! stands in the spool is proved by pefo-core's own check.

#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests play the spool's owner and the passive's root, and fail where their world does"
)]

mod cuts;
mod deltas;
mod hostile;
mod journal;
mod link;
mod pair;
mod planted;
mod power;
mod push;
mod refusals;
mod requests;
mod resume;
mod spool;
mod streams;
mod supersede;
