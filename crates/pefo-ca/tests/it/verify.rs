//! Would the standby serve the same as its source: each kind of difference, and none too many.

use std::time::Duration;

use pefo_ca::snapshot::{Beside, Known};
use pefo_ca::verify::{Comparison, Finding, VerifyRules, compare, compare_beside};
use pefo_ca::{Exclusions, SerialBlock};
use pefo_core::digest_cache::DigestCache;
use pefo_core::generation::batch::SourceState;
use pefo_core::{Certname, Digest};
use pefo_testkit::ca::{CrlOptions, Keys, Step};

use super::*;

const LATER: Duration = Duration::from_secs(3600);

fn same_rules() -> VerifyRules {
    VerifyRules::new(timestamp())
}

pub(super) fn compared(pair: &Pair) -> Comparison {
    compared_by(pair, &same_rules())
}

/// Compared as wholes; and beside what is known by digest, which comes to the same with and without a cache.
fn compared_by(pair: &Pair, rules: &VerifyRules) -> Comparison {
    let source = snap(pair.a.dir());
    let whole = compare(&snap(&pair.b), &source, rules);
    let files = source.files();
    let state =
        SourceState::of(files.map(|(path, bytes, mode)| (path.clone(), mode, Digest::of(bytes))));
    let known = Known {
        dir: pair.a.dir(),
        changes: &[],
        state: &state,
    };
    let layout = CaLayout::at(&pair.b).unwrap();
    let mut cache = DigestCache::default();
    let options = SnapshotOptions::default().attempts(0);
    // Files that were written just now are remembered an hour later.
    let later = FixedClock::new(Timestamp::from(std::time::SystemTime::now() + LATER));
    for _ in 0..2 {
        let sides = Beside::read(&layout, known, &options, &mut cache, &later).unwrap();
        let beside = compare_beside(&sides, rules);
        assert_eq!(beside, whole);
        assert_eq!(beside.to_string(), whole.to_string());
    }
    whole
}

fn name(text: &str) -> Certname {
    Certname::new(text).unwrap()
}

/// Writes a file of the standby anew, from what it holds.
fn edit(pair: &Pair, path: &str, change: impl FnOnce(String) -> String) {
    let path = pair.b.join(path);
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(path, change(text)).unwrap();
}

#[test]
fn a_standby_in_step_is_the_same_and_says_how_much_was_compared() {
    let mut pair = Pair::new();
    pair.a.request("node2.test").unwrap();
    pair.a.revoke("node1.test").unwrap();
    pair.follow();
    let comparison = compared(&pair);
    assert!(comparison.is_same());
    insta::assert_snapshot!(comparison, @"same     2 certificates, 1 request, 2 rows, 4 CRLs with 1 revocation, 6 other files");
}

