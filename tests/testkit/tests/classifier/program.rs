//! `pefo-classifier-double`: started as anybody would, and asked as anybody would.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use pefo_testkit::child::Child;
use pefo_testkit::wait;
use reqwest::Method;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::plain::{Plain, array, captured, fixture, read};

const PROGRAM: &str = env!("CARGO_BIN_EXE_pefo-classifier-double");
const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/classifier");
const LIMIT: Duration = Duration::from_secs(60);

/// A running program, and what it said.
struct Running {
    child: Child,
    said: Value,
}

fn start(arguments: &[&str]) -> Running {
    let stdout = tempfile::NamedTempFile::new().unwrap();
    let mut command = Command::new(PROGRAM);
    command
        .args(arguments)
        .stdout(Stdio::from(stdout.reopen().unwrap()));
    let child = Child::spawn(&mut command);
    let line = || {
        let text = std::fs::read_to_string(stdout.path()).unwrap();
        text.ends_with('\n').then_some(text)
    };
    let line = wait::within(LIMIT, line).unwrap();
    Running {
        child,
        said: serde_json::from_str(&line).unwrap(),
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}

fn file(path: &Value) -> String {
    std::fs::read_to_string(text(path)).unwrap()
}

impl Running {
    /// A client with the certificate of `cn`, or with none.
    fn client(&self, cn: Option<&str>) -> Plain {
        let pki = &self.said["pki"];
        let pair = cn.map(|cn| &pki["clients"][cn]);
        let pair = pair.map(|pair| (file(&pair["certificate"]), file(&pair["key"])));
        let identity = pair
            .as_ref()
            .map(|(certificate, key)| (&**certificate, &**key));
        Plain::new(text(&self.said["url"]), &file(&pki["ca"]), identity)
    }
}

#[tokio::test]
async fn it_serves_the_groups_it_was_given_to_whom_it_was_told_until_a_signal() {
    let dir = tempfile::tempdir().unwrap();
    let pki = dir.path().join("new/pki");
    let groups = format!("{FIXTURES}/ncio_groups_default_master1.json");
    let (pki, groups) = (pki.to_str().unwrap(), groups.as_str());
    let mut double = start(&[
        "--groups",
        groups,
        "--allow",
        "a.lab",
        "--allow",
        "b.lab",
        "--pki",
        pki,
        "--token",
        "secret",
        "--token",
        "old=expired",
    ]);
    assert_eq!(
        text(&double.said["url"]),
        format!("https://localhost:{}/classifier-api", double.said["port"])
    );
    for cn in ["a.lab", "b.lab"] {
        let shown = double.client(Some(cn)).get("/groups").await;
        assert_eq!((shown.status, array(shown.json())), (200, captured()));
    }
    let stranger = double.client(None);
    for (token, status) in [("secret", 200), ("old", 401)] {
        let request = stranger
            .request(Method::GET, "/groups")
            .header("X-Authentication", token);
        assert_eq!(read(request).await.status, status);
    }
    for (name, mode) in [
        ("client-a.lab.key", 0o600),
        ("server.key", 0o600),
        ("ca.pem", 0o644),
    ] {
        let permissions: Permissions = Path::new(pki).join(name).metadata().unwrap().permissions();
        assert_eq!(permissions.mode() & 0o777, mode, "{name}");
    }
    double.child.signal(Signal::TERM);
    wait::until("the program to end", LIMIT, || {
        double.child.ended().is_some()
    });
}

#[tokio::test]
async fn faults_switches_and_classes_are_as_on_the_command_line() {
    let dir = tempfile::tempdir().unwrap();
    let groups = format!("{FIXTURES}/ncio_groups_default_master1.json");
    let classes = format!("{FIXTURES}/scooter_classes_4.json");
    let double = start(&[
        "--pki",
        dir.path().to_str().unwrap(),
        "--allow",
        "a.lab",
        "--never-updated",
        "--classes-of-groups",
        &groups,
        "--classes",
        &classes,
        "--fault",
        "server-error:groups:times=1",
        "--fault",
        "slow:import:ms=1:after=1",
        "--behaviour",
        "serial-bump=off",
        "--behaviour",
        "strict-classes=on",
    ]);
    let plain = double.client(Some("a.lab"));
    assert_eq!(plain.get("/groups").await.status, 500);
    assert_eq!(plain.get("/groups").await.status, 200);
    let tree = fixture("ncio_groups_default_master1.json");
    assert_eq!(
        plain.post("/import-hierarchy", &tree).await.status,
        422,
        "no class is known yet"
    );
    assert_eq!(plain.call("/update-classes").await.status, 201);
    assert_eq!(plain.post("/import-hierarchy", &tree).await.status, 204);
    assert_eq!(
        plain.get("/groups").await.json(),
        tree,
        "without serial numbers"
    );
    let known = array(plain.get("/classes").await.json());
    let accounts = known
        .iter()
        .find(|class| class["name"] == "pe_accounts::groups")
        .unwrap();
    assert_eq!(accounts["parameters"], json!({"groups_hash": null}));
}

#[test]
fn a_port_that_is_taken_is_told_and_ends_it_with_1() {
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let output = Command::new(PROGRAM)
        .args(["--port", &port])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8(output.stderr)
        .unwrap()
        .replace(&port, "PORT");
    insta::assert_snapshot!(told, @"pefo-classifier-double: failed to bind port PORT of 127.0.0.1: Address already in use (os error 98)");
}

#[test]
fn a_bad_command_line_is_told_and_ends_it_with_2() {
    let dir = tempfile::tempdir().unwrap();
    let no_array = dir.path().join("groups.json");
    pefo_core::disk::Disk::new()
        .publish(&no_array, b"{}", &pefo_core::disk::Attributes::mode(0o600))
        .unwrap();
    let no_array = no_array.to_str().unwrap();
    let mut told = String::new();
    for arguments in [
        &["--port", "70000"][..],
        &["--allow", "a.lab"],
        &["--allow", "../a", "--pki", "x"],
        &["--groups", "/nowhere.json"],
        &["--groups", no_array],
        &["--token", "a=good"],
        &["--fault", "hung"],
        &["--fault", "slow:import"],
        &["--behaviour", "strict=on"],
        &["--behaviour", "reordered=yes"],
    ] {
        let output = Command::new(PROGRAM).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let text = String::from_utf8(output.stderr)
            .unwrap()
            .replace(no_array, "GROUPS");
        let (error, _usage) = text.split_once("\n\n").unwrap_or((&text, ""));
        told.push_str(error);
        told.push('\n');
    }
    insta::assert_snapshot!(told, @r#"
    error: invalid value '70000' for '--port <N>': 70000 is not in 0..=65535
    error: the following required arguments were not provided:
      --pki <DIR>
    error: invalid value '../a' for '--allow <CN>': a CN has letters, digits, '.', '-' and '_' here, because files are named for it
    error: invalid value '/nowhere.json' for '--groups <FILE>': No such file or directory (os error 2)
    error: invalid value 'GROUPS' for '--groups <FILE>': not a JSON array: invalid type: map, expected a sequence at line 1 column 0
    error: invalid value 'a=good' for '--token <TOKEN[=KIND]>': "good" is none of valid, expired, revoked, of-revoked-user, powerless
    error: invalid value 'hung' for '--fault <NAME[:ROUTE][:times=N][:after=N][:ms=N]>': there is no fault "hung", only unauthenticated, permission-denied, server-error, database-corruption, unexpected-response, html, error-with-success, redirect, truncated, hang, filtered-view, changed-afterwards, slow, disconnect-after-commit, disconnect-before-commit, import-drops-group, import-partly, import-ignored
    error: invalid value 'slow:import' for '--fault <NAME[:ROUTE][:times=N][:after=N][:ms=N]>': slow needs ms=N
    error: invalid value 'strict=on' for '--behaviour <NAME=on|off>': there is no switch "strict", only config-data, strict-classes, serial-bump, reordered, unknown-keys, complete-imports, duplicate-ids, rootless, stale-puts, deep-deltas, strict-environments, chunked-requests, root-rule-edits
    error: invalid value 'reordered=yes' for '--behaviour <NAME=on|off>': "yes" is neither on nor off
    "#);
}
