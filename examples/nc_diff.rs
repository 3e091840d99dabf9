//! How do two classifiers differ, once one master's certname is rewritten to the other's? Reads two
//! answers of `GET /v1/groups`, prints the differences and what still mentions the old name.
//!
//! ```text
//! cargo run --example nc_diff -- groups-a.json groups-b.json puppet-a.lab puppet-b.lab
//! ```

#![expect(clippy::print_stdout, reason = "the example prints its findings")]

use std::path::Path;

use pefo_core::disk::read_capped;
use pefo_core::{Error, Result};
use pefo_nc::transform::{TransformOptions, transform};
use pefo_nc::{CertnameMap, Tree, TreeDiff};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [source, target, from, to] = arguments.as_slice() else {
        return Err(Error::invalid("give two files and two certnames"));
    };
    let read = |file: &str| Tree::from_json(&read_capped(Path::new(file), 64 << 20)?);
    let map = CertnameMap::one(from.parse()?, to.parse()?);
    let transformed = transform(&read(source)?, &map, &TransformOptions::default());
    println!("{}", TreeDiff::between(&read(target)?, &transformed.tree));
    for residual in &transformed.residuals {
        println!("still there: {residual}");
    }
    Ok(())
}
