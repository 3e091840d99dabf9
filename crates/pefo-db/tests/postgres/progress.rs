//! What is told while a dump and a restore run.

use std::sync::Mutex;

use pefo_core::clock::SystemClock;
use pefo_core::progress::Progress;
use pefo_db::{DumpOptions, RestoreOptions};

use crate::bench::{Bench, name};

/// What was announced and told of each stage.
#[derive(Default)]
struct Heard(Mutex<Vec<Stage>>);

#[derive(Debug, Clone, Default)]
struct Stage {
    name: String,
    announced: (Option<u64>, Option<u64>),
    told: Vec<(u64, u64)>,
}

impl Stage {
    fn sums(&self) -> (u64, u64) {
        let told = self.told.iter();
        told.fold((0, 0), |sum, told| (sum.0 + told.0, sum.1 + told.1))
    }
}

impl Heard {
    fn stage(&self, name: &str) -> Stage {
        let stages = self.0.lock().unwrap();
        stages
            .iter()
            .find(|stage| stage.name == name)
            .unwrap()
            .clone()
    }
}

impl Progress for Heard {
    fn begin(&self, stage: &str, items: Option<u64>, bytes: Option<u64>) {
        self.0.lock().unwrap().push(Stage {
            name: stage.to_owned(),
            announced: (items, bytes),
            told: Vec::new(),
        });
    }
    fn advance(&self, items: u64, bytes: u64) {
        if let Some(stage) = self.0.lock().unwrap().last_mut() {
            stage.told.push((items, bytes));
        }
    }
}

#[tokio::test]
async fn every_table_is_told_with_its_bytes_whether_one_or_several_are_handled_at_once() {
    let Some(bench) = Bench::start() else { return };
    bench.create_live("create schema \"S p\"; create table \"S p\".\"we\"\"ird.na me\" (n int); create table empty (); \
             insert into \"S p\".\"we\"\"ird.na me\" select generate_series(1, 20000); \
             create table t as select generate_series(1, 1000) as n; select lo_from_bytea(0, 'abc'); vacuum");
    let pages = "select relpages * 8192 from pg_class where relname = 'we\"ird.na me'";
    let pages: u64 = bench.ask("live", pages).parse().unwrap();
    assert!(pages > 0);
    for jobs in [1, 2] {
        let dir = bench.dir.path().join(format!("{jobs}"));
        let heard = Heard::default();
        let manifest = pefo_db::dump(
            &bench.server,
            &bench.tools,
            &name("live"),
            &dir,
            &DumpOptions::default().jobs(jobs),
            &SystemClock,
            &heard,
        )
        .await
        .unwrap();
        let stage = heard.stage("dump");
        assert!(stage.told.contains(&(1, pages)), "{stage:?}");
        let (items, bytes) = stage.sums();
        assert_eq!(stage.announced, (Some(items), Some(bytes)), "{jobs} jobs");
        assert_eq!(items, 6, "three tables dumped, three digested");

        let heard = Heard::default();
        pefo_db::restore(
            &bench.server,
            &bench.tools,
            &name("live"),
            &dir,
            &RestoreOptions::default().jobs(jobs).even_if_unchanged(true),
            &SystemClock,
            &heard,
        )
        .await
        .unwrap();
        let stage = heard.stage("load");
        let largest = manifest.files.iter().map(|file| file.size).max().unwrap();
        assert!(
            largest > 100_000 && stage.told.contains(&(1, largest)),
            "{stage:?}"
        );
        let (items, bytes) = stage.sums();
        assert_eq!(stage.announced, (Some(items), Some(bytes)), "{jobs} jobs");
        let files: u64 = manifest.files.iter().map(|file| file.size).sum();
        assert_eq!((items, bytes), (3, files));
    }
}

#[tokio::test]
async fn a_failed_program_is_told_by_its_errors_and_not_by_its_chatter() {
    let Some(bench) = Bench::start() else { return };
    bench.create_live("create role nobody login; create table t (n int); grant select on t to nobody; select lo_from_bytea(0, 'x')");
    let mut server = bench.server.clone();
    server.user = "nobody".to_owned();
    let error = pefo_db::dump(
        &server,
        &bench.tools,
        &name("live"),
        &bench.dir.path().join("dump"),
        &DumpOptions::default(),
        &SystemClock,
        &pefo_core::progress::Silent,
    )
    .await
    .unwrap_err();
    assert!(error.message().contains("permission denied"), "{error}");
    let (_, words) = error.message().split_once("exit code 1: ").unwrap();
    assert!(
        words.split(" | ").all(|word| !word.contains("reading")),
        "{words}"
    );
    assert!(words.starts_with("pg_dump: error: "), "{words}");
}
