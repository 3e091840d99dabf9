//! The passive's side: takes whole generations from the line into the spool.
//!
//! Runs as the unprivileged transfer account, started by sshd's forced command. What it guarantees:
//! a generation shows in the spool whole and durable or not at all; before *every* publish the station
//! file is read again, and nothing is published to an active master or for another reign than its
//! own; every byte is counted and hashed against the signed manifest while it is written; nothing
//! outside the spool is written, and within it only below `generations`, `heartbeats`, `reigns` and
//! `requests`; sizes, counts, space and time are limited. All that is for early and clear refusals: the spool is
//! untrusted, and root's own check decides.
//!
//! [`serve`] writes nothing but frames to its output.

mod claim;
mod gate;
mod idle;
mod intake;
pub mod journal;
mod newest;
mod partial;
mod payload;
mod requests;
mod room;
mod service;
pub(crate) mod space;
mod talk;

use std::io::{Read, Write};
use std::path::PathBuf;
use std::time::Duration;

use pefo_core::clock::Clock;
use pefo_core::disk::Disk;
use pefo_core::generation::{DataSet, Position, Site};
use pefo_core::keys::PublicKey;
use pefo_core::{Certname, Error, Result};

use crate::message::Purpose;

pub use claim::Succession;
pub use idle::IdleLimited;
pub use journal::Origin;

/// How much one session may take, and how much is kept.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes of one generation, as stored. Default 1 TiB.
    pub generation_bytes: u64,
    /// Files of one generation. Default 400,000, the format's own limit.
    pub files: u32,
    /// Bytes of all generations in the spool; a file with several names counts once. Default: none.
    pub quota_bytes: u64,
    /// Bytes that stay free on the spool's file system. Default 64 MiB.
    pub free_bytes: u64,
    /// Generations of each data set that are kept, at least one. Default 3.
    pub keep: usize,
    /// How long one frame may take to arrive, once it has begun. Default 5 minutes.
    pub frame_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            generation_bytes: 1 << 40,
            files: 400_000,
            quota_bytes: u64::MAX,
            free_bytes: 64 << 20,
            keep: 3,
            frame_time: Duration::from_secs(300),
        }
    }
}

impl Limits {
    /// Sets the bytes of one generation.
    #[must_use]
    pub const fn generation_bytes(mut self, bytes: u64) -> Self {
        self.generation_bytes = bytes;
        self
    }

    /// Sets the files of one generation.
    #[must_use]
    pub const fn files(mut self, files: u32) -> Self {
        self.files = files;
        self
    }

    /// Sets the bytes of all generations in the spool.
    #[must_use]
    pub const fn quota_bytes(mut self, bytes: u64) -> Self {
        self.quota_bytes = bytes;
        self
    }

    /// Sets the bytes that stay free.
    #[must_use]
    pub const fn free_bytes(mut self, bytes: u64) -> Self {
        self.free_bytes = bytes;
        self
    }

    /// Sets how many generations of each data set are kept.
    #[must_use]
    pub const fn keep(mut self, generations: usize) -> Self {
        self.keep = generations;
        self
    }

    /// Sets how long one frame may take.
    #[must_use]
    pub const fn frame_time(mut self, limit: Duration) -> Self {
        self.frame_time = limit;
        self
    }
}

/// Where things are on the passive, and who it is.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ReceiverOptions {
    /// The spool, the transfer account's own; it must exist.
    pub spool: PathBuf,
    /// The station file: root's, world-readable.
    pub station: PathBuf,
    /// The directory with `<data set's directory name>.ack`: root's, world-readable.
    pub acks: PathBuf,
    /// The directory with `<nonce>.answer`: root's, world-readable.
    pub answers: PathBuf,
    /// The signing keys of the paired peers and this host's own.
    pub keys: Vec<PublicKey>,
    /// The pair.
    pub site: Site,
    /// This host.
    pub certname: Certname,
    /// This pefo, such as `pefo 0.1.0`.
    pub tool: String,
    /// How much is taken.
    pub limits: Limits,
    /// Random bytes of this session alone, which signatures are keyed with; without them no deltas are
    /// asked for and no session is succeeded.
    pub secret: Option<[u8; 32]>,
    /// Lets a newer session of the same peer take this one's place.
    pub succession: Option<Succession>,
    /// Where the session came from; where it is known, the session is written down in the spool's log.
    pub origin: Option<Origin>,
}

