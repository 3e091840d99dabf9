//! The classifier: what an export, a comparison and a restore with nothing to do take, of 5,000 groups.

use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use pefo_core::disk::read_capped;
use pefo_core::{Error, Result};
use pefo_nc::transform::{TransformOptions, transform};
use pefo_nc::{CertnameMap, Tree, TreeDiff};

use crate::classifiers::Classifiers;
use crate::memory;
use crate::numbers::median;
use crate::pairs::{self, Contest};
use crate::process;
use crate::row::{Halt, Measured, Row, Unit};
use crate::ssh::shell_word;
use crate::world::World;

/// The most that any of pefo's processes may take, in MiB.
const MEMORY_MIB: u64 = 64;

/// The rows of this group.
pub(crate) fn rows() -> Vec<Row> {
    let row = |name, what, run| Row {
        name,
        what,
        unit: Unit::Milliseconds,
        wanted: None,
        pairs: 5,
        run,
    };
    vec![
        row(
            "nc_export_5k",
            "5,000 groups (4 MB) read, checked, digested, kept",
            export,
        ),
        row(
            "nc_diff_5k",
            "two such trees read, transformed, compared, residuals told",
            diff,
        ),
        row(
            "nc_unchanged_5k",
            "restore of an equal tree: nothing is sent",
            unchanged,
        ),
    ]
}

fn verdict(holds: bool) -> &'static str {
    if holds { "yes" } else { "NO" }
}

struct Export<'a> {
    both: &'a Classifiers,
    /// What curl alone takes, beside each run.
    server: Vec<f64>,
}

impl Contest for Export<'_> {
    fn prepare(&mut self, _: usize) -> Result<()> {
        self.server.push(self.both.curl_alone()?);
        Ok(())
    }

    fn pefo(&mut self) -> Result<f64> {
        let exported = self.both.export()?;
        if exported.told["details"]["groups"] != 5_000 {
            return Err(Error::invalid("the export does not have 5,000 groups"));
        }
        Ok(exported.took)
    }

    fn peer(&mut self) -> Result<f64> {
        self.both.curl_and_sed()
    }
}

fn export(world: &World, pairs: usize) -> Result<Measured, Halt> {
    let both = Classifiers::in_step(world)?;
    let mut contest = Export {
        both: &both,
        server: Vec::new(),
    };
    let measured = pairs::measure(world, Unit::Milliseconds, pairs, &mut contest)?;
    let row = Measured::of(&measured, "curl | sed")?;
    let server = median(&contest.server).unwrap_or_default();
    let peak_kib = both.take_peak_kib();
    let own = row.summary.pefo - server;
    let note = format!(
        "without the server's {server:.0} ms: {own:.0} ms, wanted ≤ 500 ms: {}; memory wanted ≤ {MEMORY_MIB} MiB: {}",
        verdict(own <= 500.0),
        verdict(peak_kib <= MEMORY_MIB * 1024)
    );
    Ok(row.memory_kib(peak_kib).note(Some(&note)))
}

struct Diff<'a> {
    world: &'a World,
    both: &'a Classifiers,
    files: (PathBuf, PathBuf),
    peak_kib: u64,
    /// What the library's part takes once both trees are read, beside each run.
    transforms: Vec<f64>,
    comparisons: Vec<f64>,
}

