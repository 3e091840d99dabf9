//! Dumps one database: `pg_dump -Fd` and the manifest, both from one exported snapshot.
//!
//! It guarantees: what the manifest says is what the dump holds, whatever happens in the database
//! meanwhile; a directory with a `pefo-db.json` is a whole dump; a failed dump leaves no directory.
//!
//! Files are not compressed (`-Z0`): a table that did not change gives the same file, and one that
//! changed a little shares its blocks with the old one, which compression would undo. Whoever sends them
//! packs them. Only `toc.dat` always differs, since it holds the time.

use std::collections::BTreeSet;
use std::path::Path;

use pefo_core::clock::{Clock, Timestamp};
use pefo_core::disk::{Attributes, Disk};
use pefo_core::progress::Progress;
use pefo_core::{Error, ErrorKind, Result};
use postgres_types::PgLsn;

use crate::collation::CollationVersion;
use crate::manifest::{DumpFile, DumpManifest, list_files};
use crate::mark::CommitMark;
use crate::name::{DatabaseName, connection_string};
use crate::server::{Server, Session, get};
use crate::sizes::Work;
use crate::space;
use crate::state::{self, DigestAlgorithm, Exactness, Tables as Digested};
use crate::stop;
use crate::tablespace::Placement;
use crate::tools::Tools;
use crate::verbose::Tables;

/// The oldest server that has `hashtextextended`, of which the digests are made.
const OLDEST_SERVER: u32 = 11;

/// How a dump is made.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct DumpOptions {
    /// How many tables are dumped at once.
    pub jobs: u32,
    /// The version of the product that uses the database; goes into the manifest.
    pub product_version: Option<String>,
    /// How long we and `pg_dump` wait for a table that somebody is altering, in seconds.
    pub lock_wait_seconds: u32,
    /// Tables up to so many bytes, with what is stored out of line and without indexes, get a digest of
    /// every value; larger ones are only counted. Large objects alike.
    pub exact_up_to_bytes: u64,
    /// Rules of refusals that the operator overrules.
    pub accept: BTreeSet<String>,
    /// The disk the manifest is written to.
    pub disk: Disk,
}

impl Default for DumpOptions {
    fn default() -> Self {
        Self {
            jobs: 2,
            product_version: None,
            lock_wait_seconds: 60,
            exact_up_to_bytes: 1 << 30,
            accept: BTreeSet::new(),
            disk: Disk::new(),
        }
    }
}

impl DumpOptions {
    /// Sets how many tables are dumped at once.
    #[must_use]
    pub fn jobs(mut self, jobs: u32) -> Self {
        self.jobs = jobs.max(1);
        self
    }

    /// Sets the product's version.
    #[must_use]
    pub fn product_version(mut self, version: impl Into<String>) -> Self {
        self.product_version = Some(version.into());
        self
    }

    /// Sets up to how many bytes a table gets a digest.
    #[must_use]
    pub fn exact_up_to(mut self, bytes: u64) -> Self {
        self.exact_up_to_bytes = bytes;
        self
    }

    /// Overrules the refusal `rule`.
    #[must_use]
    pub fn accept(mut self, rule: impl Into<String>) -> Self {
        self.accept.insert(rule.into());
        self
    }

    /// Sets the disk.
    #[must_use]
    pub fn disk(mut self, disk: Disk) -> Self {
        self.disk = disk;
        self
    }
}

