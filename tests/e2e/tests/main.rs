//! The end-to-end suite: two masters, each with a real sshd, driven through the `pefo` program.

#![expect(clippy::disallowed_methods, reason = "tests play operators, intruders and broken disks by hand")]

mod evidence;
mod pair;
mod rolled_back;

mod bad_input;
mod ca;
mod classifier;
mod commands;
mod crash;
mod database;
mod puppetservers;
mod spool;
