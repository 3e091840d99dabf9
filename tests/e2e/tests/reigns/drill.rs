//! `pefo drill`: each data set is tried out beside the live one, and the report says how long and how old.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use pefo_testkit::classifier::Fault;
use serde_json::Value;

use crate::commands::NAME;
use crate::commands::world::World;
use crate::evidence::{fails_as, files, newest_record, tree};
use crate::pair::{A, Pair};

fn reports(state: &Path) -> Vec<PathBuf> {
    let mut reports = files(&state.join("reports"));
    reports.sort();
    reports
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn part<'r>(report: &'r Value, dataset: &str) -> &'r Value {
    let mut parts = report["datasets"].as_array().unwrap().iter();
    parts.find(|part| part["dataset"] == dataset).unwrap()
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_drill_tries_out_every_data_set_beside_the_live_one_and_says_how_long_and_how_old() {
    let Some(mut world) = World::in_step() else {
        return;
    };
    world.ca.sign("node1.lab").unwrap();
    world.ca.revoke("node1.lab").unwrap();
    world.a.pefo(["ca", "push"]).exits(0);
    world.b.pefo(["ca", "apply"]).exits(0);
    let World { a, b, at_b, .. } = &world;
    let live = |world: &World| {
        let on_b = &world.on_b;
        let databases = "select oid, datname from pg_database order by 1";
        let rows = "select count(*) from rbac.disclaimers";
        (
            tree(&world.b.cadir()),
            world.at_b.groups(),
            on_b.query_text("postgres", databases).unwrap(),
            on_b.query_text(NAME, rows).unwrap(),
        )
    };
    let (before, asked) = (live(&world), at_b.requests().len());
    let told = b.pefo(["drill", "--json"]).exits(0).json();
    assert!(live(&world) == before, "a drill changes nothing live");
    let mut requests = at_b.requests().into_iter().skip(asked);
    assert!(requests.all(|request| request.method == "GET"));
    let left = files(&b.state().join("work")).into_iter();
    let left: Vec<_> = left.filter(|path| !path.ends_with("ca-digests")).collect();
    assert!(left.is_empty(), "{left:?}");

    let report = &told["details"];
    let ca = part(report, "ca");
    assert_eq!(ca["details"]["certificates"], 2, "{ca:#}");
    assert_eq!(ca["details"]["revocations"], 1, "{ca:#}");
    // This host's own serials, and none of the active's.
    let next = format!("0x{:04X}", super::counter(&b.cadir()));
    assert_eq!(ca["details"]["serial"], next, "{ca:#}");
    let nc = part(report, "nc");
    assert_eq!(
        (&nc["details"]["differing"], &nc["details"]["missing"]),
        (&0.into(), &Value::Array(Vec::new())),
        "{nc:#}"
    );
    let db = part(report, "db:pe-rbac");
    assert!(
        db["details"]["drill"]["rows"].as_u64().unwrap() > 4000,
        "{db:#}"
    );
    let parts = report["datasets"].as_array().unwrap();
    for part in parts {
        assert_eq!(part["outcome"], "ok", "{part:#}");
        assert!(part["generation"].is_string() && part["made"].is_string());
        assert!(part["lag_seconds"].is_u64(), "{part:#}");
    }
    let all = |key: &str| -> Vec<u64> {
        let each = parts.iter().map(|part| part[key].as_u64().unwrap());
        each.collect()
    };
    let (took, ages) = (all("took_ms"), all("age_seconds"));
    assert_eq!(report["rto_ms"], took.iter().sum::<u64>());
    assert_eq!(report["rpo_seconds"], *ages.iter().max().unwrap());

    // The same stands in the report, for root alone.
    let path = PathBuf::from(report["report"].as_str().unwrap());
    assert_eq!(reports(&b.state()), std::slice::from_ref(&path));
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
    let mut written = read(&path);
    written["report"] = report["report"].clone();
    assert_eq!(&written, report);
    assert_eq!(newest_record(b, "drill")["outcome"], "ok");

    let text = b.pefo(["drill"]).exits(0).stdout;
    for told in [
        &format!(
            "signs and revokes: serial {next} in a copy of 2 certificates and 1 revocations\n"
        ),
        "passes every gate: 0 of 12 groups would change\n",
        " restores: ",
        "the live database is what it was",
        "\nRTO of the data: ",
        "; RPO: ",
        "\nreport: /",
    ] {
        assert!(text.contains(told), "{told:?} is not in\n{text}");
    }
    fails_as(a, &["drill"], 6, "wrong_role");
}

