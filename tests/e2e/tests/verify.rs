//! `pefo ca verify`: would the spare serve the same?

use std::path::Path;

use pefo_testkit::masters::Run;

use crate::evidence::edit_config;
use crate::pair::{B, Pair};

fn edit(path: &Path, change: impl FnOnce(String) -> String) {
    let text = std::fs::read_to_string(path).unwrap();
    std::fs::write(path, change(text)).unwrap();
}

/// The differences that are defects, as item and finding.
fn defects(run: &Run) -> Vec<String> {
    let report = run.json();
    let differences = report["details"]["comparison"]["differences"]
        .as_array()
        .unwrap();
    let defects = differences.iter().filter(|it| it["defect"] == true);
    defects
        .map(|it| format!("{} {}", it["item"], it["finding"]))
        .collect()
}

#[test]
fn a_passive_in_step_verifies_and_each_item_that_was_changed_is_named() {
    let Some(mut pair) = Pair::seeded() else {
        return;
    };
    for node in ["node1.lab", "node2.lab", "node3.lab"] {
        pair.ca.sign(node).unwrap();
    }
    pair.ca.revoke("node3.lab").unwrap();
    pair.sync();
    for arguments in [&["ca", "verify"][..], &["ca", "verify", "--full"]] {
        let run = pair.b.pefo(arguments.iter().copied()).exits(0);
        assert!(run.stdout.starts_with("PEFO OK"), "{}", run.stdout);
    }
    // Read again where its times say that it was changed, and only there.
    let signed = pair.b.cadir().join("signed");
    std::fs::remove_file(signed.join("node1.lab.pem")).unwrap();
    edit(&signed.join("node2.lab.pem"), |text| {
        text.replacen('A', "B", 1)
    });
    let run = pair.b.pefo(["ca", "verify", "--json"]).exits(2);
    let found = defects(&run);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(
        found[0].contains("node1.lab") && found[1].contains("node2.lab"),
        "{found:?}"
    );
    let text = pair.b.pefo(["ca", "verify"]).exits(2).stdout;
    assert!(
        text.starts_with("PEFO CRITICAL") && text.contains("signed/node1.lab.pem"),
        "{text}"
    );
    pair.b.pefo(["ca", "apply"]).exits(0);
    pair.b.pefo(["ca", "verify"]).exits(0);
}

#[test]
fn a_lost_revocation_is_a_defect_and_what_the_spare_issued_itself_is_none() {
    let Some(mut pair) = Pair::seeded() else {
        return;
    };
    pair.ca.sign("node1.lab").unwrap();
    let before = std::fs::read(pair.b.cadir().join("ca_crl.pem")).unwrap();
    pair.ca.revoke("node1.lab").unwrap();
    pair.sync();
    pair.b.pefo(["ca", "verify"]).exits(0);
    std::fs::write(pair.b.cadir().join("ca_crl.pem"), before).unwrap();
    let found = defects(&pair.b.pefo(["ca", "verify", "--json"]).exits(2));
    assert!(
        found.iter().any(|it| it.to_lowercase().contains("crl")),
        "{found:?}"
    );
    pair.b.pefo(["ca", "apply"]).exits(0);
    let mut twin = pair.ca.twin(&pair.b.cadir()).unwrap();
    twin.sign("spare-signed.lab").unwrap();
    let run = pair.b.pefo(["ca", "verify", "--json"]).exits(0);
    let told = run.json()["details"]["comparison"]["differences"].to_string();
    assert!(
        told.contains("spare-signed.lab"),
        "it is told, as expected: {told}"
    );
}

#[test]
fn the_active_asks_its_peers_root_and_names_what_has_not_arrived() {
    let Some(mut pair) = Pair::seeded() else {
        return;
    };
    let _watch = pair.b.watch();
    let run = pair.a.pefo(["ca", "verify"]).exits(0);
    assert!(run.stdout.starts_with("PEFO OK"), "{}", run.stdout);
    pair.ca.sign("node1.lab").unwrap();
    let run = pair.a.pefo(["ca", "verify"]).exits(2);
    assert!(
        run.stdout.contains("signed/node1.lab.pem: missing there"),
        "{}",
        run.stdout
    );
}

#[test]
fn where_nobody_answers_and_where_nothing_was_accepted_the_answer_is_unknown() {
    let Some(pair) = Pair::paired() else {
        return;
    };
    let run = pair.a.pefo(["ca", "verify", "--timeout", "0"]).exits(3);
    assert!(run.stderr.contains("has not answered"), "{}", run.stderr);
    let run = pair.b.pefo(["ca", "verify"]).exits(3);
    assert!(run.stdout.starts_with("PEFO UNKNOWN"), "{}", run.stdout);
}

#[test]
fn what_is_excluded_is_listed_and_is_no_difference() {
    let Some(mut pair) = Pair::paired() else {
        return;
    };
    edit_config(&pair.a, "[ca]", "[ca]\nexclude_certs = [\"compiler1.lab\"]");
    for name in ["node1.lab", "compiler1.lab", B] {
        pair.ca.sign(name).unwrap();
    }
    pair.a.pefo(["ca", "push", "--seed"]).exits(0);
    pair.b.pefo(["ca", "apply"]).exits(0);
    pair.b.pefo(["ca", "verify"]).exits(0);
    // Its own certificate is the spare's business.
    std::fs::write(pair.b.cadir().join(format!("signed/{B}.pem")), "its own").unwrap();
    for arguments in [&["ca", "verify"][..], &["ca", "verify", "--full"]] {
        let text = pair.b.pefo(arguments.iter().copied()).exits(0).stdout;
        assert!(text.contains(&format!("left out {B}")), "{text}");
    }
    let list = pair.b.pefo(["ca", "exclude"]).exits(0).stdout;
    assert!(list.contains(B), "{list}");
    let list = pair.a.pefo(["ca", "exclude"]).exits(0).stdout;
    assert!(list.contains(B) && list.contains("compiler1.lab"), "{list}");
}