/// Dumps `database` into the new directory `dir`, whose parent the tools' user must be able to write.
///
/// # Errors
/// `NotFound` where the database or `pg_dump` does not exist, `Unreachable` or `Denied` by the server,
/// the refusals `db-dump-exists`, `db-tool-older-than-server`, `db-server-unsupported` and, which may be
/// overruled, `db-dump-space`; `Child` where `pg_dump` fails, `Cancelled` where [`Tools::cancel`] said stop.
pub async fn dump(
    server: &Server,
    tools: &Tools,
    database: &DatabaseName,
    dir: &Path,
    options: &DumpOptions,
    clock: &dyn Clock,
    progress: &dyn Progress,
) -> Result<DumpManifest> {
    if std::fs::symlink_metadata(dir).is_ok() {
        let message = format!("{} exists already", dir.display());
        return Err(
            Error::refused("db-dump-exists", message).hint("a dump goes into a new directory")
        );
    }
    let outcome = dump_into(server, tools, database, dir, options, clock, progress).await;
    if outcome.is_err() {
        // Best effort: what is left has no manifest, and no restore takes it.
        drop(options.disk.remove_tree(dir));
    }
    outcome.map_err(|error| error.context(format_args!("dump database {:?}", database.as_str())))
}

async fn dump_into(
    server: &Server,
    tools: &Tools,
    database: &DatabaseName,
    dir: &Path,
    options: &DumpOptions,
    clock: &dyn Clock,
    progress: &dyn Progress,
) -> Result<DumpManifest> {
    let pg_dump = tools.version("pg_dump").await?;
    let session = server.connect(database).await?.cancelled_by(&tools.cancel);
    let server_version_num = session.version_num().await?;
    let server_major = server_version_num / 10_000;
    if server_major < OLDEST_SERVER {
        let message = format!(
            "the server is PostgreSQL {server_major}; {OLDEST_SERVER} is the oldest that can be digested"
        );
        return Err(Error::refused("db-server-unsupported", message));
    }
    if pg_dump.major < server_major {
        let message = format!(
            "{} cannot dump a server of version {server_major}",
            pg_dump.text
        );
        return Err(Error::refused("db-tool-older-than-server", message)
            .hint(format!("install postgresql-client-{server_major}, or point [database] bin_dir at the server's own programs")));
    }

    // As long as pg_dump does: sizes and digests wait for the same locks.
    let lock_wait = format!("set lock_timeout = '{}s'", options.lock_wait_seconds);
    session
        .batch("limit the wait for locks", &lock_wait)
        .await?;
    let parent = match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    space::check_for_dump(&session, parent, options.accept.contains("db-dump-space")).await?;

    let snapshot = Snapshot::export(&session, clock).await?;
    let invocation = tools
        .invocation("pg_dump", server)
        .arg("--format=directory")
        .arg(format!("--jobs={}", options.jobs))
        .arg("--compress=0")
        .arg("--no-subscriptions")
        .arg("--verbose")
        .arg(format!(
            "--lock-wait-timeout={}s",
            options.lock_wait_seconds
        ))
        .arg(format!("--snapshot={}", snapshot.id))
        .arg("--file")
        .arg(dir)
        .arg(format!("--dbname={}", connection_string(database)));
    let Work { sizes, items } = Work::of(&session).await?;
    progress.begin("dump", Some(items), Some(sizes.total));
    let mut dumped = Tables::new(progress, sizes, options.jobs);
    let algorithm = DigestAlgorithm::of_server(server_major);
    let exactness = Exactness {
        algorithm,
        tables: Digested::UpTo(options.exact_up_to_bytes),
    };
    // Together: while pg_dump writes, the same snapshot is counted and digested. Both are waited for,
    // so that no pg_dump is left running when the other fails.
    let (finished, state) = tokio::join!(
        tools.run(invocation.clone(), |line| dumped.hear(line)),
        state::collect(&session, &exactness, progress)
    );
    // The snapshot ends with our transaction: where that failed, what pg_dump says is not the cause.
    let mut state = state?;
    finished?
        .success(&invocation)
        .map_err(|error| explain(error, dir))?;
    dumped.end();
    for (schema, name, value) in state::read_sequences(&session).await? {
        if let Some(sequence) = state
            .sequences
            .iter_mut()
            .find(|sequence| (&sequence.schema, &sequence.name) == (&schema, &name))
        {
            sequence.after = value;
        }
    }
    session.batch("end the snapshot", "rollback").await?;
    session.close().await;
    progress.end();

    let manifest = DumpManifest {
        format: DumpManifest::FORMAT,
        taken_at: snapshot.taken_at,
        database: database.clone(),
        product_version: options.product_version.clone(),
        server_version_num,
        pg_dump,
        wal_lsn: snapshot.wal_lsn,
        commit_mark: snapshot.commit_mark,
        size_bytes: snapshot.size_bytes,
        placement: snapshot.placement,
        collation_version: snapshot.collation_version,
        digest_algorithm: algorithm.name().to_owned(),
        exact_up_to_bytes: options.exact_up_to_bytes,
        state,
        files: stop::unless_said(&tools.cancel, digest_files(dir)).await?,
    };
    write_manifest(&options.disk, dir, &manifest)?;
    Ok(manifest)
}

