//! The command line: an interface that scripts rely on; keep it stable.

mod ca;
mod classifier;
mod code;
mod database;
mod files;
mod name;
mod pairing;
mod schedule;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use pefo_core::Certname;
use pefo_core::generation::DataSet;

use crate::config::Span;

pub use ca::Ca;
pub use classifier::Nc;
pub use code::Code;
pub use database::Db;
pub use files::Files;
pub use pairing::{Init, InitOptions};
pub use schedule::{Schedule, ScheduleFormat, ScheduleShape, WhichSchedule};

/// Keeps a warm spare of a Puppet master: certificates and revocations, classification, databases.
#[derive(Debug, Parser)]
#[command(name = "pefo", version, disable_help_subcommand = true, after_help = EXIT_CODES)]
pub struct Arguments {
    /// The configuration file.
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        default_value = "/etc/pefo/pefo.toml"
    )]
    pub config: PathBuf,
    /// Answer with one JSON object on standard output.
    #[arg(long, global = true)]
    pub json: bool,
    /// How log lines on standard error look.
    #[arg(
        long,
        global = true,
        value_enum,
        default_value = "text",
        value_name = "FORMAT"
    )]
    pub log_format: LogFormat,
    /// Say nothing but errors.
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// For schedules: do nothing, and say nothing, where it is the other role's part, is paused, or is being done by
    /// another run.
    #[arg(long, global = true)]
    pub scheduled: bool,
    /// Say more; twice for all.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_CODES: &str = "\
Exit codes: 0 ok or unchanged, 1 failed, 2 usage or configuration, 3 refused by a gate, 4 partly
done, 5 another run holds the lock, 6 fenced or wrong role. 'check', 'status' and 'verify' answer as
monitoring plugins do: 0 ok, 1 warning, 2 critical, 3 unknown.";

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
    /// As the original module wrote to syslog: `PE_FAILOVER: <script> ---> [STATUS] …`.
    PeFailover,
}

/// What every command that changes something takes.
#[derive(Debug, Clone, Default, Args)]
pub struct Change {
    /// Show what would be done, and do nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Overrule the gate RULE for this run; recorded. May be given more than once.
    #[arg(long, value_name = "RULE")]
    pub accept: Vec<String>,
}

/// What every command that changes something without a gate takes.
#[derive(Debug, Clone, Default, Args)]
pub struct DryRun {
    /// Show what would be done, and do nothing.
    #[arg(long)]
    pub dry_run: bool,
}

