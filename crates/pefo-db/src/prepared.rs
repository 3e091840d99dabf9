//! A restore in two halves, for whoever has something to do between them.
//!
//! Services that use a database are stopped only once a verified shadow of it stands, and what they say after
//! the swap decides whether it stays: [`prepare`], stop, [`swap_in`], start, ask; [`swap_back`] where the answer
//! is bad. What is guaranteed: a swap takes the very database that was prepared, or none; swapping back
//! takes away only what was swapped in, and brings back what was live before it.

use std::path::Path;

use pefo_core::clock::Clock;
use pefo_core::progress::Progress;
use pefo_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

use crate::derived::Derived;
use crate::kept::{kept_in, prune};
use crate::list::names_in;
use crate::name::DatabaseName;
use crate::plan::RestorePlan;
use crate::restore::{RestoreOutcome, RestoreReport, Run, drop_database, lock};
use crate::server::{Server, Session};
use crate::swap::{Swap, SwapReport, find_oid};
use crate::tools::Tools;

/// A shadow that holds what the manifest says. It can be written down: whoever swaps may be another process,
/// in another account.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Prepared {
    /// The live database that it is for.
    pub database: DatabaseName,
    /// Its name until it is swapped in.
    pub shadow: DatabaseName,
    /// Its number on the server (`pg_database.oid`), which no other database has or gets.
    pub oid: u32,
    /// How many previous databases are kept.
    pub keep_previous: usize,
    /// What was done so far.
    pub report: RestoreReport,
}

/// Restores the dump in `dir` into a shadow and compares it with the manifest; the live database is not
/// touched.
///
/// # Errors
/// Those of [`execute`](crate::execute) up to the swap; the shadow is then dropped.
pub async fn prepare(
    server: &Server,
    tools: &Tools,
    plan: &RestorePlan,
    dir: &Path,
    clock: &dyn Clock,
    progress: &dyn Progress,
) -> Result<Prepared> {
    let maintenance = lock(server, &plan.database).await?;
    prepare_in(&maintenance, server, tools, plan, dir, clock, progress).await
}

pub(crate) async fn prepare_in(
    maintenance: &Session,
    server: &Server,
    tools: &Tools,
    plan: &RestorePlan,
    dir: &Path,
    clock: &dyn Clock,
    progress: &dyn Progress,
) -> Result<Prepared> {
    let mut run = Run::new(clock, progress);
    run.prepare(server, tools, plan, dir, &plan.shadow, maintenance)
        .await?;
    let oid = find_oid(maintenance, &plan.shadow).await?;
    let oid = oid.ok_or_else(|| gone(&plan.shadow))?;
    Ok(Prepared {
        database: plan.database.clone(),
        shadow: plan.shadow.clone(),
        oid,
        keep_previous: plan.keep_previous,
        report: run.report(plan, RestoreOutcome::Prepared),
    })
}

/// Puts a shadow into the live database's place, and drops those kept longer than asked for.
///
/// # Errors
/// The refusals `db-in-use` and `db-prepared-transactions`, after which all is as before; `db-shadow-gone`
/// where another run dropped or made the shadow since; `Locked` where another run restores the same database.
pub async fn swap_in(
    server: &Server,
    prepared: Prepared,
    clock: &dyn Clock,
    progress: &dyn Progress,
) -> Result<RestoreReport> {
    let maintenance = lock(server, &prepared.database).await?;
    swap_in_with(&maintenance, server, prepared, clock, progress).await
}

pub(crate) async fn swap_in_with(
    maintenance: &Session,
    server: &Server,
    prepared: Prepared,
    clock: &dyn Clock,
    progress: &dyn Progress,
) -> Result<RestoreReport> {
    if find_oid(maintenance, &prepared.shadow).await? != Some(prepared.oid) {
        return Err(gone(&prepared.shadow));
    }
    let mut steps = Run::new(clock, progress);
    steps.step("swap");
    let names = names_in(maintenance).await?;
    let derived = Derived::of(&prepared.database);
    let kept = match names.contains(&prepared.database) {
        true => Some(derived.kept(clock.now(), &names)?),
        false => None,
    };
    let swap = Swap {
        live: &prepared.database,
        incoming: &prepared.shadow,
        between: &derived.swapping()?,
        kept: kept.as_ref(),
    };
    let swapped = match swap.execute(server, clock).await {
        Ok(swapped) => swapped,
        Err(error) => {
            if error.kind() != ErrorKind::Unknown {
                // Best effort: the next run drops what this one cannot.
                drop(drop_database(maintenance, &prepared.shadow).await);
            }
            return Err(error);
        }
    };
    steps.step("prune");
    let pruned = prune(maintenance, &prepared.database, prepared.keep_previous).await;
    let mut report = RestoreReport {
        outcome: RestoreOutcome::Restored,
        swap: Some(swapped),
        ..prepared.report
    };
    report.steps.extend(steps.into_steps());
    match pruned {
        Ok(pruned) => report.pruned = pruned,
        // The restore has succeeded; a database too many is told, not a failure.
        Err(error) => report.notes.push(format!("not pruned: {error}")),
    }
    Ok(report)
}

/// Whether what was prepared is live now: for whoever died in the middle of a swap.
///
/// # Errors
/// `Unreachable` or `Denied` by the server.
pub async fn is_swapped_in(server: &Server, prepared: &Prepared) -> Result<bool> {
    let maintenance = server.maintain().await?;
    Ok(find_oid(&maintenance, &prepared.database).await? == Some(prepared.oid))
}

/// Takes what was swapped in out again, brings back what was live before it, and drops the former.
///
/// # Errors
/// The refusals `db-not-live`, where something else is live by now, and those of [`swap_in`]; `NotFound` where
/// nothing was live before, or it is not kept (`keep_previous` is 0).
pub async fn swap_back(
    server: &Server,
    prepared: &Prepared,
    clock: &dyn Clock,
) -> Result<SwapReport> {
    let database = &prepared.database;
    let maintenance = lock(server, database).await?;
    if find_oid(&maintenance, database).await? != Some(prepared.oid) {
        let message = format!("{database} is not what was restored last");
        return Err(Error::refused("db-not-live", message)
            .hint("'pefo db list' shows what is kept, 'pefo db rollback' brings the newest back"));
    }
    let kept = kept_in(&maintenance, database).await?;
    let Some(before) = kept.first() else {
        let message = format!("no previous database of {database} is kept");
        return Err(Error::new(ErrorKind::NotFound, message));
    };
    let derived = Derived::of(database);
    // Under the shadow's name it is dropped by the next run, should this one die here.
    let shadow = derived.shadow()?;
    let swap = Swap {
        live: database,
        incoming: before,
        between: &derived.swapping()?,
        kept: Some(&shadow),
    };
    let report = swap.execute(server, clock).await?;
    drop_database(&maintenance, &shadow).await?;
    Ok(report)
}

/// Drops a shadow that is not to be swapped in after all.
///
/// # Errors
/// `Locked` where another run restores the same database, `Denied` or `Unreachable` by the server.
pub async fn discard(server: &Server, prepared: &Prepared) -> Result<()> {
    let maintenance = lock(server, &prepared.database).await?;
    match find_oid(&maintenance, &prepared.shadow).await? {
        Some(oid) if oid == prepared.oid => drop_database(&maintenance, &prepared.shadow).await,
        _ => Ok(()),
    }
}

fn gone(shadow: &DatabaseName) -> Error {
    let message = format!("{shadow} is not what was prepared any more");
    Error::refused("db-shadow-gone", message).hint("another run was there between; restore again")
}
