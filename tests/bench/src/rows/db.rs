//! Databases: what a dump, a whole cycle and a run with nothing to do take, and for how long clients cannot
//! read, against the original's pipeline.

use std::path::{Path, PathBuf};
use std::process::Command;

use pefo_core::Result;
use serde_json::Value;

use crate::compare;
use crate::databases::{Content, Databases, Verification};
use crate::numbers::median;
use crate::pairs::{self, Contest};
use crate::process;
use crate::readers::Readers;
use crate::row::{Halt, Measured, Row, Unit};
use crate::world::World;

/// The most that any of pefo's processes may take, in MiB.
const MEMORY_MIB: u64 = 48;
/// A step of a restore that takes less is not told, in milliseconds.
const TOLD_STEP: u64 = 100;
/// The round before it warms up, and does not count.
const FIRST_PAIR: usize = 1;

/// The rows of this group.
pub(crate) fn rows() -> Vec<Row> {
    let row = |name, what, wanted, pairs, run| Row {
        name,
        what,
        unit: Unit::Milliseconds,
        wanted,
        pairs,
        run,
    };
    vec![
        row(
            "db_window",
            "600 MB restored under 4 readers: their longest silence",
            Some(0.05),
            2,
            window,
        ),
        row(
            "db_dump",
            "dump of 600 MB, with its manifest",
            Some(1.6),
            3,
            dump,
        ),
        row(
            "db_cycle_small_change",
            "600 MB, 1 row in 1,000 changed, from dump to swap, tables counted",
            Some(1.2),
            3,
            |world, pairs| cycle_of_large(world, pairs, Verification::Counted),
        ),
        row(
            "db_cycle_small_change_digests",
            "the same, every table digested",
            None,
            2,
            |world, pairs| cycle_of_large(world, pairs, Verification::Default),
        ),
        row(
            "db_cycle_rbac",
            "the same for RBAC's: 5 MB, 40 tables",
            None,
            5,
            cycle_of_rbac,
        ),
        row(
            "db_noop",
            "600 MB pushed, nothing committed since the last push",
            None,
            3,
            noop,
        ),
    ]
}

/// What a row's note begins with: a limit of its own, and that of the memory.
fn limits(pefo: f64, limit: Option<f64>, databases: &Databases) -> String {
    let verdict = |holds: bool| if holds { "yes" } else { "NO" };
    let own = limit.map_or_else(String::new, |limit| {
        format!("wanted ≤ {limit} ms: {}; ", verdict(pefo <= limit))
    });
    let memory = verdict(databases.peak_kib() <= MEMORY_MIB * 1024);
    format!("{own}memory wanted ≤ {MEMORY_MIB} MiB: {memory}")
}

/// The steps of a restore that take long, in the order in which they were taken.
fn long_steps(told: &Value) -> Option<String> {
    let steps = told.pointer("/details/changes/steps")?.as_array()?;
    let long = steps.iter().filter_map(|step| {
        let ms = step["ms"].as_u64().filter(|&ms| ms >= TOLD_STEP)?;
        Some(format!("{} {ms}", step["step"].as_str()?))
    });
    Some(long.collect::<Vec<_>>().join(", "))
}

struct Window<'a> {
    world: &'a World,
    databases: &'a Databases,
    /// What pefo's own reports say.
    reported: Vec<f64>,
}

impl Contest for Window<'_> {
    fn prepare(&mut self, round: usize) -> Result<()> {
        if round == FIRST_PAIR {
            self.reported.clear();
        }
        let databases = self.databases;
        databases.change()?;
        databases.push()?;
        databases.original().dump(databases.active())?;
        databases.original().send().map(drop)
    }

    fn pefo(&mut self) -> Result<f64> {
        let databases = self.databases;
        databases.settle(self.world)?;
        let content = databases.content();
        let readers = Readers::start(databases.passive(), content.name(), content.read())?;
        let restored = databases.restore();
        let silence = readers.stop()?;
        let restored = restored?;
        restored.told_outcome("ok")?;
        let reported = restored
            .told
            .pointer("/details/changes/swap/unreachable_ms")
            .and_then(Value::as_f64);
        self.reported.extend(reported);
        databases.verify_passive()?;
        Ok(silence)
    }

    fn peer(&mut self) -> Result<f64> {
        let databases = self.databases;
        databases.settle(self.world)?;
        let (content, original) = (databases.content(), databases.original());
        let readers = Readers::start(original.cluster(), content.name(), content.read())?;
        let restored = original.restore();
        let silence = readers.stop()?;
        restored?;
        databases.verify_original()?;
        Ok(silence)
    }
}

