//! Trees for this crate's own tests: captured ones, small ones and generated ones.

use proptest::prelude::*;
use serde_json::{Map, Number, Value, json};

use crate::model::{Group, GroupId, Tree};

/// A captured answer to `GET /v1/groups`; see `tests/fixtures/README.md`.
pub(crate) const MASTER1: &[u8] =
    include_bytes!("../tests/fixtures/ncio_groups_default_master1.json");
/// The same tree as it should be on the other master.
pub(crate) const MASTER2: &[u8] =
    include_bytes!("../tests/fixtures/ncio_groups_transformed_master2.json");

/// The id of the nth group; 0 is the root.
pub(crate) fn id(number: u32) -> GroupId {
    GroupId::from_u128(0x0000_0000_0000_4000_8000_0000_0000_0000 + u128::from(number))
}

/// A plain group.
pub(crate) fn group(number: u32, parent: u32, name: &str) -> Value {
    json!({
        "name": name, "id": id(number).to_string(), "parent": id(parent).to_string(),
        "environment": "production", "environment_trumps": false, "variables": {}, "classes": {}
    })
}

/// A root and one group with these keys added.
pub(crate) fn tree_with(keys: Value) -> Tree {
    let mut child = group(1, 0, "PE Infrastructure");
    for (key, value) in keys.as_object().unwrap() {
        child[key] = value.clone();
    }
    Tree::from_value(json!([group(0, 0, "All Nodes"), child])).unwrap()
}

/// Strings around host names, and others.
pub(crate) fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => prop::sample::select(vec![
            "mastera.example.com", "masterb.example.com", "masterc.example.com", "xmastera.example.com",
            "mastera.example.com.lab", "mastera-example.com", "mastera.example.com:8142", "https://mastera.example.com",
            "https://masterb.example.com:8140/packages/x?y=1", "mastera.example.com:", "mastera.example.com:port",
            "mastera\\.example\\.com", "see mastera.example.com, too", "${trusted['certname']}", "",
        ]).prop_map(str::to_owned),
        1 => "\\PC{0,12}",
    ]
}

fn number() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<i64>().prop_map(|n| n.to_string()),
        "[1-9][0-9]{18,40}",
        "-?[0-9]\\.[0-9]{1,25}",
        "[1-9]\\.5e\\+[1-9]"
    ]
    .prop_map(|text| Value::Number(text.parse::<Number>().unwrap()))
}

/// Any JSON value, three levels deep.
pub(crate) fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        number(),
        text().prop_map(Value::String)
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::vec((key(), inner), 0..4)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => prop::sample::select(vec!["a", "b", "puppetdb_host", "a/b~c", "ä", "server_list"]).prop_map(str::to_owned),
        1 => "\\PC{1,6}",
    ]
}

/// A rule of up to four levels.
pub(crate) fn rule() -> impl Strategy<Value = Value> {
    let path = prop_oneof![
        Just(json!("name")),
        Just(json!(["trusted", "certname"])),
        Just(json!(["fact", "disks", 0, "size"])),
        Just(json!(["trusted", "extensions", "pp_role"])),
    ];
    let operator = prop::sample::select(vec!["=", "=", "=", "~", ">", ">=", "<", "<=", "<:"]);
    let comparison =
        (operator, path, text()).prop_map(|(operator, path, value)| json!([operator, path, value]));
    let leaf = prop_oneof![8 => comparison, 1 => value().prop_map(|value| json!(["=~=", value]))];
    leaf.prop_recursive(4, 24, 5, |inner| {
        prop_oneof![
            (
                prop::sample::select(vec!["and", "or"]),
                prop::collection::vec(inner.clone(), 1..5)
            )
                .prop_map(|(operator, rules)| {
                    Value::Array(std::iter::once(operator.into()).chain(rules).collect())
                }),
            inner.prop_map(|rule| json!(["not", rule])),
        ]
    })
}

