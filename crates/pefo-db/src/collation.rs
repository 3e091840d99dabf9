//! Versions of collations. The C library and ICU change how texts sort from release to release; two
//! masters with different ones agree on every value and may still not agree on their order.

use pefo_core::Result;
use serde::{Deserialize, Serialize};

use crate::server::{Session, get};
use crate::state::{LocaleProvider, Properties};

/// The first server that keeps the version of a database's collation.
const FIRST_WITH_VERSIONS: u32 = 150_000;

/// The version of a database's collation; the locales `C` and `POSIX` have none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct CollationVersion {
    /// Noted when the database was made (`pg_database.datcollversion`, since 15).
    pub recorded: Option<String>,
    /// What the server's C library or ICU has now (since 15).
    pub actual: Option<String>,
}

impl CollationVersion {
    /// Of the session's database.
    pub(crate) async fn read(session: &Session) -> Result<Self> {
        if session.version_num().await? < FIRST_WITH_VERSIONS {
            return Ok(Self::default());
        }
        let row = session
            .row("read the collation's version", OF_DATABASE, &[])
            .await?;
        Ok(Self {
            recorded: get(&row, 0)?,
            actual: get(&row, 1)?,
        })
    }
}

/// The version that a database of these `properties` would get on the session's server, as a database
/// with the same locale has it; `None` where none does.
pub(crate) async fn version_here(
    session: &Session,
    properties: &Properties,
) -> Result<Option<String>> {
    if session.version_num().await? < FIRST_WITH_VERSIONS {
        return Ok(None);
    }
    let provider = match properties.locale_provider {
        LocaleProvider::Libc => "c",
        LocaleProvider::Icu => "i",
        LocaleProvider::Builtin => "b",
    };
    let rows = session
        .rows(
            "look for the collation",
            OF_LOCALE,
            &[&provider, &properties.collate, &properties.locale],
        )
        .await?;
    rows.first().map_or(Ok(None), |row| get(row, 0))
}

const OF_DATABASE: &str = "\
select pg_catalog.to_jsonb(d) ->> 'datcollversion', pg_catalog.pg_database_collation_actual_version(d.oid) \
from pg_catalog.pg_database d where d.datname = pg_catalog.current_database()";

/// The locale itself decides the version of ICU's and the server's own collations; `datcollate` that of
/// the C library's.
const OF_LOCALE: &str = "\
select pg_catalog.pg_database_collation_actual_version(d.oid) from pg_catalog.pg_database d \
where pg_catalog.to_jsonb(d) ->> 'datlocprovider' = $1::text and d.datcollate = $2::text \
  and coalesce(pg_catalog.to_jsonb(d) ->> 'datlocale', pg_catalog.to_jsonb(d) ->> 'daticulocale') is not distinct from $3::text \
limit 1";
