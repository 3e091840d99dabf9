//! The `pefo` binary: parse, run, exit.

use std::process::ExitCode;

fn main() -> ExitCode {
    pefo_cli::main(std::env::args_os())
}
