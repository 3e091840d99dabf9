//! What an operator's monitoring asks every minute: how does this host do?

use std::path::Path;

use pefo_core::clock::{Clock as _, SystemClock};
use pefo_core::disk::Disk;
use pefo_core::generation::DataSet;
use pefo_core::run::{Outcome, RunRecord};
use pefo_core::{Error, Result};
use pefo_testkit::skip::Skip;

use crate::pairs::{self, Contest};
use crate::row::{Halt, Measured, Row, Unit};
use crate::whole::{Size, Whole};
use crate::world::World;

/// Debian's directory of monitoring plugins.
const PLUGIN: &str = "/usr/lib/nagios/plugins/check_file_age";
/// How many runs are on record.
const RUNS: u32 = 1_000;

/// The rows of this group.
pub(crate) fn rows() -> Vec<Row> {
    vec![Row {
        name: "status_ms",
        what: "CA of 50,000, 1,000 run records, three data sets: how does the spare do?",
        unit: Unit::Milliseconds,
        wanted: None,
        pairs: 10,
        run: status,
    }]
}

struct Status {
    whole: Whole,
}

impl Contest for Status {
    fn prepare(&mut self, _: usize) -> Result<()> {
        Ok(())
    }

    fn pefo(&mut self) -> Result<f64> {
        let ran = self.whole.on_passive(&["status", "--json"])?;
        let rows = ran.told["details"]["datasets"].as_array();
        let is_well = |rows: &Vec<serde_json::Value>| {
            rows.len() == 3 && rows.iter().all(|row| row["health"] == "OK")
        };
        if !rows.is_some_and(is_well) {
            return Err(Error::invalid(
                "the status does not tell three data sets that do well",
            ));
        }
        Ok(ran.took)
    }

    fn peer(&mut self) -> Result<f64> {
        self.whole.file_ages(Path::new(PLUGIN))
    }
}

fn status(world: &World, pairs: usize) -> Result<Measured, Halt> {
    if !Path::new(PLUGIN).is_file() {
        let why = "there is no check_file_age: install monitoring-plugins-basic";
        return Err(Skip::new("needs-monitoring-plugins", why).into());
    }
    let size = Size {
        certificates: 50_000,
        groups: 12,
        poll_seconds: 10,
    };
    let whole = Whole::in_step(world, "status", size)?;
    fill(&whole.passive_runs())?;
    let mut contest = Status { whole };
    let measured = pairs::measure(world, Unit::Milliseconds, pairs, &mut contest)?;
    let peer = "check_file_age once a data set, which knows the age of a file and nothing else";
    let row = Measured::of(&measured, peer)?;
    let holds = if row.summary.pefo <= 20.0 {
        "yes"
    } else {
        "NO"
    };
    let note = format!("wanted ≤ 20 ms: {holds}");
    Ok(row
        .memory_kib(contest.whole.peak_kib())
        .with_p99(&measured)
        .note(Some(&note)))
}

/// Runs as cron leaves them, one after the other up to now, all of which went well: none of a failure is found early.
fn fill(runs: &Path) -> Result<()> {
    let disk = Disk::new();
    let now = SystemClock.now().unix_seconds();
    let databases = [
        DataSet::Ca,
        DataSet::Classifier,
        DataSet::Database("pe-rbac".to_owned()),
    ];
    for (second, dataset) in (1..=i64::from(RUNS)).rev().zip(databases.iter().cycle()) {
        let at = pefo_core::clock::Timestamp::from_unix_seconds(now - second)?;
        let record = RunRecord {
            format: 1,
            command: "apply".to_owned(),
            dataset: Some(dataset.clone()),
            position: None,
            began: at,
            ended: at,
            outcome: Outcome::Unchanged,
            error: None,
            rule: None,
            accepted: Default::default(),
        };
        record.store(&disk, runs)?;
    }
    Ok(())
}
