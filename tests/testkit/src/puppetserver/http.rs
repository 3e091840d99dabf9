//! What agents and operators ask a puppetserver over HTTPS, through curl.
//!
//! Shapes: Puppet's HTTP API, `puppet-ca/v1` (`certificate_request`, `certificate_status`,
//! `certificate`, `certificate_revocation_list`) and `puppet/v3/node`.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use super::Instance;
use crate::{place, wait};

/// curl's exit codes for a connection that the other side ended while TLS was being set up or just
/// after: 35 handshake, 52 nothing received, 55 sending, 56 receiving. With TLS 1.3 a refused client
/// certificate shows only at the first read (RFC 8446 §4.4.2.4).
const ENDED_BY_PEER: [i32; 4] = [35, 52, 55, 56];
/// A reset can overtake the alert that explains it; such a request is made again, so often.
const TRIES: u32 = 5;

/// A client certificate and its key, as PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The certificate.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

impl Identity {
    /// The certificate's serial number, as `openssl x509 -serial` writes it: upper-case hex.
    ///
    /// # Panics
    /// Where the certificate can not be read.
    pub fn serial(&self) -> String {
        let text = run(Command::new("openssl")
            .args(["x509", "-noout", "-serial", "-in"])
            .arg(&self.certificate));
        text.trim().trim_start_matches("serial=").to_owned()
    }
}

/// What came of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The server let the client in and answered.
    Status {
        /// The HTTP status code.
        code: u16,
        /// The body.
        body: String,
    },
    /// The server refused the client's certificate: TLS ended in an alert, which this names.
    Refused(String),
}

impl Answer {
    /// Whether the server answered with a 2xx status.
    pub fn is_accepted(&self) -> bool {
        matches!(
            self,
            Self::Status {
                code: 200..=299,
                ..
            }
        )
    }

    /// Whether the server refused the certificate in TLS. An HTTP 403 is not that.
    pub fn is_refused(&self) -> bool {
        matches!(self, Self::Refused(_))
    }

    /// The body of a 2xx answer.
    ///
    /// # Panics
    /// On any other answer; the message shows it after `what`.
    pub fn expect_accepted(self, what: &str) -> String {
        match self {
            Self::Status {
                code: 200..=299,
                body,
            } => body,
            other => panic!("{what}: {other:?}"),
        }
    }
}

/// A request to an instance.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Request {
    /// `GET`, `PUT`, …
    pub method: &'static str,
    /// Path and query, from the first slash.
    pub path: String,
    /// The client's certificate, where it shows one.
    pub identity: Option<Identity>,
    /// Content type and body.
    pub body: Option<(&'static str, String)>,
    /// The name the server's certificate must bear; the instance's certname where there is none.
    pub host: Option<String>,
}

impl Request {
    /// A GET without a client certificate.
    pub fn get(path: impl Into<String>) -> Self {
        Self {
            method: "GET",
            path: path.into(),
            identity: None,
            body: None,
            host: None,
        }
    }

    /// A PUT without a client certificate.
    pub fn put(
        path: impl Into<String>,
        content_type: &'static str,
        body: impl Into<String>,
    ) -> Self {
        Self {
            method: "PUT",
            body: Some((content_type, body.into())),
            ..Self::get(path)
        }
    }

    /// A DELETE without a client certificate.
    pub fn delete(path: impl Into<String>) -> Self {
        Self {
            method: "DELETE",
            ..Self::get(path)
        }
    }

    /// Shows a client certificate.
    #[must_use]
    pub fn identity(mut self, identity: Identity) -> Self {
        self.identity = Some(identity);
        self
    }

    /// Asks for the server under another name, which its certificate must bear.
    #[must_use]
    pub fn host(mut self, host: impl Into<String>) -> Self {
        self.host = Some(host.into());
        self
    }
}

/// A node: its key, its signing request and, once signed, its certificate.
#[derive(Debug, Clone)]
pub struct Agent {
    certname: String,
    directory: PathBuf,
}

