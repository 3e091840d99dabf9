//! The original module's pipeline for a database: `db_dump.sh` (a plain dump with its MD5 sum),
//! `sync_dbs.sh` (rsync over OpenSSH into the spool), `restore_dbs.sh` (the sum checked, dropped, created
//! and filled by psql).
//!
//! Services, which it stops and starts around the restore, are no part of it here. Where clients are in
//! the database, `dropdb --force` stands for stopping them. The dump stays in the spool, where rsync finds
//! it as the base of the next one; the original moves it away.

use std::path::PathBuf;
use std::process::Command;

use pefo_core::{Error, Result};
use pefo_testkit::postgres::Cluster;

use crate::process;
use crate::row::Halt;
use crate::rsync::{Durability, Rsync};
use crate::ssh::{Ssh, shell_word};
use crate::world::Place;

/// How the original calls rsync.
const FLAGS: [&str; 2] = ["-au", "--delete"];

/// The pipeline, and the cluster it restores into.
pub(crate) struct Original {
    cluster: Cluster,
    name: &'static str,
    rsync: Rsync,
    scratch: PathBuf,
    dumps: PathBuf,
    spool: PathBuf,
}

impl Original {
    /// For the database `name`, into `cluster`.
    pub(super) fn new(
        ssh: &Ssh,
        cluster: Cluster,
        name: &'static str,
        place: &Place,
    ) -> Result<Self, Halt> {
        Ok(Self {
            cluster,
            name,
            rsync: Rsync::new(ssh, ssh.port(), &FLAGS, Durability::None, place.path())?,
            scratch: place.path().to_owned(),
            dumps: place.fresh("peer-dumps")?,
            spool: place.fresh("peer-spool")?,
        })
    }

    /// Dumps from `active` and sums: milliseconds.
    pub(crate) fn dump(&self, active: &Cluster) -> Result<f64> {
        let mut dump = Command::new(active.bin_dir().join("pg_dump"));
        dump.arg("-C")
            .arg(format!("--dbname={}", active.connection_string(self.name)))
            .arg("-f")
            .arg(self.dumps.join(self.file()));
        let took = self.run(&mut dump)?;
        let sum = format!("md5sum '{0}' > '{0}.md5sum'", self.file());
        let mut shell = Command::new("sh");
        shell.args(["-c", &sum]).current_dir(&self.dumps);
        Ok(took + self.run(&mut shell)?)
    }

    /// Brings the dump to the passive's spool: milliseconds.
    pub(crate) fn send(&self) -> Result<f64> {
        self.rsync.run(&self.dumps, &self.spool, &self.scratch)
    }

    /// Checks the sum, drops, creates and fills: milliseconds.
    pub(crate) fn restore(&self) -> Result<f64> {
        let mut check = Command::new("md5sum");
        check
            .arg("-c")
            .arg(format!("{}.md5sum", self.file()))
            .current_dir(&self.spool);
        let mut took = self.run(&mut check)?;
        let mut dropdb = self.client("dropdb");
        dropdb.args(["--force", "--if-exists", self.name]);
        took += self.run(&mut dropdb)?;
        let psql = self.cluster.bin_dir().join("psql");
        let fill = format!(
            "{} -X -v ON_ERROR_STOP=1 \"$1\" < {} > /dev/null",
            shell_word(&psql),
            shell_word(&self.spool.join(self.file()))
        );
        let mut shell = Command::new("sh");
        shell
            .args(["-c", &fill, "psql"])
            .arg(self.cluster.connection_string("postgres"));
        Ok(took + self.run(&mut shell)?)
    }

    /// The cluster it restores into.
    pub(crate) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Its name, with the version of rsync and its flags.
    pub(crate) fn label(&self) -> String {
        format!("pg_dump -C, md5sum, {}, dropdb, psql", self.rsync.name())
    }

    /// Its name as far as the active goes.
    pub(crate) fn label_on_active(&self) -> String {
        format!("pg_dump -C, md5sum, {}", self.rsync.name())
    }

    fn client(&self, program: &str) -> Command {
        let mut command = Command::new(self.cluster.bin_dir().join(program));
        command
            .arg("--host")
            .arg(self.cluster.socket_dir())
            .arg(format!("--port={}", self.cluster.port()))
            .arg(format!("--username={}", self.cluster.superuser()));
        command
    }

    fn run(&self, command: &mut Command) -> Result<f64> {
        let ended = process::run(command, &self.scratch);
        let ended = ended.map_err(|error: Error| error.context("the original"))?;
        Ok(ended.milliseconds())
    }

    fn file(&self) -> String {
        format!("{}_latest.psql", self.name)
    }
}
