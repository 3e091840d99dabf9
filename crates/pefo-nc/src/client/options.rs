//! Where the classifier is, who we are, and how patient a client is.

use std::fmt;
use std::time::Duration;

use pefo_core::{Error, ErrorKind, Result};
use reqwest::Url;

/// How the client proves who it is.
#[derive(Clone)]
#[non_exhaustive]
pub enum Credentials {
    /// A client certificate whose CN is on the console services' allow-list.
    Certificate {
        /// The certificate, and what leads to the CA, as PEM.
        certificate_pem: Vec<u8>,
        /// Its private key as PEM: PKCS#1 (as Puppet writes it), PKCS#8 or SEC1.
        key_pem: Vec<u8>,
    },
    /// An RBAC token, sent as `X-Authentication`.
    Token(String),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Certificate { .. } => "Credentials::Certificate(..)",
            Self::Token(_) => "Credentials::Token(..)",
        })
    }
}

/// Where the classifier is and how to talk to it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ClientOptions {
    /// `https://HOST:PORT`, with or without `/classifier-api`.
    pub url: String,
    /// The Puppet CA's certificates as PEM; nothing else is trusted.
    pub ca_pem: Vec<u8>,
    /// Who we are.
    pub credentials: Credentials,
    /// How long a connection may take; 10 s by default.
    pub connect_timeout: Duration,
    /// How long a request may take; 60 s by default.
    pub request_timeout: Duration,
    /// How long `import-hierarchy` and `update-classes` may take; 300 s by default.
    pub import_timeout: Duration,
    /// How many times a connection is tried; 3 by default, half a second after the first and twice as long
    /// after each one more. Nothing but a connection that was not made is ever tried again.
    pub connect_attempts: u32,
}

impl ClientOptions {
    /// Options with the default timeouts.
    pub fn new(
        url: impl Into<String>,
        ca_pem: impl Into<Vec<u8>>,
        credentials: Credentials,
    ) -> Self {
        Self {
            url: url.into(),
            ca_pem: ca_pem.into(),
            credentials,
            connect_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(60),
            import_timeout: Duration::from_secs(300),
            connect_attempts: 3,
        }
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

    /// Sets how long an import or a class update may take.
    #[must_use]
    pub fn import_timeout(mut self, timeout: Duration) -> Self {
        self.import_timeout = timeout;
        self
    }

    /// Sets how many times a connection is tried; at least once.
    #[must_use]
    pub fn connect_attempts(mut self, attempts: u32) -> Self {
        self.connect_attempts = attempts.max(1);
        self
    }
}

pub(super) fn base_url(text: &str) -> Result<Url> {
    let wrong = |reason: String| {
        Error::new(
            ErrorKind::Config,
            format!("classifier URL {text:?}: {reason}"),
        )
        .hint("write https://HOST:4433/classifier-api")
    };
    let mut url = Url::parse(text).map_err(|error| wrong(error.to_string()).with_source(error))?;
    if url.scheme() != "https" {
        return Err(wrong("the scheme is not https".to_owned()));
    }
    if !url.username().is_empty()
        || url.password().is_some()
        || url.query().is_some()
        || url.fragment().is_some()
    {
        return Err(wrong("it has a user, a query or a fragment".to_owned()));
    }
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(if path.is_empty() {
        "/classifier-api"
    } else {
        &path
    });
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_https_and_gets_the_apis_path() {
        for text in [
            "https://a.lab:4433",
            "https://a.lab:4433/",
            "https://a.lab:4433/classifier-api/",
        ] {
            assert_eq!(
                base_url(text).unwrap().as_str(),
                "https://a.lab:4433/classifier-api"
            );
        }
        for text in [
            "http://a.lab:4433",
            "a.lab",
            "https://u:p@a.lab",
            "https://a.lab/?x=1",
            "",
        ] {
            assert_eq!(
                base_url(text).unwrap_err().kind(),
                ErrorKind::Config,
                "{text}"
            );
        }
    }

    #[test]
    fn credentials_never_show_in_debug_output() {
        let options = ClientOptions::new("https://a", "", Credentials::Token("s3cret".into()));
        assert!(!format!("{options:?}").contains("s3cret"));
        let key = Credentials::Certificate {
            certificate_pem: b"c".to_vec(),
            key_pem: b"s3cret".to_vec(),
        };
        assert_eq!(format!("{key:?}"), "Credentials::Certificate(..)");
    }
}
