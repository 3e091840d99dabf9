//! Databases from the active to the passive, on two PostgreSQL clusters that let their superuser in by
//! peer authentication only.

mod killed;
mod proof;
mod services;

use std::path::Path;
use std::time::Duration;

use pefo_testkit::masters::{self, Master};
use pefo_testkit::postgres::{Cluster, ClusterOptions};
use pefo_testkit::{place, skip};
use serde_json::Value;

use crate::evidence::{edit_config, fails_as, generations, newest_record, refused_as, tree};
use crate::pair::Pair;

const NAME: &str = "pe-rbac";
/// Longer than anything takes here.
const LONG: Duration = Duration::from_secs(60);

/// A pair of masters, each with a cluster; the database is on A, B has the roles.
pub(crate) struct Databases {
    pub(crate) a: Master,
    pub(crate) b: Master,
    pub(crate) on_a: Cluster,
    pub(crate) on_b: Cluster,
}

impl Databases {
    fn paired() -> Option<Self> {
        let Pair { mut a, mut b, .. } = Pair::prepared()?;
        let (on_a, on_b) = (cluster()?, cluster()?);
        on_a.create_rbac_like(NAME).unwrap();
        on_b.create_rbac_roles().unwrap();
        a.use_database(&on_a, &[NAME]);
        b.use_database(&on_b, &[NAME]);
        masters::pair(&a, &b);
        Some(Self { a, b, on_a, on_b })
    }

    /// And what A has stands on B.
    pub(crate) fn in_step() -> Option<Self> {
        let databases = Self::paired()?;
        databases.a.pefo(["db", "push"]).exits(0);
        databases.b.pefo(["db", "restore"]).exits(0);
        Some(databases)
    }

    /// Says something on A that B does not know yet.
    pub(crate) fn say_on_a(&self, what: &str) {
        self.on_a
            .sql(
                NAME,
                &format!("insert into rbac.disclaimers (body) values ('{what}');"),
            )
            .unwrap();
    }
}

fn cluster() -> Option<Cluster> {
    skip::need(Cluster::start_with(&ClusterOptions::default().peer()))
}

/// The live database: which one it is, and what it holds.
pub(crate) fn live(cluster: &Cluster) -> (String, String) {
    let which = cluster
        .query_text(
            "postgres",
            &format!("select oid from pg_database where datname = '{NAME}'"),
        )
        .unwrap();
    let held = cluster
        .query_text(
            NAME,
            "select (select md5(string_agg(t::text, '|' order by id)) from rbac.subjects t), \
                    (select md5(string_agg(t::text, '|' order by id)) from rbac.measurements t), \
                    (select string_agg(coalesce(body, 'null'), '|' order by id) from rbac.disclaimers), \
                    (select count(*) from \"Audit log\".events)",
        )
        .unwrap();
    (which, held)
}

/// All databases, those that pefo made among them.
fn databases(cluster: &Cluster) -> Vec<String> {
    let text = cluster
        .query_text("postgres", "select datname from pg_database order by 1")
        .unwrap();
    text.lines().map(str::to_owned).collect()
}

fn kept(cluster: &Cluster) -> Vec<String> {
    databases(cluster)
        .into_iter()
        .filter(|name| name.starts_with("pe-rbac.pefo-kept-"))
        .collect()
}

