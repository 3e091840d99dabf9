//! A restore in two halves: what stands between them, and the way back.

use std::path::PathBuf;

use pefo_core::clock::SystemClock;
use pefo_core::progress::{Progress, Silent};
use pefo_core::{ErrorKind, Result};
use pefo_db::{
    DrillReport, DumpManifest, Prepared, RestoreOptions, RestorePlan, ServerFacts, discard,
    is_swapped_in, plan_restore, swap_back, swap_in,
};

use crate::bench::{Bench, name, rule};

/// A live database of version 2, and a dump of when it was of version 1.
struct Versions {
    bench: Bench,
    dir: PathBuf,
    manifest: DumpManifest,
}

impl Versions {
    async fn new() -> Option<Self> {
        let bench = Bench::start()?;
        bench.create_live("create table t as select 1 as version");
        let (dir, manifest) = bench.dump("live", "dump").await.unwrap();
        bench
            .cluster
            .sql("live", "update t set version = 2")
            .unwrap();
        Some(Self {
            bench,
            dir,
            manifest,
        })
    }

    async fn plan(&self) -> RestorePlan {
        let (server, tools) = (&self.bench.server, &self.bench.tools);
        let facts = ServerFacts::gather(server, tools, &self.manifest, &name("live")).await;
        let options = RestoreOptions::default();
        plan_restore(&self.manifest, &facts.unwrap(), &name("live"), &options).unwrap()
    }

    async fn prepare(&self) -> Prepared {
        let (server, tools, plan) = (&self.bench.server, &self.bench.tools, self.plan().await);
        pefo_db::prepare(server, tools, &plan, &self.dir, &SystemClock, &Silent)
            .await
            .unwrap()
    }

    async fn drill(&self, progress: &dyn Progress) -> Result<DrillReport> {
        let (server, tools, plan) = (&self.bench.server, &self.bench.tools, self.plan().await);
        pefo_db::drill(server, tools, &plan, &self.dir, &SystemClock, progress).await
    }

    fn version(&self) -> String {
        self.bench.ask("live", "select version from t")
    }
}

#[tokio::test]
async fn what_was_prepared_is_swapped_in_and_taken_out_again() {
    let Some(versions) = Versions::new().await else {
        return;
    };
    let server = &versions.bench.server;
    let prepared = versions.prepare().await;
    assert_eq!(versions.version(), "2");
    assert!(!is_swapped_in(server, &prepared).await.unwrap());
    // It may cross to another process.
    let text = serde_json::to_string(&prepared).unwrap();
    let prepared: Prepared = serde_json::from_str(&text).unwrap();
    swap_in(server, prepared.clone(), &SystemClock, &Silent)
        .await
        .unwrap();
    assert_eq!(versions.version(), "1");
    assert!(is_swapped_in(server, &prepared).await.unwrap());

    swap_back(server, &prepared, &SystemClock).await.unwrap();
    assert_eq!(versions.version(), "2");
    assert_eq!(versions.bench.databases(), ["live"]);
    // Nothing of it is there any more, and nothing else is taken for it.
    for error in [
        swap_back(server, &prepared, &SystemClock).await.map(drop),
        swap_in(server, prepared.clone(), &SystemClock, &Silent)
            .await
            .map(drop),
    ] {
        assert!(["db-not-live", "db-shadow-gone"].contains(&rule(error).as_str()));
    }
    assert_eq!(versions.version(), "2");
}

#[tokio::test]
async fn another_runs_shadow_of_the_same_name_is_not_swapped_in_and_not_discarded() {
    let Some(versions) = Versions::new().await else {
        return;
    };
    let server = &versions.bench.server;
    let first = versions.prepare().await;
    let second = versions.prepare().await;
    assert_eq!(first.shadow, second.shadow);
    let error = swap_in(server, first.clone(), &SystemClock, &Silent).await;
    assert_eq!(rule(error), "db-shadow-gone");
    discard(server, &first).await.unwrap();
    assert_eq!(
        versions.bench.databases(),
        ["live", second.shadow.as_str()],
        "the second one's stands"
    );
    discard(server, &second).await.unwrap();
    assert_eq!(versions.bench.databases(), ["live"]);
    assert_eq!(versions.version(), "2");
}

#[tokio::test]
async fn where_nothing_was_live_before_there_is_nothing_to_go_back_to() {
    let Some(versions) = Versions::new().await else {
        return;
    };
    let (bench, server) = (&versions.bench, &versions.bench.server);
    bench.cluster.sql("postgres", "drop database live").unwrap();
    let prepared = versions.prepare().await;
    swap_in(server, prepared.clone(), &SystemClock, &Silent)
        .await
        .unwrap();
    let error = swap_back(server, &prepared, &SystemClock)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(versions.version(), "1");
}

/// Changes the live database once the drill's copy is being compared.
struct Meddler<'a>(&'a Bench);

impl Progress for Meddler<'_> {
    fn begin(&self, stage: &str, _items: Option<u64>, _bytes: Option<u64>) {
        if stage == "compare" {
            let sql = "update t set version = 3";
            self.0.cluster.sql("live", sql).unwrap();
        }
    }
}

#[tokio::test]
async fn a_drill_names_what_was_written_to_the_live_database_meanwhile() {
    let Some(versions) = Versions::new().await else {
        return;
    };
    let report = versions.drill(&Silent).await.unwrap();
    assert_eq!(report.live_changed, Some(Vec::new()));
    let report = versions.drill(&Meddler(&versions.bench)).await.unwrap();
    let changed = report.live_changed.unwrap();
    let changed: Vec<String> = changed.iter().map(ToString::to_string).collect();
    assert_eq!(changed.len(), 1, "{changed:?}");
    assert!(
        changed[0].starts_with("public.t has other rows"),
        "{changed:?}"
    );
    assert_eq!(versions.version(), "3");
}
