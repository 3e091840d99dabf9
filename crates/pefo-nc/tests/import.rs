//! The import gate against every fault: the target ends whole, old or new, and the report says which.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on should stop"
)]

mod common;

use std::collections::BTreeSet;
use std::time::Duration;

use common::{
    PASSIVE, captured_passive, client_of, export, name, options, passive, policy, target, tree,
    truth,
};
use pefo_core::{Error, ErrorKind};
use pefo_nc::client::{ClassifierClient, Credentials};
use pefo_nc::import::{
    self, ApplyOptions, CLASS_UPDATE_FAILED, Holds, ImportPlan, ImportReport, MISSING_CLASSES,
    MISSING_ENVIRONMENTS, TARGET_BROKEN, TARGET_CHANGED, Target, apply, plan, plan_rollback,
};
use pefo_nc::{Acceptances, Envelope, Tree, canonical};
use pefo_testkit::classifier::{ClassifierDouble, Fault, Injection, Route};
use pefo_testkit::wait;
use serde_json::{Value, json};

fn patience() -> ApplyOptions {
    ApplyOptions::default()
        .settle(Duration::from_millis(900))
        .poll(Duration::from_millis(100))
}

/// A client that gives an import up after half a second, and a look after a whole one.
fn impatient(double: &ClassifierDouble) -> ClassifierClient {
    let pem = double.client(PASSIVE);
    let credentials = Credentials::Certificate {
        certificate_pem: pem.certificate_pem.into(),
        key_pem: pem.key_pem.into(),
    };
    let options = options(double, credentials)
        .request_timeout(Duration::from_secs(1))
        .import_timeout(Duration::from_millis(500));
    ClassifierClient::new(&options).unwrap()
}

async fn planned(client: &ClassifierClient) -> ImportPlan {
    let plan = plan(&export(), target(client).await, &policy()).unwrap();
    assert!(plan.needs_import());
    plan
}

async fn carried_out(
    client: &ClassifierClient,
    plan: &ImportPlan,
    kept: &mut Vec<Envelope>,
) -> ImportReport {
    apply(client, plan, &patience(), &mut |copy: Option<&Envelope>| {
        kept.extend(copy.cloned());
        Ok(())
    })
    .await
}

/// What the double really holds, in the report's words.
fn really(double: &ClassifierDouble, plan: &ImportPlan) -> Holds {
    match Tree::from_value(truth(double)) {
        Ok(tree) if canonical::equal(&tree, plan.wanted()) => Holds::New,
        Ok(tree) if canonical::equal(&tree, &plan.rollback().unwrap().tree) => Holds::Old,
        _ => Holds::Other,
    }
}

fn error(report: &ImportReport) -> &Error {
    report.error.as_ref().expect("an error in the report")
}

#[tokio::test]
async fn an_import_arrives_whole_rewritten_and_is_done_once() {
    let double = passive();
    double.set_behaviour(|behaviour| behaviour.reordered = true);
    let client = client_of(&double);
    let plan = planned(&client).await;
    let mut kept = Vec::new();
    let report = carried_out(&client, &plan, &mut kept)
        .await
        .into_result()
        .unwrap();
    assert_eq!(
        (
            report.holds,
            report.posted,
            report.rolled_back,
            report.in_doubt
        ),
        (Holds::New, true, false, false)
    );
    assert_eq!(really(&double, &plan), Holds::New);
    assert_eq!(kept, [plan.rollback().unwrap().clone()]);
    assert!(canonical::equal(&kept[0].tree, &tree(captured_passive())));

    let web = double
        .groups()
        .into_iter()
        .find(|group| group["name"] == "Web")
        .unwrap();
    assert_eq!(web["rule"][2], json!(["not", ["=", "name", PASSIVE]]));
    assert_eq!(web["rule"][1][1], json!(["fact", "disks", 0, "mount"]));
    assert_eq!(
        web["classes"]["puppet_enterprise::profile::agent"]["server_list"],
        json!(["master2.puppet.vm:8140"])
    );
    assert_eq!(
        web["classes"]["pe_repo"].to_string(),
        r#"{"limit":9007199254740993,"ratio":1.10}"#
    );
    assert_eq!(plan.residuals().len(), 1);

    // Again: nothing to do, and nothing is asked of the server at all.
    let again = plan_again(&client).await;
    assert!(!again.needs_import());
    let before = double.requests().len();
    let report = carried_out(&client, &again, &mut kept).await;
    assert_eq!(
        (report.holds, report.posted, double.requests().len()),
        (Holds::New, false, before)
    );
    assert_eq!((kept.len(), double.installed()), (1, 1));
}

