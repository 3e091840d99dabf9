//! The client against a classifier that answers, refuses, lies and hangs.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::{PASSIVE, captured_passive, client_as, client_of, options, passive};
use pefo_core::ErrorKind;
use pefo_nc::client::{ClassifierClient, Credentials, ServerError};
use pefo_nc::{Group, GroupId, TreeDigest};
use pefo_testkit::ca::{CaOptions, TestCa};
use pefo_testkit::classifier::{
    ClassifierDouble, Fault, Injection, Options, Pki, Route, ServerName, Token,
};
use serde_json::{Value, json};

fn with_token(double: &ClassifierDouble, token: &str) -> ClassifierClient {
    ClassifierClient::new(&options(double, Credentials::Token(token.to_owned()))).unwrap()
}

fn server_kind(error: &pefo_core::Error) -> Option<String> {
    let source = std::error::Error::source(error)?;
    source
        .downcast_ref::<ServerError>()
        .map(|server| server.kind.clone())
}

#[tokio::test]
async fn every_endpoint_answers_in_its_documented_shape() {
    let double = passive();
    let client = client_of(&double);
    let tree = client.groups().await.unwrap();
    assert_eq!(tree.len(), 12);
    let console = tree.by_name("PE Console", "production").unwrap();
    assert_eq!(client.group(console.id()).await.unwrap(), *console);
    client.update_classes(None).await.unwrap();
    client.update_classes(Some("production")).await.unwrap();
    assert!(
        client
            .last_class_update()
            .await
            .unwrap()
            .unwrap()
            .starts_with("20")
    );
    let classes = client.classes().await.unwrap();
    let agent = classes
        .iter()
        .find(|class| class.name == "puppet_enterprise::profile::agent")
        .unwrap();
    assert!(
        agent
            .parameters
            .as_ref()
            .unwrap()
            .contains_key("server_list")
    );
    let environments: Vec<String> = client
        .environments()
        .await
        .unwrap()
        .into_iter()
        .map(|e| e.name)
        .collect();
    assert_eq!(environments, ["agent-specified", "production"]);
    client.validate_group(console).await.unwrap();
    client.import_hierarchy(&tree).await.unwrap();
    assert_eq!(double.installed(), 1);

    let requests = double.requests();
    assert!(
        requests
            .iter()
            .all(|request| request.cn.as_deref() == Some(PASSIVE))
    );
    assert!(requests.iter().all(|request| {
        request
            .query
            .as_deref()
            .is_none_or(|query| !query.contains("inherited"))
    }));
    assert!(
        requests
            .iter()
            .filter(|request| request.method == "POST")
            .all(|request| request.content_length.is_some())
    );
    assert!(
        requests
            .iter()
            .any(|request| request.query.as_deref() == Some("environment=production"))
    );
}

#[tokio::test]
async fn puppets_own_kind_of_ca_and_rsa_keys_serve_both_sides() {
    let directory = tempfile::tempdir().unwrap();
    let mut ca = TestCa::create(
        &directory.path().join("ca"),
        CaOptions::default().server("master2.test"),
    )
    .unwrap();
    ca.sign("spare.test").unwrap();
    let (server, spare) = (
        ca.credentials("master2.test").unwrap(),
        ca.credentials("spare.test").unwrap(),
    );
    assert!(spare.key_pem.starts_with("-----BEGIN RSA PRIVATE KEY-----"));
    let pki = Pki::given(&*server.ca_pem, &*server.cert_pem, &*server.key_pem);
    let double = ClassifierDouble::start(Options::default().allow("spare.test").pki(pki));
    let credentials = Credentials::Certificate {
        certificate_pem: spare.cert_pem.into_bytes(),
        key_pem: spare.key_pem.into_bytes(),
    };
    let client = ClassifierClient::new(&options(&double, credentials)).unwrap();
    assert_eq!(client.groups().await.unwrap().len(), 1);
    assert_eq!(double.requests()[0].cn.as_deref(), Some("spare.test"));
}

#[tokio::test]
async fn who_is_not_let_in_is_told_what_to_do() {
    let double = ClassifierDouble::start(
        Options::default()
            .token("good", Token::Valid)
            .token("old", Token::Expired)
            .token("taken", Token::Revoked)
            .token("weak", Token::Powerless),
    );
    assert_eq!(with_token(&double, "good").groups().await.unwrap().len(), 1);
    for (client, kind, hint) in [
        (
            client_as(&double, "stranger.lab"),
            "puppetlabs.rbac/user-unauthenticated",
            "allow-list",
        ),
        (
            with_token(&double, "old"),
            "puppetlabs.rbac/token-expired",
            "new RBAC token",
        ),
        (
            with_token(&double, "taken"),
            "puppetlabs.rbac/token-revoked",
            "new RBAC token",
        ),
        (
            with_token(&double, "made up"),
            "puppetlabs.rbac/invalid-token",
            "new RBAC token",
        ),
        (
            with_token(&double, "weak"),
            "permission-denied",
            "right to view and edit",
        ),
    ] {
        let error = client.groups().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
        assert_eq!(server_kind(&error).as_deref(), Some(kind));
        assert!(error.hint_text().unwrap().contains(hint), "{error:?}");
        assert!(!error.is_retryable());
    }
}

