//! How many exported resources PuppetDB holds, against one that answers, refuses and lies.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use pefo_core::ErrorKind;
use pefo_nc::client::Credentials;
use pefo_nc::puppetdb::{ExportedResources, PuppetDb, PuppetDbOptions};
use pefo_testkit::classifier::{ClientPem, Pki, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// What the API's documentation has for the question.
const ASKED: &str = concat!(
    "GET /pdb/query/v4/resources?query=",
    "%5B%22extract%22%2C%5B%5B%22function%22%2C%22count%22%5D%2C%22type%22%5D%2C",
    "%5B%22%3D%22%2C%22exported%22%2Ctrue%5D%2C%5B%22group_by%22%2C%22type%22%5D%5D HTTP/1.1"
);

/// A PuppetDB that knows one question and one answer; everything else is a 404.
struct Double {
    port: u16,
    asked: Arc<AtomicUsize>,
    stop: Arc<Mutex<bool>>,
    thread: Option<JoinHandle<()>>,
}

impl Double {
    fn start(status: &str, body: impl Into<Vec<u8>>, pki: Option<&Pki>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(AtomicUsize::new(0));
        let stop = Arc::new(Mutex::new(false));
        let (status, body) = (status.to_owned(), body.into());
        let tls = pki.map(server_config);
        let (counted, stopped) = (Arc::clone(&asked), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if *stopped.lock().unwrap() {
                    return;
                }
                counted.fetch_add(1, Ordering::Relaxed);
                // A client that leaves early is one of the tests.
                let _ = match (&tls, stream.unwrap()) {
                    (None, stream) => answer(stream, &status, &body),
                    (Some(tls), stream) => {
                        let connection = ServerConnection::new(Arc::clone(tls)).unwrap();
                        answer(StreamOwned::new(connection, stream), &status, &body)
                    }
                };
            }
        });
        Self {
            port,
            asked,
            stop,
            thread: Some(thread),
        }
    }

    fn plain(status: &str, body: impl Into<Vec<u8>>) -> Self {
        Self::start(status, body, None)
    }

    async fn exported_resources(&self) -> pefo_core::Result<ExportedResources> {
        let options = PuppetDbOptions::new(format!("http://127.0.0.1:{}", self.port));
        PuppetDb::new(&options).unwrap().exported_resources().await
    }
}

impl Drop for Double {
    fn drop(&mut self) {
        *self.stop.lock().unwrap() = true;
        drop(TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)));
        drop(self.thread.take().map(JoinHandle::join));
    }
}

