//! Does a database still hold what was dumped?
//!
//! Every table, sequence, large object, definition and right of a live database is compared with a manifest;
//! nothing is written. A difference is named by the object it is in.

use pefo_core::Result;
use pefo_core::cancel::Cancel;
use pefo_core::clock::Timestamp;
use pefo_core::progress::Progress;
use serde::{Deserialize, Serialize};

use crate::compare::{Difference, compare};
use crate::manifest::DumpManifest;
use crate::name::DatabaseName;
use crate::server::Server;
use crate::state::{self, DatabaseState, Exactness};

/// What a comparison of a live database with a manifest found.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[non_exhaustive]
pub struct VerifyReport {
    /// The database.
    pub database: DatabaseName,
    /// When the dump's snapshot was taken.
    pub taken_at: Timestamp,
    /// Tables compared.
    pub tables: usize,
    /// Rows the manifest has.
    pub rows: u64,
    /// Of the tables, those compared by their number of rows only.
    pub counted_only: usize,
    /// Whether every table and the large objects were compared by their values.
    pub is_exact: bool,
    /// Whether definitions were compared: only within one major version of PostgreSQL.
    pub definitions_compared: bool,
    /// Every difference; none means equal as far as was compared.
    pub differences: Vec<Difference>,
}

impl VerifyReport {
    /// Whether the live database is what was dumped, in every value and definition.
    pub fn proves_equal(&self) -> bool {
        self.differences.is_empty() && self.is_exact && self.definitions_compared
    }
}

/// Compares the live `database` with a manifest and names every table that differs.
///
/// # Errors
/// `NotFound`, `Unreachable` or `Denied` by the server; the refusal `db-digest-unknown`.
pub async fn verify(
    server: &Server,
    database: &DatabaseName,
    manifest: &DumpManifest,
    progress: &dyn Progress,
) -> Result<VerifyReport> {
    verify_unless(&Cancel::new(), server, database, manifest, progress).await
}

/// [`verify`] that ends where stop is said.
pub(crate) async fn verify_unless(
    cancel: &Cancel,
    server: &Server,
    database: &DatabaseName,
    manifest: &DumpManifest,
    progress: &dyn Progress,
) -> Result<VerifyReport> {
    progress.begin("verify", Some(manifest.state.relations.len() as u64), None);
    let exactness = Exactness::of(manifest)?;
    let (version_num, found) = read(cancel, server, database, &exactness, progress).await?;
    progress.end();
    let same_major = version_num / 10_000 == manifest.server_major();
    Ok(VerifyReport {
        database: database.clone(),
        taken_at: manifest.taken_at,
        tables: manifest.state.tables(),
        rows: manifest.state.rows(),
        counted_only: manifest.state.counted_only(),
        // We may lack the right to read large objects here.
        is_exact: manifest.state.is_exact() && found.large_objects.is_exact(),
        definitions_compared: same_major,
        differences: compare(&manifest.state, &found, same_major),
    })
}

/// The server's version as one number, and what a database holds, in one snapshot.
pub(crate) async fn read(
    cancel: &Cancel,
    server: &Server,
    database: &DatabaseName,
    exactness: &Exactness<'_>,
    progress: &dyn Progress,
) -> Result<(u32, DatabaseState)> {
    let session = server.connect(database).await?.cancelled_by(cancel);
    let version_num = session.version_num().await?;
    session
        .batch(
            "begin the snapshot",
            "begin isolation level repeatable read read only",
        )
        .await?;
    let found = state::collect(&session, exactness, progress).await?;
    session.close().await;
    Ok((version_num, found))
}