async fn plan_again(client: &ClassifierClient) -> ImportPlan {
    plan(&export(), target(client).await, &policy()).unwrap()
}

#[tokio::test]
async fn the_order_is_classes_then_a_second_look_then_the_copy_then_the_post_then_a_third_look() {
    let double = passive();
    let client = client_of(&double);
    let plan = planned(&client).await;
    let mut seen_when_kept = 0;
    let report = apply(&client, &plan, &patience(), &mut |_: Option<&Envelope>| {
        seen_when_kept = double.requests().len();
        Ok(())
    })
    .await;
    assert_eq!(report.holds, Holds::New);
    let order: Vec<String> = double
        .requests()
        .iter()
        .map(|request| format!("{} {}", request.method, request.path))
        .collect();
    assert_eq!(
        order,
        [
            "GET /v1/groups",
            "POST /v1/update-classes",
            "GET /v1/classes",
            "GET /v1/environments",
            "GET /v1/groups",
            "POST /v1/import-hierarchy",
            "GET /v1/groups"
        ]
    );
    assert_eq!(seen_when_kept, 5);
}

/// One fault, and how it must end.
struct Case {
    fault: Injection,
    holds: Holds,
    kind: Option<ErrorKind>,
    rolled_back: bool,
}

fn case(
    fault: Injection,
    holds: Holds,
    kind: impl Into<Option<ErrorKind>>,
    rolled_back: bool,
) -> Case {
    Case {
        fault,
        holds,
        kind: kind.into(),
        rolled_back,
    }
}

