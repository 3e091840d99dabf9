//! `pefo schedule`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::{Change, DryRun};

/// Schedules.
#[derive(Debug, Subcommand)]
pub enum Schedule {
    /// Print the schedule, as 'install' would write it.
    Print {
        /// Which schedule.
        #[command(flatten)]
        which: WhichSchedule,
    },
    /// Write the schedule and start it; what an older one left and is no longer wanted is removed.
    ///
    /// Both roles' commands are installed on both masters: each does nothing where it is the other role's, so that
    /// nothing is to be installed anew after a promotion.
    Install {
        /// Which schedule.
        #[command(flatten)]
        which: WhichSchedule,
        /// Where its files go: an image or a chroot, in which nothing is started.
        #[arg(long, value_name = "DIR", default_value = "/")]
        root: PathBuf,
        /// Dry run and overruled gates.
        #[command(flatten)]
        change: Change,
    },
    /// Stop the schedule and remove its files, of cron and systemd alike.
    Remove {
        /// Where its files are.
        #[arg(long, value_name = "DIR", default_value = "/")]
        root: PathBuf,
        /// Dry run.
        #[command(flatten)]
        dry_run: DryRun,
    },
}

/// Of what kind a schedule is.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct WhichSchedule {
    /// For which scheduler; systemd where it runs this host, else cron.
    #[arg(long, value_enum)]
    pub format: Option<ScheduleFormat>,
    /// What systemd keeps running; for cron, all is timers.
    #[arg(long = "as", value_enum)]
    pub shape: Option<ScheduleShape>,
}

/// For which scheduler a schedule is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ScheduleFormat {
    /// A file for /etc/cron.d.
    Cron,
    /// systemd timers and services.
    Systemd,
}

/// What goes on running, and what is started at its times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ScheduleShape {
    /// Every command at its times.
    Timers,
    /// 'pefo ca watch' as a service, the other commands at their times.
    Watch,
    /// One service, 'pefo run', for all of it.
    Daemon,
}