#[test]
fn a_row_changed_on_the_active_arrives_on_the_passive_and_the_old_database_is_kept() {
    let Some(databases) = Databases::paired() else {
        return;
    };
    let Databases { a, b, on_a, on_b } = &databases;
    a.pefo(["check"]).exits(0);
    let sent = a.pefo(["db", "push", "--json"]).exits(0).json();
    assert_eq!(
        (&sent["outcome"], &sent["dataset"]),
        (&"ok".into(), &"db:pe-rbac".into())
    );
    b.pefo(["db", "restore"]).exits(0);
    let (first, held) = live(on_b);
    assert_eq!(held, live(on_a).1);
    assert!(kept(on_b).is_empty(), "there was nothing to keep");

    // Nothing new: nothing is sent, nothing is restored.
    assert_eq!(
        a.pefo(["db", "push", "--json"]).exits(0).json()["outcome"],
        "unchanged"
    );
    assert_eq!(
        b.pefo(["db", "restore", "--json"]).exits(0).json()["outcome"],
        "unchanged"
    );
    assert_eq!(live(on_b).0, first);

    databases.say_on_a("changed on the active");
    a.pefo(["db", "push"]).exits(0);
    let restored = b.pefo(["db", "restore", "--json"]).exits(0).json();
    assert_eq!(restored["outcome"], "ok");
    let (second, now) = live(on_b);
    assert_ne!(second, first);
    assert_eq!(now, live(on_a).1);
    assert!(now.contains("changed on the active"));
    let kept = kept(on_b);
    let [old] = kept.as_slice() else {
        panic!("one old database is kept, not {kept:?}")
    };
    let rows = on_b
        .query_text(
            old,
            "select count(*) from rbac.disclaimers where body = 'changed on the active'",
        )
        .unwrap();
    assert_eq!(rows, "0", "the kept database is the old one");

    let status = b.pefo(["status", "--json"]).json();
    let rows = status["details"]["datasets"].as_array().unwrap();
    let row = rows
        .iter()
        .find(|row| row["dataset"] == "db:pe-rbac")
        .unwrap();
    assert_eq!(row["received"], row["applied"], "{row}");
    assert_eq!(row["health"], "OK", "{row}");
}

#[test]
fn db_list_shows_what_is_kept_in_step_and_what_is_not() {
    let Some(databases) = Databases::paired() else {
        return;
    };
    let Databases { a, b, on_a, .. } = &databases;
    on_a.sql("postgres", "create database \"pe-forgotten\";")
        .unwrap();
    let list = a.pefo(["db", "list"]).exits(0).stdout;
    let line = |name: &str| {
        list.lines()
            .find(|line| line.starts_with(name))
            .unwrap_or_else(|| panic!("{name} is not in\n{list}"))
            .to_owned()
    };
    assert!(line(NAME).ends_with("kept in step"));
    assert!(line("pe-forgotten").ends_with("NOT in the configuration"));
    let listed = a.pefo(["db", "list", "--json"]).exits(0).json();
    let configured = |name: &str| {
        let rows = listed["details"].as_array().unwrap();
        rows.iter().find(|row| row["name"] == name).unwrap()["configured"].clone()
    };
    assert_eq!(
        (configured(NAME), configured("pe-forgotten")),
        (Value::Bool(true), Value::Bool(false))
    );
    assert!(
        b.pefo(["db", "list"])
            .exits(0)
            .stdout
            .contains("is configured and does not exist")
    );
}

#[test]
fn a_dump_stays_on_the_active_for_root_alone() {
    let Some(databases) = Databases::paired() else {
        return;
    };
    let Databases { a, on_a, .. } = &databases;
    let report = a.pefo(["db", "dump", "--json"]).exits(0).json();
    let dir = Path::new(report["details"]["dir"].as_str().unwrap()).to_owned();
    assert!(dir.starts_with(a.state()));
    assert!(dir.join("pefo-db.json").is_file());
    let rows = on_a
        .query_text(NAME, "select count(*) from rbac.subjects")
        .unwrap();
    assert_eq!(rows, "4000");
    assert!(report["details"]["rows"].as_u64().unwrap() > 4000);
    for (path, what) in tree(&dir) {
        assert!(
            what.contains(" 0:"),
            "{} is not root's: {what}",
            path.display()
        );
    }
    let state = tree(&a.state())
        .into_iter()
        .find(|(path, _)| path == Path::new("exports"))
        .unwrap();
    assert!(state.1.starts_with("40700 0:0"), "{state:?}");
    // A second dump replaces the first.
    databases.say_on_a("dumped again");
    let again = a.pefo(["db", "dump", "--json"]).exits(0).json();
    assert_eq!(again["details"]["dir"], report["details"]["dir"]);
}

