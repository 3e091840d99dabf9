//! Large files of which a little has changed, against rsync's own delta algorithm.
//!
//! Every round starts with both destinations at the same old state, and with new times on every file
//! of the source, as a dump that was written anew has them; so neither side may pass over a file.

use std::path::{Path, PathBuf};
use std::time::Duration;

use pefo_core::{Error, ErrorKind, Result};
use pefo_testkit::line::{Direction, Line};
use pefo_testkit::wait;

use crate::compare;
use crate::data::insertion::Insertion;
use crate::data::{dump, set_age};
use crate::mirror::Mirror;
use crate::pairs::{self, Contest};
use crate::row::{Halt, Measured, Row, Unit};
use crate::rsync::{Durability, Rsync};
use crate::ssh::Ssh;
use crate::world::{Place, World};

const DUMP_BYTES: u64 = 400_000_000;
const INSERTION: Insertion = Insertion {
    bytes: 256_000_000,
    places: 100,
    inserted_bytes: 1_000,
};

/// The rows of this group.
pub(crate) fn rows() -> Vec<Row> {
    let row = |name, what, unit, wanted, pairs, run| Row {
        name,
        what,
        unit,
        wanted: Some(wanted),
        pairs,
        run,
    };
    vec![
        row(
            "delta_dump_wall",
            "dump of 400 MB, 1 row in 1,000 changed, both durable",
            Unit::Milliseconds,
            0.5,
            5,
            |world, pairs| dump_row(world, pairs, Counted::Wall),
        ),
        row(
            "delta_dump_bytes",
            "the same, bytes on the wire, compressed",
            Unit::Bytes,
            0.7,
            2,
            |world, pairs| dump_row(world, pairs, Counted::Wire),
        ),
        row(
            "delta_insert_bytes",
            "256 MB, 1 kB inserted at 100 places, bytes on the wire",
            Unit::Bytes,
            1.0,
            2,
            insert_row,
        ),
    ]
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Counted {
    /// Wall time, uncompressed, both durable.
    Wall,
    /// Bytes in both directions together, compressed.
    Wire,
}

/// Two versions of a directory and both sides that copy it.
struct Versions<'a> {
    place: &'a Place,
    /// Where both sides copy from.
    source: PathBuf,
    /// Where the other version waits.
    spare: PathBuf,
    /// How often the source's files were given new times.
    writings: u64,
    counted: Counted,
    /// Whether every round goes the same way, from the first version to the second.
    one_way: bool,
    line: Line,
    mirror: Mirror<'a>,
    rsync: Rsync,
}

impl<'a> Versions<'a> {
    fn new(
        world: &'a World,
        place: &'a Place,
        counted: Counted,
        one_way: bool,
    ) -> Result<Self, Halt> {
        let ssh: &Ssh = world.ssh()?;
        let line = Line::to(("127.0.0.1", ssh.port()));
        // Only what is counted goes through the line: it costs time.
        let (port, flags, durability): (_, &[_], _) = match counted {
            Counted::Wall => (ssh.port(), &["-a"], Durability::Fsync),
            Counted::Wire => (line.port(), &["-az", "--zc=zstd"], Durability::None),
        };
        let rsync = Rsync::new(ssh, port, flags, durability, place.path())?;
        let (source, spare) = (place.fresh("source")?, place.fresh("spare")?);
        place.fresh("peer")?;
        let compressed = counted == Counted::Wire;
        Ok(Self {
            mirror: Mirror::new(world, ssh, place, &source, port, compressed)?,
            place,
            source,
            spare,
            writings: 0,
            counted,
            one_way,
            line,
            rsync,
        })
    }

    /// Takes the other version as the source, with times that no earlier one had.
    fn swap(&mut self) -> Result<()> {
        let aside = self.place.path().join("aside");
        rename(&self.source, &aside)?;
        rename(&self.spare, &self.source)?;
        rename(&aside, &self.spare)?;
        self.rewritten()
    }

