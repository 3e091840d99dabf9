//! The databases of a server, asked from the server and never taken from a list of ours.

use pefo_core::Result;
use serde::Serialize;

use crate::derived::Purpose;
use crate::name::DatabaseName;
use crate::server::{Server, Session, get};

/// One database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DatabaseInfo {
    /// Its name.
    pub name: DatabaseName,
    /// What it is to pefo.
    pub purpose: Purpose,
    /// The role that owns it.
    pub owner: String,
    /// Its encoding, such as `UTF8`.
    pub encoding: String,
    /// Its collation.
    pub collate: String,
    /// Its character classes.
    pub ctype: String,
    /// Bytes on disk; `None` where we may not connect to it.
    pub size_bytes: Option<u64>,
    /// Sessions in it now.
    pub sessions: u32,
    /// Whether it lets anybody connect (`template0` does not).
    pub allows_connections: bool,
    /// Whether it is a template.
    pub is_template: bool,
}

/// All databases of `server`, by name.
///
/// # Errors
/// `Unreachable` or `Denied` where the server does not let us in.
pub async fn list(server: &Server) -> Result<Vec<DatabaseInfo>> {
    list_in(&server.maintain().await?).await
}

pub(crate) async fn list_in(session: &Session) -> Result<Vec<DatabaseInfo>> {
    let rows = session.rows("list the databases", LIST, &[]).await?;
    let mut databases = Vec::with_capacity(rows.len());
    for row in &rows {
        let name = DatabaseName::new(get::<String>(row, 0)?)?;
        databases.push(DatabaseInfo {
            purpose: Purpose::of(&name),
            name,
            owner: get(row, 1)?,
            encoding: get(row, 2)?,
            collate: get(row, 3)?,
            ctype: get(row, 4)?,
            size_bytes: get::<Option<i64>>(row, 5)?.and_then(|size| u64::try_from(size).ok()),
            sessions: u32::try_from(get::<i64>(row, 6)?).unwrap_or(u32::MAX),
            allows_connections: get(row, 7)?,
            is_template: get(row, 8)?,
        });
    }
    databases.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(databases)
}

/// All names, in no order; sizes would cost a look at every file.
pub(crate) async fn names_in(session: &Session) -> Result<Vec<DatabaseName>> {
    let query = "select datname::text from pg_catalog.pg_database";
    let rows = session.rows("list the databases", query, &[]).await?;
    rows.iter()
        .map(|row| DatabaseName::new(get::<String>(row, 0)?))
        .collect()
}

const LIST: &str = "\
select d.datname::text, pg_catalog.pg_get_userbyid(d.datdba)::text, pg_catalog.pg_encoding_to_char(d.encoding)::text, \
       d.datcollate::text, d.datctype::text, \
       case when pg_catalog.has_database_privilege(d.oid, 'connect') then pg_catalog.pg_database_size(d.oid) end, \
       (select count(*) from pg_catalog.pg_stat_activity a where a.datid = d.oid), \
       d.datallowconn, d.datistemplate \
from pg_catalog.pg_database d";
