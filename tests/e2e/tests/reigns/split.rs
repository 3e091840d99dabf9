//! Two who claim to reign, and a third: no two kings, and each case is named.

use std::time::Duration;

use pefo_testkit::ca::copy_tree;
use pefo_testkit::child::Child;
use pefo_testkit::line::Line;
use pefo_testkit::masters::{self, Master, built_binary};
use pefo_testkit::{skip, wait};

use crate::evidence::{fails_as, generations, refused_as};
use crate::pair::{A, B, Pair};

use super::{stands, status};

const C: &str = "puppet-c.lab";
const LIMIT: Duration = Duration::from_secs(30);

/// A with two spares, both seeded.
struct Three {
    a: Master,
    b: Master,
    c: Master,
    ca: pefo_testkit::ca::TestCa,
}

impl Three {
    fn seeded() -> Option<Self> {
        let Pair { a, b, ca } = Pair::paired()?;
        let mut c = skip::need(Master::prepare(&built_binary(), C))?;
        let cadir = c.cadir();
        c.use_cadir(&cadir, "owner = \"root\"\ngroup = \"root\"");
        masters::pair(&a, &c);
        a.pefo(["ca", "push", "--seed"]).exits(0);
        for spare in [&b, &c] {
            spare.pefo(["ca", "apply"]).exits(0);
        }
        Some(Self { a, b, c, ca })
    }
}

#[test]
fn after_a_promotion_the_other_spare_joins_the_new_active_and_refuses_the_old_one() {
    let Some(mut three) = Three::seeded() else {
        return;
    };
    three.a.stop_sshd();
    three.b.pefo(["promote"]).exits(0);
    masters::pair(&three.b, &three.c);
    assert_eq!(stands(&three.c), ("passive".to_owned(), 2));
    let mut server = three.ca.resumed(&three.b.cadir()).unwrap();
    server.sign("node1.lab").unwrap();
    // The old active is down: the push reaches the others and tells of it.
    let run = three.b.pefo(["ca", "push"]).exits(4);
    assert!(
        run.stdout.contains(C) && run.stderr.contains(A),
        "{}{}",
        run.stdout,
        run.stderr
    );
    three.c.pefo(["ca", "apply"]).exits(0);
    assert!(three.c.cadir().join("signed/node1.lab.pem").exists());
    // The old one is back, and neither takes anything of it.
    three.a.restart_sshd();
    three.ca.sign("node2.lab").unwrap();
    fails_as(&three.a, &["ca", "push"], 6, "fenced");
    three.c.pefo(["ca", "apply"]).exits(0);
    assert!(!three.c.cadir().join("signed/node2.lab.pem").exists());
    // And the line that it once printed joins nobody.
    let error = fails_as(&three.a, &["init", "active"], 6, "fenced");
    assert!(error["message"].as_str().unwrap().contains(B), "{error:#}");
}

#[test]
fn a_spare_whose_line_hangs_holds_up_no_push_to_another() {
    let Some(Three {
        mut a,
        b,
        c,
        mut ca,
    }) = Three::seeded()
    else {
        return;
    };
    // The one that is served first, in the order of names.
    let line = Line::to(("127.0.0.1", b.sshd().port()));
    a.configure(&format!(
        "[[peer]]\ncertname = \"{B}\"\nport = {}\n\n",
        line.port()
    ));
    ca.sign("node1.lab").unwrap();
    line.set_stalled(true);
    let before = generations(&c, "ca").len();
    let mut push = Child::spawn(a.command().args(["ca", "push"]));
    wait::until("the other spare's generation", LIMIT, || {
        generations(&c, "ca").len() > before
    });
    assert!(push.ended().is_none(), "the first is still being served");
    line.set_stalled(false);
    wait::until("the push's end", LIMIT, || push.ended().is_some());
    for spare in [&b, &c] {
        spare.pefo(["ca", "apply"]).exits(0);
        assert!(spare.cadir().join("signed/node1.lab.pem").exists());
    }
}

#[test]
fn of_two_spares_that_were_promoted_the_later_one_reigns() {
    let Some(mut three) = Three::seeded() else {
        return;
    };
    // They know each other, as they may after earlier changes.
    three.a.stop_sshd();
    three.b.pefo(["promote"]).exits(0);
    masters::pair(&three.b, &three.c);
    // C is told by its operator that B is gone as well.
    three.b.stop_sshd();
    three.c.pefo(["promote"]).exits(0);
    assert_eq!(stands(&three.c), ("active".to_owned(), 3));
    three.b.restart_sshd();
    // No split: the later one is newer, and B learns of it at its first contact.
    fails_as(&three.b, &["ca", "push"], 6, "fenced");
}

