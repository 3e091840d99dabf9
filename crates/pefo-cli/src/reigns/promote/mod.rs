//! `pefo promote`: the passive becomes the active.
//!
//! ```text
//! plan ─▶ fence ─▶ apply ─▶ succeed ─▶ commit ─▶ tell ─▶ aftermath
//! ```
//!
//! *Fence*: from here on the receiver takes nothing; the last generation of each data set that stands in the
//! spool is the cutoff. *Apply*: all up to the cutoffs, nothing beyond. *Succeed*: the CA gets a block of serials
//! and CRL numbers that nobody has used. *Commit*: role and reign change, by one rename: that is the moment.
//! *Tell*: the peers hear of it. *Aftermath*: facts, services, node groups, hooks.
//!
//! What it guarantees: a step that was broken off is done again, and what was chosen before it (epoch, cutoffs,
//! serials, numbers) stays chosen. Before the commit this host serves as the passive it was, afterwards as the
//! active; at no moment does it take anything from the reign that ends beyond the cutoffs.

mod journal;
mod plan;
mod steps;

use std::collections::BTreeSet;

use pefo_core::generation::DataSet;
use pefo_core::reign::{Epoch, Role};
use pefo_core::{Error, ErrorKind, Result};
use serde_json::json;

use super::{lock, look};
use crate::host::Host;
use crate::outcome::Report;

pub use journal::{Promotion, Step};
pub use plan::PromotionPlan;
pub use steps::{HALF_WAY, commit, finish, take_back};

/// The rule that keeps a second king from rising beside a living one.
pub const PEER_ACTIVE: &str = "peer-active";

/// What a promotion may be told.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct PromoteOptions {
    /// Show the plan, and do nothing.
    pub dry_run: bool,
    /// Gates that are overruled.
    pub accept: BTreeSet<String>,
    /// Data sets that stay as they were last applied.
    pub leave: BTreeSet<DataSet>,
    /// Begin an epoch above this one, whoever holds it.
    pub epoch_above: Option<Epoch>,
    /// Take a promotion back that was broken off before anything was signed.
    pub abort: bool,
}

/// Promotes this host, or goes on with a promotion that was broken off.
///
/// # Errors
/// `WrongRole` where it is the active already; `Refused` by what the plan names; `Locked`; what a step says.
pub fn run(host: &Host, options: &PromoteOptions) -> Result<Report> {
    if !options.dry_run {
        look(host)?;
    }
    let _lock = lock(host)?;
    match Promotion::load(host)? {
        Some(promotion) if options.abort => return abort(host, &promotion, options.dry_run),
        Some(promotion) if promotion.is_begun(host)? => return go_on(host, promotion, options),
        // It was decided on and nothing came of it; who knows how all stands now.
        Some(promotion) if !options.dry_run => promotion.drop_journal(host)?,
        Some(_) => {}
        None if options.abort => {
            return Err(
                Error::new(ErrorKind::NotFound, "no promotion was begun here")
                    .hint("'pefo status' shows role and reign"),
            );
        }
        None => {}
    }
    let (plan, refused) = plan::make(host, options)?;
    let mut refused = refused.into_iter();
    if let Some(refusal) = refused.next() {
        let mut report = Report::failed(refusal);
        report.errors.extend(refused);
        report.details = json!({ "plan": plan });
        report.text = plan.to_string();
        return Ok(report);
    }
    if options.dry_run {
        return Ok(Report::ok(json!({ "plan": plan }), plan.to_string()));
    }
    for warning in &plan.warnings {
        tracing::warn!("{warning}");
    }
    let turn = (plan.from, plan.old, plan.epoch);
    let promotion = Promotion::decide(host, turn, plan.known_until(), options)?;
    promotion.store(host)?;
    finish(host, promotion, None)
}

/// What was broken off goes on, unless an active has come back meanwhile.
fn go_on(host: &Host, mut promotion: Promotion, options: &PromoteOptions) -> Result<Report> {
    promotion.allow(options);
    if options.dry_run {
        let text = format!("would go on: {promotion}");
        return Ok(Report::ok(json!({ "promotion": promotion }), text));
    }
    let is_asked = promotion.from == Role::Passive && !promotion.done.contains(&Step::Commit);
    if is_asked && !promotion.accept.contains(PEER_ACTIVE) {
        let (_, reign) = host.station()?;
        plan::nobody_reigns(host, &reign)?;
    }
    finish(host, promotion, None)
}

fn abort(host: &Host, promotion: &Promotion, dry_run: bool) -> Result<Report> {
    let text = format!("taken back: {promotion}");
    if dry_run {
        return Ok(Report::ok(
            json!({ "promotion": promotion }),
            format!("would be {text}"),
        ));
    }
    take_back(host, promotion)?;
    Ok(Report::ok(json!({ "promotion": promotion }), text))
}

/// The epoch after every one that is known.
pub(super) fn next_epoch(known: impl IntoIterator<Item = Epoch>) -> Result<Epoch> {
    let highest = known.into_iter().max().unwrap_or(Epoch(0));
    if highest == Epoch(u64::MAX) {
        return Err(Error::refused(
            "epoch-exhausted",
            "there is no epoch above the highest that is known",
        )
        .hint("set the pair up anew: 'pefo init'"));
    }
    Ok(highest.next())
}
