//! The command line of the harness.

use std::path::PathBuf;

use clap::Parser;

/// Measures pefo against its peers and writes target/bench.json.
#[derive(Debug, Parser)]
#[command(name = "bench")]
pub(crate) struct Arguments {
    /// The rows to measure, `*` standing for anything; without any, all of them
    #[arg(value_name = "ROW")]
    pub(crate) rows: Vec<String>,
    /// How many pairs of runs to measure, instead of each row's own number
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) pairs: Option<u32>,
    /// Another build of tree_mirror than the one beside this program
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) mirror: Option<PathBuf>,
    /// Name the rows and end
    #[arg(long)]
    pub(crate) list: bool,
}

/// What was asked for; a command line that can not be understood ends the program with code 2.
pub(crate) fn parse() -> Arguments {
    Arguments::parse()
}
