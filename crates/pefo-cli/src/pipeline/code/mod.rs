//! Code: what is deployed on the active crosses as a small document, and the passive tells what it has otherwise.
//!
//! Applying it is receiving it: drift is no fault of the transfer, and keeps nothing from counting as applied.
//! [`follow`] then compares, deploys what has drifted where `code.deploy = "on-drift"`, and keeps what it found
//! for `pefo status`. A change of role never deploys: it is not to wait for a control repository.

mod status;

use std::collections::BTreeMap;
use std::path::PathBuf;

use pefo_core::clock::Timestamp;
use pefo_core::disk::read_capped;
use pefo_core::generation::outgoing::{Description, Item};
use pefo_core::generation::{Accepted, DataSet, Position, Verified};
use pefo_core::request::BroughtFile;
use pefo_core::sealing::Recipient;
use pefo_core::{Certname, Digest, Error, ErrorKind, RelPath, Result, record};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::apply::{Applied, Passive};
use super::drill::{Found, Subject, Tried};
use super::push::Collected;
use crate::code::{Deployed, Drift, EnvironmentName, compare, deploy, read};
use crate::config::DeployCode;
use crate::host::Host;
use crate::outcome::Report;

pub use status::{on_active, on_passive};

const FILE: &str = "deployed.json";

/// What is deployed on the active as a generation's items, sealed: names of files are nobody else's business.
///
/// # Errors
/// `Config` where there is no directory of environments; what keeps it from being read.
pub fn collect(host: &Host, recipients: &[Recipient]) -> Result<Collected> {
    let dir = read::directory(host)?;
    if !dir.is_dir() {
        let message = format!("{} is no directory", dir.display());
        return Err(Error::new(ErrorKind::Config, message)
            .hint("set environments in the [code] section, or deploy first: 'pefo code deploy'"));
    }
    let deployed = read::deployed(host)?;
    let bytes = deployed.to_bytes()?;
    let count = deployed.environments.len();
    Ok(Collected {
        meaning: Digest::of(&bytes),
        items: vec![Item::sealed(
            RelPath::new(FILE)?,
            0o600,
            &bytes,
            recipients,
        )?],
        description: Description {
            products: BTreeMap::new(),
            time: host.clock.now(),
            summary: json!({ "environments": count }),
        },
        text: format!("what is deployed in {count} environments"),
    })
}

fn received(verified: &Verified) -> Result<Deployed> {
    let path = verified.files()?.join(FILE);
    Deployed::parse(&read_capped(&path, Deployed::MAX_BYTES)?)
}

/// Takes what the active has deployed, or shows what has drifted from it.
///
/// # Errors
/// `Invalid` where it is malformed; what keeps this host's code from being read where it is to be shown.
pub fn apply(host: &Host, verified: &Verified, show_only: bool) -> Result<Applied> {
    let there = received(verified)?;
    let mut applied = Applied {
        details: json!({ "environments": there.environments.len() }),
        text: String::new(),
        errors: Vec::new(),
        changed: true,
    };
    if show_only {
        let drift = compare(&read::deployed(host)?, &there);
        applied.text = lines(&drift, &verified.manifest().source);
        applied.changed = !drift.is_empty();
        applied.details = value(&drift)?;
        return Ok(applied);
    }
    let accepted = Accepted::load(&host.record_path("accepted", &DataSet::Code))?;
    let before = accepted.and_then(|accepted| accepted.applied);
    applied.changed = before != Some(verified.position());
    Ok(applied)
}

/// This host's code beside what the active had when it sent last.
pub struct Compared {
    /// The generation.
    pub of: Subject,
    /// Whose it is.
    pub source: Certname,
    /// How many environments the two have.
    pub environments: usize,
    /// Those that are not the same.
    pub drift: Vec<Drift>,
}

/// Compares what is deployed here with what was accepted last.
///
/// # Errors
/// `WrongRole` on the active; `NotFound` where nothing was accepted yet; what the gate says of root's copy; what keeps this host's code from
/// being read.
pub fn compared(host: &Host) -> Result<Compared> {
    let dataset = DataSet::Code;
    let passive = Passive::open(host)?;
    let accepted = Accepted::load(&host.record_path("accepted", &dataset))?;
    let accepted = accepted.ok_or_else(|| {
        Error::new(ErrorKind::NotFound, "code: nothing was accepted yet")
            .hint("run 'pefo push code' on the active and 'pefo apply code' here")
    })?;
    let taken = passive.accepted(&dataset, &accepted)?;
    let there = received(taken.full())?;
    let here = read::deployed(host)?;
    let drift = compare(&here, &there);
    let only_there = drift
        .iter()
        .filter(|it| !here.environments.contains_key(&it.environment));
    Ok(Compared {
        of: Subject::of(taken.full()),
        source: taken.full().manifest().source.clone(),
        environments: here.environments.len() + only_there.count(),
        drift,
    })
}

