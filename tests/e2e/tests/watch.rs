//! `pefo ca watch` on both masters: what happens on the active happens on the passive.

mod busy;
mod cron;
mod forged;
mod life;
mod line;
mod peers;
mod planted;
mod recovery;
mod refusals;
mod source;
mod spool;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pefo_core::ack::Ack;
use pefo_core::generation::{Accepted, DataSet};
use pefo_core::pairing::Introduction;
use pefo_core::record;
use pefo_testkit::child::Child;
use pefo_testkit::masters::Master;
use pefo_testkit::wait;
use rustix::process::Signal;

use crate::pair::Pair;

/// Longer than anything takes here; a test that waits for it has failed.
const LONG: Duration = Duration::from_secs(60);

/// A pair whose two sides watch, unless one of them was killed.
struct Watched {
    pair: Pair,
    a: Option<Child>,
    b: Option<Child>,
}

impl Watched {
    fn seeded() -> Option<Self> {
        Some(Self::of(Pair::seeded()?))
    }

    fn of(pair: Pair) -> Self {
        let mut watched = Self {
            pair,
            a: None,
            b: None,
        };
        watched.start_a();
        watched.start_b();
        watched
    }

    fn start_a(&mut self) {
        self.a = Some(self.pair.a.watch());
    }

    fn start_b(&mut self) {
        self.b = Some(self.pair.b.watch());
    }

    fn kill_a(&mut self) {
        kill(self.a.take());
    }

    fn kill_b(&mut self) {
        kill(self.b.take());
    }

    /// Holds B's watch still, so that what comes lies in the spool for `act`.
    fn while_b_is_held<T>(&mut self, act: impl FnOnce(&mut Pair) -> T) -> T {
        hold(&mut self.b, Signal::STOP);
        let done = act(&mut self.pair);
        hold(&mut self.b, Signal::CONT);
        done
    }

    /// As [`Watched::while_b_is_held`], of A.
    fn while_a_is_held<T>(&mut self, act: impl FnOnce(&mut Pair) -> T) -> T {
        hold(&mut self.a, Signal::STOP);
        let done = act(&mut self.pair);
        hold(&mut self.a, Signal::CONT);
        done
    }

    /// Neither watch has ended.
    #[track_caller]
    fn both_live(&mut self) {
        for (watch, master) in [(&mut self.a, &self.pair.a), (&mut self.b, &self.pair.b)] {
            let ended = watch.as_mut().and_then(Child::ended);
            assert!(
                ended.is_none(),
                "the watch of {} ended with {ended:?}\n{}",
                master.certname(),
                tail(&master.watch_log())
            );
        }
    }

    /// Waits until both CAs are the same, B's own counter left aside.
    #[track_caller]
    fn in_step(&self) {
        let same = || {
            let a = contents(&self.pair.a.cadir());
            a.is_some() && a == contents(&self.pair.b.cadir())
        };
        self.until("B to follow", same);
    }

    /// Waits until `condition` holds; shows what both watches said where it does not.
    #[track_caller]
    fn until(&self, what: &str, mut condition: impl FnMut() -> bool) {
        if wait::within(LONG, || condition().then_some(())).is_none() {
            panic!(
                "waited in vain for {what}\n--- A\n{}\n--- B\n{}",
                tail(&self.pair.a.watch_log()),
                tail(&self.pair.b.watch_log())
            );
        }
    }

    /// Waits until B's watch has said `what`.
    #[track_caller]
    fn b_says(&self, what: &str) {
        self.until(what, || self.pair.b.watch_log().contains(what));
    }

    /// Waits until A's watch has said `what`.
    #[track_caller]
    fn a_says(&self, what: &str) {
        self.until(what, || self.pair.a.watch_log().contains(what));
    }
}

/// `kill -9` of the process alone: what it had started sees to itself.
#[track_caller]
fn kill(watch: Option<Child>) {
    let mut watch = watch.unwrap();
    watch.signal(Signal::KILL);
    wait::until("the watch to die", LONG, || watch.ended().is_some());
}

#[track_caller]
fn hold(watch: &mut Option<Child>, signal: Signal) {
    watch.as_mut().unwrap().signal(signal);
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

/// Where a master's spool has the CA's generations.
fn spooled(master: &Master) -> PathBuf {
    master.spool().join("generations/ca")
}

/// The newest generation in a master's spool, batch or full.
fn newest(master: &Master) -> Option<PathBuf> {
    let full = crate::evidence::generations(master, "ca").pop();
    full.max(batches(master).pop())
}

/// The batches in a master's spool, oldest first.
fn batches(master: &Master) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(spooled(master)) else {
        return Vec::new();
    };
    let paths = entries.map(|entry| entry.unwrap().path());
    let is_batch = |path: &PathBuf| path.extension().is_some_and(|end| end == "batch");
    let mut found: Vec<PathBuf> = paths.filter(is_batch).collect();
    found.sort();
    found
}

/// What a passive has accepted.
fn accepted(master: &Master) -> Accepted {
    let path = master.state().join("accepted/ca.json");
    Accepted::load(&path).unwrap().unwrap()
}

/// What a passive says of itself.
fn ack(master: &Master) -> Option<Ack> {
    let me: Introduction = record::load(&master.state().join("public/self.json"))
        .unwrap()
        .unwrap();
    let document = std::fs::read(master.state().join("public/acks/ca.ack")).ok()?;
    Some(Ack::check(&document, &me.site, &DataSet::Ca, &[me.signing]).unwrap())
}

/// Whether a passive's ack names the rule.
fn refuses(master: &Master, rule: &str) -> bool {
    ack(master).is_some_and(|ack| ack.refused.iter().any(|refused| refused == rule))
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
    watched.pair.ca.renew("node1.lab").unwrap();
    watched.in_step();
    watched.both_live();
}
