//! `pefo demote`: a master whose reign has ended becomes the spare of the one that reigns now.
//!
//! ```text
//! learn ─▶ stop ─▶ step down ─▶ compare ─▶ follow
//! ```
//!
//! *Learn*: who reigns, from the spool and from the peers; without a newer reign nothing is done. *Stop*: what signs
//! here. *Step down*: role and reign change by one rename, and from then on this host takes what the new active
//! sends. *Compare*: the first generation of each data set is compared with what this host had, before anything of
//! it is applied. *Follow*: it is applied, as on any spare.
//!
//! What it guarantees: nothing that this host had is lost silently. What it signed and revoked stays in its CA
//! until the new active has it; a classification and a database that are replaced are kept beside.

use std::time::Duration;

use pefo_core::generation::DataSet;
use pefo_core::reign::{Epoch, Reign, Role, Standing};
use pefo_core::{Error, ErrorKind, Result, record as stored};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::aftermath::{Event, tell_hooks, write_facts};
use super::returned::Found;
use super::{ask, fence, learn, lock, look, record, returned};
use crate::arguments::Change;
use crate::host::Host;
use crate::outcome::Report;
use crate::pipeline::apply;

/// How often it is looked whether something of the new active has come.
const LOOK: Duration = Duration::from_millis(200);

/// Steps down, or goes on with it, and waits as long as that for the new active's data.
///
/// # Errors
/// `Refused` (`still-reigning`) where no newer reign is known; `WrongRole` where this host is a spare that does
/// not return; `Locked`; what a step says.
pub fn run(host: &Host, wait: Duration, dry_run: bool) -> Result<Report> {
    if !dry_run {
        look(host)?;
    }
    let (station, reign) = host.station()?;
    if station.role == Role::Passive {
        if !dry_run {
            go_on(host, &reign)?;
        }
        if returned::awaited(host).is_empty() && returned::found(host)?.is_empty() {
            let message = format!("this host is the passive of {} already", reign.certname);
            return Err(Error::new(ErrorKind::WrongRole, message)
                .hint("'pefo status' shows role and reign"));
        }
        return followed(host, &reign, wait, dry_run);
    }
    let new = newer(host, dry_run)?;
    if dry_run {
        let text = format!(
            "would become the passive of {}, which reigns in epoch {} since {}; what this host did in epoch {} \
             that {} never saw would be told, and nothing of it lost\n",
            new.certname, new.epoch, new.since, reign.epoch, new.certname
        );
        return Ok(Report::ok(json!({ "reign": new }), text));
    }
    step_down(host, &reign, &new)?;
    followed(host, &new, wait, false)
}

/// The reign that ended this host's. Whoever only looks takes no notice of it.
fn newer(host: &Host, only_looks: bool) -> Result<Reign> {
    let (station, reign) = host.station()?;
    let mut known: Vec<Reign> = station
        .rival(&reign.site, &host.reign_keys()?)?
        .into_iter()
        .collect();
    for record in learn::noted(host)? {
        known.extend(learn::check(host, &record).ok());
    }
    for (peer, said) in ask::all(host)? {
        match said {
            Ok(said) => {
                if !only_looks {
                    learn::of(host, said.record.as_bytes())?;
                }
                known.push(said.reign);
            }
            Err(error) => {
                tracing::info!(%error, peer = %peer.certname, "it does not say who reigns");
            }
        }
    }
    let newest = known.into_iter().max_by_key(|known| known.epoch);
    let standing = |known: &Reign| reign.standing_of(known.epoch, &known.holder);
    match newest {
        Some(newest) if standing(&newest) == Standing::Newer => Ok(newest),
        Some(newest) if standing(&newest) == Standing::Split => {
            // Which of the two is to stay is not for either to say.
            Err(newest
                .admit(reign.epoch, &reign.holder)
                .err()
                .unwrap_or_else(|| Error::invalid("a rival that is none")))
        }
        _ => Err(Error::refused(
            "still-reigning",
            format!("no reign newer than this host's, epoch {}, is known", reign.epoch),
        )
        .hint("to hand over to the spare run 'pefo switchover'; 'pefo demote' is for a master that was replaced")),
    }
}

/// What is left to do of a change whose station stands already: a crash in between loses none of it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SteppingDown {
    /// Version of this record's schema: 1.
    format: u32,
    /// The reign under which this host is the passive.
    under: Epoch,
}

const STEPPING_DOWN: &str = "stepping-down";