impl Agent {
    /// Makes an RSA key and a PKCS#10 request for `certname` in `directory`.
    ///
    /// # Panics
    /// Where openssl fails.
    pub fn new(directory: &Path, certname: &str) -> Self {
        let agent = Self {
            certname: certname.to_owned(),
            directory: directory.to_owned(),
        };
        run(Command::new("openssl")
            .args([
                "req",
                "-new",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-subj",
                &format!("/CN={certname}"),
                "-keyout",
            ])
            .arg(agent.file("key"))
            .arg("-out")
            .arg(agent.file("csr")));
        agent
    }

    /// The node's name.
    pub fn certname(&self) -> &str {
        &self.certname
    }

    /// The signing request, PEM.
    pub fn request(&self) -> String {
        place::read(&self.file("csr"))
    }

    /// Certificate and key; the certificate's file exists once an instance has signed it.
    pub fn identity(&self) -> Identity {
        Identity {
            certificate: self.file("pem"),
            key: self.file("key"),
        }
    }

    fn file(&self, extension: &str) -> PathBuf {
        self.directory
            .join(format!("{}.{extension}", self.certname))
    }
}

impl Instance {
    /// Makes a key and a request for a node and submits it; it waits in `requests/` then.
    ///
    /// # Panics
    /// Where the server does not take it.
    pub fn agent(&self, certname: &str) -> Agent {
        let agent = Agent::new(&self.directory().join("agents"), certname);
        self.submit(&agent);
        agent
    }

    /// Submits a node's request.
    ///
    /// # Panics
    /// Where the server does not take it.
    pub fn submit(&self, agent: &Agent) {
        let path = format!("/puppet-ca/v1/certificate_request/{}", agent.certname);
        self.request(&Request::put(path, "text/plain", agent.request()))
            .expect_accepted("submit a request");
    }

    /// Signs a node's pending request over HTTP, and fetches the certificate into the agent's files.
    ///
    /// # Panics
    /// Where the server refuses.
    pub fn sign(&self, agent: &Agent) {
        self.set_state(&agent.certname, "signed")
            .expect_accepted("sign");
        self.fetch(agent);
    }

    /// Fetches the certificate of a node, which this server or its peer signed, into the agent's files.
    ///
    /// # Panics
    /// Where the server has none.
    pub fn fetch(&self, agent: &Agent) {
        let path = format!("/puppet-ca/v1/certificate/{}", agent.certname);
        let pem = self
            .request(&Request::get(path))
            .expect_accepted("fetch a certificate");
        place::write(&agent.file("pem"), pem);
    }

    /// [`Instance::agent`], then [`Instance::sign`].
    ///
    /// # Panics
    /// As those.
    pub fn enrol(&self, certname: &str) -> Agent {
        let agent = self.agent(certname);
        self.sign(&agent);
        agent
    }

    /// Revokes a node's certificate over HTTP; `signed/` stays as it is.
    ///
    /// # Panics
    /// Where the server refuses.
    pub fn revoke(&self, certname: &str) {
        self.set_state(certname, "revoked")
            .expect_accepted("revoke");
    }

    /// Revokes a node's certificate and has the server forget it: the file in `signed/` goes 30 s later.
    ///
    /// # Panics
    /// Where the server refuses.
    pub fn clean(&self, certname: &str) {
        self.revoke(certname);
        let request = Request::delete(status_path(certname)).identity(self.identity());
        self.request(&request).expect_accepted("clean");
    }

    /// What the server's CA says of a name: `requested`, `signed` or `revoked`; `None` where it knows nothing.
    ///
    /// # Panics
    /// Where the answer is neither.
    pub fn state_of(&self, certname: &str) -> Option<String> {
        match self.request(&Request::get(status_path(certname)).identity(self.identity())) {
            Answer::Status { code: 404, .. } => None,
            answer => {
                let body = answer.expect_accepted("ask for a certificate's state");
                let value: serde_json::Value = match serde_json::from_str(&body) {
                    Ok(value) => value,
                    Err(error) => panic!("the state of {certname} is no JSON: {error}: {body}"),
                };
                value
                    .get("state")
                    .and_then(serde_json::Value::as_str)
                    .map(str::to_owned)
            }
        }
    }

    /// An authenticated request as a node makes it, for its own node object: 200, or a TLS refusal.
    ///
    /// # Panics
    /// Where the server can not be reached.
    pub fn ask(&self, agent: &Agent) -> Answer {
        let path = format!("/puppet/v3/node/{}?environment=production", agent.certname);
        self.request(&Request::get(path).identity(agent.identity()))
    }

