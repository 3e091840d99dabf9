//! Two CRLs of one CA made one.

use std::collections::{BTreeMap, BTreeSet};

use pefo_ca::crl::Revocation;
use pefo_ca::takeover::{CrlContent, Namings, union};
use pefo_testkit::ca::CrlOptions;
use proptest::prelude::*;

use super::*;

const GAP: u32 = 1000;

fn at(hour: i64) -> Timestamp {
    Timestamp::from_unix_seconds(NOW - 3600 * hour).unwrap()
}

fn made(signer: &CrlSigner, number: u32, revoked: &BTreeMap<u32, (i64, u8)>) -> Crl {
    let revoked = revoked.iter().map(|(number, (hour, reason))| {
        let (date, reason) = (at(*hour), Some(*reason));
        (serial(*number), Revocation { date, reason })
    });
    signer
        .sign(&CrlContent::new(
            serial(number),
            revoked.collect(),
            timestamp(),
        ))
        .unwrap()
}

/// Two directories of one CA whose inventories name serials as given: serial, whose.
fn sides(here: &[(u32, u8)], there: &[(u32, u8)]) -> Pair {
    let pair = Pair::new();
    for (dir, rows) in [(pair.b.as_path(), here), (pair.a.dir(), there)] {
        let text: String = rows
            .iter()
            .map(|(serial, node)| format!("0x{serial:04X} 2026-11-21T12:24:23UTC 2031-11-21T12:24:23UTC /CN=n{node}.test\n"))
            .collect();
        std::fs::write(dir.join("inventory.txt"), text).unwrap();
        std::fs::remove_dir_all(dir.join("signed")).unwrap();
        std::fs::create_dir(dir.join("signed")).unwrap();
    }
    pair
}

#[test]
fn the_earlier_date_wins_with_its_reason() {
    let pair = Pair::new();
    let signer = signer(&pair.b);
    let (here, there) = (snap(&pair.b), snap(pair.a.dir()));
    let local = made(&signer, 7, &[(1, (5, 1)), (2, (9, 1))].into());
    let other = made(&signer, 9, &[(1, (6, 4)), (2, (8, 4)), (3, (1, 1))].into());
    let namings = Namings::of(&here, &there);
    let united = union(&local, &other, signer.authority(), &namings, GAP).unwrap();
    let told: Vec<_> = united
        .revoked
        .iter()
        .map(|(serial, why)| (*serial, why.date, why.reason))
        .collect();
    assert_eq!(
        told,
        [
            (serial(1), at(6), Some(4)),
            (serial(2), at(9), Some(1)),
            (serial(3), at(1), Some(1))
        ]
    );
    assert_eq!(united.number, serial(1009));
    assert_eq!(united.imported.keys().collect::<Vec<_>>(), [&serial(3)]);
}

#[test]
fn a_revocation_of_what_is_another_certificate_here_is_not_imported() {
    let pair = sides(&[(5, 1), (6, 2)], &[(5, 9), (6, 2)]);
    let signer = signer(&pair.b);
    let (here, there) = (snap(&pair.b), snap(pair.a.dir()));
    let local = made(&signer, 1, &BTreeMap::new());
    let other = made(&signer, 1, &[(5, (1, 1)), (6, (1, 1)), (7, (1, 1))].into());
    let namings = Namings::of(&here, &there);
    let united = union(&local, &other, signer.authority(), &namings, GAP).unwrap();
    assert_eq!(
        united.revoked.keys().collect::<Vec<_>>(),
        [&serial(6), &serial(7)]
    );
    insta::assert_snapshot!(united.conflicts[0], @"CRL: 0x0005 is revoked there, but is n1.test of 2026-11-21T12:24:23Z here and n9.test of 2026-11-21T12:24:23Z there [serial-collision]");
    assert_eq!(united.conflicts.len(), 1);
    // Revoked here, it stays so, whatever the serial is there.
    let united = union(&other, &local, signer.authority(), &namings, GAP).unwrap();
    assert!(united.revoked.contains_key(&serial(5)));
    // And revoked on both sides, it has the date of what it is here.
    let local = made(&signer, 1, &[(5, (1, 1)), (6, (1, 1))].into());
    let other = made(&signer, 1, &[(5, (9, 4)), (6, (9, 4))].into());
    let united = union(&local, &other, signer.authority(), &namings, GAP).unwrap();
    let date = |number| united.revoked[&serial(number)].date;
    assert_eq!((date(5), date(6)), (at(1), at(9)));
    assert!(united.conflicts.is_empty());
}

