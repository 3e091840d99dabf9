//! What is put in is what is read back, for groups of every kind the API documents.

use std::future::Future;

use pefo_testkit::classifier::{ClassifierDouble, root_group};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use serde_json::{Map, Number, Value, json};

use crate::plain::{Plain, ROOT, WEB, all_as_sent, as_sent, holding};

const CASES: u32 = 48;
const CLASSES: [&str; 3] = ["apache", "ntp", "profile::base"];
const PARAMETERS: [&str; 3] = ["port", "servers", "flag"];

/// Any JSON, weighted to what a careless server would change: exact numbers, empty and nested things.
fn json_value() -> impl Strategy<Value = Value> {
    let number = |text: &str| Value::Number(text.parse::<Number>().unwrap());
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        Just(number("18446744073709551616000000001")),
        Just(number("0.10")),
        Just(number("1E5")),
        ".{0,8}".prop_map(Value::from),
        Just(json!("")),
        Just(json!({})),
        Just(json!([])),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::vec(("[a-c]{0,2}", inner), 0..3).prop_map(object),
        ]
    })
}

fn object<K: Into<String>>(entries: Vec<(K, Value)>) -> Value {
    Value::Object(
        entries
            .into_iter()
            .map(|(key, value)| (key.into(), value))
            .collect(),
    )
}

fn rule() -> impl Strategy<Value = Value> {
    let operator = prop::sample::select(vec!["=", "~", ">", ">=", "<", "<=", "<:"]);
    let path = prop_oneof![
        Just(json!("name")),
        Just(json!(["trusted", "certname"])),
        Just(json!(["fact", "disks", 0, "mount"])),
        "[a-z]{1,5}".prop_map(|field| json!(["fact", field])),
    ];
    let operation =
        (operator, path, ".{0,6}").prop_map(|(op, path, value)| json!([op, path, value]));
    operation.prop_recursive(4, 16, 3, |inner| {
        prop_oneof![
            inner
                .clone()
                .prop_map(|condition| json!(["not", condition])),
            (prop::bool::ANY, prop::collection::vec(inner, 1..4)).prop_map(|(all, conditions)| {
                let mut rule = vec![json!(if all { "and" } else { "or" })];
                rule.extend(conditions);
                Value::Array(rule)
            }),
        ]
    })
}

fn class_map() -> impl Strategy<Value = Value> {
    let set = prop::collection::vec((prop::sample::select(&PARAMETERS[..]), json_value()), 0..3);
    prop::collection::vec(
        (prop::sample::select(&CLASSES[..]), set.prop_map(object)),
        0..3,
    )
    .prop_map(object)
}

/// Configuration data without classes that say nothing: those are not stored when a group is put.
fn config_data() -> impl Strategy<Value = Value> {
    class_map().prop_map(|mut data| {
        let classes = data.as_object_mut().unwrap();
        classes.retain(|_, set| set.as_object().is_some_and(|set| !set.is_empty()));
        data
    })
}

/// Everything of a group but its id, parent, name and environment.
fn content() -> impl Strategy<Value = Map<String, Value>> {
    let variables = prop::collection::vec(("[a-c]{0,2}", json_value()), 0..4).prop_map(object);
    let always = (any::<bool>(), variables, class_map());
    let sometimes = (
        prop::option::of(rule()),
        prop::option::of(".{1,12}"),
        prop::option::of(config_data()),
        prop::option::of(json_value()),
    );
    (always, sometimes).prop_map(
        |((trumps, variables, classes), (rule, text, data, unknown))| {
            let mut group = Map::new();
            group.insert("environment_trumps".to_owned(), json!(trumps));
            group.insert("variables".to_owned(), variables);
            group.insert("classes".to_owned(), classes);
            let optional = [
                ("rule", rule),
                ("description", text.map(Value::from)),
                ("config_data", data),
                ("x_unknown", unknown),
            ];
            for (key, value) in optional {
                value
                    .into_iter()
                    .for_each(|value| drop(group.insert(key.to_owned(), value)));
            }
            group
        },
    )
}

fn named(mut content: Map<String, Value>, id: &str, parent: &str, name: &str) -> Value {
    for (key, value) in [
        ("id", id),
        ("parent", parent),
        ("name", name),
        ("environment", "production"),
    ] {
        content.insert(key.to_owned(), json!(value));
    }
    Value::Object(content)
}

fn group() -> impl Strategy<Value = Value> {
    (content(), "\\PC{1,12}").prop_map(|(content, name)| named(content, WEB, ROOT, &name))
}

/// A whole tree, children anywhere before or after their parents.
fn tree() -> impl Strategy<Value = Vec<Value>> {
    let one = (content(), any::<prop::sample::Index>());
    let groups = prop::collection::vec(one, 0..8).prop_map(|groups| {
        let id = |number: usize| match number {
            0 => ROOT.to_owned(),
            _ => format!("{number:08x}-0000-4000-8000-000000000000"),
        };
        let mut tree = vec![root_group()];
        for (at, (content, parent)) in groups.into_iter().enumerate() {
            let (own, parent) = (id(at + 1), id(parent.index(at + 1)));
            tree.push(named(content, &own, &parent, &format!("group {at}")));
        }
        tree
    });
    groups.prop_shuffle()
}

