//! The node classifier from the active to the passive, against doubles that answer as Puppet
//! Enterprise's do.

mod daemon;
mod ids;
mod rollback;

use std::path::PathBuf;

use pefo_testkit::classifier::{ClassifierDouble, Fault, Injection, Options, Route};
use pefo_testkit::masters::{self, Master};
use serde_json::{Value, json};

use crate::evidence::{fails_as, generations, newest_record, refused_as, tree};
use crate::pair::{A, B, Pair};

/// The groups of a captured installation, and what they are on another master (pefo-nc's fixtures).
const CAPTURED: &str =
    include_str!("../../../crates/pefo-nc/tests/fixtures/ncio_groups_default_master1.json");
const TRANSFORMED: &str =
    include_str!("../../../crates/pefo-nc/tests/fixtures/ncio_groups_transformed_master2.json");

/// A pair of masters, each with a classifier.
pub(crate) struct Classifiers {
    pub(crate) a: Master,
    pub(crate) b: Master,
    pub(crate) at_a: ClassifierDouble,
    pub(crate) at_b: ClassifierDouble,
}

impl Classifiers {
    /// A has the captured groups, B a lone root; the same code is deployed on both.
    pub(crate) fn paired() -> Option<Self> {
        Self::configured("", "")
    }

    /// As [`Classifiers::paired`], with more in the sections `[classifier]` of A and B.
    fn configured(more_a: &str, more_b: &str) -> Option<Self> {
        let Pair { mut a, mut b, .. } = Pair::prepared()?;
        let at_a = ClassifierDouble::start(Options::default().allow(A).groups(captured()));
        let at_b = ClassifierDouble::start(Options::default().allow(B));
        at_b.deploy_classes_of(&captured());
        a.use_classifier(&at_a, more_a);
        b.use_classifier(&at_b, more_b);
        masters::pair(&a, &b);
        Some(Self { a, b, at_a, at_b })
    }

    fn last_export(&self) -> PathBuf {
        self.a.state().join("exports/nc.json")
    }

    /// A's administrators add a group; its code is deployed on both.
    fn add_web_servers(&self, secret: &str) {
        let mut groups = captured();
        groups.push(web_servers(secret));
        self.at_b.deploy_classes_of(&groups);
        self.at_a.set_groups(groups);
    }

    /// The password in B's group of web servers, where it has one.
    fn secret_at_b(&self) -> Option<String> {
        let groups = self.at_b.groups();
        let web = groups.iter().find(|group| group["name"] == "Web servers")?;
        let password = &web["classes"]["profile::web"]["password"];
        password.as_str().map(str::to_owned)
    }
}

pub(crate) fn captured() -> Vec<Value> {
    serde_json::from_str(&CAPTURED.replace("master1.puppet.vm", A)).unwrap()
}

fn transformed() -> Vec<Value> {
    serde_json::from_str(&TRANSFORMED.replace("master2.puppet.vm", B)).unwrap()
}

/// What makes two groups differ, by id: edit times and serial numbers do not.
fn sorted(groups: &[Value]) -> Vec<Value> {
    let mut groups = groups.to_vec();
    for group in &mut groups {
        let group = group.as_object_mut().unwrap();
        for name in ["last_edited", "serial_number", "deleted"] {
            group.remove(name);
        }
        group.sort_keys();
    }
    groups.sort_by_key(|group| group["id"].to_string());
    groups
}

/// A group that A's administrators add.
pub(crate) fn web_servers(secret: &str) -> Value {
    json!({
        "name": "Web servers", "id": "fc500c43-5065-469b-91fc-37ed0e500e81",
        "parent": "00000000-0000-4000-8000-000000000000", "environment": "production", "environment_trumps": false,
        "rule": ["or", ["=", "name", A], ["~", ["fact", "role"], "^web"]],
        "classes": {"profile::web": {"server": A, "password": secret}}, "variables": {"hub": A},
    })
}

