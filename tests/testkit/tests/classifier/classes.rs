//! Classes and environments: what the master has is known after it was read.

use pefo_testkit::classifier::{ClassifierDouble, Fault, Injection, Options};
use serde_json::{Value, json};

use crate::plain::{CN, Plain, behaving, holding};

fn class(environment: &str, name: &str, parameters: Value) -> Value {
    json!({"name": name, "environment": environment, "parameters": parameters})
}

#[tokio::test]
async fn nothing_is_known_and_no_time_is_told_before_the_first_update() {
    let group = json!({"name": "Web", "environment": "production", "classes": {"apache": {}}});
    let options = Options::default()
        .allow(CN)
        .groups(vec![group])
        .never_updated();
    let plain = Plain::with(ClassifierDouble::start(options));
    assert_eq!(
        plain.get("/last-class-update").await.json(),
        json!({"last_update": null})
    );
    assert_eq!(plain.get("/classes").await.json(), json!([]));
    assert_eq!(plain.get("/environments").await.json(), json!([]));
    let mut before = String::new();
    for _ in 0..3 {
        let updated = plain.call("/update-classes").await;
        assert_eq!((updated.status, &*updated.text), (201, ""));
        let told = plain.get("/last-class-update").await.json();
        let time = told["last_update"].as_str().unwrap().to_owned();
        assert!(
            time > before && time.starts_with("2026-01-01T00:00:"),
            "{time}"
        );
        before = time;
    }
    assert_eq!(
        plain.get("/classes").await.json(),
        json!([class("production", "apache", json!({}))])
    );
}

#[tokio::test]
async fn an_update_of_one_environment_reads_no_other() {
    let double = holding(vec![]);
    let (a, b) = (
        class("a", "apache", json!({"port": null})),
        class("b", "apache", json!({})),
    );
    double.deploy_classes(&[a.clone(), b.clone()]);
    let plain = Plain::of(&double);
    assert_eq!(
        plain.call("/update-classes?environment=a").await.status,
        201
    );
    assert_eq!(plain.get("/classes").await.json(), json!([a]));
    assert_eq!(plain.get("/environments/b").await.status, 404);
    assert_eq!(plain.get("/environments/b/classes").await.json(), json!([]));
    assert_eq!(plain.call("/update-classes").await.status, 201);
    assert_eq!(plain.get("/classes").await.json(), json!([a, b]));
    assert_eq!(
        plain.get("/environments/b/classes").await.json(),
        json!([b])
    );
    assert_eq!(plain.get("/environments/b/classes/apache").await.json(), b);
}

#[tokio::test]
async fn an_environment_that_is_not_there_is_an_empty_404_and_a_class_a_report() {
    let plain = Plain::with(holding(vec![]));
    let missing = plain.get("/environments/nowhere").await;
    assert_eq!((missing.status, &*missing.text), (404, ""));
    let missing = plain.get("/environments/production/classes/nowhere").await;
    assert_eq!(
        (missing.status, missing.json()),
        (
            404,
            json!({"kind": "not-found", "msg": "The resource could not be found.",
                "details": "/classifier-api/v1/environments/production/classes/nowhere"})
        )
    );
}

#[tokio::test]
async fn a_master_without_the_environment_is_an_unexpected_response_or_nothing() {
    let plain = Plain::with(holding(vec![]));
    let refused = plain.call("/update-classes?environment=nowhere").await;
    assert_eq!(
        (refused.status, &*refused.kind()),
        (500, "unexpected-response")
    );
    let details = &refused.json()["details"];
    assert_eq!(details["status"], json!(404));
    assert!(
        ["url", "headers", "body"]
            .iter()
            .all(|key| details.get(key).is_some())
    );
    let lenient = behaving(vec![], |behaviour| behaviour.strict_environments = false);
    assert_eq!(
        Plain::of(&lenient)
            .call("/update-classes?environment=nowhere")
            .await
            .status,
        201
    );
}

#[tokio::test]
async fn a_master_that_gives_no_classes_leaves_those_that_were_known() {
    let double = holding(vec![]);
    let plain = Plain::of(&double);
    double.deploy_classes(&[class("production", "apache", json!({}))]);
    double.inject(Injection::new(Fault::UnexpectedResponse).times(1));
    let before = plain.get("/last-class-update").await;
    let failed = plain.call("/update-classes").await;
    assert_eq!(
        (failed.status, &*failed.kind()),
        (500, "unexpected-response")
    );
    assert_eq!(plain.get("/last-class-update").await, before);
    assert_eq!(plain.get("/classes").await.json(), json!([]));
    let synced = async || plain.get("/environments").await.json()[0]["sync_succeeded"].clone();
    assert_eq!(synced().await, json!(false));
    assert_eq!(plain.call("/update-classes").await.status, 201);
    assert_eq!(synced().await, json!(true));
    assert_eq!(
        plain.get("/classes").await.json().as_array().unwrap().len(),
        1
    );
}
