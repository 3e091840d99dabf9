//! Carries out a restore plan: shadow, load, check, set up, swap, prune.
//!
//! It guarantees: the live database is not touched before a shadow holds exactly what the manifest
//! says; and whoever dies at any step leaves the live database whole and open. What a killed run
//! leaves is a shadow, which the next run drops.

use std::path::Path;

use pefo_core::cancel::Cancel;
use pefo_core::clock::{Clock, Timestamp};
use pefo_core::progress::Progress;
use pefo_core::{Error, ErrorKind, Result};
use serde::Serialize;

use crate::compare::{Difference, compare};
use crate::derived::Derived;
use crate::facts::ServerFacts;
use crate::kept::prune;
use crate::list::list_in;
use crate::manifest::{DumpManifest, first_few};
use crate::name::{DatabaseName, connection_string};
use crate::plan::{RestoreOptions, RestorePlan, plan_restore};
use crate::properties;
use crate::server::{Server, Session, describe, get};
use crate::sizes::Sizes;
use crate::state;
use crate::stop;
use crate::swap::{Swap, SwapReport};
use crate::tools::Tools;
use crate::verbose::Tables;

/// What a restore did.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct RestoreReport {
    /// Whether anything was done.
    pub outcome: RestoreOutcome,
    /// The live database.
    pub database: DatabaseName,
    /// When the dump's snapshot was taken.
    pub taken_at: Timestamp,
    /// Tables compared.
    pub tables: usize,
    /// Rows compared.
    pub rows: u64,
    /// The swap, where there was one.
    pub swap: Option<SwapReport>,
    /// Dropped first: left by a killed run.
    pub leftovers_dropped: Vec<DatabaseName>,
    /// Dropped last: kept longer than asked for.
    pub pruned: Vec<DatabaseName>,
    /// Refusals that were overruled, with what they said.
    pub accepted: Vec<String>,
    /// What is not as on the active though all data is, for people.
    pub notes: Vec<String>,
    /// How long each step took.
    pub steps: Vec<StepTime>,
}

/// Whether a restore did anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RestoreOutcome {
    /// The live database was replaced, or made.
    Restored,
    /// The live database held exactly this already.
    Unchanged,
    /// A drill: restored, checked and dropped again.
    Drilled,
}

/// How long a step took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StepTime {
    /// The step, as [`Progress::begin`] names it.
    pub step: &'static str,
    /// Milliseconds.
    pub ms: u64,
}

/// Restores the dump in `dir` as `database`: gathers facts, plans, and executes; does nothing where
/// the live database holds exactly that already.
///
/// # Errors
/// Those of [`DumpManifest::read`], [`ServerFacts::gather`], [`plan_restore`] and [`execute`].
pub async fn restore(
    server: &Server,
    tools: &Tools,
    database: &DatabaseName,
    dir: &Path,
    options: &RestoreOptions,
    clock: &dyn Clock,
    progress: &dyn Progress,
) -> Result<RestoreReport> {
    let manifest = DumpManifest::read(dir)?;
    let facts = ServerFacts::gather(server, tools, &manifest, database).await?;
    let plan = plan_restore(&manifest, &facts, database, options)?;
    if plan.replaces && !options.even_if_unchanged {
        let differences = verify_unless(&tools.cancel, server, database, &manifest, progress)
            .await?
            .differences;
        if differences.is_empty() {
            return Ok(Run::new(clock, progress).report(&plan, RestoreOutcome::Unchanged));
        }
    }
    execute(server, tools, &plan, dir, clock, progress).await
}

/// What a comparison of a live database with a manifest found.
#[derive(Debug, Clone, Serialize)]
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
    /// Whether definitions were compared: only within one major version of PostgreSQL.
    pub definitions_compared: bool,
    /// Every difference; none means equal.
    pub differences: Vec<Difference>,
}

