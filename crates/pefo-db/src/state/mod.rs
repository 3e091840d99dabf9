//! What a database holds, as far as two of them can be compared: the same for the dump's manifest,
//! the shadow after a restore, and the live database.

mod collect;
mod definitions;
mod digest;
mod exactness;
mod sql;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

pub(crate) use collect::{collect, read_sequences};
pub use digest::DigestAlgorithm;
pub(crate) use exactness::{Exactness, Tables};

/// The state of one database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct DatabaseState {
    /// What belongs to the database itself.
    pub properties: Properties,
    /// The extensions, by name.
    pub extensions: Vec<Extension>,
    /// Every role that an object, a grant, a policy or a setting of the database names.
    pub roles: Vec<String>,
    /// Tables, partitions, views, materialized views and foreign tables, by name.
    pub relations: Vec<Relation>,
    /// Sequences, by name.
    pub sequences: Vec<Sequence>,
    /// Large objects.
    pub large_objects: LargeObjects,
    /// How objects are defined, by kind and name; comparable between servers of one major version.
    pub definitions: Vec<Definition>,
}

/// What belongs to a database itself and is in no dump of `pg_dump` without `--create`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Properties {
    /// The role that owns it.
    pub owner: String,
    /// Its encoding, such as `UTF8`.
    pub encoding: String,
    /// `LC_COLLATE`.
    pub collate: String,
    /// `LC_CTYPE`.
    pub ctype: String,
    /// Who provides the locale.
    pub locale_provider: LocaleProvider,
    /// The locale of a provider other than the C library.
    pub locale: Option<String>,
    /// The most sessions it takes; -1 for no limit.
    pub connection_limit: i32,
    /// Its comment.
    pub comment: Option<String>,
    /// `ALTER DATABASE … SET` and `ALTER ROLE … IN DATABASE … SET`.
    pub settings: Vec<Settings>,
    /// Who may do what with it; the defaults spelled out.
    pub grants: Vec<Grant>,
    /// The schema `public`, where it exists.
    pub public_schema: Option<SchemaRights>,
}

impl Properties {
    /// The name of its collation, whoever provides that.
    pub fn collation(&self) -> &str {
        self.locale.as_deref().unwrap_or(&self.collate)
    }
}

/// Who provides a database's locale (`pg_database.datlocprovider`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LocaleProvider {
    /// The C library.
    Libc,
    /// ICU (since 15).
    Icu,
    /// PostgreSQL itself (since 17).
    Builtin,
}

/// Settings of a database, for everybody or for one role.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The role; `None` for everybody.
    pub role: Option<String>,
    /// `name=value`, as stored.
    pub values: Vec<String>,
}

/// One privilege.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// The role; `None` for `PUBLIC`.
    pub grantee: Option<String>,
    /// Such as `CONNECT`.
    pub privilege: String,
    /// Whether the role may grant it further.
    pub grantable: bool,
}

/// Owner and grants of a schema.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SchemaRights {
    /// The role that owns it.
    pub owner: String,
    /// Who may do what with it; the defaults spelled out.
    pub grants: Vec<Grant>,
}

/// An extension.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Extension {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// A table, or what looks like one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Relation {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: RelationKind,
    /// Its own rows; only of tables, since all others are made from these.
    pub rows: Option<u64>,
    /// Over the rows' values, see [`DigestAlgorithm`]; `None` for a table that was only counted, being
    /// larger than the dump's limit.
    pub digest: Option<String>,
}

/// What a [`Relation`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RelationKind {
    /// A table with rows of its own; leaf partitions too.
    Table,
    /// A partitioned table, whose rows are its partitions'.
    PartitionedTable,
    /// A view.
    View,
    /// A materialized view; a restore fills it anew.
    MaterializedView,
    /// A foreign table.
    ForeignTable,
}

/// A sequence, read before and after `pg_dump` ran: sequences move outside of any snapshot, so the
/// dump holds a value somewhere between the two.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sequence {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// At the snapshot.
    pub before: SequenceValue,
    /// When the dump was done.
    pub after: SequenceValue,
}

/// Where a sequence stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SequenceValue {
    /// The last value given out, or the first to give out.
    pub last_value: i64,
    /// Whether `last_value` has been given out.
    pub is_called: bool,
}

/// Large objects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LargeObjects {
    /// How many there are.
    pub count: u64,
    /// Over their pages, as [`DigestAlgorithm::RowText`]; `None` where they were only counted, being larger than
    /// the dump's limit, or since we may not read them.
    pub digest: Option<String>,
}

impl LargeObjects {
    /// Whether this tells every byte of them.
    pub fn is_exact(&self) -> bool {
        self.count == 0 || self.digest.is_some()
    }
}

/// How an object is defined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    /// Such as `column`, `index`, `function`, `rights`.
    pub kind: String,
    /// The object, qualified.
    pub name: String,
    /// The first 16 bytes of the BLAKE3 digest of its definition, in hex.
    pub digest: String,
}

impl Relation {
    /// `schema.name`, for people.
    pub fn full_name(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }
}

impl Sequence {
    /// `schema.name`, for people.
    pub fn full_name(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }
}

impl DatabaseState {
    /// Every role that must exist before a dump of this can be restored.
    pub fn required_roles(&self) -> BTreeSet<&str> {
        let properties = &self.properties;
        let schema = properties.public_schema.iter();
        let mut roles: BTreeSet<&str> = self.roles.iter().map(String::as_str).collect();
        roles.insert(&properties.owner);
        roles.extend(
            properties
                .settings
                .iter()
                .filter_map(|settings| settings.role.as_deref()),
        );
        roles.extend(
            properties
                .grants
                .iter()
                .filter_map(|grant| grant.grantee.as_deref()),
        );
        roles.extend(schema.clone().map(|schema| schema.owner.as_str()));
        roles.extend(
            schema
                .flat_map(|schema| &schema.grants)
                .filter_map(|grant| grant.grantee.as_deref()),
        );
        roles
    }

    /// Whether every table and the large objects have a digest. Without, two states that agree may still
    /// differ in a value: never take them for equal.
    pub fn is_exact(&self) -> bool {
        self.counted_only() == 0 && self.large_objects.is_exact()
    }

    /// How many tables were only counted.
    pub fn counted_only(&self) -> usize {
        let counted = |relation: &&Relation| relation.rows.is_some() && relation.digest.is_none();
        self.relations.iter().filter(counted).count()
    }

    /// Rows of all tables.
    pub fn rows(&self) -> u64 {
        self.relations
            .iter()
            .filter_map(|relation| relation.rows)
            .sum()
    }

    /// How many tables have rows of their own.
    pub fn tables(&self) -> usize {
        self.relations
            .iter()
            .filter(|relation| relation.kind == RelationKind::Table)
            .count()
    }
}
