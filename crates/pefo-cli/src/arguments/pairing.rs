//! `pefo init`.

use clap::{Args, Subcommand};
use pefo_core::Certname;

use super::DryRun;

/// Pairing.
#[derive(Debug, Subcommand)]
pub enum Init {
    /// Make this host the active; prints the pairing line for the passive.
    Active {
        /// The line that 'pefo init passive --join' printed on the passive.
        #[arg(long, value_name = "LINE")]
        accept: Option<String>,
        /// What both sides take.
        #[command(flatten)]
        options: InitOptions,
    },
    /// Make this host the passive of an active; prints the pairing line for the active.
    Passive {
        /// The line that 'pefo init active' printed on the active.
        #[arg(long, value_name = "LINE")]
        join: String,
        /// What both sides take.
        #[command(flatten)]
        options: InitOptions,
    },
    /// Part from a peer: its key opens nothing here any more, and nothing is pushed to it.
    Unpair {
        /// The peer's certname.
        certname: Certname,
        /// Dry run.
        #[command(flatten)]
        dry_run: DryRun,
    },
}

/// What both sides of a pairing take.
#[derive(Debug, Clone, Args)]
pub struct InitOptions {
    /// Disarm the original pe_failover module's crons, incron files and keys; they are renamed, not removed.
    #[arg(long)]
    pub retire_original: bool,
    /// Dry run.
    #[command(flatten)]
    pub dry_run: DryRun,
}
