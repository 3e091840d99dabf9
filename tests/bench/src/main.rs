//! `make bench`: pefo and its peers, measured in the same run, on the same machine, by the same clock.
//!
//! What it guarantees:
//!
//! - A number is never told for work that was not done: after every measured run, outside of the time,
//!   the result is compared with what it should be, and a difference is a failure.
//! - Both sides of a pair start from the same state, and take turns in going first.
//! - `target/bench.json` holds the last number of every row; a row that failed has none.
//!
//! `docs/benchmarks.md` says what each row does and how another is added.

mod arguments;
mod classifiers;
mod compare;
mod data;
mod databases;
mod ledger;
mod memory;
mod mirror;
mod numbers;
mod pairs;
mod pattern;
mod process;
mod ran;
mod random;
mod readers;
mod row;
mod rows;
mod rsync;
mod session;
mod ssh;
mod table;
mod terminal;
mod watched;
mod whole;
mod world;

use std::process::ExitCode;

fn main() -> ExitCode {
    session::run(&arguments::parse())
}
