//! A passive takes over.

use std::time::Duration;

use pefo_testkit::child::Child;
use pefo_testkit::line::Line;
use pefo_testkit::wait;

use crate::evidence::{fails_as, refused_as, tree};
use crate::pair::{A, B, Pair};

use super::{ca, counter, crl, noted, services, stands, status};

const LIMIT: Duration = Duration::from_secs(120);

#[test]
fn a_passive_takes_over_from_an_active_that_is_gone_with_all_that_was_received() {
    let Some(mut pair) = Pair::prepared() else {
        return;
    };
    let sections = services(&pair.b);
    pair.b.configure(&sections);
    pefo_testkit::masters::pair(&pair.a, &pair.b);
    let mut pair = pair.seed();
    pair.ca.sign("node1.lab").unwrap();
    pair.ca.revoke("node1.lab").unwrap();
    pair.sync();
    // Received, and not applied yet when the active dies.
    pair.ca.sign("node2.lab").unwrap();
    pair.a.pefo(["ca", "push"]).exits(0);
    pair.a.stop_sshd();

    let (number, revoked) = crl(&pair.b.cadir());
    let before = (tree(&pair.b.state()), tree(&pair.b.cadir()));
    let shown = pair.b.pefo(["promote", "--dry-run"]).exits(0).stdout;
    assert!(
        shown.contains(&format!("{B} would reign in epoch 2, after epoch 1 of {A}")),
        "{shown}"
    );
    assert!(shown.contains(&format!("{A} does not answer")), "{shown}");
    assert!(
        shown.contains("all up to 00000001-000000000003 would be"),
        "{shown}"
    );
    assert!(
        before == (tree(&pair.b.state()), tree(&pair.b.cadir())),
        "a dry run changed something"
    );

    let block = counter(&pair.b.cadir());
    let run = pair.b.pefo(["promote", "--json"]).exits(0);
    assert!(run.json()["details"]["rto_ms"].is_u64(), "{}", run.stdout);
    assert_eq!(stands(&pair.b), ("active".to_owned(), 2));
    let now = ca(&pair.b.cadir());
    assert!(now.signed().any(|(name, _)| name.as_str() == "node2.lab"));
    // A block and a number that nobody has used, nothing taken back.
    assert!(
        counter(&pair.b.cadir()) >= block + 0x10_0000,
        "{:X}",
        counter(&pair.b.cadir())
    );
    assert_eq!(crl(&pair.b.cadir()), (number + 1000, revoked));
    assert_eq!(noted(&pair.b, "services"), ["start shared"]);
    assert_eq!(noted(&pair.b, "hooks"), [format!("promoted {B} 2 {B}")]);

    // It signs, and nobody else's serial is among its own.
    let mut server = pair.ca.resumed(&pair.b.cadir()).unwrap();
    let serial = server.sign("node3.lab").unwrap();
    assert!(
        now.signed()
            .all(|(_, cert)| cert.serial != (serial as u32).into())
    );
    fails_as(&pair.b, &["promote"], 6, "wrong_role");
    fails_as(&pair.b, &["ca", "apply"], 6, "wrong_role");
}

#[test]
fn no_second_king_rises_beside_a_living_one_unless_the_operator_says_so() {
    let Some(pair) = Pair::seeded() else {
        return;
    };
    let before = tree(&pair.b.state().join("public"));
    let error = refused_as(&pair.b, &["promote"], "peer-active");
    assert!(
        error["hint"].as_str().unwrap().contains("pefo switchover"),
        "{error:#}"
    );
    assert_eq!(before, tree(&pair.b.state().join("public")));
    assert_eq!(stands(&pair.b), ("passive".to_owned(), 1));
    pair.a.pefo(["ca", "push"]).exits(0);

    pair.b.pefo(["promote", "--accept", "peer-active"]).exits(0);
    assert_eq!(stands(&pair.b), ("active".to_owned(), 2));
    // The old one was told, and does nothing any more.
    fails_as(&pair.a, &["ca", "push"], 6, "fenced");
    let told = pair.a.pefo(["status"]).exits(2).stdout;
    assert!(
        told.contains(&format!(
            "FENCED: epoch 1 has ended: {B} reigns with epoch 2"
        )),
        "{told}"
    );
    assert!(
        status(&pair.a)["fenced"]
            .as_str()
            .unwrap()
            .contains("pefo demote")
    );
}

#[test]
fn an_active_that_is_half_alive_and_answers_nothing_is_not_waited_for() {
    let Some(mut pair) = Pair::seeded() else {
        return;
    };
    // Its machine takes the connection, and not a word comes back.
    let line = Line::to(("127.0.0.1", pair.a.sshd().port()));
    line.set_stalled(true);
    pair.b.configure(&format!(
        "[[peer]]\ncertname = \"{A}\"\nport = {}\n\n",
        line.port()
    ));
    // However long a push may wait for a line: who reigns is asked for a few seconds.
    let long = Duration::from_secs(3600);
    pair.b.set_timeouts(long, long);
    let mut promote = Child::spawn(pair.b.command().arg("promote"));
    wait::until("its end", LIMIT, || promote.ended().is_some());
    assert_eq!(stands(&pair.b), ("active".to_owned(), 2));
    // And it lives: what it sends is not taken.
    pair.ca.sign("node1.lab").unwrap();
    fails_as(&pair.a, &["ca", "push"], 6, "fenced");
    assert!(!pair.b.cadir().join("signed/node1.lab.pem").exists());
}

#[test]
fn what_a_gate_refuses_is_named_before_anything_is_fenced_and_may_be_left() {
    let Some(mut pair) = Pair::seeded() else {
        return;
    };
    pair.ca.sign("node1.lab").unwrap();
    pair.a.pefo(["ca", "push"]).exits(0);
    pair.a.stop_sshd();
    // This host's own CRL cannot be read: a CA that is not whole takes nothing.
    let crl_path = pair.b.cadir().join("ca_crl.pem");
    let whole = std::fs::read(&crl_path).unwrap();
    let key = pair.b.cadir().join("ca_key.pem");
    let secret = std::fs::read(&key).unwrap();
    std::fs::remove_file(&key).unwrap();
    refused_as(&pair.b, &["promote"], "ca-key-missing");
    // Nobody's word makes up for a key.
    refused_as(
        &pair.b,
        &["promote", "--accept", "ca-key-missing"],
        "ca-key-missing",
    );
    std::fs::write(&key, secret).unwrap();
    assert_eq!(stands(&pair.b), ("passive".to_owned(), 1));
    assert!(status(&pair.b)["changing"].is_null());
    std::fs::write(&crl_path, whole).unwrap();
    pair.b.pefo(["promote", "--leave", "ca"]).exits(0);
    assert!(
        !pair.b.cadir().join("signed/node1.lab.pem").exists(),
        "it was left"
    );
    assert_eq!(stands(&pair.b), ("active".to_owned(), 2));
}
