//! A plain HTTP client, so that nothing of pefo stands between a test and the double.

use std::time::Duration;

use pefo_testkit::classifier::{Behaviour, ClassifierDouble, Options};
use reqwest::{Client, Method, RequestBuilder};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;

/// The CN that is let in.
pub(crate) const CN: &str = "tester.lab";
pub(crate) const ROOT: &str = "00000000-0000-4000-8000-000000000000";
/// "PE Infrastructure" of the captured installation.
pub(crate) const INFRASTRUCTURE: &str = "eb87329f-4874-4852-b833-cf3fb67271c9";
/// A group that no captured installation has.
pub(crate) const WEB: &str = "fc500c43-5065-469b-91fc-37ed0e500e81";

pub(crate) struct Plain {
    http: Client,
    base: String,
    /// The double that lives as long as its client.
    double: Option<ClassifierDouble>,
}

/// An answer, read to its end.
#[derive(Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) location: Option<String>,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    pub(crate) fn kind(&self) -> String {
        self.json()["kind"].as_str().unwrap().to_owned()
    }
}

impl Plain {
    pub(crate) fn of(double: &ClassifierDouble) -> Self {
        let client = double.client(CN);
        let identity = Some((&*client.certificate_pem, &*client.key_pem));
        Self::new(&double.url(), double.ca_pem(), identity)
    }

    /// One that keeps its double.
    pub(crate) fn with(double: ClassifierDouble) -> Self {
        let mut plain = Self::of(&double);
        plain.double = Some(double);
        plain
    }

    /// One without a certificate.
    pub(crate) fn stranger(double: &ClassifierDouble) -> Self {
        Self::new(&double.url(), double.ca_pem(), None)
    }

    pub(crate) fn new(url: &str, ca_pem: &str, identity: Option<(&str, &str)>) -> Self {
        let certificate = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(certificate(ca_pem)).unwrap();
        let provider = rustls::crypto::ring::default_provider();
        let tls = rustls::ClientConfig::builder_with_provider(provider.into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let tls = match identity {
            None => tls.with_no_client_auth(),
            Some((chain, key)) => {
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
                tls.with_client_auth_cert(vec![certificate(chain)], key)
                    .unwrap()
            }
        };
        let http = Client::builder()
            .tls_backend_preconfigured(tls)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(Duration::from_secs(60))
            .build()
            .unwrap();
        Self {
            http,
            base: format!("{url}/v1"),
            double: None,
        }
    }

    /// A request to be made up further; `path` is below `/v1`.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base))
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        read(self.request(Method::GET, path)).await
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> Answer {
        read(self.request(Method::PUT, path).json(body)).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        read(self.request(Method::POST, path).json(body)).await
    }

    /// A POST without a body.
    pub(crate) async fn call(&self, path: &str) -> Answer {
        read(self.request(Method::POST, path)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        read(self.request(Method::DELETE, path)).await
    }
}

pub(crate) async fn read(request: RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    let location = response.headers().get("location");
    Answer {
        status: response.status().as_u16(),
        location: location.map(|value| value.to_str().unwrap().to_owned()),
        text: response.text().await.unwrap(),
    }
}

/// A double with these groups.
pub(crate) fn holding(groups: Vec<Value>) -> ClassifierDouble {
    ClassifierDouble::start(Options::default().allow(CN).groups(groups))
}

/// A double with these groups, some of whose switches are otherwise.
pub(crate) fn behaving(
    groups: Vec<Value>,
    change: impl FnOnce(&mut Behaviour),
) -> ClassifierDouble {
    let double = holding(groups);
    double.set_behaviour(change);
    double
}

/// A fixture, which is data only.
pub(crate) fn fixture(name: &str) -> Value {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/classifier");
    serde_json::from_slice(&std::fs::read(dir.join(name)).unwrap()).unwrap()
}

/// The groups of a captured installation of master1.
pub(crate) fn captured() -> Vec<Value> {
    array(fixture("ncio_groups_default_master1.json"))
}

pub(crate) fn array(value: Value) -> Vec<Value> {
    match value {
        Value::Array(values) => values,
        other => panic!("not an array: {other}"),
    }
}

/// A group without what the server writes itself.
pub(crate) fn as_sent(mut group: Value) -> Value {
    for key in ["serial_number", "last_edited", "deleted"] {
        group.as_object_mut().unwrap().shift_remove(key);
    }
    group
}

pub(crate) fn all_as_sent(groups: Value) -> Vec<Value> {
    array(groups).into_iter().map(as_sent).collect()
}
