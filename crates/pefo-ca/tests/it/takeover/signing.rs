//! CRLs signed with the CA's key: who accepts them, and which keys do.

use std::collections::BTreeMap;

use pefo_ca::cert::{CaChain, Cert};
use pefo_ca::crl::{CrlBundle, Revocation};
use pefo_ca::pem;
use pefo_ca::takeover::{CRL_NUMBER_GAP, CrlContent, ResignOptions, resign_for_takeover};
use pefo_testkit::ca::Keys;
use x509_parser::prelude::FromDer as _;
use x509_parser::revocation_list::CertificateRevocationList;

use super::*;

fn revoked(serials: &[(u32, Option<u8>)]) -> BTreeMap<Serial, Revocation> {
    let date = Timestamp::from_unix_seconds(NOW - 3600).unwrap();
    serials
        .iter()
        .map(|(number, reason)| {
            let reason = *reason;
            (serial(*number), Revocation { date, reason })
        })
        .collect()
}

/// The CA's subject and key identifier as its certificate has them.
fn own_bytes(authority: &Cert) -> (Vec<u8>, Vec<u8>) {
    let (_, cert) = x509_parser::parse_x509_certificate(authority.der()).unwrap();
    let subject = cert.subject().as_raw().to_vec();
    (subject, authority.subject_key_id.clone().unwrap())
}

/// Signs, looks at it with other eyes, and gives it back.
fn sign_and_check(dir: &Path, signer: &CrlSigner, content: &CrlContent) -> Crl {
    let signed = signer.sign(content).unwrap();
    let (subject, key_id) = own_bytes(signer.authority());
    let (rest, read) = CertificateRevocationList::from_der(signed.der()).unwrap();
    assert!(rest.is_empty());
    assert_eq!(read.version().map(|version| version.0), Some(1), "v2");
    assert_eq!(read.issuer().as_raw(), subject, "issuer, byte for byte");
    assert_eq!(
        read.tbs_cert_list.signature, read.signature_algorithm,
        "RFC 5280 §5.1.2.2"
    );
    assert_eq!(signed.authority_key_id, Some(key_id));
    let (_, authority) = x509_parser::parse_x509_certificate(signer.authority().der()).unwrap();
    read.verify_signature(authority.public_key()).unwrap();
    std::fs::write(dir.join("made.pem"), pem::encode("X509 CRL", signed.der())).unwrap();
    assert!(openssl_verifies(dir, "made.pem"));
    signed
}

#[test]
fn a_signed_crl_verifies_and_says_what_was_asked_for_with_rsa_and_ecdsa() {
    for keys in [Keys::Rsa, Keys::Ecdsa] {
        let root = tempfile::tempdir().unwrap();
        let ca = TestCa::create(root.path(), options().keys(keys)).unwrap();
        let asked = revoked(&[
            (2, Some(1)),
            (0x80, None),
            (0x7FFF_FFFF, Some(5)),
            (0, Some(0)),
        ]);
        let content = CrlContent::new(serial(4711), asked.clone(), timestamp());
        let signed = sign_and_check(ca.dir(), &signer(ca.dir()), &content);
        assert_eq!(
            (signed.number, &*signed.revoked),
            (Some(serial(4711)), &asked)
        );
        assert_eq!(signed.this_update, timestamp());
        assert_eq!(
            signed.next_update.unwrap().to_string(),
            "2031-11-22T12:30:00Z"
        );
    }
}

#[test]
fn a_crl_that_revokes_nothing_has_no_list() {
    let root = tempfile::tempdir().unwrap();
    let ca = TestCa::create(root.path(), options()).unwrap();
    let content = CrlContent::new(serial(1), BTreeMap::new(), timestamp());
    let signed = sign_and_check(ca.dir(), &signer(ca.dir()), &content);
    assert!(signed.revoked.is_empty());
    if let Some(output) = openssl(&["crl", "-in", "made.pem", "-noout", "-text"], ca.dir()) {
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains("No Revoked Certificates"), "{text}");
        assert!(text.contains("Version 2 (0x1)"), "{text}");
    }
}

