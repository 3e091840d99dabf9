//! Broken, hostile and foreign input: what is refused, by which name, and what goes on.

use pefo_testkit::ca::Keys;

use super::*;

#[test]
fn another_authority_is_refused_whole() {
    let pair = Pair::new();
    for (number, options) in [
        options().keys(Keys::OtherRsa),
        options().ca_name("Puppet CA: other"),
        options().keys(Keys::Ecdsa),
    ]
    .into_iter()
    .enumerate()
    {
        let dir = pair.root.path().join(format!("other{number}"));
        TestCa::create(&dir, options).unwrap();
        let plan = plan(&snap(&pair.b), &snap(&dir), &rules());
        assert_eq!(refusals(&plan), ["ca-identity"]);
        let error = apply(
            &Disk::new(),
            &CaLayout::at(&pair.b).unwrap(),
            &plan,
            &ApplyOptions::default(),
            &clock(),
        )
        .unwrap_err();
        assert_eq!(error.rule(), Some("ca-identity"));
    }
    assert_same(pair.a.dir(), &pair.b);
}

#[test]
fn another_root_behind_the_same_signing_key_is_refused() {
    let pair = Pair::new();
    let swap = |dir: &Path| {
        let text = std::fs::read_to_string(dir.join("ca_crt.pem")).unwrap();
        let end = "-----END CERTIFICATE-----\n";
        let first = text.split_inclusive(end).next().unwrap().to_owned();
        std::fs::write(dir.join("ca_crt.pem"), first).unwrap();
    };
    swap(pair.a.dir());
    assert_eq!(pair.refused(), ["ca-identity"]);
}

#[test]
fn a_key_that_is_not_the_cas_is_refused_and_a_missing_one_is_reported() {
    let mut pair = Pair::new();
    pair.a.sign("node2.test").unwrap();
    std::fs::copy(pair.b.join("root_key.pem"), pair.b.join("ca_key.pem")).unwrap();
    assert_eq!(pair.refused(), ["ca-identity"]);
    std::fs::remove_file(pair.b.join("ca_key.pem")).unwrap();
    let plan = pair.plan();
    assert_eq!(refusals(&plan), ["ca-key-missing"]);
    assert!(
        plan.is_partial() && !plan.is_empty(),
        "what can be kept in step is"
    );
}

#[test]
fn a_torn_crl_is_refused_and_the_old_one_stays() {
    let mut pair = Pair::new();
    pair.a.revoke("node1.test").unwrap();
    let crl = std::fs::read(pair.a.dir().join("ca_crl.pem")).unwrap();
    let old = std::fs::read(pair.b.join("ca_crl.pem")).unwrap();
    for cut in [0, 1, 10, 500, 1000, crl.len() - 30] {
        std::fs::write(pair.a.dir().join("ca_crl.pem"), &crl[..cut]).unwrap();
        let plan = pair.plan();
        assert_eq!(refusals(&plan), ["crl-unreadable"], "cut at {cut}");
        pair.apply(&plan);
        assert_eq!(std::fs::read(pair.b.join("ca_crl.pem")).unwrap(), old);
    }
    std::fs::remove_file(pair.a.dir().join("ca_crl.pem")).unwrap();
    assert_eq!(pair.refused(), ["crl-missing"]);
    assert_eq!(
        snap(pair.a.dir()).require_whole().unwrap_err().rule(),
        Some("ca-source-unreadable")
    );
}

#[test]
fn a_torn_local_crl_waits_for_the_operator() {
    let mut pair = Pair::new();
    pair.a.revoke("node1.test").unwrap();
    std::fs::write(pair.b.join("ca_crl.pem"), "-----BEGIN X509 CRL-----\nMIIB").unwrap();
    assert_eq!(pair.refused(), ["crl-local-unreadable"]);
    pair.apply(&pair.plan_with(&rules().accept("crl-local-unreadable")));
    assert_same(pair.a.dir(), &pair.b);
}

