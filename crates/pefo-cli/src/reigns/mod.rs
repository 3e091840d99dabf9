//! Reigns: who rules, how that changes, and how nobody rules twice.
//!
//! Role and reign stand in one file, the station, and change together by one rename. What takes several steps
//! ([`promote`], [`demote`], [`switchover`]) is a journalled state machine: the journal says what was decided
//! and which steps are done, every step may be done twice, and the same command run again goes on.
//!
//! | module | what it is for |
//! |---|---|
//! | [`ask`] | what the peers say of who rules |
//! | [`learn`] | a newer reign is taken notice of: followed by a passive, the end of an active |
//! | [`fence`] | what is stopped once a reign has ended |
//! | [`promote`] | the passive becomes the active |
//! | [`demote`] | a returning active becomes the passive |
//! | [`switchover`], [`handover`] | both at once, without loss: the active's half, and the passive's |
//! | [`returned`] | what a returning active had that the new one never saw |
//! | [`merge`] | and how the CA's part of it is brought over |
//! | [`pause`] | pushes and applies rest, by the operator's word |
//! | [`aftermath`] | facts, services, node groups and hooks, once a role has changed |

pub mod aftermath;
pub mod ask;
pub mod demote;
pub mod fence;
pub mod handover;
pub mod learn;
pub mod merge;
pub mod pause;
pub mod promote;
pub mod returned;
pub mod switchover;

use std::path::PathBuf;
use std::time::Duration;

use pefo_core::lock::Lock;
use pefo_core::{Error, ErrorKind, Result};

use crate::host::Host;

/// Takes notice of what peers have said of who reigns, and ends what was begun of that or of a handover.
///
/// # Errors
/// `Config` where this host is not set up; `Io`; `Child` where what is to be stopped does not stop.
pub fn look(host: &Host) -> Result<()> {
    learn::from_spool(host)?;
    handover::go_on(host, None)
}

/// What was begun of a change of role and is not ended, for people.
///
/// # Errors
/// `Io`, or `Invalid` where a journal is malformed.
pub fn unfinished(host: &Host) -> Result<Vec<String>> {
    let mut all = Vec::new();
    if let Some(promotion) = promote::Promotion::load(host)? {
        all.push(format!(
            "{}run 'pefo promote' again: it goes on",
            said(&promotion)
        ));
    }
    if let Some(journal) = switchover::begun(host)? {
        all.push(format!(
            "{}run 'pefo switchover' again: it goes on",
            said(&journal)
        ));
    }
    let awaited = returned::awaited(host);
    if !awaited.is_empty() {
        let names: Vec<String> = awaited.iter().map(ToString::to_string).collect();
        all.push(format!(
            "this host has returned, and nothing of the new active has come yet of {}: run 'pefo push' there",
            names.join(", ")
        ));
    }
    Ok(all)
}

fn said(journal: &impl std::fmt::Display) -> String {
    format!("{}; ", journal.to_string().trim_end())
}

/// How long a run that holds a lock just now is waited for.
const RUNNING: Duration = Duration::from_secs(60);

/// Does `act` once the run that holds its lock has ended, which is waited for up to `limit`.
fn while_locked<T>(host: &Host, limit: Duration, act: impl Fn() -> Result<T>) -> Result<T> {
    const LOOK: Duration = Duration::from_millis(20);
    let begun = host.clock.monotonic();
    loop {
        match act() {
            Err(error)
                if error.kind() == ErrorKind::Locked
                    && host.clock.monotonic().saturating_sub(begun) < limit =>
            {
                tracing::debug!(%error, "waits");
                host.clock.wait(LOOK);
            }
            other => return other,
        }
    }
}

/// Where what is known of one change of role stands.
fn record(host: &Host, name: &str) -> PathBuf {
    host.state("reign").join(format!("{name}.json"))
}

/// Whoever changes this host's station holds it.
///
/// # Errors
/// `Locked` where another run does; `Io`.
fn lock(host: &Host) -> Result<Lock> {
    host.lock("reign").map_err(|error| match error.kind() {
        ErrorKind::Locked => Error::new(
            ErrorKind::Locked,
            "another run is changing this host's role",
        )
        .hint("let it end; 'pefo status' shows role and reign"),
        _ => error,
    })
}
