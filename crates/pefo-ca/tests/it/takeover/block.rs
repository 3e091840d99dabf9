//! Fresh serials.

use pefo_ca::crl::{CrlBundle, Revocation};
use pefo_ca::serial::SerialBlock;
use pefo_ca::takeover::{CrlContent, KnownSerials, fresh_block};
use proptest::prelude::*;

use super::*;

fn block(dirs: &[&Path], known: &KnownSerials) -> pefo_core::Result<SerialBlock> {
    let snapshots: Vec<Snapshot> = dirs.iter().map(|dir| snap(dir)).collect();
    fresh_block(&snapshots, known)
}

#[test]
fn the_block_is_above_every_counter_and_the_hosts_own_former_block() {
    let pair = Pair::new();
    let none = KnownSerials::default();
    let first = |known: &KnownSerials| block(&[&pair.b], known).unwrap().first();
    assert_eq!(first(&none), 0x11_0000);
    let recorded = none.source_counter(Some(serial(0x50_0000)));
    assert_eq!(first(&recorded), 0x60_0000);
    let former = SerialBlock::new(0x70_0000, 0x70_FFFF).unwrap();
    let fresh = block(&[&pair.b], &recorded.former_block(Some(former))).unwrap();
    assert!(fresh.first() > former.last(), "{fresh}");
    std::fs::write(pair.b.join("serial"), "900000").unwrap();
    assert!(first(&none) > 0x90_0000);
}

#[test]
fn a_certificate_without_a_row_and_a_revocation_without_a_certificate_count() {
    let mut pair = Pair::new();
    let known = KnownSerials::default();
    pair.a.sign_with_serial("stray.test", 0x20_0000).unwrap();
    std::fs::write(pair.a.dir().join("inventory.txt"), "").unwrap();
    assert!(block(&[pair.a.dir()], &known).unwrap().first() > 0x20_0000);
    pair.a.revoke_serial(0x40_0000).unwrap();
    assert!(block(&[pair.a.dir()], &known).unwrap().first() > 0x40_0000);
    assert!(
        block(&[&pair.b, pair.a.dir()], &known).unwrap().first() > 0x40_0000,
        "every side counts"
    );
}

#[test]
fn a_serial_that_an_ancestor_revoked_is_another_issuers() {
    let pair = Pair::new();
    let snapshot = snap(&pair.b);
    let root_key = std::fs::read(pair.b.join("root_key.pem")).unwrap();
    let root = CrlSigner::new(&root_key, snapshot.chain().unwrap().root()).unwrap();
    let (date, reason) = (timestamp(), None);
    let revoked = [(serial(0x7FFF_0000), Revocation { date, reason })].into();
    let root_crl = root
        .sign(&CrlContent::new(serial(1), revoked, timestamp()))
        .unwrap();
    let bundle = CrlBundle::of(vec![our_crl(&pair.b), root_crl]);
    std::fs::write(pair.b.join("ca_crl.pem"), bundle.to_pem()).unwrap();
    let fresh = block(&[&pair.b], &KnownSerials::default()).unwrap();
    assert_eq!(fresh.first(), 0x11_0000);
}

#[test]
fn what_no_counter_reaches_does_not_count_and_a_full_range_is_refused() {
    let pair = Pair::new();
    std::fs::write(pair.b.join("serial"), "F".repeat(40)).unwrap();
    let known = KnownSerials::default().source_counter(Some(serial(0x8000_0000)));
    assert_eq!(block(&[&pair.b], &known).unwrap().first(), 0x11_0000);
    std::fs::write(pair.b.join("serial"), "7FFF0000").unwrap();
    let error = block(&[&pair.b], &known).unwrap_err();
    assert_eq!(error.rule(), Some("serial-exhausted"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn the_block_is_disjoint_from_everything_issued(
        rows in proptest::collection::vec(0_u32..0x7000_0000, 0..8),
        counter in 1_u32..0x7000_0000,
        recorded in proptest::option::of(any::<u32>()),
        former in proptest::option::of(1_u32..0x7000_0000),
    ) {
        let root = tempfile::tempdir().unwrap();
        let ca = TestCa::create(root.path(), options()).unwrap();
        let text: String = rows
            .iter()
            .map(|row| format!("0x{row:04X} 2026-11-21T12:24:23UTC 2031-11-21T12:24:23UTC /CN=n.test\n"))
            .collect();
        std::fs::write(ca.dir().join("inventory.txt"), text).unwrap();
        std::fs::write(ca.dir().join("serial"), format!("{counter:04X}")).unwrap();
        let former = former.map(|first| SerialBlock::new(first, first + 0xFFFF).unwrap());
        let known = KnownSerials::default().source_counter(recorded.map(serial)).former_block(former);
        let fresh = block(&[ca.dir()], &known).unwrap_or_else(|error| panic!("{error}"));
        prop_assert!(rows.iter().all(|row| !fresh.contains(serial(*row)) && *row < fresh.first()));
        prop_assert!(counter < fresh.first());
        if let Some(recorded) = recorded.filter(|recorded| *recorded <= 0x7FFF_FFFF) {
            prop_assert!(recorded < fresh.first());
        }
        prop_assert!(former.is_none_or(|former| former.last() < fresh.first()));
    }
}

#[test]
fn a_host_that_does_not_remember_its_own_reigns_keeps_clear_of_what_it_issued_in_them() {
    let pair = Pair::new();
    let chosen = |unseen: u32, lane: u32| {
        let known = KnownSerials::default().lane(lane).unseen_reigns(unseen);
        block(&[&pair.b], &known).unwrap()
    };
    let mut blocks: Vec<SerialBlock> = (0..5)
        .flat_map(|unseen| (0..3).map(move |lane| (unseen, lane)))
        .map(|(unseen, lane)| chosen(unseen, lane))
        .collect();
    blocks.sort_by_key(|block| block.first());
    assert!(
        blocks.windows(2).all(|two| two[0].last() < two[1].first()),
        "{blocks:?}"
    );
}
