//! The manifest of a dump, `pefo-db.json`: what the dump holds, from the same snapshot.
//!
//! It guarantees: a manifest that is parsed is of a format this program knows, has no unknown field,
//! names every relation, sequence, tablespace and file once, and has the rows of every table. [`DumpManifest::check_files`] proves that the
//! dump directory holds exactly the files that were dumped, byte for byte.

use std::collections::BTreeMap;
use std::path::Path;

use pefo_core::clock::Timestamp;
use pefo_core::disk::read_capped;
use pefo_core::{Error, RelPath, Result};
use postgres_types::PgLsn;
use serde::{Deserialize, Serialize};

use crate::collation::CollationVersion;
use crate::mark::CommitMark;
use crate::name::DatabaseName;
use crate::state::{DatabaseState, Relation, RelationKind};
use crate::tablespace::Placement;
use crate::tools::ToolVersion;

/// The format written now.
const FORMAT: u32 = 1;
const MAX_BYTES: u64 = 256 << 20;

/// What a dump holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct DumpManifest {
    /// The format's version: 1.
    pub format: u32,
    /// When the snapshot was taken.
    pub taken_at: Timestamp,
    /// The database.
    pub database: DatabaseName,
    /// The version of the product that uses the database, where the dump was told it.
    pub product_version: Option<String>,
    /// The server's version as one number: 150014 for 15.14.
    pub server_version_num: u32,
    /// The `pg_dump` that made it.
    pub pg_dump: ToolVersion,
    /// Where the write-ahead log stood at the snapshot.
    #[serde(with = "lsn")]
    pub wal_lsn: PgLsn,
    /// Tells later whether anything was committed since; `None` where the snapshot could not tell.
    pub commit_mark: Option<CommitMark>,
    /// Bytes of the database on the server.
    pub size_bytes: u64,
    /// The tablespaces it lies in.
    pub placement: Placement,
    /// The version of its collation.
    pub collation_version: CollationVersion,
    /// How the digests of tables are made.
    pub digest_algorithm: String,
    /// Tables up to so many bytes have a digest; larger ones were only counted. Large objects alike.
    pub exact_up_to_bytes: u64,
    /// What the database held.
    pub state: DatabaseState,
    /// The files `pg_dump` wrote, by path.
    pub files: Vec<DumpFile>,
}

/// One file of a dump.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DumpFile {
    /// Below the dump's directory.
    pub path: RelPath,
    /// Its size in bytes.
    pub size: u64,
    /// Its BLAKE3 digest, in hex.
    pub blake3: String,
}

impl DumpManifest {
    /// The manifest's name in the dump's directory.
    pub const FILE_NAME: &'static str = "pefo-db.json";
    pub(crate) const FORMAT: u32 = FORMAT;

    /// The manifest as JSON, one line a field's level.
    ///
    /// # Errors
    /// `Invalid`, where it cannot be written as JSON (it always can).
    pub fn to_json(&self) -> Result<String> {
        let text = serde_json::to_string_pretty(self);
        text.map(|text| text + "\n")
            .map_err(|error| Error::invalid(format!("write manifest: {error}")).with_source(error))
    }

    /// Parses a manifest.
    ///
    /// # Errors
    /// `Invalid` where it is malformed or holds anything unknown; the refusal `db-manifest-format`
    /// where a newer program wrote it.
    pub fn parse(text: &str) -> Result<Self> {
        let malformed = |error: serde_json::Error| {
            Error::invalid(format!("database manifest: {error}")).with_source(error)
        };
        let value: serde_json::Value = serde_json::from_str(text).map_err(malformed)?;
        // Looked at first: a newer format's unknown fields are no damage.
        match value.get("format").and_then(serde_json::Value::as_u64) {
            Some(format) if format == u64::from(FORMAT) => {}
            Some(format) => {
                let message = format!(
                    "the database manifest has format {format}, this program reads {FORMAT}"
                );
                return Err(Error::refused("db-manifest-format", message)
                    .hint("upgrade pefo on this master"));
            }
            None => return Err(Error::invalid("database manifest: it has no format number")),
        }
        // From the text again: numbers and duplicate keys are then seen as they were written.
        let manifest: Self = serde_json::from_str(text).map_err(malformed)?;
        manifest.validate()?;
        Ok(manifest)
    }

    /// Reads `pefo-db.json` in a dump's directory.
    ///
    /// # Errors
    /// As [`DumpManifest::parse`]; `Io` where there is none: the dump was never finished.
    pub fn read(dir: &Path) -> Result<Self> {
        let path = dir.join(Self::FILE_NAME);
        let bytes = read_capped(&path, MAX_BYTES).map_err(|error| {
            error.hint("a dump without its manifest was not finished: dump again")
        })?;
        let text = String::from_utf8(bytes).map_err(|error| {
            Error::invalid(format!("{} is not UTF-8", path.display())).with_source(error)
        })?;
        Self::parse(&text).map_err(|error| error.context(path.display()))
    }

    /// The server's major version.
    pub fn server_major(&self) -> u32 {
        self.server_version_num / 10_000
    }