#[tokio::test]
async fn a_captured_401_reads_as_one() {
    let captured: Value = serde_json::from_str(include_str!(
        "fixtures/ncio_error_401_user_unauthenticated.json"
    ))
    .unwrap();
    let double = passive();
    double.set_fault(Fault::Unauthenticated);
    let error = client_of(&double).groups().await.unwrap_err();
    assert_eq!(server_kind(&error).as_deref(), captured["kind"].as_str());
    insta::assert_snapshot!(error, @"/classifier-api/v1/groups answered with status 401: puppetlabs.rbac/user-unauthenticated: Route requires authentication");
}

#[tokio::test]
async fn answers_that_are_no_groups_are_never_taken_for_groups() {
    for (fault, kind, says) in [
        (
            Fault::Html,
            ErrorKind::Protocol,
            "a page of HTML (\"<!DOCTYPE html>",
        ),
        (
            Fault::ErrorWithSuccess,
            ErrorKind::Protocol,
            "success and an error report: database-corruption",
        ),
        (
            Fault::ServerError,
            ErrorKind::Protocol,
            "status 500: application-error",
        ),
        (
            Fault::Redirect,
            ErrorKind::Protocol,
            "a redirect to https://console.example.com/auth/login, which is not followed",
        ),
        (Fault::Truncated, ErrorKind::Protocol, "was cut short"),
        (
            Fault::DisconnectBeforeCommit,
            ErrorKind::Unknown,
            "GET /classifier-api/v1/groups",
        ),
        (
            Fault::FilteredView,
            ErrorKind::Refused,
            "the root group (00000000-0000-4000-8000-000000000000) is missing",
        ),
        (Fault::PermissionDenied, ErrorKind::Denied, "status 403"),
    ] {
        let double = passive();
        double.inject(Injection::new(fault.clone()).on(Route::Groups));
        let error = client_of(&double).groups().await.unwrap_err();
        assert_eq!(error.kind(), kind, "{fault:?}: {error}");
        assert!(error.to_string().contains(says), "{fault:?}: {error}");
    }
}

#[tokio::test]
async fn an_error_report_with_success_is_named_on_other_endpoints_too() {
    let double = passive();
    double.set_fault(Fault::ErrorWithSuccess);
    let error = client_of(&double).classes().await.unwrap_err();
    assert!(error.to_string().contains("database-corruption"), "{error}");
}

#[tokio::test]
async fn an_answer_that_never_ends_is_given_up_in_time() {
    let double = passive();
    double.set_fault(Fault::Hang);
    let pem = double.client(PASSIVE);
    let credentials = Credentials::Certificate {
        certificate_pem: pem.certificate_pem.into(),
        key_pem: pem.key_pem.into(),
    };
    let options = options(&double, credentials).request_timeout(Duration::from_millis(500));
    let error = ClassifierClient::new(&options)
        .unwrap()
        .groups()
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unknown, "{error}");
    assert!(
        error.to_string().contains("in time") && error.is_retryable(),
        "{error}"
    );
}

#[tokio::test]
async fn nobody_there_is_unreachable_and_may_be_tried_again() {
    let double = passive();
    let client = client_of(&double);
    drop(double);
    for error in [
        client.groups().await.unwrap_err(),
        client.update_classes(None).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}");
        assert!(error.is_retryable());
    }
}

/// Stands before the double and hangs up on the first `dropped` connections; gives its port and how many came.
async fn doorkeeper(double: &ClassifierDouble, dropped: usize) -> (u16, Arc<AtomicUsize>) {
    let door = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (port, behind) = (door.local_addr().unwrap().port(), double.port());
    let came = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&came);
    tokio::spawn(async move {
        while let Ok((mut client, _)) = door.accept().await {
            if seen.fetch_add(1, Ordering::SeqCst) < dropped {
                continue;
            }
            let mut server = tokio::net::TcpStream::connect(("127.0.0.1", behind))
                .await
                .unwrap();
            tokio::spawn(
                async move { tokio::io::copy_bidirectional(&mut client, &mut server).await },
            );
        }
    });
    (port, came)
}

