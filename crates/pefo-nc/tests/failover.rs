//! The masters' own node groups, created and corrected over the API.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod common;

use common::{PASSIVE, client_of, passive};
use pefo_core::ErrorKind;
use pefo_nc::client::ClassifierClient;
use pefo_nc::failover::{
    ACTIVE_ID, FailoverOptions, FailoverPlan, GroupChange, PARENT_ID, PASSIVE_ID, ensure_groups,
};
use pefo_nc::{Group, GroupId};
use pefo_testkit::classifier::{ClassifierDouble, Fault, Injection, Route};
use serde_json::{Value, json};

async fn ensured(client: &ClassifierClient) -> pefo_core::Result<FailoverPlan> {
    ensure_groups(client, &FailoverOptions::default()).await
}

fn held(double: &ClassifierDouble, id: GroupId) -> Value {
    let groups = double.groups();
    let mut held = groups
        .into_iter()
        .filter(|group| group["id"] == id.to_string());
    held.next().unwrap()
}

/// All groups but the three.
fn others(double: &ClassifierDouble) -> Vec<Value> {
    let ours = [PARENT_ID, ACTIVE_ID, PASSIVE_ID].map(|id| json!(id.to_string()));
    let groups = double.groups().into_iter();
    groups
        .filter(|group| !ours.contains(&group["id"]))
        .collect()
}

fn writes(double: &ClassifierDouble) -> usize {
    let requests = double.requests();
    requests
        .iter()
        .filter(|request| request.method == "PUT")
        .count()
}

#[tokio::test]
async fn the_groups_are_created_once_and_nothing_else_is_touched() {
    let double = passive();
    let before = others(&double);
    let client = client_of(&double);
    let plan = ensured(&client).await.unwrap();
    let created = plan
        .groups
        .iter()
        .all(|group| group.change == GroupChange::Create);
    assert!(created, "{plan}");
    assert_eq!(
        (writes(&double), double.count("POST", "/v1/update-classes")),
        (3, 1)
    );
    let tree = client.groups().await.unwrap();
    assert_eq!(tree.get(PARENT_ID).unwrap().parent(), GroupId::ROOT);
    for child in [ACTIVE_ID, PASSIVE_ID] {
        assert_eq!(tree.get(child).unwrap().parent(), PARENT_ID);
    }
    let plan = ensured(&client).await.unwrap();
    assert!(plan.is_empty(), "{plan}");
    assert_eq!(
        (writes(&double), double.count("POST", "/v1/update-classes")),
        (3, 2)
    );
    assert_eq!(others(&double), before);
    let who = double.requests();
    assert!(
        who.iter()
            .all(|request| request.cn.as_deref() == Some(PASSIVE))
    );
}

#[tokio::test]
async fn what_differs_is_corrected_and_what_is_the_operators_stays() {
    let double = passive();
    let client = client_of(&double);
    ensured(&client).await.unwrap();
    let mut groups = double.groups();
    for group in &mut groups {
        if group["id"] == ACTIVE_ID.to_string() {
            group["rule"] = json!(["=", "name", "master1.puppet.vm"]);
            group["parent"] = json!(GroupId::ROOT.to_string());
            group["classes"] = json!({"puppet_enterprise": {}});
            group["variables"] = json!({"who": "operator"});
        }
    }
    double.set_groups(groups);
    let plan = ensured(&client).await.unwrap();
    let corrected = GroupChange::Correct(vec!["parent", "rule"]);
    assert_eq!(plan.groups[1].change, corrected);
    assert_eq!(writes(&double), 4, "this one only");
    let active = held(&double, ACTIVE_ID);
    assert_eq!(
        active["rule"],
        json!(["=", ["fact", "pe_failover_mode"], "active"])
    );
    assert_eq!(active["parent"], PARENT_ID.to_string());
    assert_eq!(active["classes"], json!({"puppet_enterprise": {}}));
    assert_eq!(active["variables"], json!({"who": "operator"}));
    let clearing = FailoverOptions::default().clear_classes(true);
    ensure_groups(&client, &clearing).await.unwrap();
    assert_eq!(held(&double, ACTIVE_ID)["classes"], json!({}));
}

#[tokio::test]
async fn a_lost_answer_is_looked_after_and_what_did_not_arrive_is_told() {
    let double = passive();
    let client = client_of(&double);
    let lost = Injection::new(Fault::DisconnectAfterCommit).on(Route::Group);
    double.inject(lost.times(1));
    ensured(&client).await.unwrap();
    assert!(ensured(&client).await.unwrap().is_empty());

    let double = passive();
    let client = client_of(&double);
    let lost = Injection::new(Fault::DisconnectBeforeCommit).on(Route::Group);
    double.inject(lost.after(2).times(1));
    let error = ensured(&client).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
    assert!(error.is_retryable());
    assert!(error.to_string().contains("pe_failover passive"), "{error}");
    assert_eq!(
        ensured(&client).await.unwrap().changes().count(),
        1,
        "the rest"
    );
}

#[tokio::test]
async fn what_the_classifier_refuses_ends_it_and_the_next_run_does_the_rest() {
    let double = passive();
    let client = client_of(&double);
    double.inject(
        Injection::new(Fault::PermissionDenied)
            .on(Route::Group)
            .after(1),
    );
    let error = ensured(&client).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(
        error
            .to_string()
            .contains("write group \"pe_failover active\""),
        "{error}"
    );
    double.clear_faults();
    double.set_fault(Fault::UnexpectedResponse);
    let error = ensured(&client).await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("the groups are as they should be"),
        "{error}"
    );
    double.clear_faults();
    assert!(ensured(&client).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_put_says_whether_it_changed_anything_and_yields_to_who_was_faster() {
    let double = passive();
    let client = client_of(&double);
    let id = GroupId::from_u128(7);
    let group = |rule: Value, serial: Option<u64>| {
        let mut group = json!({
            "name": "Mine", "id": id.to_string(), "parent": GroupId::ROOT.to_string(),
            "environment": "production", "rule": rule, "classes": {}
        });
        if let Some(serial) = serial {
            group["serial_number"] = json!(serial);
        }
        Group::from_value(group).unwrap()
    };
    let one = json!(["=", "name", "a.lab"]);
    assert!(
        client.put_group(&group(one.clone(), None)).await.unwrap(),
        "created"
    );
    assert!(
        !client.put_group(&group(one, None)).await.unwrap(),
        "identical"
    );
    let other = json!(["=", "name", "b.lab"]);
    assert!(
        client.put_group(&group(other, Some(1))).await.unwrap(),
        "overwritten"
    );
    let third = json!(["=", "name", "c.lab"]);
    let error = client.put_group(&group(third, Some(1))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.is_retryable(), "{error:?}");
    assert!(
        error.to_string().contains("status 409: conflict"),
        "{error}"
    );
    let nowhere = Group::from_value(json!({
        "name": "Lost", "id": GroupId::from_u128(8).to_string(), "classes": {},
        "parent": GroupId::from_u128(9).to_string(), "environment": "production",
    }));
    let error = client.put_group(&nowhere.unwrap()).await.unwrap_err();
    assert!(error.to_string().contains("missing-parent"), "{error}");
}
