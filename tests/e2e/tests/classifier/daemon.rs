//! `pefo run` on both masters: what is classified on the active is on the passive within seconds.

use std::time::Duration;

use pefo_testkit::classifier::Fault;
use pefo_testkit::wait;

use super::{Classifiers, captured, sorted, transformed};
use crate::evidence::newest_record;

/// Longer than anything takes here; a test that waits for it has failed.
const LONG: Duration = Duration::from_secs(60);
const QUICK: &str = "poll_seconds = 1";

impl Classifiers {
    #[track_caller]
    fn until(&self, what: &str, mut condition: impl FnMut() -> bool) {
        if wait::within(LONG, || condition().then_some(())).is_none() {
            panic!(
                "waited in vain for {what}\n--- A\n{}\n--- B\n{}",
                self.a.watch_log(),
                self.b.watch_log()
            );
        }
    }
}

#[test]
fn a_change_at_the_actives_console_is_at_the_passives_without_a_command() {
    let Some(pair) = Classifiers::configured(QUICK, "") else {
        return;
    };
    let (at_a, at_b) = (&pair.at_a, &pair.at_b);
    let (a, b) = (pair.a.run(), pair.b.run());
    pair.until("the first import", || {
        sorted(&at_b.groups()) == sorted(&transformed())
    });
    pair.add_web_servers("first");
    pair.until("the new group", || {
        pair.secret_at_b().as_deref() == Some("first")
    });

    // Both are killed, and what happened meanwhile is found when they are back.
    drop((a, b));
    pair.add_web_servers("second");
    let (_a, _b) = (pair.a.run(), pair.b.run());
    pair.until("the second secret", || {
        pair.secret_at_b().as_deref() == Some("second")
    });
    pair.until("B to read back", || {
        at_b.requests()
            .last()
            .is_some_and(|last| last.method == "GET")
    });
    assert_eq!(newest_record(&pair.b, "nc restore")["outcome"], "ok");

    // Unchanged, the console is asked for its groups and for nothing else, and B's is not asked at all.
    let (asked, installed) = (at_a.requests().len(), at_b.installed());
    let asked_b = at_b.requests().len();
    pair.until("A to ask again", || at_a.requests().len() >= asked + 3);
    let seen = at_a.requests().split_off(asked);
    assert!(
        seen.iter()
            .all(|request| request.method == "GET" && request.path == "/v1/groups"),
        "{seen:?}"
    );
    assert_eq!(
        (at_b.installed(), at_b.requests().len()),
        (installed, asked_b)
    );
}

#[test]
fn what_fails_is_told_once_and_goes_on_by_itself() {
    let Some(pair) = Classifiers::configured(QUICK, "") else {
        return;
    };
    let _running = (pair.a.run(), pair.b.run());
    pair.until("the first import", || {
        sorted(&pair.at_b.groups()) == sorted(&transformed())
    });
    let runs = || std::fs::read_dir(pair.a.state().join("runs")).map_or(0, Iterator::count);
    pair.until("the push to be recorded", || runs() > 0);

    // The active's console fails: one record, not one for each time it was asked.
    let before = runs();
    let asked = pair.at_a.requests().len();
    pair.at_a.set_fault(Fault::ServerError);
    pair.until("A to ask twice", || pair.at_a.requests().len() >= asked + 2);
    pair.until("the failure to be recorded", || runs() == before + 1);
    assert_eq!(newest_record(&pair.a, "nc push")["outcome"], "failed");
    pair.at_a.clear_faults();
    pair.until("A to be well", || {
        newest_record(&pair.a, "nc push")["outcome"] == "ok"
    });

    // B refuses what its code does not know; what is sent after it is taken at once.
    let mut groups = captured();
    groups.push(super::web_servers("first"));
    pair.at_a.set_groups(groups);
    pair.until("B to refuse", || {
        newest_record(&pair.b, "nc restore")["outcome"] == "refused"
    });
    assert_eq!(pair.secret_at_b(), None);
    pair.add_web_servers("second");
    pair.until("the second secret", || {
        pair.secret_at_b().as_deref() == Some("second")
    });
}
