//! Batches that carry the active's own signature and what no active would send: the last line of defence
//! is the plan, and what it refuses changes nothing.

use pefo_testkit::ca::{CaOptions, CrlOptions, Keys, TestCa};
use serde_json::{Value, json};

use super::forged::{Forger, plant};
use super::{LONG, accepted, kill, refuses, tail};
use crate::evidence::tree;
use crate::pair::Pair;
use pefo_testkit::child::Child;
use pefo_testkit::wait;

/// A passive that watches, with A's signature in the test's hands.
struct Alone {
    pair: Pair,
    watch: Child,
}

impl Alone {
    fn seeded() -> Option<Self> {
        let mut pair = Pair::seeded()?;
        pair.ca.sign("node1.lab").unwrap();
        pair.ca.sign("node2.lab").unwrap();
        pair.ca.revoke("node2.lab").unwrap();
        pair.sync();
        let watch = pair.b.watch();
        Some(Self { pair, watch })
    }

    /// Plants a batch and waits for what B's watch says of it.
    #[track_caller]
    fn says(&mut self, file: &[u8], answer: &str) {
        let said = self.pair.b.watch_log().len();
        plant(&self.pair, Forger::of(&self.pair).next(), file);
        let heard = wait::within(LONG, || {
            self.pair.b.watch_log()[said..]
                .contains(answer)
                .then_some(())
        });
        let log = self.pair.b.watch_log();
        assert!(
            heard.is_some(),
            "not a word of {answer}\n{}",
            tail(&log[said..])
        );
        assert!(self.watch.ended().is_none(), "{}", tail(&log));
    }

    /// A batch as A would send it arrives: the next node's certificate.
    #[track_caller]
    fn an_honest_batch_is_applied(&mut self, certname: &str) {
        self.pair.ca.sign(certname).unwrap();
        let cadir = self.pair.a.cadir();
        let name = format!("signed/{certname}.pem");
        let read = |name: &str| std::fs::read(cadir.join(name)).unwrap();
        let (serial, inventory, cert) = (read("serial"), read("inventory.txt"), read(&name));
        let forger = Forger::of(&self.pair);
        let file = forger.batch(&[
            ("serial", &serial),
            ("inventory.txt", &inventory),
            (&name, &cert),
        ]);
        plant(&self.pair, forger.next(), &file);
        let arrived = self.pair.b.cadir().join(&name);
        let came = wait::within(LONG, || arrived.exists().then_some(()));
        assert!(came.is_some(), "{}", tail(&self.pair.b.watch_log()));
    }
}

#[test]
fn what_the_rules_refuse_holds_nothing_else_back_though_the_active_signed_it() {
    let Some(mut alone) = Alone::seeded() else {
        return;
    };
    let elsewhere = alone.pair.a.directory().join("elsewhere");
    let mut other = TestCa::create(
        &elsewhere,
        CaOptions::default()
            .ca_name("Puppet CA: elsewhere")
            .keys(Keys::OtherRsa),
    )
    .unwrap();
    other.sign("foreign.lab").unwrap();
    let foreign = std::fs::read(elsewhere.join("signed/foreign.lab.pem")).unwrap();
    let ca = &alone.pair.ca;
    let bundle = |options: &CrlOptions| format!("{}{}", ca.crl(options).unwrap(), ca.root_crl());
    let older = bundle(&CrlOptions::default().number(0));
    let without = bundle(&CrlOptions::default().number(7));
    let not_ours = std::fs::read_to_string(elsewhere.join("ca_crl.pem")).unwrap();
    let tampered = {
        let text = bundle(&CrlOptions::default().number(7));
        let (first, rest) = text.split_at(900);
        format!(
            "{first}{}{}",
            if rest.starts_with('A') { 'B' } else { 'A' },
            &rest[1..]
        )
    };
    let cases: [(&str, &[u8], &str); 7] = [
        ("signed/foreign.lab.pem", &foreign, "cert-unknown-issuer"),
        ("signed/other-name.lab.pem", &foreign, "cert-name-mismatch"),
        ("ca_crl.pem", older.as_bytes(), "crl-rollback"),
        ("ca_crl.pem", without.as_bytes(), "crl-shrink"),
        ("ca_crl.pem", tampered.as_bytes(), "crl-signature"),
        ("ca_crl.pem", not_ours.as_bytes(), "crl-signature"),
        (
            "ca_crt.pem",
            &std::fs::read(elsewhere.join("ca_crt.pem")).unwrap(),
            "ca-identity",
        ),
    ];
    for (round, (path, bytes, rule)) in cases.into_iter().enumerate() {
        let before = tree(&alone.pair.b.cadir());
        let forger = Forger::of(&alone.pair);
        plant(&alone.pair, forger.next(), &forger.batch(&[(path, bytes)]));
        let named = wait::within(LONG, || {
            let is_taken = accepted(&alone.pair.b).position == forger.next();
            (is_taken && refuses(&alone.pair.b, rule)).then_some(())
        });
        assert!(
            named.is_some(),
            "{path} {rule}\n{}",
            tail(&alone.pair.b.watch_log())
        );
        assert!(
            tree(&alone.pair.b.cadir()) == before,
            "{path} {rule}: the CA changed"
        );
        if rule != "ca-identity" {
            alone.an_honest_batch_is_applied(&format!("honest{round}.lab"));
        }
    }
    // The next push sends it all, as it is.
    alone
        .pair
        .a
        .pefo(["ca", "push", "--accept", "source-rolled-back"]);
    alone
        .pair
        .a
        .pefo(["ca", "push", "--accept", "source-rolled-back"])
        .exits(0);
    let crl = std::fs::read(alone.pair.a.cadir().join("ca_crl.pem")).unwrap();
    wait::until("the refusals to go", LONG, || {
        !refuses(&alone.pair.b, "ca-identity")
    });
    assert_eq!(
        std::fs::read(alone.pair.b.cadir().join("ca_crl.pem")).unwrap(),
        crl
    );
    alone.an_honest_batch_is_applied("last.lab");
    kill(Some(alone.watch));
}

