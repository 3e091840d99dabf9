//! Certificates and revocations from the active to the passive.

use std::path::Path;
use std::process::Command;

use pefo_testkit::masters::{self, Master, built_binary};
use pefo_testkit::skip;
use serde_json::json;

use crate::evidence::{contents, edit_config, generations, newest_record, refused_as, tree};
use crate::pair::{A, B, Pair};

#[test]
fn what_is_signed_and_revoked_on_the_active_arrives_on_the_passive() {
    let Some(mut pair) = Pair::seeded() else {
        return;
    };
    pair.ca.sign("node1.lab").unwrap();
    pair.ca.sign("node2.lab").unwrap();
    pair.sync();
    assert!(pair.b.cadir().join("signed/node1.lab.pem").exists());
    pair.ca.revoke("node1.lab").unwrap();
    pair.sync();
    let crl = |master: &Master| std::fs::read(master.cadir().join("ca_crl.pem")).unwrap();
    assert_eq!(crl(&pair.a), crl(&pair.b));
    let report = pair.a.pefo(["ca", "push", "--json"]).exits(0).json();
    assert_eq!(report["outcome"], "unchanged");
    let status = pair.b.pefo(["status", "--json"]).exits(0).json();
    assert_eq!(status["details"]["role"], "passive");
    pair.a.pefo(["check"]).exits(0);
    pair.b.pefo(["check"]).exits(0);
}

#[test]
fn a_cleaned_node_and_an_answered_request_go_away_on_the_passive() {
    let Some(mut pair) = Pair::seeded() else {
        return;
    };
    pair.ca.sign("node1.lab").unwrap();
    pair.ca.request("node2.lab").unwrap();
    pair.sync();
    let at_b = |name: &str| pair.b.cadir().join(name).exists();
    assert!(at_b("signed/node1.lab.pem") && at_b("requests/node2.lab.pem"));
    pair.ca.clean("node1.lab").unwrap();
    pair.ca.sign("node2.lab").unwrap();
    pair.sync();
    assert!(!at_b("signed/node1.lab.pem") && !at_b("requests/node2.lab.pem"));
    assert!(at_b("signed/node2.lab.pem"));
}

#[test]
fn excluded_names_and_the_passives_own_certificate_never_cross() {
    let Some(mut pair) = Pair::paired() else {
        return;
    };
    edit_config(&pair.a, "[ca]", "[ca]\nexclude_certs = [\"compiler1.lab\"]");
    let own = format!("signed/{B}.pem");
    let excluded = ["signed/compiler1.lab.pem", own.as_str()];
    for name in ["node1.lab", "compiler1.lab", B] {
        pair.ca.sign(name).unwrap();
    }
    pair.a.pefo(["ca", "push", "--seed"]).exits(0);
    pair.b.pefo(["ca", "apply"]).exits(0);
    assert!(pair.b.cadir().join("signed/node1.lab.pem").exists());
    let nothing_crossed = |pair: &Pair| {
        for name in excluded {
            assert!(pair.a.cadir().join(name).exists());
            assert!(!pair.b.cadir().join(name).exists(), "{name} crossed");
            let sent = generations(&pair.b, "ca")
                .into_iter()
                .any(|dir| dir.join("data").join(name).exists());
            assert!(!sent, "{name} was sent");
        }
    };
    nothing_crossed(&pair);
    // Their rows do: they keep serials unique.
    let inventory = std::fs::read_to_string(pair.b.cadir().join("inventory.txt")).unwrap();
    assert!(
        inventory.contains("/CN=compiler1.lab") && inventory.contains(&format!("/CN={B}")),
        "{inventory}"
    );

    // What the passive has of its own under these names stays, through renewals and revocations.
    let mine = pair.b.cadir().join(&own);
    std::fs::copy(pair.b.cadir().join("signed/node1.lab.pem"), &mine).unwrap();
    let bytes = std::fs::read(&mine).unwrap();
    pair.ca.renew(B).unwrap();
    pair.ca.sign("node2.lab").unwrap();
    pair.sync();
    assert_eq!(std::fs::read(&mine).unwrap(), bytes);
    pair.ca.clean(B).unwrap();
    pair.sync();
    assert_eq!(std::fs::read(&mine).unwrap(), bytes);
    assert!(!pair.b.cadir().join(excluded[0]).exists());
}

#[test]
fn ca_exclude_tells_who_never_crosses_and_why() {
    let Some(pair) = Pair::paired() else { return };
    edit_config(&pair.a, "[ca]", "[ca]\nexclude_certs = [\"compiler1.lab\"]");
    let text = pair.a.pefo(["ca", "exclude"]).exits(0).stdout;
    assert!(
        text.contains(&format!("{B}: the passive's own certificate")),
        "{text}"
    );
    assert!(
        text.contains("compiler1.lab: named in [ca] exclude_certs"),
        "{text}"
    );
    let report = pair.b.pefo(["ca", "exclude", "--json"]).exits(0).json();
    assert_eq!(
        report["details"],
        json!([{ "certname": B, "reason": "the passive's own certificate" }])
    );
}

