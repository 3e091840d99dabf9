//! `pefo code`.

use clap::Subcommand;

use super::DryRun;
use crate::code::EnvironmentName;

/// Puppet code.
#[derive(Debug, Subcommand)]
pub enum Code {
    /// Whether both masters have the same code deployed; each environment that drifts is named, with both commits.
    ///
    /// On the passive, by what the active sent last; on the active, by what each peer's root says. Answers as
    /// monitoring plugins do: 0 in step, 1 drift, 3 unknown.
    Status {
        /// On the active: how long to wait for a peer's answer, in seconds.
        #[arg(long, value_name = "SECONDS", default_value_t = 30)]
        timeout: u64,
    },
    /// Deploy on this host by r10k, Code Manager or the site's own program, and tell what became of each environment.
    Deploy {
        /// Which; all of them where none is named.
        #[arg(value_name = "ENVIRONMENT")]
        environments: Vec<EnvironmentName>,
        /// Dry run.
        #[command(flatten)]
        dry_run: DryRun,
    },
}
