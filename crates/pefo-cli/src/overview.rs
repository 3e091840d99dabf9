//! What this host knows of itself and its peers, from local state only: it is told at once, whatever the peer
//! does. [`Overview`] is a value; status, metrics, health and reports are told from it.

use std::time::Duration;

use pefo_core::clock::Timestamp;
use pefo_core::generation::{Accepted, DataSet, Position};
use pefo_core::pairing::Introduction;

use pefo_core::reign::{Changing, Reign, Role, Station};
use pefo_core::run::{Outcome, RunRecord};
use pefo_core::{Certname, Result, record};

use crate::host::Host;
use crate::outcome::Health;
use crate::pipeline::ack;
use crate::pipeline::apply::{CaughtUp, caught_up_path};
use crate::reigns;
use crate::reigns::pause::{self, Paused};

/// What this host knows of itself and its peers.
#[derive(Debug)]
#[non_exhaustive]
pub struct Overview {
    /// This host.
    pub certname: Certname,
    /// Its role.
    pub role: Role,
    /// Who reigns, as this host knows it.
    pub reign: Reign,
    /// The paired peers.
    pub peers: Vec<Certname>,
    /// The change of role that has begun.
    pub changing: Option<Changing>,
    /// What keeps this host from doing its part.
    pub standing: Standing,
    /// Each data set; on the active once for each peer.
    pub rows: Vec<Row>,
    /// When this was gathered, by this host's clock.
    pub now: Timestamp,
}

impl Overview {
    /// Reads this host's state.
    ///
    /// # Errors
    /// `Config` where this host is not set up, `Io`, `Invalid` where a record is damaged.
    pub fn gather(host: &Host) -> Result<Self> {
        let (station, reign) = host.station()?;
        let peers = host.peers()?;
        let runs = RunRecord::load_all(&host.state("runs"))?;
        let now = host.clock.now();
        let mut rows = Vec::new();
        for dataset in host.datasets() {
            match station.role {
                Role::Passive => rows.push(passive_row(host, &dataset, &runs, now)?),
                Role::Active => {
                    for peer in &peers {
                        rows.push(active_row(host, &dataset, peer, &runs, now)?);
                    }
                }
            }
        }
        Ok(Self {
            certname: host.config.site.certname.clone(),
            role: station.role,
            reign,
            peers: peers.into_iter().map(|peer| peer.certname).collect(),
            changing: station.changing,
            standing: standing(host, &station)?,
            rows,
            now,
        })
    }

    /// How this host does: the worst of all there is to say.
    pub fn health(&self) -> Health {
        let rows = self.rows.iter().map(|row| row.health).max();
        rows.unwrap_or(Health::Unknown).max(self.standing.health())
    }
}

/// What is known of one data set.
#[derive(Debug)]
#[non_exhaustive]
pub struct Row {
    /// Which.
    pub dataset: DataSet,
    /// On the active: with which peer.
    pub peer: Option<Certname>,
    /// The newest generation that was accepted here, or delivered to the peer.
    pub received: Option<Position>,
    /// The newest generation that was applied.
    pub applied: Option<Position>,
    /// Time since the passive last proved that it had applied everything.
    pub lag: Option<Duration>,
    /// When a run about it ended well last.
    pub last_success: Option<Timestamp>,
    /// When one did not, and why.
    pub last_failure: Option<(Timestamp, String)>,
    /// How it does.
    pub health: Health,
}

/// What keeps this host from doing its part.
#[derive(Debug)]
#[non_exhaustive]
pub struct Standing {
    /// Another reign has ended this host's, or claims its epoch.
    pub fenced: Option<String>,
    /// Its role is changing.
    pub changing: Option<String>,
    /// What was begun and is not ended.
    pub unfinished: Vec<String>,
    /// It rests by the operator's word.
    pub paused: Option<Paused>,
}

