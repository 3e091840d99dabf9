//! What `pefo run` takes on both masters while nothing happens, beside an lsyncd that waits for the same CA.
//!
//! The processor's time is read from the scheduler's own count (`/proc/PID/task/*/schedstat`, nanoseconds) and that of
//! ended children from `/proc/PID/stat`; a minute of each is the same minute.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use pefo_core::clock::{Clock as _, SystemClock};
use pefo_core::{Error, Result};
use pefo_testkit::child::Child;
use pefo_testkit::skip;

use crate::memory::status_kib;
use crate::pairs::{self, Contest};
use crate::row::{Halt, Measured, Row, Unit};
use crate::whole::{Size, Whole};
use crate::world::{Place, World};

/// As a site of ten thousand has it, and its console asked as often as by default.
const SITE: Size = Size {
    certificates: 10_000,
    groups: 12,
    poll_seconds: 10,
};
/// Over so long it is looked on.
const MINUTE: Duration = Duration::from_secs(60);
/// What they do at their start is over by then.
const SETTLED: Duration = Duration::from_secs(20);
/// The most that is wanted of one daemon: a thousandth of a minute, and so much memory.
const WANTED_MS: f64 = 60.0;
const WANTED_KIB: u64 = 40 << 10;

/// The rows of this group.
pub(crate) fn rows() -> Vec<Row> {
    vec![Row {
        name: "run_idle",
        what: "memory held in a minute in which nothing happens",
        unit: Unit::Bytes,
        wanted: None,
        pairs: 2,
        run: idle,
    }]
}

struct Idle {
    daemons: [Child; 2],
    lsyncd: Child,
    /// What the busier of the daemons took of the processor in the worst minute, and lsyncd, in milliseconds.
    took: [f64; 2],
    /// What the larger of the daemons held at the end of the last minute, and lsyncd, in KiB.
    resident_kib: [u64; 2],
    whole: Whole,
}

impl Contest for Idle {
    /// One minute for both: neither disturbs the other.
    fn prepare(&mut self, _: usize) -> Result<()> {
        let [a, b] = &self.daemons;
        let ids = [a.id(), b.id(), self.lsyncd.id()];
        let before = ids.map(used_ms);
        SystemClock.wait(MINUTE);
        let mut took = [0.0; 3];
        for ((took, id), before) in took.iter_mut().zip(ids).zip(before) {
            *took = used_ms(id)? - before?;
        }
        let [a, b, lsyncd] = took;
        self.took = [self.took[0].max(a).max(b), self.took[1].max(lsyncd)];
        let [a, b, lsyncd] = ids.map(|id| status_kib(id, "VmRSS:").unwrap_or_default());
        self.resident_kib = [a.max(b), lsyncd];
        Ok(())
    }

    fn pefo(&mut self) -> Result<f64> {
        Ok(self.resident_kib[0] as f64 * 1024.0)
    }

    fn peer(&mut self) -> Result<f64> {
        Ok(self.resident_kib[1] as f64 * 1024.0)
    }
}

fn idle(world: &World, pairs: usize) -> Result<Measured, Halt> {
    let lsyncd = Path::new("/usr/bin/lsyncd");
    skip::require_path(lsyncd, "no-lsyncd", "lsyncd")?;
    let whole = Whole::in_step(world, "idle", SITE)?;
    let place = world.place("idle-peer")?;
    let mut contest = Idle {
        daemons: whole.daemons()?,
        lsyncd: watches(lsyncd, &whole.cadir(), &place),
        took: [0.0; 2],
        resident_kib: [0; 2],
        whole,
    };
    SystemClock.wait(SETTLED);
    let measured = pairs::measure(world, Unit::Bytes, pairs, &mut contest)?;
    contest.whole.is_in_step()?;
    let row = Measured::of(&measured, "lsyncd, waiting for the same CA")?;
    let [took, of_peer] = contest.took;
    let holds = took <= WANTED_MS && contest.resident_kib[0] <= WANTED_KIB;
    let note = format!(
        "the larger of both daemons; processor time of a minute {took:.1} ms, lsyncd {of_peer:.1} ms; wanted ≤ 40 MiB and \
         ≤ 60 ms: {}",
        if holds { "yes" } else { "NO" }
    );
    Ok(row.memory_kib(contest.resident_kib[0]).note(Some(&note)))
}

/// Starts lsyncd: it copies the directory, and then waits for what changes in it.
fn watches(program: &Path, cadir: &Path, place: &Place) -> Child {
    let mut command = Command::new(program);
    command.args(["-nodaemon", "-delay", "1", "-rsync"]);
    command.arg(cadir).arg(place.path().join("copy"));
    command.stdout(std::process::Stdio::null());
    Child::spawn(&mut command)
}

/// The processor's time that a process has had, with its threads and ended children, in milliseconds.
fn used_ms(id: u32) -> Result<f64> {
    let gone = || Error::invalid(format!("process {id} has ended"));
    let tasks = std::fs::read_dir(format!("/proc/{id}/task")).map_err(|_| gone())?;
    let mut nanoseconds = 0;
    for task in tasks.flatten() {
        let text = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        nanoseconds += text
            .split_whitespace()
            .next()
            .and_then(|first| first.parse::<u64>().ok())
            .unwrap_or_default();
    }
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).map_err(|_| gone())?;
    // After the name in brackets; fields 16 and 17 of proc_pid_stat(5), in hundredths of a second.
    let (_, fields) = stat.rsplit_once(") ").ok_or_else(gone)?;
    let children: u64 = fields
        .split_whitespace()
        .skip(13)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    Ok(nanoseconds as f64 / 1e6 + children as f64 * 10.0)
}