#[test]
fn a_crl_that_forgets_is_refused_until_that_is_accepted_by_name_and_on_record() {
    let Some(mut pair) = Pair::seeded() else {
        return;
    };
    pair.ca.sign("node1.lab").unwrap();
    let serial = pair.ca.revoke("node1.lab").unwrap();
    pair.sync();
    pair.ca.resign_crl(&[serial]).unwrap();
    pair.a.pefo(["ca", "push"]).exits(0);
    let crl = || std::fs::read(pair.b.cadir().join("ca_crl.pem")).unwrap();
    let before = crl();
    refused_as(&pair.b, &["ca", "apply"], "crl-shrink");
    refused_as(
        &pair.b,
        &["ca", "apply", "--accept", "crl-rollback"],
        "crl-shrink",
    );
    assert_eq!(crl(), before);
    let status = pair.a.pefo(["ca", "push", "--json"]).exits(0);
    assert_eq!(status.json()["outcome"], "unchanged", "it was sent already");
    assert!(
        pair.a.pefo(["status"]).stdout.contains("crl-shrink"),
        "the active tells what the passive refused"
    );
    pair.b
        .pefo(["ca", "apply", "--accept", "crl-shrink"])
        .exits(0);
    assert_eq!(
        crl(),
        std::fs::read(pair.a.cadir().join("ca_crl.pem")).unwrap()
    );
    assert_eq!(
        newest_record(&pair.b, "ca apply")["accepted"],
        json!(["crl-shrink"])
    );
    pair.b.pefo(["ca", "apply"]).exits(0);
    assert_eq!(newest_record(&pair.b, "ca apply")["accepted"], json!([]));
}

#[test]
fn more_deletions_than_allowed_wait_for_a_word() {
    let Some(mut pair) = Pair::seeded() else {
        return;
    };
    edit_config(&pair.b, "[ca]", "[ca]\nmax_deletes = 2");
    let names = ["node1.lab", "node2.lab", "node3.lab"];
    for name in names {
        pair.ca.sign(name).unwrap();
    }
    pair.sync();
    for name in names {
        pair.ca.clean(name).unwrap();
    }
    pair.a.pefo(["ca", "push"]).exits(0);
    let there = || {
        names
            .iter()
            .filter(|name| pair.b.cadir().join(format!("signed/{name}.pem")).exists())
            .count()
    };
    let run = pair.b.pefo(["ca", "apply"]).exits(4);
    assert!(run.refused_by("ca-mass-delete"), "{}", run.stderr);
    assert_eq!(there(), 3);
    let crl = |master: &Master| std::fs::read(master.cadir().join("ca_crl.pem")).unwrap();
    assert_eq!(
        crl(&pair.a),
        crl(&pair.b),
        "the revocations are not held up"
    );
    pair.b
        .pefo(["ca", "apply", "--accept", "ca-mass-delete"])
        .exits(0);
    assert_eq!(there(), 0);
}

/// Unpacks a real puppetserver's CA (pefo-ca's fixtures) as a master's cadir.
fn unpack(name: &str, master: &Master) {
    let tar = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../crates/pefo-ca/tests/fixtures")
        .join(name);
    if master.cadir().exists() {
        std::fs::remove_dir_all(master.cadir()).unwrap();
    }
    let done = Command::new("tar")
        .arg("-xf")
        .arg(tar)
        .arg("-C")
        .arg(master.directory())
        .arg("--no-same-owner")
        .status()
        .unwrap();
    assert!(done.success());
}

#[test]
fn a_real_ca_before_becomes_the_one_after_through_the_whole_pipeline_and_the_way_back_is_refused() {
    let Some(mut a) = skip::need(Master::prepare(&built_binary(), A)) else {
        return;
    };
    let Some(mut b) = skip::need(Master::prepare(&built_binary(), B)) else {
        return;
    };
    for (master, sample) in [(&mut a, "sample-after.tar"), (&mut b, "sample-before.tar")] {
        unpack(sample, master);
        let cadir = master.cadir();
        master.use_cadir(&cadir, "owner = \"root\"\ngroup = \"root\"");
    }
    masters::pair(&a, &b);
    a.pefo(["ca", "push"]).exits(0);
    let shown = b.pefo(["ca", "diff"]).exits(0).stdout;
    assert!(
        shown.contains("signed/node6.lab.pem: add") && shown.contains("2 more revoked"),
        "{shown}"
    );
    b.pefo(["ca", "apply"]).exits(0);
    assert_eq!(contents(&b.cadir()), contents(&a.cadir()));
    assert_eq!(
        b.pefo(["ca", "apply", "--json"]).exits(0).json()["outcome"],
        "unchanged"
    );

    // The active is put back to before: the passive does not follow.
    unpack("sample-before.tar", &a);
    a.pefo(["ca", "push"]).exits(0);
    let before = tree(&b.cadir());
    refused_as(&b, &["ca", "apply"], "crl-rollback");
    refused_as(
        &b,
        &["ca", "apply", "--accept", "crl-rollback"],
        "crl-rollback",
    );
    assert!(tree(&b.cadir()) == before);
    assert_eq!(newest_record(&b, "ca apply")["outcome"], "refused");
    let status = b.pefo(["status", "--json"]).exits(1).json();
    let row = &status["details"]["datasets"][0];
    assert_ne!(row["received"], row["applied"], "{row}");
}
