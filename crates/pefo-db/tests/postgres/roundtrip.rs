//! What is restored is what was dumped, in every respect PostgreSQL knows.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pefo_core::ErrorKind;
use pefo_core::clock::SystemClock;
use pefo_db::{DumpManifest, RestoreOptions, RestoreOutcome};

use crate::bench::{Bench, assert_same_text, name};

const DATABASE: &str = "pe-rbac";

fn files(manifest: &DumpManifest) -> BTreeMap<&str, &str> {
    manifest
        .files
        .iter()
        .map(|file| (file.path.as_str(), file.blake3.as_str()))
        .collect()
}

#[tokio::test]
async fn a_spare_gets_the_same_database_and_then_its_changes_and_can_go_back() {
    let (Some(a), Some(b)) = (Bench::with_rbac(), Bench::start()) else {
        return;
    };
    b.cluster.create_rbac_roles().unwrap();
    let (dir, first) = a.dump(DATABASE, "first").await.unwrap();
    assert!(
        first.state.tables() >= 40 && first.state.rows() > 25_000,
        "{} {}",
        first.state.tables(),
        first.state.rows()
    );
    assert_eq!(first.state.large_objects.count, 1);
    assert_eq!(DumpManifest::read(&dir).unwrap(), first);

    // The first restore: there is no live database yet.
    let options = RestoreOptions::default();
    let report = b.restore(DATABASE, &dir, &options).await.unwrap();
    assert_eq!(report.outcome, RestoreOutcome::Restored);
    assert_eq!(report.notes, Vec::<String>::new());
    assert_eq!(report.swap.unwrap().kept, None);
    assert_eq!(b.differences(DATABASE, &first).await, Vec::<String>::new());
    assert_same_text(&a.as_text(DATABASE), &b.as_text(DATABASE));
    assert_eq!(b.databases(), [DATABASE]);

    // Again: nothing to do.
    let report = b.restore(DATABASE, &dir, &options).await.unwrap();
    assert_eq!(report.outcome, RestoreOutcome::Unchanged);
    assert!(report.swap.is_none() && report.leftovers_dropped.is_empty());

    // One value changes, one row comes, one setting goes.
    a.cluster
        .sql(
            DATABASE,
            "update rbac.measurements set double = 0.30000000000000004 where double = 0.1",
        )
        .unwrap();
    a.cluster
        .sql(DATABASE, "insert into rbac.roles (display) values ('new')")
        .unwrap();
    a.cluster
        .sql(
            "postgres",
            "alter database \"pe-rbac\" reset statement_timeout",
        )
        .unwrap();
    let (dir, second) = a.dump(DATABASE, "second").await.unwrap();
    insta::assert_snapshot!(b.differences(DATABASE, &second).await.join("\n"), @r"
    rbac.measurements has other rows
    rbac.roles has another number of rows (50, not 51)
    rbac.roles_id_seq stands elsewhere (50, not 51)
    the set of settings is not as it should be
    ");
    let (old, new) = (files(&first), files(&second));
    let changed: Vec<_> = new
        .iter()
        .filter(|(path, digest)| old.get(*path) != Some(digest))
        .map(|(path, _)| *path)
        .collect();
    assert_eq!(old.len(), new.len());
    // toc.dat, two tables; every other table's file is the same byte for byte.
    assert_eq!(changed.len(), 3, "{changed:?}");

    let report = b.restore(DATABASE, &dir, &options).await.unwrap();
    let swap = report.swap.unwrap();
    assert_eq!(b.databases(), [DATABASE, swap.kept.unwrap().as_str()]);
    assert_same_text(&a.as_text(DATABASE), &b.as_text(DATABASE));

    // Back, and forth again.
    pefo_db::rollback(&b.server, &name(DATABASE), &SystemClock)
        .await
        .unwrap();
    assert_eq!(b.differences(DATABASE, &first).await, Vec::<String>::new());
    pefo_db::rollback(&b.server, &name(DATABASE), &SystemClock)
        .await
        .unwrap();
    assert_eq!(b.differences(DATABASE, &second).await, Vec::<String>::new());
    assert_eq!(b.databases().len(), 2);
}

/// Tells the writers to stop, also where the test fails.
struct Stop(Arc<AtomicBool>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn a_dump_of_a_busy_database_agrees_with_its_manifest() {
    let Some(bench) = Bench::start().map(Arc::new) else {
        return;
    };
    let setup = "create table debit (n bigint); create table credit (n bigint); create sequence s; insert into debit select generate_series(1, 5000);";
    bench
        .cluster
        .sql("postgres", "create database busy")
        .unwrap();
    bench.cluster.sql("busy", setup).unwrap();
    let stop = Stop(Arc::default());
    let writers: Vec<_> = (0..2)
        .map(|_| {
            let (bench, stop) = (Arc::clone(&bench), Arc::clone(&stop.0));
            std::thread::spawn(move || {
                let moved = "with m as (delete from debit where ctid = any(array(select ctid from debit limit 7 for update skip locked)) returning n) \
                             insert into credit select n from m; insert into debit select nextval('s');";
                let mut rounds = 0;
                while !stop.load(Ordering::Relaxed) {
                    bench.cluster.sql("busy", moved).unwrap();
                    rounds += 1;
                }
                rounds
            })
        })
        .collect();
    let dump = bench.dump("busy", "busy").await;
    drop(stop);
    let rounds: u32 = writers
        .into_iter()
        .map(|writer| writer.join().unwrap())
        .sum();
    assert!(rounds > 2, "nothing was written meanwhile");
    let (dir, manifest) = dump.unwrap();
    let report = bench
        .restore("busy", &dir, &RestoreOptions::default())
        .await
        .unwrap();
    assert_eq!(report.outcome, RestoreOutcome::Restored);
    assert_eq!(
        bench.differences("busy", &manifest).await,
        Vec::<String>::new()
    );
}

#[tokio::test]
async fn databases_of_any_name_are_dumped_restored_and_rolled_back() {
    let Some(bench) = Bench::start() else { return };
    let long = "x".repeat(61) + "ü";
    for (number, database) in [
        "with \"quotes\" and 'more'",
        "host=nowhere dbname=postgres",
        r"back\slash ünï",
        long.as_str(),
    ]
    .into_iter()
    .enumerate()
    {
        let quoted = name(database).quoted();
        bench
            .cluster
            .sql(
                "postgres",
                &format!("create database {quoted}; comment on database {quoted} is 'c\\''d'"),
            )
            .unwrap();
        bench
            .cluster
            .sql(database, "create table t as select 1 as version")
            .unwrap();
        let (dir, _) = bench
            .dump(database, &format!("first {number}"))
            .await
            .unwrap();
        bench
            .cluster
            .sql(database, "update t set version = 2")
            .unwrap();
        let report = bench
            .restore(database, &dir, &RestoreOptions::default())
            .await
            .unwrap();
        assert_eq!(report.outcome, RestoreOutcome::Restored);
        assert_eq!(bench.ask(database, "select version from t"), "1");
        assert_eq!(
            pefo_db::kept(&bench.server, &name(database))
                .await
                .unwrap()
                .len(),
            1
        );
        pefo_db::rollback(&bench.server, &name(database), &SystemClock)
            .await
            .unwrap();
        assert_eq!(bench.ask(database, "select version from t"), "2");
    }
    assert_eq!(bench.databases().len(), 8);
}

#[tokio::test]
async fn previous_databases_are_pruned_and_nothing_else_is() {
    let Some(bench) = Bench::start() else { return };
    // Looks alike, and is somebody's.
    let theirs = [
        "db.pefo-kept-yesterday",
        "db2.pefo-kept-20200101T000000Z",
        "db2",
    ];
    for database in ["db", theirs[0], theirs[1], theirs[2]] {
        bench
            .cluster
            .sql("postgres", &format!("create database \"{database}\""))
            .unwrap();
    }
    bench
        .cluster
        .sql("db", "create table t as select 0 as version")
        .unwrap();
    for version in 1..=4 {
        let (dir, _) = bench.dump("db", &format!("{version}")).await.unwrap();
        bench
            .cluster
            .sql("db", &format!("update t set version = {version}"))
            .unwrap();
        let report = bench
            .restore("db", &dir, &RestoreOptions::default().keep_previous(2))
            .await
            .unwrap();
        assert_eq!(report.pruned.len(), usize::from(version > 2), "{version}");
        bench
            .cluster
            .sql("db", &format!("update t set version = {version}0"))
            .unwrap();
    }
    let kept = pefo_db::kept(&bench.server, &name("db")).await.unwrap();
    let versions: Vec<String> = kept
        .iter()
        .map(|kept| bench.ask(kept.as_str(), "select version from t"))
        .collect();
    assert_eq!(versions, ["4", "3"]);
    let there = bench.databases();
    assert!(
        theirs
            .iter()
            .all(|database| there.iter().any(|name| name == database)),
        "{there:?}"
    );
    let listed = pefo_db::list(&bench.server).await.unwrap();
    assert_eq!(
        listed
            .iter()
            .filter(|database| database.purpose == pefo_db::Purpose::Kept)
            .count(),
        3
    );
    assert!(listed.iter().any(|database| database.name == name("db")
        && database.owner == "postgres"
        && database.size_bytes > Some(1_000_000)));

    let error = pefo_db::rollback(&bench.server, &name("nothing"), &SystemClock)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn every_single_changed_value_is_named_by_verify() {
    let Some(bench) = Bench::with_rbac() else {
        return;
    };
    let (_, manifest) = bench.dump(DATABASE, "dump").await.unwrap();
    let changes = [
        (
            "update rbac.local_users set password_hash = set_byte(password_hash, 63, get_byte(password_hash, 63) # 1) where subject = (select min(subject::text)::uuid from rbac.local_users)",
            "rbac.local_users has other rows",
        ),
        (
            "update rbac.disclaimers set body = null where body = ''",
            "rbac.disclaimers has other rows",
        ),
        (
            "update rbac.directory_settings set attributes = jsonb_set(attributes, '{a}', '1.1')",
            "rbac.directory_settings has other rows",
        ),
        (
            "update rbac.measurements set cost = cost + '0.01' where double = 0.1",
            "rbac.measurements has other rows",
        ),
        (
            "update \"Audit log\".\"event 2026-03\" set at = at + interval '1 microsecond' where id = (select min(id) from \"Audit log\".\"event 2026-03\")",
            "Audit log.event 2026-03 has other rows",
        ),
        (
            "insert into rbac.no_columns default values",
            "rbac.no_columns has another number of rows (3, not 2)",
        ),
        (
            "select nextval('rbac.untouched')",
            "rbac.untouched stands elsewhere (1, not 1 (unused))",
        ),
        (
            "drop index rbac.tokens_by_label",
            "index rbac.tokens_by_label is defined otherwise",
        ),
        (
            "alter function rbac.touch() security definer",
            "function rbac.touch() is defined otherwise",
        ),
        (
            "revoke select on rbac.roles from \"pe-rbac-read\"",
            "rights relation rbac.roles is defined otherwise",
        ),
        (
            "revoke usage on schema public from \"pe-rbac-read\"",
            "the set of rights on the schema public is not as it should be",
        ),
        ("drop view rbac.who_may", "rbac.who_may is missing"),
        (
            "create table public.extra ()",
            "public.extra should not be there (0)",
        ),
        (
            "select lo_put(oid, 5000, 'x') from pg_largeobject_metadata",
            "large objects differ",
        ),
        (
            "update rbac.\"Odd \"\"name\"\" - ü\" set \"select\" = 9 where \"select\" = 3",
            "rbac.Odd \"name\" - ü has other rows",
        ),
    ];
    assert_eq!(
        bench.differences(DATABASE, &manifest).await,
        Vec::<String>::new()
    );
    let mut known = Vec::new();
    for (change, named) in changes {
        bench.cluster.sql(DATABASE, change).unwrap();
        let differences = bench.differences(DATABASE, &manifest).await;
        let new: Vec<_> = differences
            .iter()
            .filter(|difference| !known.contains(*difference))
            .collect();
        assert!(
            new.iter().any(|difference| *difference == named),
            "{change}: {new:?}"
        );
        known = differences;
    }
}