impl Contest for Diff<'_> {
    fn prepare(&mut self, _: usize) -> Result<()> {
        let read = |file| Tree::from_json(&read_capped(file, 64 << 20)?);
        let (a, b) = (read(&self.files.0)?, read(&self.files.1)?);
        let (from, to) = self.both.names();
        let map = CertnameMap::one(from.parse()?, to.parse()?);
        let begin = Instant::now();
        let transformed = transform(&a, &map, &TransformOptions::default());
        self.transforms.push(process::milliseconds(begin.elapsed()));
        let begin = Instant::now();
        let diff = TreeDiff::between(&b, &transformed.tree);
        self.comparisons
            .push(process::milliseconds(begin.elapsed()));
        if diff.changed.len() != 100 {
            return Err(Error::invalid("the trees do not differ in 100 groups"));
        }
        Ok(())
    }

    fn pefo(&mut self) -> Result<f64> {
        let program = self.world.example("nc_diff")?;
        let ((a, b), (from, to)) = (&self.files, self.both.names());
        let mut command = Command::new(&program);
        command.args([a, b]).args([from, to]);
        let work = || process::run(&mut command, self.both.place().path());
        let (ended, peak_kib) = memory::peak_of(&program, work);
        self.peak_kib = self.peak_kib.max(peak_kib);
        let ended = ended?;
        if !ended
            .stdout
            .starts_with("0 added, 0 removed, 100 changed\n")
        {
            let first = ended.stdout.lines().next().unwrap_or_default();
            return Err(Error::invalid(format!(
                "pefo tells {first:?}, not 100 changes"
            )));
        }
        Ok(ended.milliseconds())
    }

    fn peer(&mut self) -> Result<f64> {
        let (a, b) = &self.files;
        let (from, to) = self.both.names();
        let (a, b) = (shell_word(a), shell_word(b));
        let out = shell_word(&self.both.place().path().join("sorted"));
        let line = format!(
            "sed 's/{from}/{to}/g' {a} | jq -S 'sort_by(.id)' > {out}-a && jq -S 'sort_by(.id)' {b} > {out}-b && \
             {{ diff -u {out}-a {out}-b > {out}-diff || [ $? -eq 1 ]; }}"
        );
        let mut command = Command::new("sh");
        command.args(["-c", &line]);
        Ok(process::run(&mut command, self.both.place().path())?.milliseconds())
    }
}

fn diff(world: &World, pairs: usize) -> Result<Measured, Halt> {
    let both = Classifiers::in_step(world)?;
    let files = both.as_files()?;
    let mut contest = Diff {
        world,
        both: &both,
        files,
        peak_kib: 0,
        transforms: Vec::new(),
        comparisons: Vec::new(),
    };
    let measured = pairs::measure(world, Unit::Milliseconds, pairs, &mut contest)?;
    let row = Measured::of(&measured, "sed, jq -S, diff -u")?;
    let peak_kib = contest.peak_kib;
    let comparison = median(&contest.comparisons).unwrap_or_default();
    let note = format!(
        "as a whole process, both files read and checked; once they are, the transform takes {:.0} ms and the diff {comparison:.1} ms, wanted ≤ 200 ms: {}",
        median(&contest.transforms).unwrap_or_default(),
        verdict(comparison <= 200.0)
    );
    Ok(row.memory_kib(peak_kib).note(Some(&note)))
}

struct Unchanged<'a> {
    both: &'a Classifiers,
}

impl Contest for Unchanged<'_> {
    fn prepare(&mut self, _: usize) -> Result<()> {
        self.both.curl_and_sed().map(drop)
    }

    fn pefo(&mut self) -> Result<f64> {
        // What the peer installed is not what pefo rewrites: brought in step outside of the time.
        self.both.restore()?;
        let before = self.both.installed();
        let restored = self.both.restore()?;
        restored.told_outcome("unchanged")?;
        if self.both.installed() != before {
            return Err(Error::invalid("pefo has imported an equal tree"));
        }
        Ok(restored.took)
    }

    fn peer(&mut self) -> Result<f64> {
        self.both.curl_back()
    }
}

fn unchanged(world: &World, pairs: usize) -> Result<Measured, Halt> {
    let both = Classifiers::in_step(world)?;
    let mut contest = Unchanged { both: &both };
    let measured = pairs::measure(world, Unit::Milliseconds, pairs, &mut contest)?;
    let row = Measured::of(&measured, "curl import-hierarchy")?;
    let note = format!(
        "wanted ≤ 1000 ms, and no POST: {}",
        verdict(row.summary.pefo <= 1_000.0)
    );
    Ok(row.memory_kib(both.take_peak_kib()).note(Some(&note)))
}