#[test]
fn dates_from_2050_on_are_read_back_as_they_were_given() {
    let root = tempfile::tempdir().unwrap();
    let ca = TestCa::create(root.path(), options()).unwrap();
    let late = Timestamp::from_unix_seconds(2_524_608_000 - 86_400).unwrap();
    let mut asked = revoked(&[(2, Some(1))]);
    let beyond = Timestamp::from_unix_seconds(2_524_608_000).unwrap();
    asked.insert(
        serial(3),
        Revocation {
            date: beyond,
            reason: Some(1),
        },
    );
    let content = CrlContent::new(serial(1), asked.clone(), late);
    let signed = sign_and_check(ca.dir(), &signer(ca.dir()), &content);
    assert_eq!(*signed.revoked, asked);
    assert_eq!(
        signed.next_update.unwrap().to_string(),
        "2054-12-31T00:00:00Z"
    );
}

#[test]
fn a_number_of_20_octets_can_be_written_and_no_greater_one() {
    let root = tempfile::tempdir().unwrap();
    let ca = TestCa::create(root.path(), options()).unwrap();
    let signer = signer(ca.dir());
    let highest = Serial::from_hex(&format!("7F{}", "F".repeat(38))).unwrap();
    let content = |number| CrlContent::new(number, BTreeMap::new(), timestamp());
    let signed = sign_and_check(ca.dir(), &signer, &content(highest));
    assert_eq!(signed.number, Some(highest));
    let beyond = highest.checked_add(1).unwrap();
    let error = signer.sign(&content(beyond)).unwrap_err();
    assert_eq!(error.rule(), Some("crl-number-exhausted"));
}

#[test]
fn the_real_servers_crl_is_signed_again_as_the_server_did() {
    let (_root, _before, after) = crate::sample::samples();
    let real = our_crl(&after);
    let signer = signer(&after);
    let next = real.next_update.unwrap();
    let content = CrlContent::new(real.number.unwrap(), (*real.revoked).clone(), timestamp())
        .dates(real.this_update, next);
    let signed = sign_and_check(&after, &signer, &content);
    // RSASSA-PKCS1-v1_5 gives one signature for one text: it is the server's own, to the byte.
    assert_eq!(signed.der(), real.der());
}

#[test]
fn a_takeover_leaps_over_numbers_that_nobody_saw_and_leaves_the_rest_as_it_is() {
    let mut pair = Pair::new();
    pair.a.revoke("node1.test").unwrap();
    pair.follow();
    let bundle = snap(&pair.b).ca_crl().unwrap().clone();
    let signer = signer(&pair.b);
    let later = Timestamp::from_unix_seconds(NOW + 60).unwrap();
    let number = |options: &ResignOptions, bundle: &CrlBundle| {
        let resigned = resign_for_takeover(bundle, &signer, options).unwrap();
        assert_eq!(resigned.crls()[0].revoked, bundle.crls()[0].revoked);
        assert_eq!(resigned.crls()[1..], bundle.crls()[1..], "the root's CRL");
        assert_eq!(resigned.crls()[0].this_update, later);
        resigned.crls()[0].number_text()
    };
    let options = ResignOptions::new(later);
    assert_eq!(CRL_NUMBER_GAP, 1000);
    assert_eq!(number(&options, &bundle), "1001");
    assert_eq!(
        number(&options.known_number(Some(serial(5))), &bundle),
        "1005"
    );
    assert_eq!(
        number(&options.known_number(Some(serial(0))), &bundle),
        "1001"
    );
    assert_eq!(
        number(&options.gap(0), &bundle),
        "2",
        "never the same twice"
    );
    // Ours stands second here.
    let turned = CrlBundle::of(bundle.crls().iter().rev().cloned().collect());
    let resigned = resign_for_takeover(&turned, &signer, &options).unwrap();
    assert_eq!(resigned.crls()[0].issuer.as_str(), "CN=Puppet CA: test");
    std::fs::write(pair.b.join("ca_crl.pem"), resigned.to_pem()).unwrap();
    assert!(openssl_verifies(&pair.b, "ca_crl.pem"));
}

