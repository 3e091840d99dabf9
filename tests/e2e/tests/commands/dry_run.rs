//! `--dry-run` of every command that changes state: a plan is shown, nothing is changed.

use serde_json::json;

use super::NAME;
use super::world::World;
use crate::evidence::tree;

#[test]
fn a_dry_run_of_every_command_shows_a_plan_and_changes_nothing() {
    let Some(mut world) = World::prepared() else {
        return;
    };
    world.plans(
        &world.a,
        "init active",
        &[],
        "would make this host (puppet-a.lab) the active",
    );
    let line = world.a.pefo(["init", "active"]).exits(0).stdout;
    world.plans(
        &world.b,
        "init passive",
        &["--join", line.trim()],
        "would pin puppet-a.lab",
    );
    let back = world
        .b
        .pefo(["init", "passive", "--join", line.trim()])
        .exits(0)
        .stdout;
    world.plans(
        &world.a,
        "init active",
        &["--accept", back.trim()],
        "would pin puppet-b.lab",
    );
    world
        .a
        .pefo(["init", "active", "--accept", back.trim()])
        .exits(0);

    world.plans(
        &world.a,
        "ca push",
        &["--seed"],
        "the CA's key, sealed to puppet-b.lab",
    );
    world.a.pefo(["ca", "push", "--seed"]).exits(0);
    world.plans(&world.b, "ca apply", &[], "seed ");
    world.b.pefo(["ca", "apply"]).exits(0);
    world.ca.sign("node1.lab").unwrap();
    world.plans(&world.a, "ca push", &[], "would send");
    world.a.pefo(["ca", "push"]).exits(0);
    world.plans(&world.b, "ca apply", &[], "node1.lab");

    world.plans(&world.a, "nc export", &[], "would export");
    world.plans(&world.a, "nc push", &[], "groups to puppet-b.lab");
    world.plans(&world.a, "db dump", &[], "would dump");
    world.plans(&world.a, "db push", &[], "rows to puppet-b.lab");
    world.plans(&world.a, "files push", &[], "1 file to puppet-b.lab");
    world.plans(&world.a, "push", &[], "db:pe-rbac: would send");
    world.a.pefo(["push"]).exits(0);
    world.plans(&world.b, "files apply", &[], "unchanged  1");
    world.plans(&world.b, "nc restore", &[], "PE Master");
    world.plans(&world.b, "db restore", &[], "rename");
    world.plans(&world.b, "apply", &[], "nc: ");
    world.b.pefo(["apply"]).exits(0);

    // And over what stands there already.
    world.ca.revoke("node1.lab").unwrap();
    world
        .on_a
        .sql(NAME, "insert into rbac.disclaimers (body) values ('new');")
        .unwrap();
    let mut groups = world.at_a.groups();
    groups.push(json!({
        "name": "Web servers", "id": "fc500c43-5065-469b-91fc-37ed0e500e81", "classes": {}, "variables": {},
        "parent": "00000000-0000-4000-8000-000000000000", "environment": "production", "environment_trumps": false,
    }));
    world.at_a.set_groups(groups);
    world.plans(&world.a, "push", &[], "ca: would send");
    world.a.pefo(["push"]).exits(0);
    world.plans(&world.b, "ca apply", &[], "ca_crl.pem");
    world.plans(&world.b, "apply", &["nc"], "Web servers");
    world.plans(&world.b, "apply", &["db:pe-rbac"], "rename");
    world.b.pefo(["apply"]).exits(0);
    world.plans(&world.b, "db drill", &[], "into scratch");
    world.plans(&world.b, "db rollback", &[NAME], "would bring");
    world.plans(&world.b, "drill", &[], "nc: ");

    world.plans(&world.a, "pause", &[], "would pause");
    world.a.pefo(["pause"]).exits(0);
    world.plans(&world.a, "resume", &[], "would go on after");
    world.a.pefo(["resume"]).exits(0);

    // The spare's root is asked, and answers; no CA changes.
    let cas = [world.a.cadir(), world.b.cadir()];
    let before = cas.each_ref().map(|cadir| tree(cadir));
    let watch = world.b.watch();
    let run = world.a.pefo(["ca", "merge", "--dry-run"]).exits(0);
    assert!(
        run.stdout.contains("nothing to bring over"),
        "{}",
        run.stdout
    );
    drop(watch);
    assert!(before == cas.each_ref().map(|cadir| tree(cadir)));

    let epoch = "puppet-b.lab would reign in epoch 2";
    world.plans(&world.a, "switchover", &[], epoch);
    world.plans(&world.b, "promote", &["--accept", "peer-active"], epoch);
    world
        .b
        .pefo(["promote", "--accept", "peer-active"])
        .exits(0);
    // Hearing of it is no change that anybody asked for.
    world.a.pefo(["fence"]).exits(6);
    world.plans(&world.a, "demote", &[], "would become the passive of");
}
