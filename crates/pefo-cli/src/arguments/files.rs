//! `pefo files`.

use clap::Subcommand;

use super::Change;

/// The few files that a spare needs and no other data set carries.
#[derive(Debug, Subcommand)]
pub enum Files {
    /// On the active: read them and send them, sealed, to every peer.
    Push {
        /// Dry run and overruled gates.
        #[command(flatten)]
        change: Change,
    },
    /// On the passive: which files applying the newest generation would change. On the active: which were changed
    /// since the last push. Contents are never shown.
    Diff,
    /// On the passive: verify the newest generation and put its files in place; what is replaced is kept.
    Apply {
        /// Dry run and overruled gates.
        #[command(flatten)]
        change: Change,
    },
    /// On the passive: compare the files here with what was accepted last; each that differs is named. Answers as
    /// monitoring plugins do.
    Verify,
}
