//! Whether anything was committed since a dump: `true` is a proof, on a real server.

use std::time::Duration;

use pefo_core::ErrorKind;
use pefo_core::disk::{Attributes, Disk};
use pefo_db::{CommitMark, is_unchanged_since};
use pefo_testkit::postgres::ClusterOptions;
use pefo_testkit::wait;
use tokio_postgres::{Client, NoTls};

use crate::bench::{Bench, name};

/// With the database `live` and a table in it.
fn start(options: &ClusterOptions) -> Option<Bench> {
    let bench = Bench::start_with(options)?;
    bench
        .cluster
        .sql("postgres", "create database live; create database other")
        .unwrap();
    bench
        .cluster
        .sql("live", "create table t (n int); insert into t values (1)")
        .unwrap();
    Some(bench)
}

/// Without autovacuum, which analyzes a table by a transaction of its own whenever it likes.
fn quiet() -> ClusterOptions {
    ClusterOptions::default().setting("autovacuum = off")
}

async fn connect(bench: &Bench, database: &str) -> Client {
    let (client, connection) =
        tokio_postgres::connect(&bench.cluster.connection_string(database), NoTls)
            .await
            .unwrap();
    tokio::spawn(connection);
    client
}

/// The mark of a new dump; `None` where its snapshot gave none.
async fn marked(bench: &Bench, to: &str) -> Option<CommitMark> {
    bench.dump("live", to).await.unwrap().1.commit_mark
}

async fn unchanged(bench: &Bench, mark: &CommitMark) -> bool {
    is_unchanged_since(&bench.server, &name("live"), mark)
        .await
        .unwrap()
}

#[tokio::test]
async fn who_only_reads_leaves_the_mark_and_whoever_commits_moves_it() {
    let Some(bench) = start(&quiet()) else { return };
    let mark = marked(&bench, "first").await.unwrap();
    // A checkpoint, a dump and whoever reads; also twice.
    for quiet in [
        "select count(*) from t",
        "checkpoint",
        "begin; select * from t; rollback",
        "vacuum freeze pg_database",
    ] {
        bench.cluster.sql("live", quiet).unwrap();
        assert!(unchanged(&bench, &mark).await, "{quiet}");
    }
    assert_eq!(marked(&bench, "again").await.as_ref(), Some(&mark));

    for (number, change) in [
        "insert into t values (2)",
        "alter table t add column m int",
        "begin; insert into t values (3); rollback",
        "comment on table t is 'x'",
        "alter database live set work_mem = '5MB'",
        "select lo_from_bytea(0, 'x')",
        "begin; savepoint a; insert into t values (4); rollback to a; commit",
    ]
    .into_iter()
    .enumerate()
    {
        let mark = marked(&bench, &format!("before {number}")).await.unwrap();
        assert!(unchanged(&bench, &mark).await);
        bench.cluster.sql("live", change).unwrap();
        assert!(!unchanged(&bench, &mark).await, "{change}");
    }
}

#[tokio::test]
async fn a_commit_in_another_database_of_the_server_is_not_told_apart() {
    let Some(bench) = start(&quiet()) else { return };
    let mark = marked(&bench, "dump").await.unwrap();
    bench.cluster.sql("other", "create table t ()").unwrap();
    assert!(!unchanged(&bench, &mark).await);
}

#[tokio::test]
async fn a_transaction_that_was_open_at_the_dump_is_noticed_when_it_commits() {
    let Some(bench) = start(&quiet()) else { return };
    let client = connect(&bench, "live").await;
    client
        .batch_execute("begin; insert into t values (2)")
        .await
        .unwrap();
    let mark = marked(&bench, "newest").await.unwrap();
    assert!(unchanged(&bench, &mark).await);
    client.batch_execute("commit").await.unwrap();
    assert!(!unchanged(&bench, &mark).await);

    // With a younger one that ended before the dump, its end would not be seen: there is no mark.
    client
        .batch_execute("begin; insert into t values (3)")
        .await
        .unwrap();
    bench
        .cluster
        .sql("live", "insert into t values (4)")
        .unwrap();
    let before = mark;
    assert_eq!(marked(&bench, "older").await, None);
    assert!(!unchanged(&bench, &before).await);
}

