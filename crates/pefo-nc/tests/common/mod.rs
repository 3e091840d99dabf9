//! A double and a client of it, and the trees that travel.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]
#![allow(dead_code, reason = "each test binary uses its part")]

use std::time::Duration;

use pefo_core::Certname;
use pefo_core::clock::Timestamp;
use pefo_nc::client::{ClassifierClient, ClientOptions, Credentials};
use pefo_nc::import::{ImportPolicy, Target};
use pefo_nc::{CertnameMap, Envelope, Tree};
use pefo_testkit::classifier::{ClassifierDouble, Options};
use serde_json::{Value, json};

pub(crate) const ACTIVE: &str = "master1.puppet.vm";
pub(crate) const PASSIVE: &str = "master2.puppet.vm";

pub(crate) fn name(text: &str) -> Certname {
    Certname::new(text).unwrap()
}

pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix_seconds(1_700_000_000 + seconds).unwrap()
}

/// The groups of a captured installation of master1.
pub(crate) fn captured() -> Vec<Value> {
    serde_json::from_str(include_str!("../fixtures/ncio_groups_default_master1.json")).unwrap()
}

/// The same installation of master2.
pub(crate) fn captured_passive() -> Vec<Value> {
    serde_json::from_str(include_str!(
        "../fixtures/ncio_groups_transformed_master2.json"
    ))
    .unwrap()
}

/// What master1's administrators added since: a group with numbers that floats cannot hold, one with
/// a rule into a structured fact, a pin of the master itself.
pub(crate) fn edited() -> Vec<Value> {
    let mut groups = captured();
    let more: Value = serde_json::from_str(
        r#"[
        {"name": "Web", "id": "fc500c43-5065-469b-91fc-37ed0e500e81", "environment": "production", "environment_trumps": false,
         "parent": "00000000-0000-4000-8000-000000000000", "description": "of 2020",
         "rule": ["and", ["=", ["fact", "disks", 0, "mount"], "/"], ["not", ["=", "name", "master1.puppet.vm"]]],
         "classes": {"puppet_enterprise::profile::agent": {"server_list": ["master1.puppet.vm:8140"]},
                     "pe_repo": {"limit": 9007199254740993, "ratio": 1.10}},
         "variables": {"origin": "master1.puppet.vm"}},
        {"name": "Web edge", "id": "1b500c43-5065-469b-91fc-37ed0e500e81", "environment": "production", "environment_trumps": false,
         "parent": "fc500c43-5065-469b-91fc-37ed0e500e81", "classes": {}, "variables": {},
         "config_data": {"ntp": {"servers": ["a", "b"]}}}
        ]"#,
    )
    .unwrap();
    groups.extend(more.as_array().unwrap().clone());
    groups
}

pub(crate) fn tree(groups: Vec<Value>) -> Tree {
    Tree::from_value(Value::Array(groups)).unwrap()
}

pub(crate) fn map() -> CertnameMap {
    CertnameMap::one(name(ACTIVE), name(PASSIVE))
}

pub(crate) fn policy() -> ImportPolicy {
    ImportPolicy::with_map(map())
}

/// master1's export, as it is now.
pub(crate) fn export() -> Envelope {
    Envelope::new(name(ACTIVE), at(0), tree(edited()))
}

/// master2's classifier, which knows all the classes that master1's groups use.
pub(crate) fn passive() -> ClassifierDouble {
    let double =
        ClassifierDouble::start(Options::default().allow(PASSIVE).groups(captured_passive()));
    double.deploy_classes_of(&edited());
    double
}

/// A client with master2's certificate, and little patience.
pub(crate) fn client_of(double: &ClassifierDouble) -> ClassifierClient {
    client_as(double, PASSIVE)
}

pub(crate) fn client_as(double: &ClassifierDouble, cn: &str) -> ClassifierClient {
    let pem = double.client(cn);
    let credentials = Credentials::Certificate {
        certificate_pem: pem.certificate_pem.into_bytes(),
        key_pem: pem.key_pem.into_bytes(),
    };
    ClassifierClient::new(&options(double, credentials)).unwrap()
}

pub(crate) fn options(double: &ClassifierDouble, credentials: Credentials) -> ClientOptions {
    ClientOptions::new(double.url(), double.ca_pem(), credentials)
        .connect_timeout(Duration::from_secs(10))
        .request_timeout(Duration::from_secs(10))
        .import_timeout(Duration::from_secs(10))
}

/// What master2's classifier holds right now, asked over its API.
pub(crate) async fn target(client: &ClassifierClient) -> Target {
    Target {
        certname: name(PASSIVE),
        tree: client.groups_answer().await.unwrap().checked().unwrap(),
        seen: at(60),
    }
}

/// What the double really holds, behind the API's back.
pub(crate) fn truth(double: &ClassifierDouble) -> Value {
    json!(double.groups())
}
