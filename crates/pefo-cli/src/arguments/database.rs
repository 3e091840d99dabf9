//! `pefo db`.

use std::ffi::OsString;

use clap::Subcommand;

use super::{Change, DryRun};

/// Databases.
#[derive(Debug, Subcommand)]
pub enum Db {
    /// On the active: dump databases with their manifests; all that are configured where none is named.
    Dump {
        /// Database names.
        names: Vec<String>,
        /// Dump even where nothing was committed since the last.
        #[arg(long)]
        force: bool,
        /// Dry run and overruled gates.
        #[command(flatten)]
        change: Change,
    },
    /// On the active: dump and send to every peer.
    Push {
        /// Database names.
        names: Vec<String>,
        /// Dump even where nothing was committed since the last.
        #[arg(long)]
        force: bool,
        /// Dry run and overruled gates.
        #[command(flatten)]
        change: Change,
    },
    /// On the passive: restore the newest dump into a shadow, check it, swap it in.
    Restore {
        /// Database names.
        names: Vec<String>,
        /// Dry run and overruled gates.
        #[command(flatten)]
        change: Change,
    },
    /// On the passive: bring the previous database back; the one that was live is kept in turn.
    Rollback {
        /// The database.
        name: String,
        /// Dry run.
        #[command(flatten)]
        dry_run: DryRun,
    },
    /// On the passive: restore the newest dump into scratch, check it, time it, drop it; the live database is
    /// not touched.
    Drill {
        /// Database names.
        names: Vec<String>,
        /// Dry run and overruled gates.
        #[command(flatten)]
        change: Change,
    },
    /// On the passive: compare the live database with the newest manifest from the active; each table that
    /// differs is named. Answers as monitoring plugins do.
    Verify {
        /// Database names.
        names: Vec<String>,
    },
    /// The server's databases; those that stand in no configuration are marked.
    List,
    /// One database stage, run as the database's superuser by pefo itself.
    #[command(hide = true)]
    Stage,
    /// A program of such a stage, which ends with it.
    #[command(hide = true)]
    Tied {
        /// The process id of the stage.
        parent: i32,
        /// The program and its arguments.
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
}
