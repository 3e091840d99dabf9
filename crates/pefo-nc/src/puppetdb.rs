//! What the PuppetDB at hand knows of exported resources.
//!
//! A node's catalog collects what others exported, and a type that is purged loses what nobody exports any more.
//! The PuppetDB of a freshly promoted master may hold less than the old one did, if anything; whoever promotes
//! wants to know before agents run against it. [`PuppetDb::exported_resources`] asks for numbers by type, of
//! nodes that are active, and for nothing else: neither titles nor parameters leave the server.
//!
//! Spoken is PuppetDB's query API, version 4 (`/pdb/query/v4/resources`; PuppetDB 3 and later), over TLS with a
//! client certificate or an RBAC token, or over plain HTTP to this very host, where PuppetDB listens unencrypted by
//! default. What a failure means is in its kind, as for the [classifier's client](crate::client).

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use pefo_core::{Error, ErrorKind, Result};
use reqwest::{Method, StatusCode, Url};
use serde::{Deserialize, Serialize};

use crate::client::Credentials;
use crate::http::{Call, Http, HttpOptions, Service};

/// The largest answer that is read, in bytes: one row of some sixty a resource type.
const MAX_ANSWER_BYTES: usize = 4 << 20;

/// Counts exported resources by type: PuppetDB's AST query language.
const QUERY: &str =
    r#"["extract",[["function","count"],"type"],["=","exported",true],["group_by","type"]]"#;
const RESOURCES: &str = "/pdb/query/v4/resources";

const PUPPETDB: Service = Service {
    name: "PuppetDB",
    not_running: "is puppetdb (pe-puppetdb) running, and is this the address it listens on?",
    distrusted: "is it signed by the CA that PuppetDB trusts, and not revoked?",
    unauthenticated: "put this master's certname on PuppetDB's certificate-allowlist, or configure a token",
    forbidden: "put this master's certname on PuppetDB's certificate-allowlist",
    log: "puppetdb.log on that host says more",
    wrong_port: "is this PuppetDB's own port (8081, or 8080 without TLS)?",
};

/// Where PuppetDB is and how to talk to it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PuppetDbOptions {
    /// `http://localhost:PORT` or `https://HOST:PORT`.
    pub url: String,
    /// The Puppet CA's certificates as PEM; nothing else is trusted. Not looked at for plain HTTP.
    pub ca_pem: Vec<u8>,
    /// Who we are; not needed for plain HTTP.
    pub credentials: Option<Credentials>,
    /// How long a connection may take; 10 s by default.
    pub connect_timeout: Duration,
    /// How long a request may take; 60 s by default.
    pub request_timeout: Duration,
    /// How many times a connection is tried; 3 by default, half a second after the first and twice as long
    /// after each one more.
    pub connect_attempts: u32,
}

impl Default for PuppetDbOptions {
    fn default() -> Self {
        Self::new("http://localhost:8080")
    }
}

impl PuppetDbOptions {
    /// Options with the default timeouts.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            ca_pem: Vec::new(),
            credentials: None,
            connect_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(60),
            connect_attempts: 3,
        }
    }

    /// Sets which CA is trusted, and who we are.
    #[must_use]
    pub fn tls(mut self, ca_pem: impl Into<Vec<u8>>, credentials: Credentials) -> Self {
        self.ca_pem = ca_pem.into();
        self.credentials = Some(credentials);
        self
    }

    /// Sets how long a connection may take.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Sets how long a request may take.
    #[must_use]
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// Sets how many times a connection is tried; at least once.
    #[must_use]
    pub fn connect_attempts(mut self, attempts: u32) -> Self {
        self.connect_attempts = attempts.max(1);
        self
    }
}

/// How many exported resources a PuppetDB holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ExportedResources {
    /// How many of each type, such as `Nagios_host`.
    pub by_type: BTreeMap<String, u64>,
}

impl ExportedResources {
    /// How many there are in all.
    pub fn total(&self) -> u64 {
        let counts = self.by_type.values();
        counts.fold(0, |total, count| total.saturating_add(*count))
    }
}

/// A client of one PuppetDB.
#[derive(Debug, Clone)]
pub struct PuppetDb {
    http: Http,
}

