//! How the rows of a table become one digest, on the server.
//!
//! It guarantees: the digest depends neither on the order of the rows nor on that of the columns, equal
//! rows count as often as they occur, and a value that prints otherwise is another value, whatever the
//! equality of its type says (`1.0` and `1.00`, two spellings in `citext`, `-0` and `0`).

use pefo_core::{Error, Result};

use crate::name::{quote_identifier, quote_qualified};

/// How a digest is made; a manifest says it by name, and only like is compared with like.
///
/// A digest tells accidents, not forgers: against those stands the generation's signature. `md5()` would be
/// shorter, but fails where OpenSSL runs in FIPS mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DigestAlgorithm {
    /// For servers before 14: `row(<columns by name>)::text` under the pinned settings is hashed by
    /// `hashtextextended` with the seeds 0 and 1; the digest is the two exact sums over all rows. A change
    /// goes unseen by a chance of 2⁻¹²⁸.
    RowText,
    /// Since 14, at less than half the cost: the row is hashed by `hash_record_extended` with the seed 0, and
    /// the digest is the exact sum over all rows. Columns of types that have one form for each value go in
    /// as they are; all others, by name, as the text of one row. A change goes unseen by a chance of 2⁻⁶⁴.
    Record,
}

/// The first server with `hash_record_extended`.
const RECORD_SINCE: u32 = 14;

/// Types of which equal values are the same value: their equality compares every byte. Not among them are
/// floats (`-0`), `numeric` (the scale), `interval`, `jsonb`, and what has an equality of its own, such as
/// `citext`; nor enums, whose hash is that of a number of this one database; nor text under a collation that
/// takes different strings for equal (only such a one hashes by itself). A `char(n)` pads every value.
const ONE_FORM: &str = "\
(t.typnamespace = 'pg_catalog'::pg_catalog.regnamespace \
 and (t.typname in ('bool', 'int2', 'int4', 'int8', 'text', 'varchar', 'bytea', 'uuid', 'date', 'timestamp', 'timestamptz') \
      or t.typname = 'bpchar' and a.atttypmod > 0) \
 and (a.attcollation = 0 \
      or (select pg_catalog.to_jsonb(l) ->> 'collisdeterministic' from pg_catalog.pg_collation l where l.oid = a.attcollation) = 'true'))";

/// An array of the names of the columns of `c`, and one that tells which of them [`ONE_FORM`] says.
pub(super) fn columns_of_relation() -> String {
    let of = |what: &str| {
        format!(
            "array(select {what} from pg_catalog.pg_attribute a join pg_catalog.pg_type t on t.oid = a.atttypid \
             where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped order by a.attnum)"
        )
    };
    format!("{}, {}", of("a.attname::text"), of(ONE_FORM))
}

impl DigestAlgorithm {
    /// What a dump of a server of this major version is digested by.
    pub(crate) fn of_server(major: u32) -> Self {
        if major < RECORD_SINCE {
            Self::RowText
        } else {
            Self::Record
        }
    }

    /// Its name in a manifest.
    pub fn name(self) -> &'static str {
        match self {
            Self::RowText => "sum-hashtextextended-0-1",
            Self::Record => "sum-hash-record-extended-0",
        }
    }

    /// The one of this name.
    ///
    /// # Errors
    /// The refusal `db-digest-unknown`, where this program knows none.
    pub fn named(name: &str) -> Result<Self> {
        for known in [Self::Record, Self::RowText] {
            if known.name() == name {
                return Ok(known);
            }
        }
        let message =
            format!("the dump was digested by {name:?}, which this program does not know");
        Err(Error::refused("db-digest-unknown", message)
            .hint("run the same version of pefo on both masters"))
    }

    /// The query for the number of rows of a table and their digest.
    pub(super) fn query(
        self,
        schema: &str,
        table: &str,
        mut columns: Vec<(String, bool)>,
    ) -> String {
        // By name: a restore may order the columns of an inherited table differently.
        columns.sort();
        let named = |of: &dyn Fn(bool) -> bool| -> Vec<String> {
            let columns = columns.iter().filter(|(_, one_form)| of(*one_form));
            columns
                .map(|(name, _)| format!("t.{}", quote_identifier(name)))
                .collect()
        };
        let table = quote_qualified(schema, table);
        match self {
            Self::RowText => format!(
                "select count(*), coalesce(sum(pg_catalog.hashtextextended(x.r, 0)), 0)::text || '/' || \
                 coalesce(sum(pg_catalog.hashtextextended(x.r, 1)), 0)::text \
                 from (select row({})::text as r from only {table} t offset 0) x",
                named(&|_| true).join(", ")
            ),
            Self::Record => {
                let (mut hashed, printed) =
                    (named(&|one_form| one_form), named(&|one_form| !one_form));
                if !printed.is_empty() {
                    hashed.push(format!("row({})::text", printed.join(", ")));
                }
                format!(
                    "select count(*), coalesce(sum(pg_catalog.hash_record_extended(row({}), 0)), 0)::text \
                     from only {table} t",
                    hashed.join(", ")
                )
            }
        }
    }
}