/// What follows once the passive has what the active has deployed.
pub fn follow(host: &Host, mut report: Report) -> Report {
    let followed = compared(host).and_then(|compared| {
        note(host, &compared)?;
        let names: Vec<EnvironmentName> = compared
            .drift
            .iter()
            .filter(|drift| drift.can_be_deployed())
            .map(|drift| drift.environment.clone())
            .collect();
        let mode = read::settings(host)?.deploy;
        if mode == DeployCode::Never || names.is_empty() {
            return Ok((compared, None));
        }
        let deployed = deploy::deploy(host, &names, false);
        let compared = self::compared(host)?;
        note(host, &compared)?;
        Ok((compared, Some(deployed)))
    });
    let (compared, deployed) = match followed {
        Ok(followed) => followed,
        Err(error) => return report.partial(vec![error.context("compare what is deployed")]),
    };
    let mut errors = Vec::new();
    let deployment = match deployed {
        None => Value::Null,
        Some(Ok(deployed)) => {
            let lines = deployed.text.lines();
            let lines = lines.map(|line| format!("  deployed {line}\n"));
            report.text.extend(lines);
            errors.extend(deployed.errors);
            deployed.details
        }
        Some(Err(error)) => {
            errors.push(error.context("deploy what has drifted"));
            Value::Null
        }
    };
    let told = lines(&compared.drift, &compared.source);
    report
        .text
        .extend(told.lines().map(|line| format!("  {line}\n")));
    if let Some(details) = report.details.as_object_mut() {
        details.insert("drift".to_owned(), json!(compared.drift));
        details.insert("deployment".to_owned(), deployment);
    }
    report.partial(errors)
}

fn lines(drift: &[Drift], source: &Certname) -> String {
    if drift.is_empty() {
        return format!("in step with {source}\n");
    }
    let lines = drift
        .iter()
        .map(|drift| format!("drift: {}\n", drift.told(source)));
    lines.collect()
}

/// What the last comparison on the passive found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Noted {
    /// Version of this record's schema: 1.
    format: u32,
    /// When.
    pub time: Timestamp,
    /// With which generation it was compared.
    pub generation: Position,
    /// The environments that were not the same.
    pub drifted: Vec<EnvironmentName>,
}

fn noted_path(host: &Host) -> PathBuf {
    host.state("accepted").join("code.drift.json")
}

/// What the last comparison found, where there was one.
///
/// # Errors
/// `Io`, or `Invalid` where the record is malformed.
pub fn noted(host: &Host) -> Result<Option<Noted>> {
    record::load(&noted_path(host))
}

fn note(host: &Host, compared: &Compared) -> Result<()> {
    let noted = Noted {
        format: 1,
        time: host.clock.now(),
        generation: compared.of.generation,
        drifted: compared
            .drift
            .iter()
            .map(|it| it.environment.clone())
            .collect(),
    };
    host.store_json(&noted_path(host), &noted, 0o600)
}

/// Compares anew after a deployment by hand, where this host is a passive that has received something, so that
/// `pefo status` does not tell drift that is over.
pub fn look_again(host: &Host) {
    let looked = compared(host).and_then(|compared| note(host, &compared));
    if let Err(error) = looked {
        tracing::debug!(%error, "what is deployed is not compared");
    }
}

/// The part of a drill: what this host would serve that the active does not.
///
/// # Errors
/// As [`compared`].
pub fn try_out(host: &Host) -> Result<Tried> {
    let compared = compared(host)?;
    let details = json!({ "environments": compared.environments, "drift": compared.drift });
    let mut text = format!(
        "{} of {} environments drift\n",
        compared.drift.len(),
        compared.environments
    );
    for drift in &compared.drift {
        text.push_str(&format!("  {}\n", drift.told(&compared.source)));
    }
    Ok(Tried {
        of: compared.of,
        found: Ok(Found { details, text }),
    })
}

/// Whether this host has anything else deployed than a generation tells of, and what.
///
/// # Errors
/// What keeps either from being read.
pub fn differences(host: &Host, verified: &Verified) -> Result<(bool, String)> {
    let drift = compare(&read::deployed(host)?, &received(verified)?);
    let text = lines(&drift, &verified.manifest().source);
    Ok((!drift.is_empty(), text))
}

/// What is deployed here, for the active that asks: names of files are left out, since an answer is readable
/// for everybody on its way.
///
/// # Errors
/// What keeps it from being read.
pub fn brought(host: &Host) -> Result<BTreeMap<RelPath, BroughtFile>> {
    let bytes = read::deployed(host)?.without_parts().to_bytes()?;
    Ok(BTreeMap::from([(
        RelPath::new(FILE)?,
        BroughtFile { mode: 0o600, bytes },
    )]))
}

fn value(drift: &[Drift]) -> Result<Value> {
    serde_json::to_value(drift)
        .map_err(|error| Error::invalid(format!("write the comparison: {error}")))
}
