//! What is refused, in which words, and that the live database never notices.

use std::path::Path;
use std::sync::Arc;

use pefo_core::clock::SystemClock;
use pefo_core::disk::{Attributes, Disk, read_capped};
use pefo_core::launch::{DirectLauncher, Finished, Invocation, Launcher};
use pefo_core::progress::Silent;
use pefo_core::{ErrorKind, Result};
use pefo_db::{DumpManifest, RestoreOptions, Server, Tools};
use pefo_testkit::postgres::ClusterOptions;

use crate::bench::{Bench, assert_same_text, name, rule};

fn overwrite(path: &Path, bytes: &[u8]) {
    Disk::new()
        .publish(path, bytes, &Attributes::mode(0o600))
        .unwrap();
}

#[tokio::test]
async fn a_damaged_dump_is_refused_and_the_live_database_stays() {
    let Some(bench) = Bench::start() else { return };
    bench.create_live("create table t as select generate_series(1, 1000) as n");
    let (dir, manifest) = bench.dump("live", "dump").await.unwrap();
    bench
        .cluster
        .sql("live", "insert into t values (7)")
        .unwrap();
    let before = bench.as_text("live");
    let data = manifest
        .files
        .iter()
        .find(|file| file.path.as_str() != "toc.dat")
        .unwrap();
    let (path, options) = (data.path.in_dir(&dir), RestoreOptions::default());
    let good = read_capped(&path, u64::MAX).unwrap();

    let mut bad = good.clone();
    bad[100] ^= 1;
    overwrite(&path, &bad);
    assert_eq!(
        rule(bench.restore("live", &dir, &options).await),
        "db-dump-damaged"
    );
    Disk::new().remove_file(&path).unwrap();
    assert_eq!(
        rule(bench.restore("live", &dir, &options).await),
        "db-dump-damaged"
    );
    overwrite(&path, &good);

    // A manifest that promises other rows: found out only by comparing what was restored.
    let manifest_path = dir.join(DumpManifest::FILE_NAME);
    let mut lying = manifest.clone();
    lying.state.relations[0].digest = Some("1/2".to_owned());
    overwrite(&manifest_path, lying.to_json().unwrap().as_bytes());
    let error = bench.restore("live", &dir, &options).await.unwrap_err();
    assert_eq!(error.rule(), Some("db-verify-mismatch"));
    assert!(
        error.to_string().contains("public.t has other rows"),
        "{error}"
    );

    // Garbage under the right digest: pg_restore itself fails.
    let mut garbage = manifest.clone();
    overwrite(&path, b"no number\n\\.\n");
    let file = garbage
        .files
        .iter_mut()
        .find(|file| file.path == data.path)
        .unwrap();
    (file.size, file.blake3) = (13, blake3::hash(b"no number\n\\.\n").to_hex().to_string());
    overwrite(&manifest_path, garbage.to_json().unwrap().as_bytes());
    assert_eq!(
        bench
            .restore("live", &dir, &options)
            .await
            .unwrap_err()
            .kind(),
        ErrorKind::Child
    );

    Disk::new().remove_file(&manifest_path).unwrap();
    let error = bench.restore("live", &dir, &options).await.unwrap_err();
    assert!(
        error.hint_text().unwrap().contains("not finished"),
        "{error}"
    );

    assert_same_text(&bench.as_text("live"), &before);
    assert_eq!(bench.databases(), ["live"]);
    overwrite(&path, &good);
    overwrite(&manifest_path, manifest.to_json().unwrap().as_bytes());
    bench.restore("live", &dir, &options).await.unwrap();
    assert_eq!(bench.ask("live", "select count(*) from t"), "1000");
}

#[tokio::test]
async fn a_server_without_the_roles_refuses_before_anything_is_touched() {
    let (Some(a), Some(b)) = (Bench::with_rbac(), Bench::start()) else {
        return;
    };
    let (dir, _) = a.dump("pe-rbac", "dump").await.unwrap();
    let error = b
        .restore("pe-rbac", &dir, &RestoreOptions::default())
        .await
        .unwrap_err();
    insta::assert_snapshot!(error, @r"the server lacks roles that the dump needs: pe-rbac, pe-rbac-migrator, pe-rbac-read, pe-rbac-write [db-role-missing]");
    let error = a
        .restore("other", &dir, &RestoreOptions::default())
        .await
        .unwrap_err();
    assert_eq!(error.rule(), Some("db-other-database"));
    a.restore(
        "other",
        &dir,
        &RestoreOptions::default().accept("db-other-database"),
    )
    .await
    .unwrap();
    assert_eq!(a.databases(), ["other", "pe-rbac"]);
    assert!(b.databases().is_empty());
}

