//! Certificates and revocations from the active to the passive.

use crate::pair::Pair;

#[test]
fn what_is_signed_and_revoked_on_the_active_arrives_on_the_passive() {
    let Some(mut pair) = Pair::seeded() else { return };
    pair.ca.sign("node1.lab").unwrap();
    pair.ca.sign("node2.lab").unwrap();
    pair.sync();
    assert!(pair.b.cadir().join("signed/node1.lab.pem").exists());
    pair.ca.revoke("node1.lab").unwrap();
    pair.sync();
    let crl = |master: &pefo_testkit::masters::Master| std::fs::read(master.cadir().join("ca_crl.pem")).unwrap();
    assert_eq!(crl(&pair.a), crl(&pair.b));
    let report = pair.a.pefo(["ca", "push", "--json"]).exits(0).json();
    assert_eq!(report["outcome"], "unchanged");
    let status = pair.b.pefo(["status", "--json"]).exits(0).json();
    assert_eq!(status["details"]["role"], "passive");
    pair.a.pefo(["check"]).exits(0);
    pair.b.pefo(["check"]).exits(0);
}
