//! Rule by rule: which CRL is put in force.

use pefo_ca::pem;
use pefo_testkit::ca::CrlOptions;

use super::*;

fn write_crl(pair: &Pair, ours: &str) {
    std::fs::write(
        pair.a.dir().join("ca_crl.pem"),
        format!("{ours}{}", pair.a.root_crl()),
    )
    .unwrap();
}

fn crl(pair: &Pair, number: u64, revoked: &[u64]) -> String {
    pair.a
        .crl(
            &CrlOptions::default()
                .now(now())
                .number(number)
                .revoked(revoked),
        )
        .unwrap()
}

/// B has CRL number 5, revoking serials 1 and 2 (both valid).
fn at_five() -> Pair {
    let pair = Pair::new();
    write_crl(&pair, &crl(&pair, 5, &[1, 2]));
    pair.follow();
    pair
}

fn in_force(pair: &Pair) -> (u32, usize) {
    let snapshot = snap(&pair.b);
    let crl = snapshot
        .ca_crl()
        .unwrap()
        .find(snapshot.chain().unwrap().signing())
        .unwrap();
    (crl.number.unwrap().counter().unwrap(), crl.revoked.len())
}

/// Replaces bytes within our CRL, keeping their number.
fn patched(pem_text: &str, from: &[u8], to: &[u8]) -> String {
    let mut der = pem::blocks(pem_text.as_bytes()).unwrap()[0].der.clone();
    let at = der
        .windows(from.len())
        .position(|window| window == from)
        .expect("the bytes to patch");
    der[at..at + to.len()].copy_from_slice(to);
    pem::encode("X509 CRL", &der)
}

#[test]
fn a_newer_crl_that_revokes_more_is_taken() {
    let pair = at_five();
    write_crl(&pair, &crl(&pair, 6, &[1, 2, 3]));
    pair.follow();
    assert_eq!(in_force(&pair), (6, 3));
}

#[test]
fn an_older_crl_is_a_rollback() {
    let pair = at_five();
    write_crl(&pair, &crl(&pair, 4, &[1]));
    let plan = pair.plan();
    insta::assert_snapshot!(plan.conflicts[0], @"ca_crl.pem: the source's CRL of CN=Puppet CA: test is older than ours (number 5 -> 4); it lacks 0x0002 [crl-rollback]");
    pair.apply(&plan);
    assert_eq!(in_force(&pair), (5, 2));
}

#[test]
fn an_older_crl_that_revokes_something_unknown_here_is_a_rollback_that_names_it() {
    let pair = at_five();
    write_crl(&pair, &crl(&pair, 4, &[1, 9]));
    let plan = pair.plan();
    assert_eq!(refusals(&plan), ["crl-rollback"]);
    assert!(
        plan.conflicts[0].message.contains("0x0009"),
        "{}",
        plan.conflicts[0]
    );
}

#[test]
fn a_crl_that_was_only_signed_again_here_is_no_alarm() {
    let pair = at_five();
    write_crl(&pair, &crl(&pair, 4, &[1, 2]));
    let plan = pair.plan();
    assert_eq!(plan.conflicts, []);
    assert!(
        plan.is_empty() && plan.notes[0].contains("signed again here"),
        "{plan}"
    );
}

#[test]
fn a_fork_that_misses_a_local_revocation_is_held() {
    let pair = at_five();
    write_crl(&pair, &crl(&pair, 5, &[1, 3]));
    assert_eq!(pair.refused(), ["crl-fork"]);
    pair.apply(&pair.plan());
    assert_eq!(in_force(&pair), (5, 2), "serial 2 stays revoked");
}

#[test]
fn an_innocent_fork_is_taken_and_noted() {
    let pair = at_five();
    write_crl(&pair, &crl(&pair, 5, &[1, 2, 3]));
    let plan = pair.follow();
    assert!(plan.notes[0].contains("two CRLs"), "{plan}");
    assert_eq!(in_force(&pair), (5, 3));
}

#[test]
fn an_unexplained_shrink_is_held_until_an_operator_accepts_it() {
    let pair = at_five();
    write_crl(&pair, &crl(&pair, 6, &[1]));
    assert_eq!(pair.refused(), ["crl-shrink"]);
    assert!(pair.plan().is_empty());
    let plan = pair.plan_with(&rules().accept("crl-shrink"));
    assert_eq!((refusals(&plan), plan.overruled.len()), (vec![], 1));
    pair.apply(&plan);
    assert_eq!(in_force(&pair), (6, 1));
}

#[test]
fn a_rollback_cannot_be_accepted() {
    let pair = at_five();
    write_crl(&pair, &crl(&pair, 4, &[1]));
    let plan = pair.plan_with(&rules().accept("crl-rollback").accept("crl-fork"));
    assert_eq!(refusals(&plan), ["crl-rollback"]);
    assert!(plan.is_empty());
}

#[test]
fn a_crl_may_drop_what_has_expired() {
    let pair = at_five();
    write_crl(&pair, &crl(&pair, 6, &[]));
    let later = Timestamp::from_unix_seconds(NOW + 6 * 365 * 86_400).unwrap();
    // Serials 1 and 2 stand in the inventory, valid for five years.
    let plan = pair.plan_with(&PlanRules::new(later));
    assert_eq!(refusals(&plan), Vec::<&str>::new());
    assert_eq!(
        refusals(&pair.plan()),
        ["crl-shrink"],
        "today they are still valid"
    );
}

