//! What a plan needs to know of the server that is restored to; read once, then pure.

use std::collections::{BTreeMap, BTreeSet};

use pefo_core::Result;

use crate::collation;
use crate::derived::Derived;
use crate::list::list_in;
use crate::manifest::DumpManifest;
use crate::name::DatabaseName;
use crate::rights::{self, Right};
use crate::server::{Server, Session, get};
use crate::space::Space;
use crate::tablespace;
use crate::tools::{ToolVersion, Tools};

/// Facts about the server that is restored to.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ServerFacts {
    /// Its version as one number: 150014 for 15.14.
    pub version_num: u32,
    /// Whether we are a superuser there.
    pub is_superuser: bool,
    /// What we lack for a restore; nothing for a superuser.
    pub missing_rights: Vec<Right>,
    /// All its roles.
    pub roles: BTreeSet<String>,
    /// The extensions it could create.
    pub extensions: BTreeSet<String>,
    /// Whether it knows the dump's encoding.
    pub knows_encoding: bool,
    /// Whether it is built with ICU.
    pub has_icu: bool,
    /// The version of the dump's collation, where a database of that locale is there to tell.
    pub collation_version: Option<String>,
    /// Its tablespaces, and whether we may create in them.
    pub tablespaces: BTreeMap<String, bool>,
    /// Where the live database lies; `None` where there is none.
    pub live_tablespace: Option<String>,
    /// The room on its disks.
    pub space: Space,
    /// Its databases.
    pub databases: Vec<DatabaseName>,
    /// Bytes of the databases that a killed run has left, which a restore drops first.
    pub leftover_bytes: u64,
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
        let properties = &manifest.state.properties;
        let row = session
            .row("ask who we are", ABOUT, &[&properties.encoding])
            .await?;
        let is_superuser = get(&row, 0)?;
        let missing_rights = if is_superuser {
            Vec::new()
        } else {
            rights::missing(&session, database, &properties.owner).await?
        };
        let live_tablespace = live_tablespace(&session, database).await?;
        let placement = &manifest.placement;
        let elsewhere = placement.elsewhere.iter().map(|used| used.name.as_str());
        let wanted = elsewhere
            .chain([tablespace::DEFAULT, &placement.tablespace])
            .chain(live_tablespace.as_deref())
            .collect();
        let databases = list_in(&session).await?;
        let leftovers = Derived::of(database).leftovers()?;
        Ok(Self {
            version_num: session.version_num().await?,
            is_superuser,
            missing_rights,
            collation_version: collation::version_here(&session, properties).await?,
            tablespaces: tablespaces(&session).await?,
            space: Space::gather(&session, server, &wanted).await?,
            live_tablespace,
            leftover_bytes: databases
                .iter()
                .filter(|database| leftovers.contains(&database.name))
                .filter_map(|database| database.size_bytes)
                .sum(),
            knows_encoding: get(&row, 1)?,
            has_icu: get(&row, 2)?,
            roles: names(&session, "select rolname::text from pg_catalog.pg_roles").await?,
            extensions: names(
                &session,
                "select name::text from pg_catalog.pg_available_extensions",
            )
            .await?,
            databases: databases
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

async fn tablespaces(session: &Session) -> Result<BTreeMap<String, bool>> {
    let query = "select t.spcname::text, pg_catalog.has_tablespace_privilege(t.oid, 'create') from pg_catalog.pg_tablespace t";
    let rows = session.rows("list the tablespaces", query, &[]).await?;
    rows.iter()
        .map(|row| Ok((get(row, 0)?, get(row, 1)?)))
        .collect()
}

async fn live_tablespace(session: &Session, database: &DatabaseName) -> Result<Option<String>> {
    let query = "select t.spcname::text from pg_catalog.pg_database d \
                 join pg_catalog.pg_tablespace t on t.oid = d.dattablespace where d.datname = $1::text::name";
    let rows = session
        .rows("look where it lies", query, &[&database.as_str()])
        .await?;
    rows.first().map(|row| get(row, 0)).transpose()
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
