//! `pefo ca`.

use clap::Subcommand;
use pefo_core::Certname;
use pefo_core::generation::Position;

use super::Change;

/// The certificate authority.
#[derive(Debug, Subcommand)]
pub enum Ca {
    /// On the passive: what applying the newest generation would change. On the active: what a push would send.
    Diff,
    /// On the active: send the CA's state to every peer.
    Push {
        /// Send the whole CA with its private key, sealed, to a passive that has none.
        #[arg(long)]
        seed: bool,
        /// Send the private key, sealed, once more: to a passive that has lost it, or is to take over another
        /// authority in place of its own ('pefo ca apply --accept ca-other-authority' there).
        #[arg(long, conflicts_with = "seed")]
        rotate_key: bool,
        /// Dry run and overruled gates.
        #[command(flatten)]
        change: Change,
    },
    /// On the passive: verify and apply the newest generation; or go back to an older one.
    Apply {
        /// Bring back what this host had at a generation of those in its store; nothing of the active is
        /// applied from then on, until 'pefo ca apply --accept rolled-back'.
        #[arg(long, value_name = "GENERATION")]
        rollback: Option<Position>,
        /// With --rollback: take back revocations that are in force.
        #[arg(long, requires = "rollback")]
        allow_unrevoke: bool,
        /// Dry run and overruled gates.
        #[command(flatten)]
        change: Change,
    },
    /// On the active: send every change as it happens. On the passive: apply what comes as it comes. Runs
    /// until it is stopped.
    Watch {
        /// Do not start anew with an allocator that gives memory back.
        #[arg(long, hide = true)]
        in_place: bool,
    },
    /// Whether both masters would serve the same; each item that differs is named. Answers as monitoring
    /// plugins do.
    Verify {
        /// On the passive: read every file and check every signature.
        #[arg(long)]
        full: bool,
        /// On the active: how long to wait for a peer's answer, in seconds.
        #[arg(long, value_name = "SECONDS", default_value_t = 30)]
        timeout: u64,
    },
    /// One comparison of both CAs as wholes, on behalf of a passive that watches.
    #[command(hide = true)]
    Compare,
    /// Which certificates never cross, and why.
    Exclude,
    /// On the active: bring over what a peer's CA has that this one never saw: what it signed and revoked while it
    /// reigned by itself, or as a spare.
    Merge {
        /// Whose, where there are several peers.
        #[arg(long, value_name = "CERTNAME")]
        from: Option<Certname>,
        /// How long to wait for the peer's answer, in seconds.
        #[arg(long, value_name = "SECONDS", default_value_t = 30)]
        timeout: u64,
        /// Dry run and overruled gates.
        #[command(flatten)]
        change: Change,
    },
}
