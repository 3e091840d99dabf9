//! The receiving side of a tree session: a tree that is kept as another one is.
//!
//! What it guarantees: a file shows in the tree whole, with the announced digest, or as it was; after
//! a crash at any moment the next session makes it the whole old tree or the whole new one
//! (see `commit`); what was answered as committed is durable; nothing outside `dest` and `state` is
//! written, whatever the other side says and whatever is planted in `dest`; more than the
//! [`DeleteGuard`] allows is never removed. Content decides: what stands is known by its digest.
//!
//! [`TreeReceiver::serve`] writes nothing but frames to its output.

mod commit;
mod filling;
mod keeper;
mod places;
pub(crate) mod plan;
mod service;
mod signatures;
mod stage;

use std::io::{Read, Write};
use std::path::PathBuf;
use std::time::Duration;

use pefo_core::Result;
use pefo_core::clock::Clock;
use pefo_core::disk::{Attributes, Disk};

use super::message::EntriesHead;
use crate::delta::Seed;

pub use plan::{DeleteGuard, Plan};

/// How much one session may bring.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TreeLimits {
    /// Files and directories of the tree. Default 1,000,000, the format's own limit.
    pub entries: u32,
    /// Bytes of one file. Default 1 TiB.
    pub file_bytes: u64,
    /// Bytes of the whole tree. Default: none.
    pub tree_bytes: u64,
    /// Bytes that stay free on the tree's file system. Default 64 MiB.
    pub free_bytes: u64,
    /// How long one frame may take to arrive, once it has begun. Default 5 minutes.
    pub frame_time: Duration,
}

impl Default for TreeLimits {
    fn default() -> Self {
        Self {
            entries: EntriesHead::MAX_ENTRIES,
            file_bytes: 1 << 40,
            tree_bytes: u64::MAX,
            free_bytes: 64 << 20,
            frame_time: Duration::from_secs(300),
        }
    }
}

impl TreeLimits {
    /// Sets how many files and directories there may be.
    #[must_use]
    pub const fn entries(mut self, entries: u32) -> Self {
        self.entries = entries;
        self
    }

    /// Sets the bytes of one file.
    #[must_use]
    pub const fn file_bytes(mut self, bytes: u64) -> Self {
        self.file_bytes = bytes;
        self
    }

    /// Sets the bytes of the whole tree.
    #[must_use]
    pub const fn tree_bytes(mut self, bytes: u64) -> Self {
        self.tree_bytes = bytes;
        self
    }

    /// Sets the bytes that stay free.
    #[must_use]
    pub const fn free_bytes(mut self, bytes: u64) -> Self {
        self.free_bytes = bytes;
        self
    }

    /// Sets how long one frame may take.
    #[must_use]
    pub const fn frame_time(mut self, limit: Duration) -> Self {
        self.frame_time = limit;
        self
    }
}

/// Where the tree is, and how it is kept.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TreeReceiverOptions {
    /// The tree; made at the first sync, where its parent must exist.
    pub dest: PathBuf,
    /// A directory of the receiver's own on the tree's file system, outside the tree: what is arriving,
    /// the digest cache, the lock.
    pub state: PathBuf,
    /// This program, such as `pefo 0.1.0`.
    pub tool: String,
    /// Numeric user and group of everything in the tree; `None` leaves the receiver's own.
    pub owner: Option<(u32, u32)>,
    /// Permission bits of the tree's root where it is made. Default 0750.
    pub root_mode: u32,
    /// How much may be removed at once.
    pub guard: DeleteGuard,
    /// How much may come.
    pub limits: TreeLimits,
    /// How long a session that still keeps the tree is waited for. Default 10 s: one that is ending makes
    /// signatures of the long files that it brought.
    pub lock_wait: Duration,
}

impl TreeReceiverOptions {
    /// With the usual guard and limits.
    pub fn new(
        dest: impl Into<PathBuf>,
        state: impl Into<PathBuf>,
        tool: impl Into<String>,
    ) -> Self {
        Self {
            dest: dest.into(),
            state: state.into(),
            tool: tool.into(),
            owner: None,
            root_mode: 0o750,
            guard: DeleteGuard::default(),
            limits: TreeLimits::default(),
            lock_wait: Duration::from_secs(10),
        }
    }

    /// Permission bits, and the owner that everything in the tree has.
    fn attributes(&self, mode: u32) -> Attributes {
        match self.owner {
            Some((uid, gid)) => Attributes::mode(mode).owner(uid, gid),
            None => Attributes::mode(mode),
        }
    }

    /// Sets user and group of everything in the tree.
    #[must_use]
    pub const fn owner(mut self, uid: u32, gid: u32) -> Self {
        self.owner = Some((uid, gid));
        self
    }

    /// Sets the permission bits of the tree's root.
    #[must_use]
    pub const fn root_mode(mut self, mode: u32) -> Self {
        self.root_mode = mode;
        self
    }

    /// Sets how much may be removed at once.
    #[must_use]
    pub const fn guard(mut self, guard: DeleteGuard) -> Self {
        self.guard = guard;
        self
    }

    /// Sets how long a session that still keeps the tree is waited for.
    #[must_use]
    pub const fn lock_wait(mut self, limit: Duration) -> Self {
        self.lock_wait = limit;
        self
    }

    /// Sets how much may come.
    #[must_use]
    pub fn limits(mut self, limits: TreeLimits) -> Self {
        self.limits = limits;
        self
    }
}

/// What a session that ended in order has done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TreeServed {
    /// Changes committed.
    pub commits: u64,
    /// Comparisons that found nothing to do.
    pub unchanged: u64,
    /// Whether the peer said goodbye, rather than just being gone between two requests.
    pub goodbye: bool,
}

/// Keeps one tree.
#[derive(Debug, Clone)]
pub struct TreeReceiver {
    options: TreeReceiverOptions,
}

impl TreeReceiver {
    /// For the tree that `options` name.
    pub fn new(options: TreeReceiverOptions) -> Self {
        Self { options }
    }

    /// Serves one session. `seed` is 16 random bytes, drawn for it alone.
    ///
    /// # Errors
    /// What the peer was refused for, in the words and of the kind it was told: `Locked` where another
    /// session keeps the tree, `Config` where `state` is on another file system or mount, or in the tree,
    /// `Refused` (`tree-shape`, `tree-mode`, `tree-size`, `spool-full`, …), `Io`; `Unreachable` where the
    /// line was cut within a request. What was committed before stays.
    pub fn serve(
        &self,
        input: &mut dyn Read,
        output: &mut dyn Write,
        disk: &Disk,
        clock: &dyn Clock,
        seed: Seed,
    ) -> Result<TreeServed> {
        service::Service::new(input, output, &self.options, disk, clock, seed).run()
    }
}