/// Compares the live `database` with a manifest and names every table that differs.
///
/// # Errors
/// `NotFound`, `Unreachable` or `Denied` by the server.
pub async fn verify(
    server: &Server,
    database: &DatabaseName,
    manifest: &DumpManifest,
    progress: &dyn Progress,
) -> Result<VerifyReport> {
    verify_unless(&Cancel::new(), server, database, manifest, progress).await
}

/// [`verify`] that ends where stop is said.
async fn verify_unless(
    cancel: &Cancel,
    server: &Server,
    database: &DatabaseName,
    manifest: &DumpManifest,
    progress: &dyn Progress,
) -> Result<VerifyReport> {
    progress.begin("verify", Some(manifest.state.relations.len() as u64), None);
    let session = server.connect(database).await?.cancelled_by(cancel);
    let same_major = session.version_num().await? / 10_000 == manifest.server_major();
    session
        .batch(
            "begin the snapshot",
            "begin isolation level repeatable read read only",
        )
        .await?;
    let found = state::collect(&session, progress).await?;
    session.close().await;
    progress.end();
    Ok(VerifyReport {
        database: database.clone(),
        taken_at: manifest.taken_at,
        tables: manifest.state.tables(),
        rows: manifest.state.rows(),
        definitions_compared: same_major,
        differences: compare(&manifest.state, &found, same_major),
    })
}

/// Carries out `plan` with the dump in `dir`.
///
/// # Errors
/// The refusals `db-dump-damaged`, `db-locale-missing`, `db-verify-mismatch` (naming the tables) and
/// `db-in-use`; `Locked` where another run restores the same database; `Child` where `pg_restore`
/// fails; `Cancelled` where [`Tools::cancel`] said stop before the swap. The live database is untouched
/// after every one of them, and the shadow is dropped.
pub async fn execute(
    server: &Server,
    tools: &Tools,
    plan: &RestorePlan,
    dir: &Path,
    clock: &dyn Clock,
    progress: &dyn Progress,
) -> Result<RestoreReport> {
    let mut run = Run::new(clock, progress);
    let maintenance = lock(server, &plan.database).await?;
    run.prepare(server, tools, plan, dir, &plan.shadow, &maintenance)
        .await?;

    run.step("swap");
    let databases: Vec<DatabaseName> = list_in(&maintenance)
        .await?
        .into_iter()
        .map(|database| database.name)
        .collect();
    let derived = Derived::of(&plan.database);
    let kept = if databases.contains(&plan.database) {
        Some(derived.kept(clock.now(), &databases)?)
    } else {
        None
    };
    let between = derived.swapping()?;
    let swap = Swap {
        live: &plan.database,
        incoming: &plan.shadow,
        between: &between,
        kept: kept.as_ref(),
    };
    run.swap = Some(swap.execute(server, clock).await?);

    run.step("prune");
    match prune(&maintenance, &plan.database, plan.keep_previous).await {
        Ok(pruned) => run.pruned = pruned,
        // The restore has succeeded; a database too many is told, not a failure.
        Err(error) => run.notes.push(format!("not pruned: {error}")),
    }
    run.end_step();
    Ok(run.report(plan, RestoreOutcome::Restored))
}

/// Restores the dump in `dir` into a scratch database, checks it as [`execute`] would, and drops it:
/// proof that the dump is good, with the live database untouched.
///
/// # Errors
/// Those of [`execute`] up to the swap.
pub async fn drill(
    server: &Server,
    tools: &Tools,
    plan: &RestorePlan,
    dir: &Path,
    clock: &dyn Clock,
    progress: &dyn Progress,
) -> Result<RestoreReport> {
    let mut run = Run::new(clock, progress);
    let scratch = Derived::of(&plan.database).drill()?;
    let maintenance = lock(server, &plan.database).await?;
    run.prepare(server, tools, plan, dir, &scratch, &maintenance)
        .await?;
    drop_database(&maintenance, &scratch).await?;
    run.end_step();
    Ok(run.report(plan, RestoreOutcome::Drilled))
}

