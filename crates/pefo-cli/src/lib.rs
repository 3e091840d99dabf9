//! The pefo command: arguments, configuration, and the pipeline that composes the libraries.
//!
//! This crate decides no CA, tree, SQL or wire rule; it reads the configuration, opens this host's
//! state, hands values from one library to the next, and says what happened: to people, as JSON, and
//! by exit code.
//!
//! | module | what it is for |
//! |---|---|
//! | [`arguments`] | the command line, as clap reads it |
//! | [`daemon`] | `pefo run`: all that goes on by itself, in one process |
//! | [`notify`] | what a service tells the systemd that has started it |
//! | [`config`] | `/etc/pefo/pefo.toml`; unknown keys are errors |
//! | [`host`] | this host: paths below the state directory, keys, role and reign, paired peers |
//! | [`pipeline`] | active: snapshot → generation → transfer; passive: verify → plan → apply → ack |
//! | [`reigns`] | who rules: promotion, demotion, switchover, fencing |
//! | [`schedule`] | when each command runs |
//! | [`alarms`] | hooks on failure and recovery |
//! | [`bulletin`] | all who are told how this host does, after each run and as time passes |
//! | [`history`] | how each data set did over time |
//! | [`metrics`] | as Prometheus reads it |
//! | [`original`], [`syslog`] | lines as the original module wrote them |
//! | [`overview`] | what this host knows of itself and its peers, as a value |
//! | [`products`] | which products this host has, and their versions |
//! | [`code`] | Puppet code: what is deployed, compared, and by what it is deployed |
//! | [`health`] | what load balancers ask |
//! | [`commands`] | one module a command |
//! | [`report`] | how it went, as a page |
//! | [`outcome`] | reports and exit codes |

pub mod alarms;
pub mod arguments;
pub mod bulletin;
pub mod code;
pub mod commands;
pub mod config;
pub mod daemon;
pub mod health;
pub mod history;
pub mod host;
pub mod launcher;
pub mod metrics;
pub mod notify;
pub mod original;
pub mod outcome;
pub mod overview;
pub mod pipeline;
pub mod products;
pub mod reigns;
pub mod report;
pub mod schedule;
pub mod syslog;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser as _;
use pefo_core::{Error, ErrorKind};

use crate::arguments::Arguments;

/// This tool and its version, as written into manifests and said in a handshake.
pub const TOOL: &str = concat!("pefo ", env!("CARGO_PKG_VERSION"));

/// Parses, runs, and maps what happened to the documented exit code.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let wants_json = arguments.iter().any(|argument| argument == "--json");
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) if error.use_stderr() && wants_json => {
            // Who asked for JSON reads JSON, also of a wrong command line.
            let text = error.to_string();
            let what = text
                .lines()
                .next()
                .unwrap_or_default()
                .trim_start_matches("error: ")
                .to_owned();
            let report = outcome::Report::failed(
                Error::new(ErrorKind::Config, what)
                    .hint("'pefo --help' shows the commands, 'pefo COMMAND --help' what one takes"),
            );
            report.print("", true, false);
            return ExitCode::from(outcome::exit::USAGE);
        }
        Err(error) => {
            // clap prints help to standard output and errors to standard error; both are asked for.
            drop(error.print());
            return ExitCode::from(if error.use_stderr() {
                outcome::exit::USAGE
            } else {
                outcome::exit::OK
            });
        }
    };
    logging(&arguments);
    commands::run(&arguments)
}

fn logging(arguments: &Arguments) {
    use tracing_subscriber::filter::LevelFilter;
    let level = match (arguments.quiet, arguments.verbose) {
        (true, _) => LevelFilter::OFF,
        (false, 0) => LevelFilter::WARN,
        (false, 1) => LevelFilter::INFO,
        (false, _) => LevelFilter::DEBUG,
    };
    let builder = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .with_target(false);
    // Set once a process; a second call (tests) keeps the first.
    drop(match arguments.log_format {
        arguments::LogFormat::Json => builder.json().try_init(),
        arguments::LogFormat::Text => builder.without_time().try_init(),
        arguments::LogFormat::PeFailover => {
            original::log(outcome::original_script(arguments.command.name()), level)
                .map_err(Into::into)
        }
    });
}
