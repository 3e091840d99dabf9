//! The server is started anew in the middle of a restore: its sessions end, and nothing else does.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use pefo_core::ErrorKind;
use pefo_core::clock::SystemClock;
use pefo_core::progress::{Progress, Silent};
use pefo_db::RestoreOptions;
use pefo_testkit::postgres::Cluster;

use crate::bench::{Bench, name};

/// Restarts the server once a step begins.
struct Restarting<'a> {
    step: &'static str,
    cluster: &'a Mutex<Cluster>,
    is_done: AtomicBool,
}

impl Progress for Restarting<'_> {
    fn begin(&self, stage: &str, _items: Option<u64>, _bytes: Option<u64>) {
        if stage == self.step && !self.is_done.swap(true, Ordering::Relaxed) {
            self.cluster.lock().unwrap().restart().unwrap();
        }
    }
}

#[tokio::test]
async fn a_restart_at_any_step_leaves_the_live_database_whole_and_the_next_run_succeeds() {
    let Some(bench) = Bench::start() else { return };
    let sql = |cluster: &Cluster, sql: &str| cluster.sql("live", sql).unwrap();
    bench
        .cluster
        .sql("postgres", "create database live")
        .unwrap();
    sql(
        &bench.cluster,
        "create table t as select 1 as version, generate_series(1, 5000) as n",
    );
    let (dump, _) = bench.dump("live", "dump").await.unwrap();
    let Bench {
        cluster,
        server,
        tools,
        dir: _dir,
    } = bench;
    let cluster = Mutex::new(cluster);
    let live = || {
        let query = "select version || ' ' || count(*) from t group by version";
        let cluster = cluster.lock().unwrap();
        cluster.query_text("live", query).unwrap()
    };
    let (database, options) = (name("live"), RestoreOptions::default());
    let options = options.even_if_unchanged(true);
    for step in ["create", "load", "analyze", "compare", "swap", "prune"] {
        sql(&cluster.lock().unwrap(), "update t set version = 2");
        let restarting = Restarting {
            step,
            cluster: &cluster,
            is_done: AtomicBool::new(false),
        };
        let clock = &SystemClock;
        let restore = pefo_db::restore;
        let outcome = restore(
            &server,
            &tools,
            &database,
            &dump,
            &options,
            clock,
            &restarting,
        );
        let outcome = outcome.await;
        assert!(restarting.is_done.load(Ordering::Relaxed), "{step}");
        match outcome {
            // A database too many is told, and no failure.
            Ok(report) => assert!(step == "prune" && report.notes[0].contains("not pruned")),
            Err(error) => {
                let kinds = [ErrorKind::Unreachable, ErrorKind::Child, ErrorKind::Unknown];
                assert!(kinds.contains(&error.kind()), "{step}: {error:?}");
                assert_eq!(live(), "2 5000", "after {step}");
            }
        }
        let again = restore(&server, &tools, &database, &dump, &options, clock, &Silent);
        again.await.unwrap();
        assert_eq!(live(), "1 5000", "after {step}");
    }
}
