//! `/v1/groups` and `/v1/validate/group`: each call, its success and its documented errors.

use reqwest::Method;
use serde_json::{Value, json};

use crate::plain::{INFRASTRUCTURE, Plain, ROOT, WEB, behaving, captured, holding, read};

const NOBODY: &str = "fc500c43-5065-469b-91fc-37ed0e500e99";

fn web() -> Value {
    json!({"name": "Web", "id": WEB, "parent": ROOT, "environment": "production",
        "classes": {"pe_repo": {}}, "variables": {"a": 1, "b": 2}})
}

fn web_with(key: &str, value: Value) -> Value {
    let mut group = web();
    group[key] = value;
    group
}

fn path() -> String {
    format!("/groups/{WEB}")
}

#[tokio::test]
async fn groups_are_created_overwritten_changed_and_deleted() {
    let double = holding(captured());
    let plain = Plain::of(&double);
    let mut unnamed = web_with("name", json!("Other"));
    unnamed
        .as_object_mut()
        .unwrap()
        .retain(|key, _| key != "environment" && key != "id");
    let created = plain.post("/groups", &unnamed).await;
    assert_eq!((created.status, &*created.text), (303, ""));
    let location = created.location.unwrap();
    let other = plain
        .get(location.strip_prefix("/classifier-api/v1").unwrap())
        .await
        .json();
    assert_eq!(
        (
            &other["environment"],
            &other["environment_trumps"],
            other.get("description")
        ),
        (&json!("production"), &json!(false), None),
        "the documented defaults"
    );

    assert_eq!(plain.get(&path()).await.status, 404);
    assert_eq!(plain.put(&path(), &web()).await.status, 201);
    let delta = json!({"variables": {"a": null, "c": 3}, "description": "x"});
    let changed = plain.post(&path(), &delta).await;
    assert_eq!(
        (
            changed.status,
            &changed.json()["variables"],
            &changed.json()["description"]
        ),
        (200, &json!({"b": 2, "c": 3}), &json!("x"))
    );
    let deleted = plain.delete(&path()).await;
    assert_eq!((deleted.status, &*deleted.text), (204, ""));
    assert_eq!(double.groups().len(), 13);
}

#[tokio::test]
async fn a_group_that_is_created_gets_an_id_of_the_services_own() {
    let plain = Plain::with(holding(captured()));
    let submitted = web_with("id", json!(INFRASTRUCTURE));
    let created = plain.post("/groups", &submitted).await;
    assert_eq!(created.status, 303);
    assert!(!created.location.unwrap().contains(INFRASTRUCTURE));
    let untouched = plain.get(&format!("/groups/{INFRASTRUCTURE}")).await.json();
    assert_eq!(untouched["name"], "PE Infrastructure");
}

#[tokio::test]
async fn putting_what_is_there_is_no_edit() {
    let double = holding(captured());
    let plain = Plain::of(&double);
    let put = plain.put(&path(), &web()).await.json();
    for same in [
        web(),
        web_with("serial_number", json!(99)),
        web_with("last_edited", json!("2018-03-13T21:37:03.608Z")),
        web_with("environment_trumps", json!(false)),
        web_with("description", json!("")),
        web_with("rule", Value::Null),
        web_with("config_data", json!({})),
        web_with("config_data", json!({"ntp": {}})),
    ] {
        let again = plain.put(&path(), &same).await;
        assert_eq!((again.status, again.json()), (200, put.clone()), "{same}");
    }
    let other = plain
        .put(&path(), &web_with("environment_trumps", json!(true)))
        .await;
    assert_eq!(
        (other.status, &other.json()["serial_number"]),
        (201, &json!(2))
    );
}

