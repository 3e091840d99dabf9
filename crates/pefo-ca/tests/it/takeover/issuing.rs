//! Certificates issued with the CA's key: who accepts them.

use pefo_ca::cert::Cert;
use pefo_ca::pem;
use pefo_ca::takeover::CertContent;
use pefo_core::Certname;
use pefo_testkit::ca::Keys;

use super::*;

/// What is asked for node9.test: the public key is a node's of this CA.
fn asked(dir: &Path, number: Serial) -> CertContent {
    let snapshot = snap(dir);
    let mut signed = snapshot.signed();
    let public_key = signed.next().unwrap().1.public_key().to_vec();
    let until = Timestamp::from_unix_seconds(NOW + 4 * 365 * 86_400).unwrap();
    let name = Certname::new("node9.test").unwrap();
    CertContent::new(name, number, public_key, timestamp(), until)
}

#[test]
fn an_issued_certificate_is_a_nodes_of_this_ca_with_rsa_and_ecdsa() {
    for keys in [Keys::Rsa, Keys::Ecdsa] {
        let root = tempfile::tempdir().unwrap();
        let ca = TestCa::create(root.path(), options().keys(keys)).unwrap();
        let asked = asked(ca.dir(), serial(0x80));
        let signer = signer(ca.dir());
        let cert = signer.issuer().issue(&asked).unwrap();
        assert_eq!(
            (cert.serial, cert.common_name.as_deref()),
            (serial(0x80), Some("node9.test"))
        );
        assert_eq!(cert.not_before.to_string(), "2026-11-21T12:30:00Z");
        assert_eq!(cert.not_after, asked.not_after);
        cert.verify_issued_by(signer.authority()).unwrap();
        let text = pem::encode("CERTIFICATE", cert.der());
        assert_eq!(Cert::from_pem(text.as_bytes()).unwrap(), cert);
        std::fs::write(ca.dir().join("made.pem"), text).unwrap();
        openssl_takes(ca.dir());
    }
}

/// What OpenSSL, which knows nothing of this crate, says of it.
fn openssl_takes(dir: &Path) {
    for purpose in ["sslclient", "sslserver"] {
        let moment = NOW.to_string();
        let args = [
            "verify",
            "-x509_strict",
            "-attime",
            &moment,
            "-purpose",
            purpose,
        ];
        let args = [&args[..], &["-CAfile", "ca_crt.pem", "made.pem"]].concat();
        let Some(output) = openssl(&args, dir) else {
            return;
        };
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
    }
    let Some(output) = openssl(&["x509", "-in", "made.pem", "-noout", "-text"], dir) else {
        return;
    };
    let text = String::from_utf8(output.stdout).unwrap();
    for says in [
        "Version: 3 (0x2)",
        "Serial Number: 128 (0x80)",
        "Subject: CN = node9.test",
        "CA:FALSE",
        "Digital Signature, Key Encipherment",
        "TLS Web Server Authentication, TLS Web Client Authentication",
        "X509v3 Subject Key Identifier",
        "X509v3 Authority Key Identifier",
    ] {
        // Releases differ in the spaces around "=".
        assert!(
            text.replace(" = ", "=").contains(&says.replace(" = ", "=")),
            "{says}: {text}"
        );
    }
}

#[test]
fn the_issuer_is_the_cas_name_to_the_byte_of_the_real_servers_ca_too() {
    let (_root, _before, after) = crate::sample::samples();
    let signer = signer(&after);
    let cert = signer
        .issuer()
        .issue(&asked(&after, serial(0x7FFF_FFFF)))
        .unwrap();
    let (_, made) = x509_parser::parse_x509_certificate(cert.der()).unwrap();
    let (_, authority) = x509_parser::parse_x509_certificate(signer.authority().der()).unwrap();
    assert_eq!(made.issuer().as_raw(), authority.subject().as_raw());
    assert_eq!(
        made.signature_algorithm, made.tbs_certificate.signature,
        "RFC 5280 §4.1.2.3"
    );
    assert_eq!(made.version().0, 2, "v3");
    assert_eq!(cert.authority_key_id, signer.authority().subject_key_id);
}

#[test]
fn a_serial_that_no_certificate_can_have_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let ca = TestCa::create(root.path(), options().keys(Keys::Ecdsa)).unwrap();
    let signer = signer(ca.dir());
    let highest = Serial::from_hex(&format!("7F{}", "F".repeat(38))).unwrap();
    let issue = |number| signer.issuer().issue(&asked(ca.dir(), number));
    assert_eq!(issue(highest).unwrap().serial, highest);
    for number in [serial(0), highest.checked_add(1).unwrap()] {
        assert_eq!(issue(number).unwrap_err().rule(), Some("cert-serial"));
    }
}

#[test]
fn a_revocation_raises_the_number_by_one_and_takes_nothing_back() {
    let mut pair = Pair::new();
    pair.a.revoke("puppet-a.test").unwrap();
    let bundle = snap(pair.a.dir()).ca_crl().unwrap().clone();
    let signer = signer(pair.a.dir());
    let later = Timestamp::from_unix_seconds(NOW + 60).unwrap();
    let revoked = pefo_ca::takeover::revoke(&bundle, &signer, serial(2), later).unwrap();
    let (old, new) = (&bundle.crls()[0], &revoked.crls()[0]);
    assert_eq!(
        (old.number_text(), new.number_text()),
        ("1".into(), "2".into())
    );
    assert_eq!(new.revoked[&serial(1)], old.revoked[&serial(1)]);
    assert_eq!(
        (new.revoked[&serial(2)].date, new.revoked[&serial(2)].reason),
        (later, Some(1))
    );
    assert_eq!(new.revoked.len(), 2);
    assert_eq!(revoked.crls()[1..], bundle.crls()[1..], "the root's CRL");
    // Once more: it stays revoked since when it was.
    let again = pefo_ca::takeover::revoke(&revoked, &signer, serial(1), later).unwrap();
    assert_eq!(again.crls()[0].revoked, new.revoked);
    std::fs::write(pair.a.dir().join("ca_crl.pem"), revoked.to_pem()).unwrap();
    assert!(openssl_verifies(pair.a.dir(), "ca_crl.pem"));
}
