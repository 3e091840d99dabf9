//! `pefo db drill` and `pefo db verify` on the passive, and dumps that need not be made.

use super::{Databases, databases, live};
use crate::evidence::generations;

#[test]
fn a_drill_restores_the_newest_dump_beside_the_live_database_which_it_leaves_alone() {
    let Some(both) = Databases::in_step() else {
        return;
    };
    let (before, standing) = (live(&both.on_b), databases(&both.on_b));
    let report = both.b.pefo(["db", "drill", "--json"]).exits(0).json();
    let drill = &report["details"]["drill"];
    assert_eq!(drill["outcome"], "drilled", "{report:#}");
    assert_eq!(drill["live_changed"], serde_json::json!([]), "{report:#}");
    assert!(drill["rows"].as_u64().unwrap() > 4000, "{report:#}");
    let text = both.b.pefo(["db", "drill"]).exits(0).stdout;
    assert!(text.contains("the live database is what it was"), "{text}");
    assert_eq!(
        (live(&both.on_b), databases(&both.on_b)),
        (before, standing)
    );

    // A dump that cannot be restored here fails the drill, and nothing else.
    both.on_a
        .sql(
            super::NAME,
            "create role \"pe-auditor\"; grant select on rbac.tokens to \"pe-auditor\";",
        )
        .unwrap();
    both.a.pefo(["db", "push"]).exits(0);
    both.b.pefo(["db", "restore"]).exits(3);
    let run = both.b.pefo(["db", "drill"]).exits(3);
    assert!(run.refused_by("db-role-missing"), "{}", run.stderr);
    both.a.pefo(["db", "drill"]).exits(6);
}

#[test]
fn verify_names_the_table_in_which_somebody_changed_one_value_by_hand() {
    let Some(both) = Databases::in_step() else {
        return;
    };
    let text = both.b.pefo(["db", "verify"]).exits(0).stdout;
    assert!(
        text.starts_with("PEFO OK: 1 of 1 databases compared, 0 differ"),
        "{text}"
    );
    both.on_b
        .sql(super::NAME, "update rbac.subjects set login = 'Mallory' where ctid = (select min(ctid) from rbac.subjects)")
        .unwrap();
    let text = both.b.pefo(["db", "verify"]).exits(2).stdout;
    assert!(
        text.starts_with("PEFO CRITICAL: 1 of 1 databases compared, 1 differ"),
        "{text}"
    );
    assert!(text.contains("rbac.subjects has other rows"), "{text}");
    let report = both.b.pefo(["db", "verify", "--json"]).exits(2).json();
    let found = &report["details"]["databases"][0]["differences"][0];
    assert_eq!(
        (found["kind"].as_str(), found["name"].as_str()),
        (Some("rows"), Some("rbac.subjects"))
    );
    // Not asked of the active: its own dump may be older than its database.
    assert!(
        both.a
            .pefo(["db", "verify"])
            .exits(3)
            .stdout
            .starts_with("PEFO UNKNOWN")
    );
}

#[test]
fn a_dump_of_another_version_of_the_product_is_refused_until_the_operator_says_otherwise() {
    let Some(mut both) = Databases::paired() else {
        return;
    };
    let name = |master: &mut pefo_testkit::masters::Master, version: &str| {
        let text = std::fs::read_to_string(master.config_path()).unwrap();
        let line = format!("[database]\nproduct_version = \"{version}\"\n");
        assert!(text.contains("[database]\n"), "{text}");
        std::fs::write(master.config_path(), text.replace("[database]\n", &line)).unwrap();
    };
    name(&mut both.a, "2023.8.1");
    name(&mut both.b, "2021.7.9");
    both.a.pefo(["db", "push"]).exits(0);
    let run = both.b.pefo(["db", "restore"]).exits(3);
    assert!(run.refused_by("db-product-version"), "{}", run.stderr);
    assert!(
        run.stderr.contains("2023.8.1") && run.stderr.contains("2021.7.9"),
        "{}",
        run.stderr
    );
    both.b
        .pefo(["db", "restore", "--accept", "db-product-version"])
        .exits(0);
    assert_eq!(live(&both.on_b).1, live(&both.on_a).1);
}

#[test]
fn where_nothing_was_committed_since_the_last_dump_none_is_made() {
    let Some(both) = Databases::in_step() else {
        return;
    };
    let text = both.a.pefo(["db", "push"]).exits(0).stdout;
    assert!(text.contains("nothing was committed since"), "{text}");
    both.a.pefo(["db", "dump"]).exits(0);
    let text = both.a.pefo(["db", "dump"]).exits(0).stdout;
    assert!(text.contains("nothing was committed since"), "{text}");
    for command in [["db", "push", "--force"], ["db", "dump", "--force"]] {
        let text = both.a.pefo(command).exits(0).stdout;
        assert!(!text.contains("nothing was committed since"), "{text}");
    }

    // One row, and all of it is looked at again.
    both.say_on_a("something after all");
    let text = both.a.pefo(["db", "push"]).exits(0).stdout;
    assert!(text.contains(": sent "), "{text}");
    both.b.pefo(["db", "restore"]).exits(0);
    assert_eq!(live(&both.on_b).1, live(&both.on_a).1);

    // A passive whose spool was emptied gets it again, though nothing was committed.
    let newest = generations(&both.b, "db-pe-rbac").pop().unwrap();
    std::fs::remove_dir_all(&newest).unwrap();
    std::fs::remove_dir_all(both.b.state().join("store/db-pe-rbac")).unwrap();
    both.b.pefo(["db", "restore"]);
    let text = both.a.pefo(["db", "push"]).exits(0).stdout;
    assert!(text.contains(": sent "), "{text}");
    both.b.pefo(["db", "restore"]).exits(0);
}