    /// Gives every file of the source a new time.
    fn rewritten(&mut self) -> Result<()> {
        self.writings += 1;
        let failed = |error| Error::io("read", &self.source, error);
        for entry in std::fs::read_dir(&self.source).map_err(failed)? {
            set_age(&entry.map_err(failed)?.path(), self.writings)?;
        }
        Ok(())
    }

    /// Brings both destinations to the source as it is, unmeasured.
    fn level(&mut self) -> Result<()> {
        self.push()?;
        self.sync_peer()?;
        Ok(())
    }

    fn push(&mut self) -> Result<f64> {
        let before = self.passed()?;
        let (took, synced) = self.mirror.push()?;
        compare::same(&self.source, &self.mirror.destination())?;
        if synced.unchanged {
            return Err(Error::invalid("tree_mirror tells of no change"));
        }
        self.cost(took, before)
    }

    fn sync_peer(&self) -> Result<f64> {
        let before = self.passed()?;
        let destination = self.place.path().join("peer");
        let took = self
            .rsync
            .run(&self.source, &destination, self.place.path())?;
        compare::same(&self.source, &destination)?;
        self.cost(took, before)
    }

    /// What is counted of a run.
    fn cost(&self, took: f64, before: u64) -> Result<f64> {
        match self.counted {
            Counted::Wall => Ok(took),
            #[expect(clippy::cast_precision_loss, reason = "far below 2⁵³ bytes")]
            Counted::Wire => Ok((self.passed()? - before) as f64),
        }
    }

    /// The bytes that have passed the line, once everything on it has arrived.
    fn passed(&self) -> Result<u64> {
        let quiet = || (self.line.connections().1 == 0).then_some(());
        if wait::within(Duration::from_secs(20), quiet).is_none() {
            let message = "a session on the line does not end";
            return Err(Error::new(ErrorKind::Unreachable, message));
        }
        Ok(self.line.passed(Direction::Forward) + self.line.passed(Direction::Back))
    }
}

impl Contest for Versions<'_> {
    fn prepare(&mut self, round: usize) -> Result<()> {
        if self.one_way && round > 0 {
            self.swap()?;
            self.level()?;
        }
        self.swap()
    }

    fn pefo(&mut self) -> Result<f64> {
        self.push()
    }

    fn peer(&mut self) -> Result<f64> {
        self.sync_peer()
    }
}

/// The dump: each round goes from the version that both sides have to the other one.
fn dump_row(world: &World, pairs: usize, counted: Counted) -> Result<Measured, Halt> {
    let place = world.place("delta_dump")?;
    let mut versions = Versions::new(world, &place, counted, false)?;
    dump::write(DUMP_BYTES, &versions.source, &versions.spare)?;
    finish(world, pairs, &mut versions)
}

/// The insertions: removing them is other work than making them, so each round goes the same way.
fn insert_row(world: &World, pairs: usize) -> Result<Measured, Halt> {
    let place = world.place("delta_insert")?;
    let mut versions = Versions::new(world, &place, Counted::Wire, true)?;
    INSERTION.write(&versions.source.join("file"), &versions.spare.join("file"))?;
    finish(world, pairs, &mut versions)
}

fn finish(world: &World, pairs: usize, versions: &mut Versions<'_>) -> Result<Measured, Halt> {
    versions.rewritten()?;
    versions.level()?;
    let unit = match versions.counted {
        Counted::Wall => Unit::Milliseconds,
        Counted::Wire => Unit::Bytes,
    };
    let measured = pairs::measure(world, unit, pairs, versions)?;
    Ok(Measured::of(&measured, versions.rsync.name())?
        .memory_kib(versions.mirror.peak_kib()?)
        .note(versions.rsync.note()))
}

#[expect(
    clippy::disallowed_methods,
    reason = "the playground is no data of pefo's"
)]
fn rename(from: &Path, to: &Path) -> Result<()> {
    std::fs::rename(from, to).map_err(|error| Error::io("rename", from, error))
}
