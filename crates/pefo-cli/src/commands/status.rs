//! `pefo status`: role, reign and the age of each data set, from local state only: it answers at once,
//! whatever the peer does. Exit code and perfdata are a monitoring plugin's.

use pefo_core::reign::Role;
use serde_json::{Value, json};

use crate::host::Host;
use crate::metrics;
use crate::outcome::{Health, Report};
use crate::overview::{Overview, Problem, Row, Space};

/// Answers from what lies on this host.
pub(crate) fn run(host: &Host, as_metrics: bool) -> Report {
    match Overview::gather(host) {
        Ok(overview) if as_metrics => Report::ok(Value::Null, metrics::text(&overview)),
        Ok(overview) => report(host, &overview),
        Err(error) if as_metrics => Report::failed(error),
        Err(error) => Report::unknown(error),
    }
}

fn report(host: &Host, overview: &Overview) -> Report {
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
        "PEFO {}: {}{} is {role} in epoch {} (held by {} since {}), peer {} |{}\n",
        health.word(),
        worst(overview).map_or_else(String::new, |worst| format!("{worst}; ")),
        overview.certname,
        reign.epoch,
        reign.certname,
        reign.since,
        peers.join(", "),
        perfdata(host, overview),
    );
    for said in standing.lines() {
        text.push_str(&format!("  {said}\n"));
    }
    for problem in &overview.problems {
        text.push_str(&told(problem, "  "));
    }
    for row in rows {
        text.push_str(&line(row, *role));
    }
    for space in &overview.spaces {
        text.push_str(&space_line(space));
    }
    let details = json!({
        "certname": overview.certname,
        "role": role,
        "epoch": reign.epoch,
        "holder": reign.certname,
        "since": reign.since,
        "health": health,
        "fenced": standing.fenced,
        "changing": overview.changing,
        "unfinished": standing.unfinished,
        "paused": standing.paused,
        "peers": peers,
        "datasets": rows.iter().map(row_json).collect::<Vec<_>>(),
        "disk": overview.spaces.iter().map(space_json).collect::<Vec<_>>(),
        "problems": overview.problems.iter().map(problem_json).collect::<Vec<_>>(),
        "gathered": overview.now,
    });
    Report::ok(details, text).health(health)
}

/// What is worst, for who reads one line. A bar would begin the perfdata.
fn worst(overview: &Overview) -> Option<String> {
    let health = overview.health();
    if health == Health::Ok {
        return None;
    }
    let standing = overview.standing.lines().into_iter().next();
    let worst = standing
        .filter(|_| overview.standing.health() == health)
        .or_else(|| {
            let of_row = |row: &Row| {
                let problem = row.problems.first()?;
                let text = format!("{}: {}", row.label(), problem.what);
                (problem.health == health).then_some(text)
            };
            overview.rows.iter().find_map(of_row)
        })
        .or_else(|| {
            let mut problems = overview.problems();
            let problem = problems.find(|problem| problem.health == health)?;
            Some(problem.what.clone())
        });
    worst.map(|text| text.replace(['|', '\n', '\r'], " "))
}

/// Numbers, as the plugins' guidelines have them: `'label'=value[unit];warn;critical;min`.
fn perfdata(host: &Host, overview: &Overview) -> String {
    let mut text = String::new();
    // A label ends with an equals sign, and a quote in it is doubled.
    let mut add = |label: String, value: String| {
        let label = label.replace('=', "_").replace('\'', "''");
        text.push_str(&format!(" '{label}'={value}"));
    };
    for row in &overview.rows {
        let label = row.label();
        if let Some(lag) = row.lag {
            let (warn, critical) = (row.limits.warn.as_secs(), row.limits.critical.as_secs());
            let value = format!("{}s;{warn};{critical};0", lag.as_secs());
            add(format!("{label}_lag"), value);
        }
        if let Some(success) = row.last_success {
            let age = overview.now.since(success).as_secs();
            add(format!("{label}_age"), format!("{age}s;;;0"));
        }
        let refusals = row.refused.len();
        add(format!("{label}_refusals"), format!("{refusals};0;;0"));
    }
    let status = &host.config.status;
    let (warn, critical) = (status.warn_free.bytes(), status.critical_free.bytes());
    for space in &overview.spaces {
        if let Some(used) = space.used {
            add(
                format!("{}_used", space.name),
                format!("{}B;;;0", used.bytes),
            );
        }
        if let Some(room) = space.room {
            let value = format!("{}B;{warn}:;{critical}:;0", room.free_bytes);
            add(format!("{}_free", space.name), value);
        }
    }
    text
}

fn line(row: &Row, role: Role) -> String {
    let none = || "none".to_owned();
    let verb = match role {
        Role::Active => "delivered",
        Role::Passive => "accepted",
    };
    let mut text = format!(
        "  {:<20} {verb} {}, applied {}, lag {}, last success {}{}\n",
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
        row.next_due
            .map_or_else(String::new, |time| format!(", next {time}")),
    );
    for problem in &row.problems {
        text.push_str(&told(problem, "    "));
    }
    text
}

