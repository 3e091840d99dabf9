//! Serial, inventory, signed/ and requests/: what follows, what is refused, what stays.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use pefo_ca::{Exclusions, Serial, SerialBlock};
use pefo_core::Certname;
use pefo_testkit::ca::Step;

use super::*;

fn name(text: &str) -> Certname {
    Certname::new(text).unwrap()
}

fn serial_text(dir: &Path) -> String {
    std::fs::read_to_string(dir.join("serial")).unwrap()
}

#[test]
fn every_act_of_the_active_arrives() {
    let mut pair = Pair::new();
    pair.a.sign("node2.test").unwrap();
    pair.a.request("node3.test").unwrap();
    pair.follow();
    assert_same(pair.a.dir(), &pair.b);
    pair.a.revoke("node1.test").unwrap();
    pair.a.sign("node3.test").unwrap();
    pair.follow();
    assert!(
        !pair.b.join("requests/node3.test.pem").exists(),
        "a signed request goes"
    );
    assert_same(pair.a.dir(), &pair.b);
    pair.a.clean("node2.test").unwrap();
    pair.a.renew("node3.test").unwrap();
    let plan = pair.follow();
    assert_same(pair.a.dir(), &pair.b);
    insta::assert_snapshot!(plan, @r#"
    do       serial: 0x0005 -> 0x0006
    do       inventory.txt: 1 new row
    do       signed/node3.test.pem: replace (serial 0x0004 -> 0x0005)
    do       signed/node2.test.pem: remove (serial 0x0003 is revoked)
    do       ca_crl.pem: replace (the CRL of CN=Puppet CA: test, number 1 -> 2, 1 more revoked)
    "#);
    assert!(pair.plan().is_empty());
}

#[test]
fn a_signature_seen_half_done_never_leaves_the_counter_behind() {
    for step in [
        Step::Request,
        Step::Serial,
        Step::Inventory,
        Step::Signed,
        Step::Done,
    ] {
        let mut pair = Pair::new();
        pair.a.sign_until("node2.test", &[], step).unwrap();
        pair.follow();
        let b = snap(&pair.b);
        let next = b.serial().unwrap();
        assert!(
            b.inventory().unwrap().serials().all(|serial| serial < next),
            "{step:?}"
        );
        assert!(b.signed().all(|(_, cert)| cert.serial < next), "{step:?}");
    }
}

#[test]
fn files_keep_owner_and_mode_and_get_the_time_of_applying() {
    let mut pair = Pair::new();
    std::fs::set_permissions(
        pair.b.join("ca_crl.pem"),
        std::fs::Permissions::from_mode(0o600),
    )
    .unwrap();
    pair.a.sign("node2.test").unwrap();
    pair.a.revoke("node1.test").unwrap();
    pair.follow();
    let meta = |file: &str| std::fs::metadata(pair.b.join(file)).unwrap();
    assert_eq!(meta("ca_crl.pem").permissions().mode() & 0o7777, 0o600);
    assert_eq!(
        meta("signed/node2.test.pem").permissions().mode() & 0o7777,
        0o644
    );
    for file in ["ca_crl.pem", "serial", "signed/node2.test.pem"] {
        assert_eq!(meta(file).mtime(), NOW, "{file}");
    }
}

#[test]
fn the_mirrored_counter_never_goes_back() {
    let mut pair = Pair::new();
    std::fs::write(pair.b.join("serial"), "0100").unwrap();
    pair.a.sign("node2.test").unwrap();
    pair.follow();
    assert_eq!(serial_text(&pair.b), "0100");
}

#[test]
fn the_counter_covers_what_is_issued_even_where_the_source_forgot() {
    let mut pair = Pair::new();
    pair.a.sign_with_serial("node9.test", 0x40).unwrap();
    pair.a.revoke_serial(0x50).unwrap();
    std::fs::write(pair.a.dir().join("serial"), "0004").unwrap();
    pair.follow();
    assert_eq!(serial_text(&pair.b), "0051");
}

#[test]
fn serials_too_wide_for_the_counter_do_not_move_it() {
    let mut pair = Pair::new();
    pair.a
        .sign_with_serial("wide.test", 0x1234_5678_9ABC)
        .unwrap();
    pair.follow();
    assert_eq!(serial_text(&pair.b), serial_text(pair.a.dir()));
    assert!(pair.b.join("signed/wide.test.pem").exists());
}

#[test]
fn a_counter_at_its_end_holds_issuing_but_no_revocation() {
    let mut pair = Pair::new();
    pair.a.sign_with_serial("last.test", 0x7FFF_FFFF).unwrap();
    pair.a.revoke("node1.test").unwrap();
    let plan = pair.plan();
    assert_eq!(refusals(&plan), ["serial-exhausted"]);
    pair.apply(&plan);
    assert_eq!(snap(&pair.b).summary().revocations, 1);
    assert!(!pair.b.join("signed/last.test.pem").exists());
}

#[test]
fn a_standby_with_its_own_block_keeps_to_it() {
    let mut pair = Pair::new();
    let block = SerialBlock::above(3).unwrap();
    let rules = rules().block(block);
    pair.a.sign("node2.test").unwrap();
    let plan = pair.plan_with(&rules);
    assert_eq!(
        plan.source_serial,
        Some(Serial::from(4)),
        "the source's counter is recorded, not written"
    );
    pair.apply(&plan);
    assert_eq!(serial_text(&pair.b), format!("{:04X}", block.first()));
    // The spare issues one itself: its certificate, its row and its counter stay.
    let mut spare = pair.a.twin(&pair.b).unwrap();
    let own = spare.sign("puppet-b.test").unwrap();
    assert_eq!(own, u64::from(block.first()));
    pair.a.sign("node3.test").unwrap();
    pair.apply(&pair.plan_with(&rules));
    assert_eq!(serial_text(&pair.b), format!("{:04X}", block.first() + 1));
    assert!(
        pair.b.join("signed/puppet-b.test.pem").exists()
            && pair.b.join("signed/node3.test.pem").exists()
    );
    // A counter that was lost is found again from what was issued.
    std::fs::remove_file(pair.b.join("serial")).unwrap();
    let plan = pair.plan_with(&rules);
    assert!(
        plan.notes
            .iter()
            .any(|note| note.contains("serial is missing")),
        "{plan}"
    );
    pair.apply(&plan);
    assert_eq!(serial_text(&pair.b), format!("{:04X}", block.first() + 1));
    std::fs::write(
        pair.a.dir().join("serial"),
        format!("{:04X}", block.first() + 9),
    )
    .unwrap();
    assert_eq!(refusals(&pair.plan_with(&rules)), ["serial-block"]);
}

#[test]
fn a_block_that_is_used_up_is_said_so() {
    let pair = Pair::new();
    let rules = rules().block(SerialBlock::new(0x100, 0x101).unwrap());
    let mut spare = pair.a.twin(&pair.b).unwrap();
    spare.sign_with_serial("x.test", 0x100).unwrap();
    pair.apply(&pair.plan_with(&rules));
    assert_eq!(serial_text(&pair.b), "0101");
    spare.sign("y.test").unwrap();
    assert_eq!(refusals(&pair.plan_with(&rules)), ["serial-exhausted"]);
}

#[test]
fn the_same_serial_on_both_sides_is_an_alarm_and_nothing_is_overwritten() {
    let mut pair = Pair::new();
    let mut spare = pair.a.twin(&pair.b).unwrap();
    spare.sign("node-b.test").unwrap();
    pair.a.sign("node-a.test").unwrap();
    let plan = pair.plan();
    assert_eq!(refusals(&plan), ["inventory-collision", "serial-collision"]);
    insta::assert_snapshot!(plan, @r#"
    nothing to do
    refused  inventory.txt: 0x0003 is /CN=node-b.test here and /CN=node-a.test at the source [inventory-collision]
    refused  signed/node-a.test.pem: serial 0x0003 is node-b.test here [serial-collision]
    note     1 certificate(s) not at the source stay, being neither revoked nor expired: node-b.test
    "#);
    pair.apply(&plan);
    assert!(!pair.b.join("signed/node-a.test.pem").exists());
    assert!(pair.b.join("signed/node-b.test.pem").exists());
}

#[test]
fn an_older_certificate_never_replaces_a_newer_one() {
    let mut pair = Pair::new();
    let old = std::fs::read(pair.a.dir().join("signed/node1.test.pem")).unwrap();
    pair.a.renew("node1.test").unwrap();
    pair.follow();
    std::fs::write(pair.a.dir().join("signed/node1.test.pem"), &old).unwrap();
    assert_eq!(pair.refused(), ["cert-older"]);
    assert!(pair.plan().is_empty());
    pair.apply(&pair.plan_with(&rules().accept("cert-older")));
    assert_eq!(
        std::fs::read(pair.b.join("signed/node1.test.pem")).unwrap(),
        old
    );
}

#[test]
fn nothing_is_deleted_without_a_reason() {
    let mut pair = Pair::new();
    pair.a.sign("node2.test").unwrap();
    pair.follow();
    std::fs::remove_file(pair.a.dir().join("signed/node2.test.pem")).unwrap();
    let plan = pair.follow();
    assert!(
        plan.is_empty() && plan.notes[0].contains("node2.test"),
        "{plan}"
    );
    let expired = Timestamp::from_unix_seconds(NOW + 6 * 365 * 86_400).unwrap();
    insta::assert_snapshot!(pair.plan_with(&PlanRules::new(expired)).actions[0], @"signed/node2.test.pem: remove (serial 0x0003 expired on 2031-11-20T12:30:00Z)");
    let plan = pair.plan_with(&rules().tombstone(name("node2.test")));
    pair.apply(&plan);
    assert!(!pair.b.join("signed/node2.test.pem").exists());
}

#[test]
fn a_node_renewed_and_cleaned_between_two_looks_goes() {
    let mut pair = Pair::new();
    pair.a.set_now(now() + time::Duration::hours(1));
    pair.a.renew("node1.test").unwrap();
    pair.a.clean("node1.test").unwrap();
    let plan = pair.follow();
    let expected =
        "signed/node1.test.pem: remove (serial 0x0002 was followed by 0x0003, which is revoked)";
    assert!(
        plan.actions
            .iter()
            .any(|action| action.to_string() == expected),
        "{plan}"
    );
    assert_same(pair.a.dir(), &pair.b);
}

#[test]
fn more_deletions_than_allowed_wait_for_the_operator() {
    let mut pair = Pair::new();
    for node in 0..4 {
        pair.a.sign(&format!("gone{node}.test")).unwrap();
    }
    pair.follow();
    for node in 0..4 {
        pair.a.clean(&format!("gone{node}.test")).unwrap();
    }
    let rules = rules().max_deletes(3);
    let plan = pair.plan_with(&rules);
    assert_eq!(refusals(&plan), ["ca-mass-delete"]);
    pair.apply(&plan);
    assert_eq!(
        snap(&pair.b).summary().revocations,
        4,
        "the revocations are in force all the same"
    );
    assert_eq!(snap(&pair.b).summary().certificates, 6);
    pair.apply(&pair.plan_with(&rules.accept("ca-mass-delete")));
    assert_same(pair.a.dir(), &pair.b);
}

#[test]
fn excluded_names_are_neither_sent_nor_taken_nor_deleted() {
    let mut pair = Pair::new();
    let mut spare = pair.a.twin(&pair.b).unwrap();
    std::fs::write(pair.b.join("serial"), "0100").unwrap();
    spare.sign("puppet-b.test").unwrap();
    pair.a.sign("puppet-b.test").unwrap();
    pair.a.revoke_serial(0x100).unwrap();
    let own = std::fs::read(pair.b.join("signed/puppet-b.test.pem")).unwrap();
    let exclude = Exclusions::new().with(name("puppet-b.test"), "the spare's own");
    let plan = pair.plan_with(&rules().exclude(exclude.clone()));
    assert_eq!(plan.conflicts, []);
    pair.apply(&plan);
    assert_eq!(
        std::fs::read(pair.b.join("signed/puppet-b.test.pem")).unwrap(),
        own
    );
    let options = SnapshotOptions::default().exclude(exclude);
    let sent = Snapshot::read_dir(pair.a.dir(), &options).unwrap();
    assert!(
        sent.files()
            .all(|(path, _, _)| !path.as_str().contains("puppet-b"))
    );
    assert_eq!(sent.summary().excluded, 1);
    // A source that leaves a name out does not say that it is gone.
    assert_eq!(refusals(&plan_of(&pair, &sent)), Vec::<&str>::new());
}

fn plan_of(pair: &Pair, source: &Snapshot) -> Plan {
    plan(&snap(&pair.b), source, &rules())
}

#[test]
fn a_torn_inventory_tail_is_cut_off_and_a_whole_one_is_kept() {
    use std::io::Write as _;
    let mut pair = Pair::new();
    let append = |text: &str| {
        let mut file = std::fs::OpenOptions::new()
            .append(true)
            .open(pair.b.join("inventory.txt"))
            .unwrap();
        file.write_all(text.as_bytes()).unwrap();
    };
    append("0x0009 2026-11-2");
    pair.a.sign("node2.test").unwrap();
    insta::assert_snapshot!(pair.follow(), @r#"
    do       serial: 0x0003 -> 0x0004
    do       inventory.txt: 1 new row, after cutting a torn tail of 16 bytes
    do       signed/node2.test.pem: add (serial 0x0003)
    "#);
    assert_same(pair.a.dir(), &pair.b);
    // The row of a certificate that is there lacks only its newline: it is no loss.
    let text = std::fs::read_to_string(pair.b.join("inventory.txt")).unwrap();
    std::fs::write(pair.b.join("inventory.txt"), text.trim_end()).unwrap();
    pair.follow();
    assert_same(pair.a.dir(), &pair.b);
}

#[test]
fn a_missing_inventory_is_written_anew() {
    let pair = Pair::new();
    std::fs::remove_file(pair.b.join("inventory.txt")).unwrap();
    pair.follow();
    assert_same(pair.a.dir(), &pair.b);
}

#[test]
fn a_row_that_cannot_be_read_is_reported_and_the_rest_is_taken() {
    let mut pair = Pair::new();
    let path = pair.a.dir().join("inventory.txt");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{text}garbage\n")).unwrap();
    pair.a.sign("node2.test").unwrap();
    let plan = pair.plan();
    assert_eq!(refusals(&plan), ["inventory-malformed"]);
    pair.apply(&plan);
    assert_eq!(snap(&pair.b).summary().inventory_rows, 3);
}

#[test]
fn replaced_and_removed_files_are_kept_for_a_number_of_runs() {
    let mut pair = Pair::new();
    let backups = pair.root.path().join("backups");
    let options = ApplyOptions::default().backup_dir(&backups).keep_backups(2);
    let layout = CaLayout::at(&pair.b).unwrap();
    let clock = clock();
    pair.a.sign("node2.test").unwrap();
    let report = apply(&Disk::new(), &layout, &pair.plan(), &options, &clock).unwrap();
    assert_eq!(report.backup, None, "adding replaces nothing");
    let before = std::fs::read(pair.b.join("signed/node2.test.pem")).unwrap();
    pair.a.clean("node2.test").unwrap();
    let report = apply(&Disk::new(), &layout, &pair.plan(), &options, &clock).unwrap();
    let kept = report.backup.unwrap();
    assert_eq!(
        std::fs::read(kept.join("signed/node2.test.pem")).unwrap(),
        before
    );
    assert!(kept.join("ca_crl.pem").exists());
    for serial in 0x20..0x24 {
        pair.a.revoke_serial(serial).unwrap();
        apply(&Disk::new(), &layout, &pair.plan(), &options, &clock).unwrap();
    }
    assert_eq!(std::fs::read_dir(&backups).unwrap().count(), 2);
}

#[test]
fn somebody_who_comes_between_is_noticed() {
    let mut pair = Pair::new();
    pair.a.sign("node2.test").unwrap();
    let plan = pair.plan();
    std::fs::write(pair.b.join("serial"), "0077").unwrap();
    let error = apply(
        &Disk::new(),
        &CaLayout::at(&pair.b).unwrap(),
        &plan,
        &ApplyOptions::default(),
        &clock(),
    )
    .unwrap_err();
    assert_eq!(
        (error.rule(), error.is_retryable()),
        (Some("ca-moved"), true)
    );
    assert_eq!(serial_text(&pair.b), "0077");
    pair.follow();
    assert_eq!(serial_text(&pair.b), "0077");
}
