//! Killed, or without power, at any operation: what is left is in order, and the next run finishes.

use std::sync::Arc;

use pefo_core::disk::fault::Counter;
use pefo_core::disk::power::{Crash, Loss};
use pefo_testkit::ca::Keys;

use super::*;

/// B is a good deal behind, with a torn inventory tail and a request that A has signed since.
fn behind() -> Pair {
    let mut pair = Pair::with(options().keys(Keys::Rsa));
    for node in ["revoked-before.test", "cleaned.test", "renewed.test"] {
        pair.a.sign(node).unwrap();
    }
    pair.a.revoke("revoked-before.test").unwrap();
    pair.a.request("pending.test").unwrap();
    pair.follow();
    pair.a.sign("pending.test").unwrap();
    pair.a.sign("new.test").unwrap();
    // So many that they share a sync.
    for node in 0..5 {
        pair.a.sign(&format!("new{node}.test")).unwrap();
    }
    pair.a.request("asks.test").unwrap();
    pair.a.renew("renewed.test").unwrap();
    pair.a.clean("cleaned.test").unwrap();
    let path = pair.b.join("inventory.txt");
    let mut text = std::fs::read(&path).unwrap();
    text.extend_from_slice(b"0x0006 2026-11-2");
    std::fs::write(path, text).unwrap();
    pair
}

fn run(disk: &Disk, root: &Path, source: &Snapshot) -> pefo_core::Result<()> {
    let layout = CaLayout::at(root.join("ca"))?;
    let plan = plan(&snap(layout.cadir()), source, &rules());
    assert_eq!(plan.conflicts, []);
    let options = ApplyOptions::default().backup_dir(root.join("backups"));
    apply(disk, &layout, &plan, &options, &clock()).map(drop)
}

fn assert_in_order(dir: &Path, what: &str) {
    let snapshot = snap(dir);
    assert!(
        snapshot
            .problems()
            .iter()
            .all(|problem| problem.error.rule == "inventory-torn"),
        "{what}: {:?}",
        snapshot.problems()
    );
    let next = snapshot.serial().unwrap();
    let inventory = snapshot.inventory().unwrap();
    assert!(
        inventory.serials().all(|serial| serial < next),
        "{what}: serial covers the inventory"
    );
    for (name, cert) in snapshot.signed() {
        assert!(
            inventory.of_serial(cert.serial).next().is_some(),
            "{what}: the inventory covers {name}"
        );
    }
    let crl = snapshot
        .ca_crl()
        .unwrap()
        .find(snapshot.chain().unwrap().signing())
        .unwrap();
    assert!(
        crl.revoked.contains_key(&pefo_ca::Serial::from(3)),
        "{what}: the revocation in force is lost"
    );
}

#[test]
fn a_kill_at_any_operation_leaves_order_and_the_next_run_finishes() {
    let pair = behind();
    let source = snap(pair.a.dir());
    let prepare = || {
        let root = tempfile::tempdir().unwrap();
        copy_tree(&pair.b, &root.path().join("ca")).unwrap();
        root
    };
    let counter = Arc::new(Counter::default());
    let whole = prepare();
    run(&Disk::with_hook(counter.clone()), whole.path(), &source).unwrap();
    assert_same(pair.a.dir(), &whole.path().join("ca"));
    assert!(
        counter.count() > 40,
        "the run is worth interrupting: {}",
        counter.count()
    );
    for point in 0..counter.count() {
        let root = prepare();
        let crash = Arc::new(Crash::at(point, root.path()).unwrap());
        assert!(
            run(&Disk::with_hook(crash.clone()), root.path(), &source).is_err(),
            "point {point}"
        );
        for loss in [Loss::Everything, Loss::BytesOnly] {
            let what = format!("power lost at {point}, {loss:?}");
            let after = tempfile::tempdir().unwrap();
            crash.recorder().lose_power(after.path(), loss).unwrap();
            clear_temps(after.path());
            assert_in_order(&after.path().join("ca"), &what);
            run(&Disk::new(), after.path(), &source).unwrap();
            assert_same(pair.a.dir(), &after.path().join("ca"));
        }
        assert_in_order(&root.path().join("ca"), &format!("killed at {point}"));
        run(&Disk::new(), root.path(), &source).unwrap();
        assert_same(pair.a.dir(), &root.path().join("ca"));
        assert!(snap(&root.path().join("ca")).problems().is_empty());
    }
}

/// Temp files of ours that lost their bytes: no reader looks at them, but they are no PEM either.
fn clear_temps(root: &Path) {
    for dir in ["ca", "ca/signed", "ca/requests"] {
        Disk::new().remove_temps(&root.join(dir)).unwrap();
    }
}

#[test]
fn what_was_reported_done_survives_power_loss() {
    let pair = behind();
    let root = tempfile::tempdir().unwrap();
    copy_tree(&pair.b, &root.path().join("ca")).unwrap();
    let crash = Arc::new(Crash::at(usize::MAX, root.path()).unwrap());
    run(
        &Disk::with_hook(crash.clone()),
        root.path(),
        &snap(pair.a.dir()),
    )
    .unwrap();
    for loss in [Loss::Everything, Loss::BytesOnly] {
        let after = tempfile::tempdir().unwrap();
        crash.recorder().lose_power(after.path(), loss).unwrap();
        assert_same(pair.a.dir(), &after.path().join("ca"));
    }
}
