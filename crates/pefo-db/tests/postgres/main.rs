//! Dumps and restores between real PostgreSQL servers, which the testkit starts and throws away.

#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

mod bench;
mod cancelled;
mod digests;
mod failures;
mod marks;
mod preflight;
mod prepared;
mod progress;
mod refusals;
mod restarted;
mod roundtrip;
mod swapping;
mod tls;
