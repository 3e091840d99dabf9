//! What is found out before anything is done: tablespaces, collations, room and rights, and how exactly
//! a dump is compared.

use std::path::Path;

use pefo_core::clock::SystemClock;
use pefo_core::disk::{Attributes, Disk};
use pefo_core::progress::Silent;
use pefo_db::{
    DumpManifest, DumpOptions, RestoreOptions, RestoreOutcome, RestorePlan, Server, ServerFacts,
    Space, is_unchanged_since, plan_restore,
};
use pefo_testkit::disk::SmallDisk;
use pefo_testkit::postgres::ClusterOptions;
use pefo_testkit::skip;

use crate::bench::{Bench, assert_same_text, name, rule};

/// A directory that the server may use.
fn server_dir(bench: &Bench, path: &Path) {
    let mut attributes = Attributes::mode(0o700);
    attributes.owner = bench.cluster.server_ids();
    Disk::new().create_dir(path, &attributes).unwrap();
}

/// A tablespace beside the data directory.
fn create_tablespace(bench: &Bench, tablespace: &str) {
    let path = bench.cluster.socket_dir().join(tablespace);
    server_dir(bench, &path);
    let sql = format!(
        "create tablespace \"{tablespace}\" location '{}'",
        path.display()
    );
    bench.cluster.sql("postgres", &sql).unwrap();
}

async fn facts(bench: &Bench, manifest: &DumpManifest) -> ServerFacts {
    ServerFacts::gather(&bench.server, &bench.tools, manifest, &manifest.database)
        .await
        .unwrap()
}

async fn plan(bench: &Bench, manifest: &DumpManifest, options: &RestoreOptions) -> RestorePlan {
    let facts = facts(bench, manifest).await;
    plan_restore(manifest, &facts, &manifest.database, options).unwrap()
}

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

/// Where the tables and indexes of `live` lie; those of the database's own tablespace first.
fn placed(bench: &Bench) -> String {
    let query = "select string_agg(c.relname || ' ' || coalesce(t.spcname, '-'), ', ' order by t.spcname nulls first, c.relname) \
                 from pg_class c left join pg_tablespace t on t.oid = c.reltablespace where c.oid >= 16384 and c.relkind in ('r', 'i', 'm') and c.relname !~ '^pg_toast'";
    let home = "select spcname from pg_database d join pg_tablespace t on t.oid = dattablespace where datname = 'live'";
    format!("{}: {}", bench.ask("live", home), bench.ask("live", query))
}

#[tokio::test]
async fn tablespaces_are_as_on_the_active_where_the_server_has_them() {
    let (Some(a), Some(b)) = (Bench::start(), Bench::start()) else {
        return;
    };
    for tablespace in ["rbac space", "fast", "unused"] {
        create_tablespace(&a, tablespace);
    }
    let tables = "create table t (n int primary key using index tablespace fast, v text); insert into t select n, repeat('x', 3000) from generate_series(1, 200) n; \
                  create table u () tablespace pg_default; create materialized view m tablespace fast as table t";
    a.cluster
        .sql("postgres", "create database live tablespace \"rbac space\"")
        .unwrap();
    a.cluster.sql("live", tables).unwrap();
    let layout = "rbac space: t -, m fast, t_pkey fast, u pg_default";
    assert_eq!(placed(&a), layout);
    let (dir, manifest) = a.dump("live", "dump").await.unwrap();
    assert_eq!(manifest.placement.tablespace, "rbac space");
    let elsewhere = manifest.placement.elsewhere.iter();
    let elsewhere: Vec<_> = elsewhere
        .map(|used| (used.name.as_str(), used.size_bytes > 8192))
        .collect();
    assert_eq!(elsewhere, [("fast", true), ("pg_default", false)]);

    // The spare lacks both; nothing is made there.
    let options = RestoreOptions::default();
    let error = b.restore("live", &dir, &options).await.unwrap_err();
    insta::assert_snapshot!(error, @"the server lacks tablespaces that the dump uses: fast, rbac space [db-tablespace-missing]");
    assert!(b.databases().is_empty());

    // Overruled, all lies in the server's default.
    let accepting = RestoreOptions::default().accept("db-tablespace-missing");
    let report = b.restore("live", &dir, &accepting).await.unwrap();
    assert_eq!(report.accepted.len(), 1);
    assert_eq!(placed(&b), "pg_default: m -, t -, t_pkey -, u -");
    assert_eq!(b.differences("live", &manifest).await, Vec::<String>::new());

    // With the tablespaces there, a first restore lies as on the active.
    create_tablespace(&b, "fast");
    create_tablespace(&b, "rbac space");
    create_tablespace(&b, "elsewhere");
    b.cluster.sql("postgres", "drop database live").unwrap();
    b.restore("live", &dir, &options).await.unwrap();
    assert_eq!(placed(&b), layout);

    // And where the live one was put elsewhere, the next one lies there.
    b.cluster
        .sql("postgres", "alter database live set tablespace elsewhere")
        .unwrap();
    let again = RestoreOptions::default().even_if_unchanged(true);
    b.restore("live", &dir, &again).await.unwrap();
    assert_eq!(
        placed(&b),
        "elsewhere: t -, m fast, t_pkey fast, u pg_default"
    );
}