#[tokio::test]
async fn a_missing_database_names_those_that_exist() {
    let Some(bench) = Bench::start() else { return };
    bench
        .cluster
        .sql("postgres", "create database \"pe-rbac\"")
        .unwrap();
    let error = bench.dump("pe-rbca", "dump").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(
        error.hint_text().unwrap().contains("pe-rbac, postgres"),
        "{error:?}"
    );
    assert!(!bench.dir.path().join("dump").exists());

    overwrite(&bench.dir.path().join("taken"), b"");
    assert_eq!(rule(bench.dump("pe-rbac", "taken").await), "db-dump-exists");
}

#[tokio::test]
async fn a_server_that_is_not_there_or_says_no_is_told_apart() {
    let Some(bench) = Bench::start_with(&ClusterOptions::default().tcp()) else {
        return;
    };
    let nowhere = Server::on_socket(bench.dir.path(), "postgres");
    let error = pefo_db::list(&nowhere).await.unwrap_err();
    assert!(
        error.kind() == ErrorKind::Unreachable && error.is_retryable(),
        "{error:?}"
    );

    bench
        .cluster
        .sql(
            "postgres",
            "create role someone login superuser password 'a:secret\\'",
        )
        .unwrap();
    let tcp = Server::on_tcp("127.0.0.1", "someone").port(bench.cluster.port());
    let error = pefo_db::list(&tcp).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(error.hint_text().unwrap().contains("passfile"));

    let passfile = bench.dir.path().join("pass");
    overwrite(&passfile, b"127.0.0.1:*:*:someone:wrong\n");
    let error = pefo_db::list(&tcp.clone().passfile(&passfile))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    overwrite(&passfile, b"127.0.0.1:*:*:someone:a\\:secret\\\\\n");
    let tcp = tcp.passfile(&passfile);
    pefo_db::list(&tcp).await.unwrap();

    // The programs read the same file: a dump over TCP, its password on no command line.
    bench
        .cluster
        .sql("postgres", "create database live")
        .unwrap();
    let seen = Arc::new(Seen::default());
    let tools = Tools::new(Arc::clone(&seen) as Arc<dyn Launcher>).bin_dir(bench.cluster.bin_dir());
    let (dir, options) = (
        bench.dir.path().join("over tcp"),
        pefo_db::DumpOptions::default(),
    );
    pefo_db::dump(
        &tcp,
        &tools,
        &name("live"),
        &dir,
        &options,
        &SystemClock,
        &Silent,
    )
    .await
    .unwrap();
    let seen = format!("{:?}", seen.0.lock().unwrap());
    assert!(
        seen.contains("pg_dump") && seen.contains("PGPASSFILE") && !seen.contains("secret"),
        "{seen}"
    );
}

/// Runs programs and remembers what it was asked to run.
#[derive(Default)]
struct Seen(std::sync::Mutex<Vec<Invocation>>);

impl Launcher for Seen {
    fn run(&self, invocation: &Invocation) -> Result<Finished> {
        self.0.lock().unwrap().push(invocation.clone());
        DirectLauncher::default().run(invocation)
    }
}

/// Says that every program is of version 10.
struct Old;

impl Launcher for Old {
    fn run(&self, invocation: &Invocation) -> Result<Finished> {
        let says = Invocation::new("echo").arg("pg_dump (PostgreSQL) 10.23");
        assert_eq!(invocation.arguments, ["--version"], "it must not be used");
        DirectLauncher::default().run(&says)
    }
}

