//! Keeping a tree as another one is, over a line.
//!
//! A [`TreeSource`] is a directory; a [`TreeConnection`] leads to a [`TreeReceiver`], which keeps a
//! copy of it. One round trip tells that nothing has changed; otherwise it costs what changed: digests
//! of buckets find the entries that differ, files that stand elsewhere in the copy are copied there,
//! changed ones cross as deltas, and a transfer that was cut is taken up where it was. A hint ("this
//! path changed") costs one round trip and nothing that grows with the tree.
//!
//! Files and directories, their permission bits, and mtimes of files are carried; owners are the
//! receiver's policy. Symlinks and special files are left out, and named.
//!
//! | module | what it is for |
//! |---|---|
//! | [`mod@scan`] | a directory as entries, read only where the digest cache can't tell |
//! | [`entry`] | entries as values and as canonical bytes |
//! | [`summary`] | which parts of two trees differ |
//! | [`message`], [`session`] | the frames of a tree session, and which is legal when |
//! | [`source`], [`send`] | the sending side: a directory, and the line to where it is kept |
//! | [`receive`] | the receiving side: plan, stage, commit |
//!
//! ```no_run
//! use pefo_core::{cancel::Cancel, clock::SystemClock, progress::Silent};
//! use pefo_transport::{SshTarget, TreeConnection, TreeOptions, TreeSource};
//!
//! # fn main() -> pefo_core::Result<()> {
//! let target = SshTarget::new("spare.lab", 22, "mirror", "/root/.ssh/mirror", vec!["ssh-ed25519 AAAA…".into()]);
//! let mut source = TreeSource::new("/etc/app").cached("/var/cache/app.digests");
//! let scan = source.scan(&SystemClock, &Cancel::new())?;
//! let mut line = TreeConnection::open(&target, TreeOptions::new("app 1.0"))?;
//! let synced = line.sync(&source, scan, &Silent)?;
//! assert!(synced.is_complete());
//! line.close()?;
//! # Ok(()) }
//! ```

pub mod entry;
pub mod message;
pub mod receive;
pub mod scan;
pub mod send;
pub mod session;
pub mod source;
pub mod summary;

pub use receive::{DeleteGuard, TreeLimits, TreeReceiver, TreeReceiverOptions, TreeServed};
pub use scan::{LeftOut, Scan};
pub use send::{Synced, TreeConnection, TreeOptions};
pub use source::TreeSource;