#[tokio::test]
async fn another_version_of_the_collation_is_told_in_the_plan_and_in_the_report() {
    let Some(bench) = Bench::start() else { return };
    // ICU's root locale is there wherever ICU is; what C.UTF-8 has is no version.
    let made = bench.cluster.sql(
        "postgres",
        "create database live template template0 locale_provider icu icu_locale 'und'",
    );
    if made.is_err() {
        return skip::announce(&skip::Skip::new(
            "needs-icu",
            "PostgreSQL is built without ICU, or older than 15",
        ));
    }
    bench.cluster.sql("live", "create table t ()").unwrap();
    let (dir, mut manifest) = bench.dump("live", "dump").await.unwrap();
    assert!(manifest.collation_version.actual.is_some());
    assert_eq!(
        manifest.collation_version.actual,
        manifest.collation_version.recorded
    );
    let options = RestoreOptions::default().even_if_unchanged(true);
    assert_eq!(
        plan(&bench, &manifest, &options).await.notes,
        Vec::<String>::new()
    );

    let here = manifest.collation_version.actual.replace("1.0".to_owned());
    Disk::new()
        .publish(
            &dir.join(DumpManifest::FILE_NAME),
            manifest.to_json().unwrap().as_bytes(),
            &Attributes::mode(0o600),
        )
        .unwrap();
    let report = bench.restore("live", &dir, &options).await.unwrap();
    let expected = format!(
        "the collation und has version {} here and 1.0 on the active: texts may sort otherwise",
        here.unwrap()
    );
    assert_eq!(report.notes, [expected]);
}

#[tokio::test]
async fn a_restore_without_room_is_refused_before_anything_is_done() {
    let Some(bench) = Bench::start() else { return };
    let small = bench.cluster.socket_dir().join("small");
    server_dir(&bench, &small);
    let Some(disk) = skip::need(SmallDisk::in_memory(&small, 18 << 10, None)) else {
        return;
    };
    let place = disk.path().join("space");
    server_dir(&bench, &place);
    let sql = format!("create tablespace small location '{}'", place.display());
    bench.cluster.sql("postgres", &sql).unwrap();
    bench
        .cluster
        .sql("postgres", "create database live tablespace small")
        .unwrap();
    let rows = "create table t as select n, repeat('x', 1000) as v from generate_series(1, 5000) n";
    bench.cluster.sql("live", rows).unwrap();
    let (dir, manifest) = bench.dump("live", "dump").await.unwrap();
    // A copied database has holes until its pages are written.
    bench.cluster.sql("postgres", "checkpoint").unwrap();

    // Two of them do not fit.
    let again = RestoreOptions::default().even_if_unchanged(true);
    let error = bench.restore("live", &dir, &again).await.unwrap_err();
    let said = error.to_string();
    assert!(
        said.contains(&format!("{} has", place.display()))
            && said.contains(&format!("about {} are needed", manifest.size_bytes)),
        "{said}"
    );
    assert_eq!(rule(Err::<(), _>(error)), "db-space");
    assert_eq!(bench.databases(), ["live"]);

    // Overruled, the server itself runs out of room; the live database is as it was, and open.
    let accepting = again.clone().accept("db-space");
    let error = bench.restore("live", &dir, &accepting).await.unwrap_err();
    assert_eq!(error.rule(), None, "{error}");
    assert_eq!(bench.databases(), ["live"]);
    assert_eq!(bench.ask("live", "select count(*) from t"), "5000");

    // Elsewhere there is room.
    let home = "alter database live set tablespace pg_default";
    bench.cluster.sql("postgres", home).unwrap();
    bench.restore("live", &dir, &again).await.unwrap();
}

#[tokio::test]
async fn what_a_killed_run_has_left_counts_as_room() {
    let Some(bench) = Bench::start() else { return };
    bench
        .cluster
        .sql(
            "postgres",
            "create database live; create database \"live.pefo-shadow\"",
        )
        .unwrap();
    let (_, manifest) = bench.dump("live", "dump").await.unwrap();
    let facts = facts(&bench, &manifest).await;
    assert!(facts.leftover_bytes > 1_000_000, "{}", facts.leftover_bytes);
}