#[test]
fn a_standby_takes_the_crl_of_a_takeover_and_one_of_before_is_a_rollback() {
    let mut pair = Pair::new();
    pair.a.revoke("node1.test").unwrap();
    pair.follow();
    let bundle = snap(&pair.b).ca_crl().unwrap().clone();
    let resigned =
        resign_for_takeover(&bundle, &signer(&pair.b), &ResignOptions::new(timestamp())).unwrap();
    std::fs::write(pair.b.join("ca_crl.pem"), resigned.to_pem()).unwrap();
    // The last revocation of the old active never came here.
    pair.a.revoke("puppet-a.test").unwrap();
    assert_eq!(pair.refused(), ["crl-rollback"], "no fork");
    let back = plan(&snap(pair.a.dir()), &snap(&pair.b), &rules());
    assert_eq!(
        refusals(&back),
        ["crl-shrink"],
        "and the other way it is seen"
    );
}

#[test]
fn a_crl_that_is_not_the_cas_own_is_not_signed_again() {
    let pair = Pair::new();
    let signer = signer(&pair.b);
    let options = ResignOptions::new(timestamp());
    let bundle = snap(&pair.b).ca_crl().unwrap().clone();
    let rule = |crls: Vec<Crl>| {
        let error = resign_for_takeover(&CrlBundle::of(crls), &signer, &options).unwrap_err();
        assert!(error.hint_text().is_some());
        error.rule().unwrap().to_owned()
    };
    let [ours, root] = bundle.crls() else {
        panic!("two CRLs")
    };
    assert_eq!(rule(vec![root.clone()]), "crl-missing");
    assert_eq!(
        rule(vec![ours.clone(), ours.clone(), root.clone()]),
        "crl-unknown-issuer"
    );
    let mut der = ours.der().to_vec();
    *der.last_mut().unwrap() ^= 1;
    assert_eq!(rule(vec![Crl::from_der(&der).unwrap()]), "crl-signature");
}

#[test]
fn another_cas_key_and_a_key_that_is_none_are_refused_and_never_shown() {
    let root = tempfile::tempdir().unwrap();
    let ca = TestCa::create(root.path(), options()).unwrap();
    let snapshot = snap(ca.dir());
    let authority = snapshot.chain().unwrap().signing();
    let other = std::fs::read(ca.dir().join("root_key.pem")).unwrap();
    let error = CrlSigner::new(&other, authority).unwrap_err();
    assert_eq!(error.rule(), Some("ca-identity"));
    assert!(CrlSigner::new(b"nothing", authority).is_err());
    let layout = CaLayout::at(ca.dir()).unwrap();
    assert_eq!(
        format!("{:?}", signer(ca.dir())),
        "CrlSigner(CN=Puppet CA: test)"
    );
    std::fs::remove_file(ca.dir().join("ca_key.pem")).unwrap();
    let error = CrlSigner::load(&layout, authority).unwrap_err();
    assert_eq!(error.rule(), Some("ca-key-missing"));
}

/// A CA made by OpenSSL.
fn foreign(dir: &Path, key: &[&str], name: &str, mask: &str) -> Option<()> {
    foreign_with_id(dir, key, name, mask, "hash")
}

fn foreign_with_id(dir: &Path, key: &[&str], name: &str, mask: &str, id: &str) -> Option<()> {
    let config = format!(
        "[req]\ndistinguished_name=dn\nstring_mask={mask}\nx509_extensions=ca\n[dn]\n[ca]\nbasicConstraints=critical,CA:true\nsubjectKeyIdentifier={id}\n"
    );
    std::fs::write(dir.join("req.cnf"), config).unwrap();
    let mut args = vec!["req", "-x509", "-nodes", "-keyout", "ca_key.pem"];
    args.extend(["-out", "ca_crt.pem", "-days", "30", "-config", "req.cnf"]);
    args.extend(["-multivalue-rdn", "-subj", name]);
    args.extend(key);
    let made = openssl(&args, dir)?;
    let said = String::from_utf8_lossy(&made.stderr).into_owned();
    assert!(made.status.success(), "{said}");
    Some(())
}

