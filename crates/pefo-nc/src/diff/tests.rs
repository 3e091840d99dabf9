use super::*;
use crate::canonical;
use crate::testing::{self, group, tree_with};
use proptest::prelude::*;
use serde_json::json;

#[test]
fn a_diff_reads_well() {
    let old = Tree::from_value(json!([
        group(0, 0, "All Nodes"),
        group(1, 0, "Gone"),
        {"name": "Web", "id": testing::id(2).to_string(), "parent": testing::id(0).to_string(), "environment": "production",
         "rule": ["=", "name", "a"], "classes": {"ntp": {"servers": ["a"]}, "apache": {"keepalive": 5, "off": true}},
         "variables": {"v": 1}, "description": "x"}
    ]));
    let new = Tree::from_value(json!([
        group(3, 2, "New"),
        {"name": "Web servers", "id": testing::id(2).to_string(), "parent": testing::id(0).to_string(), "environment": "production",
         "classes": {"apache": {"keepalive": 6, "log": null}, "ssl": {}}, "config_data": {"c": {"k": "z".repeat(200)}},
         "variables": {"v": 1.0}, "serial_number": 9},
        group(0, 0, "All Nodes")
    ]));
    let diff = TreeDiff::between(&old.unwrap(), &new.unwrap());
    insta::assert_snapshot!(diff, @r#"
    1 added, 1 removed, 1 changed
    + group "New" in production (00000000-0000-4000-8000-000000000003)
    - group "Gone" in production (00000000-0000-4000-8000-000000000001)
    ~ group "Web" in production (00000000-0000-4000-8000-000000000002)
        description: removed "x"
        name: "Web" → "Web servers"
        rule: removed ["=","name","a"]
        class ntp: removed {"servers":["a"]}
        class ssl: added {}
        class apache, keepalive: 5 → 6
        class apache, log: added null
        class apache, off: removed true
        config data c: added {"k":"zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz…
        variable v: 1 → 1.0
    "#);
    insta::assert_snapshot!(serde_json::to_string(&diff.changed[0].fields[1]).unwrap(), @r#"{"field":{"key":"name"},"before":"Web","after":"Web servers"}"#);
}

#[test]
fn a_class_without_parameters_is_told_from_no_class() {
    let with = tree_with(json!({"classes": {"pe_repo": {}}}));
    let without = tree_with(json!({"classes": {}}));
    let diff = TreeDiff::between(&with, &without);
    assert_eq!(
        diff.changed[0].fields[0].field,
        Field::Class("pe_repo".into())
    );
    assert!(canonical::equal(&diff.apply(&with).unwrap(), &without));
}

#[test]
fn a_null_parameter_is_told_from_none() {
    let null = tree_with(json!({"classes": {"a": {"p": null}}}));
    let none = tree_with(json!({"classes": {"a": {}}}));
    let diff = TreeDiff::between(&none, &null);
    assert_eq!(diff.changed[0].fields[0].after, Some(Value::Null));
    assert!(canonical::equal(&diff.apply(&none).unwrap(), &null));
}

#[test]
fn a_diff_of_another_tree_is_refused() {
    let diff = TreeDiff::between(
        &tree_with(json!({})),
        &tree_with(json!({"rule": ["=", "name", "x"]})),
    );
    let other = Tree::from_value(json!([group(0, 0, "All Nodes")])).unwrap();
    assert!(diff.apply(&other).is_err());
}

proptest! {
    #[test]
    fn equal_trees_in_any_order_do_not_differ(tree in testing::tree(), seed: u64) {
        prop_assert!(TreeDiff::between(&tree, &testing::disguised(&tree, seed)).is_empty());
    }

    #[test]
    fn applying_a_diff_reaches_the_other_tree(old in testing::tree(), new in testing::tree()) {
        let diff = TreeDiff::between(&old, &new);
        prop_assert_eq!(diff.is_empty(), canonical::equal(&old, &new));
        let reached = diff.apply(&old).unwrap();
        prop_assert!(canonical::equal(&reached, &new), "{}", TreeDiff::between(&reached, &new));
    }
}