#[tokio::test]
async fn refusals_have_the_documented_status_and_kind() {
    let double = holding(captured());
    let plain = Plain::of(&double);
    plain.put(&path(), &web()).await;
    plain.post(&path(), &json!({"description": "edited"})).await;
    let web_at = path();
    let infrastructure = format!("/groups/{INFRASTRUCTURE}");
    let root = format!("/groups/{ROOT}");
    let nobody = format!("/groups/{NOBODY}");
    let (get, put, post, delete) = (Method::GET, Method::PUT, Method::POST, Method::DELETE);
    let cases: Vec<(&Method, &str, Option<Value>, u16, &str)> = vec![
        (&get, "/groups/nonsense", None, 400, "malformed-uuid"),
        (
            &get,
            "/groups/FC500C43-5065-469B-91FC-37ED0E500E81",
            None,
            400,
            "malformed-uuid",
        ),
        (&get, &nobody, None, 404, "not-found"),
        (&post, &nobody, Some(json!({})), 404, "not-found"),
        (&delete, &nobody, None, 404, "not-found"),
        (&get, "/nodes", None, 404, "not-found"),
        (
            &put,
            &web_at,
            Some(web_with("id", json!(INFRASTRUCTURE))),
            400,
            "conflicting-ids",
        ),
        (
            &post,
            &web_at,
            Some(json!({"id": INFRASTRUCTURE})),
            400,
            "conflicting-ids",
        ),
        (
            &put,
            &web_at,
            Some(web_with("name", json!("PE Console"))),
            422,
            "uniqueness-violation",
        ),
        (
            &put,
            &web_at,
            Some(web_with("parent", json!(NOBODY))),
            422,
            "missing-parent",
        ),
        (
            &put,
            &web_at,
            Some(web_with("parent", json!(WEB))),
            422,
            "inheritance-cycle",
        ),
        (
            &put,
            &web_at,
            Some(web_with("classes", json!({"made::up": {}}))),
            422,
            "missing-referents",
        ),
        (
            &put,
            &web_at,
            Some(web_with("serial_number", json!(1))),
            409,
            "conflict",
        ),
        (
            &post,
            &web_at,
            Some(json!({"serial_number": 1, "description": "x"})),
            409,
            "conflict",
        ),
        (
            &post,
            &web_at,
            Some(json!({"environment": null})),
            400,
            "schema-violation",
        ),
        (
            &post,
            &web_at,
            Some(json!({"classes": null})),
            400,
            "schema-violation",
        ),
        (
            &post,
            &root,
            Some(json!({"rule": null})),
            422,
            "root-rule-edit-failed",
        ),
        (&delete, &infrastructure, None, 422, "children-present"),
        (&delete, &root, None, 422, "children-present"),
    ];
    for (method, path, body, status, kind) in cases {
        let mut request = plain.request(method.clone(), path);
        if let Some(body) = &body {
            request = request.json(body);
        }
        let answer = read(request).await;
        let body = body.unwrap_or_default();
        assert_eq!(
            (answer.status, &*answer.kind()),
            (status, kind),
            "{method} {path} {body}: {}",
            answer.text
        );
    }
}

#[tokio::test]
async fn a_group_of_another_shape_violates_the_schema_wherever_it_is_sent() {
    let double = holding(captured());
    let plain = Plain::of(&double);
    let mut without_classes = web();
    let keys = without_classes.as_object_mut().unwrap();
    keys.shift_remove("classes");
    let mut shapes = vec![json!([]), without_classes];
    for (key, value) in [
        ("name", json!("")),
        ("environment", json!(1)),
        ("environment_trumps", json!("yes")),
        ("parent", json!("root")),
        ("description", json!(1)),
        ("variables", json!([])),
        ("variables", Value::Null),
        ("classes", json!({"ntp": null})),
        ("config_data", json!({"ntp": []})),
        ("rule", json!(["and"])),
        ("rule", json!(["=", ["fact", null], "x"])),
        ("rule", json!(["=", ["fact", 0], "x"])),
        ("rule", json!(["=", "hostname", "x"])),
        ("rule", json!([">", ["fact", "uptime"], 1])),
    ] {
        shapes.push(web_with(key, value));
    }
    for shape in shapes {
        for refused in [
            plain.put(&path(), &shape).await,
            plain.post("/groups", &shape).await,
            plain.post("/validate/group", &shape).await,
        ] {
            assert_eq!(
                (refused.status, &*refused.kind()),
                (400, "schema-violation"),
                "{shape}: {}",
                refused.text
            );
        }
    }
    assert_eq!(double.groups().len(), 12);
}

#[tokio::test]
async fn lists_are_paged_by_natural_numbers_only() {
    let plain = Plain::with(holding(captured()));
    let all = plain.get("/groups").await.json();
    let names = async |query: &str| plain.get(&format!("/groups?{query}")).await.json();
    assert_eq!(names("limit=2&offset=3").await, json!([all[3], all[4]]));
    assert_eq!(names("offset=3&limit=2").await, json!([all[3], all[4]]));
    assert_eq!(names("offset=11").await, json!([all[11]]));
    assert_eq!(names("offset=99").await, json!([]));
    assert_eq!(names("limit=0").await, json!([]));
    for (query, kind) in [
        ("limit=x", "malformed-number"),
        ("limit=", "malformed-number"),
        ("limit=1.5", "malformed-number"),
        ("offset=x", "malformed-number"),
        ("limit=-1", "illegal-count"),
        ("offset=-1", "illegal-count"),
    ] {
        let refused = plain.get(&format!("/groups?{query}")).await;
        assert_eq!((refused.status, &*refused.kind()), (400, kind), "{query}");
    }
}

