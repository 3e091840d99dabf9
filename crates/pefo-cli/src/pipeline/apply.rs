//! The passive's half: verify → plan → apply → record → ack.

use std::collections::BTreeMap;
use std::path::PathBuf;

use pefo_core::clock::Timestamp;
use pefo_core::digest_cache::Identity;
use pefo_core::generation::verify::needs_reconcile;
use pefo_core::generation::{Accepted, DataSet, Gate, Position};
use pefo_core::keys::PublicKey;
use pefo_core::pairing::Introduction;
use pefo_core::record;
use pefo_core::reign::{Epoch, Reign, Role};
use pefo_core::run::Outcome;
use pefo_core::sealing::UnsealingKey;
use pefo_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::received::{self, Received};
use super::scratch::Scratch;
use super::{ack, ca, code, db, files, nc, rollback};
use crate::arguments::Change;
use crate::host::Host;
use crate::outcome::{Report, outcome_of};
use crate::reigns::{look, pause, returned};

/// What a data set's library did, or would do.
pub struct Applied {
    /// For machines.
    pub details: Value,
    /// For people, lines.
    pub text: String,
    /// What was left undone.
    pub errors: Vec<Error>,
    /// Whether anything was to be done.
    pub changed: bool,
}

/// What the passive checks against; opened once a run.
pub struct Passive<'a> {
    pub(super) host: &'a Host,
    me: Introduction,
    keys: Vec<PublicKey>,
    unsealing: UnsealingKey,
    reign: Reign,
    /// Beyond these nothing is taken; where there are any, of other data sets nothing is.
    until: Option<BTreeMap<DataSet, Position>>,
    /// Of what it was opened from.
    stamps: [Option<Identity>; 3],
}

impl<'a> Passive<'a> {
    /// Opens this host as the passive.
    ///
    /// # Errors
    /// `WrongRole` on the active; `Fenced` where its reign has ended or its role is changing.
    pub fn open(host: &'a Host) -> Result<Self> {
        let stamps = stamps(host);
        let reign = host.require(Role::Passive)?;
        Self::under(host, reign, None, stamps)
    }

    /// Opens a passive that is about to change its role: what its active has sent up to some generations is
    /// still taken, and nothing beyond.
    ///
    /// # Errors
    /// `WrongRole` on the active.
    pub fn until(host: &'a Host, until: BTreeMap<DataSet, Position>) -> Result<Self> {
        let stamps = stamps(host);
        let (station, reign) = host.station()?;
        if station.role != Role::Passive {
            host.require(Role::Passive)?;
        }
        Self::under(host, reign, Some(until), stamps)
    }

    fn under(
        host: &'a Host,
        reign: Reign,
        until: Option<BTreeMap<DataSet, Position>>,
        stamps: [Option<Identity>; 3],
    ) -> Result<Self> {
        Ok(Self {
            host,
            stamps,
            me: host.introduction()?,
            keys: host.peer_keys()?,
            unsealing: host.unsealing_key()?,
            reign,
            until,
        })
    }

    /// Whether a generation of a data set is none too late. Whose it is the gate says, by name.
    pub(super) fn may_take(&self, dataset: &DataSet, position: Position) -> bool {
        let is_in_time = |until: &BTreeMap<DataSet, Position>| {
            until.get(dataset).is_some_and(|last| position <= *last)
        };
        self.until.as_ref().is_none_or(is_in_time)
    }

    /// The reign under which it takes.
    pub fn epoch(&self) -> Epoch {
        self.reign.epoch
    }

    /// Whether role, reign and peers are still those of when it was opened, and nobody has paused this host.
    pub fn is_current(&self) -> bool {
        self.stamps == stamps(self.host)
    }

    /// What a generation of a data set is checked against.
    pub fn gate<'g>(&'g self, dataset: &'g DataSet, accepted: Option<&'g Accepted>) -> Gate<'g> {
        Gate {
            site: &self.me.site,
            dataset,
            keys: &self.keys,
            reign: &self.reign,
            accepted,
            unsealing: &self.unsealing,
        }
    }
}

/// What says in which role this host acts, and whether it does; equal as long as that is the same.
pub(in crate::pipeline) fn stamps(host: &Host) -> [Option<Identity>; 3] {
    let paths = [
        host.station_path(),
        host.state("public/peers"),
        pause::path(host),
    ];
    paths.map(|path| {
        let meta = std::fs::symlink_metadata(path).ok()?;
        Some(Identity::from(&meta))
    })
}

