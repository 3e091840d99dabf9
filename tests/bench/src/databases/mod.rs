//! A database on two masters, and the original's pipeline for it beside pefo's.
//!
//! The active's cluster has the database; the passive has a cluster that pefo restores into, and another one
//! that the original restores into, so that each side finds what it has left itself. All three are durable
//! (`fsync = on`) and set up alike. Nothing vacuums or checkpoints by itself while something is measured.

#![expect(
    clippy::disallowed_methods,
    reason = "the playground is no data of pefo's"
)]

mod content;
mod original;

use std::cell::{Cell, RefCell};
use std::path::PathBuf;

use pefo_core::{Error, Result};
use pefo_testkit::masters::{self, Master, built_binary};
use pefo_testkit::postgres::{Cluster, ClusterOptions};

use crate::ran::Ran;
use crate::row::Halt;
use crate::world::{Place, World};

pub(crate) use content::Content;
use original::Original;

/// What pefo compares a table by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verification {
    /// As it comes.
    Default,
    /// Its number of rows.
    Counted,
}

/// What stands in `[database]` for tables to be counted and not digested.
const COUNTED: &str = "exact_up_to = \"0 B\"\n";

/// The masters, their clusters and the original's.
pub(crate) struct Databases {
    content: Content,
    a: Master,
    b: Master,
    on_a: Cluster,
    on_b: Cluster,
    original: Original,
    place: Place,
    /// The configurations of both masters, before a row changes them.
    configurations: [(PathBuf, String); 2],
    changes: Cell<u64>,
    /// What the active held after the last change.
    held: RefCell<String>,
    peak_kib: Cell<u64>,
}

impl Databases {
    /// Both masters paired, the database on the active alone.
    ///
    /// # Errors
    /// A skip, where something is not installed; a failure to fill the database.
    pub(crate) fn paired(world: &World, content: Content) -> Result<Self, Halt> {
        let ssh = world.ssh()?;
        // Only the peer's key is used here: each master has an sshd of its own.
        ssh.admit("/bin/false");
        let place = world.place(content.name())?;
        let mut a = Master::prepare(&built_binary(), "puppet-a.lab")?;
        let mut b = Master::prepare(&built_binary(), "puppet-b.lab")?;
        let [on_a, on_b, on_peer] = [cluster()?, cluster()?, cluster()?];
        content.create(&on_a, place.path())?;
        content.create_roles(&on_b)?;
        content.create_roles(&on_peer)?;
        let original = Original::new(ssh, on_peer, content.name(), &place)?;
        a.use_database(&on_a, &[content.name()]);
        b.use_database(&on_b, &[content.name()]);
        masters::pair(&a, &b);
        let configurations = [configuration(&a)?, configuration(&b)?];
        let held = RefCell::new(held_by(&on_a, content)?);
        Ok(Self {
            content,
            a,
            b,
            on_a,
            on_b,
            original,
            place,
            configurations,
            changes: Cell::new(0),
            held,
            peak_kib: Cell::new(0),
        })
    }

    /// Begins a row: with this verification, and with what memory pefo took in it.
    pub(crate) fn begin(&self, verification: Verification) -> Result<()> {
        self.peak_kib.set(0);
        let more = match verification {
            Verification::Default => "",
            Verification::Counted => COUNTED,
        };
        for (path, text) in &self.configurations {
            // [database] is the last section.
            std::fs::write(path, format!("{text}{more}"))
                .map_err(|error| Error::io("write", path, error))?;
        }
        Ok(())
    }

    /// Brings the passive and the original's in step with the active, where they are not.
    pub(crate) fn bring_in_step(&self) -> Result<()> {
        self.push()?;
        self.restore()?;
        self.original.dump(&self.on_a)?;
        self.original.send()?;
        self.original.restore()?;
        self.verify()
    }

    /// Changes the database a little, and reads all of it: the next one to read it finds it as it is found
    /// all the time, in the caches and without what a change leaves for the first reader to do.
    pub(crate) fn change(&self) -> Result<()> {
        let number = self.changes.get() + 1;
        self.changes.set(number);
        self.on_a
            .sql(self.content.name(), &self.content.change(number))?;
        *self.held.borrow_mut() = held_by(&self.on_a, self.content)?;
        Ok(())
    }

    /// Lets the clusters write what they have not written yet, so that none of them does while another
    /// side is measured.
    pub(crate) fn settle(&self, world: &World) -> Result<()> {
        for cluster in [&self.on_a, &self.on_b, self.original.cluster()] {
            cluster.sql("postgres", "checkpoint;")?;
        }
        world.settle()
    }

    /// `pefo db push` on the active.
    pub(crate) fn push(&self) -> Result<Ran> {
        self.run(&self.a, &["db", "push", "--json"])
    }

    /// `pefo db dump` on the active.
    pub(crate) fn dump(&self) -> Result<Ran> {
        self.run(&self.a, &["db", "dump", "--json"])
    }

    /// `pefo db restore` on the passive.
    pub(crate) fn restore(&self) -> Result<Ran> {
        self.run(&self.b, &["db", "restore", "--json"])
    }

    fn run(&self, master: &Master, arguments: &[&str]) -> Result<Ran> {
        Ran::on(master, arguments, self.place.path(), &self.peak_kib)
    }

    /// Whether the passive, and the original's, hold what the active holds.
    pub(crate) fn verify(&self) -> Result<()> {
        self.verify_passive()?;
        self.verify_original()
    }

    /// Whether the passive holds what the active holds.
    pub(crate) fn verify_passive(&self) -> Result<()> {
        self.same_as_active("the passive", &self.on_b)
    }

    /// Whether the original's cluster holds what the active holds.
    pub(crate) fn verify_original(&self) -> Result<()> {
        self.same_as_active("the original's passive", self.original.cluster())
    }

    fn same_as_active(&self, whose: &str, cluster: &Cluster) -> Result<()> {
        let (is, should) = (held_by(cluster, self.content)?, self.held.borrow());
        if is == *should {
            return Ok(());
        }
        let message = format!("{whose} database holds {is}, the active's {should}");
        Err(Error::invalid(message))
    }

    /// The database.
    pub(crate) fn content(&self) -> Content {
        self.content
    }

    /// The active's cluster.
    pub(crate) fn active(&self) -> &Cluster {
        &self.on_a
    }

    /// The passive's cluster.
    pub(crate) fn passive(&self) -> &Cluster {
        &self.on_b
    }

    /// The original's pipeline.
    pub(crate) fn original(&self) -> &Original {
        &self.original
    }

    /// Where a row puts what it makes.
    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    /// The largest peak of pefo's processes since the row began, in KiB.
    pub(crate) fn peak_kib(&self) -> u64 {
        self.peak_kib.get()
    }
}

fn cluster() -> Result<Cluster, Halt> {
    let options = ClusterOptions::default()
        .fsync()
        .setting("shared_buffers = '128MB'")
        .setting("autovacuum = off")
        .setting("checkpoint_timeout = '1h'")
        .setting("max_wal_size = '4GB'");
    Ok(Cluster::start_with(&options)?)
}

/// Text that is equal where equal rows are held.
fn held_by(cluster: &Cluster, content: Content) -> Result<String> {
    cluster.query_text(content.name(), content.digest())
}

fn configuration(master: &Master) -> Result<(PathBuf, String)> {
    let path = master.config_path();
    let text = std::fs::read_to_string(&path).map_err(|error| Error::io("read", &path, error))?;
    Ok((path, text))
}
