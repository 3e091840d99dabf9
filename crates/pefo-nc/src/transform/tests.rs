use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::canonical;
use crate::testing::{self, MASTER1, MASTER2, tree_with};

fn name(text: &str) -> Certname {
    Certname::new(text).unwrap()
}

fn a_to_b() -> CertnameMap {
    CertnameMap::one(name("mastera.example.com"), name("masterb.example.com"))
}

fn done(keys: Value, map: &CertnameMap, options: &TransformOptions) -> (Value, Vec<String>) {
    let transformed = transform(&tree_with(keys), map, options);
    let group = Value::Object(transformed.tree.groups()[1].contents().into_object());
    let residuals = transformed
        .residuals
        .iter()
        .map(|r| format!("{} {} {:?}", r.path, r.value, r.mention))
        .collect();
    (group, residuals)
}

#[test]
fn a_captured_tree_becomes_exactly_the_other_masters() {
    let map = CertnameMap::one(name("master1.puppet.vm"), name("master2.puppet.vm"));
    let transformed = transform(
        &Tree::from_json(MASTER1).unwrap(),
        &map,
        &TransformOptions::default(),
    );
    let expected: Value = serde_json::from_slice(MASTER2).unwrap();
    assert_eq!(transformed.tree.to_value(), expected);
    assert_eq!(transformed.rewrites.len(), 13);
    assert_eq!(transformed.residuals, []);
}

#[test]
fn pins_are_rewritten_at_any_depth_and_a_bare_root_rule_too() {
    let map = a_to_b();
    let options = TransformOptions::default();
    for (rule, expected) in [
        (
            json!(["=", "name", "mastera.example.com"]),
            json!(["=", "name", "masterb.example.com"]),
        ),
        (
            json!(["=", "name", "MasterA.Example.COM"]),
            json!(["=", "name", "masterb.example.com"]),
        ),
        (
            json!([
                "and",
                [
                    "not",
                    [
                        "or",
                        ["=", ["trusted", "certname"], "mastera.example.com"],
                        ["~", "name", "x"]
                    ]
                ]
            ]),
            json!([
                "and",
                [
                    "not",
                    [
                        "or",
                        ["=", ["trusted", "certname"], "masterb.example.com"],
                        ["~", "name", "x"]
                    ]
                ]
            ]),
        ),
    ] {
        let (group, residuals) = done(json!({"rule": rule}), &map, &options);
        assert_eq!(group["rule"], expected);
        assert_eq!(residuals, [""; 0]);
    }
}

