//! How exactly a dump is compared.

use std::path::Path;

use pefo_core::clock::SystemClock;
use pefo_core::progress::Silent;
use pefo_db::{DumpManifest, DumpOptions, RestoreOptions, RestoreOutcome, is_unchanged_since};

use crate::bench::{Bench, name};

async fn dump_with(
    bench: &Bench,
    to: &Path,
    options: &DumpOptions,
) -> pefo_core::Result<DumpManifest> {
    let live = name("live");
    pefo_db::dump(
        &bench.server,
        &bench.tools,
        &live,
        to,
        options,
        &SystemClock,
        &Silent,
    )
    .await
}

#[tokio::test]
async fn large_tables_are_counted_only_and_never_called_unchanged() {
    let Some(bench) = Bench::start() else { return };
    bench
        .cluster
        .sql("postgres", "create database live")
        .unwrap();
    // Small in itself, large by what is stored out of line.
    let tables = "create table small as select 1 as n; create table large (v text); alter table large alter v set storage external; \
                  insert into large select repeat('x', 200000) from generate_series(1, 3); \
                  select lo_from_bytea(0, convert_to(repeat('x', 200000), 'UTF8'))";
    bench.cluster.sql("live", tables).unwrap();
    let to = bench.dir.path().join("dump");
    let options = DumpOptions::default().exact_up_to(100_000);
    let manifest = dump_with(&bench, &to, &options).await.unwrap();
    assert_eq!(manifest.exact_up_to_bytes, 100_000);
    let told: Vec<_> = manifest
        .state
        .relations
        .iter()
        .map(|table| (table.name.as_str(), table.rows, table.digest.is_some()))
        .collect();
    assert_eq!(told, [("large", Some(3), false), ("small", Some(1), true)]);
    assert!(manifest.state.large_objects.count == 1 && !manifest.state.is_exact());

    // Another value is not seen, another number of rows is; and either way it is restored.
    let verify = || async {
        pefo_db::verify(&bench.server, &name("live"), &manifest, &Silent)
            .await
            .unwrap()
    };
    bench
        .cluster
        .sql("live", "update large set v = 'y'")
        .unwrap();
    let compared = verify().await;
    assert!(compared.differences.is_empty() && !compared.is_exact && !compared.proves_equal());
    assert_eq!(compared.counted_only, 1);
    let options = RestoreOptions::default();
    let report = bench.restore("live", &to, &options).await.unwrap();
    assert_eq!(
        (report.outcome, report.counted_only),
        (RestoreOutcome::Restored, 1)
    );
    assert_eq!(
        bench.ask("live", "select min(length(v)) from large"),
        "200000"
    );
    bench
        .cluster
        .sql(
            "live",
            "delete from large where ctid = (select min(ctid) from large)",
        )
        .unwrap();
    let differences: Vec<String> = verify()
        .await
        .differences
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        differences,
        ["public.large has another number of rows (2, not 3)"]
    );

    // Whether anything was committed since is told without either.
    let later = bench.dir.path().join("later");
    let exact = dump_with(&bench, &later, &DumpOptions::default())
        .await
        .unwrap();
    assert!(exact.state.is_exact());
    let mark = exact.commit_mark.unwrap();
    assert!(
        is_unchanged_since(&bench.server, &name("live"), &mark)
            .await
            .unwrap()
    );
}
