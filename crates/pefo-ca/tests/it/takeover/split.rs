//! Any two histories of one CA, merged and then followed, end in one.

use std::collections::{BTreeMap, BTreeSet};

use pefo_ca::seed::block_for;
use pefo_ca::serial::SerialBlock;
use pefo_ca::takeover::{KnownSerials, ResignOptions, fresh_block, resign_for_takeover};
use pefo_ca::verify::{VerifyRules, compare};
use pefo_ca::{Exclusions, SeedKey, SeedOptions, ca_fingerprint, seed};
use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Act {
    Sign(u8),
    Revoke(u8),
    Clean(u8),
    Renew(u8),
    Request(u8),
    Resign,
}

fn acts() -> impl Strategy<Value = Vec<(bool, Act)>> {
    let node = 0_u8..4;
    let act = prop_oneof![
        4 => node.clone().prop_map(Act::Sign),
        2 => node.clone().prop_map(Act::Revoke),
        2 => node.clone().prop_map(Act::Clean),
        1 => node.clone().prop_map(Act::Renew),
        1 => node.prop_map(Act::Request),
        1 => Just(Act::Resign),
    ];
    proptest::collection::vec((any::<bool>(), act), 1..16)
}

/// Does it; the serial that was issued, if one was.
fn perform(ca: &mut TestCa, act: &Act) -> Option<u64> {
    let name = |node: &u8| format!("n{node}.test");
    let is_signed =
        |ca: &TestCa, node: &u8| ca.dir().join(format!("signed/{}.pem", name(node))).exists();
    match act {
        Act::Sign(node) => Some(ca.sign(&name(node)).unwrap()),
        Act::Renew(node) if is_signed(ca, node) => Some(ca.renew(&name(node)).unwrap()),
        Act::Revoke(node) if is_signed(ca, node) => {
            ca.revoke(&name(node)).unwrap();
            None
        }
        Act::Clean(node) if is_signed(ca, node) => {
            ca.clean(&name(node)).unwrap();
            None
        }
        Act::Request(node) => {
            ca.request(&name(node)).unwrap();
            None
        }
        Act::Resign => {
            ca.resign_crl(&[]).unwrap();
            None
        }
        Act::Revoke(_) | Act::Clean(_) | Act::Renew(_) => None,
    }
}

fn revoked(dir: &Path) -> BTreeSet<Serial> {
    our_crl(dir).revoked.keys().copied().collect()
}

fn issued(dir: &Path) -> BTreeSet<Serial> {
    snap(dir).inventory().unwrap().serials().collect()
}

/// What stands in signed/: since when, and with which serial.
fn signed(dir: &Path) -> BTreeMap<String, (Timestamp, Serial)> {
    snap(dir)
        .signed()
        .map(|(name, cert)| (name.to_string(), (cert.not_before, cert.serial)))
        .collect()
}

/// Promotion: `host` gets serials of its own, and a CRL above any that nobody saw of the `former` active.
fn promote(host: &Path, former: &Path) -> SerialBlock {
    let known = KnownSerials::default().source_counter(snap(former).serial());
    let block = fresh_block([&snap(host)], &known).unwrap();
    std::fs::write(host.join("serial"), format!("{:04X}", block.first())).unwrap();
    let bundle = snap(host).ca_crl().unwrap().clone();
    let options = ResignOptions::new(timestamp());
    let resigned = resign_for_takeover(&bundle, &signer(host), &options).unwrap();
    std::fs::write(host.join("ca_crl.pem"), resigned.to_pem()).unwrap();
    block
}

