//! `pefo ca watch` on both masters: what happens on the active happens on the passive.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pefo_testkit::child::Child;
use pefo_testkit::wait;

use crate::pair::Pair;

const LONG: Duration = Duration::from_secs(60);

/// A pair whose two sides watch.
struct Watched {
    pair: Pair,
    _a: Child,
    _b: Child,
}

impl Watched {
    fn seeded() -> Option<Self> {
        let pair = Pair::seeded()?;
        let (a, b) = (pair.a.watch(), pair.b.watch());
        Some(Self { pair, _a: a, _b: b })
    }

    /// Waits until both CAs are the same, B's own counter left aside.
    fn in_step(&self) {
        let same = || {
            let a = contents(&self.pair.a.cadir());
            a.is_some() && a == contents(&self.pair.b.cadir())
        };
        if wait::within(LONG, || same().then_some(())).is_none() {
            panic!(
                "B does not follow\n--- A\n{}\n--- B\n{}",
                tail(&self.pair.a.watch_log()),
                tail(&self.pair.b.watch_log())
            );
        }
    }
}

/// What a standby has of a CA but its own counter; `None` where a file goes while it is read.
pub(crate) fn contents(cadir: &Path) -> Option<BTreeMap<PathBuf, Vec<u8>>> {
    let mut files = BTreeMap::new();
    for sub in ["", "signed", "requests"] {
        for entry in std::fs::read_dir(cadir.join(sub)).ok()? {
            let path = entry.ok()?.path();
            let name = path.file_name()?.to_string_lossy().into_owned();
            let is_own = ["serial", "root_key.pem"].contains(&name.as_str());
            if !is_own && !path.is_dir() && !name.starts_with(".pefo-") {
                files.insert(
                    path.strip_prefix(cadir).ok()?.to_owned(),
                    std::fs::read(&path).ok()?,
                );
            }
        }
    }
    Some(files)
}

pub(crate) fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}

#[test]
fn a_passive_that_watches_follows_what_its_active_signs_revokes_and_cleans() {
    let Some(mut watched) = Watched::seeded() else {
        return;
    };
    watched.in_step();
    watched.pair.ca.sign("node1.lab").unwrap();
    watched.in_step();
    watched.pair.ca.request("node2.lab").unwrap();
    watched.in_step();
    watched.pair.ca.sign("node2.lab").unwrap();
    watched.pair.ca.revoke("node1.lab").unwrap();
    watched.in_step();
    watched.pair.ca.clean("node2.lab").unwrap();
    watched.in_step();
}
