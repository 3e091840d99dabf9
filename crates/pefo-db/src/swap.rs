//! Puts a restored database into the live one's place, under load, in one transaction.
//!
//! `ALTER DATABASE … RENAME` takes an exclusive lock on the database and then waits until no session
//! is in it; new connections wait for that lock meanwhile. So: one session renames, while a second
//! one ends the live database's sessions until the rename has come through. Both are connected to
//! the maintenance database, and either all renames are committed or none. The live database is never
//! closed by `ALLOW_CONNECTIONS false`: whoever dies here leaves an open database behind.
//!
//! A client that connects during the swap waits, and may be told once that the database does not
//! exist; its next try reaches the new one. PostgreSQL looks every 100 ms whether the sessions are
//! gone, so under load the swap takes a little more than that; without sessions, a few milliseconds.

use std::time::Duration;

use pefo_core::clock::Clock;
use pefo_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

use crate::facts::prepared_transactions;
use crate::manifest::first_few;
use crate::name::DatabaseName;
use crate::server::{Server, Session, describe, get};

/// How often the live database's sessions are ended while the rename waits for them.
const TERMINATE_EVERY: Duration = Duration::from_millis(5);
/// How long a rename waits for its lock, which only connections being opened can hold.
const LOCK_TIMEOUT: &str = "15s";

/// What a swap did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SwapReport {
    /// The live database.
    pub database: DatabaseName,
    /// What was renamed into its place.
    pub from: DatabaseName,
    /// Under which name the one before is kept; `None` where there was none.
    pub kept: Option<DatabaseName>,
    /// Milliseconds during which nobody could connect to the live name, at most.
    pub unreachable_ms: u64,
    /// Sessions that were ended.
    pub sessions_ended: u64,
}

/// The names of a swap.
#[derive(Debug)]
pub(crate) struct Swap<'a> {
    pub(crate) live: &'a DatabaseName,
    pub(crate) incoming: &'a DatabaseName,
    /// A free name for the incoming one inside the transaction.
    pub(crate) between: &'a DatabaseName,
    /// Where the live one goes; `None` where there is none.
    pub(crate) kept: Option<&'a DatabaseName>,
}

