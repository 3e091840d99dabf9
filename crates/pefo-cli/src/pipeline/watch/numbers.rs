//! Positions of the active's batches.

use std::path::PathBuf;

use pefo_core::generation::outgoing::Sent;
use pefo_core::generation::{DataSet, Position};
use pefo_core::reign::Reign;
use pefo_core::{Digest, Result};

use crate::host::Host;

/// So many positions are given out for one write to the disk.
const RESERVED: u64 = 1000;

/// Positions, each given out once, whatever happens: they are taken from the disk by the thousand, before
/// the first of them is sent.
pub(super) struct Numbers<'a> {
    host: &'a Host,
    path: PathBuf,
    pub(super) next: Position,
    reserved: u64,
}

impl<'a> Numbers<'a> {
    /// Those of this reign, from where the last run stopped.
    ///
    /// # Errors
    /// `Io`, or `Invalid` where the record is malformed.
    pub(super) fn open(host: &'a Host, reign: &Reign) -> Result<Self> {
        let path = host.record_path("sent", &DataSet::Ca);
        let next = Sent::next(Sent::load(&path)?.as_ref(), reign.epoch);
        Ok(Self {
            host,
            path,
            next,
            reserved: 0,
        })
    }

    /// The next, on the disk before it is on the wire.
    ///
    /// # Errors
    /// `Io`.
    pub(super) fn give_out(&mut self, state: Digest) -> Result<Position> {
        let position = self.next;
        if position.sequence > self.reserved {
            self.reserved = position.sequence + RESERVED - 1;
            let last = Position {
                sequence: self.reserved,
                ..position
            };
            let sent = Sent {
                format: 1,
                position: last,
                state,
            };
            sent.store(&self.host.disk, &self.path)?;
        }
        self.next.sequence += 1;
        Ok(position)
    }
}