fn answer(stream: impl Read + Write, status: &str, body: &[u8]) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut asked = String::new();
    stream.read_line(&mut asked)?;
    let mut header = String::new();
    while stream.read_line(&mut header)? > 2 {
        header.clear();
    }
    let (status, body) = match asked.trim_end() {
        ASKED => (status, body),
        other => ("404 Not Found", other.as_bytes()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json;charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let stream = stream.get_mut();
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;
    stream.flush()
}

/// Client certificates are asked for, as PuppetDB does.
fn server_config(pki: &Pki) -> Arc<ServerConfig> {
    let certificates = |pem: &str| -> Vec<CertificateDer<'static>> {
        let certificates = CertificateDer::pem_slice_iter(pem.as_bytes());
        certificates.collect::<Result<_, _>>().unwrap()
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&pki.ca_pem) {
        roots.add(certificate).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let key = PrivateKeyDer::from_pem_slice(pki.server_key_pem.as_bytes()).unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(certificates(&pki.server_certificate_pem), key);
    Arc::new(config.unwrap())
}

fn certificate(client: ClientPem) -> Credentials {
    Credentials::Certificate {
        certificate_pem: client.certificate_pem.into_bytes(),
        key_pem: client.key_pem.into_bytes(),
    }
}

#[tokio::test]
async fn exported_resources_are_counted_by_type() {
    let rows = r#"[{"count": 12, "type": "Nagios_host"}, {"type": "Sshkey", "count": 340}]"#;
    let double = Double::plain("200 OK", rows);
    let exported = double.exported_resources().await.unwrap();
    assert_eq!(exported.total(), 352);
    assert_eq!(
        serde_json::to_string(&exported).unwrap(),
        r#"{"by_type":{"Nagios_host":12,"Sshkey":340}}"#
    );
    let none = Double::plain("200 OK", "[]").exported_resources().await;
    assert_eq!(none.unwrap().total(), 0);
}

#[tokio::test]
async fn over_tls_both_sides_show_who_they_are() {
    let pki = Pki::make(ServerName::Localhost);
    let double = Double::start("200 OK", r#"[{"type":"File","count":1}]"#, Some(&pki));
    let url = format!("https://localhost:{}", double.port);
    let options = |ca: &Pki, client: &Pki| {
        PuppetDbOptions::new(&url).tls(&*ca.ca_pem, certificate(client.client("b.lab")))
    };
    let ask = async |options: PuppetDbOptions| {
        let client = PuppetDb::new(&options.connect_attempts(1)).unwrap();
        client.exported_resources().await
    };
    assert_eq!(ask(options(&pki, &pki)).await.unwrap().total(), 1);
    let other = Pki::make(ServerName::Localhost);
    let error = ask(options(&other, &pki)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
    assert!(
        error
            .to_string()
            .contains("not signed by the configured CA"),
        "{error}"
    );
    let error = ask(options(&pki, &other)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    assert!(error.hint_text().unwrap().contains("PuppetDB"), "{error:?}");
    let error = PuppetDb::new(&PuppetDbOptions::new(&url)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "no credentials");
}

#[tokio::test]
async fn an_answer_that_is_none_is_never_taken_for_one() {
    for (body, says) in [
        ("<html>Sign in</html>", "a page of HTML"),
        ("", "an empty body"),
        (r#"[{"type": "File", "count": 1}"#, "not with JSON"),
        (
            r#"{"type": "File", "count": 1}"#,
            "another shape than documented",
        ),
        (r#"[{"type": "File"}]"#, "missing field `count`"),
        (
            r#"[{"type": "File", "count": -1}]"#,
            "another shape than documented",
        ),
        (
            r#"[{"type": null, "count": 1}]"#,
            "another shape than documented",
        ),
        (
            r#"[{"type": "File", "count": 1}, {"type": "File", "count": 2}]"#,
            "two numbers of \"File\"",
        ),
    ] {
        let error = Double::plain("200 OK", body).exported_resources().await;
        let error = error.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
        assert!(error.to_string().contains(says), "{error}");
    }
}

#[tokio::test]
async fn an_answer_is_read_up_to_four_mebibytes() {
    let row = r#"{"type":"File","count":1}"#;
    let padded = |bytes: usize| format!("[{row}{}]", " ".repeat(bytes - row.len() - 2));
    let double = Double::plain("200 OK", padded(4 << 20));
    assert_eq!(double.exported_resources().await.unwrap().total(), 1);
    let double = Double::plain("200 OK", padded((4 << 20) + 1));
    let error = double.exported_resources().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
    assert!(
        error.to_string().contains("larger than 4194304 bytes"),
        "{error}"
    );
}

#[tokio::test]
async fn what_puppetdb_will_not_answer_is_told_with_what_to_do() {
    for (status, kind, hint, retryable) in [
        (
            "500 Server Error",
            ErrorKind::Protocol,
            "puppetdb.log",
            false,
        ),
        (
            "503 Service Unavailable",
            ErrorKind::Protocol,
            "puppetdb.log",
            true,
        ),
        (
            "403 Forbidden",
            ErrorKind::Denied,
            "certificate-allowlist",
            false,
        ),
        ("302 Found", ErrorKind::Protocol, "8081", false),
        ("204 No Content", ErrorKind::Protocol, "", false),
    ] {
        let double = Double::plain(status, "said the double");
        let error = double.exported_resources().await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(
            error.hint_text().unwrap_or_default().contains(hint),
            "{error:?}"
        );
        assert_eq!(error.is_retryable(), retryable, "{error}");
        assert!(!error.to_string().contains("said the double"), "{error}");
        assert_eq!(
            double.asked.load(Ordering::Relaxed),
            1,
            "asked once: {status}"
        );
    }
}

#[tokio::test]
async fn nobody_there_is_unreachable() {
    let port = Double::plain("200 OK", "[]").port;
    let options = PuppetDbOptions::new(format!("http://127.0.0.1:{port}")).connect_attempts(1);
    let client = PuppetDb::new(&options).unwrap();
    let error = client.exported_resources().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    assert!(
        error
            .to_string()
            .starts_with("connect to PuppetDB at 127.0.0.1"),
        "{error}"
    );
    assert!(error.hint_text().unwrap().contains("puppetdb"), "{error:?}");
}

#[tokio::test]
async fn an_answer_that_does_not_come_is_given_up_in_time() {
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let options = PuppetDbOptions::new(url).request_timeout(Duration::from_millis(200));
    let client = PuppetDb::new(&options).unwrap();
    let error = client.exported_resources().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unknown, "{error}");
    assert!(error.is_retryable(), "nothing was changed");
    let (stream, _) = silent.accept().unwrap();
    stream.shutdown(Shutdown::Both).ok();
}

#[test]
fn another_hosts_plain_http_is_not_asked() {
    for url in ["http://puppetdb.lab:8080", "http://192.0.2.1:8080"] {
        let error = PuppetDb::new(&PuppetDbOptions::new(url)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.hint_text().unwrap().contains("https://"), "{error:?}");
    }
    assert!(PuppetDb::new(&PuppetDbOptions::default()).is_ok());
}
