//! The classifier double itself answers as the product's API is documented.

use pefo_testkit::classifier::{ClassifierDouble, Options};
use reqwest::{Client, Method};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};

const WEB: &str = "fc500c43-5065-469b-91fc-37ed0e500e81";

const PASSIVE: &str = "master2.puppet.vm";

fn captured_passive() -> Vec<Value> {
    serde_json::from_str(include_str!(
        "../fixtures/classifier/ncio_groups_transformed_master2.json"
    ))
    .unwrap()
}

fn passive() -> ClassifierDouble {
    ClassifierDouble::start(Options::default().allow(PASSIVE).groups(captured_passive()))
}

/// A plain HTTP client, so that nothing of the crate under test stands between.
struct Plain {
    http: Client,
    base: String,
}

impl Plain {
    fn of(double: &ClassifierDouble) -> Self {
        let pem = double.client(PASSIVE);
        let mut roots = rustls::RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(double.ca_pem().as_bytes()).unwrap())
            .unwrap();
        let chain = vec![CertificateDer::from_pem_slice(pem.certificate_pem.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(pem.key_pem.as_bytes()).unwrap();
        let tls = rustls::ClientConfig::builder_with_provider(
            rustls::crypto::ring::default_provider().into(),
        )
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .unwrap();
        let builder = Client::builder().tls_backend_preconfigured(tls).no_proxy();
        let http = builder
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .unwrap();
        Self {
            http,
            base: format!("{}/v1", double.url()),
        }
    }

    async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
        let mut request = self.http.request(method, format!("{}{path}", self.base));
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        let text = response.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::Null))
    }
}

fn web() -> Value {
    json!({"name": "Web", "id": WEB, "parent": "00000000-0000-4000-8000-000000000000", "environment": "production",
        "classes": {"pe_repo": {}}, "variables": {"a": 1, "b": 2}})
}

#[tokio::test]
async fn groups_are_created_overwritten_changed_pinned_and_deleted() {
    let double = passive();
    let plain = Plain::of(&double);
    let path = format!("/groups/{WEB}");
    let mut unnamed = web();
    unnamed.as_object_mut().unwrap().remove("id");
    unnamed["name"] = json!("Other");
    assert_eq!(
        plain.ask(Method::POST, "/groups", Some(unnamed)).await.0,
        303
    );
    assert_eq!(plain.ask(Method::GET, &path, None).await.0, 404);
    assert_eq!(plain.ask(Method::PUT, &path, Some(web())).await.0, 201);
    let (status, delta) = plain
        .ask(
            Method::POST,
            &path,
            Some(json!({"variables": {"a": null, "c": 3}, "description": "x"})),
        )
        .await;
    assert_eq!(
        (status, &delta["variables"], &delta["description"]),
        (200, &json!({"b": 2, "c": 3}), &json!("x"))
    );
    let pin = json!({"nodes": ["a.lab", "b.lab"]});
    assert_eq!(
        plain
            .ask(Method::POST, &format!("{path}/pin"), Some(pin))
            .await
            .0,
        204
    );
    let unpin = json!({"nodes": ["a.lab"]});
    assert_eq!(
        plain
            .ask(Method::POST, &format!("{path}/unpin"), Some(unpin))
            .await
            .0,
        204
    );
    assert_eq!(
        plain.ask(Method::GET, &path, None).await.1["rule"],
        json!(["or", ["=", "name", "b.lab"]])
    );
    assert_eq!(plain.ask(Method::DELETE, &path, None).await.0, 204);
    assert_eq!(double.groups().len(), 13);
}

#[tokio::test]
async fn refusals_have_the_documented_status_and_kind() {
    let double = passive();
    let plain = Plain::of(&double);
    let path = format!("/groups/{WEB}");
    plain.ask(Method::PUT, &path, Some(web())).await;
    let changed = |key: &str, value: Value| {
        let mut group = web();
        group[key] = value;
        Some(group)
    };
    let infrastructure = "eb87329f-4874-4852-b833-cf3fb67271c9";
    for (method, path, body, status, kind) in [
        (Method::GET, "/groups/nonsense", None, 400, "malformed-uuid"),
        (
            Method::GET,
            "/groups?limit=x",
            None,
            400,
            "malformed-number",
        ),
        (
            Method::GET,
            "/environments/nowhere/classes/x",
            None,
            404,
            "not-found",
        ),
        (
            Method::PUT,
            &*path,
            changed("id", json!(infrastructure)),
            400,
            "conflicting-ids",
        ),
        (
            Method::PUT,
            &*path,
            changed("name", json!("PE Console")),
            422,
            "uniqueness-violation",
        ),
        (
            Method::PUT,
            &*path,
            changed("parent", json!("fc500c43-5065-469b-91fc-37ed0e500e99")),
            422,
            "missing-parent",
        ),
        (
            Method::PUT,
            &*path,
            changed("parent", json!(WEB)),
            422,
            "inheritance-cycle",
        ),
        (
            Method::PUT,
            &*path,
            changed("classes", json!({"made::up": {}})),
            422,
            "missing-referents",
        ),
        (
            Method::PUT,
            &*path,
            changed("rule", json!(["=", ["fact", null], "x"])),
            400,
            "schema-violation",
        ),
        (
            Method::POST,
            &*path,
            Some(json!({"serial_number": 1, "description": "x"})),
            409,
            "conflict",
        ),
        (
            Method::POST,
            "/groups/00000000-0000-4000-8000-000000000000",
            Some(json!({"rule": null})),
            422,
            "root-rule-edit-failed",
        ),
        (
            Method::DELETE,
            &*format!("/groups/{infrastructure}"),
            None,
            422,
            "children-present",
        ),
        (
            Method::POST,
            "/import-hierarchy",
            Some(json!({"groups": []})),
            400,
            "schema-violation",
        ),
        (
            Method::POST,
            "/import-hierarchy",
            Some(json!([web()])),
            422,
            "unreachable-groups",
        ),
    ] {
        let (got, answer) = plain.ask(method.clone(), path, body).await;
        assert_eq!(
            (got, answer["kind"].as_str()),
            (status, Some(kind)),
            "{method} {path}: {answer}"
        );
    }
}

#[tokio::test]
async fn a_hierarchy_that_is_refused_changes_nothing_and_names_only_the_bad_groups() {
    let double = passive();
    let plain = Plain::of(&double);
    let before = double.groups();
    let mut groups = captured_passive();
    groups[3]["classes"] = json!([]);
    let bad = groups[3].clone();
    let (status, answer) = plain
        .ask(Method::POST, "/import-hierarchy", Some(json!(groups)))
        .await;
    assert_eq!(
        (status, &answer["details"]["submitted"]),
        (400, &json!([bad]))
    );
    assert_eq!(double.groups(), before);
}
