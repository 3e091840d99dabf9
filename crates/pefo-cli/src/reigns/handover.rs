//! The passive's half of a switchover: its root does what the active's root asks for, step by step.
//!
//! *Prepare*: all up to the active's last generations is applied, and that is written down. *Commit*: this host
//! is promoted, as by `pefo promote`, and answers once it is the active. *Cancel*: nothing was. A commit without
//! its prepare is refused, and so is a cancel of what has begun to change the CA: then only the promotion leads
//! on.

use std::collections::BTreeMap;
use std::path::PathBuf;

use pefo_core::clock::Timestamp;
use pefo_core::generation::{Accepted, DataSet, Position};
use pefo_core::reign::{Epoch, Role};
use pefo_core::request::{Nonce, Request, Switchover};
use pefo_core::{Error, ErrorKind, Result, record as stored};
use serde::{Deserialize, Serialize};

use super::promote::{self, PromoteOptions, Promotion, Step};
use super::{aftermath, lock, pause, record};
use crate::arguments::Change;
use crate::host::Host;
use crate::pipeline::apply::{self, Passive};

/// The rule of a promotion that somebody began on the passive by hand.
pub const BY_HAND: &str = "handover-promotion";

/// What was prepared.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Prepared {
    /// Version of this record's schema: 1.
    format: u32,
    /// The request that prepared it.
    nonce: Nonce,
    /// When, by the active's clock.
    asked: Timestamp,
    /// The reign in which it was asked.
    epoch: Epoch,
    /// All up to these is applied.
    heads: BTreeMap<DataSet, Position>,
    /// It was taken back, or committed in vain. That is remembered: whoever owns the transfer account can bring
    /// the same signed requests again.
    is_over: bool,
}

impl Prepared {
    /// Whether a request was made before what is known.
    fn overtakes(&self, request: &Request) -> bool {
        let is_older = request.time < self.asked || (self.is_over && request.time == self.asked);
        self.epoch == request.epoch && is_older
    }

    /// Nothing that was asked until then is done any more.
    fn end(host: &Host, nonce: &Nonce, epoch: Epoch, asked: Timestamp) -> Result<()> {
        let ended = Self {
            format: 1,
            nonce: nonce.clone(),
            asked,
            epoch,
            heads: BTreeMap::new(),
            is_over: true,
        };
        host.store_json(&path(host), &ended, 0o600)
    }
}

fn path(host: &Host) -> PathBuf {
    record(host, "prepared")
}

/// Does what is asked. `holds` is the data set whose lock the caller has.
///
/// # Errors
/// `Locked` where it is to be asked again; what keeps it from being done.
pub fn take(
    host: &Host,
    step: &Switchover,
    request: &Request,
    holds: Option<&DataSet>,
) -> Result<()> {
    match step {
        Switchover::Prepare { heads } => prepare(host, request, heads, holds),
        Switchover::Commit { prepared } => commit(host, request, prepared, holds),
        Switchover::Cancel { prepared } => cancel(host, request, prepared),
    }
}

fn prepare(
    host: &Host,
    request: &Request,
    heads: &BTreeMap<DataSet, Position>,
    holds: Option<&DataSet>,
) -> Result<()> {
    pause::check(host, &Change::default())?;
    let known: Option<Prepared> = stored::load(&path(host))?;
    if known.is_some_and(|known| known.overtakes(request)) {
        let message = "it was prepared anew, or taken back, since this was asked";
        return Err(Error::refused("handover-overtaken", message)
            .hint("nothing is to be done: a later 'pefo switchover' is at it"));
    }
    for (dataset, head) in heads {
        if !host.datasets().contains(dataset) {
            let certname = &host.config.site.certname;
            let message = format!("{certname} is not set up to apply {dataset}");
            return Err(
                Error::refused("dataset-unknown", message).hint("name it in its configuration")
            );
        }
        apply_up_to(host, dataset, *head, holds)?;
    }
    let prepared = Prepared {
        format: 1,
        nonce: request.nonce.clone(),
        asked: request.time,
        epoch: request.epoch,
        heads: heads.clone(),
        is_over: false,
    };
    host.store_json(&path(host), &prepared, 0o600)
}

