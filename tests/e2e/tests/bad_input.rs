//! Bad input on the way: each is a clear error with a hint and its exit code, nothing half-written is
//! left, and the passive serves what it served.

use pefo_core::lock::Lock;
use pefo_testkit::ca::{CaOptions, Keys, TestCa, copy_tree};

use crate::evidence::{Tree, contents, fails_as, refused_as, told_with_hint, tree};
use crate::pair::Pair;

/// What the passive has: its CA and its spool.
pub(crate) fn passive(pair: &Pair) -> (Tree, Tree) {
    (tree(&pair.b.cadir()), tree(&pair.b.spool()))
}

/// A seeded pair with something new to send.
pub(crate) fn with_news() -> Option<Pair> {
    let mut pair = Pair::seeded()?;
    pair.ca.sign("node1.lab").unwrap();
    Some(pair)
}

/// The next push and apply bring it over.
#[track_caller]
pub(crate) fn recovers(pair: &Pair) {
    pair.sync();
    assert!(pair.b.cadir().join("signed/node1.lab.pem").exists());
}

#[test]
fn a_ca_without_its_key_seeds_nobody_and_a_passive_without_one_is_told() {
    let Some(pair) = Pair::paired() else { return };
    let key = pair.a.cadir().join("ca_key.pem");
    let kept = std::fs::read(&key).unwrap();
    std::fs::remove_file(&key).unwrap();
    let before = passive(&pair);
    let run = pair.a.pefo(["ca", "push", "--seed"]);
    assert!([1, 3].contains(&run.code), "{run:?}");
    assert!(run.stderr.contains("ca_key.pem"), "{}", run.stderr);
    told_with_hint(&run);
    assert!(passive(&pair) == before, "something was sent");
    assert!(!pair.b.cadir().exists());
    // Without the key in it, a generation is no seed.
    std::fs::write(&key, kept).unwrap();
    pair.a.pefo(["ca", "push"]).exits(0);
    let error = refused_as(&pair.b, &["ca", "apply"], "ca-missing");
    assert!(
        error["hint"].as_str().unwrap().contains("--seed"),
        "{error:#}"
    );
    assert!(!pair.b.cadir().exists());
    pair.a.pefo(["ca", "push", "--seed"]).exits(0);
    pair.b.pefo(["ca", "apply"]).exits(0);

    // Lost on the passive: it goes on following, and says that it could not take over.
    std::fs::remove_file(pair.b.cadir().join("ca_key.pem")).unwrap();
    let run = pair.b.pefo(["ca", "apply"]);
    assert!([3, 4].contains(&run.code), "{run:?}");
    assert!(run.refused_by("ca-key-missing"), "{}", run.stderr);
    told_with_hint(&run);
}

#[test]
fn a_ca_of_another_authority_is_never_mixed_with_ours() {
    let Some(pair) = with_news() else { return };
    let other = pair.b.directory().join("other-ca");
    TestCa::create(
        &other,
        CaOptions::default()
            .ca_name("Puppet CA: elsewhere")
            .keys(Keys::OtherRsa),
    )
    .unwrap();
    let ours = pair.b.directory().join("our-ca");
    std::fs::rename(pair.b.cadir(), &ours).unwrap();
    std::fs::rename(&other, pair.b.cadir()).unwrap();
    let before = tree(&pair.b.cadir());
    pair.a.pefo(["ca", "push"]).exits(0);
    refused_as(&pair.b, &["ca", "apply"], "ca-identity");
    refused_as(
        &pair.b,
        &["ca", "apply", "--accept", "ca-identity"],
        "ca-identity",
    );
    assert!(tree(&pair.b.cadir()) == before);
    // Nor is a seed put over it.
    pair.a.pefo(["ca", "push", "--seed"]).exits(0);
    let run = pair.b.pefo(["ca", "apply"]).exits(3);
    told_with_hint(&run);
    assert!(tree(&pair.b.cadir()) == before);
    std::fs::remove_dir_all(pair.b.cadir()).unwrap();
    std::fs::rename(&ours, pair.b.cadir()).unwrap();
    recovers(&pair);
}