#[test]
fn one_name_signed_twice_under_one_serial_is_two_certificates() {
    let mut pair = Pair::new();
    let mut b = pair.a.twin(&pair.b).unwrap();
    b.set_now(now() + time::Duration::hours(1));
    assert_eq!(
        pair.a.sign("same.test").unwrap(),
        b.sign("same.test").unwrap()
    );
    let (here, there) = (snap(&pair.b), snap(pair.a.dir()));
    let namings = Namings::of(&here, &there);
    assert!(namings.differ(serial(3)).is_some());
    assert_eq!(namings.differ(serial(2)), None, "known to both");
    // Within one second, only the certificates themselves tell.
    let names = |more: &'static str| ["twice.test", more];
    pair.a.set_now(now());
    b.set_now(now());
    pair.a
        .sign_with_alt_names("twice.test", &names("x.test"))
        .unwrap();
    b.sign_with_alt_names("twice.test", &names("y.test"))
        .unwrap();
    let (here, there) = (snap(&pair.b), snap(pair.a.dir()));
    assert!(Namings::of(&here, &there).differ(serial(4)).is_some());
    assert_eq!(namings.differ(serial(99)), None, "known to none");
}

#[test]
fn a_crl_that_is_not_to_be_trusted_is_united_with_nothing() {
    let pair = Pair::new();
    let signer = signer(&pair.b);
    let (here, there) = (snap(&pair.b), snap(pair.a.dir()));
    let namings = Namings::of(&here, &there);
    let good = made(&signer, 1, &[(1, (1, 1))].into());
    let mut der = good.der().to_vec();
    *der.last_mut().unwrap() ^= 1;
    let torn = Crl::from_der(&der).unwrap();
    let foreign = CrlOptions::default().now(now()).authority_key_id(&[7; 20]);
    let foreign = pair.a.crl(&foreign).unwrap();
    let foreign = pefo_ca::crl::CrlBundle::from_pem(foreign.as_bytes()).unwrap();
    for (bad, rule) in [
        (&torn, "crl-signature"),
        (&foreign.crls()[0], "crl-authority-key"),
    ] {
        for (local, other) in [(&good, bad), (bad, &good)] {
            let error = union(local, other, signer.authority(), &namings, GAP).unwrap_err();
            assert_eq!(error.rule(), Some(rule));
        }
    }
}

fn entries() -> impl Strategy<Value = BTreeMap<u32, (i64, u8)>> {
    proptest::collection::btree_map(1_u32..7, (0_i64..5, 1_u8..6), 0..6)
}

fn rows() -> impl Strategy<Value = BTreeMap<u32, u8>> {
    proptest::collection::btree_map(1_u32..7, 0_u8..2, 0..6)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_union_revokes_exactly_what_either_did_less_the_conflicts(
        local in entries(), other in entries(), here in rows(), there in rows(),
        numbers in (0_u32..3000, 0_u32..3000), gap in 0_u32..2000,
    ) {
        let flat = |rows: &BTreeMap<u32, u8>| rows.iter().map(|(serial, node)| (*serial, *node)).collect::<Vec<_>>();
        let pair = sides(&flat(&here), &flat(&there));
        let signer = signer(&pair.b);
        let (ours, theirs) = (made(&signer, numbers.0, &local), made(&signer, numbers.1, &other));
        let (here_seen, there_seen) = (snap(&pair.b), snap(pair.a.dir()));
        let namings = Namings::of(&here_seen, &there_seen);
        let united = union(&ours, &theirs, signer.authority(), &namings, gap).unwrap();

        let contested = |serial: &u32| matches!((here.get(serial), there.get(serial)), (Some(a), Some(b)) if a != b);
        let expected: BTreeSet<Serial> = local
            .keys()
            .chain(other.keys().filter(|serial| !contested(serial)))
            .map(|number| serial(*number))
            .collect();
        prop_assert_eq!(united.revoked.keys().copied().collect::<BTreeSet<_>>(), expected);
        let left_out = other.keys().filter(|serial| contested(serial) && !local.contains_key(serial)).count();
        prop_assert_eq!(united.conflicts.len(), left_out);
        prop_assert!(local.keys().all(|number| united.revoked.contains_key(&serial(*number))));
        prop_assert!(united.number > serial(numbers.0) && united.number > serial(numbers.1));
        for (number, ours) in &local {
            // The hours count backwards: of two, the greater is the earlier.
            let (hour, reason) = match other.get(number) {
                Some(theirs) if theirs.0 > ours.0 && !contested(number) => theirs,
                _ => ours,
            };
            let (date, reason) = (at(*hour), Some(*reason));
            prop_assert_eq!(united.revoked[&serial(*number)], Revocation { date, reason });
        }
        // And it can be signed.
        let content = CrlContent::new(united.number, united.revoked.clone(), timestamp());
        prop_assert_eq!(&*signer.sign(&content).unwrap().revoked, &united.revoked);
    }
}
