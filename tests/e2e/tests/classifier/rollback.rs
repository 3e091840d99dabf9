//! `pefo nc rollback`: back to what was there before, or to an older generation, and on again.

use pefo_testkit::classifier::{Fault, Injection, Route};
use serde_json::Value;

use super::{Classifiers, sorted, transformed};
use crate::evidence::{fails_as, refused_as, tree};

/// B has imported the captured groups, and then a group of web servers; gives the first generation.
fn imported_twice() -> Option<(Classifiers, String)> {
    let pair = Classifiers::paired()?;
    let pushed = pair.a.pefo(["nc", "push", "--json"]).exits(0).json();
    let first = pushed["details"]["generation"].as_str().unwrap().to_owned();
    pair.b.pefo(["nc", "restore"]).exits(0);
    pair.add_web_servers("secret");
    pair.a.pefo(["nc", "push"]).exits(0);
    pair.b.pefo(["nc", "restore"]).exits(0);
    assert!(pair.secret_at_b().is_some());
    Some((pair, first))
}

#[test]
fn a_rollback_brings_back_what_was_there_and_the_next_one_goes_forth_again() {
    let Some((pair, _)) = imported_twice() else {
        return;
    };
    let b = &pair.b;
    let (before, state) = (pair.at_b.groups(), tree(&b.state()));
    let shown = b.pefo(["nc", "rollback", "--dry-run"]).exits(0).stdout;
    assert!(shown.contains("- group \"Web servers\""), "{shown}");
    assert!(before == pair.at_b.groups() && state == tree(&b.state()));

    b.pefo(["nc", "rollback"]).exits(0);
    assert_eq!(sorted(&pair.at_b.groups()), sorted(&transformed()));
    // Nothing of the active comes over it, until the operator says so.
    let error = refused_as(b, &["nc", "restore"], "rolled-back");
    assert!(
        error["hint"]
            .as_str()
            .unwrap()
            .contains("--accept rolled-back"),
        "{error:#}"
    );
    b.pefo(["nc", "rollback"]).exits(0);
    assert_eq!(pair.secret_at_b().as_deref(), Some("secret"));
    b.pefo(["nc", "rollback"]).exits(0);
    b.pefo(["nc", "restore", "--accept", "rolled-back"])
        .exits(0);
    assert_eq!(pair.secret_at_b().as_deref(), Some("secret"));
}

#[test]
fn a_generation_of_the_store_is_imported_as_it_was_past_the_same_gates() {
    let Some((pair, first)) = imported_twice() else {
        return;
    };
    let b = &pair.b;
    let error = fails_as(
        b,
        &["nc", "rollback", "00000001-000000000099"],
        1,
        "not_found",
    );
    assert!(
        error["hint"].as_str().unwrap().contains(&first),
        "{error:#}"
    );

    pair.at_b.undeploy_class("puppet_enterprise");
    refused_as(b, &["nc", "rollback", &first], "nc-missing-classes");
    assert!(pair.secret_at_b().is_some());
    pair.at_b.deploy_classes_of(&super::captured());
    // What was refused was not rolled back: the active is followed as before.
    b.pefo(["nc", "restore"]).exits(0);
    b.pefo(["nc", "rollback", &first]).exits(0);
    assert_eq!(sorted(&pair.at_b.groups()), sorted(&transformed()));
    // There already.
    let report = b.pefo(["nc", "rollback", &first, "--json"]).exits(0).json();
    assert_eq!(report["outcome"], "unchanged");
}

#[test]
fn an_import_that_a_rollback_cannot_make_leaves_what_was_served() {
    let Some((pair, _)) = imported_twice() else {
        return;
    };
    let before = sorted(&pair.at_b.groups());
    pair.at_b.inject(
        Injection::new(Fault::ImportPartly)
            .on(Route::Import)
            .times(1),
    );
    let report = pair.b.pefo(["nc", "rollback", "--json"]).exits(1).json();
    let message = report["errors"][0]["message"].as_str().unwrap();
    assert!(
        message.contains("the target holds the old tree"),
        "{message}"
    );
    assert_eq!(sorted(&pair.at_b.groups()), before);
    pair.b.pefo(["nc", "restore"]).exits(0);
}

#[test]
fn the_active_does_not_roll_back_and_a_fresh_passive_has_nothing_to_go_back_to() {
    let Some(pair) = Classifiers::paired() else {
        return;
    };
    fails_as(&pair.a, &["nc", "rollback"], 6, "wrong_role");
    let error: Value = fails_as(&pair.b, &["nc", "rollback"], 1, "not_found");
    assert!(
        error["message"]
            .as_str()
            .unwrap()
            .contains("nothing was imported"),
        "{error:#}"
    );
}

#[test]
fn no_more_copies_are_kept_than_configured() {
    let Some((pair, _)) = imported_twice() else {
        return;
    };
    for _ in 0..6 {
        pair.b.pefo(["nc", "rollback"]).exits(0);
    }
    let copies = pair.b.state().join("backups/nc");
    let mut names: Vec<_> = std::fs::read_dir(copies)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names.len(), 5, "{names:?}");
    assert!(
        names[4].starts_with("00000007-before-rollback"),
        "{names:?}"
    );
}
