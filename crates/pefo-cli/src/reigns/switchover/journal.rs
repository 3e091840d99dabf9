//! What was decided, and how far it is: enough for whoever goes on after a crash.

use std::collections::BTreeMap;
use std::fmt;

use pefo_core::clock::Timestamp;
use pefo_core::generation::{DataSet, Position};
use pefo_core::reign::Epoch;
use pefo_core::request::Nonce;
use pefo_core::{Certname, Result, record as stored};
use serde::{Deserialize, Serialize};

use crate::host::Host;
use crate::reigns::record;

/// What was decided, and how far it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Switchover {
    /// Version of this record's schema: 1.
    pub(super) format: u32,
    /// When it began.
    pub(super) begun: Timestamp,
    /// Who takes the reign.
    pub(super) to: Certname,
    /// The reign that ends.
    pub(super) old: Epoch,
    /// Since when this host signs and pushes nothing.
    pub(super) stopped: Option<Timestamp>,
    /// The last generation of each data set.
    pub(super) heads: BTreeMap<DataSet, Position>,
    /// The request that prepared it.
    pub(super) prepared: Option<Nonce>,
    /// The commit was asked for: only the other side knows.
    pub(super) committing: bool,
    /// When the other side was known to reign.
    pub(super) over: Option<Timestamp>,
}

impl Switchover {
    const NAME: &'static str = "switchover";

    pub(super) fn load(host: &Host) -> Result<Option<Self>> {
        stored::load(&record(host, Self::NAME))
    }

    pub(super) fn store(&self, host: &Host) -> Result<()> {
        host.store_json(&record(host, Self::NAME), self, 0o600)
    }

    pub(super) fn drop_journal(host: &Host) -> Result<()> {
        host.disk.remove_file(&record(host, Self::NAME))
    }
}

impl fmt::Display for Switchover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stands = match (self.committing, self.stopped) {
            (true, _) => "the commit was asked for",
            (false, Some(_)) => "this host has stopped",
            (false, None) => "nothing has changed yet",
        };
        writeln!(
            f,
            "switchover to {}, begun {}: {stands}",
            self.to, self.begun
        )
    }
}