#[test]
fn a_dry_run_shows_the_restore_and_changes_neither_database() {
    let Some(databases) = Databases::in_step() else {
        return;
    };
    let Databases { a, b, on_a, on_b } = &databases;
    databases.say_on_a("not yet");
    let before = (tree(&a.state()), tree(&b.spool()), live(on_a));
    a.pefo(["db", "dump", "--dry-run"]).exits(0);
    a.pefo(["db", "push", "--dry-run"]).exits(0);
    assert!(
        before == (tree(&a.state()), tree(&b.spool()), live(on_a)),
        "a dry run changed the active or the spool"
    );
    a.pefo(["db", "push"]).exits(0);
    let before = (
        tree(&b.state()),
        tree(&b.spool()),
        live(on_b),
        self::databases(on_b),
    );
    let shown = b.pefo(["db", "restore", "--dry-run"]).exits(0).stdout;
    assert!(
        shown.contains("swap") || shown.contains("rename"),
        "the plan names the swap:\n{shown}"
    );
    assert!(
        before
            == (
                tree(&b.state()),
                tree(&b.spool()),
                live(on_b),
                self::databases(on_b)
            ),
        "a dry run changed the passive"
    );
}

#[test]
fn a_database_that_does_not_exist_is_named_with_those_that_do() {
    let Some(databases) = Databases::paired() else {
        return;
    };
    let a = &databases.a;
    for command in [["db", "dump", "pe-missing"], ["db", "push", "pe-missing"]] {
        let error = fails_as(a, &command, 1, "not_found");
        assert!(
            error["message"].as_str().unwrap().contains("pe-missing"),
            "{error:#}"
        );
        assert!(error["hint"].as_str().unwrap().contains(NAME), "{error:#}");
    }
    assert!(generations(&databases.b, "db-pe-missing").is_empty());
    // One of two that is missing is partly done: the other one is sent.
    let run = a.pefo(["db", "push", NAME, "pe-missing"]).exits(4);
    assert!(run.stdout.contains("db:pe-rbac: sent"), "{}", run.stdout);
    assert_eq!(generations(&databases.b, "db-pe-rbac").len(), 1);
}

#[test]
fn missing_or_older_client_programs_are_told_and_nothing_is_sent_or_restored() {
    let Some(databases) = Databases::in_step() else {
        return;
    };
    let Databases { a, b, on_a, on_b } = &databases;
    databases.say_on_a("needs pg_dump");
    let before = (live(on_b), generations(b, "db-pe-rbac"));
    let bin = place::directory("bin");
    let real = format!("bin_dir = \"{}\"", on_a.bin_dir().display());
    let fake = format!("bin_dir = \"{}\"", bin.path().display());

    edit_config(a, &real, &fake);
    let error = fails_as(a, &["db", "push"], 1, "not_found");
    assert!(
        error["message"].as_str().unwrap().contains("pg_dump"),
        "{error:#}"
    );
    script(
        &bin.path().join("pg_dump"),
        "echo 'pg_dump (PostgreSQL) 9.6.24'",
    );
    refused_as(a, &["db", "push"], "db-tool-older-than-server");
    assert_eq!((live(on_b), generations(b, "db-pe-rbac")), before);
    edit_config(a, &fake, &real);
    a.pefo(["db", "push"]).exits(0);

    std::fs::remove_file(bin.path().join("pg_dump")).unwrap();
    edit_config(b, &real, &fake);
    let error = fails_as(b, &["db", "restore"], 1, "not_found");
    assert!(
        error["message"].as_str().unwrap().contains("pg_restore"),
        "{error:#}"
    );
    // One that breaks in the middle: the shadow goes, the live database stays.
    script(
        &bin.path().join("pg_restore"),
        "case $1 in --version) echo 'pg_restore (PostgreSQL) 99.0';; *) echo 'out of paper' >&2; exit 1;; esac",
    );
    let error = fails_as(b, &["db", "restore"], 1, "child");
    assert!(
        error["message"].as_str().unwrap().contains("out of paper"),
        "{error:#}"
    );
    assert_eq!(live(on_b), before.0);
    assert!(
        !self::databases(on_b)
            .iter()
            .any(|name| name.contains("shadow")),
        "{:?}",
        self::databases(on_b)
    );
    edit_config(b, &fake, &real);
    b.pefo(["db", "restore"]).exits(0);
    assert_eq!(live(on_b).1, live(on_a).1);
}

