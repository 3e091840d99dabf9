//! What was decided, and which steps are done: enough for whoever goes on after a crash.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use pefo_ca::takeover::Succession;
use pefo_core::clock::Timestamp;
use pefo_core::generation::{DataSet, Position};
use pefo_core::reign::{Epoch, Role};
use pefo_core::{Result, record as stored};
use serde::{Deserialize, Serialize};

use super::PromoteOptions;
use crate::host::Host;
use crate::reigns::record;

/// The steps, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Nothing more is taken; the cutoffs are known.
    Fence,
    /// All up to the cutoffs is applied.
    Apply,
    /// The CA has its own serials and numbers.
    Succeed,
    /// This host is the active.
    Commit,
    /// The peers have heard of it, as far as they could be reached.
    Tell,
    /// Facts, services, node groups and hooks.
    Aftermath,
}

impl Step {
    /// All of them, in order.
    pub const ALL: [Self; 6] = [
        Self::Fence,
        Self::Apply,
        Self::Succeed,
        Self::Commit,
        Self::Tell,
        Self::Aftermath,
    ];
}

/// A promotion that has begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Promotion {
    /// Version of this record's schema: 1.
    pub format: u32,
    /// When it began.
    pub begun: Timestamp,
    /// The role from which this host comes.
    pub from: Role,
    /// The reign that ends.
    pub old: Epoch,
    /// The reign that begins.
    pub epoch: Epoch,
    /// Its signed record.
    pub record: String,
    /// By the request of the active that hands over.
    pub handover: bool,
    /// Gates that are overruled.
    pub accept: BTreeSet<String>,
    /// Data sets that stay as they were last applied.
    pub leave: BTreeSet<DataSet>,
    /// The last generation of each data set that counts.
    pub cutoffs: Option<BTreeMap<DataSet, Position>>,
    /// What the CA gets.
    pub succession: Option<Succession>,
    /// The steps that are done.
    pub done: BTreeSet<Step>,
    /// When this host became the active.
    pub committed: Option<Timestamp>,
    /// What was left undone of each data set, and why.
    pub undone: BTreeMap<DataSet, String>,
    /// Since when nothing of the former active is known here, by its own clock: what it did after that is lost.
    pub known_until: BTreeMap<DataSet, Option<Timestamp>>,
}

impl Promotion {
    const NAME: &'static str = "promotion";

    /// The one that was broken off, where there is one.
    ///
    /// # Errors
    /// `Io`, or `Invalid` where the record is malformed.
    pub fn load(host: &Host) -> Result<Option<Self>> {
        stored::load(&record(host, Self::NAME))
    }

    /// What is decided: from this role and reign to that epoch. It is begun once it is stored.
    ///
    /// # Errors
    /// `Io`, or `Invalid` where the record cannot be written.
    pub(in crate::reigns) fn decide(
        host: &Host,
        (from, old, epoch): (Role, Epoch, Epoch),
        known_until: BTreeMap<DataSet, Option<Timestamp>>,
        options: &PromoteOptions,
    ) -> Result<Self> {
        let (me, key) = (host.introduction()?, host.signing_key()?);
        let (station, _) = host.station()?;
        let now = host.clock.now();
        let record = station.successor(&me.site, &me.certname, &key, epoch, now)?;
        Ok(Self {
            format: 1,
            begun: now,
            from,
            old,
            epoch,
            record: String::from_utf8_lossy(&record).into_owned(),
            handover: false,
            accept: options.accept.clone(),
            leave: options.leave.clone(),
            cutoffs: None,
            succession: None,
            done: BTreeSet::new(),
            committed: None,
            undone: BTreeMap::new(),
            known_until,
        })
    }

    /// Whether anything but the decision was written down.
    ///
    /// # Errors
    /// `Config` where this host is not set up.
    pub(super) fn is_begun(&self, host: &Host) -> Result<bool> {
        let (station, _) = host.station()?;
        let stands = station.changing.is_some() || station.current == self.record;
        Ok(stands || !self.done.is_empty())
    }

    /// Takes what the operator allows now besides what was allowed when it began.
    pub(super) fn allow(&mut self, options: &PromoteOptions) {
        self.accept.extend(options.accept.iter().cloned());
        self.leave.extend(options.leave.iter().cloned());
    }

    /// Writes it down as it stands.
    ///
    /// # Errors
    /// `Io`.
    pub fn store(&self, host: &Host) -> Result<()> {
        host.store_json(&record(host, Self::NAME), self, 0o600)
    }

    /// Notes that a step is done.
    ///
    /// # Errors
    /// `Io`.
    pub(super) fn did(&mut self, host: &Host, step: Step) -> Result<()> {
        self.done.insert(step);
        self.store(host)
    }

    /// It is over: what came of it is kept, the journal goes.
    ///
    /// # Errors
    /// `Io`.
    pub(super) fn close(&self, host: &Host) -> Result<()> {
        let kept = record(host, &format!("promoted-{}", self.epoch));
        host.store_json(&kept, self, 0o600)?;
        self.drop_journal(host)
    }

    /// It never was.
    ///
    /// # Errors
    /// `Io`.
    pub(in crate::reigns) fn drop_journal(&self, host: &Host) -> Result<()> {
        host.disk.remove_file(&record(host, Self::NAME))
    }

    /// How long nobody reigned, as far as this host knows: from its beginning to the commit.
    pub fn rto_ms(&self) -> Option<u64> {
        let took = self.committed?.since(self.begun);
        u64::try_from(took.as_millis()).ok()
    }
}

impl fmt::Display for Promotion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let left: Vec<String> = Step::ALL
            .iter()
            .filter(|step| !self.done.contains(step))
            .map(|step| format!("{step:?}").to_lowercase())
            .collect();
        writeln!(
            f,
            "promotion to epoch {}, begun {}; to be done: {}",
            self.epoch,
            self.begun,
            left.join(", ")
        )
    }
}
