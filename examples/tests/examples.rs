//! The examples are run, and do what they say.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests lay out directories by hand, and fail loudly"
)]

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use pefo_core::clock::SystemClock;
use pefo_core::launch::DirectLauncher;
use pefo_core::progress::Silent;
use pefo_db::{DatabaseName, DumpOptions, Server, Tools};
use pefo_testkit::ca::{CaOptions, TestCa, copy_tree};
use pefo_testkit::child::Child;
use pefo_testkit::postgres::{Cluster, ClusterOptions};
use pefo_testkit::{skip, wait};
use serde_json::json;

/// Longer than anything takes here.
const LONG: Duration = Duration::from_secs(30);

/// An example as it was built beside this test.
fn example(name: &str) -> Command {
    let built = std::env::current_exe().unwrap();
    let target = built.ancestors().nth(2).map(PathBuf::from).unwrap();
    Command::new(target.join("examples").join(name))
}

/// What an example prints; it must succeed.
#[track_caller]
fn prints(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_watched_ca_tells_each_change_as_it_happens() {
    let root = tempfile::tempdir().unwrap();
    let mut ca = TestCa::create(&root.path().join("ca"), CaOptions::default()).unwrap();
    let told = root.path().join("told");
    let mut command = example("ca_watch");
    command.arg(ca.dir());
    command.stdout(std::fs::File::create(&told).unwrap());
    command.stderr(Stdio::inherit());
    let _watch = Child::spawn(&mut command);
    let read = || std::fs::read_to_string(&told).unwrap();
    wait::until("the first line", LONG, || read().contains(" files\n"));
    ca.sign("node1.lab").unwrap();
    wait::until("the certificate", LONG, || {
        read().contains("signed/node1.lab.pem: new, ")
    });
    ca.clean("node1.lab").unwrap();
    wait::until("its end", LONG, || {
        let told = read();
        told.contains("signed/node1.lab.pem: gone\n") && told.contains(" (1 revoked)\n")
    });
    let told = read();
    assert!(told.contains("inventory.txt: 1 new row\n"), "{told}");
    assert!(told.contains("serial: replaced, "), "{told}");
}

#[test]
fn a_plan_between_two_cas_is_shown_and_touches_nothing() {
    let root = tempfile::tempdir().unwrap();
    let mut source = TestCa::create(&root.path().join("a"), CaOptions::default()).unwrap();
    let local = root.path().join("b");
    copy_tree(source.dir(), &local).unwrap();
    source.sign("node1.lab").unwrap();
    let told = prints(example("ca_plan").arg(&local).arg(source.dir()));
    assert!(
        told.contains("do       signed/node1.lab.pem: add"),
        "{told}"
    );
    assert!(!local.join("signed/node1.lab.pem").exists());
}

#[test]
fn two_classifiers_differ_by_what_the_map_leaves() {
    let root = tempfile::tempdir().unwrap();
    let group = |name: &str, text: &str| {
        json!([{
            "id": "00000000-0000-4000-8000-000000000000",
            "parent": "00000000-0000-4000-8000-000000000000",
            "name": "All Nodes", "environment": "production", "environment_trumps": false,
            "rule": ["and", ["~", "name", ".*"]],
            "classes": {"puppet_enterprise": {"puppet_master_host": name}, "profile::login": {"motd": text}}, "variables": {},
        }])
    };
    let (a, b) = (root.path().join("a.json"), root.path().join("b.json"));
    let says = "run on puppet-a.lab";
    std::fs::write(&a, group("puppet-a.lab", says).to_string()).unwrap();
    std::fs::write(&b, group("puppet-b.lab", "nothing").to_string()).unwrap();
    let mut command = example("nc_diff");
    let told = prints(
        command
            .args([&a, &b])
            .args(["puppet-a.lab", "puppet-b.lab"]),
    );
    assert!(told.contains("motd"), "{told}");
    assert!(!told.contains("puppet_master_host"), "{told}");
    assert!(told.contains("\nstill there: "), "{told}");
}

#[test]
fn a_dump_is_restored_beside_the_live_database_and_swapped_in_on_request() {
    let Some(cluster) = skip::need(Cluster::start_with(&ClusterOptions::default())) else {
        return;
    };
    cluster.sql("postgres", "create database live").unwrap();
    cluster
        .sql("live", "create table t as select 1 as version")
        .unwrap();
    let dump = tempfile::tempdir().unwrap();
    let dir = dump.path().join("dump");
    let server = Server::on_socket(cluster.socket_dir(), cluster.superuser()).port(cluster.port());
    let tools = Tools::new(Arc::new(DirectLauncher::default()));
    let (name, options) = (DatabaseName::new("live").unwrap(), DumpOptions::default());
    let dumping = pefo_db::dump(
        &server,
        &tools,
        &name,
        &dir,
        &options,
        &SystemClock,
        &Silent,
    );
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(dumping).unwrap();
    cluster.sql("live", "update t set version = 2").unwrap();
    let restore = |more: &[&str]| {
        let mut command = example("db_restore");
        command
            .arg(cluster.socket_dir())
            .arg(cluster.port().to_string());
        prints(
            command
                .args([cluster.superuser(), "live"])
                .arg(&dir)
                .args(more),
        )
    };
    let version = || {
        cluster
            .query_text("live", "select version from t")
            .unwrap()
            .trim()
            .to_owned()
    };
    let told = restore(&[]);
    assert!(told.contains("live was not touched"), "{told}");
    assert_eq!(version(), "2");
    let told = restore(&["--swap"]);
    assert!(told.contains("live is live, unreachable for "), "{told}");
    assert_eq!(version(), "1");
}
