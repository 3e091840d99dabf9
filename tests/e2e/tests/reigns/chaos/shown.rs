//! What a master holds, and what was shown as applied.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use pefo_core::Digest;
use pefo_core::generation::{Accepted, DataSet};
use pefo_testkit::masters::Master;
use pefo_testkit::wait;

use crate::evidence::files;
use crate::reigns::seat::Seat;
use crate::reigns::{crl, status};

/// What a master holds.
#[derive(Debug, Clone, Default)]
pub(super) struct Held {
    /// Who has which certificate.
    pub(super) signed: BTreeMap<String, Digest>,
    /// Whose certificates are revoked, and by which serial.
    pub(super) revoked: BTreeSet<u32>,
    pub(super) crl_number: u32,
    /// How many rows its database has, which are the first ones.
    pub(super) said: usize,
    /// What its groups say.
    pub(super) classified: u64,
}

impl Held {
    pub(super) fn of(seat: &Seat) -> Self {
        let dir = seat.master.cadir().join("signed");
        let entries = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap());
        let signed = entries.filter_map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            // Not what is being written.
            let name = name.strip_suffix(".pem")?.to_owned();
            Some((name, Digest::of(&std::fs::read(entry.path()).unwrap())))
        });
        let (crl_number, revoked) = crl(&seat.master.cadir());
        // While a database is swapped nobody gets in.
        let limit = Duration::from_secs(20);
        let said = wait::within(limit, || seat.try_said()).unwrap();
        assert!(said.iter().copied().eq(1..=said.len() as u64), "{said:?}");
        Self {
            signed: signed.collect(),
            revoked: revoked.into_iter().collect(),
            crl_number,
            said: said.len(),
            classified: seat.classified().unwrap(),
        }
    }

    /// Lets what a master had be in what it has now.
    #[track_caller]
    pub(super) fn is_not_lost(&self, now: &Self) {
        for (name, bytes) in &self.signed {
            assert_eq!(now.signed.get(name), Some(bytes), "{name} was applied");
        }
        let undone: Vec<_> = self.revoked.difference(&now.revoked).collect();
        assert!(undone.is_empty(), "revocations undone: {undone:X?}");
        assert!(self.crl_number <= now.crl_number);
        assert!(self.said <= now.said, "{} rows of {}", now.said, self.said);
        assert!(self.classified <= now.classified);
    }
}

/// What was shown as applied: by the spare itself, and by the acks that the active knew.
#[derive(Debug)]
pub(super) struct Shown {
    held: Held,
    /// The highest position of each data set, as both have shown it.
    positions: BTreeMap<String, String>,
}

impl Shown {
    /// What both show now. What is shown as applied is there, so the spare is looked at afterwards.
    pub(super) fn by(spare: &Seat, active: &Master) -> Self {
        let mut positions = BTreeMap::new();
        for master in [active, &spare.master] {
            note(&mut positions, master);
        }
        Self {
            held: Held::of(spare),
            positions,
        }
    }

    /// And what the active came to know before it died.
    pub(super) fn known_to(mut self, active: &Master) -> Self {
        note(&mut self.positions, active);
        self
    }

    /// Lets all that was shown be in what the spare has come to hold.
    #[track_caller]
    pub(super) fn is_not_lost(&self, spare: &Master, now: &Held) {
        self.held.is_not_lost(now);
        assert!(self.positions.len() >= 3, "{:?}", self.positions);
        for (name, shown) in &self.positions {
            let dataset: DataSet = name.parse().unwrap();
            let ledger = spare.state().join("accepted").join(dataset.dir_name());
            let accepted = Accepted::load(&ledger.with_extension("json")).unwrap();
            let applied = accepted.unwrap().applied.unwrap().to_string();
            assert!(
                *shown <= applied,
                "{name}: {shown} was applied, now {applied}"
            );
        }
    }
}

fn note(positions: &mut BTreeMap<String, String>, master: &Master) {
    let status = status(master);
    for row in status["datasets"].as_array().unwrap() {
        let dataset = row["dataset"].as_str().unwrap().to_owned();
        // They are written so that they sort.
        let applied = row["applied"].as_str().unwrap_or_default().to_owned();
        let known = positions.entry(dataset).or_default();
        *known = known.clone().max(applied);
    }
}

/// The certificates that stand in what a spare has received whole of a reign, applied or not.
pub(super) fn received(spare: &Master, epoch: u64) -> BTreeSet<String> {
    let dir = spare.spool().join("generations/ca");
    let epoch = format!("{epoch:08}-");
    let of_reign = |name: &str| name.starts_with(&epoch);
    let mut names = BTreeSet::new();
    for path in files(&dir) {
        let path = path.strip_prefix(&dir).unwrap();
        let text = path.to_str().unwrap();
        if !of_reign(text) {
            continue;
        }
        match text.split_once("/data/signed/") {
            Some((_, name)) => drop(names.insert(name.trim_end_matches(".pem").to_owned())),
            None if text.ends_with(".batch") => {
                let batch = std::fs::read(dir.join(path)).unwrap();
                let batch = String::from_utf8_lossy(&batch);
                let told = batch.split("\"signed/").skip(1);
                names.extend(told.filter_map(|told| Some(told.split_once(".pem\"")?.0.to_owned())));
            }
            None => {}
        }
    }
    names
}