/// A session on the maintenance database that holds the lock on restores of `database`; it dies with
/// the session.
pub(crate) async fn lock(server: &Server, database: &DatabaseName) -> Result<Session> {
    let session = server.maintain().await?;
    let query = "select pg_catalog.pg_try_advisory_lock(pg_catalog.hashtextextended('pefo restores ' || $1::text, 0))";
    let row = session
        .row("lock the restore", query, &[&database.as_str()])
        .await?;
    if get(&row, 0)? {
        return Ok(session);
    }
    Err(Error::new(
        ErrorKind::Locked,
        format!("another run restores or rolls back database {database}"),
    ))
}

/// Drops a database of our own, with whoever is in it.
pub(crate) async fn drop_database(session: &Session, name: &DatabaseName) -> Result<()> {
    let force = if session.version_num().await? >= 130_000 {
        " with (force)"
    } else {
        let query = "select pg_catalog.pg_terminate_backend(a.pid) from pg_catalog.pg_stat_activity a where a.datname = $1::text::name";
        session
            .rows("end the sessions", query, &[&name.as_str()])
            .await?;
        ""
    };
    session
        .batch(
            &format!("drop database {name}"),
            &format!("drop database if exists {}{force}", name.quoted()),
        )
        .await
}

/// One run's record.
struct Run<'a> {
    clock: &'a dyn Clock,
    progress: &'a dyn Progress,
    current: Option<(&'static str, Timestamp)>,
    steps: Vec<StepTime>,
    leftovers_dropped: Vec<DatabaseName>,
    pruned: Vec<DatabaseName>,
    notes: Vec<String>,
    swap: Option<SwapReport>,
}

impl<'a> Run<'a> {
    fn new(clock: &'a dyn Clock, progress: &'a dyn Progress) -> Self {
        let (steps, leftovers_dropped, pruned, notes) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self {
            clock,
            progress,
            current: None,
            steps,
            leftovers_dropped,
            pruned,
            notes,
            swap: None,
        }
    }

    fn step(&mut self, name: &'static str) {
        self.measured_step(name, None, None);
    }

    fn measured_step(&mut self, name: &'static str, items: Option<u64>, bytes: Option<u64>) {
        self.end_step();
        self.current = Some((name, self.clock.now()));
        self.progress.begin(name, items, bytes);
    }

    fn end_step(&mut self) {
        if let Some((step, started)) = self.current.take() {
            let ms = u64::try_from(self.clock.now().since(started).as_millis()).unwrap_or(u64::MAX);
            self.steps.push(StepTime { step, ms });
            self.progress.end();
        }
    }

    fn report(self, plan: &RestorePlan, outcome: RestoreOutcome) -> RestoreReport {
        RestoreReport {
            outcome,
            database: plan.database.clone(),
            taken_at: plan.manifest.taken_at,
            tables: plan.tables,
            rows: plan.rows,
            swap: self.swap,
            leftovers_dropped: self.leftovers_dropped,
            pruned: self.pruned,
            accepted: plan.accepted.clone(),
            notes: self.notes,
            steps: self.steps,
        }
    }

    /// Everything before the swap; a failure drops the shadow.
    async fn prepare(
        &mut self,
        server: &Server,
        tools: &Tools,
        plan: &RestorePlan,
        dir: &Path,
        shadow: &DatabaseName,
        maintenance: &Session,
    ) -> Result<()> {
        self.step("check files");
        stop::unless_said(&tools.cancel, check_files(&plan.manifest, dir)).await?;

        self.step("drop leftovers");
        let existing = list_in(maintenance).await?;
        let derived = Derived::of(&plan.database);
        for leftover in [derived.shadow()?, derived.swapping()?, derived.drill()?] {
            if existing.iter().any(|database| database.name == leftover) {
                drop_database(maintenance, &leftover).await?;
                self.leftovers_dropped.push(leftover);
            }
        }

        let outcome = self
            .fill(server, tools, plan, dir, shadow, maintenance)
            .await;
        if outcome.is_err() {
            // Best effort: the next run drops what this one cannot.
            drop(drop_database(maintenance, shadow).await);
        }
        outcome
    }