#[tokio::test]
async fn every_fault_ends_with_a_whole_target_and_a_true_report() {
    let on = |fault: Fault, route: Route| Injection::new(fault).on(route);
    let slow = |millis| Fault::Slow(Duration::from_millis(millis));
    let cases = [
        // The server says no, or something that is no answer: nothing happened.
        case(
            on(Fault::Unauthenticated, Route::Any),
            Holds::Old,
            ErrorKind::Denied,
            false,
        ),
        case(
            on(Fault::Unauthenticated, Route::Import),
            Holds::Old,
            ErrorKind::Denied,
            false,
        ),
        case(
            on(Fault::PermissionDenied, Route::Import),
            Holds::Old,
            ErrorKind::Denied,
            false,
        ),
        case(
            on(Fault::ServerError, Route::Import),
            Holds::Old,
            ErrorKind::Protocol,
            false,
        ),
        case(
            on(Fault::Html, Route::Import),
            Holds::Old,
            ErrorKind::Protocol,
            false,
        ),
        case(
            on(Fault::ErrorWithSuccess, Route::Import),
            Holds::Old,
            ErrorKind::Protocol,
            false,
        ),
        case(
            on(Fault::Redirect, Route::Import),
            Holds::Old,
            ErrorKind::Protocol,
            false,
        ),
        case(
            on(Fault::DatabaseCorruption, Route::Import),
            Holds::Old,
            ErrorKind::Protocol,
            false,
        ),
        case(
            on(Fault::UnexpectedResponse, Route::UpdateClasses),
            Holds::Old,
            ErrorKind::Refused,
            false,
        ),
        case(
            on(Fault::Hang, Route::UpdateClasses),
            Holds::Old,
            ErrorKind::Refused,
            false,
        ),
        case(
            on(Fault::ServerError, Route::UpdateClasses),
            Holds::Old,
            ErrorKind::Refused,
            false,
        ),
        case(
            on(Fault::Html, Route::Classes),
            Holds::Old,
            ErrorKind::Protocol,
            false,
        ),
        case(
            on(Fault::ServerError, Route::Environments),
            Holds::Old,
            ErrorKind::Protocol,
            false,
        ),
        // The answer is lost: the target is looked at until it is settled.
        case(on(slow(1000), Route::Import), Holds::New, None, false),
        case(
            on(Fault::DisconnectAfterCommit, Route::Import),
            Holds::New,
            None,
            false,
        ),
        case(
            on(Fault::DisconnectBeforeCommit, Route::Import),
            Holds::Old,
            ErrorKind::Unknown,
            false,
        ),
        // The server says yes and did something else.
        case(
            on(Fault::ImportIgnored, Route::Import),
            Holds::Old,
            ErrorKind::Protocol,
            false,
        ),
        case(
            on(Fault::ImportDropsGroup, Route::Import).times(1),
            Holds::Old,
            ErrorKind::Protocol,
            true,
        ),
        case(
            on(Fault::ImportPartly, Route::Import).times(1),
            Holds::Old,
            ErrorKind::Protocol,
            true,
        ),
        // Reading back fails for a while.
        case(
            on(Fault::Truncated, Route::Groups).after(2).times(3),
            Holds::New,
            None,
            false,
        ),
        case(
            on(Fault::ServerError, Route::Groups).after(2).times(3),
            Holds::New,
            None,
            false,
        ),
        case(
            on(Fault::Hang, Route::Groups).after(2).times(1),
            Holds::New,
            None,
            false,
        ),
        case(
            on(Fault::Html, Route::Groups).after(2).times(1),
            Holds::New,
            None,
            false,
        ),
        case(
            on(Fault::DisconnectBeforeCommit, Route::Groups)
                .after(2)
                .times(1),
            Holds::New,
            None,
            false,
        ),
    ];
    // Of what others see or do beside us there are tests of their own, below.
    let elsewhere = [Fault::FilteredView.name(), Fault::ChangedAfterwards.name()];
    let mut covered: BTreeSet<&str> = cases.iter().map(|case| case.fault.fault().name()).collect();
    covered.extend(elsewhere);
    assert_eq!(covered, Fault::names().collect::<BTreeSet<_>>());
    for Case {
        fault,
        holds,
        kind,
        rolled_back,
    } in cases
    {
        let what = format!("{fault:?}");
        let double = passive();
        let calm = client_of(&double);
        let plan = planned(&calm).await;
        // The plan's own look is the first of those that an injection counts.
        double.inject(match what.contains("route: Groups") {
            true => fault.after(1),
            false => fault,
        });
        let patience = patience().settle(Duration::from_secs(4));
        let report = apply(&impatient(&double), &plan, &patience, &mut |_: Option<
            &Envelope,
        >| Ok(()))
        .await;
        assert_eq!(report.holds, holds, "{what}: {report:?}");
        assert_eq!(really(&double, &plan), holds, "{what}: {report:?}");
        assert_eq!(
            report.error.as_ref().map(Error::kind),
            kind,
            "{what}: {report:?}"
        );
        assert_eq!(report.rolled_back, rolled_back, "{what}: {report:?}");
        assert!(
            double.count("POST", "/v1/import-hierarchy") <= 1 + usize::from(rolled_back),
            "{what}: posted again"
        );
    }
}