impl Swap<'_> {
    pub(crate) async fn execute(&self, server: &Server, clock: &dyn Clock) -> Result<SwapReport> {
        let (renamer, terminator) = (server.maintain().await?, server.maintain().await?);
        let blocking = prepared_transactions(&terminator, self.live).await?;
        if !blocking.is_empty() {
            let message = format!(
                "{} has prepared transactions: {}",
                self.live,
                first_few(&blocking)
            );
            return Err(Error::refused("db-prepared-transactions", message)
                .hint("commit or roll back each of them by name in that database"));
        }
        let incoming = oid(&terminator, self.incoming).await?;
        let Some(kept) = self.kept else {
            let sql = format!(
                "set lock_timeout = '{LOCK_TIMEOUT}'; {}",
                rename(self.incoming, self.live)
            );
            self.while_ending_sessions(&renamer, &terminator, incoming, &sql)
                .await?;
            return Ok(self.report(0, 0));
        };
        let live = oid(&terminator, self.live).await?;

        // The incoming one first, to a name of its own: it is then locked and free of autovacuum and
        // of our own sessions before the live one is touched, so that nobody waits for that.
        let begin = format!(
            "set lock_timeout = '{LOCK_TIMEOUT}'; begin; {}",
            rename(self.incoming, self.between)
        );
        self.while_ending_sessions(&renamer, &terminator, incoming, &begin)
            .await?;
        let started = clock.now();
        let finish = format!(
            "{}; {}; commit",
            rename(self.live, kept),
            rename(self.between, self.live)
        );
        let ended = self
            .while_ending_sessions(&renamer, &terminator, live, &finish)
            .await?;
        let unreachable = clock.now().since(started);
        tracing::info!(database = %self.live, ?unreachable, ended, "swapped");
        Ok(self.report(
            u64::try_from(unreachable.as_millis()).unwrap_or(u64::MAX),
            ended,
        ))
    }

    fn report(&self, unreachable_ms: u64, sessions_ended: u64) -> SwapReport {
        SwapReport {
            database: self.live.clone(),
            from: self.incoming.clone(),
            kept: self.kept.cloned(),
            unreachable_ms,
            sessions_ended,
        }
    }

    /// Runs `sql` while the sessions of the database `oid` are ended again and again. By its number,
    /// not its name: after the commit the name is another database's, whose sessions must live.
    async fn while_ending_sessions(
        &self,
        renamer: &Session,
        terminator: &Session,
        oid: u32,
        sql: &str,
    ) -> Result<u64> {
        let mut renamed = std::pin::pin!(renamer.raw_batch(sql));
        let mut ended = 0;
        let outcome = loop {
            tokio::select! {
                biased;
                outcome = &mut renamed => break outcome,
                () = tokio::time::sleep(TERMINATE_EVERY) => {}
            }
            let row = terminator.row("end the sessions", TERMINATE, &[&oid]).await;
            // Should this fail, the rename waits in vain, fails after five seconds, and says so.
            if let Ok(count) = row.and_then(|row| get::<i64>(&row, 0)) {
                ended += u64::try_from(count).unwrap_or_default();
            }
        };
        match outcome {
            Ok(()) => Ok(ended),
            Err(error) => Err(self.explain(renamer, terminator, oid, error).await),
        }
    }

    async fn explain(
        &self,
        renamer: &Session,
        terminator: &Session,
        oid: u32,
        error: tokio_postgres::Error,
    ) -> Error {
        let said = describe(&error);
        let code = error.code().map_or("", |code| code.code());
        if code.is_empty() {
            // The connection broke; whether the commit arrived is for the server to say.
            let message = format!(
                "swap database {}: {said}; whether it was swapped is not known",
                self.live
            );
            return Error::new(ErrorKind::Unknown, message)
                .with_source(error)
                .hint("`pefo db list` shows which is live now");
        }
        // Best effort: the session ends anyway, and its transaction with it.
        drop(renamer.raw_batch("rollback").await);
        if code == "55006" || code == "55P03" {
            let rows = terminator
                .rows("look who is in it", WHO, &[&oid])
                .await
                .unwrap_or_default();
            let who: Vec<String> = rows.iter().filter_map(|row| get(row, 0).ok()).collect();
            let message = format!(
                "database {} is in use and its sessions do not end: {} ({said})",
                self.live,
                first_few(&who)
            );
            return Error::refused("db-in-use", message)
                .retryable(true)
                .with_source(error)
                .hint("stop the services that use it around the swap ([services] bounce), then run it again");
        }
        let kind = if code == "42501" {
            ErrorKind::Denied
        } else {
            ErrorKind::Protocol
        };
        Error::new(kind, format!("swap database {}: {said}", self.live)).with_source(error)
    }
}

const TERMINATE: &str = "\
select count(*) from (select pg_catalog.pg_terminate_backend(pid) as ended from pg_catalog.pg_stat_activity where datid = $1 offset 0) s \
where s.ended";

const WHO: &str = "\
select pg_catalog.format('%s by %s (process %s)', coalesce(nullif(application_name, ''), backend_type), coalesce(usename::text, 'the server'), pid) \
from pg_catalog.pg_stat_activity where datid = $1";

fn rename(from: &DatabaseName, to: &DatabaseName) -> String {
    format!("alter database {} rename to {}", from.quoted(), to.quoted())
}

/// The number of a database, where there is one of that name.
pub(crate) async fn find_oid(session: &Session, name: &DatabaseName) -> Result<Option<u32>> {
    let query = "select oid from pg_catalog.pg_database where datname = $1::text::name";
    let rows = session
        .rows("look for the database", query, &[&name.as_str()])
        .await?;
    rows.first().map(|row| get(row, 0)).transpose()
}

async fn oid(session: &Session, name: &DatabaseName) -> Result<u32> {
    find_oid(session, name).await?.ok_or_else(|| {
        Error::new(
            ErrorKind::NotFound,
            format!("database {name:?} does not exist"),
        )
    })
}
