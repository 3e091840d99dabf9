//! `pefo schedule`.

use clap::{Subcommand, ValueEnum};

/// Schedules.
#[derive(Debug, Subcommand)]
pub enum Schedule {
    /// Print the schedule for this host's role.
    Print {
        /// For which scheduler.
        #[arg(long, value_enum, default_value = "cron")]
        format: ScheduleFormat,
    },
}

/// For which scheduler a schedule is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ScheduleFormat {
    /// A file for /etc/cron.d.
    Cron,
    /// systemd timers and services.
    Systemd,
}
