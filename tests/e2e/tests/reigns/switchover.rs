//! The reign goes over without loss, or stays where it was.

use std::time::Duration;

use pefo_testkit::wait;

use crate::evidence::{fails_as, refused_as, tree};
use crate::pair::{A, B, Pair};

use super::{counter, crl, noted, seeded_with_services, services, stands};

const LIMIT: Duration = Duration::from_secs(30);

#[test]
fn the_reign_goes_over_with_everything_and_back_again() {
    let Some(mut pair) = Pair::prepared() else {
        return;
    };
    for master in [&mut pair.a, &mut pair.b] {
        let sections = services(master);
        master.configure(&sections);
    }
    pefo_testkit::masters::pair(&pair.a, &pair.b);
    let mut pair = pair.seed();
    let _watches = [pair.a.watch(), pair.b.watch()];
    let line = || pair.a.watch_log().contains("line is open");
    wait::until("the line", LIMIT, line);
    pair.ca.sign("node1.lab").unwrap();
    let before = (tree(&pair.a.cadir()), stands(&pair.a));
    let shown = pair.a.pefo(["switchover", "--dry-run"]).exits(0).stdout;
    assert!(
        shown.contains(&format!("{B} would reign in epoch 2")),
        "{shown}"
    );
    assert_eq!((tree(&pair.a.cadir()), stands(&pair.a)), before);

    let run = pair.a.pefo(["switchover"]).exits(0);
    assert!(
        run.stdout
            .contains(&format!("{B} reigns in epoch 2, {A} is its passive")),
        "{}",
        run.stdout
    );
    assert_eq!(stands(&pair.a), ("passive".to_owned(), 2));
    assert_eq!(stands(&pair.b), ("active".to_owned(), 2));
    assert!(pair.b.cadir().join("signed/node1.lab.pem").exists());
    let mut server = pair.ca.resumed(&pair.b.cadir()).unwrap();
    server.sign("node2.lab").unwrap();
    server.revoke("node1.lab").unwrap();
    // Both watches have changed their parts by themselves.
    let arrived = || crl(&pair.a.cadir()) == crl(&pair.b.cadir());
    wait::until("B's acts at A", LIMIT, arrived);
    assert!(pair.a.cadir().join("signed/node2.lab.pem").exists());
    assert!(counter(&pair.a.cadir()) > counter(&pair.b.cadir()) + 0xffff);
    wait::until("A's services", LIMIT, || {
        noted(&pair.a, "services") == ["stop ca", "stop console", "start console", "start ca"]
    });

    pair.b.pefo(["switchover"]).exits(0);
    assert_eq!(stands(&pair.a), ("active".to_owned(), 3));
    assert_eq!(stands(&pair.b), ("passive".to_owned(), 3));
    fails_as(&pair.b, &["switchover"], 6, "wrong_role");
}

#[test]
fn whatever_fails_before_the_commit_is_undone() {
    let Some(mut pair) = seeded_with_services() else {
        return;
    };
    // Nobody of root's answers there.
    let run = pair
        .a
        .pefo(["switchover", "--timeout", "1", "--json"])
        .exits(1);
    let error = run.json()["errors"][0].clone();
    assert_eq!(error["kind"], "unreachable", "{error:#}");
    assert!(
        error["message"]
            .as_str()
            .unwrap()
            .contains("undone, this host goes on as the active"),
        "{error:#}"
    );
    assert_eq!(stands(&pair.a), ("active".to_owned(), 1));
    assert_eq!(stands(&pair.b), ("passive".to_owned(), 1));
    assert_eq!(
        noted(&pair.a, "services"),
        ["stop ca", "stop console", "start console", "start ca"]
    );
    // What still lies there of it does nothing when root runs at last.
    pair.ca.sign("node1.lab").unwrap();
    pair.sync();
    assert_eq!(stands(&pair.b), ("passive".to_owned(), 1));
    pair.b.stop_sshd();
    fails_as(&pair.a, &["switchover"], 1, "unreachable");
    assert_eq!(noted(&pair.a, "services").len(), 4);
    pair.b.restart_sshd();
    pair.b.pefo(["pause"]).exits(0);
    let _watch = {
        pair.b.pefo(["resume"]).exits(0);
        pair.b.watch()
    };
    pair.b.pefo(["pause"]).exits(0);
    let run = pair.a.pefo(["switchover", "--timeout", "3"]);
    assert!(
        run.code == 1 || run.code == 3,
        "{}{}",
        run.stdout,
        run.stderr
    );
    assert_eq!(stands(&pair.a), ("active".to_owned(), 1));
    pair.b.pefo(["resume"]).exits(0);
    pair.a.pefo(["switchover"]).exits(0);
    assert_eq!(stands(&pair.b), ("active".to_owned(), 2));
}

#[test]
fn a_peer_that_reigns_itself_or_is_unknown_is_not_handed_anything() {
    let Some(pair) = Pair::seeded() else {
        return;
    };
    fails_as(
        &pair.a,
        &["switchover", "--to", "puppet-x.lab"],
        2,
        "config",
    );
    pair.b.pefo(["promote", "--accept", "peer-active"]).exits(0);
    fails_as(&pair.a, &["switchover"], 6, "fenced");
    refused_as(&pair.b, &["switchover"], "peer-not-passive");
    assert_eq!(stands(&pair.b), ("active".to_owned(), 2));
}