#[test]
fn what_fails_keeps_nothing_else_from_being_tried_and_stands_in_the_report() {
    let Some(world) = World::in_step() else {
        return;
    };
    let World { b, at_b, .. } = &world;
    let (key, away) = (b.cadir().join("ca_key.pem"), b.directory().join("away"));
    std::fs::rename(&key, &away).unwrap();
    at_b.undeploy_class("puppet_enterprise");
    let mut groups = at_b.groups();
    groups[1]["variables"]["by_hand"] = true.into();
    at_b.set_groups(groups);

    let run = b.pefo(["drill"]).exits(4);
    assert!(run.refused_by("ca-key-missing"), "{}", run.stderr);
    assert!(run.stdout.contains("RTO of the data: more than "));
    let report = read(&reports(&b.state())[0]);
    assert_eq!(report["outcome"], "partial");
    let ca = part(&report, "ca");
    assert_eq!(ca["outcome"], "refused", "{ca:#}");
    assert_eq!(ca["errors"][0]["rule"], "ca-key-missing", "{ca:#}");
    assert!(ca["age_seconds"].is_u64(), "{ca:#}");
    assert_eq!(part(&report, "nc")["details"]["differing"], 1);
    assert_eq!(part(&report, "db:pe-rbac")["outcome"], "ok");
    assert_eq!(newest_record(b, "drill")["outcome"], "partial");

    std::fs::rename(&away, &key).unwrap();
    at_b.set_fault(Fault::ServerError);
    b.pefo(["drill"]).exits(4);
    let report = read(reports(&b.state()).last().unwrap());
    assert_eq!(part(&report, "ca")["outcome"], "ok");
    assert_eq!(part(&report, "nc")["outcome"], "failed");
}

#[test]
fn without_anything_received_in_this_reign_there_is_nothing_to_drill() {
    let Some(mut pair) = Pair::paired() else {
        return;
    };
    let error = fails_as(&pair.b, &["drill"], 1, "not_found");
    assert!(
        error["message"].as_str().unwrap().starts_with("ca: "),
        "{error:#}"
    );
    pair = pair.seed();
    let Pair { a, b, .. } = &pair;
    b.pefo(["drill"]).exits(0);
    // A becomes B's spare, and has nothing of B's yet.
    let watch = b.watch();
    a.pefo(["switchover"]).exits(0);
    drop(watch);
    let error = fails_as(a, &["drill"], 1, "not_found");
    assert!(
        error["hint"].as_str().unwrap().contains("on the active"),
        "{error:#}"
    );
    b.pefo(["ca", "push"]).exits(0);
    a.pefo(["ca", "apply"]).exits(0);
    let report = a.pefo(["drill", "--json"]).exits(0).json();
    assert_eq!(report["details"]["epoch"], 2);
    assert_eq!(report["details"]["certname"], A);
}

#[test]
fn the_newest_reports_are_kept() {
    let Some(pair) = Pair::seeded() else { return };
    let b = &pair.b;
    for _ in 0..12 {
        b.pefo(["drill", "-q"]).exits(0);
    }
    let kept = reports(&b.state());
    assert_eq!(kept.len(), 10, "{kept:?}");
    let newest = b.pefo(["drill", "--json"]).exits(0).json();
    let newest = PathBuf::from(newest["details"]["report"].as_str().unwrap());
    let now = reports(&b.state());
    assert_eq!(&now[..9], &kept[1..]);
    assert_eq!(now[9], newest);
}