#[test]
fn what_is_left_out_stays_with_its_host_from_seeding_to_failing_back() {
    const LEFT_OUT: [&str; 2] = ["puppet-b.test", "compiler1.test"];
    let root = tempfile::tempdir().unwrap();
    let mut a = TestCa::create(&root.path().join("a"), options()).unwrap();
    a.sign("n0.test").unwrap();
    for name in LEFT_OUT {
        a.sign(name).unwrap();
    }
    let exclude = LEFT_OUT.into_iter().fold(Exclusions::new(), |list, name| {
        list.with(name.parse().unwrap(), "for the test")
    });
    let reading = SnapshotOptions::default().exclude(exclude.clone());
    let read = |dir: &Path| Snapshot::read_dir(dir, &reading).unwrap();
    let own = |dir: &Path| {
        LEFT_OUT.map(|name| std::fs::read(dir.join(format!("signed/{name}.pem"))).ok())
    };
    let rules = |block| rules().block(block).exclude(exclude.clone());
    let follow = |host: &Path, source: &Path, block| {
        let plan = pefo_ca::plan(&read(host), &read(source), &rules(block));
        assert_eq!(plan.conflicts, []);
        apply_to(host, &plan);
    };

    let source = read(a.dir());
    let seeding = SeedOptions::new(
        ca_fingerprint(&source).unwrap(),
        block_for(&source).unwrap(),
        owner(),
    );
    let key = SeedKey::read(&CaLayout::at(a.dir()).unwrap()).unwrap();
    let dir = root.path().join("b");
    seed(&Disk::new(), &dir, &source, &key, &seeding, &clock()).unwrap();
    assert_eq!(own(&dir), [None, None]);

    // Each host has certificates of its own under these names, and both go on.
    let mut b = a.twin(&dir).unwrap();
    for name in LEFT_OUT {
        b.sign(name).unwrap();
        a.renew(name).unwrap();
    }
    let of_b = own(&dir);
    a.revoke("compiler1.test").unwrap();
    follow(&dir, a.dir(), seeding.block);
    assert_eq!(own(&dir), of_b);
    let comparing = VerifyRules::new(timestamp())
        .block(seeding.block)
        .exclude(exclude.clone());
    let comparison = compare(&read(&dir), &read(a.dir()), &comparing);
    assert_eq!(comparison.defects().count(), 0, "{comparison}");
    assert!(
        comparison.to_string().contains("left out puppet-b.test"),
        "{comparison}"
    );

    let block = promote(&dir, a.dir());
    a.sign("late.test").unwrap();
    for name in LEFT_OUT {
        a.clean(name).unwrap();
        a.sign(name).unwrap();
    }
    let of_a = own(a.dir());
    let merging = MergeRules::new(rules(block));
    let plan = pefo_ca::takeover::merge(&read(&dir), &read(a.dir()), &merging);
    assert_eq!(plan.conflicts, []);
    apply_to(&dir, &plan.sign(&signer(&dir), timestamp()).unwrap());
    assert!(dir.join("signed/late.test.pem").exists());
    assert_eq!(own(&dir), of_b);

    b.sign("new.test").unwrap();
    let back = fresh_block([&snap(a.dir()), &snap(&dir)], &KnownSerials::default()).unwrap();
    follow(a.dir(), &dir, back);
    assert!(a.dir().join("signed/new.test.pem").exists());
    assert_eq!(own(a.dir()), of_a);
    assert!(of_a.iter().zip(&of_b).all(|(a, b)| a != b));
}

