//! What a promotion would do, and what is at risk: a value, made from what this host knows and what its peers
//! say of who reigns. Nothing is changed.

use std::collections::BTreeMap;
use std::fmt;

use pefo_core::clock::Timestamp;
use pefo_core::generation::{Accepted, DataSet, Position, spool};
use pefo_core::reign::{Epoch, Reign, Role, Standing};
use pefo_core::{Certname, Error, ErrorKind, Result, record as stored};
use serde::Serialize;

use super::{PEER_ACTIVE, PromoteOptions, next_epoch};
use crate::arguments::Change;
use crate::host::Host;
use crate::pipeline::apply::{self, CaughtUp, caught_up_path};
use crate::pipeline::{ca, received};
use crate::reigns::ask;

/// What would be done.
#[derive(Debug, Serialize)]
#[non_exhaustive]
pub struct PromotionPlan {
    /// This host.
    pub certname: Certname,
    /// Its role now.
    pub from: Role,
    /// The reign that ends, and who holds it.
    pub old: Epoch,
    /// Who holds that.
    pub holder: Certname,
    /// The reign that begins.
    pub epoch: Epoch,
    /// What the peers say.
    pub peers: Vec<PeerView>,
    /// Each data set.
    pub datasets: Vec<DataSetView>,
    /// What is worth knowing before it is done.
    pub warnings: Vec<String>,
    /// What stands in its way.
    pub refused: Vec<String>,
}

/// What a peer says of who reigns.
#[derive(Debug, Serialize)]
#[non_exhaustive]
pub struct PeerView {
    /// The peer.
    pub certname: Certname,
    /// Its role, where it answers.
    pub role: Option<Role>,
    /// The epoch it lives under, where it answers.
    pub epoch: Option<Epoch>,
    /// Why it does not answer.
    pub error: Option<String>,
}

/// What this host has of a data set.
#[derive(Debug, Serialize)]
#[non_exhaustive]
pub struct DataSetView {
    /// The data set.
    pub dataset: DataSet,
    /// The last generation that is applied whole.
    pub applied: Option<Position>,
    /// The last that stands in the spool, where that is newer.
    pub pending: Option<Position>,
    /// The active's own word up to which all is applied, by its clock.
    pub known_until: Option<Timestamp>,
    /// How long ago that was heard, by this host's clock: what the active did since may be lost.
    pub at_risk_seconds: Option<u64>,
    /// It stays as it was last applied.
    pub left: bool,
}

/// Makes the plan; tells what stands in its way and is not overruled.
///
/// # Errors
/// `WrongRole` where this host reigns already; `Config` where it is not set up; `Io`.
pub(super) fn make(host: &Host, options: &PromoteOptions) -> Result<(PromotionPlan, Vec<Error>)> {
    let (station, reign) = host.station()?;
    let in_force = station.in_force(&reign.site, &host.reign_keys()?);
    if station.role == Role::Active && in_force.is_ok() && options.epoch_above.is_none() {
        return Err(Error::new(
            ErrorKind::WrongRole,
            format!("this host is the active already, in epoch {}", reign.epoch),
        )
        .hint("'pefo status' shows role and reign"));
    }
    let rival = station.rival(&reign.site, &host.reign_keys()?)?;
    let mut refusals = Vec::new();
    let mut known = vec![reign.epoch];
    known.extend(rival.as_ref().map(|rival| rival.epoch));
    known.extend(options.epoch_above);
    let mut peers = Vec::new();
    for (peer, said) in ask::all(host)? {
        let mut view = PeerView {
            certname: peer.certname.clone(),
            role: None,
            epoch: None,
            error: None,
        };
        match said {
            Ok(said) => {
                known.push(said.reign.epoch);
                view.role = Some(said.role);
                view.epoch = Some(said.reign.epoch);
                let standing = reign.standing_of(said.reign.epoch, &said.reign.holder);
                let overruled = options
                    .epoch_above
                    .is_some_and(|above| said.reign.epoch <= above);
                if said.role == Role::Active && standing != Standing::Older && !overruled {
                    refusals.push(peer_active(&peer.certname, said.reign.epoch));
                }
            }
            Err(error) => view.error = Some(error.to_string()),
        }
        peers.push(view);
    }
    let mut plan = PromotionPlan {
        certname: host.config.site.certname.clone(),
        from: station.role,
        old: reign.epoch,
        holder: reign.certname.clone(),
        epoch: next_epoch(known)?,
        peers,
        datasets: Vec::new(),
        warnings: warnings(host),
        refused: Vec::new(),
    };
    if station.role == Role::Passive {
        for dataset in host.datasets() {
            let view = view(host, &dataset, options)?;
            if view.pending.is_some() && !view.left {
                refusals.extend(unfit(host, &dataset, options));
            }
            plan.datasets.push(view);
        }
    }
    let is_overruled = |error: &Error| {
        error
            .rule()
            .is_some_and(|rule| options.accept.contains(rule))
    };
    refusals.retain(|error| !is_overruled(error));
    // Nobody's word makes up for a key.
    refusals.extend(able_to_sign(host).err());
    plan.refused = refusals.iter().map(ToString::to_string).collect();
    Ok((plan, refusals))
}

/// Lets nothing pass where a peer answers as the active of this reign or a newer one.
///
/// # Errors
/// `Refused` (`peer-active`).
pub(super) fn nobody_reigns(host: &Host, reign: &Reign) -> Result<()> {
    for (peer, said) in ask::all(host)? {
        let Ok(said) = said else { continue };
        let standing = reign.standing_of(said.reign.epoch, &said.reign.holder);
        if said.role == Role::Active && standing != Standing::Older {
            return Err(peer_active(&peer.certname, said.reign.epoch).hint(
                "it has come back since this promotion began: take that back with 'pefo promote --abort', or \
                 accept peer-active and go on",
            ));
        }
    }
    Ok(())
}