#[test]
fn near_misses_are_left_and_mentions_are_reported() {
    let rule = json!([
        "or",
        ["=", "name", "xmastera.example.com"],
        ["=", "name", "mastera.example.com.lab"],
        ["=", "name", "mastera-example.com"],
        ["=", "name", "mastera.example.com:8140"],
        ["=", "name", "compiler1.example.com"],
        ["~", "name", "^mastera\\.example\\.com$"],
        ["~", "name", "mastera.*"],
        ["=", ["fact", "fqdn"], "mastera.example.com"],
        ["=", ["fact", "nodes", 0, "mastera.example.com"], "up"],
        [
            "=",
            ["trusted", "extensions", "pp_role"],
            "see mastera.example.com."
        ]
    ]);
    let (group, residuals) = done(
        json!({"rule": rule}),
        &a_to_b(),
        &TransformOptions::default(),
    );
    assert_eq!(group["rule"], rule);
    insta::assert_snapshot!(residuals.join("\n"), @r"
    /rule/1/2 xmastera.example.com LongerName
    /rule/2/2 mastera.example.com.lab LongerName
    /rule/4/2 mastera.example.com:8140 UnlistedPlace
    /rule/6/2 ^mastera\.example\.com$ Regex
    /rule/8/2 mastera.example.com UnlistedPlace
    /rule/9/1/3 mastera.example.com UnlistedPlace
    /rule/10/2 see mastera.example.com. InsideText
    ");
}

#[test]
fn the_products_own_parameters_keep_port_scheme_and_path() {
    let classes = |host: &str| {
        json!({
            "puppet_enterprise": {"puppet_master_host": host, "mcollective_middleware_hosts": [host, "broker.example.com"],
                "database_port": 5432, "use_application_services": true, "database_host": "db.example.com"},
            "puppet_enterprise::profile::agent": {"pcp_broker_list": [format!("{host}:8142"), "compiler1.example.com:8142"],
                "server_list": [format!("{host}:8140")], "primary_uris": [format!("https://{host}")],
                "master_uris": [format!("https://{host}:8140/a/b?c=1")]},
            "puppet_enterprise::profile::master": {"puppetdb_host": [host]},
            "puppet_enterprise::profile::puppetdb": {"database_host": host},
            "puppet_enterprise::profile::console": {"certname": host}
        })
    };
    let before = json!({"classes": classes("mastera.example.com"), "config_data": classes("MASTERA.example.com")});
    let (group, residuals) = done(before, &a_to_b(), &TransformOptions::default());
    assert_eq!(group["classes"], classes("masterb.example.com"));
    assert_eq!(group["config_data"], classes("masterb.example.com"));
    assert_eq!(residuals, [""; 0]);
}

#[test]
fn values_that_are_no_host_in_a_known_shape_are_left_even_where_hosts_belong() {
    for value in [
        "mastera.example.com:",
        "mastera.example.com:port",
        "mastera.example.com:123456",
        "mastera.example.com/etc",
        "user@mastera.example.com",
        "https://user@mastera.example.com/",
        "1http://mastera.example.com",
        "https://mastera.example.com?x",
        "mastera.example.com,b",
        "mastera.example.com ",
        "https://mastera.example.com:x/",
    ] {
        let classes = json!({"puppet_enterprise": {"puppetdb_host": value}});
        let (group, residuals) = done(
            json!({"classes": classes}),
            &a_to_b(),
            &TransformOptions::default(),
        );
        assert_eq!(group["classes"], classes, "{value}");
        assert_eq!(residuals.len(), 1, "{value}");
    }
}

#[test]
fn other_places_are_rewritten_only_where_they_are_named() {
    let keys = json!({
        "variables": {"ntp": {"servers": ["mastera.example.com", 9_007_199_254_740_993_u64]}, "m/x": "mastera.example.com"},
        "classes": {"site": {"url": "https://mastera.example.com/x", "mastera.example.com": {}}},
        "description": "pins mastera.example.com", "name": "Of mastera.example.com"
    });
    let (group, residuals) = done(keys.clone(), &a_to_b(), &TransformOptions::default());
    for key in ["variables", "classes", "description", "name"] {
        assert_eq!(group[key], keys[key]);
    }
    insta::assert_snapshot!(residuals.join("\n"), @r"
    /name Of mastera.example.com InsideText
    /variables/ntp/servers/0 mastera.example.com UnlistedPlace
    /variables/m~1x mastera.example.com UnlistedPlace
    /classes/site/url https://mastera.example.com/x UnlistedPlace
    /classes/site/mastera.example.com mastera.example.com ObjectKey
    /description pins mastera.example.com InsideText
    ");

    let options = ["/variables/*", "/classes/site/url"]
        .iter()
        .fold(TransformOptions::default(), |options, path| {
            options.rewrite(path.parse().unwrap())
        });
    let (group, residuals) = done(keys, &a_to_b(), &options);
    assert_eq!(
        group["variables"]["ntp"]["servers"],
        json!(["masterb.example.com", 9_007_199_254_740_993_u64])
    );
    assert_eq!(group["variables"]["m/x"], "masterb.example.com");
    assert_eq!(
        group["classes"]["site"]["url"],
        "https://masterb.example.com/x"
    );
    assert_eq!(residuals.len(), 3, "{residuals:?}");
}

#[test]
fn a_residuals_path_can_be_named_as_it_is_and_other_places_cannot() {
    for path in [
        "/variables/a",
        "/variables/m~1x/0",
        "/classes/*/url",
        "/config_data/a::b/c",
    ] {
        assert_eq!(path.parse::<RewritePath>().unwrap().to_string(), path);
    }
    for path in [
        "",
        "/",
        "variables/a",
        "/variables",
        "/variables/",
        "/rule/1",
        "/*/x",
        "/classes/a",
        "/name/x",
        "/id",
    ] {
        let error = path.parse::<RewritePath>().unwrap_err();
        assert_eq!(error.kind(), pefo_core::ErrorKind::Config, "{path}");
    }
}

#[test]
fn what_the_map_makes_equal_is_kept_once_and_what_came_twice_stays() {
    let keys = json!({
        "rule": ["or", ["=", "name", "masterb.example.com"], ["=", "name", "mastera.example.com"],
            ["=", "name", "x.example.com"], ["=", "name", "x.example.com"]],
        "classes": {"puppet_enterprise::profile::agent": {
            "server_list": ["mastera.example.com:8140", "masterb.example.com:8140", "c:1", "c:1"]}}
    });
    let transformed = transform(&tree_with(keys), &a_to_b(), &TransformOptions::default());
    let group = transformed.tree.groups()[1].contents().into_object();
    assert_eq!(
        group["rule"],
        json!([
            "or",
            ["=", "name", "masterb.example.com"],
            ["=", "name", "x.example.com"],
            ["=", "name", "x.example.com"]
        ])
    );
    assert_eq!(
        group["classes"]["puppet_enterprise::profile::agent"]["server_list"],
        json!(["masterb.example.com:8140", "c:1", "c:1"])
    );
    let merged: Vec<_> = transformed
        .rewrites
        .iter()
        .map(|rewrite| (rewrite.path.as_str(), rewrite.merged))
        .collect();
    assert!(merged.contains(&("/rule/2/2", true)), "{merged:?}");
}

#[test]
fn a_swap_is_applied_at_once() {
    let swap = CertnameMap::new([
        (name("mastera.example.com"), name("masterb.example.com")),
        (name("masterb.example.com"), name("mastera.example.com")),
    ])
    .unwrap();
    let rule = json!([
        "or",
        ["=", "name", "mastera.example.com"],
        ["=", "name", "masterb.example.com"]
    ]);
    let (group, _) = done(json!({"rule": rule}), &swap, &TransformOptions::default());
    assert_eq!(
        group["rule"],
        json!([
            "or",
            ["=", "name", "masterb.example.com"],
            ["=", "name", "mastera.example.com"]
        ])
    );
}

#[test]
fn a_host_mapped_twice_is_a_mistake() {
    let pairs = [(name("a"), name("b")), (name("a"), name("c"))];
    assert_eq!(
        CertnameMap::new(pairs).unwrap_err().kind(),
        pefo_core::ErrorKind::Config
    );
    let merging = CertnameMap::new([(name("a"), name("c")), (name("b"), name("c"))]).unwrap();
    assert_eq!(merging.inverse(), None);
}

fn swap_and_more() -> CertnameMap {
    CertnameMap::new([
        (name("mastera.example.com"), name("masterb.example.com")),
        (name("masterb.example.com"), name("masterc.example.com")),
        (name("masterc.example.com"), name("mastera.example.com")),
    ])
    .unwrap()
}

proptest! {
    #[test]
    fn the_way_there_and_back_is_the_identity(tree in testing::tree()) {
        // A permutation of hosts makes no two values equal and meets no host that was there before.
        let there = swap_and_more();
        let back = there.inverse().unwrap();
        let options = TransformOptions::default().rewrite("/variables/*".parse().unwrap());
        let moved = transform(&tree, &there, &options);
        let home = transform(&moved.tree, &back, &options);
        prop_assert_eq!(home.tree.to_json(), tree.to_json());
        prop_assert_eq!(home.rewrites.len(), moved.rewrites.len());
        prop_assert_eq!(home.residuals.len(), moved.residuals.len());
    }

    #[test]
    fn without_a_mention_there_is_no_change(tree in testing::tree()) {
        let map = CertnameMap::one(name("elsewhere.example.net"), name("masterb.example.com"));
        let transformed = transform(&tree, &map, &TransformOptions::default());
        prop_assert_eq!(transformed.tree.to_json(), tree.to_json());
        prop_assert!(transformed.rewrites.is_empty() && transformed.residuals.is_empty());
    }

    #[test]
    fn ids_names_and_keys_are_never_touched(tree in testing::tree()) {
        let transformed = transform(&tree, &a_to_b(), &TransformOptions::default());
        prop_assert_eq!(transformed.rewrites.is_empty(), canonical::equal(&tree, &transformed.tree));
        // It is still one whole tree of valid groups, by the parser's own judgement.
        prop_assert_eq!(Tree::from_value(transformed.tree.to_value()), Ok(transformed.tree.clone()));
        for (before, after) in tree.groups().iter().zip(transformed.tree.groups()) {
            prop_assert_eq!((before.id(), before.parent(), before.name()), (after.id(), after.parent(), after.name()));
            let keys = |group: &crate::model::Group| group.contents().object().keys().cloned().collect::<Vec<_>>();
            prop_assert_eq!(keys(before), keys(after));
        }
    }
}
