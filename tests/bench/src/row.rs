//! What a row of the benchmark is, and what its measurement gives.

use pefo_core::{Error, Result};
use pefo_testkit::skip::Skip;

use crate::numbers::{Pair, Summary, p99};
use crate::world::World;

/// A row: some work that pefo and a peer do, and how it is measured.
pub(crate) struct Row {
    /// The stable name, in snake case, that begins with its group: `tree_`, `delta_`, `ca_` …
    pub(crate) name: &'static str,
    /// The work in a few words, for the table.
    pub(crate) what: &'static str,
    /// What is counted.
    pub(crate) unit: Unit,
    /// The ratio that pefo is meant to reach, where one is.
    pub(crate) wanted: Option<f64>,
    /// How many pairs are measured where nobody asks for another number.
    pub(crate) pairs: usize,
    /// Measures so many pairs.
    pub(crate) run: fn(&World, usize) -> Result<Measured, Halt>,
}

/// What a row counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Milliseconds of wall time.
    Milliseconds,
    /// Bytes, of a file or on the wire.
    Bytes,
}

impl Unit {
    /// As it stands in bench.json.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Milliseconds => "ms",
            Self::Bytes => "bytes",
        }
    }
}

/// The outcome of a row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Measured {
    /// The numbers.
    pub(crate) summary: Summary,
    /// Whom pefo was measured against, with version and flags.
    pub(crate) peer_name: String,
    /// The largest peak resident memory of any of pefo's processes, in MiB.
    pub(crate) memory_mib: Option<u64>,
    /// The 99th percentile of pefo's runs, in the row's unit, where the row asks for it.
    pub(crate) p99: Option<f64>,
    /// One durable publish of a small file (temp, fsync, rename, fsync of the directory), measured in the
    /// same run, in milliseconds, where the row is about events.
    pub(crate) publish: Option<f64>,
    /// What one must know to read the numbers.
    pub(crate) note: Option<String>,
}

impl Measured {
    /// Sums up `pairs`.
    ///
    /// # Errors
    /// No pairs, or a peer that took nothing at all.
    pub(crate) fn of(pairs: &[Pair], peer_name: impl Into<String>) -> Result<Self> {
        let Some(summary) = Summary::of(pairs) else {
            return Err(Error::invalid(
                "there is no ratio to tell: the peer took nothing",
            ));
        };
        Ok(Self {
            summary,
            peer_name: peer_name.into(),
            memory_mib: None,
            p99: None,
            publish: None,
            note: None,
        })
    }

    /// Adds the largest peak of pefo's processes.
    #[must_use]
    pub(crate) fn memory_kib(mut self, peak_kib: u64) -> Self {
        self.memory_mib = Some(peak_kib.div_ceil(1024));
        self
    }

    /// Adds the 99th percentile of pefo's runs.
    #[must_use]
    pub(crate) fn with_p99(mut self, pairs: &[Pair]) -> Self {
        let pefo: Vec<f64> = pairs.iter().map(|pair| pair.pefo).collect();
        self.p99 = p99(&pefo);
        self
    }

    /// Adds what one must know to read the numbers.
    #[must_use]
    pub(crate) fn note(mut self, note: Option<&str>) -> Self {
        self.note = note.map(str::to_owned);
        self
    }
}

/// Why a row has no numbers.
#[derive(Debug)]
pub(crate) enum Halt {
    /// It can not run on this machine.
    Skipped(Skip),
    /// It went wrong, or its result was not what it should have been.
    Failed(Error),
}

impl From<Skip> for Halt {
    fn from(skip: Skip) -> Self {
        Self::Skipped(skip)
    }
}

impl From<Error> for Halt {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}