fn window(world: &World, pairs: usize) -> Result<Measured, Halt> {
    let databases = world.databases()?;
    databases.begin(Verification::Default)?;
    databases.bring_in_step()?;
    let mut contest = Window {
        world,
        databases,
        reported: Vec::new(),
    };
    let measured = pairs::measure(world, Unit::Milliseconds, pairs, &mut contest)?;
    let row = Measured::of(&measured, "dropdb, createdb, psql")?;
    let note = format!(
        "{}; pefo itself tells {:.0} ms",
        limits(row.summary.pefo, Some(300.0), databases),
        median(&contest.reported).unwrap_or_default()
    );
    Ok(row.memory_kib(databases.peak_kib()).note(Some(&note)))
}

struct Dump<'a> {
    world: &'a World,
    databases: &'a Databases,
    /// This pair's dumps, which are to hold the same.
    of_pefo: Option<PathBuf>,
    of_peer: Option<PathBuf>,
}

impl Dump<'_> {
    /// pg_dump alone, as pefo calls it, into `dir`: milliseconds.
    fn alone(&self, dir: &Path) -> Result<f64> {
        let (databases, active) = (self.databases, self.databases.active());
        let mut command = Command::new(active.bin_dir().join("pg_dump"));
        let database = active.connection_string(databases.content().name());
        command
            .args(["-Fd", "-j2", "-Z0", "-f"])
            .arg(dir)
            .arg(format!("--dbname={database}"));
        let ended = process::run(&mut command, databases.place().path())?;
        Ok(ended.milliseconds())
    }

    /// Compares the dumps of a pair, once there are both.
    fn compare(&self) -> Result<()> {
        match (&self.of_peer, &self.of_pefo) {
            (Some(peer), Some(pefo)) => compare::same_rows(peer, pefo),
            _ => Ok(()),
        }
    }
}

impl Contest for Dump<'_> {
    fn prepare(&mut self, _: usize) -> Result<()> {
        (self.of_pefo, self.of_peer) = (None, None);
        self.databases.change()
    }

    fn pefo(&mut self) -> Result<f64> {
        self.databases.settle(self.world)?;
        let dumped = self.databases.dump()?;
        dumped.told_outcome("ok")?;
        let dir = dumped.told.pointer("/details/dir").and_then(Value::as_str);
        self.of_pefo = dir.map(PathBuf::from);
        self.compare()?;
        Ok(dumped.took)
    }

    fn peer(&mut self) -> Result<f64> {
        let dir = self.databases.place().fresh("peer-dump")?;
        self.databases.settle(self.world)?;
        let took = self.alone(&dir)?;
        self.of_peer = Some(dir);
        self.compare()?;
        Ok(took)
    }
}

fn dump(world: &World, pairs: usize) -> Result<Measured, Halt> {
    let databases = world.databases()?;
    databases.begin(Verification::Default)?;
    let mut contest = Dump {
        world,
        databases,
        of_pefo: None,
        of_peer: None,
    };
    let measured = pairs::measure(world, Unit::Milliseconds, pairs, &mut contest)?;
    let row = Measured::of(&measured, "pg_dump -Fd -j2 -Z0")?;
    let note = limits(row.summary.pefo, None, databases);
    Ok(row.memory_kib(databases.peak_kib()).note(Some(&note)))
}

struct Cycle<'a> {
    world: &'a World,
    databases: &'a Databases,
    pushes: Vec<f64>,
    restores: Vec<f64>,
    /// The long steps of the last restore.
    steps: Option<String>,
}

