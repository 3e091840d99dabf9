//! pefo itself, run on a master to its end: what it took and what it told.

use std::cell::Cell;
use std::path::Path;

use pefo_core::{Error, Result};
use pefo_testkit::masters::Master;
use serde_json::Value;

use crate::{memory, process};

/// A run of pefo that succeeded.
pub(crate) struct Ran {
    /// What it took, in milliseconds.
    pub(crate) took: f64,
    /// What it told, by `--json`.
    pub(crate) told: Value,
}

impl Ran {
    /// Runs pefo on `master`, with its output in `scratch`; `peak_kib` is raised to what its processes took.
    pub(crate) fn on(
        master: &Master,
        arguments: &[&str],
        scratch: &Path,
        peak_kib: &Cell<u64>,
    ) -> Result<Self> {
        let mut command = master.command();
        command.args(arguments);
        let work = || process::run(&mut command, scratch);
        let (ended, peak) = memory::peak_of(master.binary(), work);
        peak_kib.set(peak_kib.get().max(peak));
        let ended = ended?;
        let told = serde_json::from_str(&ended.stdout)
            .map_err(|error| Error::invalid(format!("what pefo told is no JSON: {error}")))?;
        Ok(Self {
            took: ended.milliseconds(),
            told,
        })
    }

    /// That pefo did something, or did nothing, as it should.
    pub(crate) fn told_outcome(&self, should: &str) -> Result<()> {
        let is = &self.told["outcome"];
        if is == should {
            return Ok(());
        }
        Err(Error::invalid(format!("pefo tells {is}, not {should}")))
    }
}