#[test]
fn one_torn_certificate_does_not_hold_back_a_revocation() {
    let mut pair = Pair::new();
    pair.a.sign("node2.test").unwrap();
    pair.a.revoke("node1.test").unwrap();
    let path = pair.a.dir().join("signed/node2.test.pem");
    let cert = std::fs::read(&path).unwrap();
    std::fs::write(&path, &cert[..cert.len() / 2]).unwrap();
    let plan = pair.plan();
    insta::assert_snapshot!(plan, @r#"
    do       serial: 0x0003 -> 0x0004
    do       inventory.txt: 1 new row
    do       ca_crl.pem: replace (the CRL of CN=Puppet CA: test, number 0 -> 1, 1 more revoked)
    refused  signed/node2.test.pem: line 1: the CERTIFICATE block does not end [pem-torn] [cert-unreadable]
    "#);
    let report = pair.apply(&plan);
    assert!(report.is_partial());
    assert_eq!(snap(&pair.b).summary().revocations, 1);
    std::fs::write(&path, &cert).unwrap();
    pair.follow();
    assert_same(pair.a.dir(), &pair.b);
}

#[test]
fn a_torn_certificate_here_is_replaced() {
    let pair = Pair::new();
    std::fs::write(pair.b.join("signed/node1.test.pem"), "-----BEGIN CERT").unwrap();
    pair.follow();
    assert_same(pair.a.dir(), &pair.b);
}

#[test]
fn a_source_without_serial_inventory_or_signed_is_no_source() {
    for missing in ["serial", "inventory.txt", "ca_crt.pem", "signed"] {
        let pair = Pair::new();
        let path = pair.a.dir().join(missing);
        if path.is_dir() {
            std::fs::remove_dir_all(path).unwrap()
        } else {
            std::fs::remove_file(path).unwrap()
        }
        assert_eq!(pair.refused(), ["ca-source-unreadable"], "{missing}");
        assert!(pair.plan().is_empty());
    }
    for torn in ["serial", "ca_crt.pem"] {
        let pair = Pair::new();
        std::fs::write(pair.a.dir().join(torn), "").unwrap();
        assert_eq!(pair.refused(), ["ca-source-unreadable"], "{torn}");
    }
}

#[test]
fn an_emptied_source_deletes_nothing() {
    let pair = Pair::new();
    let before = contents(&pair.b);
    let empty = pair.root.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    assert_eq!(
        refusals(&plan(&snap(&pair.b), &snap(&empty), &rules())),
        ["ca-source-empty"]
    );
    for entry in std::fs::read_dir(pair.a.dir().join("signed")).unwrap() {
        std::fs::remove_file(entry.unwrap().path()).unwrap();
    }
    assert_eq!(pair.refused(), ["ca-source-empty"]);
    assert_eq!(contents(&pair.b), before);
}

#[test]
fn a_missing_local_serial_is_written_anew() {
    let pair = Pair::new();
    std::fs::remove_file(pair.b.join("serial")).unwrap();
    pair.follow();
    assert_same(pair.a.dir(), &pair.b);
    std::fs::write(pair.b.join("serial"), "80000000").unwrap();
    pair.follow();
    assert_same(pair.a.dir(), &pair.b);
}

#[test]
fn names_that_are_no_certname_are_left_where_they_are() {
    let pair = Pair::new();
    let cert = std::fs::read(pair.a.dir().join("signed/node1.test.pem")).unwrap();
    for name in [
        "Node2.test.pem",
        "..x.pem",
        "node3.test",
        "a b.pem",
        "back\\slash.pem",
    ] {
        std::fs::write(pair.a.dir().join("signed").join(name), &cert).unwrap();
    }
    std::os::unix::fs::symlink("/etc/passwd", pair.a.dir().join("signed/link.test.pem")).unwrap();
    std::fs::create_dir(pair.a.dir().join("requests/dir.test.pem")).unwrap();
    let plan = pair.plan();
    let mut rules = refusals(&plan);
    rules.sort_unstable();
    assert_eq!(
        rules,
        [
            "cert-unreadable",
            "name-refused",
            "name-refused",
            "name-refused",
            "name-refused",
            "name-refused",
            "request-unreadable"
        ]
    );
    assert!(plan.is_empty());
    assert!(
        snap(pair.a.dir())
            .files()
            .all(|(path, _, _)| !path.as_str().contains("link")),
        "a symlink is never followed"
    );
}

#[test]
fn temp_files_of_the_server_are_nothing() {
    let pair = Pair::new();
    for name in [
        "signed/x.test.pem123tmp",
        "serial99tmp",
        "requests/.pefo-1-2-x.tmp",
    ] {
        std::fs::write(pair.a.dir().join(name), "half").unwrap();
    }
    assert!(pair.plan().is_empty());
    assert_eq!(snap(pair.a.dir()).problems(), []);
}

#[test]
fn a_certificate_under_another_name_or_of_another_ca_is_refused() {
    let mut pair = Pair::new();
    let other = pair.root.path().join("other");
    let mut stranger = TestCa::create(&other, options().keys(Keys::Ecdsa)).unwrap();
    stranger.sign("evil.test").unwrap();
    std::fs::copy(
        other.join("signed/evil.test.pem"),
        pair.a.dir().join("signed/evil.test.pem"),
    )
    .unwrap();
    pair.a.sign("real.test").unwrap();
    std::fs::rename(
        pair.a.dir().join("signed/real.test.pem"),
        pair.a.dir().join("signed/fake.test.pem"),
    )
    .unwrap();
    pair.a.request("asks.test").unwrap();
    std::fs::rename(
        pair.a.dir().join("requests/asks.test.pem"),
        pair.a.dir().join("requests/other.test.pem"),
    )
    .unwrap();
    let plan = pair.plan();
    assert_eq!(
        refusals(&plan),
        [
            "cert-unknown-issuer",
            "cert-name-mismatch",
            "request-name-mismatch"
        ]
    );
    pair.apply(&plan);
    for file in [
        "signed/evil.test.pem",
        "signed/fake.test.pem",
        "requests/other.test.pem",
    ] {
        assert!(!pair.b.join(file).exists(), "{file}");
    }
}

#[test]
fn a_renewed_ca_certificate_is_taken_only_when_accepted() {
    let mut pair = Pair::new();
    let renewed = pair.root.path().join("renewed");
    TestCa::create(&renewed, options().now(now() + time::Duration::days(30))).unwrap();
    std::fs::copy(renewed.join("ca_crt.pem"), pair.a.dir().join("ca_crt.pem")).unwrap();
    pair.a.sign("node2.test").unwrap();
    let plan = pair.plan();
    assert_eq!(refusals(&plan), ["ca-certificate"]);
    pair.apply(&plan);
    assert!(pair.b.join("signed/node2.test.pem").exists());
    pair.apply(&pair.plan_with(&rules().accept("ca-certificate")));
    assert_same(pair.a.dir(), &pair.b);
}

#[test]
fn the_public_key_and_the_infra_lists_are_checked() {
    let pair = Pair::new();
    std::fs::write(
        pair.a.dir().join("ca_pub.pem"),
        pefo_ca::pem::encode("PUBLIC KEY", b"other"),
    )
    .unwrap();
    std::fs::write(pair.a.dir().join("infra_serials"), "10\n100A\n").unwrap();
    std::fs::write(pair.a.dir().join("infra_inventory.txt"), "../x\n").unwrap();
    let plan = pair.plan();
    insta::assert_snapshot!(plan, @r#"
    nothing to do
    refused  infra_inventory.txt: line 1: certname "../x" has characters other than a-z, 0-9, '.', '-' and '_' [infra-malformed] [infra-unreadable]
    refused  infra_serials: line 2: "100A" is no decimal number [serial-digits] [infra-unreadable]
    refused  ca_pub.pem: is not the signing CA's public key [ca-pub-mismatch]
    "#);
    assert!(plan.is_empty());
}
