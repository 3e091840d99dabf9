//! Whether anything was committed since a dump, told without reading a row.
//!
//! A dump notes a [`CommitMark`]: which server it was, since when that has run without a break, and the
//! `xmax` of the dump's own snapshot, which is the latest completed transaction id and one.
//! [`is_unchanged_since`] reads the three again. It guarantees: `true` only where nothing was committed
//! in between. Everything else, what is not known included, is `false`, and costs a dump.
//!
//! Why equal marks prove it:
//!
//! - Whoever changes a row, a definition, a grant, a setting or a large object has a transaction id, and
//!   its end, by commit or rollback, raises `xmax` unless a later id has ended before. That is excluded:
//!   there is a mark only where no transaction below `xmax` was in progress (`xmin = xmax`). One that
//!   was open at the dump has an id from `xmax` on, and raises it when it ends. A prepared transaction
//!   counts as in progress until it is committed or rolled back, which raises `xmax` in turn. Ids are
//!   64 bits long here, and while the server runs none comes again.
//! - Ids belong to the whole server. So a commit in any of its databases makes the answer `false`, and
//!   what a manifest holds outside of its database (settings, grants, owner) is covered.
//! - A crash empties unlogged tables without an id, and may lose what was committed with
//!   `synchronous_commit = off`, whose ids are then given out again. A crash of one session is enough;
//!   the server then recovers by itself and `pg_postmaster_start_time()` stays as it was. Therefore the
//!   start of the checkpointer is taken, a process that lives exactly as long as the server runs without
//!   crash or restart.
//! - A base backup or a point in time that is recovered has been started, so its checkpointer is another.
//!
//! What moves without a transaction id, and is not seen:
//!
//! - Sequences: one writes to the log, and takes an id, only every 32 values and at the first after a
//!   checkpoint; an unlogged one never. So up to 32 values may have been given out, but to nobody who
//!   committed: they are in no row. After a takeover they are given out once more.
//! - Hint bits, pruning, freezing and the removal of dead rows, which change no row's value.
//! - A virtual machine that is put back together with its memory is the server of then, with its
//!   checkpointer and its ids. If exactly as many transactions end after that as before, the marks are
//!   equal. Who puts machines back that way dumps once afterwards without asking here.
//!
//! A standby in recovery gives no mark: its ids are its primary's, and it can be promoted at any time.

use pefo_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

use crate::name::DatabaseName;
use crate::server::{Server, Session, get};

/// Where a server's commits stood at a snapshot. `docs/database.md` says what it proves, and what moves
/// without it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct CommitMark {
    /// The cluster's identifier, as `pg_control_system()` prints it.
    pub system_identifier: String,
    /// Since when the server has run without crash or restart: the start of its checkpointer, in UTC.
    pub started_at: String,
    /// The latest transaction id that had ended, and one; with its epoch, so that it never wraps around.
    pub xmax: u64,
}

/// Whether nothing was committed on `server` since the dump that noted `mark`, in any of its databases.
/// `database`, to which this connects, is then what was dumped. `false` also means "not known".
///
/// # Errors
/// `NotFound` where there is no such database; `Unreachable` or `Denied` by the server.
pub async fn is_unchanged_since(
    server: &Server,
    database: &DatabaseName,
    mark: &CommitMark,
) -> Result<bool> {
    let session = server.connect(database).await?;
    let now = CommitMark::read(&session).await?;
    session.close().await;
    Ok(now.as_ref() == Some(mark))
}

impl CommitMark {
    /// The mark of the session's snapshot; `None` where it would prove nothing or may not be read. Never
    /// fails for want of a right, which would end the caller's transaction.
    pub(crate) async fn read(session: &Session) -> Result<Option<Self>> {
        let Some(system_identifier) = system_identifier(session).await? else {
            return Ok(None);
        };
        let query = if session.version_num().await? >= 130_000 {
            MARK
        } else {
            MARK_BEFORE_13
        };
        let row = session.row("read the commit mark", query, &[]).await?;
        let (is_clear, started_at, xmax): (bool, Option<String>, String) =
            (get(&row, 0)?, get(&row, 1)?, get(&row, 2)?);
        let Some(started_at) = started_at.filter(|_| is_clear) else {
            return Ok(None);
        };
        let xmax = xmax.parse().map_err(|_| {
            let message = format!("the snapshot's xmax is {xmax:?}");
            Error::new(ErrorKind::Protocol, message)
        })?;
        Ok(Some(Self {
            system_identifier,
            started_at,
            xmax,
        }))
    }
}

/// Clear: no recovery, and no transaction in progress. When the checkpointer started is told to those
/// only who may read all statistics.
const MARK: &str = "\
select not pg_catalog.pg_is_in_recovery() and pg_catalog.pg_snapshot_xmin(s.now) = pg_catalog.pg_snapshot_xmax(s.now), \
       (select min(a.backend_start)::text from pg_catalog.pg_stat_activity a where a.backend_type = 'checkpointer'), \
       pg_catalog.pg_snapshot_xmax(s.now)::text \
from (select pg_catalog.pg_current_snapshot() as now) s";

const MARK_BEFORE_13: &str = "\
select not pg_catalog.pg_is_in_recovery() and pg_catalog.txid_snapshot_xmin(s.now) = pg_catalog.txid_snapshot_xmax(s.now), \
       (select min(a.backend_start)::text from pg_catalog.pg_stat_activity a where a.backend_type = 'checkpointer'), \
       pg_catalog.txid_snapshot_xmax(s.now)::text \
from (select pg_catalog.txid_current_snapshot() as now) s";

/// The cluster's identifier, where we may read it.
pub(crate) async fn system_identifier(session: &Session) -> Result<Option<String>> {
    let may =
        "select pg_catalog.has_function_privilege('pg_catalog.pg_control_system()', 'execute')";
    if !get::<bool>(&session.row("ask for our rights", may, &[]).await?, 0)? {
        return Ok(None);
    }
    let query = "select system_identifier::text from pg_catalog.pg_control_system()";
    let row = session
        .row("read the cluster's identifier", query, &[])
        .await?;
    get(&row, 0).map(Some)
}