    fn validate(&self) -> Result<()> {
        let strictly = |what: &str, ordered: bool| {
            if ordered {
                Ok(())
            } else {
                Err(Error::invalid(format!(
                    "database manifest: {what} are not in order, or one is there twice"
                )))
            }
        };
        let state = &self.state;
        strictly(
            "relations",
            state
                .relations
                .is_sorted_by(|a, b| (&a.schema, &a.name) < (&b.schema, &b.name)),
        )?;
        strictly(
            "sequences",
            state
                .sequences
                .is_sorted_by(|a, b| (&a.schema, &a.name) < (&b.schema, &b.name)),
        )?;
        strictly(
            "extensions",
            state.extensions.is_sorted_by(|a, b| a.name < b.name),
        )?;
        strictly("files", self.files.is_sorted_by(|a, b| a.path < b.path))?;
        strictly(
            "tablespaces",
            self.placement
                .elsewhere
                .is_sorted_by(|a, b| a.name < b.name),
        )?;
        // What has rows of its own was counted at least; what has none was not.
        let is_told = |relation: &Relation| match relation.kind {
            RelationKind::Table => relation.rows.is_some(),
            _ => relation.rows.is_none() && relation.digest.is_none(),
        };
        match state.relations.iter().find(|relation| !is_told(relation)) {
            Some(relation) => Err(Error::invalid(format!(
                "database manifest: {} is a table without its rows, or has some and is none",
                relation.full_name()
            ))),
            None => Ok(()),
        }
    }

    /// Bytes that are equal for two dumps only where these hold the same: the state, and with it all
    /// files where the state is not exact. `toc.dat` holds the time, so such dumps are never equal.
    ///
    /// # Errors
    /// `Invalid`, where they cannot be written as JSON (they always can).
    pub fn content(&self) -> Result<Vec<u8>> {
        let content = if self.state.is_exact() {
            serde_json::to_vec(&self.state)
        } else {
            serde_json::to_vec(&(&self.state, &self.files))
        };
        content.map_err(|error| {
            Error::invalid(format!("write the dump's content: {error}")).with_source(error)
        })
    }

    /// Proves that `dir` holds exactly the dumped files. Reads every byte; blocks.
    ///
    /// # Errors
    /// The refusal `db-dump-damaged`, naming the files that are missing, changed or foreign.
    pub fn check_files(&self, dir: &Path) -> Result<()> {
        let found: BTreeMap<_, _> = list_files(dir)?
            .into_iter()
            .map(|file| (file.path.clone(), file))
            .collect();
        let expected: BTreeMap<_, _> = self.files.iter().map(|file| (&file.path, file)).collect();
        let mut wrong: Vec<String> = Vec::new();
        for (path, file) in &expected {
            match found.get(*path) {
                None => wrong.push(format!("{path} is missing")),
                Some(other) if other != *file => wrong.push(format!("{path} was changed")),
                Some(_) => {}
            }
        }
        wrong.extend(
            found
                .keys()
                .filter(|path| !expected.contains_key(path))
                .map(|path| format!("{path} is not of the dump")),
        );
        if wrong.is_empty() {
            return Ok(());
        }
        let message = format!(
            "the dump in {} is damaged: {}",
            dir.display(),
            first_few(&wrong)
        );
        Err(Error::refused("db-dump-damaged", message)
            .hint("fetch or dump it again; nothing was changed"))
    }
}

/// The first of many, and how many more there are.
pub(crate) fn first_few(items: &[String]) -> String {
    const SHOWN: usize = 5;
    let shown = items
        .iter()
        .take(SHOWN)
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join(", ");
    if items.len() > SHOWN {
        format!("{shown} and {} more", items.len() - SHOWN)
    } else {
        shown
    }
}

/// Every file below `dir` but the manifest, digested, by path. Blocks.
pub(crate) fn list_files(dir: &Path) -> Result<Vec<DumpFile>> {
    let mut files = Vec::new();
    for entry in walkdir::WalkDir::new(dir)
        .min_depth(1)
        .same_file_system(true)
    {
        let entry = entry.map_err(|error| Error::io("list", dir, error.into()))?;
        let path = RelPath::below(dir, entry.path())?;
        if entry.file_type().is_dir() || path.as_str() == DumpManifest::FILE_NAME {
            continue;
        }
        if !entry.file_type().is_file() {
            return Err(Error::refused(
                "db-dump-damaged",
                format!("{} is not a regular file", entry.path().display()),
            ));
        }
        let mut hasher = blake3::Hasher::new();
        let file = std::fs::File::open(entry.path())
            .map_err(|error| Error::io("open", entry.path(), error))?;
        hasher
            .update_reader(file)
            .map_err(|error| Error::io("read", entry.path(), error))?;
        files.push(DumpFile {
            path,
            size: hasher.count(),
            blake3: hasher.finalize().to_hex().to_string(),
        });
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

/// A WAL position as PostgreSQL writes it: `16/B374D848`.
mod lsn {
    use postgres_types::PgLsn;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(lsn: &PgLsn, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(lsn)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<PgLsn, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse()
            .map_err(|_| D::Error::custom(format!("{text:?} is no WAL position")))
    }
}

#[cfg(test)]
pub(crate) mod tests;
