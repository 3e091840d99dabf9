//! Reads a [`DatabaseState`] from a session; within one transaction it is one snapshot's.

use pefo_core::progress::Progress;
use pefo_core::{Error, ErrorKind, Result};

use super::{
    DatabaseState, Exactness, Extension, Grant, LargeObjects, LocaleProvider, Properties, Relation,
    RelationKind, SchemaRights, Sequence, SequenceValue, Settings, definitions, sql,
};
use crate::name::quote_qualified;
use crate::server::{Session, get};

/// The state of the session's database, as exact as asked for.
pub(crate) async fn collect(
    session: &Session,
    exactness: &Exactness<'_>,
    progress: &dyn Progress,
) -> Result<DatabaseState> {
    let sequences = read_sequences(session).await?;
    let mut roles: Vec<String> = Vec::new();
    for row in session
        .rows("list the roles in use", sql::ROLES, &[])
        .await?
    {
        roles.push(get(&row, 0)?);
    }
    roles.sort();
    let mut extensions = Vec::new();
    for row in session
        .rows("list the extensions", sql::EXTENSIONS, &[])
        .await?
    {
        extensions.push(Extension {
            name: get(&row, 0)?,
            version: get(&row, 1)?,
        });
    }
    extensions.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(DatabaseState {
        properties: properties(session).await?,
        extensions,
        roles,
        relations: relations(session, exactness, progress).await?,
        sequences: sequences
            .into_iter()
            .map(|(schema, name, value)| Sequence {
                schema,
                name,
                before: value,
                after: value,
            })
            .collect(),
        large_objects: large_objects(session, exactness).await?,
        definitions: definitions::collect(session).await?,
    })
}

/// Schema, name and value of every sequence, by name.
pub(crate) async fn read_sequences(
    session: &Session,
) -> Result<Vec<(String, String, SequenceValue)>> {
    let mut sequences = Vec::new();
    for row in session
        .rows("list the sequences", sql::SEQUENCES, &[])
        .await?
    {
        let (schema, name): (String, String) = (get(&row, 0)?, get(&row, 1)?);
        let query = format!(
            "select last_value, is_called from {}",
            quote_qualified(&schema, &name)
        );
        let value = session
            .row(&format!("read sequence {schema}.{name}"), &query, &[])
            .await?;
        sequences.push((
            schema,
            name,
            SequenceValue {
                last_value: get(&value, 0)?,
                is_called: get(&value, 1)?,
            },
        ));
    }
    sequences.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
    Ok(sequences)
}

async fn properties(session: &Session) -> Result<Properties> {
    let row = session
        .row("read the database's properties", sql::PROPERTIES, &[])
        .await?;
    let mut settings = Vec::new();
    for row in session
        .rows("read the database's settings", sql::SETTINGS, &[])
        .await?
    {
        settings.push(Settings {
            role: get(&row, 0)?,
            values: get(&row, 1)?,
        });
    }
    settings.sort();
    let public = session
        .rows("look for the schema public", sql::PUBLIC_OWNER, &[])
        .await?;
    let public_schema = match public.first() {
        Some(row) => Some(SchemaRights {
            owner: get(row, 0)?,
            grants: grants(session, sql::PUBLIC_GRANTS).await?,
        }),
        None => None,
    };
    // Servers before 15 know the C library's locales only.
    let locale_provider = match get::<Option<String>>(&row, 6)?.as_deref() {
        None | Some("c") => LocaleProvider::Libc,
        Some("i") => LocaleProvider::Icu,
        Some("b") => LocaleProvider::Builtin,
        Some(other) => {
            return Err(Error::new(
                ErrorKind::Protocol,
                format!("locale provider {other:?} is unknown"),
            ));
        }
    };
    Ok(Properties {
        owner: get(&row, 0)?,
        encoding: get(&row, 1)?,
        collate: get(&row, 2)?,
        ctype: get(&row, 3)?,
        locale_provider,
        locale: get(&row, 7)?,
        connection_limit: get(&row, 4)?,
        comment: get(&row, 5)?,
        settings,
        grants: grants(session, sql::DATABASE_GRANTS).await?,
        public_schema,
    })
}

async fn grants(session: &Session, query: &str) -> Result<Vec<Grant>> {
    let mut grants = Vec::new();
    for row in session.rows("read the grants", query, &[]).await? {
        grants.push(Grant {
            grantee: get(&row, 0)?,
            privilege: get(&row, 1)?,
            grantable: get(&row, 2)?,
        });
    }
    grants.sort();
    Ok(grants)
}

async fn relations(
    session: &Session,
    exactness: &Exactness<'_>,
    progress: &dyn Progress,
) -> Result<Vec<Relation>> {
    let mut relations = Vec::new();
    let query = sql::relations();
    for row in session.rows("list the tables", &query, &[]).await? {
        let (schema, name): (String, String) = (get(&row, 0)?, get(&row, 1)?);
        let kind = match get::<String>(&row, 2)?.as_str() {
            "r" => RelationKind::Table,
            "p" => RelationKind::PartitionedTable,
            "v" => RelationKind::View,
            "m" => RelationKind::MaterializedView,
            _ => RelationKind::ForeignTable,
        };
        let (rows, digest) = if kind != RelationKind::Table {
            (None, None)
        } else if exactness.digests_table(&schema, &name, number(&row, 3)?) {
            let (names, one_form): (Vec<String>, Vec<bool>) = (get(&row, 4)?, get(&row, 5)?);
            let columns = names.into_iter().zip(one_form).collect();
            let query = exactness.algorithm.query(&schema, &name, columns);
            let asked = format!("digest table {schema}.{name}");
            let row = session.row(&asked, &query, &[]).await?;
            (Some(number(&row, 0)?), Some(get(&row, 1)?))
        } else {
            (Some(count(session, &schema, &name).await?), None)
        };
        progress.advance(1, 0);
        relations.push(Relation {
            schema,
            name,
            kind,
            rows,
            digest,
        });
    }
    relations.sort_by(|a, b| (&a.schema, &a.name).cmp(&(&b.schema, &b.name)));
    Ok(relations)
}

/// A size or a count; 0 of what was dropped meanwhile.
fn number(row: &tokio_postgres::Row, column: usize) -> Result<u64> {
    let size: Option<i64> = get(row, column)?;
    Ok(size
        .and_then(|size| u64::try_from(size).ok())
        .unwrap_or_default())
}

async fn count(session: &Session, schema: &str, name: &str) -> Result<u64> {
    let query = format!(
        "select count(*) from only {}",
        quote_qualified(schema, name)
    );
    let row = session
        .row(&format!("count table {schema}.{name}"), &query, &[])
        .await?;
    number(&row, 0)
}

async fn large_objects(session: &Session, exactness: &Exactness<'_>) -> Result<LargeObjects> {
    let row = session
        .row("count the large objects", sql::LARGE_OBJECTS, &[])
        .await?;
    let count = number(&row, 0)?;
    let may_read: bool = get(&row, 1)?;
    let digest = if may_read && exactness.digests_large_objects(number(&row, 2)?) {
        let row = session
            .row("digest the large objects", sql::LARGE_OBJECT_DIGEST, &[])
            .await?;
        Some(format!(
            "{}/{}",
            get::<String>(&row, 0)?,
            get::<String>(&row, 1)?
        ))
    } else {
        None
    };
    Ok(LargeObjects { count, digest })
}
