//! Where a database and its objects lie: its own tablespace, and those that some of its objects name.

use pefo_core::Result;
use serde::{Deserialize, Serialize};

use crate::server::{Session, get};

/// The tablespace that every server has, and where a database goes that names none.
pub(crate) const DEFAULT: &str = "pg_default";

/// Where a dumped database lies on the active.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Placement {
    /// The database's own tablespace: that of all objects which name no other.
    pub tablespace: String,
    /// The other ones that tables, indexes and materialized views name, by name.
    pub elsewhere: Vec<TablespaceUse>,
}

/// A tablespace that objects of a database name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct TablespaceUse {
    /// Its name.
    pub name: String,
    /// Bytes that the database has in it.
    pub size_bytes: u64,
}

impl Placement {
    /// Of the session's database.
    pub(crate) async fn read(session: &Session) -> Result<Self> {
        let (mut tablespace, mut elsewhere) = (DEFAULT.to_owned(), Vec::new());
        for row in session.rows("list the tablespaces", USED, &[]).await? {
            let name = get(&row, 0)?;
            if get(&row, 1)? {
                tablespace = name;
            } else {
                elsewhere.push(TablespaceUse {
                    name,
                    size_bytes: u64::try_from(get::<i64>(&row, 2)?).unwrap_or_default(),
                });
            }
        }
        elsewhere.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Self {
            tablespace,
            elsewhere,
        })
    }
}

/// What is stored out of line, and its index, lies where its table does and is counted there.
const USED: &str = "\
select t.spcname::text, t.oid = d.dattablespace, coalesce(sum(pg_catalog.pg_relation_size(c.oid)), 0)::int8 \
from pg_catalog.pg_database d cross join pg_catalog.pg_tablespace t \
  left join pg_catalog.pg_class c on c.reltablespace = t.oid and c.oid >= 16384 and c.relpersistence <> 't' \
where d.datname = pg_catalog.current_database() and t.spcname <> 'pg_global' \
group by t.oid, t.spcname, d.dattablespace having t.oid = d.dattablespace or count(c.oid) > 0";