/// A double that knows all classes and parameters used here.
fn double() -> ClassifierDouble {
    let double = holding(vec![]);
    let parameters = object(PARAMETERS.iter().map(|name| (*name, Value::Null)).collect());
    let class = |name| json!({"name": name, "environment": "production", "parameters": parameters});
    double.deploy_classes(&CLASSES.map(class));
    double
}

/// Runs a property against one double, which is asked as a client asks it.
fn holds<S: Strategy, F: Future<Output = Result<(), TestCaseError>>>(
    strategy: &S,
    property: impl Fn(Plain, S::Value) -> F,
) {
    let double = double();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    assert_eq!(
        runtime
            .block_on(Plain::of(&double).call("/update-classes"))
            .status,
        201
    );
    let config = Config {
        cases: CASES,
        failure_persistence: None,
        ..Config::default()
    };
    let property = |value| {
        double.set_groups(vec![root_group()]);
        runtime.block_on(property(Plain::of(&double), value))
    };
    TestRunner::new(config)
        .run(strategy, property)
        .unwrap_or_else(|error| panic!("{error}"));
}

fn web() -> String {
    format!("/groups/{WEB}")
}

#[test]
fn a_group_that_was_put_is_the_group_that_is_got() {
    holds(&group(), async |plain: Plain, group: Value| {
        let put = plain.put(&web(), &group).await;
        prop_assert_eq!(put.status, 201, "{}", put.text);
        prop_assert_eq!(as_sent(plain.get(&web()).await.json()), group.clone());
        let listed = plain.get("/groups").await.json();
        prop_assert_eq!(as_sent(listed[1].clone()), group.clone());
        // What was got can be put again, and is no edit.
        let got = plain.get(&web()).await.json();
        let again = plain.put(&web(), &got).await;
        prop_assert_eq!((again.status, again.json()), (200, got));
        Ok(())
    });
}

#[test]
fn a_tree_that_was_imported_is_the_tree_that_is_got_and_imports_again() {
    holds(&tree(), async |plain: Plain, tree: Vec<Value>| {
        let imported = plain.post("/import-hierarchy", &json!(tree)).await;
        prop_assert_eq!(imported.status, 204, "{}", imported.text);
        let got = plain.get("/groups").await.json();
        prop_assert_eq!(all_as_sent(got.clone()), tree.clone());
        prop_assert_eq!(plain.post("/import-hierarchy", &got).await.status, 204);
        prop_assert_eq!(all_as_sent(plain.get("/groups").await.json()), tree);
        Ok(())
    });
}

#[test]
fn pinning_and_unpinning_a_node_leaves_the_meaning_of_a_rule() {
    // "or" of one condition is that condition.
    fn meaning(mut rule: Value) -> Value {
        while rule[0] == "or" && rule.as_array().is_some_and(|items| items.len() == 2) {
            rule = rule[1].take();
        }
        rule
    }
    holds(&group(), async |plain: Plain, group: Value| {
        plain.put(&web(), &group).await;
        let node = json!({"nodes": ["never.used.in-a-rule.example"]});
        prop_assert_eq!(
            plain.post(&format!("{}/pin", web()), &node).await.status,
            204
        );
        let pinned = plain.get(&web()).await.json();
        prop_assert!(pinned["rule"].to_string().contains("never.used"));
        prop_assert_eq!(
            plain.post(&format!("{}/unpin", web()), &node).await.status,
            204
        );
        let mut back = as_sent(plain.get(&web()).await.json());
        let before = group.get("rule").cloned().unwrap_or_default();
        let after = back
            .as_object_mut()
            .unwrap()
            .shift_remove("rule")
            .unwrap_or_default();
        prop_assert_eq!(meaning(after), meaning(before));
        let mut rest = group;
        rest.as_object_mut().unwrap().shift_remove("rule");
        prop_assert_eq!(back, rest);
        Ok(())
    });
}

#[test]
fn null_in_a_delta_removes_and_nothing_else_changes() {
    holds(&group(), async |plain: Plain, group: Value| {
        plain.put(&web(), &group).await;
        let before = as_sent(plain.get(&web()).await.json());
        let (mut delta, mut expected) =
            (json!({"rule": null, "description": null}), before.clone());
        for key in ["rule", "description"] {
            expected.as_object_mut().unwrap().shift_remove(key);
        }
        // The first class, the first variable, and the first parameter of the last class.
        let first = |of: &Value| of.as_object().and_then(|map| map.keys().next().cloned());
        if let Some(variable) = first(&before["variables"]) {
            delta["variables"][&variable] = Value::Null;
            expected["variables"]
                .as_object_mut()
                .unwrap()
                .shift_remove(&variable);
        }
        let classes: Vec<String> = before["classes"]
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect();
        if let [class, .., last] = classes.as_slice() {
            delta["classes"][class] = Value::Null;
            expected["classes"]
                .as_object_mut()
                .unwrap()
                .shift_remove(class);
            if let Some(parameter) = first(&before["classes"][last]) {
                delta["classes"][last][&parameter] = Value::Null;
                expected["classes"][last]
                    .as_object_mut()
                    .unwrap()
                    .shift_remove(&parameter);
            }
        }
        let changed = plain.post(&web(), &delta).await;
        prop_assert_eq!(changed.status, 200, "{}", changed.text);
        prop_assert_eq!(as_sent(changed.json()), expected.clone());
        prop_assert_eq!(as_sent(plain.get(&web()).await.json()), expected);
        Ok(())
    });
}
