//! The steps, each of which may be done twice.

use std::collections::BTreeMap;

use pefo_ca::Snapshot;
use pefo_core::generation::{Accepted, DataSet, Position};
use pefo_core::lock::Lock;
use pefo_core::reign::Role;
use pefo_core::run::Outcome;
use pefo_core::{Error, ErrorKind, Result};
use serde_json::json;

use super::journal::{Promotion, Step};
use super::plan::{newest, newest_below};
use crate::arguments::Change;
use crate::host::Host;
use crate::outcome::Report;
use crate::pipeline::apply::{self, Passive};
use crate::pipeline::{ca, rollback};
use crate::reigns::{RUNNING, aftermath, ask, while_locked};

/// So many generations that cannot be verified are passed over to find one that can.
const PASSED_OVER: usize = 16;
/// How often the CA is looked at anew where its server came between.
const MOVED: usize = 5;

/// The rule of a promotion that has signed something, and leads on only.
pub const HALF_WAY: &str = "promotion-begun";

/// Does all that is left. `holds` is the data set whose lock the caller has.
///
/// # Errors
/// What a step up to the commit says: run again, it goes on there. What comes after the commit is in the
/// report.
pub fn finish(host: &Host, mut promotion: Promotion, holds: Option<&DataSet>) -> Result<Report> {
    commit(host, &mut promotion, holds)?;
    let mut errors = Vec::new();
    if !promotion.done.contains(&Step::Tell) {
        tell(host);
        promotion.did(host, Step::Tell)?;
    }
    if !promotion.done.contains(&Step::Aftermath) {
        let (_, reign) = host.station()?;
        match aftermath::promoted(host, &reign) {
            Ok(()) => promotion.did(host, Step::Aftermath)?,
            Err(failed) => errors.extend(failed),
        }
    }
    if errors.is_empty() {
        promotion.close(host)?;
    }
    Ok(report(host, &promotion, errors))
}

/// Does all up to the commit that is left.
///
/// # Errors
/// What a step says: run again, it goes on there.
pub fn commit(host: &Host, promotion: &mut Promotion, holds: Option<&DataSet>) -> Result<()> {
    if promotion.done.contains(&Step::Commit) {
        return Ok(());
    }
    // The commit itself may have been the last that was done.
    let (station, _) = host.station()?;
    if station.current == promotion.record {
        promotion.committed = promotion.committed.or(Some(host.clock.now()));
        return promotion.did(host, Step::Commit);
    }
    if !promotion.done.contains(&Step::Fence) {
        fence(host, promotion)?;
        promotion.did(host, Step::Fence)?;
    }
    if !promotion.done.contains(&Step::Apply) {
        apply_all(host, promotion, holds)?;
        promotion.did(host, Step::Apply)?;
    }
    if !promotion.done.contains(&Step::Succeed) {
        succeed(host, promotion, holds)?;
        promotion.did(host, Step::Succeed)?;
    }
    let (station, _) = host.station()?;
    station
        .under(Role::Active, promotion.record.as_bytes())?
        .store(&host.disk, &host.station_path())?;
    promotion.committed = Some(host.clock.now());
    promotion.did(host, Step::Commit)
}

/// Takes back what has not changed the CA: this host is what it was.
///
/// # Errors
/// `Refused` (`promotion-begun`) where it has.
pub fn take_back(host: &Host, promotion: &Promotion) -> Result<()> {
    let is_begun = match &promotion.succession {
        _ if promotion.done.contains(&Step::Succeed) => true,
        Some(succession) => ca::has_begun(host, succession)?,
        None => false,
    };
    if is_begun {
        let message = format!(
            "the CA of {} is signed for epoch {} already, at least in part",
            host.config.site.certname, promotion.epoch
        );
        return Err(Error::refused(HALF_WAY, message)
            .hint("run 'pefo promote' here: it goes on, and the peers learn of it"));
    }
    let (mut station, _) = host.station()?;
    station.changing = None;
    station.store(&host.disk, &host.station_path())?;
    promotion.drop_journal(host)
}