#[tokio::test]
async fn an_import_that_lands_after_patience_ended_is_in_doubt_and_the_next_plan_sees_it() {
    let double = passive();
    let client = impatient(&double);
    let plan = planned(&client).await;
    double.inject(Injection::new(Fault::Slow(Duration::from_secs(5))).times(1));
    let report = carried_out(&client, &plan, &mut Vec::new()).await;
    assert_eq!(
        (report.holds, report.in_doubt),
        (Holds::Old, true),
        "{report:?}"
    );
    assert_eq!(error(&report).kind(), ErrorKind::Unknown);
    assert!(!error(&report).is_retryable());
    let message = error(&report)
        .to_string()
        .replace(&double.port().to_string(), "PORT");
    insta::assert_snapshot!(message, @"the target still holds the old tree: POST /classifier-api/v1/import-hierarchy at localhost:PORT: no answer in time");
    wait::until("the late import", Duration::from_secs(20), || {
        really(&double, &plan) == Holds::New
    });
    assert!(!plan_again(&client).await.needs_import());
    assert_eq!(double.count("POST", "/v1/import-hierarchy"), 1);
}

#[tokio::test]
async fn a_change_between_plan_and_import_stops_it() {
    let double = passive();
    let client = client_of(&double);
    double.inject(Injection::new(Fault::ChangedAfterwards).times(1));
    let plan = planned(&client).await;
    let report = carried_out(&client, &plan, &mut Vec::new()).await;
    assert_eq!(error(&report).rule(), Some(TARGET_CHANGED));
    assert!(error(&report).is_retryable());
    assert_eq!(
        (report.holds, report.posted, double.installed()),
        (Holds::Other, false, 0)
    );
    let difference = report.difference.unwrap();
    assert!(!difference.is_empty());
    // Planned anew, it goes through.
    let plan = planned(&client).await;
    assert_eq!(
        carried_out(&client, &plan, &mut Vec::new()).await.holds,
        Holds::New
    );
}

#[tokio::test]
async fn a_view_that_is_suddenly_filtered_stops_it() {
    let double = passive();
    let client = client_of(&double);
    let plan = planned(&client).await;
    double.set_fault(Fault::FilteredView);
    let report = carried_out(&client, &plan, &mut Vec::new()).await;
    assert_eq!(error(&report).rule(), Some(TARGET_CHANGED));
    assert_eq!(double.installed(), 0);
}

#[tokio::test]
async fn somebody_elses_import_of_the_same_tree_is_welcome() {
    let double = passive();
    let client = client_of(&double);
    let plan = planned(&client).await;
    client.import_hierarchy(plan.wanted()).await.unwrap();
    let report = carried_out(&client, &plan, &mut Vec::new())
        .await
        .into_result()
        .unwrap();
    assert_eq!((report.holds, report.posted), (Holds::New, false));
}

#[tokio::test]
async fn nothing_is_sent_before_the_copy_is_kept() {
    let double = passive();
    let client = client_of(&double);
    let plan = planned(&client).await;
    let report = apply(&client, &plan, &patience(), &mut |_: Option<&Envelope>| {
        Err(Error::new(ErrorKind::Io, "disk is full"))
    })
    .await;
    assert_eq!(
        error(&report).to_string(),
        "keep the rollback copy: disk is full"
    );
    assert_eq!(
        (report.holds, report.posted, double.installed()),
        (Holds::Old, false, 0)
    );
}

#[tokio::test]
async fn a_server_that_can_never_import_whole_is_reported_as_it_is() {
    let double = passive();
    let client = client_of(&double);
    let plan = planned(&client).await;
    double.set_fault(Fault::ImportDropsGroup);
    let mut kept = Vec::new();
    let report = carried_out(&client, &plan, &mut kept).await;
    assert_eq!((report.holds, report.rolled_back), (Holds::Other, true));
    assert_eq!(really(&double, &plan), Holds::Other);
    assert!(error(&report).hint_text().unwrap().contains("nc rollback"));

    // Once the server is well again, the kept copy brings the old tree back.
    double.clear_faults();
    let rollback = plan_rollback(&kept[0], target(&client).await, Acceptances::none()).unwrap();
    let report = carried_out(&client, &rollback, &mut Vec::new())
        .await
        .into_result()
        .unwrap();
    assert_eq!(report.holds, Holds::New);
    assert!(canonical::equal(
        &Tree::from_value(truth(&double)).unwrap(),
        &tree(captured_passive())
    ));
}

