//! Who rules: how long a promotion and a planned change take, and the proof that both would serve the same.

use pefo_core::{Error, Result};

use crate::numbers::median;
use crate::pairs::{self, Contest};
use crate::row::{Halt, Measured, Row, Unit};
use crate::whole::{Size, Whole};
use crate::world::World;

/// The rows of this group.
pub(crate) fn rows() -> Vec<Row> {
    let row = |name, what, pairs, run| Row {
        name,
        what,
        unit: Unit::Milliseconds,
        wanted: None,
        pairs,
        run,
    };
    vec![
        row(
            "promote_rto",
            "the active is gone, nothing is pending: promote, to its end",
            5,
            promote,
        ),
        row(
            "switchover_rto",
            "planned, in step: from the active's stop to the other's reign",
            5,
            switchover,
        ),
        row(
            "verify_all",
            "CA of 50,000, 5,000 groups, RBAC's database: all compared",
            3,
            verify,
        ),
    ]
}

/// As a site of ten thousand has it.
const SITE: Size = Size {
    certificates: 10_000,
    groups: 12,
    poll_seconds: 2,
};
const LARGE: Size = Size {
    certificates: 50_000,
    groups: 5_000,
    poll_seconds: 2,
};

fn verdict(holds: bool) -> &'static str {
    if holds { "yes" } else { "NO" }
}

struct Promote {
    whole: Whole,
    /// From the beginning to the commit, beside each run.
    commits: Vec<f64>,
}

impl Contest for Promote {
    fn prepare(&mut self, _: usize) -> Result<()> {
        self.whole.change()?;
        self.whole.bring_in_step()
    }

    fn pefo(&mut self) -> Result<f64> {
        self.whole.active_dies();
        let ran = self.whole.on_passive(&["promote", "--json"])?;
        ran.told_outcome("ok")?;
        self.commits.extend(ran.told["details"]["rto_ms"].as_f64());
        // What comes after is no part of it: the former active returns as the passive of the next round.
        self.whole.fail_over()?;
        Ok(ran.took)
    }

    fn peer(&mut self) -> Result<f64> {
        self.whole.original_takes_over()
    }
}

fn promote(world: &World, pairs: usize) -> Result<Measured, Halt> {
    let mut contest = Promote {
        whole: Whole::in_step(world, "promote", SITE)?,
        commits: Vec::new(),
    };
    let measured = pairs::measure(world, Unit::Milliseconds, pairs, &mut contest)?;
    let row = Measured::of(&measured, "cp -a, chown -R, rsync -au of the CA alone")?;
    let note = format!(
        "to the commit {:.0} ms; wanted ≤ 1000 ms: {}",
        median(&contest.commits).unwrap_or_default(),
        verdict(row.summary.pefo <= 1_000.0)
    );
    Ok(row.memory_kib(contest.whole.peak_kib()).note(Some(&note)))
}

struct Switchover {
    whole: Whole,
    /// The whole process, beside each run.
    processes: Vec<f64>,
}

impl Contest for Switchover {
    fn prepare(&mut self, _: usize) -> Result<()> {
        self.whole.change()?;
        self.whole.bring_in_step()
    }

    fn pefo(&mut self) -> Result<f64> {
        let daemons = self.whole.daemons()?;
        let ran = self.whole.on_active(&["switchover", "--json"])?;
        ran.told_outcome("ok")?;
        self.whole.is_handed_over()?;
        drop(daemons);
        self.processes.push(ran.took);
        self.whole.turned();
        let took = ran.told["details"]["rto_ms"].as_f64();
        let took = took.ok_or_else(|| Error::invalid("pefo does not tell how long it took"))?;
        self.whole.bring_in_step()?;
        Ok(took)
    }

    fn peer(&mut self) -> Result<f64> {
        self.whole.original_hands_over()
    }
}

fn switchover(world: &World, pairs: usize) -> Result<Measured, Halt> {
    let mut contest = Switchover {
        whole: Whole::in_step(world, "switchover", SITE)?,
        processes: Vec::new(),
    };
    let measured = pairs::measure(world, Unit::Milliseconds, pairs, &mut contest)?;
    let row = Measured::of(
        &measured,
        "curl | sed | curl, pg_dump, md5sum, psql, cp -a, chown -R, rsync -au",
    )?;
    let note = format!(
        "the whole process, with the push before the stop: {:.0} ms; wanted ≤ 5000 ms: {}",
        median(&contest.processes).unwrap_or_default(),
        verdict(row.summary.pefo <= 5_000.0)
    );
    Ok(row.memory_kib(contest.whole.peak_kib()).note(Some(&note)))
}

struct Verify {
    whole: Whole,
}

impl Contest for Verify {
    fn prepare(&mut self, _: usize) -> Result<()> {
        self.whole.change()?;
        self.whole.bring_in_step()
    }

    fn pefo(&mut self) -> Result<f64> {
        let ran = self.whole.on_passive(&["verify", "--json"])?;
        ran.told_outcome("ok")?;
        Ok(ran.took)
    }

    fn peer(&mut self) -> Result<f64> {
        self.whole.compare_by_hand()
    }
}

fn verify(world: &World, pairs: usize) -> Result<Measured, Halt> {
    let mut contest = Verify {
        whole: Whole::in_step(world, "verify", LARGE)?,
    };
    let measured = pairs::measure(world, Unit::Milliseconds, pairs, &mut contest)?;
    let row = Measured::of(&measured, "rsync -rcn, curl | jq -S | cmp, pg_dump | cmp")?;
    let note = format!("wanted ≤ 5000 ms: {}", verdict(row.summary.pefo <= 5_000.0));
    Ok(row.memory_kib(contest.whole.peak_kib()).note(Some(&note)))
}
