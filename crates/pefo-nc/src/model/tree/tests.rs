use super::*;
use crate::testing::{self, group};
use proptest::prelude::*;
use serde_json::json;

fn findings(value: Value) -> Vec<String> {
    match Tree::from_value(value) {
        Ok(_) => Vec::new(),
        Err(error) => error.findings().iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn a_captured_tree_is_whole_although_children_come_before_parents() {
    let tree = Tree::from_json(testing::MASTER1).unwrap();
    assert_eq!(tree.len(), 12);
    assert_eq!(
        tree.by_name("PE Master", "production")
            .unwrap()
            .contents()
            .classes()
            .count(),
        5
    );
}

#[test]
fn a_filtered_view_without_root_is_refused() {
    let bytes = include_bytes!("../../../tests/fixtures/gopeclient_groups_response.json");
    let error = Tree::from_json(bytes).unwrap_err();
    assert_eq!(error.rule(), Some("nc-tree-invalid"));
    insta::assert_snapshot!(error, @r#"the groups are not one whole tree: the root group (00000000-0000-4000-8000-000000000000) is missing; group "PE Infrastructure Agent" (799ab2fb-5ece-4628-ac47-ba61e70d5b54): its parent 5239b6da-8194-4f99-ab37-de6cbf665754 is missing; group "Production environment" (913e54b7-b09c-4543-9f74-daff5e51a49f): its parent d1fc626d-222a-4616-be89-cc67ef1f8b3a is missing [nc-tree-invalid]"#);
}

#[test]
fn a_dangling_parent_is_found_beside_a_good_root() {
    let bytes = include_bytes!("../../../tests/fixtures/scooter_groups_2.json");
    let found = findings(serde_json::from_slice(bytes).unwrap());
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].contains("aabb8071-df67-4340-aded-e4f598a3ca0b is missing"),
        "{found:?}"
    );
}

#[test]
fn everything_that_is_not_one_tree_is_named() {
    let root = || group(0, 0, "All Nodes");
    assert_eq!(
        findings(json!({"kind": "puppetlabs.rbac/user-unauthenticated"})),
        [
            "an array of groups was expected, not {\"kind\":\"puppetlabs.rbac/user-unauthenticated\"}"
        ]
    );
    assert_eq!(
        findings(json!([])),
        ["there are no groups, not even the root"]
    );
    assert_eq!(
        findings(json!([root(), 7])),
        ["element 1 is not a valid group: it is not an object"]
    );
    assert_eq!(
        findings(json!([root(), {"name": "x"}])),
        ["element 1 (\"x\") is not a valid group: \"environment\" is missing"]
    );
    let twice = findings(json!([root(), group(1, 0, "a"), group(1, 0, "b")]));
    assert!(
        twice[0].starts_with("groups \"a\" and \"b\" have the same id"),
        "{twice:?}"
    );
    let names = findings(json!([root(), group(1, 0, "a"), group(2, 0, "a")]));
    assert!(
        names[0].starts_with("two groups are named \"a\" in environment \"production\""),
        "{names:?}"
    );
    let second = findings(json!([root(), group(1, 1, "a")]));
    assert!(second[0].contains("is a second root"), "{second:?}");
    let cycle = findings(json!([
        root(),
        group(1, 2, "a"),
        group(2, 3, "b"),
        group(3, 1, "c"),
        group(4, 3, "d")
    ]));
    assert_eq!(cycle.len(), 1, "{cycle:?}");
    assert!(cycle[0].contains("is its own ancestor"), "{cycle:?}");
    let uprooted = findings(json!([group(0, 1, "All Nodes"), group(1, 0, "a")]));
    assert!(
        uprooted[0].contains("the root group's parent is"),
        "{uprooted:?}"
    );
}

#[test]
fn the_same_name_in_two_environments_is_no_duplicate() {
    let mut other = group(2, 0, "a");
    other["environment"] = "staging".into();
    assert!(findings(json!([group(0, 0, "All Nodes"), group(1, 0, "a"), other])).is_empty());
}

#[test]
fn rotten_json_is_invalid() {
    let whole = testing::MASTER1;
    let error = Tree::from_json(&whole[..whole.len() / 2]).unwrap_err();
    assert_eq!(error.kind(), pefo_core::ErrorKind::Invalid);
}

proptest! {
    #[test]
    fn a_generated_tree_is_whole_and_prints_back_byte_for_byte(tree in testing::tree()) {
        let text = tree.to_json();
        let again = Tree::from_json(&text).unwrap();
        prop_assert_eq!(&again, &tree);
        prop_assert_eq!(again.to_json(), text);
    }

    #[test]
    fn taking_a_parent_away_is_noticed(tree in testing::tree(), pick: prop::sample::Index) {
        let parents: Vec<GroupId> = tree.groups().iter().map(Group::parent).collect();
        let gone = parents[pick.index(parents.len())];
        let rest: Vec<Group> = tree.into_groups().into_iter().filter(|group| group.id() != gone).collect();
        prop_assert!(Tree::from_groups(rest).is_err());
    }

    #[test]
    fn arbitrary_json_never_panics(text in "\\PC{0,60}") {
        drop(Tree::from_json(text.as_bytes()));
    }
}