#[tokio::test]
async fn room_is_known_over_tcp_only_where_the_servers_data_directory_is_here() {
    let Some(bench) = Bench::start_with(&ClusterOptions::default().tcp()) else {
        return;
    };
    bench
        .cluster
        .sql(
            "postgres",
            "create database live; create role someone login superuser password 'x'; create role other login",
        )
        .unwrap();
    let (_, manifest) = bench.dump("live", "dump").await.unwrap();
    let passfile = bench.dir.path().join("pass");
    Disk::new()
        .publish(&passfile, b"*:*:*:*:x\n", &Attributes::mode(0o600))
        .unwrap();
    let over_tcp = Server::on_tcp("127.0.0.1", "someone")
        .port(bench.cluster.port())
        .passfile(&passfile);
    let ask = |server: Server| {
        let (tools, manifest) = (&bench.tools, &manifest);
        async move {
            ServerFacts::gather(&server, tools, manifest, &name("live"))
                .await
                .unwrap()
                .space
        }
    };
    let Space::Known(disks) = ask(over_tcp.clone()).await else {
        panic!("its control file says that it is this one")
    };
    assert_eq!(disks.wal.path, bench.cluster.data_dir().join("pg_wal"));
    assert!(disks.max_wal_bytes >= 32 << 20);

    // Without the server's identifier a directory of that name is no proof.
    bench
        .cluster
        .sql(
            "postgres",
            "alter role someone nosuperuser; grant pg_read_all_settings to someone; \
             revoke execute on function pg_control_system() from public",
        )
        .unwrap();
    let Space::Unknown(why) = ask(over_tcp).await else {
        panic!("it may be a directory of the same name")
    };
    assert!(why.contains("is not on this host"), "{why}");

    // Who may not ask is told so in a note.
    let mut server = bench.server.clone();
    server.user = "other".to_owned();
    let Space::Unknown(why) = ask(server).await else {
        panic!("nobody told it")
    };
    assert!(why.contains("pg_read_all_settings"), "{why}");
}

#[tokio::test]
async fn a_dump_without_room_is_refused_before_it_begins() {
    let Some(bench) = Bench::start() else { return };
    let small = bench.dir.path().join("small");
    Disk::new()
        .create_dir(&small, &Attributes::mode(0o755))
        .unwrap();
    let Some(disk) = skip::need(SmallDisk::in_memory(&small, 1024, None)) else {
        return;
    };
    bench
        .cluster
        .sql("postgres", "create database live")
        .unwrap();
    // 16 MB that dump as 11, then as next to nothing.
    let rows =
        "create table t as select n, repeat('x', 1000) as v from generate_series(1, 11000) n";
    bench.cluster.sql("live", rows).unwrap();
    let to = disk.path().join("dump");
    let options = DumpOptions::default();
    let error = dump_with(&bench, &to, &options).await.unwrap_err();
    assert!(
        error.hint_text().unwrap().contains("make room"),
        "{error:?}"
    );
    assert_eq!(rule(Err::<(), _>(error)), "db-dump-space");

    // Overruled, pg_dump finds out, and nothing is left.
    let accepting = options.clone().accept("db-dump-space");
    let error = dump_with(&bench, &to, &accepting).await.unwrap_err();
    assert_eq!(error.rule(), None, "{error}");
    assert!(!to.exists());

    // Dead rows take room in the database only: the operator may know better.
    bench
        .cluster
        .sql("live", "delete from t where n > 10")
        .unwrap();
    assert_eq!(
        rule(dump_with(&bench, &to, &options).await),
        "db-dump-space"
    );
    dump_with(&bench, &to, &accepting).await.unwrap();
}

#[tokio::test]
async fn who_is_no_superuser_is_told_each_missing_right_and_restores_with_all_of_them() {
    let Some(mut bench) = Bench::start() else {
        return;
    };
    bench
        .cluster
        .sql(
            "postgres",
            "create role owner; create role manager login; create database live owner owner",
        )
        .unwrap();
    bench
        .cluster
        .sql(
            "live",
            "set role owner; create schema s; create table s.t as select 1 as version",
        )
        .unwrap();
    let (dir, manifest) = bench.dump("live", "dump").await.unwrap();
    bench
        .cluster
        .sql("live", "update s.t set version = 2")
        .unwrap();
    let before = bench.as_text("live");

    bench.server.user = "manager".to_owned();
    let accepting = RestoreOptions::default().accept("db-not-superuser");
    assert_eq!(
        rule(
            bench
                .restore("live", &dir, &RestoreOptions::default())
                .await
        ),
        "db-not-superuser"
    );
    let error = bench.restore("live", &dir, &accepting).await.unwrap_err();
    insta::assert_snapshot!(error, @"we lack what a restore needs: CREATEDB, membership in owner, which owns the dumped database, membership in owner, which owns the live database, membership in pg_signal_backend [db-rights]");
    bench
        .cluster
        .sql(
            "postgres",
            "alter role manager createdb; grant owner to manager",
        )
        .unwrap();
    let error = bench.restore("live", &dir, &accepting).await.unwrap_err();
    insta::assert_snapshot!(error, @"we lack what a restore needs: membership in pg_signal_backend [db-rights]");
    assert_same_text(&bench.as_text("live"), &before);
    assert_eq!(bench.databases(), ["live"]);

    bench
        .cluster
        .sql("postgres", "grant pg_signal_backend to manager")
        .unwrap();
    let report = bench.restore("live", &dir, &accepting).await.unwrap();
    assert_eq!(report.outcome, RestoreOutcome::Restored);
    assert_eq!(bench.ask("live", "select version from s.t"), "1");
    bench.server.user = bench.cluster.superuser().to_owned();
    assert_eq!(
        bench.differences("live", &manifest).await,
        Vec::<String>::new()
    );
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
