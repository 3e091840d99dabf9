//! Generations over a line: frames, the conversation, the sender, the receiver, the ssh driver.
//!
//! | module | what it is for |
//! |---|---|
//! | [`delta`] | rolling checksum, signature, delta, patch; no I/O beyond Read and Write |
//! | [`frame`] | bytes to frames and back; no I/O |
//! | [`message`] | what the frames carry |
//! | [`session`] | which frame is legal when, for both sides; no I/O |
//! | [`sender`] | [`Connection`]: the active's side, over any stream |
//! | [`receive`] | the passive's side: publishes whole generations below a spool |
//! | [`ssh`] | (feature `ssh`) a stream to the peer's `pefo receive` |
//! | [`link`] | a session that is kept: opened anew where the line fails, ended where stop is said |
//! | [`pace`], [`retry`] | bandwidth limit; how long to wait before another try |
//!
//! What it guarantees: a generation stands in the spool whole or not at all, whatever happens to the
//! line, the peer or the disk; nothing is published for a reign that has ended; nothing the peer says
//! becomes a path before it was parsed by pefo-core's types. What it does not do: decide what may be
//! applied. The spool is untrusted, and root checks everything again.
//!
//! The crate is synchronous: one thread owns a session, and the phases are half-duplex. The formats
//! are written down in `docs/wire.md`.

pub mod delta;
mod exchange;
pub mod frame;
pub mod link;
pub mod message;
pub mod pace;
pub mod receive;
pub mod retry;
pub mod sender;
pub mod session;
#[cfg(feature = "ssh")]
pub mod ssh;
pub mod tree;
mod wire;

pub use link::{Dial, Link, LinkOptions};
pub use message::Purpose;
pub use pace::Pace;
pub use receive::{Limits, ReceiverOptions, Served, check_original_command, serve};
pub use retry::Backoff;
pub use sender::{Connection, Introduced, Peer, Pushed};
#[cfg(feature = "ssh")]
pub use ssh::SshTarget;
pub use tree::{
    Synced, TreeConnection, TreeOptions, TreeReceiver, TreeReceiverOptions, TreeSource,
};
pub use wire::Traffic;