#[test]
fn a_torn_or_missing_file_of_the_actives_ca_is_refused_before_anything_is_sent() {
    let Some(pair) = with_news() else { return };
    let whole = pair.a.directory().join("whole");
    copy_tree(&pair.a.cadir(), &whole).unwrap();
    let before = passive(&pair);
    let tear = |name: &str| {
        let path = pair.a.cadir().join(name);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() * 2 / 3]).unwrap();
    };
    let remove = |name: &str| {
        let path = pair.a.cadir().join(name);
        if path.is_dir() {
            std::fs::remove_dir_all(path).unwrap()
        } else {
            std::fs::remove_file(path).unwrap()
        }
    };
    let cases: [(&str, &dyn Fn()); 9] = [
        ("a torn CRL", &|| tear("ca_crl.pem")),
        ("no CRL", &|| remove("ca_crl.pem")),
        ("a torn CA certificate", &|| tear("ca_crt.pem")),
        ("no CA certificate", &|| remove("ca_crt.pem")),
        ("no inventory", &|| remove("inventory.txt")),
        ("no counter", &|| remove("serial")),
        ("a counter that is none", &|| {
            std::fs::write(pair.a.cadir().join("serial"), "oops").unwrap()
        }),
        ("no signed/", &|| remove("signed")),
        ("nothing at all", &|| {
            contents(&pair.a.cadir())
                .keys()
                .for_each(|name| remove(name.to_str().unwrap()))
        }),
    ];
    for (what, harm) in cases {
        harm();
        let run = pair.a.pefo(["ca", "push"]);
        assert_eq!(run.code, 3, "{what}: {run:?}");
        assert!(
            run.stderr.contains("refused: ") && run.stderr.contains("hint: "),
            "{what}: {}",
            run.stderr
        );
        assert!(passive(&pair) == before, "{what}: something was sent");
        pair.a.pefo(["check"]).exits(2);
        std::fs::remove_dir_all(pair.a.cadir()).unwrap();
        copy_tree(&whole, &pair.a.cadir()).unwrap();
    }
    recovers(&pair);
}

#[test]
fn a_torn_certificate_at_the_active_is_left_out_and_the_rest_arrives() {
    let Some(mut pair) = with_news() else { return };
    pair.ca.sign("node2.lab").unwrap();
    let torn = pair.a.cadir().join("signed/node2.lab.pem");
    let bytes = std::fs::read(&torn).unwrap();
    std::fs::write(&torn, &bytes[..100]).unwrap();
    pair.a.pefo(["ca", "push"]).exits(0);
    let run = pair.b.pefo(["ca", "apply"]).exits(4);
    assert!(run.refused_by("cert-unreadable"), "{}", run.stderr);
    told_with_hint(&run);
    assert!(pair.b.cadir().join("signed/node1.lab.pem").exists());
    assert!(!pair.b.cadir().join("signed/node2.lab.pem").exists());
    std::fs::write(&torn, bytes).unwrap();
    recovers(&pair);
    assert!(pair.b.cadir().join("signed/node2.lab.pem").exists());
}

#[test]
fn a_host_that_is_not_set_up_or_not_paired_says_what_to_do() {
    let Some(pair) = Pair::prepared() else { return };
    for command in [
        &["ca", "push"][..],
        &["ca", "apply"],
        &["ca", "diff"],
        &["ca", "exclude"],
        &["schedule", "print"],
    ] {
        let error = fails_as(&pair.a, command, 2, "config");
        assert!(
            error["hint"].as_str().unwrap().contains("pefo init"),
            "{error:#}"
        );
    }
    assert!(!pair.a.state().exists(), "{:?}", tree(&pair.a.state()));
    pair.a.pefo(["status"]).exits(3);
    pair.a.pefo(["check"]).exits(2);
    pair.a.pefo(["init", "active"]).exits(0);
    let error = fails_as(&pair.a, &["ca", "push"], 2, "config");
    assert!(
        error["message"]
            .as_str()
            .unwrap()
            .contains("no peer is paired"),
        "{error:#}"
    );
}

