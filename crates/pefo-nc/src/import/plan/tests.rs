use super::*;
use crate::testing::{self, MASTER1, MASTER2, group, tree_with};
use serde_json::json;

fn name(text: &str) -> Certname {
    Certname::new(text).unwrap()
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix_seconds(seconds).unwrap()
}

fn export(tree: Tree) -> Envelope {
    Envelope::new(name("master1.puppet.vm"), at(1_700_000_000), tree)
}

fn target(tree: Tree) -> Target {
    Target {
        certname: name("master2.puppet.vm"),
        tree: Ok(tree),
        seen: at(1_700_000_060),
    }
}

fn policy() -> ImportPolicy {
    ImportPolicy::with_map(CertnameMap::one(
        name("master1.puppet.vm"),
        name("master2.puppet.vm"),
    ))
}

#[test]
fn a_target_that_holds_the_transformed_tree_needs_nothing() {
    let held = testing::disguised(&Tree::from_json(MASTER2).unwrap(), 11);
    let plan = plan(
        &export(Tree::from_json(MASTER1).unwrap()),
        target(held),
        &policy(),
    )
    .unwrap();
    assert!(!plan.needs_import());
    insta::assert_snapshot!(plan, @r"
    classification of master1.puppet.vm as of 2023-11-14T22:13:20Z, for master2.puppet.vm: nothing to do, it is there already
    13 values rewritten for master2.puppet.vm
    ");
}

#[test]
fn a_plan_shows_changes_and_what_it_left() {
    let wanted = tree_with(
        json!({"rule": ["=", "name", "master1.puppet.vm"], "variables": {"backup": "master1.puppet.vm:22"}}),
    );
    let plan = plan(&export(wanted), target(tree_with(json!({}))), &policy()).unwrap();
    insta::assert_snapshot!(plan, @r#"
    classification of master1.puppet.vm as of 2023-11-14T22:13:20Z, for master2.puppet.vm: 0 added, 0 removed, 1 changed
    ~ group "PE Infrastructure" in production (00000000-0000-4000-8000-000000000001)
        rule: added ["=","name","master2.puppet.vm"]
        variable backup: added "master1.puppet.vm:22"
    1 values rewritten for master2.puppet.vm
    1 mentions left as they are:
        group "PE Infrastructure" /variables/backup: "master1.puppet.vm:22" mentions master1.puppet.vm in a place that is not rewritten unless it is named
    "#);
    let json = serde_json::to_value(&plan).unwrap();
    assert_eq!(json["needs_import"], true);
    assert_eq!(json["residuals"][0]["mention"], "unlisted_place");
    assert_eq!(plan.rollback().unwrap().source, name("master2.puppet.vm"));
}

#[test]
fn the_source_itself_is_never_a_target() {
    let tree = Tree::from_json(MASTER1).unwrap();
    let target = Target {
        certname: name("master1.puppet.vm"),
        tree: Ok(tree.clone()),
        seen: at(0),
    };
    let accept = Acceptances::of([TARGET_IS_SOURCE]);
    let error = plan(&export(tree), target, &policy().accept(accept)).unwrap_err();
    assert_eq!(error.rule(), Some(TARGET_IS_SOURCE));
}

#[test]
fn an_unmapped_source_is_refused_unless_accepted() {
    let tree = || Tree::from_json(MASTER1).unwrap();
    let error = plan(&export(tree()), target(tree()), &ImportPolicy::default()).unwrap_err();
    assert_eq!(error.rule(), Some(SOURCE_NOT_MAPPED));
    let accepting = ImportPolicy::default().accept(Acceptances::of([SOURCE_NOT_MAPPED]));
    let plan = plan(&export(tree()), target(tree()), &accepting).unwrap();
    assert_eq!(plan.accepted().len(), 1);
    assert!(!plan.needs_import());
}

#[test]
fn groups_that_only_the_targets_product_brings_are_not_deleted_unless_accepted() {
    let mut held = vec![group(0, 0, "All Nodes"), group(9, 0, "PE Patch Management")];
    held.push(group(10, 0, "Of the site"));
    let held = Tree::from_value(serde_json::Value::Array(held)).unwrap();
    let wanted = Tree::from_json(MASTER1).unwrap();
    let error = plan(&export(wanted.clone()), target(held.clone()), &policy()).unwrap_err();
    assert_eq!(error.rule(), Some(TARGET_STOCK_GROUP));
    assert!(error.to_string().contains("PE Patch Management"), "{error}");
    let accepting = policy().accept(Acceptances::of([TARGET_STOCK_GROUP]));
    let plan = plan(&export(wanted), target(held), &accepting).unwrap();
    assert_eq!((plan.accepted().len(), plan.diff().removed.len()), (1, 2));
}

#[test]
fn a_plan_with_the_targets_ids_says_which_and_what_stays() {
    let mut groups = vec![group(0, 0, "All Nodes"), group(9, 0, "PE Infrastructure")];
    groups[1]["rule"] = json!(["=", "name", "master2.puppet.vm"]);
    let held = Tree::from_value(serde_json::Value::Array(groups)).unwrap();
    let wanted = tree_with(json!({"rule": ["=", "name", "master1.puppet.vm"]}));
    let matching = policy().ids(IdPolicy::MatchStockGroups);
    let matched = plan(&export(wanted.clone()), target(held.clone()), &matching).unwrap();
    insta::assert_snapshot!(matched, @r"
    classification of master1.puppet.vm as of 2023-11-14T22:13:20Z, for master2.puppet.vm: nothing to do, it is there already
    1 values rewritten for master2.puppet.vm
    1 groups have the ids of master2.puppet.vm
    ");
    let keeping = policy().ids(IdPolicy::KeepTargetInfrastructure);
    let kept = plan(&export(wanted.clone()), target(held), &keeping).unwrap();
    insta::assert_snapshot!(kept, @r"
    classification of master1.puppet.vm as of 2023-11-14T22:13:20Z, for master2.puppet.vm: nothing to do, it is there already
    1 values rewritten for master2.puppet.vm
    1 groups have the ids of master2.puppet.vm
    master2.puppet.vm keeps its own: PE Infrastructure
    ");
    let broken = Target {
        tree: Tree::from_value(json!([])),
        ..target(wanted.clone())
    };
    let error = plan(&export(wanted), broken, &keeping).unwrap_err();
    assert_eq!(error.rule(), Some(TARGET_BROKEN));
}

#[test]
fn a_rollback_takes_the_masters_own_copy_only() {
    let (old, new) = (tree_with(json!({})), tree_with(json!({"description": "x"})));
    let copy = Envelope::new(name("master2.puppet.vm"), at(0), old.clone());
    let plan = plan_rollback(&copy, target(new.clone()), Acceptances::none()).unwrap();
    assert!(plan.needs_import());
    assert_eq!(*plan.wanted(), old);
    let error = plan_rollback(&export(old), target(new), Acceptances::none()).unwrap_err();
    assert_eq!(error.rule(), Some(ROLLBACK_FOREIGN));
}
