//! The end-to-end suite: two masters, each with a real sshd, driven through the `pefo` program.

#![expect(clippy::disallowed_methods, reason = "tests play operators, intruders and broken disks by hand")]

mod pair;

mod ca;
