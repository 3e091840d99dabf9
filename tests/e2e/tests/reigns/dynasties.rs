//! More than two masters on hosts of their own, and more than one change of reign: who comes back is fenced, and of
//! two that took the same epoch one goes above.

use std::time::Duration;

use pefo_testkit::ca::TestCa;
use pefo_testkit::masters::{self, Master, built_binary};
use pefo_testkit::network::Network;
use pefo_testkit::skip;

use crate::evidence::{fails_as, refused_as};
use crate::pair::{A, B, Pair};

use super::{issued, noted, services, stands, status};

const C: &str = "puppet-c.lab";

/// A with two spares that know each other as well: B reigned for a while.
struct Three {
    network: Network,
    a: Master,
    b: Master,
    c: Master,
    ca: TestCa,
}

impl Three {
    fn seeded() -> Option<Self> {
        let network = skip::need(Network::create(["a", "b", "c"]))?;
        let Pair { a, b, ca } = Pair::prepared_on(&network)?;
        let c = skip::need(Master::prepare_on(&built_binary(), C, network.host("c")))?;
        let mut three = Self {
            network,
            a,
            b,
            c,
            ca,
        };
        let cadir = three.c.cadir();
        three
            .c
            .use_cadir(&cadir, "owner = \"root\"\ngroup = \"root\"");
        for master in [&mut three.a, &mut three.b, &mut three.c] {
            master.set_timeouts(Duration::from_secs(2), Duration::from_secs(5));
        }
        let Self { a, b, c, .. } = &three;
        masters::pair(a, b);
        masters::pair(a, c);
        a.pefo(["ca", "push", "--seed"]).exits(0);
        for spare in [b, c] {
            spare.pefo(["ca", "apply"]).exits(0);
        }
        hand_over(a, b, B);
        masters::pair(b, c);
        hand_over(b, a, A);
        masters::pair(a, c);
        a.pefo(["ca", "push"]).exits(0);
        for spare in [b, c] {
            spare.pefo(["ca", "apply"]).exits(0);
            assert_eq!(stands(spare), ("passive".to_owned(), 3));
        }
        Some(three)
    }
}

fn hand_over(from: &Master, to: &Master, name: &str) {
    let _root = to.watch();
    from.pefo(["switchover", "--to", name]).exits(0);
}

/// A master whose reign has ended becomes the spare of `active`, which brings over what nobody saw.
fn follows(old: &Master, active: &Master) {
    old.pefo(["demote", "--wait", "0"]).exits(4);
    // Others may not be there.
    active.pefo(["ca", "push"]);
    old.pefo(["demote", "--wait", "20"]).exits(0);
}

/// No serial names one certificate here and another there.
#[track_caller]
fn no_serial_is_twice(one: &Master, other: &Master) {
    let theirs = issued(&other.cadir());
    for (serial, certname) in issued(&one.cadir()) {
        let there = theirs.get(&serial);
        assert!(
            there.is_none_or(|there| *there == certname),
            "{serial:X} is {certname} and {there:?}"
        );
    }
}

/// What `old` signed and nobody saw comes to `active`, and both hold the same.
fn merges(old: &Master, active: &Master) {
    let root = old.watch();
    active
        .pefo(["ca", "merge", "--from", old.certname()])
        .exits(0);
    drop(root);
    active.pefo(["ca", "push"]);
    // What it waited with until the merge.
    old.pefo(["ca", "apply"]);
    old.pefo(["ca", "verify"]).exits(0);
    assert_eq!(issued(&old.cadir()), issued(&active.cadir()));
}

#[test]
fn two_spares_promoted_at_once_in_a_partition_refuse_each_other_until_one_goes_above() {
    let Some(three) = Three::seeded() else {
        return;
    };
    let Three {
        network,
        a,
        b,
        c,
        ca,
    } = &three;
    network.cut(network.host("a"));
    network.cut_between(network.host("b"), network.host("c"));
    std::thread::scope(|scope| {
        for spare in [b, c] {
            scope.spawn(|| spare.pefo(["promote"]).exits(0));
        }
    });
    for spare in [b, c] {
        assert_eq!(stands(spare), ("active".to_owned(), 4));
        let mut server = ca.resumed(&spare.cadir()).unwrap();
        server.sign(&format!("of-{}", spare.certname())).unwrap();
    }
    no_serial_is_twice(b, c);
    network.mend_between(network.host("b"), network.host("c"));
    network.mend(network.host("a"));
    for one in [b, c] {
        let error = refused_as(one, &["ca", "push"], "split-reign");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(B) && message.contains(C), "{message}");
        let hint = error["hint"].as_str().unwrap();
        assert!(hint.contains("--epoch-above 4"), "{hint}");
    }
    // Whichever of them it heard of: its own reign is over.
    fails_as(a, &["ca", "push"], 6, "fenced");
    b.pefo(["promote", "--epoch-above", "4"]).exits(0);
    assert_eq!(stands(b), ("active".to_owned(), 5));
    fails_as(c, &["ca", "push"], 6, "fenced");
    for old in [c, a] {
        follows(old, b);
        assert_eq!(stands(old), ("passive".to_owned(), 5));
    }
    merges(c, b);
    a.pefo(["ca", "apply"]);
    a.pefo(["ca", "verify"]).exits(0);
    for all in [a, b, c] {
        for spare in [B, C] {
            assert!(all.cadir().join(format!("signed/of-{spare}.pem")).exists());
        }
    }
}

