//! The CA's key crosses once, and again only by explicit act.

use pefo_testkit::ca::{CaOptions, Keys, TestCa};
use pefo_testkit::masters;

use crate::evidence::generations;
use crate::pair::Pair;

/// Whether the newest generation in B's spool carries the key.
fn carries_key(pair: &Pair) -> bool {
    let newest = generations(&pair.b, "ca").pop().unwrap();
    newest.join("data/ca_key.pem").exists()
}

#[test]
fn a_spare_that_has_lost_the_key_gets_it_again_by_explicit_act_only() {
    let Some(mut pair) = Pair::seeded() else {
        return;
    };
    let path = pair.b.cadir().join("ca_key.pem");
    let key = std::fs::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    pair.ca.sign("node1.lab").unwrap();
    pair.a.pefo(["ca", "push"]).exits(0);
    assert!(!carries_key(&pair));
    let run = pair.b.pefo(["ca", "apply"]).exits(4);
    assert!(run.refused_by("ca-key-missing"), "{}", run.stderr);
    assert!(!path.exists());
    pair.a.pefo(["ca", "push", "--rotate-key"]).exits(0);
    assert!(carries_key(&pair));
    let sealed = generations(&pair.b, "ca")
        .pop()
        .unwrap()
        .join("data/ca_key.pem");
    assert!(!String::from_utf8_lossy(&std::fs::read(sealed).unwrap()).contains("PRIVATE KEY"));
    pair.b.pefo(["ca", "apply"]).exits(0);
    assert_eq!(std::fs::read(&path).unwrap(), key);
    pair.ca.sign("node2.lab").unwrap();
    pair.sync();
    assert!(!carries_key(&pair), "and then no more");
}

#[test]
fn another_authority_is_taken_by_explicit_act_after_pairing_anew_and_the_old_one_is_kept() {
    let Some(mut pair) = Pair::seeded() else {
        return;
    };
    let cadir = pair.a.cadir();
    std::fs::remove_dir_all(&cadir).unwrap();
    let options = CaOptions::default()
        .keys(Keys::OtherRsa)
        .ca_name("Puppet CA: anew");
    pair.ca = TestCa::create(&cadir, options).unwrap();
    pair.a.pefo(["ca", "push", "--rotate-key"]).exits(0);
    let run = pair.b.pefo(["ca", "apply"]).exits(3);
    assert!(run.refused_by("ca-identity"), "{}", run.stderr);
    // The fingerprint that was pinned is the old authority's.
    let replace = ["ca", "apply", "--accept", "ca-other-authority"];
    let run = pair.b.pefo(replace).exits(3);
    assert!(run.refused_by("ca-fingerprint"), "{}", run.stderr);
    masters::pair(&pair.a, &pair.b);
    pair.b.pefo(replace).exits(0);
    let crt = |dir: &std::path::Path| std::fs::read(dir.join("ca_crt.pem")).unwrap();
    assert_eq!(crt(&cadir), crt(&pair.b.cadir()));
    let aside = std::fs::read_dir(pair.b.directory()).unwrap().any(|entry| {
        entry
            .unwrap()
            .file_name()
            .to_string_lossy()
            .starts_with("ca.replaced-")
    });
    assert!(aside, "the old one is beside it");
    pair.b.pefo(["ca", "verify"]).exits(0);
}
