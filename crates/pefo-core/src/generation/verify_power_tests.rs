//! Power loss while root takes a generation into its store.

use super::*;
use crate::disk::power::{Order, without_each_sync};

#[test]
fn taking_a_generation_needs_each_of_its_fsyncs() {
    let pair = Pair::new();
    let outgoing = pair.full(1);
    pair.receive(&outgoing);
    let position = outgoing.position();
    let keys = [pair.key.public()];
    let gate = Gate {
        site: &pair.site,
        dataset: &DataSet::Ca,
        keys: &keys,
        reign: &pair.reign,
        accepted: None,
        unsealing: &pair.unsealing,
    };
    let scratch = tempfile::tempdir().unwrap();
    let findings = without_each_sync(
        scratch.path(),
        Order::Any,
        |_| (),
        |stage| {
            let spool = Beneath::open(&pair.spool()).unwrap();
            let store = stage.dir().join("store");
            gate.take(&spool, position, Form::Full, &store, &stage.disk())
                .unwrap();
            stage.answered();
        },
        |dir, answers| {
            let store = dir.join("store");
            if stored_dir(&store, position).exists() {
                gate.reopen(&store, position).is_ok()
            } else {
                answers == 0
            }
        },
    )
    .unwrap();
    findings.assert_each_is_needed();
    assert_eq!(findings.syncs.len(), 2, "{findings:?}");
}
