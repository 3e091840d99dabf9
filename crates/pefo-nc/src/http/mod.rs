//! HTTP as the services of a Puppet master speak it: one request, one connection, one deadline.
//!
//! Only the given CA is trusted, a redirect is never followed, no proxy is asked, an answer has a largest size, and
//! what a failure means is in its kind ([`crate::client`] says which). A connection that was not made is tried
//! again, and nothing else is.

pub(crate) mod failure;
mod tls;

use std::time::Duration;

use pefo_core::{Error, ErrorKind, Result};
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE};
use reqwest::{Method, StatusCode, Url};
use serde_json::Value;

use crate::client::Credentials;
pub use failure::ServerError;

/// After a first connection that was not made.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// Who is spoken to, in words for people.
#[derive(Debug)]
pub(crate) struct Service {
    /// After "connect to".
    pub(crate) name: &'static str,
    /// What to do where no connection is made.
    pub(crate) not_running: &'static str,
    /// What to do where our certificate is refused in the handshake.
    pub(crate) distrusted: &'static str,
    /// What to do about a 401 that is not about a token.
    pub(crate) unauthenticated: &'static str,
    /// What to do about a 403.
    pub(crate) forbidden: &'static str,
    /// Where to look after a failure of the server's own.
    pub(crate) log: &'static str,
    /// Where somebody else seems to answer.
    pub(crate) wrong_port: &'static str,
}

/// Where a service is and how patient we are.
pub(crate) struct HttpOptions<'a> {
    pub(crate) service: &'static Service,
    pub(crate) base: Url,
    /// The CA, and who we are; `None` for plain HTTP.
    pub(crate) tls: Option<(&'a [u8], &'a Credentials)>,
    pub(crate) connect_timeout: Duration,
    pub(crate) request_timeout: Duration,
    pub(crate) connect_attempts: u32,
    pub(crate) max_answer_bytes: usize,
}

/// A client of one service.
#[derive(Debug, Clone)]
pub(crate) struct Http {
    service: &'static Service,
    client: reqwest::Client,
    base: Url,
    request_timeout: Duration,
    connect_attempts: u32,
    max_answer_bytes: usize,
}

/// One request.
#[derive(Clone)]
pub(crate) struct Call<'a> {
    pub(crate) method: Method,
    pub(crate) path: &'a [&'a str],
    pub(crate) query: Option<(&'a str, &'a str)>,
    pub(crate) body: Option<Vec<u8>>,
    pub(crate) timeout: Duration,
    /// Whether the server's state changes: then a lost answer is `Unknown`.
    pub(crate) changes: bool,
}

/// An answer with a status of success.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    service: &'static Service,
    pub(crate) status: StatusCode,
    pub(crate) body: Vec<u8>,
}

impl Http {
    /// A client; connects to nothing yet.
    ///
    /// # Errors
    /// `Config` where a certificate, a key or a token cannot be used.
    pub(crate) fn new(options: HttpOptions<'_>) -> Result<Self> {
        let tls = match options.tls {
            Some((ca_pem, credentials)) => tls::config(ca_pem, credentials)?,
            None => tls::none()?,
        };
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .https_only(options.tls.is_some())
            .no_proxy()
            .http1_only()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(options.connect_timeout)
            // A kept connection may be closed by the server just as a request goes out, and a lost
            // import is dear. A handshake is cheap.
            .pool_max_idle_per_host(0);
        if let Some((_, Credentials::Token(token))) = options.tls {
            builder = builder.default_headers(tls::token_header(token)?);
        }
        let client = builder.build().map_err(|error| {
            let message = format!("set up a client of {}: {error}", options.service.name);
            Error::new(ErrorKind::Config, message).with_source(error)
        })?;
        Ok(Self {
            service: options.service,
            client,
            base: options.base,
            request_timeout: options.request_timeout,
            connect_attempts: options.connect_attempts,
            max_answer_bytes: options.max_answer_bytes,
        })
    }

