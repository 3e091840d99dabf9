//! A small CA of the double's own, or one made elsewhere.

use std::fmt;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};

/// What the server's certificate says it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServerName {
    /// DNS name `localhost`: right.
    #[default]
    Localhost,
    /// Another DNS name.
    Other,
    /// A common name and no alternative names, as old Puppet certificates are.
    WithoutAlternativeNames,
}

/// A client's certificate and private key, PEM.
#[derive(Clone)]
pub struct ClientPem {
    /// The certificate.
    pub certificate_pem: String,
    /// The private key.
    pub key_pem: String,
}

impl fmt::Debug for ClientPem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientPem(..)")
    }
}

/// What the double serves with.
#[derive(Clone)]
#[non_exhaustive]
pub struct Pki {
    /// The CA's certificate: what clients must be signed by.
    pub ca_pem: String,
    /// The server's certificate; clients reach it as `localhost`.
    pub server_certificate_pem: String,
    /// The server's private key.
    pub server_key_pem: String,
    issuer: Option<Arc<Issuer<'static, KeyPair>>>,
}

impl fmt::Debug for Pki {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pki(..)")
    }
}

impl Pki {
    /// One made elsewhere, such as by a real Puppet CA.
    pub fn given(
        ca_pem: impl Into<String>,
        server_certificate_pem: impl Into<String>,
        server_key_pem: impl Into<String>,
    ) -> Self {
        Self {
            ca_pem: ca_pem.into(),
            server_certificate_pem: server_certificate_pem.into(),
            server_key_pem: server_key_pem.into(),
            issuer: None,
        }
    }

    /// A fresh CA, and a server certificate that says this.
    ///
    /// # Panics
    /// Where keys or certificates cannot be made.
    pub fn make(server_name: ServerName) -> Self {
        let key = KeyPair::generate().expect("generate the CA's key");
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "Puppet CA: classifier double");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let ca_pem = params.self_signed(&key).expect("sign the CA").pem();
        let issuer = Issuer::new(params, key);
        let names: &[&str] = match server_name {
            ServerName::Localhost => &["localhost"],
            ServerName::Other => &["console.example.com"],
            ServerName::WithoutAlternativeNames => &[],
        };
        let server = sign(&issuer, "localhost", names);
        Self {
            ca_pem,
            server_certificate_pem: server.certificate_pem,
            server_key_pem: server.key_pem,
            issuer: Some(Arc::new(issuer)),
        }
    }

    /// A client certificate for this CN.
    ///
    /// # Panics
    /// Where the CA was made elsewhere: its key is not here.
    pub fn client(&self, cn: &str) -> ClientPem {
        let issuer = self
            .issuer
            .as_ref()
            .expect("the CA was made elsewhere: have it sign the client");
        sign(issuer, cn, &[cn])
    }
}

fn sign(issuer: &Issuer<'static, KeyPair>, cn: &str, names: &[&str]) -> ClientPem {
    let key = KeyPair::generate().expect("generate a key");
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("names for a certificate");
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, cn);
    params.use_authority_key_identifier_extension = true;
    let certificate = params.signed_by(&key, issuer).expect("sign a certificate");
    ClientPem {
        certificate_pem: certificate.pem(),
        key_pem: key.serialize_pem(),
    }
}
