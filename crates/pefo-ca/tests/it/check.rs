//! Is a CA sound by itself: every certificate is looked at, wherever it stands.

use std::time::Duration;

use pefo_ca::verify::{CheckOptions, CheckReport, check};
use pefo_ca::{SerialBlock, pem};
use pefo_testkit::ca::Keys;

use super::*;

fn checked(dir: &Path) -> CheckReport {
    check(&snap(dir), &CheckOptions::new(timestamp()))
}

fn defects(report: &CheckReport) -> Vec<String> {
    let defects = report.findings.iter().filter(|finding| finding.defect);
    defects
        .map(|finding| format!("{}: {}", finding.item, finding.fault))
        .collect()
}

/// A CA of so many nodes that several threads share them.
fn many(keys: Keys) -> Pair {
    let mut pair = Pair::with(options().keys(keys));
    for node in 10..50 {
        pair.a.sign(&format!("n{node}.test")).unwrap();
    }
    pair
}

/// Writes a file of the source anew, from what it holds.
fn edit(pair: &Pair, path: &str, change: impl FnOnce(String) -> String) {
    let path = pair.a.dir().join(path);
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(path, change(text)).unwrap();
}

/// The same certificate with a signature that is none.
fn forge(pair: &Pair, path: &str) {
    edit(pair, path, |text| {
        let mut der = pem::blocks(text.as_bytes()).unwrap().remove(0).der;
        *der.last_mut().unwrap() ^= 1;
        pem::encode("CERTIFICATE", &der)
    });
}

#[test]
fn a_sound_ca_is_said_to_be_one() {
    let mut pair = many(Keys::Rsa);
    pair.a.revoke("n10.test").unwrap();
    let report = checked(pair.a.dir());
    assert!(report.is_sound());
    insta::assert_snapshot!(report, @"checked  42 certificates, 0 requests, 42 rows, 4 CRLs with 1 revocation, 8 other files");
    // A staged copy lacks the key and is sound all the same.
    std::fs::remove_file(pair.a.dir().join("ca_key.pem")).unwrap();
    assert!(checked(pair.a.dir()).is_sound());
}

#[test]
fn one_bad_certificate_is_found_wherever_it_stands() {
    for keys in [Keys::Rsa, Keys::Ecdsa] {
        let pair = many(keys);
        for node in [10, 11, 23, 24, 25, 37, 38, 48, 49] {
            let path = format!("signed/n{node}.test.pem");
            let whole = std::fs::read(pair.a.dir().join(&path)).unwrap();
            forge(&pair, &path);
            assert_eq!(defects(&checked(pair.a.dir())), [format!("{path}: forged")]);
            edit(&pair, &path, |text| text[..600].to_owned());
            assert_eq!(
                defects(&checked(pair.a.dir())),
                [format!("{path}: unreadable")]
            );
            let other = pair.a.dir().join("signed/puppet-a.test.pem");
            std::fs::copy(&other, pair.a.dir().join(&path)).unwrap();
            let expected = [
                format!("{path}: misnamed"),
                format!("{path}: serial-twice"),
                "signed/puppet-a.test.pem: serial-twice".to_owned(),
            ];
            assert_eq!(defects(&checked(pair.a.dir())), expected);
            std::fs::write(pair.a.dir().join(&path), whole).unwrap();
            assert!(checked(pair.a.dir()).is_sound());
        }
    }
}

