//! What a host's CA needs before it signs for everybody, chosen once and done at most once.

use pefo_ca::takeover::{CRL_NUMBER_GAP, KnownSerials, Succession};
use proptest::prelude::*;

use super::*;

const GAP: u32 = CRL_NUMBER_GAP;

fn chosen(split: &Split, source: Option<&Snapshot>) -> Succession {
    Succession::choose(&snap(split.b.dir()), source, &KnownSerials::default(), GAP).unwrap()
}

fn planned(split: &Split, source: Option<&Snapshot>, succession: &Succession) -> Plan {
    let dir = split.b.dir();
    succession
        .plan(&snap(dir), source, &signer(dir), timestamp())
        .unwrap()
}

#[test]
fn serials_and_numbers_are_nobodys_and_once_all_is_done_nothing_is_left_to_do() {
    let mut split = Split::new(true);
    split.b.add_infra("node1.test", 2).unwrap();
    split.b.revoke("node1.test").unwrap();
    let before = our_crl(split.b.dir());
    let succession = chosen(&split, None);
    assert!(succession.block.first() >= 0x10_0000);
    assert_eq!(succession.crl_numbers.len(), 2, "{succession:?}");
    assert!(!succession.has_begun(&snap(split.b.dir())).unwrap());

    let plan = planned(&split, None, &succession);
    let told = plan.to_string();
    assert!(
        told.contains("serial: ") && told.contains("ca_crl.pem") && told.contains("infra_crl.pem"),
        "{told}"
    );
    apply_to(split.b.dir(), &plan);
    let now = snap(split.b.dir());
    assert_eq!(
        now.serial().unwrap().counter(),
        Some(succession.block.first())
    );
    let after = our_crl(split.b.dir());
    assert_eq!(
        after.number.unwrap(),
        before.number.unwrap().checked_add(GAP).unwrap()
    );
    assert_eq!(after.revoked, before.revoked);
    assert!(openssl_verifies(split.b.dir(), "ca_crl.pem"));
    assert!(succession.has_begun(&now).unwrap());
    assert!(planned(&split, None, &succession).is_empty());
}

#[test]
fn what_was_broken_off_goes_on_with_the_same_choice() {
    let split = Split::new(true);
    let succession = chosen(&split, None);
    let mut plan = planned(&split, None, &succession);
    // Only the counter was set when it died, and its server has signed since.
    plan.actions.truncate(1);
    apply_to(split.b.dir(), &plan);
    let mut server = split.b.twin(split.b.dir()).unwrap();
    let serial = server.sign("node2.test").unwrap();
    assert_eq!(serial, u64::from(succession.block.first()));
    let again: Succession =
        serde_json::from_str(&serde_json::to_string(&succession).unwrap()).unwrap();
    let plan = planned(&split, None, &again);
    assert!(!plan.to_string().contains("serial: "), "{plan}");
    apply_to(split.b.dir(), &plan);
    let number = our_crl(split.b.dir()).number.unwrap();
    assert_eq!(Some(&number), succession.crl_numbers.get("ca_crl.pem"));
}

#[test]
fn a_revocation_that_only_the_source_has_comes_in_and_one_of_another_certificate_does_not() {
    let mut split = Split::of(true, &["node1.test", "node2.test"]);
    // One number, two CRLs: the source's was held back here.
    split.a.revoke("node1.test").unwrap();
    split.b.revoke("node2.test").unwrap();
    // And one serial that names two certificates.
    let twice = split.a.sign("there.test").unwrap();
    assert_eq!(split.b.sign("here.test").unwrap(), twice);
    split.a.revoke("there.test").unwrap();
    let source = snap(split.a.dir());
    let succession = chosen(&split, Some(&source));
    let plan = planned(&split, Some(&source), &succession);
    assert_eq!(plan.conflicts.len(), 1, "{plan}");
    assert!(
        plan.conflicts[0].to_string().contains("serial-collision"),
        "{plan}"
    );
    apply_to(split.b.dir(), &plan);
    let after = our_crl(split.b.dir());
    let revoked: Vec<u32> = after
        .revoked
        .keys()
        .map(|it| it.counter().unwrap())
        .collect();
    assert_eq!(revoked, [2, 3], "node1's and node2's");
    let highest = our_crl(split.a.dir()).number.unwrap();
    assert!(after.number.unwrap() >= highest.checked_add(GAP).unwrap());
    assert!(planned(&split, Some(&source), &succession).is_empty());
}

#[test]
fn a_ca_without_a_crl_that_can_be_read_chooses_nothing() {
    let split = Split::new(true);
    std::fs::remove_file(split.b.dir().join("ca_crl.pem")).unwrap();
    let error = Succession::choose(&snap(split.b.dir()), None, &KnownSerials::default(), GAP);
    assert_eq!(error.unwrap_err().rule(), Some("crl-missing"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn whatever_both_have_revoked_nothing_of_it_is_dropped(
        here in proptest::collection::btree_set(1_u64..40, 0..8),
        there in proptest::collection::btree_set(1_u64..40, 0..8),
        more in 0_u8..4,
    ) {
        let mut split = Split::new(true);
        split.b.revoke_serials(here.iter().copied()).unwrap();
        split.a.revoke_serials(there.iter().copied()).unwrap();
        for _ in 0..more {
            split.a.resign_crl(&[]).unwrap();
        }
        let source = snap(split.a.dir());
        let succession = chosen(&split, Some(&source));
        apply_to(split.b.dir(), &planned(&split, Some(&source), &succession));
        let after = our_crl(split.b.dir());
        let revoked: std::collections::BTreeSet<u64> =
            after.revoked.keys().map(|it| u64::from(it.counter().unwrap())).collect();
        prop_assert_eq!(revoked, here.union(&there).copied().collect());
        for side in [&source, &snap(split.a.dir())] {
            let authority = side.chain().unwrap().signing();
            let theirs = side.ca_crl().unwrap().find(authority).unwrap().number;
            prop_assert!(after.number > theirs);
        }
        prop_assert!(planned(&split, Some(&source), &succession).is_empty());
    }
}