fn script(path: &Path, body: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(path, format!("#!/bin/sh\n{body}\n")).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_server_that_is_down_is_told_on_either_side_and_the_next_run_catches_up() {
    let Some(databases) = Databases::in_step() else {
        return;
    };
    let Databases {
        mut a,
        b,
        on_a,
        on_b,
    } = databases;
    on_a.sql(
        NAME,
        "insert into rbac.disclaimers (body) values ('before the fall');",
    )
    .unwrap();
    a.pefo(["db", "push"]).exits(0);
    let before = generations(&b, "db-pe-rbac");
    let old = format!("port = {}", on_a.port());
    drop(on_a);
    let error = fails_as(&a, &["db", "push"], 1, "unreachable");
    assert_eq!(error["retryable"], true, "{error:#}");
    fails_as(&a, &["db", "dump"], 1, "unreachable");
    a.pefo(["check"]).exits(2);
    assert_eq!(generations(&b, "db-pe-rbac"), before);

    // B looks for its server where there is none, then where it is.
    let (mine, nobodys) = (format!("port = {}", on_b.port()), "port = 1");
    let live_before = live(&on_b);
    let text = std::fs::read_to_string(b.config_path()).unwrap();
    std::fs::write(b.config_path(), text.replace(&mine, nobodys)).unwrap();
    fails_as(&b, &["db", "restore"], 1, "unreachable");
    assert_eq!(live(&on_b), live_before);
    assert_eq!(newest_record(&b, "db restore")["outcome"], "failed");
    std::fs::write(b.config_path(), text).unwrap();
    b.pefo(["db", "restore"]).exits(0);
    assert!(live(&on_b).1.contains("before the fall"));

    // A's server comes back empty, with another port: what is gone there is not taken from B.
    let Some(empty) = cluster() else { return };
    edit_config(&a, &old, &format!("port = {}", empty.port()));
    let socket = |cluster: &Cluster| cluster.socket_dir().display().to_string();
    a.configure("");
    let text = std::fs::read_to_string(a.config_path()).unwrap();
    let line = text
        .lines()
        .find(|line| line.starts_with("host = \"/tmp"))
        .unwrap()
        .to_owned();
    edit_config(&a, &line, &format!("host = \"{}\"", socket(&empty)));
    edit_config(&a, &old, &format!("port = {}", empty.port()));
    fails_as(&a, &["db", "push"], 1, "not_found");
    assert!(live(&on_b).1.contains("before the fall"));
}

#[test]
fn a_role_that_the_passive_lacks_is_named_and_the_live_database_stays_until_it_is_made() {
    let Some(databases) = Databases::in_step() else {
        return;
    };
    let Databases { a, b, on_a, on_b } = &databases;
    databases.say_on_a("with a new role");
    on_a.sql(
        NAME,
        "create role \"pe-auditor\"; grant select on rbac.tokens to \"pe-auditor\";",
    )
    .unwrap();
    a.pefo(["db", "push"]).exits(0);
    let before = (live(on_b), self::databases(on_b));
    let error = refused_as(b, &["db", "restore"], "db-role-missing");
    assert!(
        error["message"].as_str().unwrap().contains("pe-auditor"),
        "{error:#}"
    );
    assert_eq!((live(on_b), self::databases(on_b)), before);
    let status = b.pefo(["status", "--json"]).json();
    let row = &status["details"]["datasets"][1];
    assert_ne!(row["received"], row["applied"], "{row}");
    assert!(
        row["last_failure"]["reason"]
            .as_str()
            .unwrap()
            .contains("db-role-missing"),
        "{row}"
    );
    on_b.sql("postgres", "create role \"pe-auditor\";").unwrap();
    b.pefo(["db", "restore"]).exits(0);
    assert!(live(on_b).1.contains("with a new role"));
}
