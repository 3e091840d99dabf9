//! `[classifier] ids`: a target with console permissions of its own keeps the ids they refer to.

use serde_json::{Value, json};

use super::{Classifiers, captured};
use crate::evidence::refused_as;
use crate::pair::B;

/// B's own installation: the same groups under ids of its own, its rules about itself, and one group that
/// only its version brings.
fn own_of_b() -> Vec<Value> {
    let text = serde_json::to_string(&captured()).unwrap();
    let mut groups: Vec<Value> = serde_json::from_str(&text.replace(crate::pair::A, B)).unwrap();
    let ids: Vec<String> = groups
        .iter()
        .map(|group| group["id"].as_str().unwrap().to_owned())
        .collect();
    for group in &mut groups {
        for key in ["id", "parent"] {
            let id = group[key].as_str().unwrap().to_owned();
            let number = ids.iter().position(|other| *other == id).unwrap();
            if id != "00000000-0000-4000-8000-000000000000" {
                group[key] = json!(format!("b0000000-0000-4000-8000-{number:012}"));
            }
        }
    }
    groups
}

fn find<'a>(groups: &'a [Value], name: &str) -> &'a Value {
    groups.iter().find(|group| group["name"] == name).unwrap()
}

fn with_ids(policy: &str) -> Option<Classifiers> {
    let pair = Classifiers::configured("", &format!("ids = \"{policy}\""))?;
    pair.at_b.set_groups(own_of_b());
    pair.add_web_servers("secret");
    pair.a.pefo(["nc", "push"]).exits(0);
    Some(pair)
}

#[test]
fn stock_groups_keep_the_ids_that_the_targets_permissions_refer_to() {
    let Some(pair) = with_ids("match-stock-groups") else {
        return;
    };
    pair.b.pefo(["nc", "restore"]).exits(0);
    let (groups, own) = (pair.at_b.groups(), own_of_b());
    for name in [
        "PE Master",
        "PE Infrastructure",
        "Agent-specified environment",
    ] {
        assert_eq!(find(&groups, name)["id"], find(&own, name)["id"], "{name}");
    }
    assert_eq!(pair.secret_at_b().as_deref(), Some("secret"));
    let again = pair.b.pefo(["nc", "restore", "--json"]).exits(0).json();
    assert_eq!(again["outcome"], "unchanged");
}

#[test]
fn the_targets_infrastructure_stays_as_it_is() {
    let Some(pair) = with_ids("keep-target-infrastructure") else {
        return;
    };
    let mut own = own_of_b();
    let at = own
        .iter()
        .position(|group| group["name"] == "PE Master")
        .unwrap();
    own[at]["classes"]["puppet_enterprise::profile::master"] = json!({"java_args": {"Xmx": "8g"}});
    pair.at_b.set_groups(own);
    let shown = pair.b.pefo(["nc", "restore"]).exits(0).stdout;
    assert!(
        shown.contains("keeps its own: ") && shown.contains("PE Master"),
        "{shown}"
    );
    let groups = pair.at_b.groups();
    let args =
        &find(&groups, "PE Master")["classes"]["puppet_enterprise::profile::master"]["java_args"];
    assert_eq!(args["Xmx"], "8g");
    assert_eq!(pair.secret_at_b().as_deref(), Some("secret"));
}

#[test]
fn groups_of_the_targets_version_are_not_deleted_without_a_word() {
    let Some(pair) = Classifiers::paired() else {
        return;
    };
    let mut own = own_of_b();
    own.push(json!({"name": "PE Patch Management", "id": "b0000000-0000-4000-8000-000000000099",
        "parent": "00000000-0000-4000-8000-000000000000", "environment": "production", "classes": {}, "variables": {}}));
    pair.at_b.set_groups(own);
    pair.a.pefo(["nc", "push"]).exits(0);
    let error = refused_as(&pair.b, &["nc", "restore"], "nc-target-stock-group");
    assert!(
        error["message"]
            .as_str()
            .unwrap()
            .contains("PE Patch Management"),
        "{error:#}"
    );
    pair.b
        .pefo(["nc", "restore", "--accept", "nc-target-stock-group"])
        .exits(0);
}