#[test]
fn a_command_of_the_other_role_is_refused_as_such() {
    let Some(pair) = Pair::seeded() else { return };
    let before = (tree(&pair.a.cadir()), passive(&pair));
    for (master, command) in [
        (&pair.b, ["ca", "push"]),
        (&pair.a, ["ca", "apply"]),
        (&pair.b, ["nc", "export"]),
        (&pair.a, ["nc", "restore"]),
        (&pair.a, ["db", "restore"]),
    ] {
        if command[0] == "db" {
            // A database must be named where none is configured.
            master.pefo(["db", "restore", "pe-rbac"]).exits(6);
            continue;
        }
        let error = fails_as(master, &command, 6, "wrong_role");
        assert!(
            error["message"]
                .as_str()
                .unwrap()
                .contains("this host is the"),
            "{error:#}"
        );
        assert_eq!(
            master.pefo(command.into_iter().chain(["--json"])).json()["outcome"],
            "fenced"
        );
    }
    assert!(before == (tree(&pair.a.cadir()), passive(&pair)));
}

#[test]
fn a_second_run_is_told_that_another_one_holds_the_lock() {
    let Some(pair) = with_news() else { return };
    let before = passive(&pair);
    let lock = Lock::take(&pair.a.state().join("locks/push-ca.lock")).unwrap();
    let error = fails_as(&pair.a, &["ca", "push"], 5, "locked");
    assert_eq!(error["retryable"], true, "{error:#}");
    assert!(passive(&pair) == before);
    drop(lock);
    pair.a.pefo(["ca", "push"]).exits(0);
    let lock = Lock::take(&pair.b.state().join("locks/apply-ca.lock")).unwrap();
    assert_eq!(
        pair.b.pefo(["ca", "apply", "--json"]).exits(5).json()["outcome"],
        "locked"
    );
    drop(lock);
    recovers(&pair);
}

#[test]
fn a_wrong_configuration_is_named_with_file_line_and_the_nearest_key() {
    let Some(pair) = Pair::prepared() else { return };
    let right = std::fs::read_to_string(pair.a.config_path()).unwrap();
    for (from, to, message, hint) in [
        (
            "state_dir",
            "state_dirr",
            "line 3: unknown key site.state_dirr",
            "did you mean site.state_dir?",
        ),
        ("[ca]", "[caa]", "unknown key caa", "did you mean ca?"),
        ("port = ", "port = \"x\" #", "line", ""),
        ("[site]", "[site", "line 1", ""),
        (
            "certname = \"puppet-a.lab\"",
            "certname = \"../a\"",
            "line 2",
            "",
        ),
    ] {
        std::fs::write(pair.a.config_path(), right.replacen(from, to, 1)).unwrap();
        for command in [
            &["config", "check"][..],
            &["config", "show"],
            &["check"],
            &["status"],
            &["ca", "push"],
            &["init", "active"],
        ] {
            let run = pair.a.pefo(command.iter().copied()).exits(2);
            assert!(
                run.stderr.contains(message) && run.stderr.contains("pefo.toml"),
                "{to}: {}",
                run.stderr
            );
            assert!(run.stderr.contains(hint), "{to}: {}", run.stderr);
        }
    }
    std::fs::remove_file(pair.a.config_path()).unwrap();
    let error = fails_as(&pair.a, &["ca", "push"], 2, "config");
    assert!(
        error["hint"]
            .as_str()
            .unwrap()
            .contains("pefo config example"),
        "{error:#}"
    );
    assert!(!pair.a.state().exists());
}
