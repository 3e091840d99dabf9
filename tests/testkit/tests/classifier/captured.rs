//! Each captured and documented example, put into the double or provoked, comes out as it stands.

use pefo_testkit::classifier::{ClassifierDouble, Options, Token, root_group};
use reqwest::Method;
use serde_json::{Value, json};

use crate::plain::{
    CN, Plain, ROOT, all_as_sent, array, as_sent, behaving, fixture, holding, read,
};

/// A group of the given id, name and environment that has nothing else to say.
fn group(id: &str, name: &str, environment: &str, parent: &str) -> Value {
    json!({"name": name, "id": id, "parent": parent, "environment": environment,
        "environment_trumps": false, "variables": {}, "classes": {}})
}

/// Documented examples leave out what is at its default.
fn without_defaults(mut group: Value) -> Value {
    if group["environment_trumps"] == false {
        group
            .as_object_mut()
            .unwrap()
            .shift_remove("environment_trumps");
    }
    group
}

/// By environment and name; the order of classes is not documented.
fn sorted(mut classes: Vec<Value>) -> Vec<Value> {
    classes.sort_by_key(|class| format!("{} {}", class["environment"], class["name"]));
    classes
}

#[tokio::test]
async fn captured_trees_are_shown_as_they_were_and_survive_an_import() {
    for file in [
        "ncio_groups_default_master1.json",
        "ncio_groups_transformed_master2.json",
    ] {
        let tree = fixture(file);
        let plain = Plain::with(holding(array(tree.clone())));
        assert_eq!(plain.get("/groups").await.json(), tree, "{file}");

        let fresh = holding(vec![]);
        fresh.deploy_classes_of(tree.as_array().unwrap());
        let plain = Plain::of(&fresh);
        assert_eq!(plain.call("/update-classes").await.status, 201);
        let imported = plain.post("/import-hierarchy", &tree).await;
        assert_eq!((imported.status, &*imported.text), (204, ""), "{file}");
        let read_back = plain.get("/groups").await.json();
        assert_eq!(json!(all_as_sent(read_back)), tree, "{file}");
    }
}

#[tokio::test]
async fn captured_answers_with_parts_of_a_tree_are_shown_and_refused_as_a_tree() {
    for (file, unreachable) in [
        (
            "gopeclient_groups_response.json",
            vec!["PE Infrastructure Agent", "Production environment"],
        ),
        ("scooter_groups_2.json", vec!["PE Certificate Authority"]),
    ] {
        let groups = fixture(file);
        let plain = Plain::with(holding(array(groups.clone())));
        assert_eq!(plain.get("/groups").await.json(), groups, "{file}");
        let refused = plain.post("/import-hierarchy", &groups).await;
        assert_eq!(
            (refused.status, &*refused.kind()),
            (422, "unreachable-groups"),
            "{file}"
        );
        let names: Vec<Value> = array(refused.json()["details"].clone())
            .into_iter()
            .map(|group| group["name"].clone())
            .collect();
        assert_eq!(json!(names), json!(unreachable), "{file}");
    }
}

#[tokio::test]
async fn single_groups_are_shown_as_they_were() {
    let captured = fixture("gopeclient_group.json");
    let documented = fixture("docs_2019.7_group_examples.json");
    for group in [captured, documented["webservers_config_data"].clone()] {
        let plain = Plain::with(holding(vec![root_group(), group.clone()]));
        let path = format!("/groups/{}", group["id"].as_str().unwrap());
        assert_eq!(plain.get(&path).await.json(), group);
    }
}

#[tokio::test]
async fn deleted_classes_and_parameters_are_marked_as_documented() {
    let group = fixture("docs_2019.7_group_examples.json")["spaceship_deleted"].clone();
    let double = holding(vec![root_group(), group.clone()]);
    let plain = Plain::of(&double);
    let path = format!("/groups/{}", group["id"].as_str().unwrap());
    assert!(plain.get(&path).await.json().get("deleted").is_none());
    double.undeploy_class("payload");
    double.undeploy_parameter("rocket", "stages");
    assert_eq!(
        plain.call("/update-classes?environment=space").await.status,
        201
    );
    assert_eq!(plain.get(&path).await.json(), group);
}

#[tokio::test]
async fn the_documented_delta_gives_the_documented_group() {
    let examples = fixture("docs_2019.7_group_examples.json");
    let (before, after) = (&examples["delta_before"], &examples["delta_after"]);
    let parent = group(
        after["parent"].as_str().unwrap(),
        "Parent",
        "production",
        ROOT,
    );
    let double = behaving(vec![root_group(), parent, before.clone()], |behaviour| {
        behaviour.serial_bump = false;
    });
    double.deploy_classes_of(std::slice::from_ref(after));
    let plain = Plain::of(&double);
    assert_eq!(plain.call("/update-classes").await.status, 201);
    let path = format!("/groups/{}", before["id"].as_str().unwrap());
    let changed = plain.post(&path, &examples["delta"]).await;
    assert_eq!(
        (changed.status, without_defaults(changed.json())),
        (200, after.clone())
    );
    assert_eq!(without_defaults(plain.get(&path).await.json()), *after);
}