/// From here on the receiver takes nothing, and no other run of this host's gives out or applies anything.
fn fence(host: &Host, promotion: &mut Promotion) -> Result<()> {
    let (station, _) = host.station()?;
    let role = station.role;
    station
        .about_to(Role::Active, promotion.epoch)
        .store(&host.disk, &host.station_path())?;
    if promotion.cutoffs.is_none() {
        let mut cutoffs = BTreeMap::new();
        for dataset in host
            .datasets()
            .into_iter()
            .filter(|_| role == Role::Passive)
        {
            if let Some(newest) = newest(host, &dataset)? {
                cutoffs.insert(dataset, newest);
            }
        }
        promotion.cutoffs = Some(cutoffs);
    }
    Ok(())
}

/// Waits for the lock of whoever applies a data set just now: it will be done at once.
fn free(host: &Host, dataset: &DataSet, holds: Option<&DataSet>) -> Result<Option<Lock>> {
    if holds == Some(dataset) {
        return Ok(None);
    }
    let taken = while_locked(host, RUNNING, || host.lock(&apply::lock_name(dataset)));
    taken.map(Some).map_err(|error| match error.kind() {
        ErrorKind::Locked => error.context(dataset).hint(
            "a run that applies it does not end; see what it waits for, then run 'pefo promote' again",
        ),
        _ => error,
    })
}

fn apply_all(host: &Host, promotion: &mut Promotion, holds: Option<&DataSet>) -> Result<()> {
    if promotion.from != Role::Passive {
        return Ok(());
    }
    for dataset in host.datasets() {
        // Also where nothing is to be applied: a run that does may have begun before the fence.
        let _lock = free(host, &dataset, holds)?;
        if promotion.leave.contains(&dataset) {
            continue;
        }
        match apply_one(host, promotion, &dataset) {
            Ok(Some(undone)) => {
                promotion.undone.insert(dataset, undone);
            }
            Ok(None) => {
                promotion.undone.remove(&dataset);
            }
            // The CA is what cannot be made up for later: the operator is to say.
            Err(error) if dataset == DataSet::Ca => {
                let hint = "accept the rule, or leave the CA as it was last applied with '--leave ca', and run 'pefo promote' again: it goes on";
                return Err(error.context(&dataset).hint(hint));
            }
            Err(error) => {
                promotion.undone.insert(dataset, error.to_string());
            }
        }
    }
    Ok(())
}

