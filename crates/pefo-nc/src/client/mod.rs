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

mod options;

use std::time::Duration;

use pefo_core::digest::Digest;
use pefo_core::{Error, ErrorKind, Result};
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value};

use options::base_url;
pub use options::{ClientOptions, Credentials};

pub use crate::http::ServerError;
use crate::http::{Answer, Call, Http, HttpOptions, Service, failure};
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
    http: Http,
    import_timeout: Duration,
}

const CLASSIFIER: Service = Service {
    name: "the classifier",
    not_running: "is pe-console-services running, and does its port let this host in?",
    distrusted: "is it signed by the CA that the console services trust, and not revoked?",
    unauthenticated: "put this master's certname on the console services' allow-list (certificate-allowlist of pe-console-services), or configure a token",
    forbidden: "give the certificate's or token's user the right to view and edit all node groups",
    log: "the log of pe-console-services on that host says more",
    wrong_port: "is this the classifier's own port (4433) rather than the console's (443)?",
};

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
        let read = Tree::read(body)
            .map_err(|error| failure::not_json(&CLASSIFIER, "/v1/groups", body, error))?;
        match &read {
            Err(error) if matches!(error.findings(), [Finding::NotAnArray(_)]) => Err(
                failure::not_an_array(&CLASSIFIER, "/v1/groups", &self.0.json("/v1/groups")?),
            ),
            _ => Ok(read),
        }
    }
}

impl ClassifierClient {
    /// A client; connects to nothing yet.
    ///
    /// # Errors
    /// `Config` where the URL is not `https`, or a certificate or key cannot be read.
    pub fn new(options: &ClientOptions) -> Result<Self> {
        let http = Http::new(HttpOptions {
            service: &CLASSIFIER,
            base: base_url(&options.url)?,
            tls: Some((&options.ca_pem, &options.credentials)),
            connect_timeout: options.connect_timeout,
            request_timeout: options.request_timeout,
            connect_attempts: options.connect_attempts,
            max_answer_bytes: MAX_ANSWER_BYTES,
        })?;
        Ok(Self {
            http,
            import_timeout: options.import_timeout,
        })
    }

    /// The API's base URL.
    pub fn url(&self) -> &str {
        self.http.base().as_str()
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
        self.http.get(&["v1", "groups"]).await.map(GroupsAnswer)
    }

    /// `GET /v1/groups/ID`.
    ///
    /// # Errors
    /// As in the module's description; `NotFound` where there is no such group.
    pub async fn group(&self, id: GroupId) -> Result<Group> {
        let answer = self.http.get(&["v1", "groups", &id.to_string()]).await?;
        Group::from_value(answer.json("/v1/groups/ID")?).map_err(|problem| {
            Error::new(
                ErrorKind::Protocol,
                format!("the classifier's group {id} is not valid: {problem}"),
            )
            .with_source(problem)
        })
    }

    /// `PUT /v1/groups/ID`: creates the group under its own id, or overwrites the one that has it. Whether that
    /// changed anything.
    ///
    /// # Errors
    /// As in the module's description; `Invalid` where the classifier does not take it, retryable where somebody else
    /// changed the group since its serial number was read.
    pub async fn put_group(&self, group: &Group) -> Result<bool> {
        let id = group.id().to_string();
        let path = ["v1", "groups", &id];
        let call = self.http.call(Method::PUT, &path);
        let answer = self
            .http
            .send(Call {
                body: Some(group.to_json().as_bytes().to_vec()),
                changes: true,
                ..call
            })
            .await?;
        if answer.status == StatusCode::OK {
            return Ok(false);
        }
        answer.expect(StatusCode::CREATED, "/v1/groups/ID")?;
        Ok(true)
    }

    /// `POST /v1/validate/group`: asks what creating this group would say; nothing is created.
    ///
    /// # Errors
    /// As in the module's description; `Invalid` where the classifier would not take it.
    pub async fn validate_group(&self, group: &Group) -> Result<()> {
        let body = group.to_json().as_bytes().to_vec();
        let call = self.http.call(Method::POST, &["v1", "validate", "group"]);
        let answer = self
            .http
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
        let call = self.http.call(Method::POST, &["v1", "import-hierarchy"]);
        let answer = self
            .http
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
        let call = self.http.call(Method::POST, &["v1", "update-classes"]);
        let answer = self
            .http
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
            .http
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
        self.http
            .get(&["v1", "classes"])
            .await?
            .parse("/v1/classes")
    }

    /// `GET /v1/environments`.
    ///
    /// # Errors
    /// As in the module's description.
    pub async fn environments(&self) -> Result<Vec<EnvironmentInfo>> {
        self.http
            .get(&["v1", "environments"])
            .await?
            .parse("/v1/environments")
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