#[tokio::test]
async fn validating_says_what_creating_would_and_creates_nothing() {
    let double = holding(captured());
    let plain = Plain::of(&double);
    let mut new = web();
    new.as_object_mut()
        .unwrap()
        .retain(|key, _| key != "id" && key != "environment");
    let valid = plain.post("/validate/group", &new).await;
    assert_eq!(valid.status, 200);
    assert_eq!(
        (&valid.json()["name"], &valid.json()["environment"]),
        (&json!("Web"), &json!("production"))
    );
    let twin = web_with("name", json!("PE Console"));
    let refused = plain.post("/validate/group", &twin).await;
    assert_eq!(
        (refused.status, &*refused.kind()),
        (422, "uniqueness-violation")
    );
    assert_eq!(double.groups().len(), 12);
}

#[tokio::test]
async fn the_details_of_refusals_are_as_documented() {
    let plain = Plain::with(holding(captured()));
    let details =
        async |path: &str, body: &Value| plain.put(path, body).await.json()["details"].clone();
    let twin = web_with("name", json!("PE Console"));
    assert_eq!(
        details(&path(), &twin).await["conflict"],
        json!({"name": "PE Console", "environment": "production"})
    );
    let orphan = web_with("parent", json!(NOBODY));
    assert_eq!(details(&path(), &orphan).await["parent"], json!(NOBODY));
    assert_eq!(
        details(&format!("/groups/{NOBODY}"), &web()).await,
        json!({"submitted": WEB, "fromUrl": NOBODY})
    );
    let own_parent = web_with("parent", json!(WEB));
    assert_eq!(details(&path(), &own_parent).await[0]["name"], "Web");
    let bad = web_with("classes", json!([]));
    let details = details(&path(), &bad).await;
    assert_eq!(details["submitted"]["classes"], json!([]));
    assert!(
        ["schema", "error"]
            .iter()
            .all(|key| details.get(key).is_some())
    );
    let missing = plain.get(&format!("{}?x=1", path())).await.json();
    assert_eq!(
        missing["details"],
        json!(format!("/classifier-api/v1{}?x=1", path()))
    );
    let present = plain
        .delete(&format!("/groups/{INFRASTRUCTURE}"))
        .await
        .json();
    assert_eq!(present["details"]["group"]["name"], "PE Infrastructure");
    assert_eq!(present["details"]["children"].as_array().unwrap().len(), 8);
    assert!(present["msg"].as_str().unwrap().contains("PE Console"));
}

#[tokio::test]
async fn switches_for_edits_do_what_they_say() {
    let plain = Plain::with(behaving(captured(), |behaviour| {
        behaviour.stale_puts = true
    }));
    plain.put(&path(), &web()).await;
    let mut stale = web_with("description", json!("x"));
    stale["serial_number"] = json!(99);
    assert_eq!(plain.put(&path(), &stale).await.status, 201);

    let root = format!("/groups/{ROOT}");
    let rule = json!({"rule": ["~", "name", "x"]});
    let plain = Plain::with(behaving(captured(), |behaviour| {
        behaviour.root_rule_edits = true
    }));
    assert_eq!(plain.post(&root, &rule).await.status, 200);

    let mut groups = captured();
    groups.push(web_with("variables", json!({"site": {"name": "a"}})));
    let delta = json!({"variables": {"site": {"zone": "b", "name": null}}});
    for (deep, site) in [
        (true, json!({"zone": "b"})),
        (false, json!({"zone": "b", "name": null})),
    ] {
        let plain = Plain::with(behaving(groups.clone(), |behaviour| {
            behaviour.deep_deltas = deep
        }));
        assert_eq!(
            plain.post(&path(), &delta).await.json()["variables"]["site"],
            site
        );
    }
}

#[tokio::test]
async fn unknown_keys_are_kept_or_refused() {
    let strange = web_with("colour", json!({"of": [1.10, 9007199254740993_u64]}));
    let plain = Plain::with(holding(captured()));
    assert_eq!(plain.put(&path(), &strange).await.status, 201);
    assert_eq!(plain.get(&path()).await.json()["colour"], strange["colour"]);
    let plain = Plain::with(behaving(captured(), |behaviour| {
        behaviour.unknown_keys = false
    }));
    let refused = plain.put(&path(), &strange).await;
    assert_eq!(
        (refused.status, &*refused.kind()),
        (400, "schema-violation")
    );
}

#[tokio::test]
async fn configuration_data_is_refused_where_it_is_off() {
    let plain = Plain::with(behaving(captured(), |behaviour| {
        behaviour.config_data = false
    }));
    let refused = plain
        .put(&path(), &web_with("config_data", json!({})))
        .await;
    assert_eq!(
        (refused.status, &*refused.kind()),
        (400, "schema-violation")
    );
}
