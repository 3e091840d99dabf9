//! Certificates, CRLs and keys: what is read from what a CA writes, and that no input breaks a reader.

use pefo_ca::cert::{CaChain, Cert, Request};
use pefo_ca::crl::{Crl, CrlBundle};
use pefo_ca::{Serial, key, pem};
use pefo_testkit::ca::{CrlOptions, Keys};
use proptest::prelude::*;

use super::*;

#[test]
fn a_key_belongs_to_its_certificate_in_every_form() {
    for keys in [Keys::Rsa, Keys::Ecdsa] {
        let root = tempfile::tempdir().unwrap();
        let ca = TestCa::create(&root.path().join("ca"), options().keys(keys)).unwrap();
        let chain = CaChain::from_pem(ca.ca_pem().unwrap().as_bytes()).unwrap();
        let own = std::fs::read(ca.dir().join("ca_key.pem")).unwrap();
        assert!(key::belongs_to(&own, chain.signing()).unwrap(), "{keys:?}");
        assert!(!key::belongs_to(&own, chain.root()).unwrap());
    }
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/testkit/fixtures/ca");
    let root = tempfile::tempdir().unwrap();
    let ca = TestCa::create(&root.path().join("ca"), options()).unwrap();
    let chain = CaChain::from_pem(ca.ca_pem().unwrap().as_bytes()).unwrap();
    let pkcs8 = std::fs::read(fixtures.join("ca-rsa.pem")).unwrap();
    assert!(key::belongs_to(&pkcs8, chain.signing()).unwrap(), "PKCS#8");
    assert_eq!(
        key::belongs_to(
            b"-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n",
            chain.signing()
        )
        .unwrap_err()
        .rule,
        "key-form"
    );
}

#[test]
fn a_sec1_key_as_openssl_writes_it_is_known() {
    let root = tempfile::tempdir().unwrap();
    let run = |arguments: &str| {
        let done = std::process::Command::new("openssl")
            .args(arguments.split(' '))
            .current_dir(&root)
            .output()
            .unwrap();
        assert!(
            done.status.success(),
            "{}",
            String::from_utf8_lossy(&done.stderr)
        );
    };
    run("ecparam -name prime256v1 -genkey -out ec.pem");
    run("req -x509 -new -key ec.pem -subj /CN=ec.test -days 30 -out cert.pem");
    let cert = Cert::from_pem(&std::fs::read(root.path().join("cert.pem")).unwrap()).unwrap();
    let text = std::fs::read(root.path().join("ec.pem")).unwrap();
    assert!(String::from_utf8_lossy(&text).contains("EC PRIVATE KEY"));
    assert!(key::belongs_to(&text, &cert).unwrap());
}

#[test]
fn a_certificate_says_who_issued_it_and_is_checked() {
    let pair = Pair::new();
    let chain = CaChain::from_pem(pair.a.ca_pem().unwrap().as_bytes()).unwrap();
    let credentials = pair.a.credentials("node1.test").unwrap();
    let cert = Cert::from_pem(credentials.cert_pem.as_bytes()).unwrap();
    assert_eq!(
        (cert.common_name.as_deref(), cert.serial),
        (Some("node1.test"), Serial::from(2))
    );
    cert.verify_issued_by(chain.signing()).unwrap();
    assert_eq!(
        cert.verify_issued_by(chain.root()).unwrap_err().rule,
        "cert-unknown-issuer"
    );
    assert!(key::belongs_to(credentials.key_pem.as_bytes(), &cert).unwrap());
    let both = format!("{0}{0}", credentials.cert_pem);
    assert_eq!(
        Cert::from_pem(both.as_bytes()).unwrap_err().rule,
        "cert-count"
    );
    assert_eq!(
        Cert::from_pem(pair.a.root_crl().as_bytes())
            .unwrap_err()
            .to_string(),
        "line 1: a X509 CRL where CERTIFICATE is expected [pem-label]"
    );
    let reversed: String = {
        let blocks = pem::blocks(pair.a.ca_pem().unwrap().as_bytes()).unwrap();
        blocks
            .iter()
            .rev()
            .map(|block| pem::encode(&block.label, &block.der))
            .collect()
    };
    assert_eq!(
        CaChain::from_pem(reversed.as_bytes()).unwrap_err().rule,
        "ca-chain"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn a_crl_reads_back_as_it_was_signed(number in any::<u32>(), revoked in proptest::collection::btree_set(1_u64..u64::MAX, 0..8)) {
        let root = tempfile::tempdir().unwrap();
        let ca = TestCa::create(&root.path().join("ca"), options().keys(Keys::Ecdsa).server("")).unwrap();
        let revoked: Vec<u64> = revoked.into_iter().collect();
        let text = ca.crl(&CrlOptions::default().now(now()).number(u64::from(number)).revoked(&revoked)).unwrap();
        let chain = CaChain::from_pem(ca.ca_pem().unwrap().as_bytes()).unwrap();
        let bundle = CrlBundle::from_pem(format!("{text}{}", ca.root_crl()).as_bytes()).unwrap();
        let crl = bundle.find(chain.signing()).unwrap();
        prop_assert_eq!(crl.number, Some(Serial::from(number)));
        let expected: Vec<Serial> = revoked.iter().map(|serial| Serial::from_be_bytes(&serial.to_be_bytes()).unwrap()).collect();
        prop_assert_eq!(crl.revoked.keys().copied().collect::<Vec<_>>(), expected);
        prop_assert!(crl.revoked.values().all(|entry| entry.reason == Some(1)));
        prop_assert!(crl.verify_signed_by(chain.signing()).is_ok() && crl.verify_signed_by(chain.root()).is_err());
        prop_assert!(bundle.crls()[1].verify_signed_by(chain.root()).is_ok());
        prop_assert_eq!(CrlBundle::from_pem(bundle.to_pem().as_bytes()).unwrap(), bundle);
    }
}

proptest! {
    #[test]
    fn no_der_makes_a_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), at in 0_usize..400, flip in 1_u8..) {
        drop(Crl::from_der(&bytes));
        drop(Cert::from_der(&bytes));
        drop(Request::from_pem(pem::encode("CERTIFICATE REQUEST", &bytes).as_bytes()));
        // A real certificate with one octet changed.
        let text = include_bytes!("../fixtures/node1.lab.pem");
        let mut der = pem::blocks(text).unwrap()[0].der.clone();
        let place = at % der.len();
        der[place] ^= flip;
        let cert = Cert::from_der(&der);
        let real = Cert::from_pem(text).unwrap();
        prop_assert!(cert.is_err() || cert.unwrap() != real);
        drop(key::belongs_to(pem::encode("RSA PRIVATE KEY", &bytes).as_bytes(), &real));
        drop(key::belongs_to(pem::encode("PRIVATE KEY", &bytes).as_bytes(), &real));
    }
}
