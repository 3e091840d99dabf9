//! The classifier's HTTP API, `https://HOST:4433/classifier-api`, version 1.
//!
//! What it guarantees: only the given CA is trusted; a redirect is never followed; every request has
//! a `Content-Length` and a connection and a deadline of its own; `inherited` is never asked for
//! (inherited values would be baked in by an import); an answer is taken only with the documented
//! status and shape. What a failure means is in its kind: `Unreachable` (nothing was sent, retry
//! freely), `Denied` (certificate or token), `Unknown` (it was sent and cannot be told whether it
//! happened), `Invalid` (the server refused what was sent), `Protocol` (anything else that is not as
//! documented). The server's own kind, message and details are the source, a [`ServerError`].
//!
//! The embedder's runtime runs it; it needs tokio's I/O and time.

mod failure;
mod options;
mod tls;

use std::time::Duration;

use pefo_core::digest::Digest;
use pefo_core::{Error, ErrorKind, Result};
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE};
use reqwest::{Method, StatusCode, Url};
use serde::Deserialize;
use serde_json::{Map, Value};

pub use failure::ServerError;
use options::base_url;
pub use options::{ClientOptions, Credentials};

use crate::model::{Finding, Group, GroupId, Tree, TreeError};

/// The largest answer that is read: 256 MiB; 5,000 groups are about 5.
const MAX_ANSWER_BYTES: usize = 256 << 20;

/// A class that the classifier knows.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct ClassInfo {
    /// Its name.
    pub name: String,
    /// The environment it was found in.
    pub environment: String,
    /// Its parameters with their defaults as Puppet source; null for a required one. Absent where
    /// the server does not say.
    #[serde(default)]
    pub parameters: Option<Map<String, Value>>,
}

/// An environment that the classifier knows.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct EnvironmentInfo {
    /// Its name.
    pub name: String,
    /// Whether its classes could be read the last time.
    #[serde(default)]
    pub sync_succeeded: Option<bool>,
}

/// A client of one classifier.
#[derive(Debug, Clone)]
pub struct ClassifierClient {
    http: reqwest::Client,
    base: Url,
    request_timeout: Duration,
    import_timeout: Duration,
    connect_attempts: u32,
}

/// After a first connection that was not made.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// What `GET /v1/groups` answered, not yet parsed: whether anything changed can be told from its bytes.
#[derive(Debug, Clone)]
pub struct GroupsAnswer(Answer);

impl GroupsAnswer {
    /// BLAKE3 of the bytes. Equal ones say that nothing was changed; others do not say that something was:
    /// the order of the groups is the server's business.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.0.body)
    }

    /// The groups, checked to be one whole tree.
    ///
    /// # Errors
    /// `Protocol` where it is no array; the refusal `nc-tree-invalid` where the groups are not whole.
    pub fn tree(&self) -> Result<Tree> {
        Ok(self.checked()??)
    }

    /// The groups, or everything that is wrong with them: for a classifier that may be broken.
    ///
    /// # Errors
    /// `Protocol` where it is no array.
    pub fn checked(&self) -> Result<Result<Tree, TreeError>> {
        let body = &self.0.body;
        let read =
            Tree::read(body).map_err(|error| failure::not_json("/v1/groups", body, error))?;
        match &read {
            Err(error) if matches!(error.findings(), [Finding::NotAnArray(_)]) => Err(
                failure::not_an_array("/v1/groups", &self.0.json("/v1/groups")?),
            ),
            _ => Ok(read),
        }
    }
}

/// One request.
#[derive(Clone)]
struct Call<'a> {
    method: Method,
    path: &'a [&'a str],
    query: Option<(&'a str, &'a str)>,
    body: Option<Vec<u8>>,
    timeout: Duration,
    /// Whether the server's state changes: then a lost answer is `Unknown`.
    changes: bool,
}

#[derive(Debug, Clone)]
struct Answer {
    status: StatusCode,
    body: Vec<u8>,
}