#[tokio::test]
async fn a_target_left_broken_can_be_repaired_by_name() {
    let double = passive();
    let client = client_of(&double);
    let first = planned(&client).await;
    double.set_fault(Fault::ImportPartly);
    let mut kept = Vec::new();
    let report = carried_out(&client, &first, &mut kept).await;
    assert_eq!(
        (report.holds, report.rolled_back),
        (Holds::Other, true),
        "{report:?}"
    );
    assert!(
        Tree::from_value(truth(&double)).is_err(),
        "the fault should leave no whole tree"
    );

    double.clear_faults();
    let broken = target(&client).await;
    let refused = plan_rollback(&kept[0], broken.clone(), Acceptances::none()).unwrap_err();
    assert_eq!(refused.rule(), Some(TARGET_BROKEN));
    let repair = plan_rollback(&kept[0], broken, Acceptances::of([TARGET_BROKEN])).unwrap();
    assert!(repair.needs_import() && repair.rollback().is_none());
    let report = carried_out(&client, &repair, &mut Vec::new())
        .await
        .into_result()
        .unwrap();
    assert_eq!(report.holds, Holds::New);
    assert_eq!(really(&double, &first), Holds::Old);
}

#[tokio::test]
async fn an_import_can_be_run_by_any_runtime() {
    fn is_send<T: Send>(future: T) -> T {
        future
    }
    let double = passive();
    let client = client_of(&double);
    let plan = planned(&client).await;
    let report = is_send(apply(&client, &plan, &patience(), &mut |_: Option<
        &Envelope,
    >| { Ok(()) }))
    .await;
    assert_eq!(serde_json::to_value(&report).unwrap()["holds"], "new");
}

#[tokio::test]
async fn a_server_that_dies_is_unreachable_before_and_unknown_after_the_import() {
    let double = passive();
    let client = client_of(&double);
    let plan = planned(&client).await;
    drop(double);
    let report = carried_out(&client, &plan, &mut Vec::new()).await;
    assert_eq!(
        (report.holds, error(&report).kind()),
        (Holds::Old, ErrorKind::Unreachable)
    );

    let double = passive();
    let client = client_of(&double);
    let plan = planned(&client).await;
    double.inject(
        Injection::new(Fault::ServerError)
            .on(Route::Groups)
            .after(1),
    );
    let report = carried_out(&client, &plan, &mut Vec::new()).await;
    assert_eq!(
        (report.holds, error(&report).kind()),
        (Holds::Unknown, ErrorKind::Unknown),
        "{report:?}"
    );
    assert!(
        error(&report)
            .to_string()
            .starts_with("what the target holds cannot be told"),
        "{report:?}"
    );
}

