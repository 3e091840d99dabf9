//! A source that was restored from an older state stops, and goes on only by an explicit act.

use pefo_testkit::ca::copy_tree;

use crate::pair::Pair;

#[test]
fn a_restored_source_stops_until_the_operator_lets_it_go_on() {
    let Some(mut pair) = Pair::seeded() else {
        return;
    };
    let snapshot = pair.a.directory().join("snapshot");
    copy_tree(&pair.a.state(), &snapshot).unwrap();
    for name in ["node1.lab", "node2.lab"] {
        pair.ca.sign(name).unwrap();
        pair.sync();
    }
    pair.a.pefo(["ca", "push"]).exits(0);

    // The machine comes back as it was before the two pushes.
    std::fs::remove_dir_all(pair.a.state()).unwrap();
    std::fs::rename(&snapshot, pair.a.state()).unwrap();
    pair.ca.sign("node3.lab").unwrap();
    let refused = pair.a.pefo(["ca", "push"]).exits(3);
    assert!(
        refused.refused_by("source-rolled-back"),
        "{}",
        refused.stderr
    );
    assert!(!pair.b.cadir().join("signed/node3.lab.pem").exists());

    pair.a
        .pefo(["ca", "push", "--accept", "source-rolled-back"])
        .exits(0);
    pair.b.pefo(["ca", "apply"]).exits(0);
    assert!(pair.b.cadir().join("signed/node3.lab.pem").exists());
    pair.a.pefo(["ca", "push"]).exits(0);
}