/// What the session's transaction sees, exported for `pg_dump`, and what belongs to it.
struct Snapshot {
    id: String,
    taken_at: Timestamp,
    wal_lsn: PgLsn,
    size_bytes: u64,
    commit_mark: Option<CommitMark>,
    placement: Placement,
    collation_version: CollationVersion,
}

impl Snapshot {
    /// Begins the transaction.
    async fn export(session: &Session, clock: &dyn Clock) -> Result<Self> {
        session
            .batch(
                "begin the snapshot",
                "begin isolation level repeatable read read only",
            )
            .await?;
        let export = "select pg_catalog.pg_export_snapshot()";
        let row = session.row("export the snapshot", export, &[]).await?;
        let taken_at = clock.now();
        let position = session
            .row("read the WAL position and size", POSITION, &[])
            .await?;
        Ok(Self {
            id: get(&row, 0)?,
            taken_at,
            wal_lsn: get(&position, 0)?,
            size_bytes: u64::try_from(get::<i64>(&position, 1)?).unwrap_or_default(),
            commit_mark: CommitMark::read(session).await?,
            placement: Placement::read(session).await?,
            collation_version: CollationVersion::read(session).await?,
        })
    }
}

/// On a standby, which writes no WAL, what it has replayed.
const POSITION: &str = "\
select case when pg_catalog.pg_is_in_recovery() then pg_catalog.pg_last_wal_replay_lsn() else pg_catalog.pg_current_wal_lsn() end, \
       pg_catalog.pg_database_size(pg_catalog.current_database())";

async fn digest_files(dir: &Path) -> Result<Vec<DumpFile>> {
    let dir = dir.to_owned();
    let files = tokio::task::spawn_blocking(move || list_files(&dir)).await;
    files.map_err(|error| {
        Error::new(
            ErrorKind::Child,
            "digest the dump: the thread that did it died",
        )
        .with_source(error)
    })?
}

/// Last of all: a directory that has it is a whole dump.
fn write_manifest(disk: &Disk, dir: &Path, manifest: &DumpManifest) -> Result<()> {
    let owner = Attributes::of(dir)?.owner;
    let attributes = Attributes::mode(0o600);
    let attributes = match owner {
        Some((uid, gid)) => attributes.owner(uid, gid),
        None => attributes,
    };
    disk.publish(
        &dir.join(DumpManifest::FILE_NAME),
        manifest.to_json()?.as_bytes(),
        &attributes,
    )
}

fn explain(error: Error, dir: &Path) -> Error {
    let said = error.to_string();
    if said.contains("could not create directory") || said.contains("Permission denied") {
        let parent = dir.parent().unwrap_or(dir).display().to_string();
        return error.hint(format!(
            "the user that pg_dump runs as must be able to write {parent}"
        ));
    }
    if said.contains("No space left") || said.contains("quota exceeded") {
        let parent = dir.parent().unwrap_or(dir).display().to_string();
        return error.hint(format!(
            "a dump is plain text: make room for it in {parent}"
        ));
    }
    error
}