    /// Asks until the server refuses the node's certificate, and says how long that took.
    ///
    /// # Panics
    /// Where `limit` passes first.
    pub fn wait_until_refused(&self, agent: &Agent, limit: Duration) -> Duration {
        let what = format!("{} to refuse {}", self.certname(), agent.certname);
        wait::until(&what, limit, || self.ask(agent).is_refused())
    }

    /// The CRL that the server hands to agents, PEM: the signing CA's first, then its ancestors'.
    ///
    /// # Panics
    /// Where the server does not answer with 200.
    pub fn crl(&self) -> String {
        self.request(&Request::get(
            "/puppet-ca/v1/certificate_revocation_list/ca",
        ))
        .expect_accepted("fetch the CRL")
    }

    /// Makes any request, checking the server's certificate against the instance's CA.
    ///
    /// # Panics
    /// Where there is no answer that tells anything: the server can not be reached, or its own
    /// certificate is wrong.
    pub fn request(&self, request: &Request) -> Answer {
        let host = request.host.as_deref().unwrap_or(self.certname());
        let port = self.port();
        let mut last = String::new();
        for _ in 0..TRIES {
            let output = self.curl(request, host, port);
            let (code, body, errors) = parts(&output);
            match output.status.code() {
                Some(0) => return Answer::Status { code, body },
                Some(exit) if ENDED_BY_PEER.contains(&exit) => {
                    if errors.contains(" alert ") {
                        return Answer::Refused(errors.trim().to_owned());
                    }
                    last = errors;
                }
                _ => {
                    last = errors;
                    break;
                }
            }
        }
        panic!(
            "{} {} at {host}, port {port}: {}",
            request.method,
            request.path,
            last.trim()
        );
    }

    fn curl(&self, request: &Request, host: &str, port: u16) -> Output {
        let mut curl = Command::new("/usr/bin/curl");
        // -q: no curlrc of whoever runs the test; the status follows the body, on a line of its own.
        curl.args([
            "-q",
            "--silent",
            "--show-error",
            "--noproxy",
            "*",
            "--max-time",
            "60",
        ])
        .args([
            "--write-out",
            "\n%{http_code}",
            "--request",
            request.method,
            "--cacert",
        ])
        .arg(self.cadir().join("ca_crt.pem"))
        .args(["--connect-to", &format!("{host}:{port}:127.0.0.1:{port}")])
        .env_clear();
        if let Some(identity) = &request.identity {
            curl.arg("--cert")
                .arg(&identity.certificate)
                .arg("--key")
                .arg(&identity.key);
        }
        if let Some((content_type, body)) = &request.body {
            // Raw: a body that begins with @ is no file name.
            curl.args([
                "--header",
                &format!("Content-Type: {content_type}"),
                "--data-raw",
                body,
            ]);
        }
        curl.arg(format!("https://{host}:{port}{}", request.path));
        match curl.output() {
            Ok(output) => output,
            Err(error) => panic!("run curl: {error}"),
        }
    }

    fn set_state(&self, certname: &str, state: &str) -> Answer {
        let body = format!("{{\"desired_state\":\"{state}\"}}");
        let request = Request::put(status_path(certname), "application/json", body);
        self.request(&request.identity(self.identity()))
    }
}

fn status_path(certname: &str) -> String {
    format!("/puppet-ca/v1/certificate_status/{certname}")
}

/// Splits curl's output into status, body and messages.
fn parts(output: &Output) -> (u16, String, String) {
    let text = String::from_utf8_lossy(&output.stdout);
    let (body, code) = text.rsplit_once('\n').unwrap_or(("", &text));
    (
        code.parse().unwrap_or(0),
        body.to_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

/// Runs a tool to its end and gives its standard output.
pub(super) fn run(command: &mut Command) -> String {
    match command.output() {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).into_owned()
        }
        Ok(output) => panic!(
            "{command:?}: {}{}",
            String::from_utf8_lossy(&output.stderr).trim(),
            String::from_utf8_lossy(&output.stdout).trim()
        ),
        Err(error) => panic!("run {command:?}: {error}"),
    }
}