#[test]
fn a_delta_crl_a_foreign_key_and_a_bad_signature_are_each_refused_by_name() {
    let pair = at_five();
    let good = crl(&pair, 6, &[1, 2, 3]);
    // CRLNumber's object identifier becomes the delta CRL indicator's.
    write_crl(
        &pair,
        &patched(&good, &[0x55, 0x1d, 0x14], &[0x55, 0x1d, 0x1b]),
    );
    assert_eq!(pair.refused(), ["crl-delta"]);
    let foreign = CrlOptions::default()
        .now(now())
        .number(6)
        .revoked(&[1, 2, 3])
        .authority_key_id(&[7; 20]);
    write_crl(&pair, &pair.a.crl(&foreign).unwrap());
    assert_eq!(pair.refused(), ["crl-authority-key"]);
    // One serial in the list is changed.
    write_crl(
        &pair,
        &patched(&good, &[0x02, 0x01, 0x03], &[0x02, 0x01, 0x04]),
    );
    assert_eq!(pair.refused(), ["crl-signature"]);
    pair.apply(&pair.plan());
    assert_eq!(in_force(&pair), (5, 2));
    write_crl(&pair, &good);
    pair.follow();
    assert_eq!(in_force(&pair), (6, 3));
}

#[test]
fn ours_goes_first_whatever_the_source_does() {
    let pair = at_five();
    let text = format!("{}{}", pair.a.root_crl(), crl(&pair, 6, &[1, 2, 3]));
    std::fs::write(pair.a.dir().join("ca_crl.pem"), text).unwrap();
    pair.follow();
    let snapshot = snap(&pair.b);
    let issuers: Vec<_> = snapshot
        .ca_crl()
        .unwrap()
        .crls()
        .iter()
        .map(|crl| crl.issuer.to_string())
        .collect();
    assert_eq!(issuers[0], "CN=Puppet CA: test");
    assert_eq!(issuers.len(), 2);
    assert!(pair.plan().is_empty(), "and stays so: {}", pair.plan());
}

#[test]
fn a_bundle_without_the_ancestors_keeps_them_here() {
    let pair = at_five();
    std::fs::write(pair.a.dir().join("ca_crl.pem"), crl(&pair, 6, &[1, 2, 3])).unwrap();
    pair.follow();
    assert_eq!(snap(&pair.b).ca_crl().unwrap().crls().len(), 2);
    assert_eq!(in_force(&pair), (6, 3));
}

#[test]
fn a_crl_of_a_stranger_is_left_out_and_ours_goes_in() {
    let pair = at_five();
    let other_dir = pair.root.path().join("other");
    let other = TestCa::create(
        &other_dir,
        options()
            .ca_name("Stranger")
            .keys(pefo_testkit::ca::Keys::Ecdsa),
    )
    .unwrap();
    let stranger = other.crl(&CrlOptions::default().now(now())).unwrap();
    write_crl(&pair, &format!("{}{stranger}", crl(&pair, 6, &[1, 2, 3])));
    let plan = pair.plan();
    assert_eq!(refusals(&plan), ["crl-unknown-issuer"]);
    assert!(plan.is_partial());
    pair.apply(&plan);
    assert_eq!(in_force(&pair), (6, 3));
    assert_eq!(snap(&pair.b).ca_crl().unwrap().crls().len(), 2);
}

#[test]
fn the_infra_crl_goes_by_its_own_numbers() {
    let mut pair = Pair::new();
    pair.a.add_infra("node1.test", 2).unwrap();
    for name in ["node2.test", "node3.test"] {
        pair.a.sign(name).unwrap();
        pair.a.revoke(name).unwrap();
    }
    // ca_crl.pem is at 3 then, infra_crl.pem at 1.
    pair.a.revoke("node1.test").unwrap();
    pair.follow();
    assert_same(pair.a.dir(), &pair.b);
    let snapshot = snap(&pair.b);
    let infra = snapshot
        .infra_crl()
        .unwrap()
        .find(snapshot.chain().unwrap().signing())
        .unwrap();
    assert_eq!((in_force(&pair).0, infra.number_text().as_str()), (3, "1"));
    assert_eq!(
        std::fs::read_to_string(pair.b.join("infra_serials")).unwrap(),
        "2\n"
    );
}

#[test]
fn the_host_copy_follows_the_crl_in_force() {
    let pair = at_five();
    let copy = pair.root.path().join("crl.pem");
    let layout = CaLayout::at(&pair.b).unwrap();
    assert!(pefo_ca::apply::sync_host_crl(&Disk::new(), &layout, &copy, &clock()).unwrap());
    assert!(!pefo_ca::apply::sync_host_crl(&Disk::new(), &layout, &copy, &clock()).unwrap());
    assert_eq!(
        std::fs::read(&copy).unwrap(),
        std::fs::read(pair.b.join("ca_crl.pem")).unwrap()
    );
    std::fs::write(pair.b.join("ca_crl.pem"), "-----BEGIN X509 CRL-----\nAAAA").unwrap();
    assert!(
        pefo_ca::apply::sync_host_crl(&Disk::new(), &layout, &copy, &clock()).is_err(),
        "a torn CRL is not spread"
    );
}
