//! A real puppetserver's CA before and after four acts: what came of it here must be what came there.

use std::path::Path;
use std::process::Command;

use super::*;

fn unpack(name: &str, into: &Path) -> PathBuf {
    std::fs::create_dir(into).unwrap();
    let tar = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name);
    let done = Command::new("tar")
        .arg("-xf")
        .arg(tar)
        .arg("-C")
        .arg(into)
        .arg("--no-same-owner")
        .status()
        .unwrap();
    assert!(done.success());
    into.join("ca")
}

pub(super) fn samples() -> (TempDir, PathBuf, PathBuf) {
    let root = tempfile::tempdir().unwrap();
    let before = unpack("sample-before.tar", &root.path().join("before"));
    let after = unpack("sample-after.tar", &root.path().join("after"));
    (root, before, after)
}

#[test]
fn the_sample_before_becomes_the_sample_after() {
    let (_root, before, after) = samples();
    let plan = plan(&snap(&before), &snap(&after), &rules());
    insta::assert_snapshot!(plan, @r#"
    do       serial: 0x0008 -> 0x0009
    do       inventory.txt: 1 new row
    do       signed/node6.lab.pem: add (serial 0x0008)
    do       signed/node3.lab.pem: remove (serial 0x0004 is revoked)
    do       requests/node7.lab.pem: add (pending at the source)
    do       ca_crl.pem: replace (the CRL of CN=Puppet CA: lab, number 0 -> 2, 2 more revoked)
    "#);
    apply_to(&before, &plan);
    assert_same(&before, &after);
    let again = pefo_ca::plan(&snap(&before), &snap(&after), &rules());
    insta::assert_snapshot!(again, @"nothing to do");
}

#[test]
fn the_way_back_is_refused_and_changes_nothing() {
    let (_root, before, after) = samples();
    let untouched = contents(&after);
    let plan = plan(&snap(&after), &snap(&before), &rules());
    insta::assert_snapshot!(plan, @r#"
    nothing to do
    refused  ca_crl.pem: the source's CRL of CN=Puppet CA: lab is older than ours (number 2 -> 0); it lacks 0x0003, 0x0004 [crl-rollback]
    refused  signed/node3.lab.pem: serial 0x0004 is revoked here, and the source does not know [cert-revoked]
    note     1 certificate(s) not at the source stay, being neither revoked nor expired: node6.lab
    "#);
    apply_to(&after, &plan);
    assert_eq!(contents(&after), untouched);
}

#[test]
fn the_sample_reads_as_what_it_is() {
    let (_root, _before, after) = samples();
    let snapshot = snap(&after);
    assert_eq!(snapshot.problems(), []);
    assert_eq!(snapshot.key_matches(), Some(true));
    let names: Vec<_> = snapshot
        .files()
        .map(|(path, _, mode)| format!("{path} {mode:o}"))
        .collect();
    assert!(
        !names.iter().any(|name| name.contains("_key")),
        "no private key is among the files: {names:?}"
    );
    insta::assert_json_snapshot!(snapshot.summary(), @r#"
    {
      "authority": "CN=Puppet CA: lab",
      "fingerprint": "D3:BF:34:9A:A1:A0:91:0A:1D:42:23:80:17:57:CB:44:B2:D4:3A:AC:AE:17:E6:43:4B:7E:84:C9:BB:CF:3B:3E",
      "authority_not_after": "2031-11-21T12:23:10Z",
      "next_serial": "0x0009",
      "inventory_rows": 8,
      "certificates": 7,
      "requests": 1,
      "revocations": 2,
      "crl_number": "0x0002",
      "crl_next_update": "2031-11-22T12:25:32Z",
      "infra_crl_number": "0x0000",
      "excluded": 0,
      "problems": 0
    }
    "#);
}
