//! A database stage that is killed takes its programs and its queries with it.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use pefo_testkit::postgres::Cluster;
use pefo_testkit::{skip, wait};

/// Shorter than pg_dump would wait by itself.
const LIMIT: Duration = Duration::from_secs(40);

#[test]
fn neither_pg_dump_nor_a_query_outlives_a_stage_that_is_killed() {
    let Some(cluster) = skip::need(Cluster::start()) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    cluster.sql("postgres", "create database live").unwrap();
    // Both read a sequence's value, and whoever renames it keeps them waiting.
    cluster.sql("live", "create sequence s").unwrap();
    let mut holder = Command::new(cluster.bin_dir().join("psql"))
        .args(["-X", "-q", "-d", &cluster.connection_string("live")])
        .args([
            "-c",
            "begin",
            "-c",
            "alter sequence s rename to other",
            "-c",
            "select pg_sleep(600)",
        ])
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let count = |what: &str| {
        let query = format!("select count(*) from pg_stat_activity where {what}");
        cluster.query_text("postgres", &query).unwrap()
    };
    wait::until("the lock", LIMIT, || {
        count("query like '%pg_sleep(600)'") == "1"
    });

    let request = serde_json::json!({
        "settings": {
            "host": cluster.socket_dir(),
            "port": cluster.port(),
            "user": cluster.superuser(),
            "bin_dir": cluster.bin_dir(),
        },
        "stage": { "Dump": { "name": "live", "dir": dir.path().join("dump"), "accept": [] } },
    });
    let mut stage = Command::new(env!("CARGO_BIN_EXE_pefo"))
        .args(["db", "stage"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = stage.stdin.take().unwrap();
    stdin.write_all(request.to_string().as_bytes()).unwrap();
    drop(stdin);
    let ours = "application_name = 'pefo' and wait_event_type = 'Lock'";
    wait::until("pg_dump and our own query", LIMIT, || count(ours) == "2");
    stage.kill().unwrap();
    stage.wait().unwrap();
    wait::until("their end", LIMIT, || {
        count("application_name = 'pefo'") == "0"
    });
    holder.kill().unwrap();
    holder.wait().unwrap();
}
