//! What would it take to bring one CA directory up to another? Reads two cadirs, prints the plan.
//!
//! ```text
//! cargo run --example ca_plan -- /etc/puppetlabs/puppetserver/ca /mnt/backup/ca
//! ```

#![expect(clippy::print_stdout, reason = "the example prints its plan")]

use std::path::PathBuf;

use pefo_ca::{PlanRules, Snapshot, SnapshotOptions, plan};
use pefo_core::clock::{Clock as _, SystemClock};
use pefo_core::{Error, Result};

fn main() -> Result<()> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(local), Some(source)) = (arguments.next(), arguments.next()) else {
        return Err(Error::invalid(
            "give two directories: the local cadir and the source",
        ));
    };
    let options = SnapshotOptions::default();
    let (local, source) = (
        Snapshot::read_dir(&local, &options)?,
        Snapshot::read_dir(&source, &options)?,
    );
    // A plan is a value: it is shown here, and nothing is touched.
    print!(
        "{}",
        plan(&local, &source, &PlanRules::new(SystemClock.now()))
    );
    Ok(())
}
