//! `import-hierarchy`: all groups at once, or none.

use reqwest::Method;
use serde_json::{Value, json};

use crate::plain::{INFRASTRUCTURE, Plain, ROOT, all_as_sent, behaving, captured, holding, read};

fn of<'a>(groups: &'a mut [Value], name: &str) -> &'a mut Value {
    groups
        .iter_mut()
        .find(|group| group["name"] == name)
        .unwrap()
}

/// The captured tree with one change.
fn changed(change: impl FnOnce(&mut Vec<Value>)) -> Value {
    let mut groups = captured();
    change(&mut groups);
    json!(groups)
}

#[tokio::test]
async fn a_hierarchy_that_is_refused_changes_nothing_and_names_only_the_bad_groups() {
    let double = holding(captured());
    let plain = Plain::of(&double);
    let before = double.groups();
    let mut groups = captured();
    groups[3]["classes"] = json!([]);
    groups[5].as_object_mut().unwrap().shift_remove("variables");
    let bad = json!([groups[3], groups[5]]);
    let refused = plain.post("/import-hierarchy", &json!(groups)).await;
    assert_eq!(
        (refused.status, &*refused.kind()),
        (400, "schema-violation")
    );
    let details = &refused.json()["details"];
    assert_eq!(details["submitted"], bad);
    assert_eq!(
        details["error"],
        json!([
            "{classes (not (map? of maps))}",
            "{variables missing-required-key}"
        ])
    );
    assert!(details["schema"].is_object());
    assert_eq!((double.groups(), double.installed()), (before, 0));
}

#[tokio::test]
async fn what_is_no_valid_and_complete_hierarchy_is_refused_by_its_kind() {
    let double = holding(captured());
    let plain = Plain::of(&double);
    let cases = [
        (json!({"groups": []}), 400, "schema-violation"),
        (json!([]), 422, "unreachable-groups"),
        (
            changed(|groups| drop(groups.remove(0))),
            422,
            "unreachable-groups",
        ),
        (
            changed(|groups| groups.retain(|group| group["id"] != INFRASTRUCTURE)),
            422,
            "unreachable-groups",
        ),
        (
            changed(|groups| {
                let agent = of(groups, "PE Agent")["id"].clone();
                of(groups, "PE Infrastructure")["parent"] = agent;
            }),
            422,
            "inheritance-cycle",
        ),
        (
            changed(|groups| of(groups, "PE Agent")["name"] = json!("PE Master")),
            422,
            "uniqueness-violation",
        ),
        (
            changed(|groups| groups.push(groups[3].clone())),
            422,
            "uniqueness-violation",
        ),
        (
            changed(|groups| {
                of(groups, "PE Agent")["id"] = json!("ABCDEF01-7ead-484b-97b5-b455bd852721")
            }),
            400,
            "schema-violation",
        ),
    ];
    for (body, status, kind) in cases {
        let refused = plain.post("/import-hierarchy", &body).await;
        assert_eq!(
            (refused.status, &*refused.kind()),
            (status, kind),
            "{}",
            refused.text
        );
    }
    let text = read(plain.request(Method::POST, "/import-hierarchy").body("[{")).await;
    assert_eq!((text.status, &*text.kind()), (400, "malformed-request"));
    assert_eq!(text.json()["details"]["body"], "[{");
    assert!(
        text.json()["details"]["error"]
            .as_str()
            .unwrap()
            .starts_with("EOF")
    );
    assert_eq!(double.installed(), 0);
}