#[test]
fn what_is_classified_on_the_active_arrives_on_the_passive_with_its_name() {
    let Some(pair) = Classifiers::paired() else {
        return;
    };
    let Classifiers { a, b, at_a, at_b } = &pair;
    a.pefo(["check"]).exits(0);
    let exported = a.pefo(["nc", "export", "--json"]).exits(0).json();
    assert_eq!(exported["details"]["groups"], captured().len());
    a.pefo(["nc", "push"]).exits(0);

    let shown = b.pefo(["nc", "diff"]).exits(0).stdout;
    assert!(shown.contains("PE Master") && shown.contains(B), "{shown}");
    assert_eq!(at_b.installed(), 0, "a diff changes nothing");
    b.pefo(["nc", "restore"]).exits(0);
    assert_eq!(sorted(&at_b.groups()), sorted(&transformed()));
    assert_eq!(
        sorted(&at_a.groups()),
        sorted(&captured()),
        "the active's own stay"
    );

    // Nothing new: nothing is sent, nothing is imported.
    assert_eq!(
        a.pefo(["nc", "diff", "--json"]).exits(0).json()["outcome"],
        "unchanged"
    );
    assert_eq!(
        a.pefo(["nc", "push", "--json"]).exits(0).json()["outcome"],
        "unchanged"
    );
    assert_eq!(
        b.pefo(["nc", "restore", "--json"]).exits(0).json()["outcome"],
        "unchanged"
    );
    assert_eq!(at_b.installed(), 1);

    let mut groups = captured();
    groups.push(web_servers("secret"));
    at_a.set_groups(groups.clone());
    at_b.deploy_classes_of(&groups);
    assert!(
        a.pefo(["nc", "diff"])
            .exits(0)
            .stdout
            .contains("Web servers")
    );
    a.pefo(["nc", "push"]).exits(0);
    b.pefo(["nc", "restore"]).exits(0);
    let web = at_b
        .groups()
        .into_iter()
        .find(|group| group["name"] == "Web servers")
        .unwrap();
    assert_eq!(web["rule"][1], json!(["=", "name", B]));
    assert_eq!(
        web["classes"]["profile::web"]["server"], A,
        "a place nobody named is left, and the plan says so"
    );
    assert_eq!(at_b.installed(), 2);
}

#[test]
fn an_export_if_changed_looks_at_the_answer_and_does_nothing_where_it_is_the_same() {
    let Some(pair) = Classifiers::paired() else {
        return;
    };
    let Classifiers { a, at_a, .. } = &pair;
    let export = ["nc", "export", "--if-changed", "--json"];
    assert_eq!(a.pefo(export).exits(0).json()["outcome"], "ok");
    let before = tree(&a.state());
    let asked = at_a.requests().len();
    assert_eq!(a.pefo(export).exits(0).json()["outcome"], "unchanged");
    assert_eq!(at_a.requests().len(), asked + 1);
    assert!(
        before == tree(&a.state()),
        "an unchanged export wrote something"
    );

    // Another order is no change either, and a change of one value is one.
    at_a.set_behaviour(|behaviour| behaviour.reordered = true);
    assert_eq!(a.pefo(export).exits(0).json()["outcome"], "unchanged");
    pair.add_web_servers("secret");
    assert_eq!(a.pefo(export).exits(0).json()["outcome"], "ok");
    // What the gate refuses is not taken for seen.
    at_a.set_groups(captured().into_iter().take(1).collect());
    a.pefo(export).exits(3);
    a.pefo(export).exits(3);
}

#[test]
fn a_dry_run_changes_neither_master_nor_classifier() {
    let Some(pair) = Classifiers::paired() else {
        return;
    };
    let Classifiers { a, b, at_b, .. } = &pair;
    let before = (tree(&a.state()), tree(&b.spool()));
    a.pefo(["nc", "export", "--dry-run"]).exits(0);
    a.pefo(["nc", "push", "--dry-run"]).exits(0);
    assert!(
        before == (tree(&a.state()), tree(&b.spool())),
        "a dry run changed the active or the spool"
    );
    a.pefo(["nc", "push"]).exits(0);
    let before = (tree(&b.state()), tree(&b.spool()), at_b.groups());
    let shown = b.pefo(["nc", "restore", "--dry-run"]).exits(0).stdout;
    assert!(shown.contains("PE Master"), "{shown}");
    assert!(
        before == (tree(&b.state()), tree(&b.spool()), at_b.groups()),
        "a dry run changed the passive"
    );
    assert_eq!(at_b.installed(), 0);
}

/// What a classifier may answer instead of groups, and which kind of error that is.
const FAULTS: [(Fault, &str); 5] = [
    (Fault::Unauthenticated, "denied"),
    (Fault::PermissionDenied, "denied"),
    (Fault::ServerError, "protocol"),
    (Fault::Html, "protocol"),
    (Fault::Truncated, "protocol"),
];

