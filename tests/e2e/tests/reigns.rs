//! Who rules, and how that changes: promotion, fencing, demotion, switchover.

mod aftermath;
mod chaos;
mod demote;
mod drill;
mod dynasties;
mod failback;
mod fence;
mod killed;
mod partition;
mod promote;
mod seat;
mod split;
mod switchover;

use std::collections::BTreeMap;
use std::path::Path;

use pefo_ca::{Serial, Snapshot, SnapshotOptions};
use pefo_testkit::masters::{self, Master};
use serde_json::Value;

use crate::pair::Pair;

/// What a CA directory holds.
pub(crate) fn ca(dir: &Path) -> Snapshot {
    Snapshot::read_dir(dir, &SnapshotOptions::default()).unwrap()
}

/// The number of our CRL in `ca_crl.pem`, and what it revokes.
pub(crate) fn crl(dir: &Path) -> (u32, Vec<u32>) {
    let snapshot = ca(dir);
    let authority = snapshot.chain().unwrap().signing();
    let crl = snapshot.ca_crl().unwrap().find(authority).unwrap();
    let counter = |serial: &Serial| serial.counter().unwrap();
    let revoked = crl.revoked.keys().map(counter).collect();
    (counter(&crl.number.unwrap()), revoked)
}

/// The counter of a CA directory.
pub(crate) fn counter(dir: &Path) -> u32 {
    ca(dir).serial().unwrap().counter().unwrap()
}

/// Whose each serial is, by the inventory.
pub(crate) fn issued(dir: &Path) -> BTreeMap<u32, String> {
    let text = std::fs::read_to_string(dir.join("inventory.txt")).unwrap();
    let mut issued = BTreeMap::new();
    for line in text.lines() {
        let (serial, rest) = line.split_once(' ').unwrap();
        let serial = u32::from_str_radix(serial.trim_start_matches("0x"), 16).unwrap();
        let (_, certname) = rest.rsplit_once("/CN=").unwrap();
        let other = issued.insert(serial, certname.to_owned());
        assert!(
            other.as_ref().is_none_or(|other| other == certname),
            "{serial:X} names {other:?} and {certname}"
        );
    }
    issued
}

/// What `pefo status --json` says.
pub(crate) fn status(master: &Master) -> Value {
    let run = master.pefo(["status", "--json"]);
    run.json()["details"].clone()
}

/// Role and epoch.
pub(crate) fn stands(master: &Master) -> (String, u64) {
    let status = status(master);
    let role = status["role"].as_str().unwrap().to_owned();
    (role, status["epoch"].as_u64().unwrap())
}

/// A pair in step whose active notes which of its services were stopped and started.
pub(crate) fn seeded_with_services() -> Option<Pair> {
    let mut pair = Pair::prepared()?;
    let sections = services(&pair.a);
    pair.a.configure(&sections);
    masters::pair(&pair.a, &pair.b);
    Some(pair.seed())
}

/// Sections that note in a file which services were stopped and started, for `manager = "command"`.
pub(crate) fn services(master: &Master) -> String {
    let log = master.directory().join("services.log");
    let note = |verb: &str| {
        format!(
            "[\"sh\", \"-c\", \"echo {verb} $0 >> {}\", \"{{}}\"]",
            log.display()
        )
    };
    format!(
        "[services]\nmanager = \"command\"\nstop = {}\nstart = {}\non_fence = [\"ca\", \"console\"]\non_promote = [\"shared\"]\n\n\
         [hooks]\nrole_changed = [\"sh\", \"-c\", \"echo $0 $1 $2 $3 >> {}\"]\n\n",
        note("stop"),
        note("start"),
        master.directory().join("hooks.log").display(),
    )
}

/// What the services and hooks have noted.
pub(crate) fn noted(master: &Master, what: &str) -> Vec<String> {
    let text = std::fs::read_to_string(master.directory().join(format!("{what}.log")));
    text.unwrap_or_default()
        .lines()
        .map(str::to_owned)
        .collect()
}
