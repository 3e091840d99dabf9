//! The databases that were live before: kept, pruned, and brought back.

use pefo_core::clock::Clock;
use pefo_core::{Error, ErrorKind, Result};

use crate::derived::Derived;
use crate::list::names_in;
use crate::name::DatabaseName;
use crate::restore::{drop_database, lock};
use crate::server::{Server, Session};
use crate::swap::{Swap, SwapReport};

/// The databases kept of `database`, the newest first.
///
/// # Errors
/// `Unreachable` or `Denied` by the server.
pub async fn kept(server: &Server, database: &DatabaseName) -> Result<Vec<DatabaseName>> {
    kept_in(&server.maintain().await?, database).await
}

pub(crate) async fn kept_in(
    session: &Session,
    database: &DatabaseName,
) -> Result<Vec<DatabaseName>> {
    Ok(Derived::of(database).kept_among(&names_in(session).await?))
}

/// Drops all but the newest `keep`; never the live one, whose name is no kept one's.
pub(crate) async fn prune(
    session: &Session,
    database: &DatabaseName,
    keep: usize,
) -> Result<Vec<DatabaseName>> {
    let mut pruned = Vec::new();
    for name in kept_in(session, database).await?.into_iter().skip(keep) {
        drop_database(session, &name).await?;
        pruned.push(name);
    }
    Ok(pruned)
}

/// Puts the newest kept database back into the live one's place, which is kept in turn: a second
/// rollback undoes the first.
///
/// # Errors
/// `NotFound` where none is kept; `Locked` where a restore runs; the refusal `db-in-use`.
pub async fn rollback(
    server: &Server,
    database: &DatabaseName,
    clock: &dyn Clock,
) -> Result<SwapReport> {
    let maintenance = lock(server, database).await?;
    let names = names_in(&maintenance).await?;
    let derived = Derived::of(database);
    let kept = derived.kept_among(&names);
    let Some(newest) = kept.first() else {
        let message = format!("no previous database of {database} is kept");
        return Err(Error::new(ErrorKind::NotFound, message)
            .hint("[database] keep_previous says how many are kept at a restore"));
    };
    let goes_to = if names.contains(database) {
        Some(derived.kept(clock.now(), &names)?)
    } else {
        None
    };
    let between = derived.swapping()?;
    Swap {
        live: database,
        incoming: newest,
        between: &between,
        kept: goes_to.as_ref(),
    }
    .execute(server, clock)
    .await
}
