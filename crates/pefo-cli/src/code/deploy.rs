//! A deployment on this master, judged by what stands there afterwards and not by the manager's word alone.

use std::collections::{BTreeMap, BTreeSet};

use pefo_core::digest_cache::Identity;
use pefo_core::{Error, ErrorKind, Result};
use serde_json::{Value, json};

use super::manager::{Manager, Ran};
use super::record::R10K;
use super::{Deployed, Environment, EnvironmentName, read};
use crate::config::CodeManager;
use crate::host::Host;
use crate::outcome::Report;

/// What was there on one side of a deployment.
struct Side {
    deployed: Deployed,
    /// r10k's record of each environment, by what identifies the file: r10k writes it anew each time.
    stamps: BTreeMap<EnvironmentName, Identity>,
}

impl Side {
    fn read(host: &Host) -> Result<Self> {
        let mut stamps = BTreeMap::new();
        for (name, dir) in read::environments(host)? {
            if let Ok(meta) = std::fs::metadata(dir.join(R10K)) {
                stamps.insert(name, Identity::from(&meta));
            }
        }
        Ok(Self {
            deployed: read::deployed(host)?,
            stamps,
        })
    }
}

/// What became of one environment.
struct Became<'a> {
    name: &'a EnvironmentName,
    before: Option<&'a Environment>,
    after: Option<&'a Environment>,
    /// The manager, or what stands there, says that it was deployed, though it may be the same as before.
    is_proved: bool,
    failed: Option<Error>,
}

/// Deploys these environments, all of them where none is named, or shows what would be run.
///
/// # Errors
/// `Config`, `Locked` where another deployment of pefo's runs; what keeps the manager from being run at all. What
/// it fails at is in the report: partly done where some was deployed, failed where nothing was.
pub fn deploy(host: &Host, names: &[EnvironmentName], dry_run: bool) -> Result<Report> {
    let manager = Manager::of(host)?;
    let steps = manager.steps(names)?;
    let lines: Vec<String> = steps.iter().map(|step| step.invocation.line()).collect();
    if dry_run {
        let text = lines.iter().map(|line| format!("would run: {line}\n"));
        let text = text.collect::<String>();
        return Ok(Report::ok(json!({ "would_run": lines }), text));
    }
    let _lock = host.lock("code-deploy")?;
    let before = Side::read(host)?;
    let ran = manager.run(&steps)?;
    let after = Side::read(host)?;
    Ok(judge(manager.kind(), names, ran, &before, &after))
}

fn judge(
    kind: CodeManager,
    names: &[EnvironmentName],
    mut ran: Ran,
    before: &Side,
    after: &Side,
) -> Report {
    let here: BTreeSet<&EnvironmentName> = match names {
        [] => before
            .deployed
            .environments
            .keys()
            .chain(after.deployed.environments.keys())
            .collect(),
        names => names.iter().collect(),
    };
    // What was to be deployed and never came to be has no directory.
    let nowhere: Vec<EnvironmentName> = ran
        .failed
        .keys()
        .chain(ran.claims.keys())
        .filter(|name| !here.contains(name))
        .cloned()
        .collect();
    let all = here.into_iter().chain(&nowhere).collect::<BTreeSet<_>>();
    let became: Vec<Became<'_>> = all
        .into_iter()
        .map(|name| {
            let after_it = after.deployed.environments.get(name);
            let failed = ran.failed.remove(name).or_else(|| {
                let is_named = names.contains(name);
                match kind {
                    CodeManager::R10k => left_by_r10k(name, is_named, &ran, before, after),
                    _ => ran
                        .claims
                        .get(name)
                        .and_then(|claim| belied(claim.as_ref()?, after_it)),
                }
            });
            Became {
                name,
                before: before.deployed.environments.get(name),
                after: after_it,
                is_proved: ran.claims.contains_key(name) || is_renewed(name, before, after),
                failed,
            }
        })
        .collect();
    told(kind, became, ran.stopped)
}

