//! Dumps and restores between real PostgreSQL servers, which the testkit starts and throws away.

#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod bench;
mod failures;
mod refusals;
mod roundtrip;
mod swapping;