#[tokio::test]
async fn programs_older_than_the_server_are_refused_and_missing_ones_name_their_package() {
    let Some(mut bench) = Bench::start() else {
        return;
    };
    bench.tools = Tools::new(Arc::new(Old));
    assert_eq!(
        rule(bench.dump("postgres", "dump").await),
        "db-tool-older-than-server"
    );
    bench.tools = Tools::new(Arc::new(DirectLauncher::default())).bin_dir("/nonexistent");
    let error = bench.dump("postgres", "dump").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.hint_text().unwrap().contains("postgresql-client"));
}

/// Runs programs as the user that the server lets in.
struct AsPostgres;

impl Launcher for AsPostgres {
    fn run(&self, invocation: &Invocation) -> Result<Finished> {
        let mut wrapped = Invocation::new("setpriv")
            .arg("--reuid=postgres")
            .arg("--regid=postgres")
            .arg("--init-groups")
            .arg("--");
        wrapped = wrapped.arg(&invocation.program);
        wrapped
            .arguments
            .extend(invocation.arguments.iter().cloned());
        wrapped.environment.clone_from(&invocation.environment);
        wrapped.directory.clone_from(&invocation.directory);
        DirectLauncher::default().run(&wrapped)
    }
}

#[tokio::test]
async fn programs_run_through_the_launcher_as_the_user_that_peer_authentication_lets_in() {
    let Some(bench) = Bench::start_with(&ClusterOptions::default().peer().tcp()) else {
        return;
    };
    if bench.cluster.server_ids().is_none() {
        return pefo_testkit::skip::announce(&pefo_testkit::skip::Skip::new(
            "needs-root",
            "two system users need root",
        ));
    }
    // We, as root, are not let in on the socket, by whichever way; the tools are.
    assert_eq!(
        pefo_db::list(&bench.server).await.unwrap_err().kind(),
        ErrorKind::Denied
    );
    let as_root = Invocation::new(bench.cluster.bin_dir().join("pg_dump"))
        .arg("-d")
        .arg(bench.cluster.connection_string("postgres"));
    let said = DirectLauncher::default()
        .run(&as_root)
        .unwrap()
        .success(&as_root)
        .unwrap_err();
    assert!(
        said.to_string().contains("Peer authentication failed"),
        "{said}"
    );
    AsPostgres.run(&as_root).unwrap().success(&as_root).unwrap();

    // A whole dump and restore, the programs another user's than ours: they write where they may.
    let Some(bench) = Bench::start() else { return };
    bench.create_live("create table t as select generate_series(1, 10) as n");
    let tools = Tools::new(Arc::new(AsPostgres)).bin_dir(bench.cluster.bin_dir());
    let (dir, live) = (bench.cluster.socket_dir().join("dump"), name("live"));
    let options = pefo_db::DumpOptions::default();
    let manifest = pefo_db::dump(
        &bench.server,
        &tools,
        &live,
        &dir,
        &options,
        &SystemClock,
        &Silent,
    )
    .await
    .unwrap();
    let owners: Vec<_> = ["toc.dat", DumpManifest::FILE_NAME]
        .map(|file| Attributes::of(&dir.join(file)).unwrap().owner)
        .to_vec();
    assert_eq!(
        owners,
        [bench.cluster.server_ids(), bench.cluster.server_ids()]
    );
    bench.cluster.sql("live", "drop table t").unwrap();
    let restored = pefo_db::restore(
        &bench.server,
        &tools,
        &live,
        &dir,
        &RestoreOptions::default(),
        &SystemClock,
        &Silent,
    )
    .await;
    restored.unwrap();
    assert_eq!(
        bench.differences("live", &manifest).await,
        Vec::<String>::new()
    );

    // Where that user may not write, the error says so.
    let closed = bench.dir.path().join("dump");
    let error = pefo_db::dump(
        &bench.server,
        &tools,
        &live,
        &closed,
        &options,
        &SystemClock,
        &Silent,
    )
    .await
    .unwrap_err();
    assert!(
        error.hint_text().unwrap().contains("must be able to write"),
        "{error:?}"
    );

    // A program that does not exist is found out behind the launcher too.
    let tools = Tools::new(Arc::new(AsPostgres)).bin_dir("/nonexistent");
    assert_eq!(
        tools.version("pg_dump").await.unwrap_err().kind(),
        ErrorKind::NotFound
    );
}