fn apply_up_to(
    host: &Host,
    dataset: &DataSet,
    head: Position,
    holds: Option<&DataSet>,
) -> Result<()> {
    if is_applied(host, dataset, head)? {
        return Ok(());
    }
    if holds == Some(dataset) {
        // The caller applies it by itself, and looks at what is asked again after that.
        let message = format!("{dataset}: {head} is not applied yet");
        return Err(Error::new(ErrorKind::Locked, message));
    }
    let passive = Passive::open(host)?;
    let _lock = host.lock(&apply::lock_name(dataset))?;
    let report = apply::holding(&passive, dataset, &Change::default());
    let why = match report {
        Ok(report) => report.errors.into_iter().next(),
        Err(error) => Some(error),
    };
    if is_applied(host, dataset, head)? {
        return Ok(());
    }
    let why = why.map_or_else(|| "it was not received".to_owned(), |why| why.to_string());
    let message = format!("{dataset}: {head} is not applied: {why}");
    Err(Error::refused("handover-not-applied", message)
        .hint("see to that on the passive first; nothing was changed"))
}

fn is_applied(host: &Host, dataset: &DataSet, head: Position) -> Result<bool> {
    let accepted = Accepted::load(&host.record_path("accepted", dataset))?;
    Ok(accepted.is_some_and(|accepted| accepted.applied >= Some(head)))
}

fn commit(host: &Host, request: &Request, nonce: &Nonce, holds: Option<&DataSet>) -> Result<()> {
    let _lock = lock(host)?;
    let mut promotion = match Promotion::load(host)? {
        // It was broken off in the middle.
        Some(promotion) if promotion.handover => promotion,
        Some(_) => {
            return Err(
                Error::refused(BY_HAND, "a promotion was begun there by hand")
                    .hint("finish it there: 'pefo promote'"),
            );
        }
        None => begin(host, request.epoch, nonce)?,
    };
    match promote::commit(host, &mut promotion, holds) {
        Ok(_) => host.disk.remove_file(&path(host)),
        Err(error) => {
            promote::take_back(host, &promotion)?;
            // The same request is not to be taken up by whoever brings it again.
            Prepared::end(host, nonce, request.epoch, request.time)?;
            Err(error)
        }
    }
}

fn begin(host: &Host, epoch: Epoch, nonce: &Nonce) -> Result<Promotion> {
    let prepared: Option<Prepared> = stored::load(&path(host))?;
    let prepared = prepared.filter(|prepared| {
        prepared.nonce == *nonce && prepared.epoch == epoch && !prepared.is_over
    });
    let prepared = prepared.ok_or_else(|| {
        Error::refused(
            "handover-unprepared",
            "what is to be committed was not prepared, or was cancelled",
        )
        .hint("run 'pefo switchover' again on the active")
    })?;
    for (dataset, head) in &prepared.heads {
        if !is_applied(host, dataset, *head)? {
            let message = format!("{dataset}: {head} is not applied any more");
            return Err(Error::refused("handover-not-applied", message));
        }
    }
    if let Some(warning) = aftermath::exported_resources(host) {
        tracing::warn!("{warning}");
    }
    let known = prepared.heads.keys().map(|dataset| (dataset.clone(), None));
    let mut promotion = Promotion::decide(
        host,
        (Role::Passive, epoch, epoch.next()),
        known.collect(),
        &PromoteOptions::default(),
    )?;
    promotion.handover = true;
    promotion.cutoffs = Some(prepared.heads);
    // All of it at once: what was half begun would be nobody's.
    promotion.store(host)?;
    Ok(promotion)
}

fn cancel(host: &Host, request: &Request, nonce: &Nonce) -> Result<()> {
    let _lock = lock(host)?;
    let known: Option<Prepared> = stored::load(&path(host))?;
    if known.is_some_and(|known| known.overtakes(request)) {
        return Ok(());
    }
    if let Some(promotion) = Promotion::load(host)?.filter(|promotion| promotion.handover) {
        promote::take_back(host, &promotion)?;
    }
    Prepared::end(host, nonce, request.epoch, request.time)
}

/// Does what is left of a promotion that was handed over and is committed.
///
/// # Errors
/// `Io`. What a step says is logged, and done again the next time.
pub fn go_on(host: &Host, holds: Option<&DataSet>) -> Result<()> {
    let is_left =
        |promotion: &Promotion| promotion.handover && promotion.done.contains(&Step::Commit);
    if Promotion::load(host)?
        .as_ref()
        .is_none_or(|it| !is_left(it))
    {
        return Ok(());
    }
    let _lock = match lock(host) {
        Err(error) if error.kind() == ErrorKind::Locked => return Ok(()),
        lock => lock?,
    };
    let Some(promotion) = Promotion::load(host)?.filter(is_left) else {
        return Ok(());
    };
    let report = promote::finish(host, promotion, holds)?;
    for error in report.errors {
        tracing::warn!(%error, "after the change of role");
    }
    Ok(())
}
