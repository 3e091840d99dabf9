//! Each fault, as a client meets it.

use std::time::Duration;

use pefo_testkit::classifier::{ClassifierDouble, Fault, Injection, Route};
use reqwest::Method;
use serde_json::{Value, json};

use crate::plain::{Plain, ROOT, captured, holding};

fn faulty(fault: Fault) -> (ClassifierDouble, Plain) {
    let double = holding(captured());
    double.set_fault(fault);
    let plain = Plain::of(&double);
    (double, plain)
}

#[tokio::test]
async fn refusals_on_demand_have_their_documented_shape() {
    for (fault, status, kind, details) in [
        (
            Fault::Unauthenticated,
            401,
            "puppetlabs.rbac/user-unauthenticated",
            &[][..],
        ),
        (Fault::PermissionDenied, 403, "permission-denied", &[]),
        (Fault::ServerError, 500, "application-error", &["trace"]),
        (
            Fault::DatabaseCorruption,
            500,
            "database-corruption",
            &["retrieved", "schema", "error"],
        ),
        (
            Fault::ErrorWithSuccess,
            200,
            "database-corruption",
            &["retrieved", "schema", "error"],
        ),
    ] {
        let (double, plain) = faulty(fault.clone());
        let answer = plain.post("/import-hierarchy", &json!(captured())).await;
        assert_eq!(
            (answer.status, &*answer.kind()),
            (status, kind),
            "{fault:?}"
        );
        let told = &answer.json()["details"];
        assert!(
            details.iter().all(|key| told.get(key).is_some()),
            "{fault:?}: {told}"
        );
        assert_eq!(double.installed(), 0, "{fault:?}");
    }
}

#[tokio::test]
async fn pages_and_redirects_are_what_a_console_would_send() {
    let (_double, plain) = faulty(Fault::Html);
    let page = plain.get("/groups").await;
    assert!(
        page.status == 200 && page.text.starts_with("<!DOCTYPE html>"),
        "{page:?}"
    );
    let (_double, plain) = faulty(Fault::Redirect);
    let redirect = plain.get("/groups").await;
    assert_eq!((redirect.status, redirect.text.is_empty()), (302, true));
    assert!(redirect.location.unwrap().ends_with("/auth/login"));
}

#[tokio::test]
async fn an_answer_may_end_in_the_middle_or_not_at_all() {
    let (_double, plain) = faulty(Fault::Truncated);
    let response = plain.request(Method::GET, "/groups").send().await.unwrap();
    assert!(response.content_length().unwrap() > 1_000);
    assert!(!response.text().await.unwrap_err().is_timeout());

    let (_double, plain) = faulty(Fault::Hang);
    let request = plain
        .request(Method::GET, "/groups")
        .timeout(Duration::from_millis(300));
    let response = request.send().await.unwrap();
    assert_eq!(
        (response.status().as_u16(), response.content_length()),
        (200, None)
    );
    assert!(response.text().await.unwrap_err().is_timeout());
}

#[tokio::test]
async fn a_connection_that_ends_does_not_say_whether_it_was_done() {
    for (fault, installed) in [
        (Fault::DisconnectBeforeCommit, 0),
        (Fault::DisconnectAfterCommit, 1),
    ] {
        let (double, plain) = faulty(fault.clone());
        let request = plain
            .request(Method::POST, "/import-hierarchy")
            .json(&captured());
        assert!(request.send().await.is_err(), "{fault:?}");
        assert_eq!(double.installed(), installed, "{fault:?}");
    }
}

#[tokio::test]
async fn a_slow_import_is_done_although_nobody_waits_for_it() {
    let (double, plain) = faulty(Fault::Slow(Duration::from_millis(400)));
    let request = plain
        .request(Method::POST, "/import-hierarchy")
        .json(&captured());
    let impatient = request.timeout(Duration::from_millis(100)).send().await;
    assert!(impatient.unwrap_err().is_timeout());
    assert_eq!(double.installed(), 0);
    let limit = Duration::from_secs(60);
    pefo_testkit::wait::until("the import to be done", limit, || double.installed() == 1);
}

#[tokio::test]
async fn an_import_may_lie_about_what_it_did() {
    for (fault, status, groups) in [
        (Fault::ImportIgnored, 204, 1),
        (Fault::ImportDropsGroup, 204, 11),
        (Fault::ImportPartly, 500, 6),
    ] {
        let double = holding(vec![]);
        double.set_fault(fault.clone());
        let answer = Plain::of(&double)
            .post("/import-hierarchy", &json!(captured()))
            .await;
        assert_eq!(
            (answer.status, double.groups().len()),
            (status, groups),
            "{fault:?}"
        );
    }
}

#[tokio::test]
async fn a_user_with_fewer_rights_sees_fewer_groups() {
    let (double, plain) = faulty(Fault::FilteredView);
    let shown = plain.get("/groups").await.json();
    let shown = shown.as_array().unwrap();
    assert!(!shown.is_empty() && shown.iter().all(|group| group["parent"] != ROOT));
    double.clear_faults();
    double.show_only(["af6e6389-5e36-49d5-a321-25c58e56d1f6"]);
    let names: Vec<Value> = crate::plain::array(plain.get("/groups").await.json())
        .into_iter()
        .map(|group| group["name"].clone())
        .collect();
    assert_eq!(
        json!(names),
        json!(["Agent-specified environment", "Production environment"])
    );
}

#[tokio::test]
async fn somebody_may_edit_a_group_right_after_it_was_looked_at() {
    let double = holding(captured());
    double.inject(Injection::new(Fault::ChangedAfterwards).times(1));
    let plain = Plain::of(&double);
    let first = plain.get("/groups").await.json();
    let second = plain.get("/groups").await.json();
    assert_ne!(first, second);
    assert_eq!(plain.get("/groups").await.json(), second);
}

#[tokio::test]
async fn an_injection_strikes_where_and_as_often_as_it_says() {
    let double = holding(captured());
    double.inject(
        Injection::new(Fault::ServerError)
            .on(Route::Group)
            .after(1)
            .times(2),
    );
    let plain = Plain::of(&double);
    let root = format!("/groups/{ROOT}");
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(plain.get(&root).await.status);
        assert_eq!(plain.get("/groups").await.status, 200);
    }
    assert_eq!(statuses, [200, 500, 500, 200]);
}
