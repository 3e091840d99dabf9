//! `pefo switchover`, on the active: the reign goes over to the passive, and nothing is lost.
//!
//! ```text
//! plan ─▶ bring up to date ─▶ stop ─▶ last push ─▶ prepare ─▶ commit ─▶ step down
//! ```
//!
//! *Bring up to date*: while this host still serves, so that what is left for later is little. *Stop*: what signs
//! here, and every other push. *Last push*: what came in between. *Prepare*: the passive has applied all of it, and
//! says so. *Commit*: the passive is promoted, and says so. *Step down*: this host is the passive.
//!
//! What it guarantees: whatever fails before the commit is asked for is undone, and this host goes on as the
//! active. Once it was asked for, only the passive knows: this host stays stopped until that says which (run
//! again, it asks), so that there are never two.

mod journal;
mod pushing;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use pefo_core::pairing::Introduction;
use pefo_core::reign::{Reign, Role, Standing};
use pefo_core::request::{Outcome, Subject, Switchover as Handover};
use pefo_core::{Certname, Error, ErrorKind, Result};
use serde_json::json;

use journal::Switchover;
use pushing::{has_changed, push_all};

use super::handover::BY_HAND;
use super::merge::chosen;
use super::promote::HALF_WAY;
use super::{ask, demote, fence, lock, look, pause, returned};
use crate::arguments::Change;
use crate::host::Host;
use crate::outcome::Report;
use crate::pipeline::push::PushOptions;
use crate::pipeline::question::{self, Question};

/// How often all is pushed again where somebody changes something after the last push.
const TRIES: usize = 3;

/// The one that was broken off, where there is one.
///
/// # Errors
/// `Io`, or `Invalid` where the record is malformed.
pub(super) fn begun(host: &Host) -> Result<Option<impl fmt::Display>> {
    Switchover::load(host)
}

/// Hands the reign over to `to`, or to the only peer; or goes on with what was broken off. `timeout` is how long
/// each answer of the peer's root is waited for.
///
/// # Errors
/// `WrongRole` on the passive; `Refused` where the peer is not what it should be; what a step says: what was done
/// is undone then, or its message says that this is not known.
pub fn run(
    host: &Host,
    to: Option<&Certname>,
    timeout: Duration,
    change: &Change,
) -> Result<Report> {
    if !change.dry_run {
        look(host)?;
    }
    let _lock = lock(host)?;
    if let Some(journal) = Switchover::load(host)? {
        if change.dry_run {
            let text = format!("would go on: {journal}");
            return Ok(Report::ok(json!({ "switchover": journal }), text));
        }
        let peer = chosen(host, Some(&journal.to))?;
        return go_on(host, journal, &peer, timeout, change);
    }
    let reign = host.require(Role::Active)?;
    pause::check(host, change)?;
    let peer = chosen(host, to)?;
    check(host, &reign, &peer)?;
    if change.dry_run {
        let names: Vec<String> = host.datasets().iter().map(ToString::to_string).collect();
        let text = format!(
            "{} would reign in epoch {}, once it has all of {}; {} would be its passive\n",
            peer.certname,
            reign.epoch.next(),
            names.join(", "),
            host.config.site.certname
        );
        return Ok(Report::ok(
            json!({ "to": peer.certname, "epoch": reign.epoch.next() }),
            text,
        ));
    }
    // While all is served as ever.
    push_all(host, &peer, change, PushOptions::default())?;
    let journal = Switchover {
        format: 1,
        begun: host.clock.now(),
        to: peer.certname.clone(),
        old: reign.epoch,
        stopped: None,
        heads: BTreeMap::new(),
        prepared: None,
        committing: false,
        over: None,
    };
    journal.store(host)?;
    go_on(host, journal, &peer, timeout, change)
}

/// The peer must be a passive of this reign.
fn check(host: &Host, reign: &Reign, peer: &Introduction) -> Result<()> {
    let said = ask::peer(host, peer).map_err(|error| {
        error
            .context(&peer.certname)
            .hint("a passive that does not answer cannot take over without loss; where this host is to go, run 'pefo promote' there")
    })?;
    let standing = reign.standing_of(said.reign.epoch, &said.reign.holder);
    if said.role == Role::Passive && standing == Standing::Same {
        return Ok(());
    }
    let message = format!(
        "{} is the {} in epoch {} of {}, and not a passive of this host's epoch {}",
        peer.certname, said.role, said.reign.epoch, said.reign.certname, reign.epoch
    );
    Err(Error::refused("peer-not-passive", message).hint("'pefo status' on both shows who reigns"))
}