#[test]
fn what_the_standby_lacks_is_named_item_by_item() {
    let mut pair = Pair::new();
    pair.a.sign("node2.test").unwrap();
    pair.a.renew("node1.test").unwrap();
    pair.a.request("node3.test").unwrap();
    let serial = pair.a.revoke("node2.test").unwrap();
    pair.a.add_infra("node2.test", serial).unwrap();
    let comparison = compared(&pair);
    assert!(!comparison.is_same());
    insta::assert_snapshot!(comparison, @r#"
    defect   infra_inventory.txt: is not the source's (here: 1 byte; at the source: 11 bytes) [differs]
    defect   infra_serials: is not the source's (here: 1 byte; at the source: 2 bytes) [differs]
    defect   serial: does not cover what was issued (here: 0x0003; at the source: 0x0005) [behind]
    defect   inventory.txt, row 0x0003: is missing here (at the source: 0x0003 2026-11-21T12:30:00UTC 2031-11-20T12:30:00UTC /CN=node2.test) [missing]
    defect   inventory.txt, row 0x0004: is missing here (at the source: 0x0004 2026-11-21T12:30:00UTC 2031-11-20T12:30:00UTC /CN=node1.test) [missing]
    defect   signed/node1.test.pem: is not the source's (here: serial 0x0002 of CN=node1.test until 2031-11-20T12:30:00Z; at the source: serial 0x0004 of CN=node1.test until 2031-11-20T12:30:00Z) [differs]
    defect   signed/node2.test.pem: is missing here (at the source: serial 0x0003 of CN=node2.test until 2031-11-20T12:30:00Z) [missing]
    defect   requests/node3.test.pem: is missing here (at the source: 891 bytes) [missing]
    defect   ca_crl.pem, CRL of CN=Puppet CA: test: is older than the source's (here: number 0, 0 revoked; at the source: number 1, 1 revoked) [older]
    defect   ca_crl.pem, revocation of 0x0003: is missing here (at the source: revoked since 2026-11-22T12:30:00Z) [missing]
    same     1 certificate, 0 requests, 2 rows, 3 CRLs with 0 revocations, 3 other files
    "#);
    pair.follow();
    assert!(compared(&pair).is_same());
}

#[test]
fn what_only_the_standby_has_is_expected_where_the_rules_keep_it() {
    let mut pair = Pair::new();
    let block = SerialBlock::new(0x100, 0x1ff).unwrap();
    let mut spare = pair.a.twin(&pair.b).unwrap();
    std::fs::write(pair.b.join("serial"), "0100").unwrap();
    spare.sign("puppet-b.test").unwrap();
    spare.request("node9.test").unwrap();
    spare.revoke_serial(2).unwrap();
    pair.a.sign("node2.test").unwrap();
    pair.a.sign_until("node3.test", &[], Step::Signed).unwrap();
    let plan = pair.plan_with(&rules().block(block));
    pair.apply(&plan);
    std::fs::remove_file(pair.a.dir().join("signed/node2.test.pem")).unwrap();
    let comparison = compared_by(&pair, &same_rules().block(block));
    insta::assert_snapshot!(comparison, @r#"
    expected serial: is of this host's own block (here: 0x0101; at the source: 0x0005) [own-block]
    expected inventory.txt, row 0x0100: is of this host's own block (here: 0x0100 2026-11-21T12:30:00UTC 2031-11-20T12:30:00UTC /CN=puppet-b.test) [own-block]
    expected signed/node2.test.pem: is only here, and stays (here: serial 0x0003 of CN=node2.test until 2031-11-20T12:30:00Z) [kept]
    expected signed/puppet-b.test.pem: is of this host's own block (here: serial 0x0100 of CN=puppet-b.test until 2031-11-20T12:30:00Z) [own-block]
    expected requests/node3.test.pem: is answered by the certificate here (at the source: 891 bytes) [answered]
    expected requests/node9.test.pem: is only here, and stays (here: 891 bytes) [kept]
    expected ca_crl.pem, CRL of CN=Puppet CA: test: is ahead of the source's (here: number 1, 1 revoked; at the source: number 0, 0 revoked) [ahead]
    expected ca_crl.pem, revocation of 0x0002: is only here, and stays (here: revoked since 2026-11-22T12:30:00Z) [kept]
    same     3 certificates, 0 requests, 4 rows, 3 CRLs with 0 revocations, 5 other files
    "#);
    assert!(comparison.is_same());
    // Without a block, what was issued here is merely only here, and the counter is ahead.
    let comparison = compared(&pair);
    assert!(comparison.is_same(), "{comparison}");
    assert!(
        comparison
            .differences
            .iter()
            .all(|difference| difference.finding != Finding::OwnBlock)
    );
}

#[test]
fn what_should_be_gone_is_a_defect() {
    let mut pair = Pair::new();
    pair.a.sign("node2.test").unwrap();
    pair.follow();
    pair.a.clean("node2.test").unwrap();
    let found: Vec<_> = findings(&compared(&pair));
    assert_eq!(
        found,
        [
            "ca_crl.pem: missing",
            "ca_crl.pem: older",
            "signed/node2.test.pem: leftover"
        ]
    );
    let late = Timestamp::from_unix_seconds(NOW + 6 * 365 * 86_400).unwrap();
    let found = findings(&compared_by(&pair, &VerifyRules::new(late)));
    assert!(
        found.contains(&"ca_crl.pem: expired".to_owned()),
        "{found:?}"
    );
}

fn findings(comparison: &Comparison) -> Vec<String> {
    let mut found: Vec<_> = comparison
        .differences
        .iter()
        .map(|difference| format!("{}: {}", difference.item.path(), difference.finding))
        .collect();
    found.sort();
    found
}

#[test]
fn each_altered_file_is_judged_by_what_it_says() {
    let other = tempfile::tempdir().unwrap();
    let other = TestCa::create(other.path(), options().keys(Keys::OtherRsa)).unwrap();
    let foreign = |file: &str| std::fs::read_to_string(other.dir().join(file)).unwrap();
    let mut pair = Pair::new();
    pair.a.sign("node2.test").unwrap();
    pair.a.request("node3.test").unwrap();
    pair.a.revoke("node2.test").unwrap();
    pair.follow();
    let reference = pair.root.path().join("reference");
    copy_tree(&pair.b, &reference).unwrap();
    let crl_at = |hour, number, revoked: &[u64]| {
        let later = now() + time::Duration::hours(hour);
        let options = CrlOptions::default().now(later).number(number);
        let crl = pair.a.crl(&options.revoked(revoked)).unwrap();
        format!("{crl}{}", pair.a.root_crl())
    };
    let crl = |number, revoked: &[u64]| crl_at(0, number, revoked);
    let said = |path: &str, text: String| {
        std::fs::write(pair.b.join(path), text).unwrap();
        let found = findings(&compared(&pair));
        std::fs::remove_file(pair.b.join(path)).unwrap();
        copy_tree(&reference, &pair.b).unwrap();
        found.join(", ").replace(&format!("{path}: "), "")
    };
    let read = |path: &str| std::fs::read_to_string(pair.b.join(path)).unwrap();
    let inventory = read("inventory.txt");
    let reversed: String = inventory
        .lines()
        .rev()
        .map(|line| format!("{line}\n"))
        .collect();
    let cert = read("signed/node1.test.pem");
    let halves = read("ca_crl.pem");
    let second = halves.rfind("-----BEGIN").unwrap();
    let rows: &[(&str, String, &str)] = &[
        ("ca_crt.pem", foreign("ca_crt.pem"), "other-authority"),
        (
            "ca_crt.pem",
            format!("a comment\n{}", read("ca_crt.pem")),
            "rewritten",
        ),
        ("ca_crt.pem", String::new(), "unreadable"),
        ("ca_key.pem", foreign("ca_key.pem"), "other-key"),
        ("ca_key.pem", String::new(), "unreadable"),
        ("ca_pub.pem", foreign("ca_pub.pem"), "differs"),
        ("infra_serials", "\n\n".to_owned(), "rewritten"),
        ("infra_serials", "12\n".to_owned(), "differs"),
        ("infra_serials", "0x12\n".to_owned(), "unreadable"),
        ("serial", "0003".to_owned(), "behind"),
        ("serial", "4\n".to_owned(), "rewritten"),
        ("serial", "0005".to_owned(), "ahead"),
        ("serial", "80000000".to_owned(), "behind"),
        ("serial", "x".to_owned(), "unreadable"),
        ("inventory.txt", reversed, "rewritten"),
        (
            "inventory.txt",
            inventory.replace("node2", "node7"),
            "collision",
        ),
        (
            "inventory.txt",
            inventory.replace("0x0003", "0x0002"),
            "collision, missing",
        ),
        ("inventory.txt", format!("{inventory}0x00"), "torn"),
        (
            "inventory.txt",
            format!("{inventory}garbage\n"),
            "unreadable",
        ),
        (
            "signed/node1.test.pem",
            cert.replace('\n', "\r\n"),
            "rewritten",
        ),
        (
            "signed/node1.test.pem",
            cert[..500].to_owned(),
            "unreadable",
        ),
        (
            "signed/node1.test.pem",
            read("signed/node2.test.pem"),
            "differs",
        ),
        ("signed/node8.test.pem", cert.clone(), "misnamed"),
        (
            "signed/puppet-a.test.pem",
            foreign("signed/puppet-a.test.pem"),
            "differs",
        ),
        ("signed/Node8.pem", cert.clone(), "name-refused"),
        (
            "requests/node3.test.pem",
            read("requests/node3.test.pem").replace('\n', "\r\n"),
            "differs",
        ),
        (
            "requests/node8.test.pem",
            read("requests/node3.test.pem"),
            "kept",
        ),
        (
            "requests/node1.test.pem",
            read("requests/node3.test.pem"),
            "answered",
        ),
        ("ca_crl.pem", crl_at(1, 1, &[3]), "signed-twice"),
        ("ca_crl.pem", crl(1, &[2]), "forked, kept, missing"),
        ("ca_crl.pem", crl(2, &[2, 3]), "ahead, kept"),
        ("ca_crl.pem", crl(2, &[]), "ahead, missing"),
        ("ca_crl.pem", crl(0, &[3]), "older"),
        ("ca_crl.pem", foreign("ca_crl.pem"), "forged, kept, missing"),
        ("ca_crl.pem", halves[..second].to_owned(), "missing"),
        (
            "ca_crl.pem",
            format!("{}{}", &halves[second..], &halves[..second]),
            "differs",
        ),
        ("ca_crl.pem", halves[..900].to_owned(), "unreadable"),
        ("infra_crl.pem", format!("# {halves}"), "unreadable"),
    ];
    for (path, text, expected) in rows {
        assert_eq!(said(path, text.clone()), *expected, "{path}:\n{text}");
    }
    assert_eq!(findings(&compared(&pair)), Vec::<String>::new());
}

#[test]
fn a_certificate_that_the_ca_never_signed_is_not_merely_only_here() {
    let mut pair = Pair::new();
    let dir = pair.root.path().join("other");
    let mut other = TestCa::create(&dir, options().keys(Keys::OtherRsa)).unwrap();
    other.sign("mallory.test").unwrap();
    std::fs::copy(
        dir.join("signed/mallory.test.pem"),
        pair.b.join("signed/mallory.test.pem"),
    )
    .unwrap();
    assert_eq!(
        findings(&compared(&pair)),
        ["signed/mallory.test.pem: forged"]
    );
    // A spent one is left over, whoever has the list.
    std::fs::remove_file(pair.b.join("signed/mallory.test.pem")).unwrap();
    pair.a.set_now(now() + time::Duration::hours(1));
    pair.a.renew("node1.test").unwrap();
    pair.a.clean("node1.test").unwrap();
    assert!(findings(&compared(&pair)).contains(&"signed/node1.test.pem: leftover".to_owned()));
}

#[test]
fn a_counter_that_mirrors_covers_what_either_side_issued() {
    let pair = Pair::new();
    let mut spare = pair.a.twin(&pair.b).unwrap();
    spare.sign_with_serial("puppet-b.test", 9).unwrap();
    let said = |here: &str| {
        edit(&pair, "serial", |_| here.to_owned());
        let found = findings(&compared(&pair));
        found
            .into_iter()
            .find(|found| found.starts_with("serial"))
            .unwrap()
    };
    assert_eq!(said("0003"), "serial: behind");
    assert_eq!(said("0009"), "serial: behind");
    assert_eq!(said("000A"), "serial: ahead");
}

#[test]
fn an_emptied_source_is_no_match() {
    let pair = Pair::new();
    let empty = tempfile::tempdir().unwrap();
    let comparison = compare(&snap(&pair.b), &snap(empty.path()), &same_rules());
    assert!(!comparison.is_same());
    let defects: Vec<_> = comparison
        .defects()
        .map(|defect| defect.item.path())
        .collect();
    assert_eq!(
        defects,
        [
            "ca_crl.pem",
            "ca_crt.pem",
            "inventory.txt",
            "signed",
            "serial"
        ]
    );
}

#[test]
fn the_counter_of_a_block_is_judged_by_the_block() {
    let pair = Pair::new();
    let rules = same_rules().block(SerialBlock::new(0x100, 0x1ff).unwrap());
    let mut spare = pair.a.twin(&pair.b).unwrap();
    spare.sign_with_serial("puppet-b.test", 0x100).unwrap();
    let said = |here: &str, there: &str| {
        std::fs::write(pair.b.join("serial"), here).unwrap();
        std::fs::write(pair.a.dir().join("serial"), there).unwrap();
        let comparison = compared_by(&pair, &rules);
        let found = findings(&comparison);
        found
            .into_iter()
            .find_map(|found| Some(found.strip_prefix("serial: ")?.to_owned()))
            .unwrap()
    };
    assert_eq!(said("0101", "0003"), "own-block");
    assert_eq!(said("0200", "0003"), "own-block");
    assert_eq!(said("0100", "0003"), "behind");
    assert_eq!(said("0003", "0003"), "outside-block");
    assert_eq!(said("0101", "0101"), "block-shared");
}

#[test]
fn names_that_either_side_excludes_are_left_out_and_listed() {
    let mut pair = Pair::new();
    pair.a.sign("node2.test").unwrap();
    pair.follow();
    edit(&pair, "signed/node2.test.pem", |_| String::new());
    std::fs::write(pair.b.join("requests/node1.test.pem"), "").unwrap();
    assert_eq!(compared(&pair).defects().count(), 2);
    let exclude = |text: &str| Exclusions::new().with(name(text), "for the test");
    let options = SnapshotOptions::default().exclude(exclude("node2.test"));
    let source = Snapshot::read_dir(pair.a.dir(), &options).unwrap();
    let comparison = compare(
        &snap(&pair.b),
        &source,
        &same_rules().exclude(exclude("node1.test")),
    );
    insta::assert_snapshot!(comparison, @"
    left out node1.test
    left out node2.test
    same     1 certificate, 0 requests, 3 rows, 4 CRLs with 0 revocations, 6 other files
    ");
}

#[test]
fn a_source_that_lacks_what_every_ca_has_is_no_match() {
    for (path, expected) in [
        ("ca_crt.pem", "missing-at-source"),
        ("serial", "missing-at-source"),
        ("inventory.txt", "missing-at-source"),
        ("ca_crl.pem", "missing-at-source"),
        ("infra_crl.pem", "kept"),
        ("ca_pub.pem", "kept"),
    ] {
        let pair = Pair::new();
        std::fs::remove_file(pair.a.dir().join(path)).unwrap();
        assert_eq!(findings(&compared(&pair)), [format!("{path}: {expected}")]);
    }
}

#[test]
fn a_comparison_is_told_to_machines_as_well() {
    let pair = Pair::new();
    edit(&pair, "serial", |_| "0001".to_owned());
    let json = serde_json::to_string_pretty(&compared(&pair)).unwrap();
    insta::assert_snapshot!(json, @r#"
    {
      "differences": [
        {
          "item": {
            "kind": "counter"
          },
          "finding": "behind",
          "defect": true,
          "local": {
            "kind": "counter",
            "next": "0x0001"
          },
          "source": {
            "kind": "counter",
            "next": "0x0003"
          }
        }
      ],
      "same": {
        "certificates": 2,
        "requests": 0,
        "rows": 2,
        "crls": 4,
        "revocations": 0,
        "files": 5
      },
      "excluded": []
    }
    "#);
}