fn told(problem: &Problem, indent: &str) -> String {
    let Problem {
        health, what, hint, ..
    } = problem;
    format!(
        "{indent}{}: {what}\n{indent}  hint: {hint}\n",
        health.word()
    )
}

fn space_line(space: &Space) -> String {
    let mib = |bytes: u64| format!("{} MiB", bytes.div_ceil(1 << 20));
    let used = space.used.map_or_else(
        || "unknown".to_owned(),
        |used| {
            let least = if used.is_whole { "" } else { "at least " };
            format!("{least}{}", mib(used.bytes))
        },
    );
    let free = space
        .room
        .map_or_else(|| "unknown".to_owned(), |room| mib(room.free_bytes));
    let mut text = format!(
        "  {:<20} used {used}, free {free}, {}\n",
        space.name,
        space.path.display()
    );
    if let Some(problem) = &space.problem {
        text.push_str(&told(problem, "    "));
    }
    text
}

fn row_json(row: &Row) -> Value {
    let seconds = |duration: std::time::Duration| duration.as_secs();
    json!({
        "dataset": row.dataset,
        "peer": row.peer,
        "received": row.received.map(|position| position.to_string()),
        "applied": row.applied.map(|position| position.to_string()),
        "lag_seconds": row.lag.map(seconds),
        "lag_warn_seconds": seconds(row.limits.warn),
        "lag_critical_seconds": seconds(row.limits.critical),
        "caught_up": row.caught_up,
        "last_success": row.last_success,
        "last_failure": row.last_failure.as_ref().map(|(time, reason)| json!({ "time": time, "reason": reason })),
        "failing_since": row.failing_since,
        "last_duration_seconds": row.last_duration.map(|took| took.as_secs_f64()),
        "generation_bytes": row.generation_bytes,
        "refused": row.refused,
        "next_due": row.next_due,
        "clock_skew_seconds": row.skew_seconds,
        "health": row.health.word(),
        "problems": row.problems.iter().map(problem_json).collect::<Vec<_>>(),
    })
}

fn problem_json(problem: &Problem) -> Value {
    json!({
        "kind": problem.kind,
        "health": problem.health,
        "what": problem.what,
        "hint": problem.hint,
    })
}

fn space_json(space: &Space) -> Value {
    json!({
        "name": space.name,
        "path": space.path,
        "used_bytes": space.used.map(|used| used.bytes),
        "used_is_whole": space.used.map(|used| used.is_whole),
        "free_bytes": space.room.map(|room| room.free_bytes),
        "free_inodes": space.room.map(|room| room.free_files),
        "problem": space.problem.as_ref().map(problem_json),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::overview::tests::{ailing, at, host, overview, row};

    #[test]
    fn a_status_tells_what_is_worst_first_and_what_to_do_about_each() {
        let dir = tempfile::tempdir().unwrap();
        let host = host(dir.path(), "");
        let mut nc = ailing(row("nc", Some("b.lab")), "failing", Health::Warning);
        nc.failing_since = Some(at(-60));
        let rows = vec![
            nc,
            ailing(row("ca", Some("b.lab")), "lag", Health::Critical),
            row("db:it's=1", Some("b.lab")),
        ];
        let overview = overview(rows);
        let report = report(&host, &overview);
        assert_eq!(report.code(), 2);
        insta::assert_snapshot!(report.text, @r"
        PEFO CRITICAL: ca@b.lab: the line   is down; a.lab is active in epoch 3 (held by a.lab since 2025-11-21T12:00:00Z), peer b.lab | 'nc@b.lab_lag'=7s;300;900;0 'nc@b.lab_age'=5s;;;0 'nc@b.lab_refusals'=0;0;;0 'ca@b.lab_lag'=7s;300;900;0 'ca@b.lab_age'=5s;;;0 'ca@b.lab_refusals'=0;0;;0 'db:it''s_1@b.lab_lag'=7s;300;900;0 'db:it''s_1@b.lab_age'=5s;;;0 'db:it''s_1@b.lab_refusals'=0;0;;0
          nc → b.lab           delivered 00000003-000000000003, applied 00000003-000000000003, lag 7 s, last success 2025-11-22T11:59:55Z, next 2025-11-22T12:01:00Z
            WARNING: the line | is down
              hint: mend it
          ca → b.lab           delivered 00000003-000000000003, applied 00000003-000000000003, lag 7 s, last success 2025-11-22T11:59:55Z, next 2025-11-22T12:01:00Z
            CRITICAL: the line | is down
              hint: mend it
          db:it's=1 → b.lab    delivered 00000003-000000000003, applied 00000003-000000000003, lag 7 s, last success 2025-11-22T11:59:55Z, next 2025-11-22T12:01:00Z
        ");
    }
}