fn peer_active(peer: &Certname, epoch: Epoch) -> Error {
    let message = format!("{peer} answers as the active of epoch {epoch}");
    Error::refused(PEER_ACTIVE, message).hint(
        "where it is well, run 'pefo switchover' there: nothing is lost; where it is not, stop it, or accept \
         peer-active: what it does until it hears of this may be lost",
    )
}

/// Whether this host's CA can sign.
fn able_to_sign(host: &Host) -> Result<()> {
    let layout = ca::layout(host, &Change::default()).map_err(|error| {
        error.hint("a host without the CA cannot reign: 'pefo ca push --seed' on the active")
    })?;
    layout.key_path().map(drop)
}

fn warnings(host: &Host) -> Vec<String> {
    let mut warnings = Vec::new();
    if matches!(crate::reigns::pause::paused(host), Ok(Some(_))) {
        warnings.push(
            "this host is paused: once it reigns nothing is pushed until 'pefo resume'".to_owned(),
        );
    }
    warnings.extend(crate::reigns::aftermath::exported_resources(host));
    warnings
}

/// What would keep the pending generations from being applied.
fn unfit(host: &Host, dataset: &DataSet, options: &PromoteOptions) -> Vec<Error> {
    if *dataset == DataSet::Code {
        // No gate stands before it, and reading this host's own code takes time.
        return Vec::new();
    }
    let change = Change {
        dry_run: true,
        accept: options.accept.iter().cloned().collect(),
    };
    match apply::show(host, dataset, &change) {
        // What a part of it is refused for is told when it is applied, and holds nothing else back.
        Ok(_) => Vec::new(),
        Err(error) if error.is_refusal() => vec![error.context(dataset).hint(format!(
            "leave it as it was last applied with '--leave {dataset}', or accept the rule"
        ))],
        Err(error) => {
            tracing::warn!(%error, %dataset, "what was received cannot be looked at");
            Vec::new()
        }
    }
}

fn view(host: &Host, dataset: &DataSet, options: &PromoteOptions) -> Result<DataSetView> {
    let accepted = Accepted::load(&host.record_path("accepted", dataset))?;
    let caught_up: Option<CaughtUp> = stored::load(&caught_up_path(host, dataset))?;
    let newest = newest(host, dataset)?;
    let applied = accepted.and_then(|accepted| accepted.applied);
    Ok(DataSetView {
        dataset: dataset.clone(),
        applied,
        pending: newest.filter(|newest| applied.is_none_or(|applied| *newest > applied)),
        known_until: caught_up.as_ref().map(|caught_up| caught_up.heartbeat),
        at_risk_seconds: caught_up.map(|caught_up| host.clock.now().since(caught_up.at).as_secs()),
        left: options.leave.contains(dataset),
    })
}

/// The last generation of the reign this host lives under that stands in the spool or was accepted. Names in
/// the spool are the transfer account's: a bound, no more.
pub(super) fn newest(host: &Host, dataset: &DataSet) -> Result<Option<Position>> {
    newest_below(host, dataset, None)
}

/// As [`newest`], of those below a generation.
pub(super) fn newest_below(
    host: &Host,
    dataset: &DataSet,
    below: Option<Position>,
) -> Result<Option<Position>> {
    let epoch = host.station()?.1.epoch;
    let accepted = Accepted::load(&host.record_path("accepted", dataset))?;
    let listed = match received::spool_dir(host, dataset)? {
        Some(dir) => spool::list(&dir)?,
        None => Vec::new(),
    };
    let listed = listed.into_iter().map(|(position, _)| position);
    let all = listed.chain(accepted.map(|accepted| accepted.position));
    let counts = |position: &Position| {
        position.epoch == epoch && below.is_none_or(|below| *position < below)
    };
    Ok(all.filter(counts).max())
}

impl PromotionPlan {
    pub(super) fn known_until(&self) -> BTreeMap<DataSet, Option<Timestamp>> {
        let each = self.datasets.iter();
        each.map(|view| (view.dataset.clone(), view.known_until))
            .collect()
    }
}

impl fmt::Display for PromotionPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} would reign in epoch {}, after epoch {} of {}",
            self.certname, self.epoch, self.old, self.holder
        )?;
        for peer in &self.peers {
            match (peer.role, peer.epoch, &peer.error) {
                (Some(role), Some(epoch), _) => {
                    writeln!(f, "  {} answers: {role} in epoch {epoch}", peer.certname)?
                }
                (_, _, Some(error)) => {
                    writeln!(f, "  {} does not answer: {error}", peer.certname)?;
                }
                _ => {}
            }
        }
        for view in &self.datasets {
            writeln!(f, "  {}", view.line(&self.holder))?;
        }
        for warning in &self.warnings {
            writeln!(f, "  warning: {warning}")?;
        }
        for refused in &self.refused {
            writeln!(f, "  refused: {refused}")?;
        }
        Ok(())
    }
}

impl DataSetView {
    fn line(&self, active: &Certname) -> String {
        let none = || "nothing".to_owned();
        let applied = self.applied.map_or_else(none, |it| it.to_string());
        let mut line = format!("{}: {applied} is applied", self.dataset);
        if let Some(pending) = self.pending {
            let what = if self.left { "is left" } else { "would be" };
            line.push_str(&format!(", all up to {pending} {what}"));
        }
        line.push_str(&match (self.known_until, self.at_risk_seconds) {
            (Some(until), Some(seconds)) => {
                format!("; what {active} did after {until} ({seconds} s ago) may be lost")
            }
            _ => format!("; {active} never said that this is all"),
        });
        line
    }
}
