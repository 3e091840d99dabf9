//! `pefo status`: role, reign and the age of each data set, from local state only: it answers at once,
//! whatever the peer does. Exit code and perfdata are a monitoring plugin's.

use std::time::Duration;

use pefo_core::Result;
use pefo_core::clock::Timestamp;
use pefo_core::generation::{Accepted, DataSet};
use pefo_core::pairing::Introduction;
use pefo_core::record;
use pefo_core::reign::{Role, Station};
use pefo_core::run::{Outcome, RunRecord};
use serde_json::{Value, json};

use crate::host::Host;
use crate::outcome::{Health, Report};
use crate::pipeline::ack;
use crate::pipeline::apply::{CaughtUp, caught_up_path};
use crate::reigns;
use crate::reigns::pause::{self, Paused};

/// Answers from what lies on this host.
pub(super) fn run(host: &Host) -> Report {
    gather(host).unwrap_or_else(Report::unknown)
}

/// What is known of one data set.
struct Row {
    dataset: DataSet,
    peer: Option<String>,
    /// Generations: accepted or delivered, and applied.
    received: Option<String>,
    applied: Option<String>,
    /// Time since the passive last proved that it had applied everything.
    lag: Option<Duration>,
    last_success: Option<Timestamp>,
    last_failure: Option<(Timestamp, String)>,
    health: Health,
}

fn gather(host: &Host) -> Result<Report> {
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
    let standing = standing(host, &station)?;
    let health = rows
        .iter()
        .map(|row| row.health)
        .max()
        .unwrap_or(Health::Unknown)
        .max(standing.health());
    let names = peers
        .iter()
        .map(|peer| peer.certname.to_string())
        .collect::<Vec<_>>()
        .join(", ");
    let mut text = format!(
        "PEFO {}: {} is {} in epoch {} (held by {} since {}), peer {names}{}\n",
        health.word(),
        host.config.site.certname,
        station.role,
        reign.epoch,
        reign.certname,
        reign.since,
        perfdata(&rows),
    );
    for said in standing.lines() {
        text.push_str(&format!("  {said}\n"));
    }
    for row in &rows {
        text.push_str(&line(row, station.role));
    }
    let details = json!({
        "certname": host.config.site.certname,
        "role": station.role,
        "epoch": reign.epoch,
        "holder": reign.certname,
        "fenced": standing.fenced,
        "changing": station.changing,
        "unfinished": standing.unfinished,
        "paused": standing.paused,
        "peers": peers.iter().map(|peer| &peer.certname).collect::<Vec<_>>(),
        "datasets": rows.iter().map(row_json).collect::<Vec<_>>(),
    });
    Ok(Report::ok(details, text).health(health))
}

/// What keeps this host from doing its part.
struct Standing {
    /// Another reign has ended this host's, or claims its epoch.
    fenced: Option<String>,
    /// Its role is changing.
    changing: Option<String>,
    /// What was begun and is not ended.
    unfinished: Vec<String>,
    paused: Option<Paused>,
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
    fn health(&self) -> Health {
        if self.fenced.is_some() || self.changing.is_some() {
            Health::Critical
        } else if self.paused.is_some() || !self.unfinished.is_empty() {
            Health::Warning
        } else {
            Health::Ok
        }
    }

    fn lines(&self) -> Vec<String> {
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
    row.received = accepted
        .as_ref()
        .map(|accepted| accepted.position.to_string());
    row.applied = accepted
        .and_then(|accepted| accepted.applied)
        .map(|position| position.to_string());
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
    row.peer = Some(peer.certname.to_string());
    row.received = delivered
        .as_ref()
        .map(|delivered| delivered.position.to_string());
    row.lag = ack
        .as_ref()
        .and_then(|ack| ack.heartbeat)
        .map(|heartbeat| now.since(heartbeat));
    let refused = ack
        .as_ref()
        .map(|ack| ack.refused.clone())
        .unwrap_or_default();
    row.applied = ack
        .and_then(|ack| ack.applied)
        .map(|position| position.to_string());
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

fn perfdata(rows: &[Row]) -> String {
    let mut text = String::new();
    for row in rows {
        if let Some(lag) = row.lag {
            let label = row.peer.as_ref().map_or_else(
                || row.dataset.to_string(),
                |peer| format!("{}@{peer}", row.dataset),
            );
            text.push_str(&format!(" '{label}_lag'={}s", lag.as_secs()));
        }
    }
    if text.is_empty() {
        text
    } else {
        format!(" |{text}")
    }
}

fn line(row: &Row, role: Role) -> String {
    let none = || "none".to_owned();
    let verb = match role {
        Role::Active => "delivered",
        Role::Passive => "accepted",
    };
    let mut text = format!(
        "  {:<20} {verb} {}, applied {}, lag {}, last success {}",
        row.peer.as_ref().map_or_else(
            || row.dataset.to_string(),
            |peer| format!("{} → {peer}", row.dataset)
        ),
        row.received.clone().unwrap_or_else(none),
        row.applied.clone().unwrap_or_else(none),
        row.lag.map_or_else(
            || "unknown".to_owned(),
            |lag| format!("{} s", lag.as_secs())
        ),
        row.last_success
            .map_or_else(|| "never".to_owned(), |time| time.to_string()),
    );
    if let Some((time, reason)) = row
        .last_failure
        .as_ref()
        .filter(|_| row.health != Health::Ok)
    {
        text.push_str(&format!("\n    failing since {time}: {reason}"));
    }
    text.push('\n');
    text
}

fn row_json(row: &Row) -> Value {
    json!({
        "dataset": row.dataset,
        "peer": row.peer,
        "received": row.received,
        "applied": row.applied,
        "lag_seconds": row.lag.map(|lag| lag.as_secs()),
        "last_success": row.last_success,
        "last_failure": row.last_failure.as_ref().map(|(time, reason)| json!({ "time": time, "reason": reason })),
        "health": row.health.word(),
    })
}
