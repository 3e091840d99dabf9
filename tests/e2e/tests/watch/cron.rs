//! Cron's `pefo ca push` and `pefo ca apply` do the same where no watch runs, before and after one ran.

use super::{Watched, accepted, contents};
use crate::pair::Pair;

/// Both CAs are the same now.
#[track_caller]
fn same(pair: &Pair) {
    assert_eq!(contents(&pair.a.cadir()), contents(&pair.b.cadir()));
}

#[test]
fn cron_takes_what_a_watch_left_and_a_watch_takes_what_cron_left() {
    let Some(mut pair) = Pair::seeded() else {
        return;
    };
    pair.ca.sign("cron1.lab").unwrap();
    pair.sync();
    same(&pair);

    let mut watched = Watched::of(pair);
    watched.kill_b();
    for name in ["watch1.lab", "watch2.lab"] {
        watched.pair.ca.sign(name).unwrap();
        watched.until("diff to show it", || {
            let diff = watched.pair.b.pefo(["ca", "diff"]);
            diff.stdout.contains(name)
        });
    }
    watched.kill_a();
    let pair = &mut watched.pair;
    let before = contents(&pair.b.cadir());
    assert!(
        !before
            .unwrap()
            .keys()
            .any(|path| path.ends_with("watch1.lab.pem"))
    );
    pair.b.pefo(["ca", "apply"]).exits(0);
    same(pair);
    assert!(pair.b.pefo(["ca", "diff", "--json"]).json()["outcome"] == "unchanged");
    // The watch may have been killed before it noted the last; a second push has nothing to do.
    pair.sync();
    same(pair);
    let push = pair.a.pefo(["ca", "push", "--json"]).exits(0).json();
    assert_eq!(push["outcome"], "unchanged", "{push:#}");
    pair.ca.sign("cron2.lab").unwrap();
    pair.ca.clean("watch1.lab").unwrap();
    pair.sync();
    same(pair);

    // Without an apply in between: the watch takes the generation, and batches after it.
    watched.pair.ca.sign("cron3.lab").unwrap();
    watched.pair.a.pefo(["ca", "push"]).exits(0);
    let pushed = accepted(&watched.pair.b).position;
    watched.start_a();
    watched.start_b();
    watched.pair.ca.revoke("cron2.lab").unwrap();
    watched.in_step();
    assert!(accepted(&watched.pair.b).position > pushed);
    watched.both_live();
}
