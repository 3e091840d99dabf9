//! A swap under load: nobody ever sees half of anything, and the name is gone for a moment only.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use pefo_core::clock::SystemClock;
use pefo_db::RestoreOptions;
use tokio_postgres::{Client, NoTls};

use crate::bench::{Bench, name};

const ROWS: i64 = 3000;
/// Fails loudly on a busy machine only where something is wrong: it takes about 0.12 s.
const LONGEST: Duration = Duration::from_secs(3);

#[derive(Default)]
struct Seen {
    reads: AtomicU64,
    refused: AtomicU64,
    versions: [AtomicU64; 3],
    longest_gap_ms: AtomicU64,
}

async fn connect(conninfo: &str) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(conninfo, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// Reads for ever, reconnecting always or only when it must.
async fn read(conninfo: String, reconnects: bool, stop: Arc<AtomicBool>, seen: Arc<Seen>) {
    let mut client = None;
    let mut last_success = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        if client.is_none() {
            client = connect(&conninfo).await.ok();
        }
        let query = "select (select count(*) from a), (select count(*) from b), \
                     (select min(version) from a), (select max(version) from a), (select min(version) from b), (select max(version) from b)";
        let answer = match &client {
            Some(client) => client.query_one(query, &[]).await.ok(),
            None => None,
        };
        let Some(row) = answer else {
            seen.refused.fetch_add(1, Ordering::Relaxed);
            client = None;
            // Yields only: a client that is refused tries again at once.
            tokio::task::yield_now().await;
            continue;
        };
        assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (ROWS, ROWS));
        let version: i32 = row.get(2);
        assert!(
            (3..=5).all(|column| row.get::<_, i32>(column) == version),
            "half of one version, half of another"
        );
        seen.versions[usize::try_from(version).unwrap()].fetch_add(1, Ordering::Relaxed);
        seen.reads.fetch_add(1, Ordering::Relaxed);
        let gap = u64::try_from(last_success.elapsed().as_millis()).unwrap();
        seen.longest_gap_ms.fetch_max(gap, Ordering::Relaxed);
        last_success = Instant::now();
        if reconnects {
            client = None;
        }
    }
}

#[tokio::test]
async fn no_client_ever_sees_half_of_a_swap_and_the_name_is_gone_for_a_moment_only() {
    let Some(bench) = Bench::start() else { return };
    bench
        .cluster
        .sql("postgres", "create database live")
        .unwrap();
    let tables = format!(
        "create table a as select 1 as version, n from generate_series(1, {ROWS}) n; create table b as table a;"
    );
    bench.cluster.sql("live", &tables).unwrap();
    let (dir, _) = bench.dump("live", "dump").await.unwrap();
    bench
        .cluster
        .sql(
            "live",
            "begin; update a set version = 2; update b set version = 2; commit",
        )
        .unwrap();

    let (stop, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(Seen::default()));
    let conninfo = bench.cluster.connection_string("live");
    let readers: Vec<_> = (0..6)
        .map(|n| {
            tokio::spawn(read(
                conninfo.clone(),
                n % 2 == 0,
                Arc::clone(&stop),
                Arc::clone(&seen),
            ))
        })
        .collect();
    let reads = || seen.reads.load(Ordering::Relaxed);
    until(|| reads() > 50).await;
    let report = bench
        .restore("live", &dir, &RestoreOptions::default())
        .await
        .unwrap();
    let after = reads();
    until(|| reads() > after + 50).await;
    // And back, under the same load.
    let back = pefo_db::rollback(&bench.server, &name("live"), &SystemClock)
        .await
        .unwrap();
    let after = reads();
    until(|| reads() > after + 50).await;
    stop.store(true, Ordering::Relaxed);
    for reader in readers {
        reader.await.unwrap();
    }

    let swap = report.swap.unwrap();
    let gap = seen.longest_gap_ms.load(Ordering::Relaxed);
    println!(
        "unreachable {} ms, {} ms; longest gap of a client {gap} ms; {} reads, {} refused; ended {}",
        swap.unreachable_ms,
        back.unreachable_ms,
        reads(),
        seen.refused.load(Ordering::Relaxed),
        swap.sessions_ended
    );
    assert!(
        swap.sessions_ended >= 3,
        "the readers that stay connected were ended"
    );
    assert!(
        seen.versions[1].load(Ordering::Relaxed) > 0
            && seen.versions[2].load(Ordering::Relaxed) > 0
    );
    assert!(
        u128::from(swap.unreachable_ms) < LONGEST.as_millis()
            && u128::from(back.unreachable_ms) < LONGEST.as_millis()
    );
    assert!(
        u128::from(gap) < LONGEST.as_millis() * 2,
        "a client was without the database for {gap} ms"
    );
}

async fn until(mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "in vain");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