/// Applies what is left of one data set up to its cutoff; tells what is left undone.
fn apply_one(host: &Host, promotion: &mut Promotion, dataset: &DataSet) -> Result<Option<String>> {
    let change = Change {
        dry_run: false,
        accept: promotion.accept.iter().cloned().collect(),
    };
    // What an operator has gone back from does not come again by itself.
    rollback::check(host, dataset)?;
    for _ in 0..PASSED_OVER {
        let cutoffs = promotion.cutoffs.clone().unwrap_or_default();
        let Some(cutoff) = cutoffs.get(dataset).copied() else {
            return Ok(None);
        };
        let accepted = Accepted::load(&host.record_path("accepted", dataset))?;
        if accepted.is_some_and(|accepted| accepted.applied == Some(cutoff)) {
            return Ok(None);
        }
        let passive = Passive::until(host, cutoffs)?;
        match apply::holding(&passive, dataset, &change) {
            Ok(report) if report.outcome.is_success() => return Ok(None),
            Ok(report) => {
                let errors: Vec<String> = report.errors.iter().map(ToString::to_string).collect();
                return Ok(Some(errors.join("; ")));
            }
            // Whoever owns the transfer account can make up names: what is before them counts.
            Err(error) if is_unverified(host, dataset, cutoff)? => {
                tracing::warn!(%error, %dataset, %cutoff, "passed over");
                lower(host, promotion, dataset, cutoff)?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(Some(
        "what stands in the spool cannot be verified".to_owned(),
    ))
}

/// Whether a generation is one that could not be taken: it is newer than what was accepted.
fn is_unverified(host: &Host, dataset: &DataSet, cutoff: Position) -> Result<bool> {
    let accepted = Accepted::load(&host.record_path("accepted", dataset))?;
    Ok(accepted.is_none_or(|accepted| accepted.position < cutoff))
}

/// The next older one that stands in the spool, or what was accepted, is the cutoff.
fn lower(host: &Host, promotion: &mut Promotion, dataset: &DataSet, below: Position) -> Result<()> {
    let next = newest_below(host, dataset, Some(below))?;
    let cutoffs = promotion.cutoffs.get_or_insert_default();
    match next {
        Some(next) => drop(cutoffs.insert(dataset.clone(), next)),
        None => drop(cutoffs.remove(dataset)),
    }
    promotion.store(host)
}

/// Serials and CRL numbers that nobody has used. What the former active's CA was last known to have is looked
/// at where not all of it is applied.
fn succeed(host: &Host, promotion: &mut Promotion, holds: Option<&DataSet>) -> Result<()> {
    let _lock = free(host, &DataSet::Ca, holds)?;
    let source = source(host, promotion)?;
    for attempt in 1.. {
        let chosen = promotion.succession.take();
        let (succession, chosen_before) = match chosen {
            Some(succession) => (succession, true),
            None => {
                let reigns = promotion.epoch.0.saturating_sub(promotion.old.0);
                (ca::choose_succession(host, source.as_ref(), reigns)?, false)
            }
        };
        promotion.succession = Some(succession.clone());
        if !chosen_before {
            promotion.store(host)?;
        }
        match ca::succeed(host, source.as_ref(), &succession) {
            Ok(()) => return Ok(()),
            // Its server signs meanwhile.
            Err(error) if error.rule() == Some("ca-moved") && attempt < MOVED => {
                tracing::info!(%error, "the CA is looked at anew");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn source(host: &Host, promotion: &Promotion) -> Result<Option<Snapshot>> {
    if promotion.from != Role::Passive {
        return Ok(None);
    }
    let accepted = Accepted::load(&host.record_path("accepted", &DataSet::Ca))?;
    let Some(accepted) = accepted.filter(|it| it.applied != Some(it.position)) else {
        return Ok(None);
    };
    let passive = Passive::until(host, promotion.cutoffs.clone().unwrap_or_default())?;
    match passive.accepted(&DataSet::Ca, &accepted) {
        Ok(received) => ca::source(&received, None).map(Some),
        Err(error) => {
            tracing::warn!(%error, "what the former active's CA had is not looked at");
            Ok(None)
        }
    }
}

/// Every peer that can be reached hears of the reign: the greeting carries it.
fn tell(host: &Host) {
    match ask::all(host) {
        Ok(said) => {
            for (peer, said) in said {
                if let Err(error) = said {
                    tracing::info!(%error, peer = %peer.certname, "it hears of the reign when it is back");
                }
            }
        }
        Err(error) => tracing::info!(%error, "nobody is told"),
    }
}

fn report(host: &Host, promotion: &Promotion, errors: Vec<Error>) -> Report {
    let took = promotion.rto_ms().unwrap_or_default();
    let mut text = format!(
        "{} reigns in epoch {}: {:.2} s from the beginning to the commit\n",
        host.config.site.certname,
        promotion.epoch,
        took as f64 / 1000.0
    );
    let lost = promotion.known_until.iter().filter(|_| !promotion.handover);
    for (dataset, until) in lost {
        text.push_str(&match until {
            Some(until) => format!("  {dataset}: all that the former active said it had by {until} is here; what it did after that is lost\n"),
            None => format!("  {dataset}: the former active never said that what is here is all\n"),
        });
    }
    for (dataset, undone) in &promotion.undone {
        text.push_str(&format!("  {dataset}: left undone: {undone}\n"));
    }
    for dataset in &promotion.leave {
        text.push_str(&format!("  {dataset}: left as it was last applied\n"));
    }
    let details = json!({ "promotion": promotion, "rto_ms": took });
    let undone = promotion.undone.iter();
    let undone = undone.map(|(dataset, why)| {
        Error::new(ErrorKind::Partial, format!("{dataset}: {why}"))
            .hint("this host reigns; 'pefo ca merge', or the data set's own commands, bring what is missing")
    });
    let errors: Vec<Error> = undone.chain(errors).collect();
    let report = Report::ok(details, text);
    if errors.is_empty() {
        return report;
    }
    Report {
        outcome: Outcome::Partial,
        ..report.partial(errors)
    }
}