impl ReceiverOptions {
    /// With the usual limits, and with `answers` beside `acks`.
    pub fn new(
        spool: impl Into<PathBuf>,
        station: impl Into<PathBuf>,
        acks: impl Into<PathBuf>,
        keys: Vec<PublicKey>,
        site: Site,
        certname: Certname,
        tool: impl Into<String>,
    ) -> Self {
        let acks = acks.into();
        Self {
            spool: spool.into(),
            station: station.into(),
            answers: acks.with_file_name("answers"),
            acks,
            keys,
            site,
            certname,
            tool: tool.into(),
            limits: Limits::default(),
            secret: None,
            succession: None,
            origin: None,
        }
    }

    /// Sets where root publishes its answers.
    #[must_use]
    pub fn answers(mut self, dir: impl Into<PathBuf>) -> Self {
        self.answers = dir.into();
        self
    }

    /// Lets a newer session of the same peer take this one's place; needs a secret.
    #[must_use]
    pub fn succession(mut self, succession: Succession) -> Self {
        self.succession = Some(succession);
        self
    }

    /// Writes the session down in the spool's log.
    #[must_use]
    pub fn origin(mut self, origin: Origin) -> Self {
        self.origin = Some(origin);
        self
    }

    /// Sets the session's own random bytes ([`pefo_core::keys::random_bytes`]).
    #[must_use]
    pub const fn secret(mut self, secret: [u8; 32]) -> Self {
        self.secret = Some(secret);
        self
    }

    /// Sets how much is taken.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }
}

/// What a session has done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Served {
    /// Who the peer said it was.
    pub peer: Option<Certname>,
    /// What it came for.
    pub purpose: Option<Purpose>,
    /// What stands in the spool now.
    pub published: Vec<(DataSet, Position)>,
    /// What was offered but stood there already.
    pub already: u64,
    /// What was begun and taken back by the peer.
    pub abandoned: u64,
    /// Heartbeats taken.
    pub heartbeats: u64,
    /// Requests to root taken.
    pub requests: u64,
    /// Whether the peer said goodbye, rather than just being gone between two requests.
    pub goodbye: bool,
}

/// Serves one session.
///
/// # Errors
/// What the peer was refused for, in the words and of the kind it was told; `Unreachable` where the line
/// was cut within a request. What was published before stays.
pub fn serve(
    input: &mut dyn Read,
    output: &mut dyn Write,
    options: &ReceiverOptions,
    disk: &Disk,
    clock: &dyn Clock,
) -> Result<Served> {
    let (served, ended) = service::Service::new(input, output, options, disk, clock).run();
    if let Some(origin) = &options.origin {
        let failed = ended.as_ref().err();
        if let Err(error) = journal::record(disk, clock, &options.spool, origin, &served, failed) {
            tracing::warn!(%error, "the session could not be written down");
        }
    }
    ended.map(|()| served)
}

/// Lets pass what a client may ask for of a forced command (sshd's `SSH_ORIGINAL_COMMAND`): nothing, or
/// `pefo receive`.
///
/// # Errors
/// `Refused` with rule `forced-command`, naming what was asked for.
pub fn check_original_command(asked: Option<&str>) -> Result<()> {
    match asked {
        None | Some("pefo receive") => Ok(()),
        Some(other) => Err(Error::refused(
            "forced-command",
            format!(
                "this key may run 'pefo receive' only, not {:?}",
                crate::message::plain(other)
            ),
        )
        .hint("the transfer key is pefo's alone; use another key for other work")),
    }
}