fn go_on(
    host: &Host,
    mut journal: Switchover,
    peer: &Introduction,
    timeout: Duration,
    change: &Change,
) -> Result<Report> {
    let (station, _) = host.station()?;
    if station.role == Role::Passive {
        // All but the end was done.
        return over(host, &journal, None);
    }
    if journal.committing {
        return settle(host, journal, peer, timeout);
    }
    let prepared = stop_and_prepare(host, &mut journal, peer, timeout, change);
    if let Err(error) = prepared {
        return Err(undone(host, &journal, peer, timeout, error));
    }
    // From here on only the other side knows.
    let asked = commit(host, &mut journal, peer, timeout);
    match asked {
        Ok(()) => settled(host, journal, peer),
        Err(error) if !journal.committing => Err(undone(host, &journal, peer, timeout, error)),
        // It was asked, and said no; unless it is in the middle of it.
        Err(error) if error.is_refusal() && !matches!(error.rule(), Some(HALF_WAY | BY_HAND)) => {
            Err(undone(host, &journal, peer, timeout, error))
        }
        Err(error) => {
            tracing::warn!(%error, "the commit was asked for and not answered");
            settle(host, journal, peer, timeout)
        }
    }
}

fn stop_and_prepare(
    host: &Host,
    journal: &mut Switchover,
    peer: &Introduction,
    timeout: Duration,
    change: &Change,
) -> Result<()> {
    let (station, _) = host.station()?;
    station
        .about_to(Role::Passive, journal.old.next())
        .store(&host.disk, &host.station_path())?;
    journal.stopped = journal.stopped.or(Some(host.clock.now()));
    journal.store(host)?;
    fence::stop(host, journal.old.next())?;
    for _ in 0..TRIES {
        push_all(host, peer, change, PushOptions::handing_over())?;
        for dataset in host.datasets() {
            if let Some(delivered) = host.delivered(&peer.certname, &dataset)? {
                journal.heads.insert(dataset, delivered.position);
            }
        }
        prepare(host, journal, peer, timeout)?;
        if !has_changed(host)? {
            return Ok(());
        }
    }
    let message =
        format!("the classifier or a database was changed {TRIES} times since this host stopped");
    Err(Error::refused("still-changing", message).hint(
        "name what changes it in [services] on_fence, or have nobody use the console meanwhile",
    ))
}

fn prepare(
    host: &Host,
    journal: &mut Switchover,
    peer: &Introduction,
    timeout: Duration,
) -> Result<()> {
    let subject = Subject::Switchover(Handover::Prepare {
        heads: journal.heads.clone(),
    });
    let mut question = Question::open(host, peer, subject)?;
    journal.prepared = Some(question.nonce().clone());
    journal.store(host)?;
    question.put()?;
    done(question.answer(timeout))
}

/// Asks for the commit. Before it is asked the journal says so.
fn commit(
    host: &Host,
    journal: &mut Switchover,
    peer: &Introduction,
    timeout: Duration,
) -> Result<()> {
    let prepared = journal.prepared.clone();
    let prepared = prepared.ok_or_else(|| Error::invalid("nothing was prepared"))?;
    let subject = Subject::Switchover(Handover::Commit { prepared });
    let mut question = Question::open(host, peer, subject)?;
    journal.committing = true;
    journal.store(host)?;
    question.put()?;
    done(question.answer(timeout))
}

fn done(answer: Result<Outcome>) -> Result<()> {
    match answer? {
        Outcome::Done => Ok(()),
        _ => Err(question::other_answer()),
    }
}

