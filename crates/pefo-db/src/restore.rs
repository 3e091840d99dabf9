//! Carries out a restore plan: shadow, load, check, set up, swap, prune.
//!
//! It guarantees: the live database is not touched before a shadow holds exactly what the manifest
//! says; and whoever dies at any step leaves the live database whole and open. What a killed run
//! leaves is a shadow, which the next run drops.

use std::borrow::Cow;
use std::path::Path;

use pefo_core::clock::{Clock, Timestamp};
use pefo_core::progress::Progress;
use pefo_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

use crate::compare::compare;
use crate::derived::Derived;
use crate::facts::ServerFacts;
use crate::kept::prune;
use crate::list::names_in;
use crate::manifest::{DumpManifest, first_few};
use crate::name::{DatabaseName, connection_string};
use crate::plan::{RestoreOptions, RestorePlan, plan_restore};
use crate::prepared::{prepare_in, swap_in_with};
use crate::properties;
use crate::server::{Server, Session, describe, get};
use crate::sizes::Sizes;
use crate::state::{self, Exactness};
use crate::stop;
use crate::swap::SwapReport;
use crate::tools::Tools;
use crate::verbose::Tables;
use crate::verify::verify_unless;

/// What a restore did.
#[derive(Debug, Clone, Serialize, Deserialize)]
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
    /// Of the tables, those compared by their number of rows only.
    pub counted_only: usize,
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RestoreOutcome {
    /// The live database was replaced, or made.
    Restored,
    /// A shadow stands verified, and the live database is as it was.
    Prepared,
    /// The live database held exactly this already.
    Unchanged,
    /// A drill: restored, checked and dropped again.
    Drilled,
}

/// How long a step took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepTime {
    /// The step, as [`Progress::begin`] names it.
    pub step: Cow<'static, str>,
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
    match unchanged(server, tools, &plan, options, clock, progress).await? {
        Some(report) => Ok(report),
        None => execute(server, tools, &plan, dir, clock, progress).await,
    }
}

/// The report of a restore that has nothing to do, where the live database holds exactly this already; what
/// a killed run has left is cleared up.
///
/// # Errors
/// As [`verify`](crate::verify); `Locked` where another run restores the same database.
pub async fn unchanged(
    server: &Server,
    tools: &Tools,
    plan: &RestorePlan,
    options: &RestoreOptions,
    clock: &dyn Clock,
    progress: &dyn Progress,
) -> Result<Option<RestoreReport>> {
    if !plan.replaces || options.even_if_unchanged {
        return Ok(None);
    }
    let (database, manifest) = (&plan.database, &plan.manifest);
    let compared = verify_unless(&tools.cancel, server, database, manifest, progress).await?;
    // Equal counts alone do not tell that nothing changed, but where this dump was restored, that it stands.
    let still_stands = options.was_restored && compared.differences.is_empty();
    if !compared.proves_equal() && !still_stands {
        return Ok(None);
    }
    // A run that was killed after its swap has had no time to clear up.
    let maintenance = lock(server, &plan.database).await?;
    let mut run = Run::new(clock, progress);
    run.drop_leftovers(&maintenance, &plan.database).await?;
    let mut report = run.report(plan, RestoreOutcome::Unchanged);
    report
        .pruned
        .extend(prune(&maintenance, &plan.database, plan.keep_previous).await?);
    Ok(Some(report))
}

/// Carries out `plan` with the dump in `dir`: [`prepare`](crate::prepare) and
/// [`swap_in`](crate::swap_in), for whoever has nothing to do between them.
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
    let maintenance = lock(server, &plan.database).await?;
    let prepared = prepare_in(&maintenance, server, tools, plan, dir, clock, progress).await?;
    swap_in_with(&maintenance, server, prepared, clock, progress).await
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
pub(crate) struct Run<'a> {
    clock: &'a dyn Clock,
    progress: &'a dyn Progress,
    current: Option<(&'static str, Timestamp)>,
    steps: Vec<StepTime>,
    leftovers_dropped: Vec<DatabaseName>,
    notes: Vec<String>,
}

impl<'a> Run<'a> {
    pub(crate) fn new(clock: &'a dyn Clock, progress: &'a dyn Progress) -> Self {
        Self {
            clock,
            progress,
            current: None,
            steps: Vec::new(),
            leftovers_dropped: Vec::new(),
            notes: Vec::new(),
        }
    }

    pub(crate) fn step(&mut self, name: &'static str) {
        self.measured_step(name, None, None);
    }

    fn measured_step(&mut self, name: &'static str, items: Option<u64>, bytes: Option<u64>) {
        self.end_step();
        self.current = Some((name, self.clock.now()));
        self.progress.begin(name, items, bytes);
    }

    pub(crate) fn end_step(&mut self) {
        if let Some((step, started)) = self.current.take() {
            let ms = u64::try_from(self.clock.now().since(started).as_millis()).unwrap_or(u64::MAX);
            let step = Cow::Borrowed(step);
            self.steps.push(StepTime { step, ms });
            self.progress.end();
        }
    }

    /// How long each step took.
    pub(crate) fn into_steps(mut self) -> Vec<StepTime> {
        self.end_step();
        self.steps
    }

    pub(crate) fn report(mut self, plan: &RestorePlan, outcome: RestoreOutcome) -> RestoreReport {
        self.end_step();
        RestoreReport {
            outcome,
            database: plan.database.clone(),
            taken_at: plan.manifest.taken_at,
            tables: plan.tables,
            rows: plan.rows,
            counted_only: plan.counted_only,
            swap: None,
            leftovers_dropped: self.leftovers_dropped,
            pruned: Vec::new(),
            accepted: plan.accepted.clone(),
            notes: plan.notes.iter().cloned().chain(self.notes).collect(),
            steps: self.steps,
        }
    }

    /// Drops what a killed run has left.
    async fn drop_leftovers(&mut self, maintenance: &Session, live: &DatabaseName) -> Result<()> {
        self.step("drop leftovers");
        let existing = names_in(maintenance).await?;
        let derived = Derived::of(live);
        for leftover in derived.leftovers()? {
            if existing.contains(&leftover) {
                drop_database(maintenance, &leftover).await?;
                self.leftovers_dropped.push(leftover);
            }
        }
        Ok(())
    }

    /// Everything before the swap; a failure drops the shadow.
    pub(crate) async fn prepare(
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

        self.drop_leftovers(maintenance, &plan.database).await?;
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
        let tablespace = plan.tablespace.as_deref();
        let create = properties::create_database(shadow, properties, tablespace, plan.server_major);
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
        let mut invocation = tools
            .invocation("pg_restore", server)
            // What this loads is not live, and the swap's own commit makes all of it durable.
            .env("PGOPTIONS", "-c synchronous_commit=off")
            .arg("--format=directory")
            .arg(format!("--jobs={}", plan.jobs))
            .arg("--exit-on-error")
            .arg("--no-subscriptions")
            .arg("--verbose")
            .arg(format!("--dbname={}", connection_string(shadow)));
        if plan.without_tablespaces {
            invocation = invocation.arg("--no-tablespaces");
        }
        let invocation = invocation.arg(dir);
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
        let exactness = Exactness::of(&plan.manifest)?;
        let found = state::collect(&session, &exactness, self.progress).await?;
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