/// Verifies the newest generation, plans, applies, records and acknowledges.
///
/// # Errors
/// `WrongRole` on the active, `Fenced`, `Locked`, `Refused` (`paused`), what the gate or the data set's library
/// refuses.
pub fn run(host: &Host, dataset: &DataSet, change: &Change) -> Result<Report> {
    let report = take(host, dataset, change)?;
    Ok(match dataset {
        DataSet::Code if !change.dry_run => code::follow(host, report),
        _ => report,
    })
}

/// As [`run`], and nothing follows that would take its time: for a change of role.
///
/// # Errors
/// As [`run`].
pub fn take(host: &Host, dataset: &DataSet, change: &Change) -> Result<Report> {
    if !change.dry_run {
        look(host)?;
    }
    let passive = Passive::open(host)?;
    pause::check(host, change)?;
    let _lock = host.lock(&lock_name(dataset))?;
    if change.dry_run {
        return show(host, dataset, change);
    }
    rollback::release(host, dataset, change)?;
    holding(&passive, dataset, change)
}

/// The lock of whoever applies a data set.
pub fn lock_name(dataset: &DataSet) -> String {
    format!("apply-{}", dataset.dir_name())
}

/// As [`run`], for who has asked all that is to be asked first and holds the data set's lock.
///
/// # Errors
/// As [`run`].
pub fn holding(passive: &Passive<'_>, dataset: &DataSet, change: &Change) -> Result<Report> {
    let host = passive.host;
    if let DataSet::Database(name) = dataset {
        db::finish_interrupted(host, name)?;
    }
    round(passive, dataset, |received| {
        act(host, dataset, received, change, false)
    })
}

/// Takes what is newest, has `act` apply it, records and acknowledges. The caller holds the data set's lock.
///
/// # Errors
/// As [`run`].
pub fn round(
    passive: &Passive<'_>,
    dataset: &DataSet,
    act: impl FnOnce(&Received) -> Result<Applied>,
) -> Result<Report> {
    let host = passive.host;
    rollback::check(host, dataset)?;
    let ledger = host.record_path("accepted", dataset);
    let before = Accepted::load(&ledger)?;
    // Looked at before the spool is: a generation that a heartbeat names stood there when it was sent.
    let head =
        ack::newest_heartbeat(host)?.and_then(|heartbeat| heartbeat.heads.get(dataset).copied());
    let lost = |at: Option<Position>| {
        let head = head.filter(|head| at.is_none_or(|at| *head > at))?;
        Some(vanished(head))
    };
    let mut received = match passive.take(dataset, &host.store(dataset)) {
        Ok(received) => received,
        Err(error) => return Err(not_taken(host, dataset, error, lost(None))),
    };
    let position = received.position();
    let stopped = received.stopped.take();
    let reconcile = lost(Some(position)).or_else(|| {
        stopped
            .as_ref()
            .filter(|it| needs_reconcile(it))
            .map(ToString::to_string)
    });
    let applied_before = before.as_ref().and_then(|accepted| accepted.applied);
    received
        .newest()
        .accepted(applied_before)
        .store(&host.disk, &ledger)?;
    let full = received.full();
    host.note_generation_bytes(dataset, full.position(), full.manifest().stored_bytes())?;
    let applied = match returned::settle(host, dataset, &received).and_then(|()| act(&received)) {
        Ok(applied) => applied,
        Err(error) => {
            // A batch that does not fit what stands before it: only a full generation leads on.
            let misfits = !received.batches().is_empty() && needs_reconcile(&error);
            ack::publish(
                host,
                dataset,
                reconcile.or_else(|| misfits.then(|| error.to_string())),
                error.rule().map(str::to_owned).into_iter().collect(),
            )?;
            return Err(error);
        }
    };
    let refused: Vec<String> = applied
        .errors
        .iter()
        .filter_map(|error| error.rule().map(str::to_owned))
        .collect();
    if applied.errors.is_empty() {
        let accepted = received.newest().accepted(Some(position));
        accepted.store(&host.disk, &ledger)?;
    }
    ack::publish(host, dataset, reconcile, refused)?;
    note_caught_up(host, dataset)?;
    if let Err(error) = returned::in_step(host, dataset) {
        tracing::error!(%error, "what was stopped when this host's reign ended does not start again");
    }
    received::prune(host, dataset, position)?;
    let details = json!({ "generation": position.to_string(), "changes": applied.details });
    let report = if applied.changed {
        Report::ok(
            details,
            format!("{dataset}: applied {position}\n{}", indent(&applied.text)),
        )
    } else {
        Report::unchanged(details, format!("{dataset}: unchanged at {position}\n"))
    };
    let errors = applied.errors.into_iter().chain(stopped).collect();
    Ok(left_undone(report, errors))
}

/// Why a generation is to be sent again that a heartbeat names and the spool does not have.
pub fn vanished(head: Position) -> String {
    format!("generation {head} was received and is not in the spool any more")
}

