//! What a returning active brings, case by case.

use pefo_ca::takeover::merge;
use pefo_testkit::ca::{CrlOptions, Keys};

use super::*;

fn refused(plan: &MergePlan) -> Vec<&'static str> {
    plan.conflicts
        .iter()
        .map(|conflict| conflict.rule.name())
        .collect()
}

/// A little of everything.
fn eventful() -> Split {
    let mut split = Split::new(false);
    split.at(1);
    for name in ["node2.test", "node3.test", "node4.test", "both.test"] {
        split.a.sign(name).unwrap();
    }
    split.a.revoke("node3.test").unwrap();
    split.a.clean("node4.test").unwrap();
    split.a.clean("node1.test").unwrap();
    split.a.request("node5.test").unwrap();
    split.a.request("node6.test").unwrap();
    split.b.request("node2.test").unwrap();
    split.at(2);
    split.b.sign("both.test").unwrap();
    split.b.sign("node6.test").unwrap();
    split.b.revoke("puppet-a.test").unwrap();
    split
}

#[test]
fn a_merge_tells_what_comes_in_and_what_does_not() {
    let split = eventful();
    insta::assert_snapshot!(split.merge(), @r#"
    do       inventory.txt: 4 new rows
    do       signed/node2.test.pem: add (serial 0x0003)
    do       signed/node1.test.pem: remove (serial 0x0002 was cleaned at the returning side)
    do       requests/node5.test.pem: add (pending at the returning side)
    do       requests/node2.test.pem: remove (signed at the returning side)
    sign     ca_crl.pem: the CRL of CN=Puppet CA: test, number 1 -> 1003, 3 more revoked: 0x0002, 0x0004, 0x0005
    refused  signed/both.test.pem: the returning side's, serial 0x0006, is older than ours, serial 0x110000 [cert-older]
    note     1 certificate(s) of the returning side stay out of signed/, as each is revoked: node3.test
    note     1 request(s) of the returning side stay out, their nodes having a certificate or another request here: node6.test
    "#);
}

#[test]
fn a_merge_does_what_it_told_and_a_second_one_has_nothing_to_do() {
    let split = eventful();
    let report = split.apply(&split.merge());
    assert!(report.is_partial(), "both.test was signed twice");
    assert!(split.holds("signed/node2.test.pem") && split.holds("requests/node5.test.pem"));
    for gone in [
        "signed/node1.test.pem",
        "signed/node3.test.pem",
        "requests/node2.test.pem",
        "requests/node6.test.pem",
    ] {
        assert!(!split.holds(gone), "{gone}");
    }
    let crl = our_crl(split.b.dir());
    assert_eq!(crl.number_text(), "1003");
    let revoked: Vec<Serial> = crl.revoked.keys().copied().collect();
    assert_eq!(revoked, [1, 2, 4, 5].map(serial));
    assert!(openssl_verifies(split.b.dir(), "ca_crl.pem"));
    let again = split.merge();
    assert!(again.is_empty(), "{again}");
}

#[test]
fn what_a_real_server_did_alone_is_merged() {
    let (_root, before, after) = crate::sample::samples();
    let plan = merge(&snap(&before), &snap(&after), &MergeRules::new(rules()));
    insta::assert_snapshot!(plan, @r#"
    do       serial: 0x0008 -> 0x0009
    do       inventory.txt: 1 new row
    do       signed/node6.lab.pem: add (serial 0x0008)
    do       signed/node3.lab.pem: remove (serial 0x0004 was cleaned at the returning side)
    do       requests/node7.lab.pem: add (pending at the returning side)
    sign     ca_crl.pem: the CRL of CN=Puppet CA: lab, number 0 -> 1002, 2 more revoked: 0x0003, 0x0004
    "#);
    apply_to(&before, &plan.sign(&signer(&before), timestamp()).unwrap());
    assert!(openssl_verifies(&before, "ca_crl.pem"));
    let args = [
        "verify",
        "-crl_check_all",
        "-CAfile",
        "ca_crt.pem",
        "-CRLfile",
        "ca_crl.pem",
    ];
    let at = NOW.to_string();
    for (node, is_good) in [("node6.lab", true), ("node2.lab", false)] {
        let cert = format!("signed/{node}.pem");
        let args: Vec<&str> = args.into_iter().chain(["-attime", &at, &cert]).collect();
        if let Some(output) = openssl(&args, &before) {
            assert_eq!(output.status.success(), is_good, "{node}: {output:?}");
        }
    }
    let again = merge(&snap(&before), &snap(&after), &MergeRules::new(rules()));
    insta::assert_snapshot!(again, @"nothing to do");
}

#[test]
fn a_spare_s_block_stays_its_own_when_what_it_issued_from_there_comes_in() {
    let mut split = Split::new(false);
    // A never had a block, and holds the reign; B is its spare.
    let merged = |split: &Split| {
        let (a, b) = (snap(split.a.dir()), snap(split.b.dir()));
        merge(&a, &b, &MergeRules::new(rules()))
    };
    insta::assert_snapshot!(merged(&split), @"nothing to do");
    split.at(1);
    split.a.sign("node2.test").unwrap();
    split.b.sign("node3.test").unwrap();
    insta::assert_snapshot!(merged(&split), @r"
    do       inventory.txt: 1 new row
    do       signed/node3.test.pem: add (serial 0x110000)
    ");
}

#[test]
fn the_plan_reads_as_json_without_contents() {
    let split = eventful();
    let json = serde_json::to_value(split.merge()).unwrap();
    assert_eq!(json["crls"][0]["path"], "ca_crl.pem");
    assert_eq!(json["crls"][0]["union"]["number"], "0x03EB");
    assert_eq!(json["crls"][0]["union"]["imported"]["0x0004"]["reason"], 1);
    assert_eq!(json["conflicts"][0]["rule"], "cert-older");
    assert!(!json.to_string().contains("BEGIN"));
}

#[test]
fn what_both_issued_under_one_serial_stays_as_it_is_here() {
    let mut split = Split::new(true);
    split.at(1);
    split.a.sign("there.test").unwrap();
    split.a.revoke("there.test").unwrap();
    split.at(2);
    split.b.sign("here.test").unwrap();
    let plan = split.merge();
    insta::assert_snapshot!(plan, @r#"
    sign     ca_crl.pem: the CRL of CN=Puppet CA: test, number 0 -> 1001, the same revoked
    refused  ca_crl.pem: 0x0003 is revoked there, but is here.test of 2026-11-21T14:30:00Z here and there.test of 2026-11-21T13:30:00Z there [serial-collision]
    refused  inventory.txt: 0x0003 is /CN=here.test here and /CN=there.test at the source [inventory-collision]
    refused  signed/there.test.pem: serial 0x0003 is here.test of 2026-11-21T14:30:00Z here and there.test of 2026-11-21T13:30:00Z there [serial-collision]
    "#);
    split.apply(&plan);
    assert!(!our_crl(split.b.dir()).revoked.contains_key(&serial(3)));
    assert!(split.holds("signed/here.test.pem") && !split.holds("signed/there.test.pem"));
    let back = pefo_ca::plan(&snap(split.a.dir()), &snap(split.b.dir()), &rules());
    assert!(
        refusals(&back).contains(&"crl-shrink"),
        "the returning host is told: {back}"
    );
}

#[test]
fn an_older_certificate_comes_in_where_an_operator_wants_it() {
    let split = eventful();
    let plan = split.merge_with(rules().accept("cert-older"));
    assert_eq!((refused(&plan), plan.overruled.len()), (vec![], 1));
    split.apply(&plan);
    assert!(split.holds_same("signed/both.test.pem"));
}

#[test]
fn an_expired_certificate_stays_out_and_its_row_comes_in() {
    let mut split = Split::new(false);
    split.at(1);
    split.a.sign("node2.test").unwrap();
    let later = Timestamp::from_unix_seconds(NOW + 6 * 365 * 86_400).unwrap();
    let plan = split.merge_with(PlanRules::new(later));
    insta::assert_snapshot!(plan, @r#"
    do       inventory.txt: 1 new row
    note     1 certificate(s) of the returning side stay out of signed/, as each has expired: node2.test
    "#);
}

#[test]
fn a_certificate_that_was_followed_here_is_no_conflict() {
    let mut split = Split::new(false);
    split.at(1);
    split.b.renew("node1.test").unwrap();
    let plan = split.merge();
    assert!(plan.is_empty() && plan.conflicts.is_empty(), "{plan}");
}

#[test]
fn a_certificate_renewed_there_replaces_the_older_one_here() {
    let mut split = Split::new(false);
    split.at(1);
    split.a.renew("node1.test").unwrap();
    insta::assert_snapshot!(split.merge(), @r#"
    do       inventory.txt: 1 new row
    do       signed/node1.test.pem: replace (serial 0x0002 -> 0x0003)
    "#);
}

#[test]
fn a_certificate_revoked_here_gives_way_to_a_good_one_from_there() {
    let mut split = Split::new(false);
    split.at(1);
    split.a.sign("both.test").unwrap();
    split.at(2);
    split.b.sign("both.test").unwrap();
    split.b.revoke("both.test").unwrap();
    let plan = split.merge();
    assert_eq!(refused(&plan), Vec::<&str>::new());
    split.apply(&plan);
    assert!(split.holds_same("signed/both.test.pem"));
}

#[test]
fn a_node_cleaned_and_signed_anew_there_has_its_new_certificate_here() {
    let mut split = Split::new(false);
    split.at(1);
    split.a.clean("node1.test").unwrap();
    split.at(2);
    split.a.sign("node1.test").unwrap();
    let plan = split.merge();
    assert_eq!(refused(&plan), Vec::<&str>::new());
    split.apply(&plan);
    assert!(split.holds_same("signed/node1.test.pem"));
    assert!(our_crl(split.b.dir()).revoked.contains_key(&serial(2)));
}

#[test]
fn what_was_only_revoked_here_stays_in_signed() {
    let mut split = Split::new(false);
    split.b.sign("node2.test").unwrap();
    split.b.revoke("node2.test").unwrap();
    split.apply(&split.merge());
    assert!(split.holds("signed/node2.test.pem"));
}

#[test]
fn of_two_requests_of_one_node_the_one_here_stays() {
    let split = Split::new(false);
    let other_dir = tempfile::tempdir().unwrap();
    let mut other = TestCa::create(other_dir.path(), options().keys(Keys::Ecdsa)).unwrap();
    other.request("node2.test").unwrap();
    let path = "requests/node2.test.pem";
    std::fs::copy(other.dir().join(path), split.a.dir().join(path)).unwrap();
    other.request("node2.test").unwrap();
    std::fs::copy(other.dir().join(path), split.b.dir().join(path)).unwrap();
    let here = std::fs::read(split.b.dir().join(path)).unwrap();
    let plan = split.merge();
    assert_eq!(plan.notes.len(), 1, "{plan}");
    split.apply(&plan);
    assert_eq!(std::fs::read(split.b.dir().join(path)).unwrap(), here);
}

#[test]
fn strangers_and_misnamed_files_are_refused_by_the_usual_rules() {
    let mut split = Split::new(false);
    split.at(1);
    let other_dir = tempfile::tempdir().unwrap();
    let mut other = TestCa::create(other_dir.path(), options().keys(Keys::Ecdsa)).unwrap();
    other.sign("stranger.test").unwrap();
    let signed = split.a.dir().join("signed");
    std::fs::copy(
        other.dir().join("signed/stranger.test.pem"),
        signed.join("stranger.test.pem"),
    )
    .unwrap();
    split.a.sign("node2.test").unwrap();
    std::fs::rename(signed.join("node2.test.pem"), signed.join("wrong.test.pem")).unwrap();
    std::fs::write(signed.join("torn.test.pem"), "-----BEGIN CERT").unwrap();
    std::fs::write(signed.join("UPPER.pem"), "").unwrap();
    std::fs::write(split.a.dir().join("requests/torn.test.pem"), "no").unwrap();
    let mut rules = refused(&split.merge());
    rules.sort_unstable();
    assert_eq!(
        rules,
        [
            "cert-name-mismatch",
            "cert-unknown-issuer",
            "cert-unreadable",
            "name-refused",
            "request-unreadable"
        ]
    );
}

#[test]
fn names_that_are_left_out_stay_out() {
    let mut split = Split::new(false);
    split.at(1);
    split.a.sign("node2.test").unwrap();
    split.a.request("node3.test").unwrap();
    let mut exclude = pefo_ca::Exclusions::new();
    for name in ["node2.test", "node3.test"] {
        exclude = exclude.with(name.parse().unwrap(), "mine");
    }
    split.apply(&split.merge_with(rules().exclude(exclude)));
    assert!(!split.holds("signed/node2.test.pem") && !split.holds("requests/node3.test.pem"));
    let inventory = std::fs::read_to_string(split.b.dir().join("inventory.txt")).unwrap();
    assert!(
        inventory.contains("/CN=node2.test"),
        "its serial counts all the same"
    );
}

#[test]
fn many_cleaned_at_once_are_held_until_accepted() {
    let mut split = Split::new(false);
    split.at(1);
    split.a.clean("node1.test").unwrap();
    split.a.clean("puppet-a.test").unwrap();
    // The returning side is not empty: that would be another refusal.
    split.a.sign("node2.test").unwrap();
    let plan = split.merge_with(rules().max_deletes(1));
    assert_eq!(refused(&plan), ["ca-mass-delete"]);
    split.apply(&plan);
    assert!(split.holds("signed/node1.test.pem"));
    assert_eq!(our_crl(split.b.dir()).revoked.len(), 2, "revoked they are");
}

#[test]
fn a_crl_that_is_not_to_be_trusted_brings_no_revocation() {
    let mut split = Split::new(false);
    split.at(1);
    split.a.sign("node2.test").unwrap();
    let foreign = CrlOptions::default()
        .now(now())
        .number(9)
        .revoked(&[2])
        .authority_key_id(&[7; 20]);
    let foreign = split.a.crl(&foreign).unwrap();
    let mut der = our_crl(split.a.dir()).der().to_vec();
    *der.last_mut().unwrap() ^= 1;
    let broken = pefo_ca::pem::encode("X509 CRL", &der);
    for (text, rule) in [
        (foreign + split.a.root_crl(), "crl-missing"),
        (split.a.root_crl().to_owned(), "crl-missing"),
        (broken, "crl-signature"),
        (
            "-----BEGIN X509 CRL-----\nAAAA".to_owned(),
            "crl-unreadable",
        ),
    ] {
        std::fs::write(split.a.dir().join("ca_crl.pem"), text).unwrap();
        let plan = split.merge();
        assert_eq!(refused(&plan), [rule]);
        assert!(plan.crls.is_empty() && !plan.is_empty());
    }
}

#[test]
fn the_infra_crl_is_united_by_its_own_numbers() {
    let mut split = Split::new(false);
    split.at(1);
    for ca in [&mut split.a, &mut split.b] {
        ca.add_infra("node1.test", 2).unwrap();
    }
    split.a.revoke("node1.test").unwrap();
    let plan = split.merge();
    let files: Vec<String> = plan.crls.iter().map(ToString::to_string).collect();
    assert_eq!(
        files,
        [
            "infra_crl.pem: the CRL of CN=Puppet CA: test, number 0 -> 1001, 1 more revoked: 0x0002",
            "ca_crl.pem: the CRL of CN=Puppet CA: test, number 0 -> 1001, 1 more revoked: 0x0002"
        ]
    );
    split.apply(&plan);
    assert!(openssl_verifies(split.b.dir(), "infra_crl.pem"));
    assert_eq!(snap(split.b.dir()).infra_crl().unwrap().crls().len(), 2);
}

#[test]
fn a_crl_signed_again_there_is_outrun_though_it_revokes_the_same() {
    let mut split = Split::new(false);
    split.at(1);
    split.a.resign_crl(&[]).unwrap();
    let plan = split.merge();
    insta::assert_snapshot!(plan, @"sign     ca_crl.pem: the CRL of CN=Puppet CA: test, number 0 -> 1001, the same revoked");
    split.apply(&plan);
    assert!(split.merge().is_empty());
}

#[test]
fn another_authority_blocks_the_merge_and_another_signer_signs_nothing() {
    let split = eventful();
    let root = tempfile::tempdir().unwrap();
    let mut other = TestCa::create(root.path(), options().keys(Keys::OtherRsa)).unwrap();
    other.sign("node1.test").unwrap();
    let plan = merge(
        &snap(split.b.dir()),
        &snap(other.dir()),
        &MergeRules::new(rules()),
    );
    assert_eq!(plan.blocked_by().unwrap().rule.name(), "ca-identity");
    assert!(plan.is_empty());
    let error = plan.sign(&signer(split.b.dir()), timestamp()).unwrap_err();
    assert_eq!(error.rule(), Some("ca-identity"));
    let error = split
        .merge()
        .sign(&signer(other.dir()), timestamp())
        .unwrap_err();
    assert_eq!(error.rule(), Some("ca-identity"));
}

#[test]
fn a_file_that_changed_since_is_not_written_over() {
    let mut split = eventful();
    let plan = split.merge();
    split.b.revoke("node1.test").unwrap();
    let signed = plan.sign(&signer(split.b.dir()), timestamp()).unwrap();
    let layout = CaLayout::at(split.b.dir()).unwrap();
    let error = apply(
        &Disk::new(),
        &layout,
        &signed,
        &ApplyOptions::default(),
        &clock(),
    )
    .unwrap_err();
    assert_eq!(error.rule(), Some("ca-moved"));
    assert!(our_crl(split.b.dir()).revoked.contains_key(&serial(2)));
}