#[test]
fn whatever_the_actives_classifier_answers_the_last_good_export_and_the_spool_stay() {
    let Some(pair) = Classifiers::paired() else {
        return;
    };
    let Classifiers { a, b, at_a, .. } = &pair;
    a.pefo(["nc", "push"]).exits(0);
    let before = (std::fs::read(pair.last_export()).unwrap(), tree(&b.spool()));
    let mut groups = captured();
    groups.push(web_servers("secret"));
    at_a.set_groups(groups);
    for (fault, kind) in FAULTS {
        at_a.set_fault(fault.clone());
        for command in [["nc", "export"], ["nc", "push"]] {
            let error = fails_as(a, &command, 1, kind);
            assert!(
                !error["message"].as_str().unwrap().contains('\n'),
                "{fault:?}: {error:#}"
            );
        }
        a.pefo(["check"]).exits(2);
        assert!(
            before == (std::fs::read(pair.last_export()).unwrap(), tree(&b.spool())),
            "{fault:?} changed the export or the spool"
        );
        assert_eq!(newest_record(a, "nc push")["outcome"], "failed");
        at_a.clear_faults();
    }
    a.pefo(["nc", "push"]).exits(0);
}

#[test]
fn whatever_the_passives_classifier_answers_it_serves_what_it_served() {
    let Some(pair) = Classifiers::paired() else {
        return;
    };
    let Classifiers { a, b, at_b, .. } = &pair;
    a.pefo(["nc", "push"]).exits(0);
    let before = at_b.groups();
    for (fault, kind) in FAULTS {
        at_b.inject(Injection::new(fault.clone()).on(Route::Groups));
        fails_as(b, &["nc", "restore"], 1, kind);
        assert_eq!(at_b.groups(), before, "{fault:?}");
        at_b.clear_faults();
    }
    // In the middle of the import: refused as a whole, the old tree is read back.
    at_b.inject(
        Injection::new(Fault::ServerError)
            .on(Route::Import)
            .times(1),
    );
    let run = b.pefo(["nc", "restore", "--json"]).exits(1);
    let report = run.json();
    assert!(
        report["errors"][0]["message"]
            .as_str()
            .unwrap()
            .contains("the target holds the old tree"),
        "{report:#}"
    );
    assert_eq!(sorted(&at_b.groups()), sorted(&before));
    assert_eq!(at_b.installed(), 0);
    at_b.clear_faults();
    let status = b.pefo(["status", "--json"]).json();
    assert_eq!(status["details"]["datasets"][1]["applied"], Value::Null);
    b.pefo(["nc", "restore"]).exits(0);
    assert_eq!(sorted(&at_b.groups()), sorted(&transformed()));
}

#[test]
fn an_export_that_lost_groups_is_refused_until_it_is_accepted_by_name() {
    let Some(pair) = Classifiers::paired() else {
        return;
    };
    let Classifiers { a, b, at_a, .. } = &pair;
    a.pefo(["nc", "push"]).exits(0);
    let before = (
        std::fs::read(pair.last_export()).unwrap(),
        generations(b, "nc"),
    );
    at_a.set_fault(Fault::FilteredView);
    let run = a.pefo(["nc", "push"]).exits(3);
    assert!(run.stderr.contains("[nc-"), "{}", run.stderr);
    at_a.clear_faults();
    // Deleted on purpose: all but the root and the stock groups.
    let root_only = captured()
        .into_iter()
        .filter(|group| group["id"] == group["parent"])
        .collect();
    at_a.set_groups(root_only);
    let error = fails_as(a, &["nc", "push"], 3, "refused");
    let rules = ["nc-shrink", "nc-stock-group-gone"];
    assert!(
        rules.contains(&error["rule"].as_str().unwrap()),
        "{error:#}"
    );
    assert_eq!(
        (
            std::fs::read(pair.last_export()).unwrap(),
            generations(b, "nc")
        ),
        before
    );
    a.pefo(["nc", "push", "--accept", rules[0], "--accept", rules[1]])
        .exits(0);
    assert_eq!(newest_record(a, "nc push")["accepted"], json!(rules));
    assert_eq!(generations(b, "nc").len(), 2);
}

#[test]
fn groups_that_need_code_the_passive_lacks_are_refused() {
    let Some(pair) = Classifiers::paired() else {
        return;
    };
    let Classifiers { a, b, at_a, at_b } = &pair;
    let mut groups = captured();
    groups.push(web_servers("secret"));
    at_a.set_groups(groups.clone());
    a.pefo(["nc", "push"]).exits(0);
    let before = at_b.groups();
    let error = refused_as(b, &["nc", "restore"], "nc-missing-classes");
    assert!(
        error["message"].as_str().unwrap().contains("profile::web"),
        "{error:#}"
    );
    assert_eq!(at_b.groups(), before);
    at_b.deploy_classes_of(&groups);
    b.pefo(["nc", "restore"]).exits(0);
    assert_eq!(at_b.installed(), 1);
}
