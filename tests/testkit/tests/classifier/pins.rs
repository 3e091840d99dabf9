//! Nodes pinned and unpinned, by the query or by a body.

use reqwest::Method;
use serde_json::{Value, json};

use crate::plain::{Plain, ROOT, behaving, captured, holding, read};

const CONSOLE: &str = "fd3e6081-b6ef-4645-9eca-fc7d28278e6f";
const AGENT: &str = "42d394f7-1ead-484b-97b5-b455bd852721";

async fn rule(plain: &Plain, id: &str) -> Value {
    plain.get(&format!("/groups/{id}")).await.json()["rule"].clone()
}

#[tokio::test]
async fn a_pin_stands_beside_the_rule_and_goes_away_without_a_trace() {
    let plain = Plain::with(holding(captured()));
    let agents = json!(["and", ["~", ["fact", "aio_agent_version"], ".+"]]);
    let pin = format!("/groups/{AGENT}/pin");
    let pinned = plain
        .post(&pin, &json!({"nodes": ["a.lab", "b.lab"]}))
        .await;
    assert_eq!((pinned.status, &*pinned.text), (204, ""));
    assert_eq!(
        plain.post(&pin, &json!({"nodes": "a.lab"})).await.status,
        204
    );
    assert_eq!(
        rule(&plain, AGENT).await,
        json!(["or", agents, ["=", "name", "a.lab"], ["=", "name", "b.lab"]])
    );
    // The second was never pinned, which is no error.
    let unpinned = plain
        .call(&format!("/groups/{AGENT}/unpin?nodes=a.lab%2Cz.lab"))
        .await;
    assert_eq!(unpinned.status, 204);
    assert_eq!(
        rule(&plain, AGENT).await,
        json!(["or", agents, ["=", "name", "b.lab"]])
    );
    plain
        .call(&format!("/groups/{AGENT}/unpin?nodes=b.lab"))
        .await;
    assert_eq!(rule(&plain, AGENT).await, agents);
}

#[tokio::test]
async fn a_group_whose_last_pin_goes_has_no_rule() {
    let plain = Plain::with(holding(captured()));
    plain
        .call(&format!("/groups/{CONSOLE}/unpin?nodes=master1.puppet.vm"))
        .await;
    assert_eq!(rule(&plain, CONSOLE).await, Value::Null);
    plain
        .call(&format!("/groups/{CONSOLE}/pin?nodes=a.lab,b.lab"))
        .await;
    assert_eq!(
        rule(&plain, CONSOLE).await,
        json!(["or", ["=", "name", "a.lab"], ["=", "name", "b.lab"]])
    );
}

#[tokio::test]
async fn what_does_not_say_which_nodes_is_refused() {
    let plain = Plain::with(holding(captured()));
    for action in ["pin", "unpin"] {
        let path = format!("/groups/{CONSOLE}/{action}");
        let refused = plain.call(&path).await;
        assert_eq!(
            (refused.status, &*refused.kind()),
            (400, "missing-parameters")
        );
        let refused = read(plain.request(Method::POST, &path).body("nodes")).await;
        assert_eq!(
            (refused.status, &*refused.kind()),
            (400, "malformed-request")
        );
        for body in [
            json!({"nodes": [1]}),
            json!({"nodes": [], "more": 1}),
            json!(["a"]),
        ] {
            let refused = plain.post(&path, &body).await;
            assert_eq!(
                (refused.status, &*refused.kind()),
                (400, "schema-violation"),
                "{body}"
            );
        }
    }
    let path = format!("/groups/{ROOT}/pin?nodes=a.lab");
    let refused = plain.call(&path).await;
    assert_eq!(
        (refused.status, &*refused.kind()),
        (422, "root-rule-edit-failed")
    );
    let lenient = behaving(captured(), |behaviour| behaviour.root_rule_edits = true);
    assert_eq!(Plain::of(&lenient).call(&path).await.status, 204);
}

#[tokio::test]
async fn only_groups_that_lose_a_pin_are_edited_by_unpinning_from_all() {
    let plain = Plain::with(holding(captured()));
    let request = json!({"nodes": ["master1.puppet.vm", "nobody.lab"]});
    let unpinned = plain
        .post("/commands/unpin-from-all", &request)
        .await
        .json();
    assert_eq!(unpinned["nodes"].as_array().unwrap().len(), 1);
    let touched = unpinned["nodes"][0]["groups"].as_array().unwrap().len();
    let groups = plain.get("/groups").await.json();
    let edited = groups
        .as_array()
        .unwrap()
        .iter()
        .filter(|group| group.get("serial_number").is_some());
    assert_eq!((touched, edited.count()), (6, 6));
}
