//! Serials that nobody has issued and nobody else will: what a host needs before it signs.
//!
//! The block lies above everything that anybody is known to have issued, revoked or counted to, and above
//! the host's own former block, so that whatever was issued from that one and never came to notice
//! is not issued again (RFC 5280 §4.1.2.2: issuer and serial name one certificate).
//!
//! Two hosts that do not know what the other has chosen, since each was promoted while the other was out of reach,
//! may lie above the same serials. So each chooses in a lane of its own ([`KnownSerials::lane`]).

use pefo_core::{Error, Result};

use crate::serial::{Serial, SerialBlock};
use crate::snapshot::Snapshot;

/// What is known of serials besides what the snapshots say.
#[derive(Debug, Clone, Copy, Default)]
#[non_exhaustive]
pub struct KnownSerials {
    /// The former active's counter, as a standby with its own block last recorded it.
    pub source_counter: Option<Serial>,
    /// The block that this host has issued from so far.
    pub former_block: Option<SerialBlock>,
    /// The lane in which this host chooses, of [`SerialBlock::LANES`]: that of no other host.
    pub lane: Option<u32>,
    /// Reigns that have begun since the host was in step, besides the one that begins now: this host itself may
    /// have issued in them, before it was restored from an older state.
    pub unseen_reigns: u32,
}

impl KnownSerials {
    /// Sets the counter that was recorded of the former active.
    #[must_use]
    pub fn source_counter(mut self, counter: Option<Serial>) -> Self {
        self.source_counter = counter;
        self
    }

    /// Sets the block that this host has issued from so far.
    #[must_use]
    pub fn former_block(mut self, block: Option<SerialBlock>) -> Self {
        self.former_block = block;
        self
    }

    /// Sets how many reigns have begun unseen.
    #[must_use]
    pub fn unseen_reigns(mut self, reigns: u32) -> Self {
        self.unseen_reigns = reigns;
        self
    }

    /// Sets the lane in which this host chooses.
    #[must_use]
    pub fn lane(mut self, lane: u32) -> Self {
        self.lane = Some(lane);
        self
    }
}

/// A block well above every counter, every serial issued or revoked in the snapshots, and everything
/// in `known`. Serials too wide for the counter do not count: no counter reaches them.
///
/// # Errors
/// `Refused` (`serial-exhausted`) where puppetserver could not count that far.
pub fn fresh_block<'s>(
    snapshots: impl IntoIterator<Item = &'s Snapshot>,
    known: &KnownSerials,
) -> Result<SerialBlock> {
    let seen = snapshots
        .into_iter()
        .flat_map(|snapshot| snapshot.issued().chain(snapshot.serial()));
    let highest = seen
        .chain(known.source_counter)
        .filter_map(Serial::counter)
        .chain(known.former_block.map(SerialBlock::last))
        .max()
        .unwrap_or(0);
    let unseen = known.unseen_reigns.saturating_mul(SerialBlock::STRIDE);
    let highest = highest.saturating_add(unseen);
    let block = match known.lane {
        Some(lane) => SerialBlock::above_in_lane(highest, lane),
        None => SerialBlock::above(highest),
    };
    block.map_err(|error| {
        Error::refused("serial-exhausted", error.message)
            .hint("puppetserver cannot count beyond 7FFFFFFF; the CA has to be renewed.")
    })
}
