//! The ssh driver against a real sshd, with the `receive_once` example as its forced command.

#![cfg(feature = "ssh")]
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests play the passive's root, and fail where their world does"
)]

mod link;
mod session;
mod stop;
mod world;
