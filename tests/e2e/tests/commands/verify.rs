//! `pefo verify`: one answer to whether the spare would serve the same, and what differs by name.

use serde_json::Value;

use super::NAME;
use super::world::World;

#[test]
fn a_spare_in_step_serves_the_same_and_what_differs_is_named() {
    let Some(world) = World::in_step() else {
        return;
    };
    let World { b, at_b, on_b, .. } = &world;
    let run = b.pefo(["verify"]).exits(0);
    let first = run.stdout.lines().next().unwrap();
    assert_eq!(first, "PEFO OK: 4 of 4 data sets would be served the same");

    // Somebody edits a group at the spare's console, and a row in its database.
    let mut groups = at_b.groups();
    let edited = groups
        .iter_mut()
        .find(|group| group["name"] == "PE Master")
        .unwrap();
    edited["variables"]["by_hand"] = true.into();
    at_b.set_groups(groups);
    on_b.sql(
        NAME,
        "update rbac.measurements set double = 7 where double = 0.1",
    )
    .unwrap();
    let run = b.pefo(["nc", "verify"]).exits(2);
    assert!(
        run.stdout
            .starts_with("PEFO CRITICAL: 1 of 12 groups differ from "),
        "{}",
        run.stdout
    );
    assert!(
        run.stdout.contains("~ group \"PE Master\""),
        "{}",
        run.stdout
    );
    let run = b.pefo(["verify"]).exits(2);
    for told in [
        "PEFO CRITICAL: 2 of 4 data sets",
        "\nca: OK: ",
        "\nnc: CRITICAL: 1 of 12 groups",
        "group \"PE Master\"",
        "rbac.measurements has other rows",
    ] {
        assert!(run.stdout.contains(told), "{told}: {}", run.stdout);
    }
    let report = b.pefo(["verify", "--json"]).exits(2).json();
    assert_eq!(
        report["details"][1]["details"]["differing"], 1,
        "{report:#}"
    );
    assert_eq!(at_b.installed(), 1, "a comparison imports nothing");
}

#[test]
fn what_cannot_be_compared_is_told_and_hides_nothing() {
    let Some(world) = World::in_step() else {
        return;
    };
    let World {
        a, b, at_a, at_b, ..
    } = &world;
    // Received and not imported yet is no fault of the spare's.
    let mut groups = at_a.groups();
    groups[1]["variables"]["new"] = true.into();
    at_a.set_groups(groups);
    a.pefo(["nc", "push"]).exits(0);
    b.pefo(["nc", "verify"]).exits(0);
    at_b.undeploy_class("puppet_enterprise");
    b.pefo(["nc", "restore"]).exits(3);
    let run = b.pefo(["nc", "verify"]).exits(1);
    assert!(
        run.stdout.contains("not imported: run 'pefo nc diff'"),
        "{}",
        run.stdout
    );

    at_b.set_fault(pefo_testkit::classifier::Fault::ServerError);
    let run = b.pefo(["verify"]).exits(3);
    assert!(
        run.stdout.starts_with("PEFO UNKNOWN: 3 of 4 data sets"),
        "{}",
        run.stdout
    );
    assert!(run.stderr.contains("application-error"), "{}", run.stderr);

    // On the active only the CA can be asked about, and nobody runs there who could answer.
    let report = a
        .pefo(["verify", "--timeout", "0", "--json"])
        .exits(3)
        .json();
    assert_eq!(report["errors"][0]["kind"], "unreachable", "{report:#}");
    let report: Value = a.pefo(["nc", "verify", "--json"]).exits(3).json();
    assert_eq!(report["errors"][0]["kind"], "wrong_role", "{report:#}");
}
