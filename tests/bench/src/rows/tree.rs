//! Trees of many small files, as a CA's directory is one, against rsync.
//!
//! pefo's syncs are durable in every row: what it has told as done outlasts a loss of power. rsync's
//! are where a row says so.

use std::path::PathBuf;

use pefo_core::Result;

use crate::compare;
use crate::data::pem;
use crate::mirror::{Following, Mirror};
use crate::pairs::{self, Contest};
use crate::row::{Halt, Measured, Row, Unit};
use crate::rsync::{Durability, Rsync};
use crate::world::{Place, World};

/// How a sync of a tree is asked of rsync.
const FLAGS: [&str; 2] = ["-au", "--delete"];
/// What must be known where rsync runs as it is.
const UNEQUAL: &str = "pefo is durable, rsync is not";

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
            "tree_first_50k",
            "first copy of 50,000 files of 2 KB",
            Some(1.0),
            5,
            |world, pairs| first(world, pairs, 50_000, Durability::None),
        ),
        row(
            "tree_first_5k_fsync",
            "first copy of 5,000 files, both durable",
            None,
            5,
            |world, pairs| first(world, pairs, 5_000, Durability::Fsync),
        ),
        row(
            "tree_noop_50k",
            "50,000 files, nothing changed",
            Some(0.3),
            10,
            |world, pairs| again(world, pairs, Change::Nothing),
        ),
        row(
            "tree_one_50k",
            "one new file in 50,000, session open, path known",
            Some(0.02),
            10,
            |world, pairs| again(world, pairs, Change::OneFollowed),
        ),
        row(
            "tree_one_50k_cold",
            "one new file in 50,000, new session",
            Some(0.4),
            10,
            |world, pairs| again(world, pairs, Change::One),
        ),
    ]
}

/// A source and both sides that copy it.
struct Trees<'a> {
    place: &'a Place,
    source: PathBuf,
    files: u64,
    mirror: Mirror<'a>,
    rsync: Rsync,
}

impl<'a> Trees<'a> {
    fn new(
        world: &'a World,
        place: &'a Place,
        files: u64,
        durability: Durability,
    ) -> Result<Self, Halt> {
        let ssh = world.ssh()?;
        let rsync = Rsync::new(ssh, ssh.port(), &FLAGS, durability, place.path())?;
        let source = place.fresh("source")?;
        place.fresh("peer")?;
        let mirror = Mirror::new(world, ssh, place, &source, ssh.port(), false)?;
        pem::write(&source, files)?;
        Ok(Self {
            place,
            source,
            files,
            mirror,
            rsync,
        })
    }

    /// One push that must write so many files.
    fn push(&mut self, written: u64) -> Result<f64> {
        let (took, synced) = self.mirror.push()?;
        synced.expect(written, 0)?;
        self.verify_pefo()?;
        Ok(took)
    }

    fn verify_pefo(&self) -> Result<()> {
        compare::same(&self.source, &self.mirror.destination())
    }

    fn sync_peer(&self) -> Result<f64> {
        let destination = self.place.path().join("peer");
        let took = self
            .rsync
            .run(&self.source, &destination, self.place.path())?;
        compare::same(&self.source, &destination)?;
        Ok(took)
    }
}

/// The first copy: each round starts from empty destinations, and from ends that know nothing.
struct First<'a>(Trees<'a>);

impl Contest for First<'_> {
    fn prepare(&mut self, _: usize) -> Result<()> {
        self.0.mirror.forget()?;
        self.0.place.fresh("peer").map(drop)
    }

    fn pefo(&mut self) -> Result<f64> {
        self.0.push(self.0.files)
    }

    fn peer(&mut self) -> Result<f64> {
        self.0.sync_peer()
    }
}

fn first(
    world: &World,
    pairs: usize,
    files: u64,
    durability: Durability,
) -> Result<Measured, Halt> {
    let place = world.place("tree_first")?;
    let mut contest = First(Trees::new(world, &place, files, durability)?);
    let measured = pairs::measure(world, Unit::Milliseconds, pairs, &mut contest)?;
    let trees = contest.0;
    let note = match durability {
        Durability::None => Some(UNEQUAL),
        Durability::Fsync => trees.rsync.note(),
    };
    Ok(Measured::of(&measured, trees.rsync.name())?
        .memory_kib(trees.mirror.peak_kib()?)
        .note(note))
}

/// What happened between two syncs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    /// Nothing.
    Nothing,
    /// A new file.
    One,
    /// A new file, whose path pefo is told in a session that stayed open.
    OneFollowed,
}

/// A further sync of a tree that both sides have copied before.
struct Again<'a> {
    trees: Trees<'a>,
    change: Change,
    fresh: String,
    session: Option<Following>,
}

impl Contest for Again<'_> {
    fn prepare(&mut self, round: usize) -> Result<()> {
        if self.change != Change::Nothing {
            self.fresh = pem::add(&self.trees.source, round as u64)?;
        }
        Ok(())
    }

    fn pefo(&mut self) -> Result<f64> {
        let Some(session) = &mut self.session else {
            return self.trees.push(u64::from(self.change != Change::Nothing));
        };
        let (took, synced) = session.sync(&self.fresh)?;
        synced.expect(1, 0)?;
        self.trees.verify_pefo()?;
        Ok(took)
    }

    fn peer(&mut self) -> Result<f64> {
        self.trees.sync_peer()
    }
}

fn again(world: &World, pairs: usize, change: Change) -> Result<Measured, Halt> {
    let place = world.place("tree_again")?;
    let mut trees = Trees::new(world, &place, 50_000, Durability::None)?;
    trees.push(trees.files)?;
    trees.sync_peer()?;
    let session = match change {
        Change::OneFollowed => Some(trees.mirror.follow()?),
        Change::Nothing | Change::One => None,
    };
    let mut contest = Again {
        trees,
        change,
        fresh: String::new(),
        session,
    };
    let measured = pairs::measure(world, Unit::Milliseconds, pairs, &mut contest)?;
    if let Some(session) = contest.session.take() {
        session.close()?;
    }
    let trees = contest.trees;
    let row = Measured::of(&measured, trees.rsync.name())?
        .memory_kib(trees.mirror.peak_kib()?)
        .note((change != Change::Nothing).then_some(UNEQUAL));
    Ok(match change {
        Change::OneFollowed => row.with_p99(&measured),
        Change::Nothing | Change::One => row,
    })
}