#[test]
fn an_active_of_old_takes_over_from_its_dead_successor_above_it() {
    let Some(mut pair) = Pair::seeded() else {
        return;
    };
    pair.b.pefo(["promote", "--accept", "peer-active"]).exits(0);
    fails_as(&pair.a, &["ca", "push"], 6, "fenced");
    pair.b.stop_sshd();
    // Never demoted: it goes above what it knows of.
    pair.a.pefo(["promote"]).exits(0);
    assert_eq!(stands(&pair.a), ("active".to_owned(), 3));
    pair.b.restart_sshd();
    fails_as(&pair.b, &["ca", "push"], 6, "fenced");
    assert!(
        status(&pair.b)["fenced"]
            .as_str()
            .unwrap()
            .contains("epoch 3")
    );
    pair.b.pefo(["demote", "--wait", "0"]).exits(4);
    pair.a.pefo(["ca", "push"]).exits(0);
    pair.b.pefo(["demote", "--wait", "20"]).exits(0);
    pair.b.pefo(["ca", "verify"]).exits(0);
}

#[test]
fn an_active_that_never_heard_of_its_dead_successor_is_king_by_explicit_act_only() {
    let Some(mut pair) = Pair::seeded() else {
        return;
    };
    pair.a.stop_sshd();
    pair.b.pefo(["promote"]).exits(0);
    pair.b.stop_sshd();
    pair.a.restart_sshd();
    // It reigns in epoch 1, as far as it knows.
    fails_as(&pair.a, &["promote"], 6, "wrong_role");
    pair.a.pefo(["promote", "--epoch-above", "2"]).exits(0);
    assert_eq!(stands(&pair.a), ("active".to_owned(), 3));
    pair.b.restart_sshd();
    fails_as(&pair.b, &["ca", "push"], 6, "fenced");
}

#[test]
fn a_host_that_was_restored_to_before_its_own_reign_is_no_spare_of_itself_and_issues_nothing_twice()
{
    let Some(pair) = Pair::seeded() else {
        return;
    };
    let aside = pair.b.directory().join("aside");
    std::fs::create_dir(&aside).unwrap();
    for (dir, name) in [(pair.b.state(), "state"), (pair.b.cadir(), "ca")] {
        copy_tree(&dir, &aside.join(name)).unwrap();
    }
    pair.b.pefo(["promote", "--accept", "peer-active"]).exits(0);
    let mut server = pair.ca.resumed(&pair.b.cadir()).unwrap();
    let issued = server.sign("node1.lab").unwrap();
    pair.a.pefo(["demote", "--wait", "0"]).exits(4);
    pair.b.pefo(["ca", "push"]).exits(0);
    pair.a.pefo(["demote", "--wait", "20"]).exits(0);
    // The machine comes back as it was before it reigned.
    for (dir, name) in [(pair.b.state(), "state"), (pair.b.cadir(), "ca")] {
        std::fs::remove_dir_all(&dir).unwrap();
        std::fs::rename(aside.join(name), dir).unwrap();
    }
    assert_eq!(stands(&pair.b), ("passive".to_owned(), 1));
    fails_as(&pair.b, &["fence"], 6, "fenced");
    let told = pair.b.pefo(["status"]).exits(2).stdout;
    assert!(told.contains(&format!("{B} reigns with epoch 2")), "{told}");
    pair.b.pefo(["promote"]).exits(0);
    assert_eq!(stands(&pair.b), ("active".to_owned(), 3));
    let mut server = pair.ca.resumed(&pair.b.cadir()).unwrap();
    let again = server.sign("node2.lab").unwrap();
    assert!(
        again.abs_diff(issued) > 0xffff,
        "{again:X} after {issued:X}"
    );
    // Its spare lives under a reign that this one does not go on from: it joins anew, and brings back what was
    // forgotten.
    refused_as(&pair.b, &["ca", "push"], "reign-unknown");
    masters::pair(&pair.b, &pair.a);
    pair.b.pefo(["ca", "push"]).exits(0);
    let watch = pair.a.watch();
    pair.b.pefo(["ca", "merge"]).exits(0);
    drop(watch);
    assert!(pair.b.cadir().join("signed/node1.lab.pem").exists());
}

#[test]
fn two_holders_of_one_epoch_refuse_each_other_and_one_goes_above() {
    let Some(mut pair) = Pair::seeded() else {
        return;
    };
    // Both above 1 without hearing of each other: A by its operator's word, B because A does not answer.
    pair.a.stop_sshd();
    pair.b.stop_sshd();
    pair.b.pefo(["promote"]).exits(0);
    pair.a.pefo(["promote", "--epoch-above", "1"]).exits(0);
    pair.a.restart_sshd();
    pair.b.restart_sshd();
    for (one, other) in [(&pair.a, &pair.b), (&pair.b, &pair.a)] {
        let error = refused_as(one, &["ca", "push"], "split-reign");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(A) && message.contains(B), "{message}");
        assert!(
            error["hint"].as_str().unwrap().contains("--epoch-above 2"),
            "{error:#}"
        );
        let told = other.pefo(["status"]);
        assert!([0, 1, 2].contains(&told.code), "{}", told.stdout);
    }
    refused_as(&pair.a, &["demote"], "split-reign");
    pair.b.pefo(["promote", "--epoch-above", "2"]).exits(0);
    assert_eq!(stands(&pair.b), ("active".to_owned(), 3));
    fails_as(&pair.a, &["ca", "push"], 6, "fenced");
    pair.a.pefo(["demote", "--wait", "0"]).exits(4);
    pair.b.pefo(["ca", "push"]).exits(0);
    pair.a.pefo(["demote", "--wait", "20"]).exits(0);
}