#[tokio::test]
async fn missing_classes_and_environments_are_gates_of_their_own() {
    let double = ClassifierDouble::start(
        pefo_testkit::classifier::Options::default()
            .allow(PASSIVE)
            .groups(captured_passive()),
    );
    let client = client_of(&double);
    let plan_accepting = async |rules: &[&str]| {
        plan(
            &export(),
            target(&client).await,
            &policy().accept(Acceptances::of(rules.iter().copied())),
        )
        .unwrap()
    };
    let report = carried_out(&client, &plan_accepting(&[]).await, &mut Vec::new()).await;
    insta::assert_snapshot!(error(&report), @r#"the target's master lacks what the groups use: parameter server_list of class puppet_enterprise::profile::agent (group "Web" in production), parameter limit of class pe_repo (group "Web" in production), parameter ratio of class pe_repo (group "Web" in production) [nc-missing-classes]"#);
    assert_eq!(double.installed(), 0);

    // Accepted by name, it is imported, and the report still says what is missing.
    let plan = plan_accepting(&[MISSING_CLASSES]).await;
    let report = carried_out(&client, &plan, &mut Vec::new())
        .await
        .into_result()
        .unwrap();
    assert_eq!(
        (report.holds, report.missing.len(), report.accepted.len()),
        (Holds::New, 3, 1)
    );
    let web = double
        .groups()
        .into_iter()
        .find(|group| group["name"] == "Web")
        .unwrap();
    assert!(web["deleted"].is_object());

    // What the master gets meanwhile is seen, because the classes are read again first.
    double.set_groups(captured_passive());
    double.deploy_classes_of(&common::edited());
    let report = carried_out(&client, &plan_accepting(&[]).await, &mut Vec::new())
        .await
        .into_result()
        .unwrap();
    assert!(report.missing.is_empty());
}

#[tokio::test]
async fn a_missing_environment_is_refused() {
    let double = passive();
    let client = client_of(&double);
    let mut groups = common::edited();
    groups.last_mut().unwrap()["environment"] = json!("staging");
    let export = Envelope::new(name(common::ACTIVE), common::at(0), tree(groups));
    let plan = plan(&export, target(&client).await, &policy()).unwrap();
    let report = carried_out(&client, &plan, &mut Vec::new()).await;
    assert_eq!(error(&report).rule(), Some(MISSING_ENVIRONMENTS));
}

#[tokio::test]
async fn a_server_strict_about_classes_keeps_the_old_tree() {
    let double = passive();
    double.undeploy_class("pe_repo");
    double.set_behaviour(|behaviour| behaviour.strict_classes = true);
    let client = client_of(&double);
    let accept = Acceptances::of([MISSING_CLASSES]);
    let plan = plan(&export(), target(&client).await, &policy().accept(accept)).unwrap();
    let report = carried_out(&client, &plan, &mut Vec::new()).await;
    assert_eq!(
        (report.holds, error(&report).kind()),
        (Holds::Old, ErrorKind::Invalid),
        "{report:?}"
    );
    assert!(
        error(&report).to_string().contains("missing-referents"),
        "{report:?}"
    );
    assert_eq!(really(&double, &plan), Holds::Old);
}

#[tokio::test]
async fn configuration_data_that_is_off_on_the_target_keeps_the_old_tree() {
    let double = passive();
    double.set_behaviour(|behaviour| behaviour.config_data = false);
    let client = client_of(&double);
    let plan = planned(&client).await;
    let report = carried_out(&client, &plan, &mut Vec::new()).await;
    assert_eq!(
        (report.holds, error(&report).kind()),
        (Holds::Old, ErrorKind::Invalid),
        "{report:?}"
    );
    assert_eq!(really(&double, &plan), Holds::Old);
}

#[tokio::test]
async fn a_class_update_that_fails_may_be_accepted() {
    let double = passive();
    double.set_groups(captured_passive());
    let client = client_of(&double);
    client.update_classes(None).await.unwrap();
    double.inject(Injection::new(Fault::ServerError).on(Route::UpdateClasses));
    let accept = Acceptances::of([CLASS_UPDATE_FAILED]);
    let plan = plan(&export(), target(&client).await, &policy().accept(accept)).unwrap();
    let report = carried_out(&client, &plan, &mut Vec::new())
        .await
        .into_result()
        .unwrap();
    assert_eq!(report.holds, Holds::New);
    assert!(
        report.accepted[0].ends_with("[nc-class-update-failed]"),
        "{:?}",
        report.accepted
    );
}

#[tokio::test]
async fn an_imports_own_bytes_are_what_the_plan_showed() {
    let double = passive();
    let client = client_of(&double);
    let held = target(&client).await;
    let plan = plan(&export(), Target { ..held.clone() }, &policy()).unwrap();
    let reached = plan.diff().apply(&held.tree.unwrap()).unwrap();
    let report = import::apply(&client, &plan, &patience(), &mut |_: Option<&Envelope>| {
        Ok(())
    })
    .await;
    assert_eq!(report.holds, Holds::New);
    let now: Value = truth(&double);
    assert!(canonical::equal(&Tree::from_value(now).unwrap(), &reached));
}