fn load(dir: &Path) -> pefo_core::Result<CrlSigner> {
    let chain = CaChain::from_pem(&std::fs::read(dir.join("ca_crt.pem")).unwrap()).unwrap();
    let key = std::fs::read(dir.join("ca_key.pem")).unwrap();
    CrlSigner::new(&key, chain.signing())
}

#[test]
fn the_issuer_is_the_cas_name_to_the_byte_however_that_was_written() {
    let names = [
        ("/CN=Puppet CA: lab", "default"),
        ("/CN=Puppet CA: lab", "utf8only"),
        ("/DC=com/DC=example/OU=a/OU=b/CN=Puppet", "nombstr"),
        ("/O=One+OU=Two/CN=Zw\u{f6}lf", "utf8only"),
    ];
    for (name, mask) in names {
        let root = tempfile::tempdir().unwrap();
        let key = [
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-utf8",
        ];
        if foreign(root.path(), &key, name, mask).is_none() {
            return;
        }
        let content = CrlContent::new(serial(3), revoked(&[(2, Some(1))]), timestamp());
        sign_and_check(root.path(), &load(root.path()).unwrap(), &content);
    }
}

#[test]
fn the_key_identifier_is_the_cas_own_however_it_was_made_and_the_usual_one_where_it_has_none() {
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
    let content = CrlContent::new(serial(3), BTreeMap::new(), timestamp());
    let root = tempfile::tempdir().unwrap();
    let made = |id| foreign_with_id(root.path(), &key, "/CN=Puppet CA", "utf8only", id);
    if made("01:02:03:04").is_none() {
        return;
    }
    let signed = sign_and_check(root.path(), &load(root.path()).unwrap(), &content);
    assert_eq!(signed.authority_key_id.as_deref(), Some(&[1, 2, 3, 4][..]));
    made("none").unwrap();
    let signer = load(root.path()).unwrap();
    assert_eq!(signer.authority().subject_key_id, None);
    let signed = signer.sign(&content).unwrap();
    assert_eq!(
        signed.authority_key_id.unwrap().len(),
        20,
        "SHA-1 of the key"
    );
}

#[test]
fn keys_of_every_form_that_openssl_writes_sign() {
    let rsa: &[&str] = &["-newkey", "rsa:3072"];
    let p256: &[&str] = &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
    let p384: &[&str] = &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384"];
    for key in [rsa, p256, p384] {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path();
        if foreign(dir, key, "/CN=Puppet CA", "utf8only").is_none() {
            return;
        }
        let content = CrlContent::new(serial(3), revoked(&[(2, Some(1))]), timestamp());
        let read = || std::fs::read_to_string(dir.join("ca_key.pem")).unwrap();
        assert!(read().starts_with("-----BEGIN PRIVATE KEY"));
        sign_and_check(dir, &load(dir).unwrap(), &content);
        let args = ["pkey", "-in", "ca_key.pem", "-traditional", "-out", "other"];
        assert!(openssl(&args, dir).unwrap().status.success());
        std::fs::rename(dir.join("other"), dir.join("ca_key.pem")).unwrap();
        assert!(!read().contains("-----BEGIN PRIVATE KEY"));
        sign_and_check(dir, &load(dir).unwrap(), &content);
    }
}

#[test]
fn keys_that_nothing_here_signs_with_are_refused_by_name() {
    let small: &[&str] = &["-newkey", "rsa:1024"];
    let curve: &[&str] = &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-521"];
    for (key, what) in [(small, "1024 bits"), (curve, "another curve")] {
        let root = tempfile::tempdir().unwrap();
        if foreign(root.path(), key, "/CN=Puppet CA", "utf8only").is_none() {
            return;
        }
        let error = load(root.path()).unwrap_err();
        assert_eq!(error.rule(), Some("ca-key-unsupported"));
        assert!(error.to_string().contains(what), "{error}");
    }
}
