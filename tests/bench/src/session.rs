//! One call of the harness: choose the rows, run them one after the other, keep and tell the results.
//!
//! A row that fails does not keep the others from running; the exit code tells it at the end: 0 where
//! every row has numbers or said `skipped`, 1 where one failed, 2 where the command line names no row.

use std::path::Path;
use std::process::ExitCode;

use pefo_core::Result;
use pefo_testkit::skip;

use crate::arguments::Arguments;
use crate::row::{Halt, Row};
use crate::table::{self, Outcome};
use crate::world::World;
use crate::{ledger, pattern, rows, terminal};

const FAILED: u8 = 1;
const USAGE: u8 = 2;

/// Does what was asked for.
pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let all = rows::all();
    let names: Vec<&str> = all.iter().map(|row| row.name).collect();
    let chosen = match pattern::choose(&names, &arguments.rows) {
        Ok(chosen) => chosen,
        Err(error) => {
            terminal::error("bench", &error);
            return ExitCode::from(USAGE);
        }
    };
    if arguments.list {
        for &index in &chosen {
            terminal::tell(&format!("{}: {}", all[index].name, all[index].what));
        }
        return ExitCode::SUCCESS;
    }
    let chosen: Vec<&Row> = chosen.into_iter().map(|index| &all[index]).collect();
    match measure(arguments, &names, &chosen) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(FAILED),
        Err(error) => {
            terminal::error("bench", &error);
            ExitCode::from(FAILED)
        }
    }
}

/// Runs the rows; whether none failed.
fn measure(arguments: &Arguments, names: &[&str], chosen: &[&Row]) -> Result<bool> {
    let world = World::open(arguments.mirror.as_deref())?;
    let mut outcomes: Vec<(&Row, Outcome)> = Vec::new();
    let mut clean = true;
    for &row in chosen {
        terminal::say(&format!("{}: {}", row.name, row.what));
        let pairs = arguments.pairs.map_or(row.pairs, |pairs| pairs as usize);
        let outcome = match (row.run)(&world, pairs) {
            Ok(measured) => {
                ledger::record(world.ledger(), names, row, Some(&measured))?;
                Outcome::Measured(measured)
            }
            Err(Halt::Skipped(skip)) => {
                skip::announce(&skip);
                Outcome::Without(skip.to_string())
            }
            Err(Halt::Failed(error)) => {
                clean = false;
                terminal::error(row.name, &error);
                ledger::record(world.ledger(), names, row, None)?;
                Outcome::Without(format!("failed: {error}"))
            }
        };
        outcomes.push((row, outcome));
    }
    terminal::tell(&format!("\n{}", table::render(&outcomes)));
    terminal::tell(&format!("written to {}", shown(world.ledger())));
    Ok(clean)
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
