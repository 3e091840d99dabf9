//! Stop is said in the middle: it ends soon, on the server too, and nothing of it stays.

use std::sync::Arc;
use std::time::Duration;

use pefo_core::cancel::Cancel;
use pefo_core::{Error, ErrorKind, Result};
use pefo_db::RestoreOptions;
use pefo_testkit::wait;

use crate::bench::{Bench, name};

const LIMIT: Duration = Duration::from_secs(60);

/// What pefo and its programs are at on the server.
const OURS: &str =
    "from pg_stat_activity where application_name = 'pefo' and pid <> pg_backend_pid()";

struct Stoppable {
    bench: Arc<Bench>,
    cancel: Cancel,
}

impl Stoppable {
    fn start() -> Option<Self> {
        let mut bench = Bench::start()?;
        let cancel = Cancel::new();
        bench.tools = bench.tools.clone().cancel(cancel.clone());
        bench
            .cluster
            .sql("postgres", "create database live")
            .unwrap();
        Some(Self {
            bench: Arc::new(bench),
            cancel,
        })
    }

    /// Waits for `work` to fail, and says stop once one of our sessions is `at` something.
    async fn stopped<T: std::fmt::Debug>(
        &self,
        at: &'static str,
        work: impl Future<Output = Result<T>>,
    ) -> Error {
        let (bench, cancel) = (Arc::clone(&self.bench), self.cancel.clone());
        let stopper = tokio::task::spawn_blocking(move || {
            wait_until_at(&bench, at);
            cancel.cancel();
        });
        let error = work.await.unwrap_err();
        stopper.await.unwrap();
        error
    }

    /// Off this thread, on which connections that were given up are still to be closed.
    async fn assert_nobody_is_left(&self) {
        let bench = Arc::clone(&self.bench);
        let gone = tokio::task::spawn_blocking(move || {
            wait::until("our sessions to end", LIMIT, || {
                bench.ask("postgres", &format!("select count(*) {OURS}")) == "0"
            });
        });
        gone.await.unwrap();
    }
}

fn wait_until_at(bench: &Bench, at: &str) {
    let query = format!("select count(*) > 0 {OURS} and {at}");
    wait::until(at, LIMIT, || bench.ask("postgres", &query) == "t");
}

/// A table whose rows take 10 ms each to restore.
const SLOW_TO_LOAD: &str = "\
create function slow(int) returns boolean language sql as 'select true'; \
create table t (n int check (slow(n))); insert into t select generate_series(1, 100000); \
create or replace function slow(int) returns boolean language sql as 'select pg_catalog.pg_sleep(0.01) is not null'";

#[tokio::test]
async fn a_dump_that_is_stopped_while_pg_dump_copies_leaves_no_directory_and_no_session() {
    let Some(stoppable) = Stoppable::start() else {
        return;
    };
    let bench = &stoppable.bench;
    bench
        .cluster
        .sql(
            "live",
            "create table t as select n, md5(n::text) as text from generate_series(1, 1000000) n",
        )
        .unwrap();
    let error = stoppable
        .stopped("query like 'COPY%'", bench.dump("live", "dump"))
        .await;
    assert_eq!(error.kind(), ErrorKind::Cancelled, "{error:?}");
    assert!(!bench.dir.path().join("dump").exists());
    stoppable.assert_nobody_is_left().await;
}

#[tokio::test]
async fn a_dump_that_is_stopped_while_it_waits_for_a_lock_ends() {
    let Some(stoppable) = Stoppable::start() else {
        return;
    };
    let bench = &stoppable.bench;
    bench.cluster.sql("live", "create table t (n int)").unwrap();
    let _holder = Holder::of_table_t(bench);
    let error = stoppable
        .stopped(
            "application_name = 'pefo' and wait_event_type = 'Lock'",
            bench.dump("live", "dump"),
        )
        .await;
    assert_eq!(error.kind(), ErrorKind::Cancelled, "{error:?}");
    assert!(!bench.dir.path().join("dump").exists());
    stoppable.assert_nobody_is_left().await;
}

