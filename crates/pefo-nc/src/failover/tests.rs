//! What becomes of the three groups, by what is there.

use super::*;
use crate::testing::{group, id};

fn tree(more: Vec<Value>) -> Tree {
    let mut groups = vec![group(0, 0, "All Nodes"), group(1, 0, "Web")];
    groups.extend(more);
    Tree::from_value(Value::Array(groups)).unwrap()
}

fn planned(more: Vec<Value>) -> FailoverPlan {
    plan(&tree(more), &FailoverOptions::default()).unwrap()
}

fn refusal(more: Vec<Value>) -> Error {
    let error = plan(&tree(more), &FailoverOptions::default()).unwrap_err();
    assert_eq!(error.rule(), Some(AMBIGUOUS));
    assert!(error.hint_text().is_some());
    error
}

fn named(number: u32, name: &str, environment: &str) -> Value {
    let mut group = group(number, 1, name);
    group["environment"] = environment.into();
    group
}

fn with_id(mut group: Value, id: GroupId) -> Value {
    group["id"] = id.to_string().into();
    group
}

#[test]
fn where_there_is_none_of_them_all_three_are_created() {
    let plan = planned(Vec::new());
    insta::assert_snapshot!(plan, @r#"
    group "pe_failover" (fe888938-385c-513a-89f0-23a584b0c8e9): create
    group "pe_failover active" (47d0f145-4450-5cdd-a728-4c05a4b86e93): create
    group "pe_failover passive" (b60c2df8-ad0f-5c93-901e-903853c74a8e): create
    "#);
    let made: Vec<Value> = plan
        .changes()
        .map(|change| Value::Object(change.group.contents().into_object()))
        .collect();
    let active = json!(["=", ["fact", "pe_failover_mode"], "active"]);
    let passive = json!(["=", ["fact", "pe_failover_mode"], "passive"]);
    assert_eq!(made[0]["rule"], json!(["or", active, passive]));
    assert_eq!((&made[1]["rule"], &made[2]["rule"]), (&active, &passive));
    assert_eq!(made[0]["parent"], GroupId::ROOT.to_string());
    assert!(
        made[1..]
            .iter()
            .all(|child| child["parent"] == made[0]["id"])
    );
    assert!(made.iter().all(|group| group["classes"] == json!({})));
    assert!(
        planned(made).is_empty(),
        "once they are there, nothing is to do"
    );
}

#[test]
fn groups_that_an_operator_made_keep_their_ids_and_their_children_find_them() {
    let plan = planned(vec![
        named(7, "pe_failover", "production"),
        named(8, "pe_failover passive", "testing"),
    ]);
    let ids: Vec<GroupId> = plan.groups.iter().map(|group| group.id).collect();
    assert_eq!(ids, [id(7), ACTIVE_ID, id(8)]);
    assert!(
        plan.groups[1..]
            .iter()
            .all(|child| child.group.parent() == id(7))
    );
    assert_eq!(plan.groups[2].group.environment(), "testing");
    assert_eq!(
        serde_json::to_string(&plan.groups[2].change).unwrap(),
        r#"{"correct":["parent","rule"]}"#
    );
}

#[test]
fn a_group_is_known_by_its_id_whatever_it_is_called_by_now() {
    let renamed = with_id(named(7, "failover", "production"), PARENT_ID);
    let plan = planned(vec![renamed.clone()]);
    let keys = GroupChange::Correct(vec!["name", "parent", "rule"]);
    assert_eq!(
        (plan.groups[0].id, &plan.groups[0].change),
        (PARENT_ID, &keys)
    );
    assert_eq!(plan.groups[0].group.name(), "pe_failover");
    // Of the same name, but in another environment: somebody else's.
    let others = named(8, "pe_failover", "testing");
    assert_eq!(
        planned(vec![renamed.clone(), others]).groups[0].id,
        PARENT_ID
    );
    let error = refusal(vec![renamed, named(8, "pe_failover", "production")]);
    assert!(error.to_string().contains("is \"failover\""), "{error}");
}

#[test]
fn of_several_groups_of_one_name_the_one_in_the_environment_is_meant_or_none() {
    let (one, two) = (
        named(7, "pe_failover", "testing"),
        named(8, "pe_failover", "staging"),
    );
    refusal(vec![one.clone(), two.clone()]);
    let options = FailoverOptions::default().environment("staging");
    let plan = plan(&tree(vec![one, two]), &options).unwrap();
    assert_eq!(plan.groups[0].id, id(8));
    assert_eq!(
        plan.groups[1].group.environment(),
        "staging",
        "the new ones"
    );
}

#[test]
fn what_an_operator_put_into_a_group_stays_unless_the_classes_are_to_go() {
    let mut own = with_id(named(7, "pe_failover active", "production"), ACTIVE_ID);
    for (key, value) in [
        ("classes", json!({"ntp": {}})),
        ("variables", json!({"v": 1})),
        ("hat", json!(1.50)),
        ("serial_number", json!(4)),
        ("last_edited", json!("2026")),
        ("deleted", json!({"ntp": {}})),
    ] {
        own[key] = value;
    }
    let of = |options: &FailoverOptions| {
        let plan = plan(&tree(vec![own.clone()]), options).unwrap();
        let active = &plan.groups[1];
        (active.change.clone(), active.group.contents().into_object())
    };
    let (change, kept) = of(&FailoverOptions::default());
    assert_eq!(change, GroupChange::Correct(vec!["parent", "rule"]));
    for key in ["classes", "variables", "hat", "serial_number"] {
        assert_eq!(kept[key], own[key], "{key}");
    }
    assert!(!kept.contains_key("last_edited") && !kept.contains_key("deleted"));
    let (change, cleared) = of(&FailoverOptions::default().clear_classes(true));
    assert_eq!(
        change,
        GroupChange::Correct(vec!["parent", "rule", "classes"])
    );
    assert_eq!(cleared["classes"], json!({}));
}