impl PuppetDb {
    /// A client; connects to nothing yet.
    ///
    /// # Errors
    /// `Config` where the URL is neither `https` nor plain HTTP to this very host, where there are no credentials for
    /// `https`, or where a certificate or key cannot be read.
    pub fn new(options: &PuppetDbOptions) -> Result<Self> {
        let (base, scheme) = base_url(&options.url)?;
        let tls = match (&options.credentials, scheme) {
            (Some(credentials), Scheme::Https) => Some((options.ca_pem.as_slice(), credentials)),
            (None, Scheme::Https) => {
                let message = format!(
                    "PuppetDB at {}: there are no credentials for it",
                    options.url
                );
                return Err(Error::new(ErrorKind::Config, message)
                    .hint("configure a client certificate and its key, or a token"));
            }
            (_, Scheme::Http) => None,
        };
        let http = Http::new(HttpOptions {
            service: &PUPPETDB,
            base,
            tls,
            connect_timeout: options.connect_timeout,
            request_timeout: options.request_timeout,
            connect_attempts: options.connect_attempts,
            max_answer_bytes: MAX_ANSWER_BYTES,
        })?;
        Ok(Self { http })
    }

    /// How many exported resources there are of each type, on nodes that are active.
    ///
    /// # Errors
    /// As of the [classifier's client](crate::client); `Protocol` where the answer is not as documented or larger than
    /// 4 MiB.
    pub async fn exported_resources(&self) -> Result<ExportedResources> {
        #[derive(Deserialize)]
        struct Row {
            #[serde(rename = "type")]
            of_type: String,
            count: u64,
        }
        let call = self
            .http
            .call(Method::GET, &["pdb", "query", "v4", "resources"]);
        let answer = self
            .http
            .send(Call {
                query: Some(("query", QUERY)),
                ..call
            })
            .await?;
        answer.expect(StatusCode::OK, RESOURCES)?;
        let mut by_type = BTreeMap::new();
        for Row { of_type, count } in answer.parse::<Vec<Row>>(RESOURCES)? {
            if by_type.contains_key(&of_type) {
                let message = format!("{RESOURCES} answered with two numbers of {of_type:?}");
                return Err(Error::new(ErrorKind::Protocol, message).hint(PUPPETDB.log));
            }
            by_type.insert(of_type, count);
        }
        Ok(ExportedResources { by_type })
    }
}

/// How a PuppetDB is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Over TLS: the CA's certificate and credentials are needed.
    Https,
    /// In plain text, to this very host.
    Http,
}

/// Checks a PuppetDB's URL before anything else is known, as for a configuration; tells what it takes.
///
/// # Errors
/// `Config`, as [`PuppetDb::new`].
pub fn scheme(url: &str) -> Result<Scheme> {
    base_url(url).map(|(_, scheme)| scheme)
}

fn base_url(text: &str) -> Result<(Url, Scheme)> {
    let wrong = |reason: String| {
        Error::new(
            ErrorKind::Config,
            format!("PuppetDB's URL {text:?}: {reason}"),
        )
        .hint("write https://HOST:8081, or http://localhost:8080")
    };
    let url = Url::parse(text).map_err(|error| wrong(error.to_string()).with_source(error))?;
    let scheme = match url.scheme() {
        "https" => Scheme::Https,
        "http" => Scheme::Http,
        _ => return Err(wrong("the scheme is neither https nor http".to_owned())),
    };
    // What an answer on another host's unencrypted port says, anybody on the way could have said.
    if scheme == Scheme::Http && !is_this_host(&url) {
        return Err(wrong("plain http is for this very host only".to_owned()));
    }
    let is_bare = url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none()
        && url.path() == "/";
    if !is_bare {
        return Err(wrong("it has more than a host and a port".to_owned()));
    }
    Ok((url, scheme))
}

fn is_this_host(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let is_v6 = |host: &str| host.parse().is_ok_and(|ip: Ipv6Addr| ip.is_loopback());
    host == "localhost"
        || host.parse().is_ok_and(|ip: Ipv4Addr| ip.is_loopback())
        || host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .is_some_and(is_v6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_this_very_host_only() {
        for text in [
            "http://localhost:8080",
            "http://127.0.0.1:8080/",
            "http://127.1.2.3",
            "http://[::1]:8080",
            "https://puppetdb.lab:8081",
        ] {
            assert!(base_url(text).is_ok(), "{text}");
        }
        for text in [
            "http://puppetdb.lab:8080",
            "http://10.0.0.1:8080",
            "http://localhost.lab:8080",
            "http://[2001:db8::1]:8080",
            "https://puppetdb.lab:8081/pdb",
            "https://u:p@puppetdb.lab",
            "https://puppetdb.lab/?x=1",
            "ftp://localhost",
            "localhost:8080",
            "",
        ] {
            let error = base_url(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{text}");
            assert!(error.hint_text().is_some());
        }
    }

    #[test]
    fn a_total_never_overflows() {
        let by_type = BTreeMap::from([("A".to_owned(), u64::MAX), ("B".to_owned(), 2)]);
        assert_eq!(ExportedResources { by_type }.total(), u64::MAX);
        assert_eq!(ExportedResources::default().total(), 0);
    }
}