#[tokio::test]
async fn the_documented_children_are_those_that_this_user_may_see() {
    let documented = fixture("docs_2019.7_group_children_example.json");
    let own = |tree: &Value| {
        let mut group = tree.clone();
        group
            .as_object_mut()
            .unwrap()
            .retain(|key, _| key != "children" && key != "immediate_child_count");
        group
    };
    let hidden = documented[1]["parent"].as_str().unwrap();
    let mut groups = vec![
        root_group(),
        own(&documented[0]),
        group(hidden, "child-2", "test", ROOT),
        own(&documented[0]["children"][0]),
        own(&documented[0]["children"][1]),
        own(&documented[1]),
    ];
    groups.push(group(
        "0bb94f26-2955-4adc-8460-f5ce244d5119",
        "grandchild-6",
        "test",
        hidden,
    ));
    let double = holding(groups);
    double.show_only([&documented[0], &documented[1]].map(|tree| tree["id"].as_str().unwrap()));
    let plain = Plain::of(&double);
    let path = format!("/group-children/{ROOT}?depth=2");
    assert_eq!(plain.get(&path).await.json(), documented);
}

#[tokio::test]
async fn nodes_are_unpinned_from_all_groups_as_documented() {
    let examples = fixture("docs_2019.7_unpin_from_all_examples.json");
    let second = json!({"nodes": ["host1.example", "host2.example", "nobody.example"]});
    for (request, response) in [(&examples[0], &examples[1]), (&second, &examples[2])] {
        let mut groups = vec![root_group()];
        for node in response["nodes"].as_array().unwrap() {
            for shown in node["groups"].as_array().unwrap() {
                let known = groups.iter().position(|group| group["id"] == shown["id"]);
                let at = known.unwrap_or_else(|| {
                    let text = |key: &str| shown[key].as_str().unwrap();
                    groups.push(group(text("id"), text("name"), text("environment"), ROOT));
                    groups.len() - 1
                });
                let mut rule = array(groups[at].get("rule").cloned().unwrap_or(json!(["or"])));
                rule.push(json!(["=", "name", node["name"]]));
                groups[at]["rule"] = json!(rule);
            }
        }
        let plain = Plain::with(holding(groups));
        let unpinned = plain.post("/commands/unpin-from-all", request).await;
        assert_eq!((unpinned.status, unpinned.json()), (200, response.clone()));
        let again = plain.post("/commands/unpin-from-all", request).await;
        assert_eq!(again.json(), json!({"nodes": []}));
        let left = array(plain.get("/groups").await.json());
        assert!(
            left.iter()
                .filter(|group| group["id"] != ROOT)
                .all(|group| group.get("rule").is_none())
        );
    }
}

#[tokio::test]
async fn captured_classes_are_those_that_were_deployed() {
    for file in [
        "scooter_classes_4.json",
        "puppetclassify_classes_6.json",
        "gopeclient_classes_response.json",
    ] {
        let mut classes = array(fixture(file));
        let double = holding(vec![]);
        double.deploy_classes(&classes);
        let plain = Plain::of(&double);
        assert_eq!(
            plain.get("/classes").await.json(),
            json!([]),
            "not read yet: {file}"
        );
        assert_eq!(plain.call("/update-classes").await.status, 201);
        for class in &mut classes {
            // One of the captures was taken down without parameters, which are documented to be there.
            class
                .as_object_mut()
                .unwrap()
                .entry("parameters")
                .or_insert(json!({}));
            let (environment, name) = (
                class["environment"].as_str().unwrap(),
                class["name"].as_str().unwrap(),
            );
            let path = format!("/environments/{environment}/classes/{name}");
            assert_eq!(plain.get(&path).await.json(), *class);
        }
        let known = array(plain.get("/classes").await.json());
        assert_eq!(sorted(known), sorted(classes), "{file}");
    }
}

#[tokio::test]
async fn captured_environments_are_those_that_were_made() {
    let captured = fixture("scooter_environments.json");
    let plain = Plain::with(holding(vec![]));
    for environment in captured.as_array().unwrap() {
        let path = format!("/environments/{}", environment["name"].as_str().unwrap());
        let made = plain.put(&path, &Value::Null).await;
        assert_eq!((made.status, &made.json()), (201, environment));
        assert_eq!(plain.get(&path).await.json(), *environment);
    }
    assert_eq!(plain.get("/environments").await.json(), captured);
}

#[tokio::test]
async fn captured_refusals_of_strangers_are_the_doubles() {
    let double = ClassifierDouble::start(Options::default().allow(CN).token("old", Token::Expired));
    let stranger = Plain::stranger(&double);
    let refused = stranger.get("/groups?inherited=false").await;
    let captured = fixture("ncio_error_401_user_unauthenticated.json");
    assert_eq!((refused.status, refused.json()), (401, captured));

    let with_token = stranger
        .request(Method::GET, "/groups")
        .header("X-Authentication", "old");
    let refused = read(with_token).await;
    let captured = fixture("jenkins_pe_error_401_token_expired.json");
    assert_eq!((refused.status, refused.json()), (401, captured));
}

#[tokio::test]
async fn every_captured_group_is_put_and_got_as_it_stands() {
    let groups = array(fixture("ncio_groups_default_master1.json"));
    let double = holding(groups.clone());
    let plain = Plain::of(&double);
    for group in groups {
        let path = format!("/groups/{}", group["id"].as_str().unwrap());
        let same = plain.put(&path, &group).await;
        assert_eq!((same.status, same.json()), (200, group.clone()));
        let mut edited = group;
        edited["description"] = json!("edited");
        let put = plain.put(&path, &edited).await;
        assert_eq!((put.status, as_sent(put.json())), (201, edited));
    }
}