#[test]
fn the_inventory_is_compared_with_each_certificate() {
    let pair = many(Keys::Ecdsa);
    let whole = std::fs::read_to_string(pair.a.dir().join("inventory.txt")).unwrap();
    for row in whole.lines() {
        let name = row.rsplit_once("/CN=").unwrap().1;
        edit(&pair, "inventory.txt", |_| {
            whole.replace(&format!("{row}\n"), "")
        });
        let report = checked(pair.a.dir());
        let said: Vec<_> = report
            .findings
            .iter()
            .map(|found| format!("{}: {}", found.item, found.fault))
            .collect();
        assert_eq!(said, [format!("signed/{name}.pem: row-missing")]);
        // The offline CLI writes no row: nothing is wrong yet.
        assert!(report.is_sound());
        for other in [row.replace("2031-", "2032-"), row.replace("/CN=", "/CN=x")] {
            edit(&pair, "inventory.txt", |_| whole.replace(row, &other));
            let expected = [format!("signed/{name}.pem: row-differs")];
            assert_eq!(defects(&checked(pair.a.dir())), expected);
        }
    }
}

#[test]
fn what_else_is_wrong_is_named() {
    let mut pair = Pair::new();
    pair.a.sign_with_serial("node2.test", 2).unwrap();
    pair.a.sign_with_serial("node3.test", 0x300).unwrap();
    std::fs::write(pair.a.dir().join("signed/Node.pem"), "").unwrap();
    std::fs::write(pair.a.dir().join("infra_serials"), "x\n").unwrap();
    edit(&pair, "ca_crl.pem", |text| {
        let mut blocks = pem::blocks(text.as_bytes()).unwrap();
        *blocks[0].der.last_mut().unwrap() ^= 1;
        blocks
            .iter()
            .map(|block| pem::encode(&block.label, &block.der))
            .collect()
    });
    let other = TestCa::create(
        &pair.root.path().join("other"),
        options().keys(Keys::OtherRsa),
    )
    .unwrap();
    std::fs::copy(
        other.dir().join("ca_key.pem"),
        pair.a.dir().join("ca_key.pem"),
    )
    .unwrap();
    let report = checked(pair.a.dir());
    assert!(!report.is_sound());
    insta::assert_snapshot!(report, @r#"
    defect   ca_key.pem: is not the key of the CA's certificate (compared with the certificate that signs) [other-key]
    defect   infra_serials: cannot be read (line 1: "x" is no decimal number [serial-digits]) [unreadable]
    defect   serial: does not cover what was issued (0x0003 is next, and 0x0300 was issued) [behind]
    defect   inventory.txt, row 0x0002: has a serial that another has (0x0002 2026-11-21T12:30:00UTC 2031-11-20T12:30:00UTC /CN=node1.test and 0x0002 2026-11-21T12:30:00UTC 2031-11-20T12:30:00UTC /CN=node2.test) [serial-twice]
    defect   signed/node1.test.pem: has a serial that another has (0x0002 is also node2.test's) [serial-twice]
    defect   signed/node2.test.pem: has a serial that another has (0x0002 is also node1.test's) [serial-twice]
    defect   ca_crl.pem, CRL of CN=Puppet CA: test: was not signed by the CA (the signature is not CN=Puppet CA: test's: signature verification error) [forged]
    note     signed/Node.pem: can be no certname's file (certname "Node" has upper-case letters; Puppet's certnames are lower case) [name-refused]
    checked  4 certificates, 0 requests, 3 rows, 4 CRLs with 0 revocations, 8 other files
    "#);
}

#[test]
fn files_that_every_ca_has_are_missed() {
    let pair = Pair::new();
    for path in ["serial", "ca_crl.pem", "inventory.txt", "ca_crt.pem"] {
        std::fs::remove_file(pair.a.dir().join(path)).unwrap();
        assert!(defects(&checked(pair.a.dir())).contains(&format!("{path}: missing")));
    }
}

#[test]
fn what_expires_is_told_before_and_after() {
    let mut pair = Pair::new();
    pair.a.set_now(now() + time::Duration::days(90));
    pair.a.resign_crl(&[]).unwrap();
    pair.a.sign("node2.test").unwrap();
    let at = |days: i64, soon: u64| {
        let now = Timestamp::from_unix_seconds(NOW + days * 86_400).unwrap();
        let options = CheckOptions::new(now).soon(Duration::from_secs(soon * 86_400));
        check(&snap(pair.a.dir()), &options).to_string()
    };
    assert_eq!(at(5 * 365 - 31, 29).lines().count(), 1);
    insta::assert_snapshot!(at(5 * 365 - 31, 40), @r"
    note     ca_crt.pem: expires soon (CN=Puppet CA: test, on 2031-11-21T12:30:00Z) [expires-soon]
    note     ca_crt.pem: expires soon (CN=Puppet Root CA: b79be90bdd12e9, on 2031-11-21T12:30:00Z) [expires-soon]
    note     signed/node1.test.pem: expires soon (on 2031-11-20T12:30:00Z) [expires-soon]
    note     signed/puppet-a.test.pem: expires soon (on 2031-11-20T12:30:00Z) [expires-soon]
    note     ca_crl.pem, CRL of CN=Puppet Root CA: b79be90bdd12e9: expires soon (on 2031-11-21T12:30:00Z) [expires-soon]
    note     infra_crl.pem, CRL of CN=Puppet CA: test: expires soon (on 2031-11-21T12:30:00Z) [expires-soon]
    note     infra_crl.pem, CRL of CN=Puppet Root CA: b79be90bdd12e9: expires soon (on 2031-11-21T12:30:00Z) [expires-soon]
    checked  3 certificates, 0 requests, 3 rows, 4 CRLs with 0 revocations, 8 other files
    ");
    insta::assert_snapshot!(at(5 * 365 + 1, 20), @r"
    defect   ca_crt.pem: has expired (CN=Puppet CA: test, on 2031-11-21T12:30:00Z) [expired]
    defect   ca_crt.pem: has expired (CN=Puppet Root CA: b79be90bdd12e9, on 2031-11-21T12:30:00Z) [expired]
    defect   ca_crl.pem, CRL of CN=Puppet Root CA: b79be90bdd12e9: has expired (on 2031-11-21T12:30:00Z) [expired]
    defect   infra_crl.pem, CRL of CN=Puppet CA: test: has expired (on 2031-11-21T12:30:00Z) [expired]
    defect   infra_crl.pem, CRL of CN=Puppet Root CA: b79be90bdd12e9: has expired (on 2031-11-21T12:30:00Z) [expired]
    note     signed/node1.test.pem: has expired and can go (on 2031-11-20T12:30:00Z) [cert-expired]
    note     signed/puppet-a.test.pem: has expired and can go (on 2031-11-20T12:30:00Z) [cert-expired]
    checked  3 certificates, 0 requests, 3 rows, 4 CRLs with 0 revocations, 8 other files
    ");
}

#[test]
fn the_counter_need_not_cover_what_others_issue() {
    let mut pair = Pair::new();
    pair.a.sign_with_serial("puppet-b.test", 0x100).unwrap();
    let block = SerialBlock::new(0x100, 0x1ff).unwrap();
    let usual = CheckOptions::new(timestamp());
    let by = |options: &CheckOptions| defects(&check(&snap(pair.a.dir()), options));
    assert_eq!(by(&usual), ["serial: behind"]);
    assert_eq!(by(&usual.clone().other_block(block)), [""; 0]);
    assert_eq!(by(&usual.clone().block(block)), ["serial: behind"]);
    std::fs::write(pair.a.dir().join("serial"), "0101").unwrap();
    assert_eq!(by(&usual.block(block)), [""; 0]);
}

#[test]
fn how_many_threads_check_makes_no_difference() {
    let pair = many(Keys::Ecdsa);
    for node in [10, 30, 49] {
        forge(&pair, &format!("signed/n{node}.test.pem"));
    }
    let by = |threads| {
        check(
            &snap(pair.a.dir()),
            &CheckOptions::new(timestamp()).threads(Threads::new(threads)),
        )
    };
    assert_eq!(defects(&by(1)).len(), 3);
    for threads in [2, 3, 9] {
        assert_eq!(by(threads), by(1));
    }
}