    /// What every path is below.
    pub(crate) fn base(&self) -> &Url {
        &self.base
    }

    /// A request that changes nothing.
    pub(crate) fn call<'a>(&self, method: Method, path: &'a [&'a str]) -> Call<'a> {
        Call {
            method,
            path,
            query: None,
            body: None,
            timeout: self.request_timeout,
            changes: false,
        }
    }

    /// What stands at a path; status 200.
    pub(crate) async fn get(&self, path: &[&str]) -> Result<Answer> {
        let answer = self.send(self.call(Method::GET, path)).await?;
        answer.expect(StatusCode::OK, &format!("/{}", path.join("/")))?;
        Ok(answer)
    }

    /// Sends a request; one whose connection was not made is tried again, since nothing was sent.
    pub(crate) async fn send(&self, call: Call<'_>) -> Result<Answer> {
        let mut pause = FIRST_PAUSE;
        for _ in 1..self.connect_attempts.max(1) {
            match self.send_once(call.clone()).await {
                Err(error) if error.kind() == ErrorKind::Unreachable => {
                    tracing::info!(%error, "trying again");
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
                ended => return ended,
            }
        }
        self.send_once(call).await
    }

    async fn send_once(&self, call: Call<'_>) -> Result<Answer> {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.extend(call.path);
        }
        if let Some((name, value)) = call.query {
            url.query_pairs_mut().append_pair(name, value);
        }
        tracing::debug!(method = %call.method, %url, body_bytes = call.body.as_ref().map(Vec::len), "request");
        let mut request = self
            .client
            .request(call.method.clone(), url.clone())
            .timeout(call.timeout);
        if let Some(body) = call.body {
            request = request
                .header(CONTENT_TYPE, "application/json")
                .header(CONTENT_LENGTH, body.len())
                .body(body);
        }
        let lost =
            |error| failure::transport(self.service, error, &call.method, &url, call.changes);
        let mut response = request.send().await.map_err(lost)?;
        let status = response.status();
        tracing::debug!(%url, status = status.as_u16(), "answer");
        if status.is_redirection() {
            return Err(failure::redirect(
                self.service,
                &url,
                status,
                response.headers(),
            ));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response
            .chunk()
            .await
            .map_err(|error| failure::cut_short(error, &call.method, &url, call.changes))?
        {
            if body.len() + chunk.len() > self.max_answer_bytes {
                let message = format!(
                    "the answer of {} is larger than {} bytes",
                    url.path(),
                    self.max_answer_bytes
                );
                return Err(Error::new(ErrorKind::Protocol, message));
            }
            body.extend_from_slice(&chunk);
        }
        if status.is_success() {
            Ok(Answer {
                service: self.service,
                status,
                body,
            })
        } else {
            Err(failure::status(self.service, &url, status, &body))
        }
    }
}

impl Answer {
    pub(crate) fn expect(&self, expected: StatusCode, path: &str) -> Result<()> {
        if self.status == expected {
            return Ok(());
        }
        let message = format!(
            "{path} answered with status {} where {} is documented",
            self.status.as_u16(),
            expected.as_u16()
        );
        Err(Error::new(ErrorKind::Protocol, message))
    }

    pub(crate) fn json(&self, path: &str) -> Result<Value> {
        serde_json::from_slice(&self.body)
            .map_err(|error| failure::not_json(self.service, path, &self.body, error))
    }

    pub(crate) fn parse<T: serde::de::DeserializeOwned>(&self, path: &str) -> Result<T> {
        let value = self.json(path)?;
        // An error report sent with status 200 deserves its own words, not "missing field".
        if let Some(server) = ServerError::from_value(self.status.as_u16(), &value) {
            return Err(failure::report(self.service, path, server));
        }
        serde_json::from_value(value).map_err(|error| {
            Error::new(
                ErrorKind::Protocol,
                format!("{path} answered in another shape than documented: {error}"),
            )
            .with_source(error)
        })
    }
}