impl ClassifierClient {
    /// A client; connects to nothing yet.
    ///
    /// # Errors
    /// `Config` where the URL is not `https`, or a certificate or key cannot be read.
    pub fn new(options: &ClientOptions) -> Result<Self> {
        let base = base_url(&options.url)?;
        let tls = tls::config(&options.ca_pem, &options.credentials)?;
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .https_only(true)
            .no_proxy()
            .http1_only()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(options.connect_timeout)
            // A kept connection may be closed by the server just as a request goes out, and a lost
            // import is dear. A handshake is cheap.
            .pool_max_idle_per_host(0);
        if let Credentials::Token(token) = &options.credentials {
            builder = builder.default_headers(tls::token_header(token)?);
        }
        let http = builder.build().map_err(|error| {
            Error::new(
                ErrorKind::Config,
                format!("set up the classifier client: {error}"),
            )
            .with_source(error)
        })?;
        Ok(Self {
            http,
            base,
            request_timeout: options.request_timeout,
            import_timeout: options.import_timeout,
            connect_attempts: options.connect_attempts.max(1),
        })
    }

    /// The API's base URL.
    pub fn url(&self) -> &str {
        self.base.as_str()
    }

    /// `GET /v1/groups`: all groups, checked to be one whole tree.
    ///
    /// # Errors
    /// As in the module's description; a refusal `nc-tree-invalid` where the groups are not whole.
    pub async fn groups(&self) -> Result<Tree> {
        self.groups_answer().await?.tree()
    }

    /// `GET /v1/groups`, not yet parsed.
    ///
    /// # Errors
    /// As in the module's description, but for what is in the answer.
    pub async fn groups_answer(&self) -> Result<GroupsAnswer> {
        self.get(&["v1", "groups"]).await.map(GroupsAnswer)
    }

    /// `GET /v1/groups/ID`.
    ///
    /// # Errors
    /// As in the module's description; `NotFound` where there is no such group.
    pub async fn group(&self, id: GroupId) -> Result<Group> {
        let answer = self.get(&["v1", "groups", &id.to_string()]).await?;
        Group::from_value(answer.json("/v1/groups/ID")?).map_err(|problem| {
            Error::new(
                ErrorKind::Protocol,
                format!("the classifier's group {id} is not valid: {problem}"),
            )
            .with_source(problem)
        })
    }

    /// `POST /v1/validate/group`: asks what creating this group would say; nothing is created.
    ///
    /// # Errors
    /// As in the module's description; `Invalid` where the classifier would not take it.
    pub async fn validate_group(&self, group: &Group) -> Result<()> {
        let body = group.to_json().as_bytes().to_vec();
        let call = self.call(Method::POST, &["v1", "validate", "group"]);
        let answer = self
            .send(Call {
                body: Some(body),
                ..call
            })
            .await?;
        answer.expect(StatusCode::OK, "/v1/validate/group")
    }

    /// `POST /v1/import-hierarchy`: deletes **all** groups and installs these. Callers want
    /// [`crate::import::apply`], which wraps it in the import gate.
    ///
    /// # Errors
    /// As in the module's description. On any kind but `Unreachable` look at the groups before
    /// believing anything: the API documents no atomicity.
    pub async fn import_hierarchy(&self, tree: &Tree) -> Result<()> {
        let call = self.call(Method::POST, &["v1", "import-hierarchy"]);
        let answer = self
            .send(Call {
                body: Some(tree.to_json()),
                timeout: self.import_timeout,
                changes: true,
                ..call
            })
            .await?;
        answer.expect(StatusCode::NO_CONTENT, "/v1/import-hierarchy")
    }

    /// `POST /v1/update-classes`: has the classifier read classes from the master again, of one
    /// environment or of all.
    ///
    /// # Errors
    /// As in the module's description; `Protocol` where the master did not answer the classifier.
    pub async fn update_classes(&self, environment: Option<&str>) -> Result<()> {
        let query = environment.map(|name| ("environment", name));
        let call = self.call(Method::POST, &["v1", "update-classes"]);
        let answer = self
            .send(Call {
                query,
                body: Some(Vec::new()),
                timeout: self.import_timeout,
                ..call
            })
            .await?;
        answer.expect(StatusCode::CREATED, "/v1/update-classes")
    }

