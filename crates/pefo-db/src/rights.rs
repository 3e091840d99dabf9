//! What a role needs that is no superuser and restores all the same.

use std::fmt;

use pefo_core::Result;

use crate::name::DatabaseName;
use crate::server::{Session, get};

/// The first server that tells being a member from being allowed to become the role.
const FIRST_WITH_SET: u32 = 160_000;

/// A right without which a restore is certain to fail.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Right {
    /// To make and rename databases: the attribute `CREATEDB`.
    CreateDatabases,
    /// To give the shadow its owner: membership in that role.
    BecomeOwner(String),
    /// To rename the live database: membership in the role that owns it.
    OwnLive(String),
    /// To end the live database's sessions: membership in `pg_signal_backend`.
    EndSessions,
    /// To make something in a tablespace: `CREATE` on it.
    CreateIn(String),
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CreateDatabases => write!(f, "CREATEDB"),
            Self::BecomeOwner(role) => {
                write!(f, "membership in {role}, which owns the dumped database")
            }
            Self::OwnLive(role) => write!(f, "membership in {role}, which owns the live database"),
            Self::EndSessions => write!(f, "membership in pg_signal_backend"),
            Self::CreateIn(tablespace) => write!(f, "CREATE on the tablespace {tablespace}"),
        }
    }
}

/// The rights that we lack to replace `database` by one that belongs to `owner`; those in tablespaces
/// apart. Of a superuser there is no need to ask.
pub(crate) async fn missing(
    session: &Session,
    database: &DatabaseName,
    owner: &str,
) -> Result<Vec<Right>> {
    let becomes = if session.version_num().await? >= FIRST_WITH_SET {
        "set"
    } else {
        "member"
    };
    let row = session
        .row(
            "ask for our rights",
            RIGHTS,
            &[&database.as_str(), &owner, &becomes],
        )
        .await?;
    let mut missing = Vec::new();
    if !get::<bool>(&row, 0)? {
        missing.push(Right::CreateDatabases);
    }
    missing.extend(get::<Option<String>>(&row, 1)?.map(Right::BecomeOwner));
    missing.extend(get::<Option<String>>(&row, 2)?.map(Right::OwnLive));
    if get(&row, 3)? {
        missing.push(Right::EndSessions);
    }
    Ok(missing)
}

/// An owner that does not exist is refused as a missing role.
const RIGHTS: &str = "\
select r.rolcreatedb, \
       (select o.rolname::text from pg_catalog.pg_roles o where o.rolname = $2::text and not pg_catalog.pg_has_role(o.oid, $3::text)), \
       (select pg_catalog.pg_get_userbyid(d.datdba)::text from pg_catalog.pg_database d \
         where d.datname = $1::text and not pg_catalog.pg_has_role(d.datdba, 'usage')), \
       exists (select from pg_catalog.pg_database d where d.datname = $1::text) \
         and not pg_catalog.pg_has_role('pg_signal_backend', 'usage') \
from pg_catalog.pg_roles r where r.rolname = current_user";