impl Contest for Cycle<'_> {
    fn prepare(&mut self, round: usize) -> Result<()> {
        if round == FIRST_PAIR {
            self.pushes.clear();
            self.restores.clear();
        }
        self.databases.change()
    }

    fn pefo(&mut self) -> Result<f64> {
        self.databases.settle(self.world)?;
        let pushed = self.databases.push()?;
        let restored = self.databases.restore()?;
        pushed.told_outcome("ok")?;
        restored.told_outcome("ok")?;
        self.databases.verify_passive()?;
        self.pushes.push(pushed.took);
        self.restores.push(restored.took);
        self.steps = long_steps(&restored.told);
        Ok(pushed.took + restored.took)
    }

    fn peer(&mut self) -> Result<f64> {
        self.databases.settle(self.world)?;
        let original = self.databases.original();
        let took =
            original.dump(self.databases.active())? + original.send()? + original.restore()?;
        self.databases.verify_original()?;
        Ok(took)
    }
}

fn cycle_of_large(
    world: &World,
    pairs: usize,
    verification: Verification,
) -> Result<Measured, Halt> {
    cycle(world, world.databases()?, pairs, verification, None)
}

fn cycle_of_rbac(world: &World, pairs: usize) -> Result<Measured, Halt> {
    let databases = Databases::paired(world, Content::Rbac)?;
    cycle(
        world,
        &databases,
        pairs,
        Verification::Default,
        Some(5_000.0),
    )
}

fn cycle(
    world: &World,
    databases: &Databases,
    pairs: usize,
    verification: Verification,
    limit: Option<f64>,
) -> Result<Measured, Halt> {
    databases.begin(verification)?;
    let mut contest = Cycle {
        world,
        databases,
        pushes: Vec::new(),
        restores: Vec::new(),
        steps: None,
    };
    let measured = pairs::measure(world, Unit::Milliseconds, pairs, &mut contest)?;
    let row = Measured::of(&measured, databases.original().label())?;
    let note = format!(
        "{}; push {:.0} ms, restore {:.0} ms, of the last one: {}",
        limits(row.summary.pefo, limit, databases),
        median(&contest.pushes).unwrap_or_default(),
        median(&contest.restores).unwrap_or_default(),
        contest.steps.unwrap_or_default()
    );
    Ok(row.memory_kib(databases.peak_kib()).note(Some(&note)))
}

struct Noop<'a> {
    world: &'a World,
    databases: &'a Databases,
}

impl Contest for Noop<'_> {
    fn prepare(&mut self, _: usize) -> Result<()> {
        Ok(())
    }

    fn pefo(&mut self) -> Result<f64> {
        self.databases.settle(self.world)?;
        let pushed = self.databases.push()?;
        pushed.told_outcome("unchanged")?;
        Ok(pushed.took)
    }

    fn peer(&mut self) -> Result<f64> {
        self.databases.settle(self.world)?;
        let original = self.databases.original();
        Ok(original.dump(self.databases.active())? + original.send()?)
    }
}

fn noop(world: &World, pairs: usize) -> Result<Measured, Halt> {
    let databases = world.databases()?;
    databases.begin(Verification::Default)?;
    databases.bring_in_step()?;
    let mut contest = Noop { world, databases };
    let measured = pairs::measure(world, Unit::Milliseconds, pairs, &mut contest)?;
    let row = Measured::of(&measured, databases.original().label_on_active())?;
    let note = limits(row.summary.pefo, Some(300.0), databases);
    Ok(row.memory_kib(databases.peak_kib()).note(Some(&note)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_the_long_steps_of_a_restore_are_told_in_their_order() {
        let steps = json!([
            { "step": "load", "ms": 3100 }, { "step": "set up", "ms": 3 }, { "step": "compare", "ms": 100 },
        ]);
        let told = json!({ "details": { "changes": { "steps": steps } } });
        assert_eq!(long_steps(&told).unwrap(), "load 3100, compare 100");
        assert_eq!(long_steps(&json!({})), None);
    }
}