/// The commit was asked for: finds out what became of it.
fn settle(
    host: &Host,
    journal: Switchover,
    peer: &Introduction,
    timeout: Duration,
) -> Result<Report> {
    let in_doubt = |error: Error| {
        let message = format!(
            "{} was asked to take the reign and does not say whether it has: {error}",
            peer.certname
        );
        Error::new(ErrorKind::Unknown, message).with_source(error).hint(format!(
            "this host stays stopped, so that there are never two; run 'pefo switchover' again once {} answers. \
             Where it is lost for good: 'pefo promote --epoch-above {}' here",
            peer.certname,
            journal.old.next()
        ))
    };
    let said = ask::peer(host, peer).map_err(in_doubt)?;
    if said.role == Role::Active && said.reign.epoch > journal.old {
        return settled(host, journal, peer);
    }
    // It may still do it, unless it is told not to.
    match cancel(host, &journal, peer, timeout) {
        Ok(()) => {
            let error = Error::new(
                ErrorKind::Unreachable,
                format!("{} did not take the reign", peer.certname),
            );
            Err(undone(host, &journal, peer, timeout, error))
        }
        // It is in the middle of it, or has just done it.
        Err(error) => match ask::peer(host, peer) {
            Ok(said) if said.role == Role::Active && said.reign.epoch > journal.old => {
                settled(host, journal, peer)
            }
            _ => Err(in_doubt(error)),
        },
    }
}

fn cancel(host: &Host, journal: &Switchover, peer: &Introduction, timeout: Duration) -> Result<()> {
    let Some(prepared) = journal.prepared.clone() else {
        return Ok(());
    };
    let subject = Subject::Switchover(Handover::Cancel { prepared });
    done(question::ask(host, peer, subject, timeout))
}

/// Takes it all back: this host goes on as the active.
fn undone(
    host: &Host,
    journal: &Switchover,
    peer: &Introduction,
    timeout: Duration,
    why: Error,
) -> Error {
    if let Err(error) = cancel(host, journal, peer, timeout.min(Duration::from_secs(5))) {
        // What was prepared there and is not committed is of no consequence.
        tracing::info!(%error, peer = %peer.certname, "it is not told that nothing comes of it");
    }
    let restored = host.station().and_then(|(mut station, _)| {
        station.changing = None;
        station.store(&host.disk, &host.station_path())
    });
    let restored = restored
        .and_then(|()| fence::lift(host))
        .and_then(|()| Switchover::drop_journal(host));
    match restored {
        Ok(()) => why.context("undone, this host goes on as the active"),
        Err(error) => why.hint(format!(
            "that could not be undone whole: {error}; run 'pefo switchover' again"
        )),
    }
}

/// The other side reigns: this host steps down.
fn settled(host: &Host, mut journal: Switchover, peer: &Introduction) -> Result<Report> {
    let said = ask::peer(host, peer)?;
    let (station, reign) = host.station()?;
    let is_newer = reign.standing_of(said.reign.epoch, &said.reign.holder) == Standing::Newer;
    if !is_newer || said.reign.holder != peer.signing.id() {
        return Err(Error::new(
            ErrorKind::Protocol,
            format!(
                "{} answers that it reigns, by a record of epoch {} of {}",
                peer.certname, said.reign.epoch, said.reign.certname
            ),
        ));
    }
    journal.over = Some(host.clock.now());
    journal.store(host)?;
    // Nothing should differ: that is shown, and this host's CA gets serials of its own.
    returned::expect(host, &host.datasets(), journal.old)?;
    station
        .under(Role::Passive, said.record.as_bytes())?
        .store(&host.disk, &host.station_path())?;
    over(host, &journal, Some(&said.reign))
}

/// This host is the passive: what follows from that.
fn over(host: &Host, journal: &Switchover, new: Option<&Reign>) -> Result<Report> {
    let (_, reign) = host.station()?;
    let new = new.unwrap_or(&reign);
    demote::stepped_down(host, new)?;
    Switchover::drop_journal(host)?;
    let took = match (journal.stopped, journal.over) {
        (Some(stopped), Some(over)) => over.since(stopped).as_millis(),
        _ => 0,
    };
    let text = format!(
        "{} reigns in epoch {}, {} is its passive: {:.2} s from the stop here to the reign there, nothing lost\n",
        new.certname,
        new.epoch,
        host.config.site.certname,
        took as f64 / 1000.0
    );
    let details = json!({
        "to": journal.to,
        "epoch": new.epoch,
        "rto_ms": u64::try_from(took).unwrap_or(u64::MAX),
        "heads": journal.heads.iter().map(|(dataset, head)| (dataset.to_string(), head.to_string())).collect::<BTreeMap<_, _>>(),
    });
    Ok(Report::ok(details, text))
}
