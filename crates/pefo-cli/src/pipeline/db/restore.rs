//! The passive's half: prepare → stop → swap → start → ask, and back where the answer is bad.
//!
//! Nothing is stopped before a shadow stands verified. What was begun is written down before the first
//! service is stopped: whoever is killed in between leaves a note, and the next run starts the services,
//! asks them, and keeps or takes back what was swapped in.

use std::path::{Path, PathBuf};

use pefo_core::generation::verify::stored_dir;
use pefo_core::generation::{Accepted, DataSet, Verified, spool};
use pefo_core::reign::Role;
use pefo_core::{Error, ErrorKind, Result, record};
use pefo_db::{DumpManifest, Prepared, RestoreOutcome, RestoreReport, SwapReport};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::lent;
use super::stage::{Dumped, Preparation, Stage, Stands, answered, perform};
use crate::arguments::Change;
use crate::host::Host;
use crate::outcome::Report;
use crate::pipeline::apply::Applied;
use crate::pipeline::services::{Bounced, Services};
use crate::pipeline::{ack, rollback};

/// What is going on while services are stopped.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Bounce {
    /// Version of this record's schema: 1.
    format: u32,
    /// What is being swapped in; nothing for a rollback.
    prepared: Option<Prepared>,
}

impl Bounce {
    fn path(host: &Host, name: &str) -> PathBuf {
        host.record_path("bouncing", &DataSet::Database(name.to_owned()))
    }

    /// Written down before the first service is stopped; nothing where none is.
    fn note(host: &Host, name: &str, prepared: Option<&Prepared>) -> Result<()> {
        if host.config.services.is_empty() {
            return Ok(());
        }
        let bounce = Self {
            format: 1,
            prepared: prepared.cloned(),
        };
        host.store_json(&Self::path(host, name), &bounce, 0o600)
    }

    fn over(host: &Host, name: &str) -> Result<()> {
        host.disk.remove_file(&Self::path(host, name))
    }
}

/// Restores a verified generation, or shows the plan.
///
/// # Errors
/// What the server, pg_restore, a gate or a service says; the live database is then what it was.
pub fn apply(
    host: &Host,
    name: &str,
    verified: &Verified,
    change: &Change,
    show_only: bool,
) -> Result<Applied> {
    let stands = Stands::of(host, verified)?;
    let dumped = |dir: &Path| Dumped {
        name: name.to_owned(),
        dir: dir.to_owned(),
        accept: change.accept.clone(),
        stands,
    };
    if show_only {
        let details = lent(host, verified, "show", |dir| {
            perform(host, Stage::Plan(dumped(dir)))
        })?;
        let list = |key: &str| details.get(key).and_then(Value::as_array);
        let lines = [list("steps"), list("notes")]
            .into_iter()
            .flatten()
            .flatten();
        let text = lines
            .filter_map(Value::as_str)
            .map(|line| format!("{line}\n"))
            .collect();
        return Ok(Applied {
            text,
            details,
            errors: Vec::new(),
            changed: true,
        });
    }
    let prepared = lent(host, verified, "restore", |dir| {
        answered(perform(host, Stage::Prepare(dumped(dir)))?)
    })?;
    let (report, bounced) = match prepared {
        Preparation::Unchanged(report) => (*report, None),
        Preparation::Ready(prepared) => swap_in(host, name, *prepared)?,
    };
    Ok(told(&report, bounced.as_ref()))
}

impl Stands {
    /// What is known of it by what this host has applied.
    fn of(host: &Host, verified: &Verified) -> Result<Self> {
        let dataset = &verified.manifest().dataset;
        let accepted = Accepted::load(&host.record_path("accepted", dataset))?;
        let Some(applied) = accepted.and_then(|accepted| accepted.applied) else {
            return Ok(Self::Unknown);
        };
        if applied == verified.position() {
            return Ok(Self::WasRestored);
        }
        // Root's own copy of what was applied last; where that is gone, the live database tells.
        let before = stored_dir(&host.store(dataset), applied).join(spool::DATA);
        let Ok(before) = DumpManifest::read(&before) else {
            return Ok(Self::Unknown);
        };
        let now = DumpManifest::read(verified.files()?)?;
        Ok(if before.content()? == now.content()? {
            Self::Unknown
        } else {
            Self::Differs
        })
    }
}

fn told(report: &RestoreReport, bounced: Option<&Bounced>) -> Applied {
    let mut text = format!(
        "restored {} tables with {} rows",
        report.tables, report.rows
    );
    if report.counted_only > 0 {
        text.push_str(&format!(", {} of them only counted", report.counted_only));
    }
    if let Some(swap) = &report.swap {
        text.push_str(&format!(", unreachable for {} ms", swap.unreachable_ms));
    }
    text.push('\n');
    text.extend(bounced.map(bounced_line));
    text.extend(report.notes.iter().map(|note| format!("{note}\n")));
    let mut details = json!(report);
    if let Some(details) = details.as_object_mut() {
        details.insert("services".to_owned(), json!(bounced));
    }
    Applied {
        details,
        text,
        errors: Vec::new(),
        changed: report.outcome != RestoreOutcome::Unchanged,
    }
}

fn bounced_line(bounced: &Bounced) -> String {
    let names = bounced.services.join(", ");
    let well = bounced.well_after_ms;
    let well = well
        .map(|ms| format!(", well {ms} ms after"))
        .unwrap_or_default();
    format!("stopped for {} ms{well}: {names}\n", bounced.down_ms)
}