#[tokio::test]
async fn a_connection_that_was_not_made_is_tried_again_and_nothing_else_is() {
    let double = passive();
    let pem = double.client(PASSIVE);
    let credentials = Credentials::Certificate {
        certificate_pem: pem.certificate_pem.into(),
        key_pem: pem.key_pem.into(),
    };
    let (port, came) = doorkeeper(&double, 1).await;
    let mut options = options(&double, credentials).connect_attempts(2);
    options.url = format!("https://localhost:{port}");
    let client = ClassifierClient::new(&options).unwrap();
    let tree = client.groups().await.unwrap();
    client.import_hierarchy(&tree).await.unwrap();
    assert_eq!((came.load(Ordering::SeqCst), double.installed()), (3, 1));

    // What was sent is not sent again, whatever came back.
    for fault in [Fault::DisconnectBeforeCommit, Fault::ServerError] {
        double.inject(Injection::new(fault).on(Route::Import).times(1));
        client.import_hierarchy(&tree).await.unwrap_err();
    }
    assert_eq!((came.load(Ordering::SeqCst), double.installed()), (5, 1));

    let (port, came) = doorkeeper(&double, 9).await;
    options.url = format!("https://localhost:{port}");
    let client = ClassifierClient::new(&options.connect_attempts(2)).unwrap();
    let error = client.groups().await.unwrap_err();
    assert_eq!(
        (error.kind(), came.load(Ordering::SeqCst)),
        (ErrorKind::Unreachable, 2)
    );
}

#[tokio::test]
async fn equal_bytes_say_that_nothing_changed_and_other_bytes_may_mean_the_same() {
    let double = passive();
    let client = client_of(&double);
    let (first, second) = (
        client.groups_answer().await.unwrap(),
        client.groups_answer().await.unwrap(),
    );
    assert_eq!(first.digest(), second.digest());
    double.set_behaviour(|behaviour| behaviour.reordered = true);
    let third = client.groups_answer().await.unwrap();
    assert_ne!(first.digest(), third.digest());
    assert_eq!(
        TreeDigest::of(&first.tree().unwrap()),
        TreeDigest::of(&third.tree().unwrap())
    );
}

#[tokio::test]
async fn a_server_that_never_shakes_hands_is_unreachable() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut options = options(&passive(), Credentials::Token("t".into()))
        .connect_timeout(Duration::from_millis(300));
    options.url = format!("https://localhost:{}", silent.local_addr().unwrap().port());
    let error = ClassifierClient::new(&options)
        .unwrap()
        .groups()
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error:?}");
}

#[tokio::test]
async fn a_server_certificate_that_does_not_fit_is_explained() {
    for (name, says) in [
        (
            ServerName::WithoutAlternativeNames,
            "has no DNS alternative names (SAN); its common name alone is not accepted",
        ),
        (ServerName::Other, "is for other names"),
    ] {
        let double = ClassifierDouble::start(Options::default().allow(PASSIVE).server_name(name));
        let error = client_of(&double).groups().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{error:?}");
        assert!(error.to_string().contains(says), "{error}");
        assert!(error.hint_text().unwrap().contains("dns_alt_names"));
        assert!(double.requests().is_empty());
    }
}

#[tokio::test]
async fn only_the_given_ca_is_trusted_on_both_sides() {
    let (double, other) = (passive(), passive());
    let pem = double.client(PASSIVE);
    let right = Credentials::Certificate {
        certificate_pem: pem.certificate_pem.into(),
        key_pem: pem.key_pem.into(),
    };
    let mut trusting_another = options(&double, right);
    trusting_another.ca_pem = other.ca_pem().into();
    let error = ClassifierClient::new(&trusting_another)
        .unwrap()
        .groups()
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("is not signed by the configured CA"),
        "{error}"
    );

    let pem = other.client(PASSIVE);
    let foreign = Credentials::Certificate {
        certificate_pem: pem.certificate_pem.into(),
        key_pem: pem.key_pem.into(),
    };
    let error = ClassifierClient::new(&options(&double, foreign))
        .unwrap()
        .groups()
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");
    assert!(
        error.to_string().contains("refused our client certificate"),
        "{error}"
    );
    assert!(double.requests().is_empty());
}

#[tokio::test]
async fn what_the_classifier_would_not_take_is_invalid_with_its_own_words() {
    let double = passive();
    let client = client_of(&double);
    let mut group = captured_passive()
        .into_iter()
        .find(|group| group["name"] == "PE Console")
        .unwrap();
    group["classes"]["made::up"] = json!({});
    let error = client
        .validate_group(&Group::from_value(group).unwrap())
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind(), server_kind(&error).as_deref()),
        (ErrorKind::Invalid, Some("missing-referents"))
    );
    let error = client.group(GroupId::from_u128(1)).await.unwrap_err();
    assert_eq!(
        (error.kind(), server_kind(&error).as_deref()),
        (ErrorKind::NotFound, Some("not-found"))
    );
}