impl From<&DryRun> for Change {
    fn from(dry_run: &DryRun) -> Self {
        Self {
            dry_run: dry_run.dry_run,
            accept: Vec::new(),
        }
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Pair this host with its peer: keys, directories, transfer account.
    #[command(subcommand)]
    Init(Init),
    /// Prove that this host can do its part: permissions, keys, peer, CA, classifier, databases.
    Check,
    /// Show or check the configuration.
    #[command(subcommand)]
    Config(Config),
    /// The certificate authority's directory.
    #[command(subcommand)]
    Ca(Ca),
    /// The node classifier.
    #[command(subcommand)]
    Nc(Nc),
    /// PostgreSQL databases.
    #[command(subcommand)]
    Db(Db),
    /// The few files that a spare needs and no other data set carries.
    #[command(subcommand)]
    Files(Files),
    /// Puppet code: what both masters have deployed, and deploying it here.
    #[command(subcommand)]
    Code(Code),
    /// On the active: push data sets to every peer; all that are configured where none is named.
    Push {
        /// ca, nc, files, db:NAME, code
        datasets: Vec<DataSet>,
        /// Dry run and overruled gates.
        #[command(flatten)]
        change: Change,
    },
    /// On the passive: verify and apply what was received; all that are configured where none is named.
    Apply {
        /// ca, nc, files, db:NAME, code
        datasets: Vec<DataSet>,
        /// Dry run and overruled gates.
        #[command(flatten)]
        change: Change,
    },
    /// Whether the spare would serve the same: every data set on the passive, the CA and the
    /// code on the active. Answers as
    /// monitoring plugins do.
    Verify {
        /// On the active: how long to wait for a peer's answer, in seconds.
        #[arg(long, value_name = "SECONDS", default_value_t = 30)]
        timeout: u64,
    },
    /// All that watches, in one process: the CA and the classifier. Runs until it is stopped.
    ///
    /// As 'ca watch', and a change at the active's console is on the passive within seconds: the active asks its
    /// classifier every few seconds (poll_seconds) and pushes what changed, the passive imports what
    /// comes. Databases keep to their schedule.
    Run {
        /// Do not start anew with an allocator that gives memory back.
        #[arg(long, hide = true)]
        in_place: bool,
    },
    /// On the passive: prove that this host could take over with what it has, and how long its data would take.
    ///
    /// Signs and revokes a certificate in a copy of the CA, plans the classifier's import, restores each database into
    /// scratch; nothing live is changed. Times and ages go into a report below the state directory.
    Drill {
        /// Dry run and overruled gates.
        #[command(flatten)]
        change: Change,
    },
    /// On the passive: take over from an active that is gone.
    ///
    /// Applies what was received, gives the CA serials and CRL numbers that nobody has used, and reigns. It refuses
    /// while a peer answers as the active: that is for 'pefo switchover'. Run again after whatever broke it off, it
    /// goes on where it was.
    Promote {
        /// Reign in an epoch above this one: where two masters claim the same, or a newer one is lost for good.
        #[arg(long, value_name = "N")]
        epoch_above: Option<u64>,
        /// Leave this data set as it was last applied (ca, nc, files, db:NAME, code). May be given more than once.
        #[arg(long, value_name = "DATASET")]
        leave: Vec<DataSet>,
        /// Take a promotion back that was broken off before the CA was signed for it.
        #[arg(long, conflicts_with_all = ["epoch_above", "leave", "accept"])]
        abort: bool,
        /// Dry run and overruled gates.
        #[command(flatten)]
        change: Change,
    },
    /// On a master whose reign has ended: become the spare of the one that reigns now.
    ///
    /// Tells what this host signed, revoked, reclassified or stored that the new active never saw, and loses none of
    /// it: see 'pefo ca merge', 'pefo nc rollback' and 'pefo db rollback'.
    Demote {
        /// How long to wait for the first data of the new active, in seconds.
        #[arg(long, value_name = "SECONDS", default_value_t = 30)]
        wait: u64,
        /// Dry run.
        #[command(flatten)]
        dry_run: DryRun,
    },
    /// On the active: hand the reign over to the passive; nothing is lost, and what fails is undone.
    Switchover {
        /// To whom, where there are several peers.
        #[arg(long, value_name = "CERTNAME")]
        to: Option<Certname>,
        /// How long to wait for each answer of its root, in seconds.
        #[arg(long, value_name = "SECONDS", default_value_t = 120)]
        timeout: u64,
        /// Dry run and overruled gates.
        #[command(flatten)]
        change: Change,
    },
    /// Ask the peers who reigns, and stop what signs here where this host's reign has ended: for the boot, before
    /// Puppet's server starts.
    Fence,
    /// Push nothing from here and apply nothing here until 'pefo resume'; what comes is kept.
    Pause {
        /// Why, for whoever looks at 'pefo status'.
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        /// Dry run.
        #[command(flatten)]
        dry_run: DryRun,
    },
    /// Go on after 'pefo pause'.
    Resume {
        /// Dry run.
        #[command(flatten)]
        dry_run: DryRun,
    },
    /// Role, reign and the age of each data set, from local state only.
    Status {
        /// As Prometheus reads it, instead; the exit code is 0 then.
        #[arg(long, conflicts_with = "json")]
        metrics: bool,
    },
    /// How lag, runs, refusals and drills went of late: a few lines, or a page.
    Report {
        /// Write one page that holds everything, mode 0600; it replaces a report and nothing else.
        #[arg(long, value_name = "FILE")]
        html: Option<PathBuf>,
        /// How far back, as 12h or 30d.
        #[arg(long, value_name = "SPAN", default_value = "7d")]
        since: Span,
    },
    /// Times at which the commands run.
    #[command(subcommand)]
    Schedule(Schedule),
    /// Serve one session of the peer's; sshd's forced command, not for people.
    Receive,
}

/// The configuration.
#[derive(Debug, Subcommand)]
pub enum Config {
    /// Print a commented configuration that works.
    Example,
    /// Check the configuration file.
    Check,
    /// Print the configuration as it is in force, defaults included.
    Show,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        super::Arguments::command().debug_assert();
    }
}
