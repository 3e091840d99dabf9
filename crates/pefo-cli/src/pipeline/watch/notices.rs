//! A peer's receiver has left word of a newer reign in the spool: root takes notice of it while it watches.
//!
//! An active whose own line to its successor is cut hears of it this way, and a spare follows.

use std::path::PathBuf;
use std::time::Duration;

use pefo_core::digest_cache::Identity;
use pefo_core::generation::spool;

use super::HEARTBEAT;
use super::arrivals::Kind;
use crate::host::Host;
use crate::reigns::learn;

/// What was noted in the spool, as it was last looked at.
pub(super) struct Notices<'a> {
    host: &'a Host,
    dir: PathBuf,
    seen: Option<Identity>,
    /// When that was, by the clock that never goes back.
    looked: Option<Duration>,
}

impl<'a> Notices<'a> {
    /// Nothing was looked at yet.
    pub(super) fn of(host: &'a Host) -> Self {
        Self {
            host,
            dir: spool::noted_reigns_dir(&host.config.site.spool_dir),
            seen: None,
            looked: None,
        }
    }

    /// Where something may come.
    pub(super) fn place(&self) -> (Kind, PathBuf) {
        (Kind::Reigns, self.dir.clone())
    }

    /// Takes notice of what is new, and now and then of all: another run may have held the station.
    pub(super) fn look(&mut self) {
        let stands = std::fs::symlink_metadata(&self.dir);
        let stands = stands.ok().map(|meta| Identity::from(&meta));
        let now = self.host.clock.monotonic();
        let is_due = self
            .looked
            .is_none_or(|at| now.saturating_sub(at) >= HEARTBEAT);
        if stands == self.seen && !is_due {
            return;
        }
        (self.seen, self.looked) = (stands, Some(now));
        if let Err(error) = learn::from_spool(self.host) {
            tracing::warn!(%error, "what peers say of who reigns is not taken notice of");
        }
    }
}
