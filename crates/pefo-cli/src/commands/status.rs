//! `pefo status`: role, reign and the age of each data set, from local state only: it answers at once,
//! whatever the peer does. Exit code and perfdata are a monitoring plugin's.

use pefo_core::reign::Role;
use serde_json::{Value, json};

use crate::host::Host;
use crate::outcome::{Health, Report};
use crate::overview::{Overview, Row};

/// Answers from what lies on this host.
pub(super) fn run(host: &Host) -> Report {
    Overview::gather(host).map_or_else(Report::unknown, |overview| report(&overview))
}

fn report(overview: &Overview) -> Report {
    let Overview {
        role,
        reign,
        standing,
        rows,
        ..
    } = overview;
    let health = overview.health();
    let peers: Vec<&str> = overview.peers.iter().map(|peer| peer.as_str()).collect();
    let mut text = format!(
        "PEFO {}: {} is {role} in epoch {} (held by {} since {}), peer {}{}\n",
        health.word(),
        overview.certname,
        reign.epoch,
        reign.certname,
        reign.since,
        peers.join(", "),
        perfdata(rows),
    );
    for said in standing.lines() {
        text.push_str(&format!("  {said}\n"));
    }
    for row in rows {
        text.push_str(&line(row, *role));
    }
    let details = json!({
        "certname": overview.certname,
        "role": role,
        "epoch": reign.epoch,
        "holder": reign.certname,
        "fenced": standing.fenced,
        "changing": overview.changing,
        "unfinished": standing.unfinished,
        "paused": standing.paused,
        "peers": peers,
        "datasets": rows.iter().map(row_json).collect::<Vec<_>>(),
    });
    Report::ok(details, text).health(health)
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
        row.received
            .map_or_else(none, |position| position.to_string()),
        row.applied
            .map_or_else(none, |position| position.to_string()),
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
        "received": row.received.map(|position| position.to_string()),
        "applied": row.applied.map(|position| position.to_string()),
        "lag_seconds": row.lag.map(|lag| lag.as_secs()),
        "last_success": row.last_success,
        "last_failure": row.last_failure.as_ref().map(|(time, reason)| json!({ "time": time, "reason": reason })),
        "health": row.health.word(),
    })
}
