//! What a plan needs to know of the server that is restored to; read once, then pure.

use std::collections::BTreeSet;

use pefo_core::Result;

use crate::list::list_in;
use crate::manifest::DumpManifest;
use crate::name::DatabaseName;
use crate::server::{Server, Session, get};
use crate::tools::{ToolVersion, Tools};

/// Facts about the server that is restored to.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ServerFacts {
    /// Its version as one number: 150014 for 15.14.
    pub version_num: u32,
    /// Whether we are a superuser there.
    pub is_superuser: bool,
    /// All its roles.
    pub roles: BTreeSet<String>,
    /// The extensions it could create.
    pub extensions: BTreeSet<String>,
    /// Whether it knows the dump's encoding.
    pub knows_encoding: bool,
    /// Whether it is built with ICU.
    pub has_icu: bool,
    /// Its databases.
    pub databases: Vec<DatabaseName>,
    /// Prepared transactions in the live database, by their identifier; they hold off a rename.
    pub prepared_transactions: Vec<String>,
    /// Logical replication slots and subscriptions of the live database; they would follow the old one.
    pub replication: Vec<String>,
    /// The `pg_restore` that would be used.
    pub pg_restore: ToolVersion,
}

impl ServerFacts {
    /// Reads them for a restore of `manifest` into `database`.
    ///
    /// # Errors
    /// `Unreachable` or `Denied` by the server; `NotFound` where there is no `pg_restore`.
    pub async fn gather(
        server: &Server,
        tools: &Tools,
        manifest: &DumpManifest,
        database: &DatabaseName,
    ) -> Result<Self> {
        let pg_restore = tools.version("pg_restore").await?;
        let session = server.maintain().await?;
        let encoding = &manifest.state.properties.encoding;
        let row = session.row("ask who we are", ABOUT, &[encoding]).await?;
        Ok(Self {
            version_num: session.version_num().await?,
            is_superuser: get(&row, 0)?,
            knows_encoding: get(&row, 1)?,
            has_icu: get(&row, 2)?,
            roles: names(&session, "select rolname::text from pg_catalog.pg_roles").await?,
            extensions: names(
                &session,
                "select name::text from pg_catalog.pg_available_extensions",
            )
            .await?,
            databases: list_in(&session)
                .await?
                .into_iter()
                .map(|database| database.name)
                .collect(),
            prepared_transactions: prepared_transactions(&session, database).await?,
            replication: replication(&session, database).await?,
            pg_restore,
        })
    }
}

const ABOUT: &str = "\
select (select rolsuper from pg_catalog.pg_roles where rolname = current_user), \
       pg_catalog.pg_char_to_encoding($1::text::name) >= 0, \
       exists (select from pg_catalog.pg_collation where collprovider = 'i')";

async fn names(session: &Session, query: &str) -> Result<BTreeSet<String>> {
    let rows = session.rows("read the server's facts", query, &[]).await?;
    rows.iter().map(|row| get(row, 0)).collect()
}

/// Prepared transactions in `database`, which no termination of sessions removes.
pub(crate) async fn prepared_transactions(
    session: &Session,
    database: &DatabaseName,
) -> Result<Vec<String>> {
    let query = "select gid from pg_catalog.pg_prepared_xacts where database = $1::text::name";
    let rows = session
        .rows(
            "look for prepared transactions",
            query,
            &[&database.as_str()],
        )
        .await?;
    rows.iter().map(|row| get(row, 0)).collect()
}

async fn replication(session: &Session, database: &DatabaseName) -> Result<Vec<String>> {
    // pg_subscription's rows, but for the connection string, are readable by everybody.
    let query = "select 'slot ' || slot_name::text from pg_catalog.pg_replication_slots where database = $1::text::name \
                 union all select 'subscription ' || s.subname::text from pg_catalog.pg_subscription s \
                 join pg_catalog.pg_database d on d.oid = s.subdbid where d.datname = $1::text::name";
    let rows = session
        .rows("look for replication", query, &[&database.as_str()])
        .await?;
    rows.iter().map(|row| get(row, 0)).collect()
}