fn standing(host: &Host, station: &Station) -> Result<Standing> {
    let in_force = host.require(station.role).err();
    let said = in_force.map(|error| match error.hint_text() {
        Some(hint) => format!("{error}: {hint}"),
        None => error.to_string(),
    });
    let (fenced, changing) = match station.changing {
        Some(_) => (None, said),
        None => (said, None),
    };
    Ok(Standing {
        fenced,
        changing,
        unfinished: reigns::unfinished(host)?,
        paused: pause::paused(host)?,
    })
}

impl Standing {
    /// How bad that is.
    pub fn health(&self) -> Health {
        if self.fenced.is_some() || self.changing.is_some() {
            Health::Critical
        } else if self.paused.is_some() || !self.unfinished.is_empty() {
            Health::Warning
        } else {
            Health::Ok
        }
    }

    /// For people, a line each.
    pub fn lines(&self) -> Vec<String> {
        let paused = self.paused.as_ref().map(|paused| {
            let reason = paused.reason.as_ref();
            let reason = reason
                .map(|reason| format!(" ({reason})"))
                .unwrap_or_default();
            format!(
                "paused since {}{reason}: 'pefo resume' lets it go on",
                paused.since
            )
        });
        let fenced = self.fenced.as_ref().map(|why| format!("FENCED: {why}"));
        let all = [fenced, self.changing.clone(), paused];
        let all = all.into_iter().flatten();
        all.chain(self.unfinished.iter().cloned()).collect()
    }
}

fn passive_row(host: &Host, dataset: &DataSet, runs: &[RunRecord], now: Timestamp) -> Result<Row> {
    let accepted = Accepted::load(&host.record_path("accepted", dataset))?;
    let caught_up: Option<CaughtUp> = record::load(&caught_up_path(host, dataset))?;
    let mut row = row_of(dataset, runs);
    row.received = accepted.as_ref().map(|accepted| accepted.position);
    row.applied = accepted.and_then(|accepted| accepted.applied);
    row.lag = caught_up.map(|caught_up| now.since(caught_up.at));
    if row.applied.is_none() {
        row.health = Health::Critical;
    }
    Ok(row)
}

fn active_row(
    host: &Host,
    dataset: &DataSet,
    peer: &Introduction,
    runs: &[RunRecord],
    now: Timestamp,
) -> Result<Row> {
    let delivered = host.delivered(&peer.certname, dataset)?;
    let ack = ack::known(host, peer, dataset)?;
    let mut row = row_of(dataset, runs);
    row.peer = Some(peer.certname.clone());
    row.received = delivered.as_ref().map(|delivered| delivered.position);
    row.lag = ack
        .as_ref()
        .and_then(|ack| ack.heartbeat)
        .map(|heartbeat| now.since(heartbeat));
    let refused = ack
        .as_ref()
        .map(|ack| ack.refused.clone())
        .unwrap_or_default();
    row.applied = ack.and_then(|ack| ack.applied);
    if !refused.is_empty() {
        row.health = row.health.max(Health::Warning);
        row.last_failure = Some((now, format!("the passive refused: {}", refused.join(", "))));
    }
    Ok(row)
}

/// What the run records tell.
fn row_of(dataset: &DataSet, runs: &[RunRecord]) -> Row {
    let mine = || {
        runs.iter()
            .rev()
            .filter(|run| run.dataset.as_ref() == Some(dataset))
            // What the run comes to that held the lock is what counts.
            .filter(|run| run.outcome != Outcome::Locked)
    };
    let last_success = mine()
        .find(|run| run.outcome.is_success())
        .map(|run| run.ended);
    let last_failure = mine().find(|run| !run.outcome.is_success()).map(|run| {
        (
            run.ended,
            run.error
                .clone()
                .unwrap_or_else(|| "no reason was recorded".to_owned()),
        )
    });
    let failing = match (&last_success, &last_failure) {
        (Some(success), Some((failure, _))) => failure > success,
        (None, _) => true,
        (Some(_), None) => false,
    };
    let health = match (failing, last_success) {
        (false, _) => Health::Ok,
        (true, Some(_)) => Health::Warning,
        (true, None) => Health::Critical,
    };
    Row {
        dataset: dataset.clone(),
        peer: None,
        received: None,
        applied: None,
        lag: None,
        last_success,
        last_failure,
        health,
    }
}