    async fn fill(
        &mut self,
        server: &Server,
        tools: &Tools,
        plan: &RestorePlan,
        dir: &Path,
        shadow: &DatabaseName,
        maintenance: &Session,
    ) -> Result<()> {
        let properties = &plan.manifest.state.properties;
        self.step("create");
        let create = properties::create_database(shadow, properties, plan.server_major);
        maintenance
            .raw_batch(&create)
            .await
            .map_err(|error| explain_create(maintenance, shadow, error))?;
        // Nobody looks into a half-filled copy; the active's grants come once it is whole.
        maintenance
            .batch(
                "close the shadow to others",
                &format!("revoke all on database {} from public", shadow.quoted()),
            )
            .await?;

        let sizes = Sizes::of_files(tools, &plan.manifest, dir).await;
        self.measured_step("load", u64::try_from(plan.tables).ok(), Some(sizes.total));
        let mut loaded = Tables::new(self.progress, sizes, plan.jobs);
        let invocation = tools
            .invocation("pg_restore", server)
            // What this loads is not live, and the swap's own commit makes all of it durable.
            .env("PGOPTIONS", "-c synchronous_commit=off")
            .arg("--format=directory")
            .arg(format!("--jobs={}", plan.jobs))
            .arg("--exit-on-error")
            .arg("--no-subscriptions")
            .arg("--verbose")
            .arg(format!("--dbname={}", connection_string(shadow)))
            .arg(dir);
        tools
            .run(invocation.clone(), |line| loaded.hear(line))
            .await?
            .success(&invocation)
            .map_err(|error| {
                error.hint("the live database is as it was; mend what pg_restore names, then restore again")
            })?;
        loaded.end();

        self.step("analyze");
        let session = server.connect(shadow).await?.cancelled_by(&tools.cancel);
        session.batch("analyze the shadow", "analyze").await?;

        self.step("set up");
        properties::apply(&session, shadow, properties).await?;

        self.step("compare");
        let found = state::collect(&session, self.progress).await?;
        let same_major = plan.server_major == plan.manifest.server_major();
        let (data, other): (Vec<_>, Vec<_>) = compare(&plan.manifest.state, &found, same_major)
            .into_iter()
            .partition(|difference| difference.kind.is_data());
        session.close().await;
        if !data.is_empty() {
            let names: Vec<String> = data.iter().map(ToString::to_string).collect();
            let message = format!(
                "what was restored is not what was dumped: {}",
                first_few(&names)
            );
            return Err(Error::refused("db-verify-mismatch", message)
                .hint("the live database is as it was; dump again, and if it stays, report it"));
        }
        self.notes.extend(other.iter().map(ToString::to_string));
        // The last moment at which the shadow can go without a trace: a swap is carried out.
        tools.cancel.check()
    }
}

async fn check_files(manifest: &DumpManifest, dir: &Path) -> Result<()> {
    let (manifest, dir) = (manifest.clone(), dir.to_owned());
    let checked = tokio::task::spawn_blocking(move || manifest.check_files(&dir)).await;
    checked.map_err(|error| {
        Error::new(
            ErrorKind::Child,
            "check the dump: the thread that did it died",
        )
        .with_source(error)
    })?
}

fn explain_create(session: &Session, shadow: &DatabaseName, error: tokio_postgres::Error) -> Error {
    let said = describe(&error);
    if said.contains("locale") {
        return Error::refused("db-locale-missing", format!("create database {shadow}: {said}"))
            .with_source(error)
            .hint("install the active's locale on this master (Debian: locales, locale-gen) and restart PostgreSQL");
    }
    session.error(&format!("create database {shadow}"), error)
}
