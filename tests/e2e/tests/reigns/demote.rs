//! A returning active: what nobody saw is listed, brought over, and the host becomes a spare.

use pefo_testkit::wait;

use crate::evidence::{fails_as, refused_as};
use crate::pair::{A, B, Pair};

use super::{ca, counter, crl, noted, seeded_with_services, stands};

#[test]
fn what_a_returning_active_signed_and_revoked_unseen_is_listed_and_merged_under_the_rules() {
    let Some(mut pair) = seeded_with_services() else {
        return;
    };
    for name in ["node1.lab", "node2.lab"] {
        pair.ca.sign(name).unwrap();
    }
    pair.sync();
    // Unseen: A is cut off, and goes on for a while.
    pair.ca.sign("unseen.lab").unwrap();
    pair.ca.revoke("node1.lab").unwrap();
    pair.a.stop_sshd();
    pair.b.pefo(["promote"]).exits(0);
    let mut server = pair.ca.resumed(&pair.b.cadir()).unwrap();
    server.sign("node3.lab").unwrap();
    server.revoke("node2.lab").unwrap();
    pair.a.restart_sshd();

    // Not while it may still be the one that reigns.
    let shown = pair.a.pefo(["demote", "--dry-run"]).exits(0).stdout;
    assert!(
        shown.contains(&format!("would become the passive of {B}")),
        "{shown}"
    );
    assert_eq!(stands(&pair.a), ("active".to_owned(), 1));
    let told = pair.a.pefo(["demote", "--wait", "0"]).exits(4);
    assert!(
        told.stdout
            .contains("ca: nothing of the new active has come yet"),
        "{}",
        told.stdout
    );
    assert_eq!(stands(&pair.a), ("passive".to_owned(), 2));
    assert_eq!(noted(&pair.a, "services"), ["stop ca", "stop console"]);

    pair.b.pefo(["ca", "push"]).exits(0);
    // Its own revocation is not taken back: that is for the merge.
    let told = pair.a.pefo(["demote", "--wait", "20"]);
    let text = &told.stdout;
    assert!(
        text.contains("ca: differs from what this host had at the end of epoch 1")
            || text.contains("ca: differs"),
        "{text}{}",
        told.stderr
    );
    assert!(
        text.contains("unseen.lab") && text.contains("1 more revoked"),
        "{text}"
    );
    assert!(text.contains(&format!("'pefo ca merge' on {B}")), "{text}");
    let here = ca(&pair.a.cadir());
    assert!(here.signed().any(|(name, _)| name.as_str() == "unseen.lab"));
    // Serials of its own, which the new active has not.
    let (own, others) = (counter(&pair.a.cadir()), counter(&pair.b.cadir()));
    assert!(own >= others + 0x10_0000, "{own:X} {others:X}");

    // The merge is answered by the spare's root, which runs at the end of an apply.
    let merging = || {
        let _watch = pair.a.watch();
        wait::within(std::time::Duration::from_secs(20), || {
            let run = pair.b.pefo(["ca", "merge", "--dry-run", "--timeout", "10"]);
            (run.code == 0).then_some(run)
        })
        .unwrap_or_else(|| pair.b.pefo(["ca", "merge", "--dry-run"]))
    };
    let shown = merging().exits(0).stdout;
    assert!(
        shown.contains(&format!("would bring over from {A}")) && shown.contains("unseen.lab"),
        "{shown}"
    );
    let watch = pair.a.watch();
    pair.b.pefo(["ca", "merge"]).exits(0);
    drop(watch);
    let (_, revoked) = crl(&pair.b.cadir());
    assert_eq!(revoked.len(), 2, "{revoked:?}");
    assert!(pair.b.cadir().join("signed/unseen.lab.pem").exists());
    pair.b.pefo(["ca", "push"]).exits(0);
    pair.a.pefo(["ca", "apply"]).exits(0);
    pair.a.pefo(["ca", "verify"]).exits(0);
    assert_eq!(crl(&pair.a.cadir()), crl(&pair.b.cadir()));
    // In step: what had been stopped serves again.
    let services = noted(&pair.a, "services");
    assert_eq!(
        services,
        ["stop ca", "stop console", "start console", "start ca"]
    );
    assert_eq!(
        noted(&pair.a, "hooks"),
        [format!("fenced {A} 2 {B}"), format!("demoted {A} 2 {B}")]
    );
    let _watch = pair.a.watch();
    let report = pair.b.pefo(["ca", "merge", "--json"]).exits(0).json();
    assert_eq!(report["outcome"], "unchanged");
}

#[test]
fn a_host_that_reigns_or_never_did_does_not_step_down() {
    let Some(pair) = Pair::seeded() else {
        return;
    };
    let error = refused_as(&pair.a, &["demote"], "still-reigning");
    assert!(
        error["hint"].as_str().unwrap().contains("pefo switchover"),
        "{error:#}"
    );
    fails_as(&pair.b, &["demote"], 6, "wrong_role");
    assert_eq!(stands(&pair.a), ("active".to_owned(), 1));
}

#[test]
fn what_an_ended_reign_left_in_the_spool_is_passed_over() {
    let Some(mut pair) = seeded_with_services() else {
        return;
    };
    pair.sync();
    // A generation of A's first reign reaches B, and is never applied there.
    pair.ca.sign("late.lab").unwrap();
    pair.a.pefo(["ca", "push"]).exits(0);
    let beside = ["promote", "--accept", "peer-active"];
    pair.b
        .pefo(beside.into_iter().chain(["--leave", "ca"]))
        .exits(0);
    pair.a.pefo(["demote", "--wait", "0"]).exits(4);
    pair.a.pefo(beside).exits(0);

    // B is a spare again, and has nothing but that.
    let told = pair
        .b
        .pefo(["demote", "--wait", "0", "--json"])
        .exits(4)
        .json();
    let errors = told["errors"].as_array().unwrap();
    assert_eq!(errors.len(), 1, "{told}");
    assert_eq!(errors[0]["message"], "still to come: ca", "{told}");
    assert_eq!(stands(&pair.b), ("passive".to_owned(), 3));
}