fn put(path: &str, bytes: &[u8]) -> Value {
    let digest = pefo_core::Digest::of(bytes);
    json!([{"put": {"path": path, "mode": 420, "size": bytes.len(), "blake3": digest}}])
}

#[test]
fn steps_that_lead_elsewhere_or_are_no_business_of_the_cas_change_nothing() {
    let Some(mut alone) = Alone::seeded() else {
        return;
    };
    let key = std::fs::read(alone.pair.a.cadir().join("ca_key.pem")).unwrap();
    let cert = std::fs::read(alone.pair.a.cadir().join("signed/node1.lab.pem")).unwrap();
    for path in [
        "signed/../x.pem",
        "/etc/passwd",
        "../x.pem",
        "",
        "signed//x.pem",
        "signed/\u{0}.pem",
    ] {
        let before = tree(&alone.pair.b.cadir());
        let file = Forger::of(&alone.pair).raw(put(path, &cert), &cert);
        alone.says(&file, "what was received is not applied whole");
        assert!(
            tree(&alone.pair.b.cadir()) == before,
            "{path}: the CA changed"
        );
    }
    alone.an_honest_batch_is_applied("honest0.lab");
    // Well formed, signed, and none of them a file that a standby takes.
    let mut round = 0;
    for (path, bytes) in [
        ("x.pem", &cert),
        ("ca_key.pem", &key),
        ("root_key.pem", &key),
        ("puppet.conf", &cert),
        ("signed/UPPER.pem", &cert),
        ("signed/node1.lab.pem.d/x.pem", &cert),
        ("signed/.hidden.pem", &cert),
        ("signed/node1.lab", &cert),
        ("private/ca_key.pem", &key),
    ] {
        round += 1;
        let before = tree(&alone.pair.b.cadir());
        let last = accepted(&alone.pair.b).position;
        let file = Forger::of(&alone.pair).batch(&[(path, bytes.as_slice())]);
        plant(&alone.pair, Forger::of(&alone.pair).next(), &file);
        let taken = wait::within(LONG, || {
            (accepted(&alone.pair.b).position > last).then_some(())
        });
        assert!(
            taken.is_some(),
            "{path}\n{}",
            tail(&alone.pair.b.watch_log())
        );
        alone.an_honest_batch_is_applied(&format!("honest{round}.lab"));
        let mut after = tree(&alone.pair.b.cadir());
        after.retain(|name, _| before.contains_key(name));
        let names: Vec<_> = tree(&alone.pair.b.cadir())
            .into_keys()
            .filter(|name| !before.contains_key(name))
            .collect();
        let honest = format!("signed/honest{round}.lab.pem");
        assert_eq!(names, [std::path::PathBuf::from(honest)], "{path}");
    }
    assert!(alone.watch.ended().is_none());
}

#[test]
fn a_batch_beyond_its_limits_is_refused_before_it_is_read() {
    let Some(mut alone) = Alone::seeded() else {
        return;
    };
    let forger = Forger::of(&alone.pair);
    let tiny = json!({"delete": {"path": "signed/x.pem", "reason": ""}});
    let many = Value::Array(vec![tiny; 400_001]);
    let huge = |size: u64| json!([{"put": {"path": "ca_crl.pem", "mode": 420, "size": size, "blake3": pefo_core::Digest::of(b"")}}]);
    let before = tree(&alone.pair.b.cadir());
    for (file, answer) in [
        (forger.raw(many, b""), "steps within the limit"),
        (
            forger.announced(huge(1 << 30), 1 << 30),
            "too large for a batch",
        ),
        (forger.announced(huge(1 << 30), 1 << 20), "do not add up"),
        (forger.announced(huge(200 << 20), 200 << 20), "[digest]"),
    ] {
        alone.says(&file, answer);
        assert!(
            tree(&alone.pair.b.cadir()) == before,
            "{answer}: the CA changed"
        );
    }
    alone.an_honest_batch_is_applied("honest.lab");
    assert!(alone.watch.ended().is_none());
}

#[test]
fn a_step_that_starts_from_another_file_is_refused() {
    let Some(mut alone) = Alone::seeded() else {
        return;
    };
    let before = tree(&alone.pair.b.cadir());
    let (bytes, other) = (b"a difference", pefo_core::Digest::of(b"another file"));
    let delta = json!([{"delta": {
        "path": "ca_crl.pem", "mode": 420, "base": other, "size": bytes.len(), "blake3": other,
    }}]);
    let file = Forger::of(&alone.pair).raw(delta, bytes);
    plant(&alone.pair, Forger::of(&alone.pair).next(), &file);
    let wanted = wait::within(LONG, || {
        let ack = super::ack(&alone.pair.b)?;
        ack.reconcile.map(drop)
    });
    assert!(wanted.is_some(), "{}", tail(&alone.pair.b.watch_log()));
    assert!(tree(&alone.pair.b.cadir()) == before);
    alone
        .pair
        .a
        .pefo(["ca", "push", "--accept", "source-rolled-back"]);
    alone
        .pair
        .a
        .pefo(["ca", "push", "--accept", "source-rolled-back"])
        .exits(0);
    wait::until("the full generation", LONG, || {
        super::ack(&alone.pair.b).is_some_and(|ack| ack.reconcile.is_none())
    });
    alone.an_honest_batch_is_applied("honest.lab");
    assert!(alone.watch.ended().is_none());
}
