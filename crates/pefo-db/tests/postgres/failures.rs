//! A run that dies at any step leaves the live database whole and open, and the next run succeeds.

use std::sync::Mutex;

use pefo_core::ErrorKind;
use pefo_core::clock::SystemClock;
use pefo_core::progress::{Progress, Silent};
use pefo_db::{RestoreOptions, RestoreOutcome, ServerFacts, plan_restore};
use pefo_testkit::postgres::ClusterOptions;
use tokio::sync::oneshot;

use crate::bench::{Bench, name, rule};

/// Tells when a step begins.
struct At {
    step: &'static str,
    reached: Mutex<Option<oneshot::Sender<()>>>,
}

impl Progress for At {
    fn begin(&self, stage: &str, _items: Option<u64>, _bytes: Option<u64>) {
        if stage == self.step
            && let Some(reached) = self.reached.lock().unwrap().take()
        {
            reached.send(()).unwrap();
        }
    }
}

#[tokio::test]
async fn a_run_killed_at_any_step_leaves_the_live_database_open_and_the_next_run_succeeds() {
    let Some(bench) = Bench::start() else { return };
    bench.create_live("create table t as select 1 as version, generate_series(1, 20000) as n");
    let (dir, manifest) = bench.dump("live", "dump").await.unwrap();
    let mut leftovers = 0;
    for step in [
        "check files",
        "drop leftovers",
        "create",
        "load",
        "analyze",
        "set up",
        "compare",
        "swap",
        "prune",
    ] {
        bench
            .cluster
            .sql("live", "update t set version = 2")
            .unwrap();
        let (sender, reached) = oneshot::channel();
        let progress = At {
            step,
            reached: Mutex::new(Some(sender)),
        };
        let (database, options) = (name("live"), RestoreOptions::default());
        {
            let run = pefo_db::restore(
                &bench.server,
                &bench.tools,
                &database,
                &dir,
                &options,
                &SystemClock,
                &progress,
            );
            // Dropped wherever it is once the step has begun and it next waits for something.
            tokio::select! {
                biased;
                outcome = reached => outcome.unwrap(),
                outcome = run => panic!("{step} was never reached: {outcome:?}"),
            }
        }
        // Open, and whole: the old one, or (after the swap) the new one.
        let versions = bench.ask("live", "select version, count(*) from t group by 1");
        assert_eq!(
            versions,
            if step == "prune" {
                "1|20000"
            } else {
                "2|20000"
            },
            "after {step}"
        );
        let query =
            "select count(*) from pg_database where not datallowconn and datname <> 'template0'";
        assert_eq!(bench.ask("postgres", query), "0");

        let options = RestoreOptions::default().even_if_unchanged(true);
        let report = restore_once_unlocked(&bench, &dir, &options).await;
        leftovers += report.leftovers_dropped.len();
        assert_eq!(
            bench.differences("live", &manifest).await,
            Vec::<String>::new()
        );
        assert_eq!(
            bench.databases().len(),
            2,
            "live and one kept, after {step}"
        );
    }
    assert!(
        leftovers >= 4,
        "the killed runs left {leftovers} shadows to be dropped"
    );
}

/// The server notices the end of a killed run's sessions when it next writes to them.
async fn restore_once_unlocked(
    bench: &Bench,
    dir: &std::path::Path,
    options: &RestoreOptions,
) -> pefo_db::RestoreReport {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    loop {
        match bench.restore("live", dir, options).await {
            Ok(report) => return report,
            Err(error)
                if error.kind() == ErrorKind::Locked && std::time::Instant::now() < deadline =>
            {
                tokio::task::yield_now().await
            }
            Err(error) => panic!("{error:?}"),
        }
    }
}

#[tokio::test]
async fn two_runs_at_once_do_not_meet() {
    let Some(bench) = Bench::start() else { return };
    bench.create_live("create table t as select generate_series(1, 1000) as n");
    let (dir, _) = bench.dump("live", "dump").await.unwrap();
    let options = RestoreOptions::default().even_if_unchanged(true);
    let (one, two) = tokio::join!(
        bench.restore("live", &dir, &options),
        bench.restore("live", &dir, &options)
    );
    let (done, locked): (Vec<_>, Vec<_>) = [one, two].into_iter().partition(Result::is_ok);
    assert_eq!((done.len(), locked.len()), (1, 1));
    assert_eq!(
        locked.into_iter().next().unwrap().unwrap_err().kind(),
        ErrorKind::Locked
    );
    assert_eq!(bench.databases().len(), 2);
}

#[tokio::test]
async fn a_drill_proves_the_dump_and_leaves_everything_as_it_was() {
    let Some(bench) = Bench::with_rbac() else {
        return;
    };
    let (dir, manifest) = bench.dump("pe-rbac", "dump").await.unwrap();
    let database = name("pe-rbac");
    let before = bench.ask(
        "postgres",
        "select oid from pg_database where datname = 'pe-rbac'",
    );
    let facts = ServerFacts::gather(&bench.server, &bench.tools, &manifest, &database)
        .await
        .unwrap();
    let plan = plan_restore(&manifest, &facts, &database, &RestoreOptions::default()).unwrap();
    let report = pefo_db::drill(
        &bench.server,
        &bench.tools,
        &plan,
        &dir,
        &SystemClock,
        &Silent,
    )
    .await
    .unwrap();
    let restored = report.restored;
    assert_eq!(restored.outcome, RestoreOutcome::Drilled);
    assert!(
        restored.swap.is_none() && restored.notes.is_empty(),
        "{:?}",
        restored.notes
    );
    assert_eq!(report.live_changed, Some(Vec::new()));
    assert_eq!(bench.databases(), ["pe-rbac"]);
    assert_eq!(
        bench.ask(
            "postgres",
            "select oid from pg_database where datname = 'pe-rbac'"
        ),
        before
    );
}

#[tokio::test]
async fn prepared_transactions_are_refused_by_name_before_anything_is_done() {
    let Some(bench) =
        Bench::start_with(&ClusterOptions::default().setting("max_prepared_transactions = 2"))
    else {
        return;
    };
    bench.create_live("create table t ()");
    let (dir, _) = bench.dump("live", "dump").await.unwrap();
    bench
        .cluster
        .sql(
            "live",
            "begin; insert into t default values; prepare transaction 'left behind'",
        )
        .unwrap();
    let options = RestoreOptions::default().even_if_unchanged(true);
    let error = bench.restore("live", &dir, &options).await.unwrap_err();
    assert!(error.to_string().contains("left behind"), "{error}");
    assert_eq!(rule(Err::<(), _>(error)), "db-prepared-transactions");
    bench
        .cluster
        .sql("live", "rollback prepared 'left behind'")
        .unwrap();
    bench.restore("live", &dir, &options).await.unwrap();
}
