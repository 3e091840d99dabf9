//! The end-to-end suite: two masters, each with a real sshd, driven through the `pefo` program.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]
#![expect(
    clippy::disallowed_methods,
    reason = "tests play operators, intruders and broken disks by hand"
)]

mod evidence;
mod pair;
mod rolled_back;

mod alerts;
mod bad_input;
mod ca;
mod check;
mod classifier;
mod code;
mod commands;
mod crash;
mod database;
mod documentation;
mod files;
mod full_disk;
mod guide;
mod health;
mod network;
mod pairing;
mod peers;
mod puppetservers;
mod reigns;
mod report;
mod requests;
mod rollback;
mod rotate_key;
mod schedule;
mod spool;
mod taken_up;
mod verify;
mod watch;