fn swap_in(
    host: &Host,
    name: &str,
    mut prepared: Prepared,
) -> Result<(RestoreReport, Option<Bounced>)> {
    let services = Services::of(host);
    if !services.is_empty() {
        // The way back, until they are well; a run that finds nothing to do drops what is kept too long.
        prepared.keep_previous = prepared.keep_previous.max(1);
    }
    Bounce::note(host, name, Some(&prepared))?;
    let swapped = services.around(|| answered(perform(host, Stage::SwapIn(prepared.clone()))?));
    let (report, bounced) = match swapped {
        Ok(swapped) => swapped,
        Err(error) => {
            if error.kind() == ErrorKind::Unknown {
                // Whether it was swapped in is for the next run to find out.
                return Err(error);
            }
            if let Err(left) = perform(host, Stage::Discard(prepared)) {
                tracing::warn!(%left, "the shadow is left for the next run to drop");
            }
            Bounce::over(host, name)?;
            return Err(error);
        }
    };
    let kept = match bounced {
        Ok(bounced) => Ok((report, bounced)),
        Err(why) => Err(take_back(host, &services, prepared, &why)),
    };
    Bounce::over(host, name)?;
    kept
}

/// Puts the database of before back, since the services are not well with the new one; says what came of it.
fn take_back(host: &Host, services: &Services, prepared: Prepared, why: &Error) -> Error {
    let database = prepared.database.clone();
    let back = services.around(|| perform(host, Stage::SwapBack(prepared)));
    let (now, hint) = match back {
        Ok((_, Ok(_))) => (
            "the database of before is back, and with it they are well".to_owned(),
            "what was restored was dropped; 'pefo db drill' restores it once more beside the live one",
        ),
        Ok((_, Err(still))) => (
            format!(
                "the database of before is back, and they are not well with it either: {still}"
            ),
            "look at the services themselves: the database is the one they had",
        ),
        Err(error) => (
            format!("the database of before could not be put back: {error}"),
            "'pefo db list' shows what is kept, 'pefo db rollback' brings the newest back",
        ),
    };
    let message =
        format!("{database} was swapped in, and the services were not well: {why}; {now}");
    Error::refused("db-probe", message).hint(hint)
}

/// Ends what a killed run has left while services were stopped. The caller holds the data set's lock.
///
/// # Errors
/// `Io`; `Child` where services do not start; `Refused` (`db-probe`) where they are not well.
pub fn finish_interrupted(host: &Host, name: &str) -> Result<()> {
    let Some(bounce) = record::load::<Bounce>(&Bounce::path(host, name))? else {
        return Ok(());
    };
    tracing::warn!(
        database = name,
        "a run was interrupted while services were stopped; starting them"
    );
    let services = Services::of(host);
    let well = services.start().and_then(|()| services.probe());
    if let Err(why) = well {
        let Some(prepared) = bounce.prepared else {
            return Err(why.hint(
                "a rollback was interrupted; 'pefo db list' shows what is live and what is kept",
            ));
        };
        let is_in: bool = answered(perform(host, Stage::IsSwappedIn(prepared.clone()))?)?;
        if !is_in {
            return Err(why.hint(
                "a restore was interrupted before its swap: the database is the one they had",
            ));
        }
        let error = take_back(host, &services, prepared, &why);
        Bounce::over(host, name)?;
        return Err(error);
    }
    Bounce::over(host, name)
}

/// Brings the newest kept database back, or shows which that is.
///
/// # Errors
/// `WrongRole` on the active, `Locked`, `NotFound` where none is kept, `Refused` (`db-in-use`, `db-probe`).
pub fn rollback(host: &Host, name: &str, dry_run: bool) -> Result<Report> {
    host.require(Role::Passive)?;
    let dataset = DataSet::Database(name.to_owned());
    let _lock = host.lock(&format!("apply-{}", dataset.dir_name()))?;
    let stage = || Stage::Rollback {
        name: name.to_owned(),
    };
    if dry_run {
        let kept: Vec<String> = answered(perform(
            host,
            Stage::Kept {
                name: name.to_owned(),
            },
        )?)?;
        let Some(newest) = kept.first() else {
            let message = format!("no previous database of {name} is kept");
            return Err(Error::new(ErrorKind::NotFound, message)
                .hint("[database] keep_previous says how many are kept at a restore"));
        };
        let text = format!("{dataset}: would bring {newest} back and keep the live one in turn\n");
        return Ok(Report::ok(json!({ "kept": kept }), text));
    }
    finish_interrupted(host, name)?;
    let was_held = rollback::check(host, &dataset).is_err();
    // First: a crash in between leaves a host that waits for its operator, not one that goes on.
    rollback::hold(host, &dataset, "a previous database".to_owned())?;
    let services = Services::of(host);
    Bounce::note(host, name, None)?;
    let swapped = services.around(|| answered::<SwapReport>(perform(host, stage())?));
    let (swap, bounced) = match swapped {
        Ok(swapped) => swapped,
        Err(error) => {
            if error.kind() != ErrorKind::Unknown {
                Bounce::over(host, name)?;
                if !was_held {
                    rollback::lift(host, &dataset)?;
                }
            }
            return Err(error);
        }
    };
    Bounce::over(host, name)?;
    let mut told = format!("{dataset}: {} is live again", swap.from);
    if let Some(kept) = &swap.kept {
        told.push_str(&format!(", the one before is kept as {kept}"));
    }
    told.push_str(
        "; nothing of the active is restored until 'pefo db restore --accept rolled-back'\n",
    );
    ack::publish(host, &dataset, None, vec![rollback::ROLLED_BACK.to_owned()])?;
    let (bounced, errors) = match bounced {
        Ok(bounced) => (bounced, Vec::new()),
        Err(error) => (
            None,
            vec![error.hint("the database was rolled back; a second 'pefo db rollback' undoes it")],
        ),
    };
    told.extend(bounced.as_ref().map(bounced_line));
    let details = json!({ "swap": swap, "services": bounced });
    Ok(Report::ok(details, told).partial(errors))
}
