//! What a group has from its ancestors: shown on request, and looked at before an edit is taken.

use serde_json::{Value, json};

use crate::plain::{INFRASTRUCTURE, Plain, WEB, as_sent, captured, holding};

const EDGE: &str = "1b500c43-5065-469b-91fc-37ed0e500e81";

fn path() -> String {
    format!("/groups/{WEB}")
}

/// Web, and below it one in another environment that sets some of the same.
fn family() -> Vec<Value> {
    let mut groups = captured();
    groups.push(
        json!({"name": "Web", "id": WEB, "parent": INFRASTRUCTURE, "environment": "production",
        "environment_trumps": true, "rule": ["=", "name", "web"], "description": "above",
        "classes": {"ntp": {"server": "a", "tries": 1}, "apache": {}},
        "config_data": {"ntp": {"panic": "0"}}, "variables": {"site": {"name": "a"}, "tier": 1}}),
    );
    groups.push(
        json!({"name": "Edge", "id": EDGE, "parent": WEB, "environment": "staging",
        "environment_trumps": false, "classes": {"ntp": {"server": "b"}},
        "variables": {"site": {"zone": "b"}}}),
    );
    groups
}

#[tokio::test]
async fn inherited_values_are_baked_in_where_they_are_asked_for() {
    let double = holding(family());
    let plain = Plain::of(&double);
    let own = plain.get("/groups").await.json();
    for no in ["inherited=0", "inherited=false"] {
        assert_eq!(plain.get(&format!("/groups?{no}")).await.json(), own);
    }
    for yes in ["inherited=true", "inherited=1", "inherited=", "inherited"] {
        let whole = plain.get(&format!("/groups?{yes}")).await.json();
        assert_eq!(whole[0], own[0], "the root inherits nothing");
        let edge = whole.as_array().unwrap().last().unwrap();
        let ntp = json!({"server": "b", "tries": 1});
        assert_eq!(
            (&edge["classes"]["ntp"], &edge["classes"]["apache"]),
            (&ntp, &json!({})),
            "{yes}"
        );
        assert_eq!(
            edge["classes"]["puppet_enterprise"]["puppetdb_port"],
            "8081"
        );
        assert_eq!(edge["config_data"], json!({"ntp": {"panic": "0"}}));
        assert_eq!(edge["variables"], json!({"site": {"zone": "b"}, "tier": 1}));
        assert_eq!(
            (&edge["environment"], &edge["environment_trumps"]),
            (&json!("staging"), &json!(false))
        );
        assert_eq!((edge.get("rule"), edge.get("description")), (None, None));
    }
    assert_eq!(plain.get("/groups").await.json(), own, "nothing was stored");
}

#[tokio::test]
async fn missing_references_name_the_group_that_defines_them() {
    let mut groups = captured();
    groups.extend(family().into_iter().filter(|group| group["id"] == WEB));
    let double = holding(groups);
    double.deploy_classes(&[
        json!({"name": "ntp", "environment": "staging", "parameters": {"server": "'x'"}}),
        json!({"name": "puppet_enterprise", "environment": "staging",
            "parameters": family()[10]["classes"]["puppet_enterprise"]}),
    ]);
    let plain = Plain::of(&double);
    plain.call("/update-classes").await;
    let edge = json!({"name": "Edge", "id": EDGE, "parent": WEB, "environment": "staging",
        "classes": {"ntp": {"server": "b", "panic": 0}, "made::up": {}}});
    let expected = json!([
        {"kind": "missing-parameter", "missing": "panic", "environment": "staging", "group": "Edge", "defined_by": "Edge"},
        {"kind": "missing-class", "missing": "made::up", "environment": "staging", "group": "Edge", "defined_by": "Edge"},
        {"kind": "missing-parameter", "missing": "tries", "environment": "staging", "group": "Edge", "defined_by": "Web"},
        {"kind": "missing-class", "missing": "apache", "environment": "staging", "group": "Edge", "defined_by": "Web"},
    ]);
    for refused in [
        plain.put(&format!("/groups/{EDGE}"), &edge).await,
        plain.post("/validate/group", &edge).await,
        plain.post("/groups", &edge).await,
    ] {
        assert_eq!(
            (refused.status, &refused.json()["details"]),
            (422, &expected)
        );
    }
}

#[tokio::test]
async fn an_edit_may_keep_the_missing_references_that_there_are_but_add_none() {
    let double = holding(family());
    let plain = Plain::of(&double);
    double.undeploy_class("apache");
    plain.call("/update-classes").await;
    let shown = plain.get(&path()).await.json();
    assert!(shown["deleted"]["apache"].is_object());
    let edited = plain
        .post(&path(), &json!({"description": "still without apache"}))
        .await;
    assert_eq!(edited.status, 200);
    let mut again = as_sent(edited.json());
    again["variables"] = json!({});
    assert_eq!(plain.put(&path(), &again).await.status, 201);
    // It would be Web's own, and inherited by Edge.
    let refused = plain
        .post(&path(), &json!({"classes": {"made::up": {}}}))
        .await;
    assert_eq!(
        (refused.status, &*refused.kind()),
        (422, "missing-referents")
    );
    // To be created it would have to be without.
    assert_eq!(plain.post("/validate/group", &shown).await.status, 422);
}
