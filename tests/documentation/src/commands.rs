//! Every command of the command line that people use.

use clap::{Command, CommandFactory as _};
use pefo_cli::arguments::Arguments;

/// The columns that help is wrapped at, where there is no terminal.
const COLUMNS: usize = 100;

/// The whole command line, its commands knowing their full names and all global options.
pub fn root() -> Command {
    let mut root = Arguments::command().term_width(COLUMNS);
    root.build();
    root
}

/// The command itself and all below it that are not hidden, the outer ones first.
pub fn every(root: &Command) -> Vec<Command> {
    let below = root
        .get_subcommands()
        .filter(|command| !command.is_hide_set());
    let below = below.flat_map(every);
    std::iter::once(root.clone()).chain(below).collect()
}

/// The command line without what is hidden: what completions offer.
pub fn visible() -> Command {
    fn of(command: &Command) -> Command {
        let below = command
            .get_subcommands()
            .filter(|command| !command.is_hide_set());
        let arguments = command
            .get_arguments()
            .filter(|argument| !argument.is_hide_set());
        let about = command.get_about().cloned().unwrap_or_default();
        // clap wants names that live as long as the program, which ends soon.
        let name: &'static str = String::leak(command.get_name().to_owned());
        Command::new(name)
            .about(about)
            .args(arguments.cloned())
            .subcommands(below.map(of))
            .disable_help_subcommand(true)
    }
    of(&Arguments::command()).version(env!("CARGO_PKG_VERSION"))
}

/// How a command is called: `pefo ca push`.
pub fn line(command: &Command) -> String {
    let name = command.get_bin_name().unwrap_or_else(|| command.get_name());
    name.to_owned()
}

/// What the exit codes mean.
pub fn exit_codes() -> [(u8, &'static str); 7] {
    use pefo_cli::outcome::exit;
    [
        (exit::OK, "ok or unchanged"),
        (exit::FAILED, "failed"),
        (exit::USAGE, "usage or configuration"),
        (exit::REFUSED, "refused by a gate"),
        (exit::PARTIAL, "partly done"),
        (exit::LOCKED, "another run holds the lock"),
        (exit::FENCED, "fenced or wrong role"),
    ]
}

/// What those of `check`, `status` and the commands `verify` mean, as monitoring plugins' do.
pub fn plugin_codes() -> [(u8, &'static str); 4] {
    use pefo_cli::outcome::Health;
    [
        Health::Ok,
        Health::Warning,
        Health::Critical,
        Health::Unknown,
    ]
    .map(|health| {
        let word = match health {
            Health::Ok => "ok",
            Health::Warning => "warning",
            Health::Critical => "critical",
            Health::Unknown => "unknown",
        };
        (health.code(), word)
    })
}
