//! Is a test CA one that others accept? OpenSSL is asked, which knows nothing of this crate.

use std::path::Path;
use std::process::Command;

use super::*;

/// Verifies a node's certificate with the whole chain's CRLs, as an agent or a server does.
fn openssl_accepts(ca: &TestCa, certname: &str) -> bool {
    let run = Command::new("openssl")
        .args([
            "verify",
            "-crl_check_all",
            "-CAfile",
            "ca_crt.pem",
            "-CRLfile",
            "ca_crl.pem",
        ])
        .arg(format!("signed/{certname}.pem"))
        .current_dir(ca.dir())
        .output()
        .unwrap();
    run.status.success()
}

fn names_in(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn openssl_accepts_what_is_signed_until_it_is_revoked() {
    for keys in [Keys::Rsa, Keys::OtherRsa, Keys::Ecdsa] {
        let root = tempfile::tempdir().unwrap();
        let mut ca = TestCa::create(root.path(), CaOptions::default().keys(keys)).unwrap();
        ca.sign("node1.test").unwrap();
        assert!(
            openssl_accepts(&ca, "node1.test") && openssl_accepts(&ca, "puppet-a.test"),
            "{keys:?}"
        );
        ca.revoke("node1.test").unwrap();
        assert!(
            !openssl_accepts(&ca, "node1.test") && openssl_accepts(&ca, "puppet-a.test"),
            "{keys:?}"
        );
        ca.renew("puppet-a.test").unwrap();
        assert!(openssl_accepts(&ca, "puppet-a.test"), "{keys:?}");
    }
}

#[test]
fn the_directory_is_laid_out_as_puppetservers() {
    let root = tempfile::tempdir().unwrap();
    let mut ca = TestCa::create(root.path(), CaOptions::default()).unwrap();
    ca.sign("node1.test").unwrap();
    ca.request("node2.test").unwrap();
    assert_eq!(
        names_in(root.path()),
        [
            "ca_crl.pem",
            "ca_crt.pem",
            "ca_key.pem",
            "ca_pub.pem",
            "infra_crl.pem",
            "infra_inventory.txt",
            "infra_serials",
            "inventory.txt",
            "requests",
            "root_key.pem",
            "serial",
            "signed"
        ]
    );
    assert_eq!(
        std::fs::read_to_string(root.path().join("serial")).unwrap(),
        "0003"
    );
    assert_eq!(names_in(&root.path().join("requests")), ["node2.test.pem"]);
    let key = ca.credentials("node1.test").unwrap().key_pem;
    assert!(key.starts_with("-----BEGIN RSA PRIVATE KEY-----\n"));
    let row = std::fs::read_to_string(root.path().join("inventory.txt")).unwrap();
    assert!(
        row.starts_with("0x0001 20") && row.ends_with("UTC /CN=node1.test\n"),
        "{row}"
    );
}

#[test]
fn a_signature_can_stop_at_every_step_of_the_server() {
    for (step, serial, rows, signed, requested) in [
        (Step::Request, "0002", 1, false, true),
        (Step::Serial, "0003", 1, false, true),
        (Step::Inventory, "0003", 2, false, true),
        (Step::Signed, "0003", 2, true, true),
        (Step::Done, "0003", 2, true, false),
    ] {
        let root = tempfile::tempdir().unwrap();
        let mut ca = TestCa::create(root.path(), CaOptions::default()).unwrap();
        ca.sign_until("n.test", &[], step).unwrap();
        let read = |name: &str| std::fs::read_to_string(root.path().join(name)).unwrap();
        assert_eq!(
            (
                read("serial").as_str(),
                read("inventory.txt").lines().count()
            ),
            (serial, rows),
            "{step:?}"
        );
        let exists = |name: &str| root.path().join(name).exists();
        assert_eq!(
            (exists("signed/n.test.pem"), exists("requests/n.test.pem")),
            (signed, requested),
            "{step:?}"
        );
    }
}