    /// `GET /v1/last-class-update`: the time (ISO 8601) of the last one, where there was one.
    ///
    /// # Errors
    /// As in the module's description.
    pub async fn last_class_update(&self) -> Result<Option<String>> {
        #[derive(Deserialize)]
        struct Last {
            last_update: Option<String>,
        }
        let last: Last = self
            .get(&["v1", "last-class-update"])
            .await?
            .parse("/v1/last-class-update")?;
        Ok(last.last_update)
    }

    /// `GET /v1/classes`: every class of every environment, as of the last class update.
    ///
    /// # Errors
    /// As in the module's description.
    pub async fn classes(&self) -> Result<Vec<ClassInfo>> {
        self.get(&["v1", "classes"]).await?.parse("/v1/classes")
    }

    /// `GET /v1/environments`.
    ///
    /// # Errors
    /// As in the module's description.
    pub async fn environments(&self) -> Result<Vec<EnvironmentInfo>> {
        self.get(&["v1", "environments"])
            .await?
            .parse("/v1/environments")
    }

    fn call<'a>(&self, method: Method, path: &'a [&'a str]) -> Call<'a> {
        Call {
            method,
            path,
            query: None,
            body: None,
            timeout: self.request_timeout,
            changes: false,
        }
    }

    async fn get(&self, path: &[&str]) -> Result<Answer> {
        let answer = self.send(self.call(Method::GET, path)).await?;
        answer.expect(StatusCode::OK, &format!("/{}", path.join("/")))?;
        Ok(answer)
    }

    /// Sends a request; one whose connection was not made is tried again, since nothing was sent.
    async fn send(&self, call: Call<'_>) -> Result<Answer> {
        let mut pause = FIRST_PAUSE;
        for _ in 1..self.connect_attempts {
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
        tracing::debug!(method = %call.method, %url, body_bytes = call.body.as_ref().map(Vec::len), "classifier request");
        let mut request = self
            .http
            .request(call.method.clone(), url.clone())
            .timeout(call.timeout);
        if let Some(body) = call.body {
            request = request
                .header(CONTENT_TYPE, "application/json")
                .header(CONTENT_LENGTH, body.len())
                .body(body);
        }
        let lost = |error| failure::transport(error, &call.method, &url, call.changes);
        let mut response = request.send().await.map_err(lost)?;
        let status = response.status();
        tracing::debug!(%url, status = status.as_u16(), "classifier answer");
        if status.is_redirection() {
            return Err(failure::redirect(&url, status, response.headers()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response
            .chunk()
            .await
            .map_err(|error| failure::cut_short(error, &call.method, &url, call.changes))?
        {
            if body.len() + chunk.len() > MAX_ANSWER_BYTES {
                let message =
                    format!("the answer of {url} is larger than {MAX_ANSWER_BYTES} bytes");
                return Err(Error::new(ErrorKind::Protocol, message));
            }
            body.extend_from_slice(&chunk);
        }
        if status.is_success() {
            Ok(Answer { status, body })
        } else {
            Err(failure::status(&url, status, &body))
        }
    }
}

impl Answer {
    fn expect(&self, expected: StatusCode, path: &str) -> Result<()> {
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

    fn json(&self, path: &str) -> Result<Value> {
        serde_json::from_slice(&self.body)
            .map_err(|error| failure::not_json(path, &self.body, error))
    }

    fn parse<T: serde::de::DeserializeOwned>(&self, path: &str) -> Result<T> {
        let value = self.json(path)?;
        // An error report sent with status 200 deserves its own words, not "missing field".
        if let Some(server) = ServerError::from_value(self.status.as_u16(), &value) {
            return Err(failure::report(path, server));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotten_pem_is_a_configuration_mistake() {
        let certificate = Credentials::Certificate {
            certificate_pem: Vec::new(),
            key_pem: Vec::new(),
        };
        for (ca, credentials) in [
            ("", Credentials::Token("t".into())),
            ("nonsense", certificate),
        ] {
            let error = ClassifierClient::new(&ClientOptions::new("https://a", ca, credentials))
                .unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        }
    }
}