#[test]
fn two_spares_that_never_heard_of_each_other_sign_no_serial_twice() {
    let Some(Pair { mut a, b, ca }) = Pair::paired() else {
        return;
    };
    let Some(mut c) = skip::need(Master::prepare(&built_binary(), C)) else {
        return;
    };
    let cadir = c.cadir();
    c.use_cadir(&cadir, "owner = \"root\"\ngroup = \"root\"");
    masters::pair(&a, &c);
    a.pefo(["ca", "push", "--seed"]).exits(0);
    for spare in [&b, &c] {
        spare.pefo(["ca", "apply"]).exits(0);
        // As the installer on a spare does.
        let own = format!("own-{}", spare.certname());
        ca.resumed(&spare.cadir()).unwrap().sign(&own).unwrap();
    }
    no_serial_is_twice(&b, &c);
    a.stop_sshd();
    for spare in [&b, &c] {
        spare.pefo(["promote"]).exits(0);
        let late = format!("late-{}", spare.certname());
        ca.resumed(&spare.cadir()).unwrap().sign(&late).unwrap();
    }
    no_serial_is_twice(&b, &c);
    // A hears of one and lives under it; the other is told that there are two.
    a.restart_sshd();
    fails_as(&a, &["ca", "push"], 6, "fenced");
    a.pefo(["demote", "--wait", "0"]).exits(4);
    let refused = [&b, &c].map(|one| one.pefo(["ca", "push", "--json"]));
    let codes = refused.each_ref().map(|run| run.code);
    assert!(codes == [0, 3] || codes == [3, 0], "{refused:#?}");
    let other = refused.iter().find(|run| run.code == 3).unwrap();
    assert_eq!(other.json()["errors"][0]["rule"], "split-reign");
}

#[test]
fn a_successor_that_is_back_from_the_dead_is_fenced_by_whoever_went_above_it() {
    let Some(network) = skip::need(Network::create(["a", "b"])) else {
        return;
    };
    let Some(mut pair) = Pair::prepared_on(&network) else {
        return;
    };
    for master in [&mut pair.a, &mut pair.b] {
        master.set_timeouts(Duration::from_secs(2), Duration::from_secs(5));
        let sections = services(master);
        master.configure(&sections);
    }
    masters::pair(&pair.a, &pair.b);
    let Pair { a, mut b, ca } = pair.seed();
    let reigns = |who: &Master, epoch: u64| {
        assert_eq!(stands(who), ("active".to_owned(), epoch));
        let mut server = ca.resumed(&who.cadir()).unwrap();
        server.sign(&format!("epoch{epoch}.lab")).unwrap();
        no_serial_is_twice(&a, who);
    };
    // Each takes it from the other, and nobody steps down.
    for epoch in 2..=6 {
        let (new, old) = if epoch % 2 == 0 { (&b, &a) } else { (&a, &b) };
        new.pefo(["promote", "--accept", "peer-active"]).exits(0);
        reigns(new, epoch);
        fails_as(old, &["ca", "push"], 6, "fenced");
    }
    // B dies as the sixth, and A, which was fenced and never stepped down, goes above it.
    b.kill_all();
    a.pefo(["promote"]).exits(0);
    reigns(&a, 7);
    no_serial_is_twice(&a, &b);
    b.boot();
    let before = noted(&b, "services").len();
    // The unit at its boot.
    fails_as(&b, &["fence"], 6, "fenced");
    assert_eq!(noted(&b, "services")[before..], ["stop ca", "stop console"]);
    fails_as(&b, &["ca", "push"], 6, "fenced");
    let told = status(&b)["fenced"].to_string();
    assert!(told.contains("epoch 7") && told.contains(A), "{told}");
    follows(&b, &a);
    merges(&b, &a);

    // B rules again and dies again; A had stepped down this time.
    network.cut(network.host("a"));
    b.pefo(["promote"]).exits(0);
    reigns(&b, 8);
    network.mend(network.host("a"));
    fails_as(&a, &["ca", "push"], 6, "fenced");
    follows(&a, &b);
    ca.resumed(&b.cadir())
        .unwrap()
        .sign("last-of-b.lab")
        .unwrap();
    b.kill_all();
    a.pefo(["promote"]).exits(0);
    reigns(&a, 9);
    no_serial_is_twice(&a, &b);
    b.boot();
    fails_as(&b, &["ca", "push"], 6, "fenced");
    follows(&b, &a);
    merges(&b, &a);
    for epoch in 2..=9 {
        assert!(
            a.cadir()
                .join(format!("signed/epoch{epoch}.lab.pem"))
                .exists()
        );
    }
}
