//! Throwaway servers, lines and directories to test pefo against, and to test your own tools with it.
//!
//! Everything here is real: an OpenSSH server, PostgreSQL, a Puppet CA on disk, puppetservers, and a
//! classifier that answers as Puppet's does. Each is started in a directory of its own, on a free
//! port of 127.0.0.1, and is dead and gone on drop; nothing of the system's own is touched. Where a
//! part can not run, it gives a [`skip::Skip`] instead, so that a test says `skipped: why`.
//!
//! | module | what it gives |
//! |---|---|
//! | [`skip`] | the one place for "skipped: why", and CI's "nothing may be skipped" |
//! | [`place`], [`account`] | directories other accounts may enter; the unprivileged transfer account |
//! | [`sshd`] | an OpenSSH server with keys of its own |
//! | [`mod@line`] | a TCP proxy that is slow, late, stalls, or is cut after n bytes |
//! | [`network`] | hosts of their own on one machine, cut off from each other and joined again |
//! | [`machine`] | fresh machines that boot systemd, each with a root of its own |
//! | [`disk`] | a small disk that fills up, or turns read-only under open files |
//! | [`ca`] | Puppet CA directories, written and changed as a puppetserver does |
//! | [`postgres`] | a PostgreSQL cluster, and a database of the shape of PE's RBAC |
//! | [`classifier`] | a node classifier that answers as Puppet Enterprise's |
//! | [`code`] | a control repository for a real r10k, and a stand-in for Code Manager's command |
//! | [`puppetserver`] | real puppetservers: sign, revoke, and ask whether a certificate is accepted |
//! | [`mod@unit`] | a systemd service under its own restrictions, where systemd does not run |
//! | [`browser`] | Chromium, and what any page should stand: nothing cut off, nothing too pale |
//! | [`masters`] | two masters with everything above, driven through the `pefo` program |
//! | [`wait`], [`child`] | waiting with a deadline; servers that never outlive the test |
//!
//! Another project takes the package as a dev-dependency and uses the modules it needs; nothing here
//! depends on pefo beyond `pefo-core`. A test against a server reads:
//!
//! ```no_run
//! use pefo_testkit::{account::TransferAccount, skip, sshd};
//!
//! let Some(account) = skip::need(TransferAccount::ensure()) else { return };
//! let options = sshd::Options::default().account(account.name());
//! let Some(server) = skip::need(sshd::Sshd::start(&options)) else { return };
//! let key = sshd::ClientKey::generate(server.directory());
//! server.authorize(&format!("restrict,command=\"id -un\" {}", key.public_line()));
//! ```
//!
//! Failures panic with what went wrong: these are tests. `docs/testing.md` tells more.

pub mod account;
pub mod browser;
pub mod ca;
pub mod child;
pub mod classifier;
pub mod code;
pub mod disk;
pub mod line;
pub mod machine;
pub mod masters;
pub mod network;
pub mod place;
pub mod postgres;
mod processes;
pub mod puppetserver;
pub mod skip;
pub mod sshd;
pub mod unit;
pub mod wait;
