//! `pefo code status`: do both masters have the same code deployed? Answers as a monitoring plugin does.
//!
//! On the passive with what the active has sent last; on the active with what each peer's root says, signed, that
//! is deployed there now.

use std::time::Duration;

use pefo_core::generation::DataSet;
use pefo_core::pairing::Introduction;
use pefo_core::record;
use pefo_core::request::{Outcome, Subject};
use pefo_core::{Error, RelPath, Result};
use serde_json::json;

use super::{Compared, FILE, compared};
use crate::code::{Deployed, Drift, compare, read};
use crate::host::Host;
use crate::outcome::{Health, Report};
use crate::pipeline::apply::{CaughtUp, caught_up_path};
use crate::pipeline::question;

/// On the passive.
///
/// # Errors
/// As [`compared`](super::compared).
pub fn on_passive(host: &Host) -> Result<Report> {
    read::settings(host)?;
    let compared = compared(host)?;
    let now = host.clock.now();
    // An active that has nothing new to tell still says so, by its heartbeats.
    let confirmed: Option<CaughtUp> = record::load(&caught_up_path(host, &DataSet::Code))?;
    let since = confirmed.map_or(compared.of.made, |confirmed| confirmed.at);
    let lag = now.since(since).as_secs();
    let Compared {
        of,
        source,
        environments,
        drift,
    } = compared;
    let mut text = format!(
        "{}, by what it sent {} ago | 'drift'={} 'environments'={environments} 'lag'={lag}s\n",
        head(&drift, environments, &format!("from {source}")),
        ago(lag),
        drift.len()
    );
    for drift in &drift {
        text.push_str(&format!("  {}\n", drift.told(&source)));
    }
    let health = health(&drift);
    let details = json!({
        "generation": of.generation,
        "source": source,
        "lag_seconds": lag,
        "environments": environments,
        "drift": drift,
    });
    Ok(Report::ok(details, text)
        .health(health)
        .about(DataSet::Code))
}

/// On the active.
///
/// # Errors
/// What keeps this host's code from being read; what a peer says is in the report.
pub fn on_active(host: &Host, timeout: Duration) -> Result<Report> {
    let here = read::deployed(host)?;
    let peers = host.peers()?;
    let (mut text, mut details, mut errors) = (String::new(), Vec::new(), Vec::new());
    let (mut all, mut heard) = (Vec::new(), 0);
    for peer in &peers {
        match ask(host, peer, timeout) {
            Ok(there) => {
                heard += 1;
                let drift = compare(&here, &there);
                for drift in &drift {
                    text.push_str(&format!("  {}\n", drift.told(&peer.certname)));
                }
                details.push(json!({ "peer": peer.certname, "drift": drift }));
                all.extend(drift);
            }
            Err(error) => errors.push(error.context(&peer.certname)),
        }
    }
    let count = here.environments.len();
    let mut worst = health(&all);
    if !errors.is_empty() {
        worst = worst.max(Health::Unknown);
    }
    let what = match all.as_slice() {
        [] => format!("{count} environments are the same"),
        all => format!("{} of {count} environments drift", all.len()),
    };
    let first = format!(
        "PEFO {}: {what} on {heard} of {} peers | 'drift'={} 'environments'={count}\n",
        worst.word(),
        peers.len(),
        all.len(),
    );
    let details = json!({ "environments": count, "peers": details });
    let report = Report::asked(details, first + &text, errors, heard > 0);
    Ok(report.health(worst).about(DataSet::Code))
}

fn health(drift: &[Drift]) -> Health {
    match drift {
        [] => Health::Ok,
        _ => Health::Warning,
    }
}

fn head(drift: &[Drift], environments: usize, whom: &str) -> String {
    let word = health(drift).word();
    match drift.len() {
        0 => format!("PEFO {word}: {environments} environments, none of which drifts {whom}"),
        count => format!("PEFO {word}: {count} of {environments} environments drift {whom}"),
    }
}

/// As people count it.
fn ago(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// Asks a peer's root what is deployed there.
fn ask(host: &Host, peer: &Introduction, timeout: Duration) -> Result<Deployed> {
    let dataset = DataSet::Code;
    match question::ask(host, peer, Subject::Bring { dataset }, timeout)? {
        Outcome::Brought(brought) => {
            let file = brought.files.get(&RelPath::new(FILE)?);
            let file =
                file.ok_or_else(|| Error::invalid("its root did not say what is deployed"))?;
            Deployed::parse(&file.bytes)
        }
        _ => Err(question::other_answer()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_told_as_people_count_them() {
        let told = [0, 119, 120, 7199, 7200, 172_799, 172_800].map(ago);
        assert_eq!(
            told,
            ["0 s", "119 s", "2 min", "119 min", "2 h", "47 h", "2 days"]
        );
    }
}