/// Whether r10k, alone or within Code Manager, has written its record anew.
fn is_renewed(name: &EnvironmentName, before: &Side, after: &Side) -> bool {
    let stamp = after.stamps.get(name);
    stamp.is_some() && stamp != before.stamps.get(name)
}

/// r10k tells no environment from another by its exit code: what it has finished has a new record.
fn left_by_r10k(
    name: &EnvironmentName,
    is_named: bool,
    ran: &Ran,
    before: &Side,
    after: &Side,
) -> Option<Error> {
    let is_unfinished =
        (after.deployed.environments.get(name)).is_some_and(|environment| environment.unfinished);
    let is_its_own = is_named || after.stamps.contains_key(name);
    let why = if is_unfinished && is_its_own {
        "its deployment did not end well"
    } else if is_renewed(name, before, after) || !is_its_own {
        return None;
    } else if ran.stopped.is_some() {
        "it was not deployed"
    } else if is_named {
        "r10k ended well and has not deployed it"
    } else {
        // No source has it any more, and r10k is not told to remove such.
        return None;
    };
    Some(Error::new(ErrorKind::Child, why))
}

/// What was claimed and does not stand here.
fn belied(claim: &super::Label, after: Option<&Environment>) -> Option<Error> {
    let found = after.map(|environment| environment.revision.as_ref());
    let what = match found {
        Some(Some(revision)) if revision == claim => return None,
        // Nothing to hold against the claim.
        Some(None) => return None,
        Some(Some(revision)) => format!("here is {}", revision.short()),
        None => "it is not here".to_owned(),
    };
    let message = format!(
        "Code Manager says that {} is deployed, and {what}",
        claim.short()
    );
    Some(Error::new(ErrorKind::Child, message).hint(
        "is environments in the [code] section the live directory, and has file sync reached it?",
    ))
}

fn told(kind: CodeManager, became: Vec<Became<'_>>, stopped: Option<Error>) -> Report {
    let (mut text, mut details) = (String::new(), Vec::new());
    let (mut changed, mut succeeded) = (false, false);
    let is_stopped = stopped.is_some();
    let mut errors: Vec<Error> = stopped.into_iter().collect();
    for Became {
        name,
        before,
        after,
        is_proved,
        failed,
    } in became
    {
        let is_same = same(before, after);
        changed |= !is_same;
        let what = match (&failed, before, after) {
            (Some(error), ..) => format!("FAILED: {error}"),
            (None, before, Some(after)) => match (before, is_same) {
                (None, _) => format!("new, {}", at(after)),
                (Some(_), true) => format!("unchanged, {}", at(after)),
                (Some(before), false) if at(before) == at(after) => {
                    format!("{}, with other files or modules than before", at(after))
                }
                (Some(before), false) => format!("{} → {}", at(before), at(after)),
            },
            (None, _, None) => "gone".to_owned(),
        };
        succeeded |= failed.is_none() && (is_proved || !is_same || !is_stopped);
        text.push_str(&format!("{name}: {what}\n"));
        let revision = |it: Option<&Environment>| it.and_then(|it| it.revision.clone());
        details.push(json!({
            "environment": name,
            "before": revision(before),
            "after": revision(after),
            "changed": !is_same,
            "failed": failed.as_ref().map(ToString::to_string),
        }));
        errors.extend(failed.map(|error| error.context(name)));
    }
    let details: Value = json!({ "manager": kind.name(), "environments": details });
    if errors.is_empty() && !changed {
        return Report::unchanged(details, text);
    }
    Report::asked(details, text, errors, succeeded)
}

fn at(environment: &Environment) -> String {
    match &environment.revision {
        Some(revision) => format!("at {}", revision.short()),
        None => format!("tree {}", environment.tree.short()),
    }
}

fn same(before: Option<&Environment>, after: Option<&Environment>) -> bool {
    match (before, after) {
        (Some(before), Some(after)) => {
            (
                &before.revision,
                &before.modules,
                before.tree,
                before.unfinished,
            ) == (
                &after.revision,
                &after.modules,
                after.tree,
                after.unfinished,
            )
        }
        (None, None) => true,
        _ => false,
    }
}