#[tokio::test]
async fn a_circle_is_told_by_its_groups_and_their_names_in_turn() {
    let plain = Plain::with(holding(captured()));
    let body = changed(|groups| {
        let agent = of(groups, "PE Agent")["id"].clone();
        of(groups, "PE Infrastructure")["parent"] = agent;
    });
    let refused = plain.post("/import-hierarchy", &body).await.json();
    let names: Vec<&str> = refused["details"]
        .as_array()
        .unwrap()
        .iter()
        .map(|group| group["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["PE Agent", "PE Infrastructure"]);
    let msg = refused["msg"].as_str().unwrap();
    assert!(
        msg.contains("PE Agent -> PE Infrastructure -> PE Agent"),
        "{msg}"
    );
}

#[tokio::test]
async fn what_the_documentation_leaves_open_is_a_switch() {
    type Switch = fn(&mut pefo_testkit::classifier::Behaviour);
    let strange = |groups: &mut Vec<Value>| of(groups, "PE Agent")["colour"] = json!("green");
    let bare = |groups: &mut Vec<Value>| {
        of(groups, "PE Agent")
            .as_object_mut()
            .unwrap()
            .shift_remove("environment_trumps");
    };
    let cases: [(&str, Value, Switch, u16, u16); 6] = [
        (
            "missing classes",
            changed(|groups| of(groups, "PE Agent")["classes"] = json!({"made::up": {}})),
            |behaviour| behaviour.strict_classes = true,
            204,
            422,
        ),
        (
            "unknown keys",
            changed(strange),
            |behaviour| behaviour.unknown_keys = false,
            204,
            400,
        ),
        (
            "absent keys",
            changed(bare),
            |behaviour| behaviour.complete_imports = false,
            400,
            204,
        ),
        (
            "an id twice",
            changed(|groups| groups.push(groups[3].clone())),
            |behaviour| behaviour.duplicate_ids = true,
            422,
            204,
        ),
        (
            "no root",
            changed(|groups| drop(groups.remove(0))),
            |behaviour| behaviour.rootless = true,
            422,
            204,
        ),
        (
            "configuration data",
            changed(|groups| of(groups, "PE Agent")["config_data"] = json!({"a": {"b": 1}})),
            |behaviour| behaviour.config_data = false,
            204,
            400,
        ),
    ];
    for (what, body, switch, usually, switched) in cases {
        let plain = Plain::with(holding(captured()));
        assert_eq!(
            plain.post("/import-hierarchy", &body).await.status,
            usually,
            "{what}"
        );
        let plain = Plain::with(behaving(captured(), switch));
        assert_eq!(
            plain.post("/import-hierarchy", &body).await.status,
            switched,
            "{what}"
        );
    }
}

#[tokio::test]
async fn of_groups_with_the_same_id_the_last_one_stays() {
    let double = behaving(captured(), |behaviour| behaviour.duplicate_ids = true);
    let body = changed(|groups| {
        let mut again = groups[3].clone();
        again["description"] = json!("the second");
        groups.push(again);
    });
    assert_eq!(
        Plain::of(&double)
            .post("/import-hierarchy", &body)
            .await
            .status,
        204
    );
    let groups = double.groups();
    assert_eq!(
        (groups.len(), &groups[11]["description"]),
        (12, &json!("the second"))
    );
}

#[tokio::test]
async fn configuration_data_that_is_off_is_left_out_without_a_word() {
    let mut groups = captured();
    groups[3]["config_data"] = json!({"ntp": {"servers": ["a"]}});
    let double = behaving(groups.clone(), |behaviour| behaviour.config_data = false);
    let plain = Plain::of(&double);
    assert_eq!(plain.get("/groups").await.json(), json!(captured()));
    let exported = plain.get("/groups").await.json();
    assert_eq!(plain.post("/import-hierarchy", &exported).await.status, 204);
    double.set_behaviour(|behaviour| behaviour.config_data = true);
    let lost = all_as_sent(plain.get("/groups").await.json());
    assert_eq!(lost, captured(), "what was hidden is gone for good");
}

#[tokio::test]
async fn serial_numbers_and_edit_times_are_the_servers_own() {
    let mut groups = captured();
    groups[3]["serial_number"] = json!(7);
    groups[3]["last_edited"] = json!("2018-03-13T21:37:03.608Z");
    let plain = Plain::with(holding(vec![]));
    assert_eq!(
        plain.post("/import-hierarchy", &json!(groups)).await.status,
        204
    );
    let imported = plain.get("/groups").await.json();
    assert_eq!(
        (&imported[3]["serial_number"], &imported[4]["serial_number"]),
        (&json!(8), &json!(1))
    );
    assert_ne!(imported[3]["last_edited"], imported[4]["last_edited"]);

    let plain = Plain::with(behaving(vec![], |behaviour| behaviour.serial_bump = false));
    assert_eq!(
        plain.post("/import-hierarchy", &json!(groups)).await.status,
        204
    );
    assert_eq!(
        plain.get("/groups").await.json()[3]["serial_number"],
        json!(7)
    );
}

#[tokio::test]
async fn every_get_may_have_another_order() {
    let double = behaving(captured(), |behaviour| behaviour.reordered = true);
    let plain = Plain::of(&double);
    let (first, second) = (
        plain.get("/groups").await.json(),
        plain.get("/groups").await.json(),
    );
    assert_ne!(first, second);
    assert_eq!(first.as_array().unwrap().len(), 12);
}

#[tokio::test]
async fn the_children_of_a_group_are_told_to_a_depth() {
    let plain = Plain::with(holding(captured()));
    let counts = async |query: &str| {
        let trees = plain
            .get(&format!("/group-children/{ROOT}{query}"))
            .await
            .json();
        let below = trees[0]["children"].as_array().unwrap().clone();
        let deeper = below
            .iter()
            .map(|child| child["children"].as_array().unwrap().len())
            .sum::<usize>();
        (
            below.len(),
            deeper,
            trees[0]["immediate_child_count"].clone(),
        )
    };
    assert_eq!(counts("?depth=0").await, (0, 0, json!(2)));
    assert_eq!(counts("?depth=1").await, (2, 0, json!(2)));
    assert_eq!(counts("").await, (2, 9, json!(2)));
    for (path, status, kind) in [
        ("/group-children/nonsense", 400, "malformed-uuid"),
        (
            "/group-children/fc500c43-5065-469b-91fc-37ed0e500e99",
            404,
            "not-found",
        ),
        (
            &*format!("/group-children/{ROOT}?depth=x"),
            400,
            "malformed-number",
        ),
        (
            &*format!("/group-children/{ROOT}?depth=-1"),
            400,
            "illegal-count",
        ),
    ] {
        let refused = plain.get(path).await;
        assert_eq!((refused.status, &*refused.kind()), (status, kind), "{path}");
    }
}