fn go_on(host: &Host, reign: &Reign) -> Result<()> {
    let path = record(host, STEPPING_DOWN);
    match stored::load::<SteppingDown>(&path)? {
        Some(left) if left.under == reign.epoch => {
            stepped_down(host, reign)?;
            host.disk.remove_file(&path)
        }
        _ => Ok(()),
    }
}

fn step_down(host: &Host, old: &Reign, new: &Reign) -> Result<()> {
    let _lock = lock(host)?;
    fence::carry_out(host, new)?;
    returned::expect(host, &host.datasets(), old.epoch)?;
    let (station, _) = host.station()?;
    let Some(rival) = &station.rival else {
        return Err(Error::new(
            ErrorKind::Locked,
            "another run has just changed this host's role",
        ));
    };
    let left = SteppingDown {
        format: 1,
        under: new.epoch,
    };
    host.store_json(&record(host, STEPPING_DOWN), &left, 0o600)?;
    station
        .under(Role::Passive, rival.as_bytes())?
        .store(&host.disk, &host.station_path())?;
    go_on(host, new)
}

/// What follows once this host is the passive.
///
/// # Errors
/// `Io`, `Child`.
pub(super) fn stepped_down(host: &Host, new: &Reign) -> Result<()> {
    write_facts(host, Role::Passive)?;
    tell_hooks(host, Event::Demoted, new)
}

/// Follows the new active, and tells what was found.
fn followed(host: &Host, new: &Reign, wait: Duration, dry_run: bool) -> Result<Report> {
    let begun = host.clock.monotonic();
    let mut last: Option<Error> = None;
    while !dry_run && !returned::awaited(host).is_empty() {
        for dataset in returned::awaited(host) {
            match apply::take(host, &dataset, &Change::default()) {
                Ok(report) => last = report.errors.into_iter().next().or(last),
                // It has not come yet, or a watch does it just now.
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Locked) => {}
                // What lies there is of a reign that has ended. This host's own has not: that is told.
                Err(error)
                    if error.kind() == ErrorKind::Fenced && host.require(Role::Passive).is_ok() =>
                {
                    tracing::info!(%error, %dataset, "passed over");
                }
                Err(error) => last = Some(error.context(&dataset)),
            }
        }
        if host.clock.monotonic().saturating_sub(begun) >= wait {
            break;
        }
        host.clock.wait(LOOK);
    }
    let (found, awaited) = (returned::found(host)?, returned::awaited(host));
    let mut text = format!(
        "{} is the passive of {}, which reigns in epoch {}\n",
        host.config.site.certname, new.certname, new.epoch
    );
    for found in &found {
        text.push_str(&told(found, new.certname.as_str()));
    }
    let mut errors: Vec<Error> = last.into_iter().collect();
    for dataset in &awaited {
        text.push_str(&format!(
            "  {dataset}: nothing of the new active has come yet\n"
        ));
    }
    if !awaited.is_empty() {
        let names: Vec<String> = awaited.iter().map(ToString::to_string).collect();
        errors.push(
            Error::new(ErrorKind::Partial, format!("still to come: {}", names.join(", "))).hint(
                format!(
                    "they come with the next 'pefo push' on {}; run 'pefo demote' again to see what was found",
                    new.certname
                ),
            ),
        );
    }
    let details = json!({ "reign": new, "found": found, "awaited": awaited });
    Ok(Report::ok(details, text).partial(errors))
}

fn told(found: &Found, active: &str) -> String {
    let mut text = format!(
        "  {}: {} what this host had at the end of epoch {}, against {}\n",
        found.dataset,
        if found.differs { "differs from" } else { "is" },
        found.reigned,
        found.generation
    );
    if !found.differs {
        return text;
    }
    for line in found.text.lines() {
        text.push_str(&format!("    {line}\n"));
    }
    text.push_str(&match &found.dataset {
        DataSet::Ca => format!(
            "    to bring it over: 'pefo ca merge' on {active}\n"
        ),
        DataSet::Classifier => "    what this host's classifier held is kept: 'pefo nc rollback' brings it back here\n".to_owned(),
        DataSet::Files => "    each file that is replaced is kept below backups/files in this host's state directory\n".to_owned(),
        DataSet::Database(_) => "    what this host's database held is kept beside the new one: 'pefo db rollback' brings it back here\n".to_owned(),
        DataSet::Code => "    nothing of it is lost: it comes from the control repository ('pefo code deploy' here)\n".to_owned(),
    });
    text
}