#[tokio::test]
async fn a_restore_that_is_stopped_while_pg_restore_loads_leaves_no_shadow_and_the_live_database() {
    let Some(stoppable) = Stoppable::start() else {
        return;
    };
    let bench = &stoppable.bench;
    bench.cluster.sql("live", SLOW_TO_LOAD).unwrap();
    let (dir, _) = bench.dump("live", "dump").await.unwrap();
    let options = RestoreOptions::default().even_if_unchanged(true);
    let error = stoppable
        .stopped(
            "datname like '%shadow' and query like 'COPY%'",
            bench.restore("live", &dir, &options),
        )
        .await;
    assert_eq!(error.kind(), ErrorKind::Cancelled, "{error:?}");
    assert_eq!(bench.databases(), ["live"]);
    stoppable.assert_nobody_is_left().await;
    assert_eq!(bench.ask("live", "select count(*) from t"), "100000");
}

#[tokio::test]
async fn a_query_of_our_own_that_is_stopped_ends_on_the_server() {
    let Some(stoppable) = Stoppable::start() else {
        return;
    };
    let bench = &stoppable.bench;
    bench.cluster.sql("live", "create table t (n int)").unwrap();
    let (dir, _) = bench.dump("live", "dump").await.unwrap();
    let _holder = Holder::of_table_t(bench);
    let options = RestoreOptions::default();
    let error = stoppable
        .stopped(
            "application_name = 'pefo' and wait_event_type = 'Lock'",
            bench.restore("live", &dir, &options),
        )
        .await;
    assert_eq!(error.kind(), ErrorKind::Cancelled, "{error:?}");
    stoppable.assert_nobody_is_left().await;
}

#[tokio::test]
async fn nothing_is_begun_once_stop_was_said() {
    let Some(stoppable) = Stoppable::start() else {
        return;
    };
    let bench = &stoppable.bench;
    let (dir, _) = bench.dump("live", "dump").await.unwrap();
    stoppable.cancel.cancel();
    let error = bench.dump("live", "another").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    let options = RestoreOptions::default().even_if_unchanged(true);
    let error = bench.restore("live", &dir, &options).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert_eq!(bench.databases(), ["live"]);
}

#[tokio::test]
async fn a_restore_that_nobody_waits_for_any_more_ends_with_its_programs() {
    let Some(stoppable) = Stoppable::start() else {
        return;
    };
    let bench = &stoppable.bench;
    bench.cluster.sql("live", SLOW_TO_LOAD).unwrap();
    let (dir, _) = bench.dump("live", "dump").await.unwrap();
    let options = RestoreOptions::default().even_if_unchanged(true);
    let watcher = Arc::clone(bench);
    let loading = tokio::task::spawn_blocking(move || {
        wait_until_at(&watcher, "datname like '%shadow' and query like 'COPY%'");
    });
    tokio::select! {
        outcome = bench.restore("live", &dir, &options) => panic!("{outcome:?}"),
        outcome = loading => outcome.unwrap(),
    }
    stoppable.assert_nobody_is_left().await;
    // What it could not take back, the next run does; and the lock died with it.
    bench
        .cluster
        .sql(
            "live",
            "create or replace function slow(int) returns boolean language sql as 'select true'",
        )
        .unwrap();
    let (dir, _) = bench.dump("live", "again").await.unwrap();
    let report = bench.restore("live", &dir, &options).await.unwrap();
    assert_eq!(report.leftovers_dropped, [name("live.pefo-shadow")]);
}

/// A session that lets nobody at a table until it is dropped.
struct Holder(std::process::Child);

impl Holder {
    fn of_table_t(bench: &Bench) -> Self {
        let psql = std::process::Command::new(bench.cluster.bin_dir().join("psql"))
            .args(["-X", "-q", "-d", &bench.cluster.connection_string("live")])
            .args([
                "-c",
                "begin",
                "-c",
                "lock table t",
                "-c",
                "select pg_sleep(600)",
            ])
            .stdin(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let holder = Self(psql);
        let held = "select count(*) > 0 from pg_locks where mode = 'AccessExclusiveLock' and granted and relation = 't'::regclass";
        wait::until("the lock", LIMIT, || bench.ask("live", held) == "t");
        holder
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
