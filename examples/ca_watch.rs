//! What happens in a CA directory, as typed changes: a line for each certificate, revocation or request.
//!
//! ```text
//! cargo run --example ca_watch -- /etc/puppetlabs/puppetserver/ca
//! ```

#![expect(clippy::print_stdout, reason = "the example prints what it sees")]

use std::path::PathBuf;
use std::time::Duration;

use pefo_ca::crl::CrlBundle;
use pefo_ca::source::{Change, SourceIndex};
use pefo_ca::watch::Watcher;
use pefo_ca::{CaLayout, SnapshotOptions};
use pefo_core::clock::SystemClock;
use pefo_core::{Error, Result};

/// A batch is never closed by time; this only bounds a wait for the first hint.
const FOR_EVER: Duration = Duration::from_secs(3600);

fn main() -> Result<()> {
    let cadir = std::env::args_os().nth(1).map(PathBuf::from);
    let cadir = cadir.ok_or_else(|| Error::invalid("give a CA directory"))?;
    let layout = CaLayout::at(&cadir)?;
    // The watch begins first, so that nothing falls between it and the first look.
    let mut watcher = Watcher::start(layout.cadir())?;
    let mut index = SourceIndex::read(&layout, &SnapshotOptions::default(), &SystemClock)?;
    println!(
        "{}: {} files",
        layout.cadir().display(),
        index.state().paths().count()
    );
    let mut hints = Vec::new();
    loop {
        let Some(hint) = watcher.next(FOR_EVER)? else {
            continue;
        };
        let closes = hint.closes_batch();
        hints.push(hint);
        if !closes {
            continue;
        }
        let observed = index.look(&std::mem::take(&mut hints), &SystemClock)?;
        for change in &observed.changes {
            println!("{change}{}", meaning(change));
        }
        for problem in &observed.problems {
            println!("{}: {}", problem.path, problem.error);
        }
    }
}

/// What a change means, where a look into the file tells more than its name.
fn meaning(change: &Change) -> String {
    match change.path().as_str() {
        "ca_crl.pem" => CrlBundle::from_pem(change.bytes()).map_or_else(
            |error| format!(" ({error})"),
            |bundle| {
                let revoked = bundle.crls().first().map_or(0, |crl| crl.revoked.len());
                format!(" ({revoked} revoked)")
            },
        ),
        "serial" => format!(
            " (next is {})",
            String::from_utf8_lossy(change.bytes()).trim()
        ),
        _ => String::new(),
    }
}