/// With what was left undone: partly done, or refused where that was all there was to do.
pub fn left_undone(report: Report, errors: Vec<Error>) -> Report {
    let refused = (report.outcome == Outcome::Unchanged)
        .then(|| errors.first().map(|error| outcome_of(error.kind())))
        .flatten();
    let report = report.partial(errors);
    Report {
        outcome: refused.unwrap_or(report.outcome),
        ..report
    }
}

/// Tells the active, by the ack, that the newest generation could not be taken, and whether to send it
/// again; gives the error for the operator.
pub fn not_taken(host: &Host, dataset: &DataSet, error: Error, vanished: Option<String>) -> Error {
    let reconcile = match error.kind() {
        ErrorKind::NotFound => vanished,
        _ => needs_reconcile(&error).then(|| error.to_string()),
    };
    if error.kind() == ErrorKind::NotFound && reconcile.is_none() {
        return error;
    }
    let is_sent_again = reconcile.is_some();
    let refused = error.rule().map(str::to_owned).into_iter().collect();
    if let Err(unpublished) = ack::publish(host, dataset, reconcile, refused) {
        tracing::warn!(%unpublished, "the active is not told");
    }
    if is_sent_again && error.hint_text().is_none() {
        return error.hint("it was changed in the spool after it was received; the next 'pefo push' on the active sends it again");
    }
    error
}

/// Verifies the newest generation in a directory of its own and shows the plan; nothing is recorded.
///
/// # Errors
/// As [`run`].
pub fn show(host: &Host, dataset: &DataSet, change: &Change) -> Result<Report> {
    let passive = Passive::open(host)?;
    let _lock = host.lock(&format!("show-{}", dataset.dir_name()))?;
    let scratch = Scratch::new(host, dataset)?;
    let mut received = passive.take(dataset, &scratch.path().join("store"))?;
    let stopped = received.stopped.take();
    let applied = act(host, dataset, &received, change, true)?;
    let details = json!({ "generation": received.position().to_string(), "plan": applied.details });
    let text = format!(
        "{dataset}: {} would\n{}",
        received.position(),
        indent(&applied.text)
    );
    let report = if applied.changed {
        Report::ok(details, text)
    } else {
        Report::unchanged(details, text)
    };
    let errors = applied.errors.into_iter().chain(stopped).collect();
    Ok(left_undone(report, errors))
}

fn indent(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}

/// Plans from the verified generation and the live data, and carries the plan out unless it is only to
/// be shown.
fn act(
    host: &Host,
    dataset: &DataSet,
    received: &Received,
    change: &Change,
    show_only: bool,
) -> Result<Applied> {
    match dataset {
        DataSet::Ca => ca::apply(host, received, change, show_only),
        DataSet::Classifier => nc::apply(host, received.full(), change, show_only),
        DataSet::Database(name) => db::apply(host, name, received.full(), change, show_only),
        DataSet::Files => files::apply(host, received.full(), change, show_only),
        DataSet::Code => code::apply(host, received.full(), show_only),
    }
}

/// When this host last proved that it had applied everything: the newest heartbeat whose head is
/// applied, and when that was found, by this host's own clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaughtUp {
    /// When the heartbeat was made, by the active's clock.
    pub heartbeat: Timestamp,
    /// When it was found to be caught up with, by this host's clock.
    pub at: Timestamp,
}

/// Where a data set's [`CaughtUp`] stands.
pub fn caught_up_path(host: &Host, dataset: &DataSet) -> PathBuf {
    host.state("accepted")
        .join(format!("{}.caught-up.json", dataset.dir_name()))
}

/// Notes that the newest heartbeat is caught up with, where it is; tells whether.
///
/// # Errors
/// `Io`.
pub fn note_caught_up(host: &Host, dataset: &DataSet) -> Result<bool> {
    let Some(heartbeat) = ack::newest_heartbeat(host)? else {
        return Ok(false);
    };
    let applied = Accepted::load(&host.record_path("accepted", dataset))?
        .and_then(|accepted| accepted.applied);
    let is_caught_up = heartbeat
        .heads
        .get(dataset)
        .is_some_and(|head| applied.is_some_and(|applied| applied >= *head));
    let path = caught_up_path(host, dataset);
    let known: Option<CaughtUp> = record::load(&path)?;
    // The same heartbeat again proves nothing new: a silent active lets the lag grow.
    if !is_caught_up || known.is_some_and(|known| known.heartbeat >= heartbeat.time) {
        return Ok(is_caught_up);
    }
    host.store_json(
        &path,
        &CaughtUp {
            heartbeat: heartbeat.time,
            at: host.clock.now(),
        },
        0o600,
    )?;
    Ok(true)
}
