//! `pefo nc`.

use clap::Subcommand;
use pefo_core::generation::Position;

use super::Change;

/// The node classifier.
#[derive(Debug, Subcommand)]
pub enum Nc {
    /// On the active: export the classifier's groups, past the export gate.
    Export {
        /// Do nothing where the classifier answers what the last good export was made from: cheap enough for
        /// every minute.
        #[arg(long)]
        if_changed: bool,
        /// Dry run and overruled gates.
        #[command(flatten)]
        change: Change,
    },
    /// On the active: export and send to every peer.
    Push {
        /// Dry run and overruled gates.
        #[command(flatten)]
        change: Change,
    },
    /// On the passive: what restoring the newest export would change, after the transform.
    Diff,
    /// On the passive: import the newest export, past the import gate.
    Restore {
        /// Dry run and overruled gates.
        #[command(flatten)]
        change: Change,
    },
    /// On the passive: compare the live classifier with the newest export from the active; each group that
    /// differs is named. Answers as monitoring plugins do.
    Verify,
    /// On the passive: bring back what the classifier held before the last import, or an older generation.
    ///
    /// Past the import gate, as a restore. Run again, it goes forth again. Nothing of the active is imported from
    /// then on, until 'pefo nc restore --accept rolled-back'.
    Rollback {
        /// One of those in this host's store.
        generation: Option<Position>,
        /// Dry run and overruled gates.
        #[command(flatten)]
        change: Change,
    },
}