#[test]
fn a_promoted_host_takes_in_the_old_active_and_is_followed_by_it() {
    let mut split = Split::of(false, &["n0.test", "n1.test"]);
    let (a, b) = (split.a.dir().to_owned(), split.b.dir().to_owned());
    let block = promote(&b, &a);
    // The old active had signed and revoked once more.
    split.at(1);
    split.a.sign("late.test").unwrap();
    split.a.revoke("n0.test").unwrap();
    let issued_here = split.b.sign("new.test").unwrap();
    assert!(block.contains(serial(u32::try_from(issued_here).unwrap())));

    let plan = split.merge_with(rules().block(block));
    insta::assert_snapshot!(plan, @r#"
    do       inventory.txt: 1 new row
    do       signed/late.test.pem: add (serial 0x0004)
    sign     ca_crl.pem: the CRL of CN=Puppet CA: test, number 1000 -> 2000, 1 more revoked: 0x0002
    "#);
    split.apply(&plan);
    // As a spare, the old active gets a block of its own.
    let own = fresh_block([&snap(&a), &snap(&b)], &KnownSerials::default()).unwrap();
    let back = pefo_ca::plan(&snap(&a), &snap(&b), &rules().block(own));
    insta::assert_snapshot!(back, @r#"
    do       serial: 0x0005 -> 0x320000
    do       inventory.txt: 1 new row
    do       signed/new.test.pem: add (serial 0x210000)
    do       ca_crl.pem: replace (the CRL of CN=Puppet CA: test, number 1 -> 2000, 0 more revoked)
    "#);
    apply_to(&a, &back);
    assert_eq!(our_crl(&a), our_crl(&b));
    assert_eq!(signed(&a), signed(&b));
}

#[test]
fn a_full_block_holds_certificates_back_and_no_revocation() {
    let mut split = Split::of(false, &["n0.test"]);
    let block = SerialBlock::new(0x11_0000, 0x11_FFFF).unwrap();
    std::fs::write(split.b.dir().join("serial"), "120000").unwrap();
    split.at(1);
    split.a.sign("n1.test").unwrap();
    split.a.revoke("n0.test").unwrap();
    let plan = split.merge_with(rules().block(block));
    insta::assert_snapshot!(plan, @r#"
    sign     ca_crl.pem: the CRL of CN=Puppet CA: test, number 0 -> 1001, 1 more revoked: 0x0002
    refused  serial: every serial of this host's block, 0x110000 to 0x11FFFF, is issued [serial-exhausted]
    "#);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_split_brain_ends_in_one_ca(acts in acts(), shares_counter in any::<bool>()) {
        let mut split = Split::of(shares_counter, &["n0.test", "n1.test", "n2.test"]);
        let (mut by_a, mut by_b) = (BTreeSet::new(), BTreeSet::new());
        for (hour, (is_a, act)) in acts.iter().enumerate() {
            split.at(i64::try_from(hour).unwrap() + 1);
            let (ca, by) = if *is_a { (&mut split.a, &mut by_a) } else { (&mut split.b, &mut by_b) };
            by.extend(perform(ca, act).map(|number| serial(u32::try_from(number).unwrap())));
        }
        let contested: BTreeSet<Serial> = by_a.intersection(&by_b).copied().collect();
        prop_assert!(shares_counter || contested.is_empty());
        let (a, b) = (split.a.dir().to_owned(), split.b.dir().to_owned());
        let (revoked_a, revoked_b) = (revoked(&a), revoked(&b));
        let (signed_a, signed_b) = (signed(&a), signed(&b));
        let all_issued: BTreeSet<Serial> = issued(&a).union(&issued(&b)).copied().collect();
        let numbers = [our_crl(&a).number, our_crl(&b).number];

        let plan = split.merge();
        let explained = |rule: &str| rule == "cert-older" || !contested.is_empty() && rule.ends_with("-collision");
        prop_assert!(plan.conflicts.iter().all(|conflict| explained(conflict.rule.name())), "{}", plan);
        split.apply(&plan);

        // What either revoked is revoked, but for what is another certificate here.
        let imported: BTreeSet<Serial> = revoked_a.difference(&contested).copied().collect();
        let expected: BTreeSet<Serial> = revoked_b.union(&imported).copied().collect();
        prop_assert_eq!(revoked(&b), expected.clone());
        prop_assert_eq!(issued(&b), all_issued);
        let number = our_crl(&b).number;
        prop_assert!(number >= numbers[1]);
        if expected != revoked_b {
            prop_assert!(numbers.iter().all(|before| *before < number));
        }
        // No good certificate is lost: it stands, or a good one of its name that is no older.
        let after = signed(&b);
        let of_a = signed_a.iter().filter(|(_, (_, serial))| !contested.contains(serial));
        for (name, (since, serial)) in of_a.chain(&signed_b) {
            if !expected.contains(serial) {
                let (stands_since, stands) = after[name];
                prop_assert!(!expected.contains(&stands) && (stands_since, stands) >= (*since, *serial), "{}", name);
            }
        }
        // Nothing of what is contested came in from there.
        for (name, (since, serial)) in &after {
            if contested.contains(serial) {
                prop_assert_eq!(signed_b.get(name), Some(&(*since, *serial)));
            }
        }
        prop_assert!(split.merge().is_empty(), "{}", split.merge());
        // The next serial is above all that was issued here or comes from there.
        let next = snap(&b).serial().unwrap();
        prop_assert!(issued(&b).iter().all(|serial| *serial < next));

        if contested.is_empty() {
            // The returning host follows, and both ways there is nothing left to say.
            let follow = rules().max_deletes(100);
            let back = pefo_ca::plan(&snap(&a), &snap(&b), &follow);
            prop_assert_eq!(&back.conflicts, &[], "{}", back);
            apply_to(&a, &back);
            prop_assert_eq!(revoked(&a), expected);
            prop_assert_eq!(issued(&a), issued(&b));
            prop_assert_eq!(our_crl(&a), our_crl(&b));
            for (here, there) in [(&a, &b), (&b, &a)] {
                let plan = pefo_ca::plan(&snap(here), &snap(there), &follow);
                prop_assert_eq!(&plan.conflicts, &[], "{}", plan);
                prop_assert!(!plan.to_string().contains("crl.pem"), "{}", plan);
            }
        }
    }
}
