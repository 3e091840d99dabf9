//! What agents and operators ask a puppetserver over HTTPS, through curl.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, Output};

use super::Instance;

/// curl's exit codes for a connection that the other side ended while TLS was being set up or just
/// after: 35 handshake, 52 nothing received, 55 sending, 56 receiving. With TLS 1.3 a refused client
/// certificate shows only at the first read (RFC 8446 §4.4.2.4).
const ENDED_BY_PEER: [i32; 4] = [35, 52, 55, 56];
/// A reset can overtake the alert that explains it; such a request is made again, so often.
const TRIES: u32 = 5;
/// Ends what curl gives for a request; no body here has it.
const END: char = '\u{1e}';
/// So many requests go over one connection.
const RUN: usize = 100;

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
    /// Sends the time of this file as `If-Modified-Since`.
    pub newer_than: Option<PathBuf>,
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
            newer_than: None,
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

    /// Asks for what is newer than `file`, as an agent does that has it already; else the answer is 304.
    #[must_use]
    pub fn newer_than(mut self, file: impl Into<PathBuf>) -> Self {
        self.newer_than = Some(file.into());
        self
    }
}

impl Instance {
    /// Makes any request, checking the server's certificate against the instance's CA.
    ///
    /// # Panics
    /// Where there is no answer that tells anything: the server can not be reached, or its own
    /// certificate is wrong.
    pub fn request(&self, request: &Request) -> Answer {
        let mut last = String::new();
        for _ in 0..TRIES {
            let output = self.curl(&[request]);
            let errors = String::from_utf8_lossy(&output.stderr).into_owned();
            match output.status.code() {
                Some(0) => {
                    if let Some(answer) = answers(&output).pop() {
                        return answer;
                    }
                    last = errors;
                }
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
            "{} {} at {}, port {}: {}",
            request.method,
            request.path,
            request.host.as_deref().unwrap_or(self.certname()),
            self.port(),
            last.trim()
        );
    }

    /// Makes many requests in order, over as few connections as it can: for clients that are let in.
    ///
    /// # Panics
    /// Where one is not answered, or with another status than 2xx.
    pub fn request_each(&self, requests: &[Request]) -> Vec<String> {
        let mut bodies = Vec::new();
        for run in requests.chunks(RUN) {
            let output = self.curl(&run.iter().collect::<Vec<_>>());
            let answers = answers(&output);
            assert!(
                output.status.success() && answers.len() == run.len(),
                "{} of {} requests were answered: {}",
                answers.len(),
                run.len(),
                String::from_utf8_lossy(&output.stderr).trim()
            );
            for (request, answer) in run.iter().zip(answers) {
                bodies.push(answer.expect_accepted(&request.path));
            }
        }
        bodies
    }

    fn curl(&self, requests: &[&Request]) -> Output {
        let mut curl = Command::new("/usr/bin/curl");
        // No curlrc of whoever runs the test.
        curl.arg("-q").env_clear();
        for (number, request) in requests.iter().enumerate() {
            if number > 0 {
                curl.arg("--next");
            }
            curl.args(self.arguments(request));
        }
        match curl.output() {
            Ok(output) => output,
            Err(error) => panic!("run curl: {error}"),
        }
    }

    fn arguments(&self, request: &Request) -> Vec<OsString> {
        let (host, port) = (
            request.host.as_deref().unwrap_or(self.certname()),
            self.port(),
        );
        let mut arguments: Vec<OsString> = [
            "--silent",
            "--show-error",
            "--noproxy",
            "*",
            "--max-time",
            "60",
        ]
        .map(OsString::from)
        .into();
        let mut option = |name: &str, value: OsString| {
            arguments.extend([OsString::from(name), value]);
        };
        // The status follows the body, on a line of its own.
        option("--write-out", format!("\n%{{http_code}}{END}").into());
        option("--request", request.method.into());
        option("--cacert", self.cadir().join("ca_crt.pem").into());
        option(
            "--connect-to",
            format!("{host}:{port}:127.0.0.1:{port}").into(),
        );
        if let Some(identity) = &request.identity {
            option("--cert", identity.certificate.clone().into());
            option("--key", identity.key.clone().into());
        }
        if let Some((content_type, body)) = &request.body {
            option("--header", format!("Content-Type: {content_type}").into());
            // Raw: a body that begins with @ is no file name.
            option("--data-raw", body.into());
        }
        if let Some(file) = &request.newer_than {
            option("--time-cond", file.into());
        }
        option(
            "--url",
            format!("https://{host}:{port}{}", request.path).into(),
        );
        arguments
    }
}

/// The answers to the requests that curl has made; status 0 is none.
fn answers(output: &Output) -> Vec<Answer> {
    String::from_utf8_lossy(&output.stdout)
        .split_terminator(END)
        .map(|text| {
            let (body, code) = text.rsplit_once('\n').unwrap_or(("", text));
            Answer::Status {
                code: code.parse().unwrap_or(0),
                body: body.to_owned(),
            }
        })
        .collect()
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