#[tokio::test]
async fn a_prepared_transaction_gives_no_mark_or_moves_it() {
    let options = quiet().setting("max_prepared_transactions = 2");
    let Some(bench) = start(&options) else { return };
    let prepare = "begin; insert into t values (2); prepare transaction 'p'";
    let mark = marked(&bench, "before").await.unwrap();
    bench.cluster.sql("live", prepare).unwrap();
    assert!(unchanged(&bench, &mark).await, "nothing is committed yet");
    bench.cluster.sql("live", "commit prepared 'p'").unwrap();
    assert!(!unchanged(&bench, &mark).await);

    bench.cluster.sql("live", prepare).unwrap();
    bench
        .cluster
        .sql("other", "create table younger ()")
        .unwrap();
    assert_eq!(marked(&bench, "between").await, None);
}

#[tokio::test]
async fn another_server_and_the_same_one_started_anew_are_not_known() {
    let (Some(mut bench), Some(another)) = (start(&quiet()), start(&quiet())) else {
        return;
    };
    let mark = marked(&bench, "dump").await.unwrap();
    assert!(!unchanged(&another, &mark).await);
    // Not by chance: it would be told by its identifier alone.
    let mut forged = marked(&another, "another").await.unwrap();
    assert!(unchanged(&another, &forged).await);
    forged.system_identifier.clone_from(&mark.system_identifier);
    assert!(!unchanged(&another, &forged).await);

    bench.cluster.restart().unwrap();
    assert!(!unchanged(&bench, &mark).await);
    let after = marked(&bench, "after").await.unwrap();
    assert!(unchanged(&bench, &after).await);

    let gone = is_unchanged_since(&bench.server, &name("gone"), &after).await;
    assert_eq!(gone.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_session_that_crashes_empties_unlogged_tables_and_that_is_noticed() {
    let Some(bench) = start(&quiet()) else { return };
    bench
        .cluster
        .sql(
            "live",
            "create unlogged table u as select generate_series(1, 3) as n; checkpoint",
        )
        .unwrap();
    let mark = marked(&bench, "dump").await.unwrap();
    let started = "select pg_postmaster_start_time()";
    let start = bench.ask("live", started);

    let client = connect(&bench, "live").await;
    let pid: i32 = client
        .query_one("select pg_backend_pid()", &[])
        .await
        .unwrap()
        .get(0);
    let killed = std::process::Command::new("kill")
        .args(["-s", "KILL", &pid.to_string()])
        .status();
    assert!(killed.unwrap().success());
    let count = "select count(*) from u";
    wait::until("the recovery", Duration::from_secs(60), || {
        bench
            .cluster
            .query_text("live", count)
            .is_ok_and(|rows| rows == "0")
    });
    // What a comparison by transaction ids and the server's start would have called unchanged.
    assert_eq!(bench.ask("live", started), start);
    assert!(!unchanged(&bench, &mark).await);
}

#[tokio::test]
async fn who_may_not_read_what_a_mark_needs_gets_none_and_dumps_all_the_same() {
    let Some(mut bench) = start(&quiet()) else {
        return;
    };
    let mark = marked(&bench, "dump").await.unwrap();
    bench
        .cluster
        .sql(
            "postgres",
            "create role reader login; grant pg_read_all_data to reader",
        )
        .unwrap();
    bench.server.user = "reader".to_owned();
    assert_eq!(marked(&bench, "by reader").await, None);
    assert!(!unchanged(&bench, &mark).await);

    let grant = "grant pg_read_all_stats to reader";
    bench.cluster.sql("postgres", grant).unwrap();
    let mark = marked(&bench, "by monitor").await.unwrap();
    assert!(unchanged(&bench, &mark).await);
    let revoke = "revoke execute on function pg_control_system() from public";
    bench.cluster.sql("live", revoke).unwrap();
    assert_eq!(marked(&bench, "without control").await, None);
}

#[tokio::test]
async fn a_standby_gives_no_mark() {
    let Some(mut bench) = start(&quiet()) else {
        return;
    };
    let mark = marked(&bench, "primary").await.unwrap();
    // In recovery, waiting for a primary that never comes.
    let mut attributes = Attributes::mode(0o600);
    attributes.owner = bench.cluster.server_ids();
    let signal = bench.cluster.data_dir().join("standby.signal");
    Disk::new().publish(&signal, b"", &attributes).unwrap();
    bench.cluster.restart().unwrap();
    assert_eq!(bench.ask("live", "select pg_is_in_recovery()"), "t");
    assert_eq!(marked(&bench, "standby").await, None);
    assert!(!unchanged(&bench, &mark).await);
}