fn class_map() -> impl Strategy<Value = Value> {
    let class = prop::sample::select(vec![
        "puppet_enterprise",
        "puppet_enterprise::profile::agent",
        "puppet_enterprise::profile::master",
        "apache",
        "ntp",
    ]);
    let parameter = prop_oneof![
        prop::sample::select(vec![
            "puppet_master_host",
            "puppetdb_host",
            "master_uris",
            "pcp_broker_list",
            "x",
            "y"
        ])
        .prop_map(str::to_owned),
        key(),
    ];
    let parameters = prop::collection::vec((parameter, value()), 0..4);
    prop::collection::vec((class, parameters), 0..4).prop_map(|classes| {
        let object = |(name, parameters): (&str, Vec<(String, Value)>)| {
            (
                name.to_owned(),
                Value::Object(parameters.into_iter().collect()),
            )
        };
        Value::Object(classes.into_iter().map(object).collect())
    })
}

fn extras() -> impl Strategy<Value = Map<String, Value>> {
    (
        prop::option::of(prop_oneof![4 => rule(), 1 => Just(Value::Null)]),
        class_map(),
        prop::option::of(class_map()),
        prop::option::of(prop::collection::vec((key(), value()), 0..3)),
        prop::option::of(text()),
        prop::option::of(any::<u32>()),
        prop::option::of(value()),
    )
        .prop_map(
            |(rule, classes, config_data, variables, description, serial, unknown)| {
                let mut object = Map::new();
                let variables = variables.map(|pairs| Value::Object(pairs.into_iter().collect()));
                for (key, value) in [
                    ("rule", rule),
                    ("classes", Some(classes)),
                    ("config_data", config_data),
                    ("variables", variables),
                    ("description", description.map(Value::String)),
                    ("serial_number", serial.map(Value::from)),
                    (
                        "last_edited",
                        serial.map(|n| Value::from(format!("2020-01-01T00:00:{:02}Z", n % 60))),
                    ),
                    ("colour", unknown),
                ] {
                    if let Some(value) = value {
                        object.insert(key.to_owned(), value);
                    }
                }
                object
            },
        )
}

/// A whole tree of 1 to 10 groups, children often before parents.
pub(crate) fn tree() -> impl Strategy<Value = Tree> {
    let groups = prop::collection::vec((extras(), any::<prop::sample::Index>(), 0..3_u8), 0..9);
    (groups, any::<u64>()).prop_map(|(children, seed)| {
        let mut values = vec![group(0, 0, "All Nodes")];
        for (at, (extras, parent, environment)) in children.into_iter().enumerate() {
            let number = u32::try_from(at).unwrap() + 1;
            let parent = u32::try_from(parent.index(at + 1)).unwrap();
            // Names repeat, but never within an environment.
            let mut value = group(number, parent, &format!("group {}", number / 3));
            value["environment"] = format!("env{}-{}", number % 3, environment).into();
            value.as_object_mut().unwrap().extend(extras);
            values.push(value);
        }
        shuffle(&mut values, seed);
        Tree::from_value(Value::Array(values)).unwrap()
    })
}

/// Another order of the same things, from a seed.
pub(crate) fn shuffle<T>(items: &mut [T], mut seed: u64) {
    for at in (1..items.len()).rev() {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        items.swap(at, usize::try_from(seed >> 33).unwrap() % (at + 1));
    }
}

/// The same groups in another order, with other keys order, serials and edit times.
pub(crate) fn disguised(tree: &Tree, seed: u64) -> Tree {
    let mut groups: Vec<Group> = tree.groups().to_vec();
    shuffle(&mut groups, seed);
    let disguise = |group: Group| {
        let mut keys: Vec<(String, Value)> = group.contents().into_object().into_iter().collect();
        shuffle(&mut keys, seed ^ 7);
        let mut object: Map<String, Value> = keys.into_iter().collect();
        object.insert("serial_number".to_owned(), json!(seed));
        object.insert("last_edited".to_owned(), json!("2026-01-01T00:00:00Z"));
        object.insert(
            "deleted".to_owned(),
            json!({"apache": {"puppetlabs.classifier/deleted": true}}),
        );
        for (key, nothing) in [
            ("rule", Value::Null),
            ("description", json!("")),
            ("variables", json!({})),
            ("config_data", json!({})),
        ] {
            object.entry(key).or_insert(nothing);
        }
        Group::from_object(&object).unwrap()
    };
    Tree::from_groups(groups.into_iter().map(disguise).collect()).unwrap()
}
