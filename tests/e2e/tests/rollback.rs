//! `pefo ca apply --rollback`: back by the operator's own act, and never a revoked certificate by accident.

use crate::evidence::contents;
use crate::pair::Pair;

/// The generation that the passive accepted last.
fn generation(pair: &Pair) -> String {
    let report = pair.b.pefo(["ca", "apply", "--json"]).exits(0).json();
    report["details"]["generation"].as_str().unwrap().to_owned()
}

/// B had node1, which was cleaned since, and has node2, which is new.
fn gone_on() -> Option<(Pair, String)> {
    let mut pair = Pair::seeded()?;
    pair.ca.sign("node1.lab").unwrap();
    pair.sync();
    let before = generation(&pair);
    pair.ca.clean("node1.lab").unwrap();
    pair.ca.sign("node2.lab").unwrap();
    pair.sync();
    Some((pair, before))
}

#[test]
fn a_rollback_brings_no_revoked_certificate_back_and_takes_no_revocation_back() {
    let Some((pair, before)) = gone_on() else {
        return;
    };
    let stood = contents(&pair.b.cadir());
    let run = pair.b.pefo(["ca", "apply", "--rollback", &before]).exits(3);
    assert!(
        run.refused_by("crl-rollback") && run.refused_by("cert-revoked"),
        "{}",
        run.stderr
    );
    assert_eq!(contents(&pair.b.cadir()), stood);
}

#[test]
fn with_leave_to_unrevoke_it_does_and_nothing_newer_is_applied_until_the_operator_says_so() {
    let Some((mut pair, before)) = gone_on() else {
        return;
    };
    let back = ["ca", "apply", "--rollback", &before, "--allow-unrevoke"];
    let stood = contents(&pair.b.cadir());
    pair.b.pefo(back.into_iter().chain(["--dry-run"])).exits(0);
    assert_eq!(contents(&pair.b.cadir()), stood);
    pair.b.pefo(["ca", "apply"]).exits(0);
    let crl = std::fs::read(pair.b.cadir().join("ca_crl.pem")).unwrap();
    pair.b.pefo(back).exits(0);
    let signed = |name: &str| pair.b.cadir().join(format!("signed/{name}.pem")).exists();
    assert!(
        signed("node1.lab") && signed("node2.lab"),
        "what is new stays"
    );
    assert_ne!(
        std::fs::read(pair.b.cadir().join("ca_crl.pem")).unwrap(),
        crl
    );
    pair.ca.sign("node3.lab").unwrap();
    pair.a.pefo(["ca", "push"]).exits(0);
    let run = pair.b.pefo(["ca", "apply"]).exits(3);
    assert!(
        run.refused_by("rolled-back") && run.stderr.contains("--accept rolled-back"),
        "{}",
        run.stderr
    );
    pair.b
        .pefo(["ca", "apply", "--accept", "rolled-back"])
        .exits(0);
    let signed = |name: &str| pair.b.cadir().join(format!("signed/{name}.pem")).exists();
    assert!(!signed("node1.lab") && signed("node2.lab") && signed("node3.lab"));
    assert_eq!(
        std::fs::read(pair.b.cadir().join("ca_crl.pem")).unwrap(),
        crl
    );
    pair.b.pefo(["ca", "apply"]).exits(0);
}

#[test]
fn a_generation_that_is_not_there_is_refused_and_those_that_are_are_named() {
    let Some((pair, before)) = gone_on() else {
        return;
    };
    let run = pair
        .b
        .pefo(["ca", "apply", "--rollback", "00000001-000000000099"])
        .exits(1);
    assert!(run.stderr.contains(&before), "{}", run.stderr);
    pair.b
        .pefo(["ca", "apply", "--rollback", "yesterday"])
        .exits(2);
    pair.b.pefo(["ca", "apply", "--allow-unrevoke"]).exits(2);
    pair.b.pefo(["ca", "apply"]).exits(0);
}
