//! What a failed request means.

use std::error::Error as StdError;
use std::fmt;

use pefo_core::{Error, ErrorKind};
use reqwest::header::{HeaderMap, LOCATION};
use reqwest::{Method, StatusCode, Url};
use serde_json::Value;

use super::Service;
use crate::model::{excerpt, shorten};

/// The classifier's own error report: `{"kind": …, "msg": …, "details": …}`.
#[derive(Clone, PartialEq, thiserror::Error)]
#[error("status {status}, {kind}: {msg}")]
#[non_exhaustive]
pub struct ServerError {
    /// The HTTP status it came with.
    pub status: u16,
    /// Its kind, such as `schema-violation` or `puppetlabs.rbac/token-expired`.
    pub kind: String,
    /// What it says.
    pub msg: String,
    /// More, by kind; may repeat what was submitted.
    pub details: Option<Value>,
}

impl fmt::Debug for ServerError {
    /// Without the details: they may repeat submitted parameters, and those may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            status, kind, msg, ..
        } = self;
        f.debug_struct("ServerError")
            .field("status", status)
            .field("kind", kind)
            .field("msg", msg)
            .finish_non_exhaustive()
    }
}

impl ServerError {
    pub(crate) fn from_value(status: u16, value: &Value) -> Option<Self> {
        let kind = value.get("kind")?.as_str()?.to_owned();
        let msg = value
            .get("msg")
            .and_then(Value::as_str)
            .unwrap_or("no message")
            .to_owned();
        Some(Self {
            status,
            kind,
            msg,
            details: value.get("details").cloned(),
        })
    }
}

/// The request did not lead to an answer.
pub(crate) fn transport(
    service: &Service,
    error: reqwest::Error,
    method: &Method,
    url: &Url,
    changes: bool,
) -> Error {
    let place = place(url);
    if let Some(tls) = tls_error(&error) {
        return tls_failure(service, &place, tls).with_source(error);
    }
    let why = innermost(&error);
    if error.is_connect() {
        return Error::new(
            ErrorKind::Unreachable,
            format!("connect to {} at {place}: {why}", service.name),
        )
        .with_source(error)
        .hint(service.not_running);
    }
    let how = if error.is_timeout() {
        "no answer in time".to_owned()
    } else {
        why
    };
    lost(error, method, url, changes, &how)
}

/// The answer began and did not end.
pub(crate) fn cut_short(error: reqwest::Error, method: &Method, url: &Url, changes: bool) -> Error {
    if error.is_timeout() || changes {
        let why = if error.is_timeout() {
            "the answer did not end in time".to_owned()
        } else {
            innermost(&error)
        };
        return lost(error, method, url, changes, &why);
    }
    let why = innermost(&error);
    Error::new(
        ErrorKind::Protocol,
        format!("the answer to {method} {} was cut short: {why}", url.path()),
    )
    .with_source(error)
    .retryable(true)
    .hint("nothing was taken from it; try again")
}

fn lost(error: reqwest::Error, method: &Method, url: &Url, changes: bool, why: &str) -> Error {
    let message = format!("{method} {} at {}: {why}", url.path(), place(url));
    if changes {
        Error::new(ErrorKind::Unknown, message)
            .with_source(error)
            .hint("the request was sent and may have been carried out: compare before trying again")
    } else {
        Error::new(ErrorKind::Unknown, message)
            .with_source(error)
            .retryable(true)
    }
}

/// An answer with a status that means failure.
pub(crate) fn status(service: &Service, url: &Url, status: StatusCode, body: &[u8]) -> Error {
    let server = serde_json::from_slice::<Value>(body)
        .ok()
        .and_then(|value| ServerError::from_value(status.as_u16(), &value));
    let said = match &server {
        Some(server) => format!("{}: {}", server.kind, server.msg),
        None => describe(body),
    };
    let message = format!(
        "{} answered with status {}: {said}",
        url.path(),
        status.as_u16()
    );
    let kind = server
        .as_ref()
        .map(|server| server.kind.as_str())
        .unwrap_or_default();
    let error = match status.as_u16() {
        401 => Error::new(ErrorKind::Denied, message).hint(match kind.rsplit('/').next() {
            Some("token-expired" | "token-revoked" | "invalid-token" | "user-revoked") => {
                "write a new RBAC token (puppet access login) to the configured token file"
            }
            _ => service.unauthenticated,
        }),
        403 => Error::new(ErrorKind::Denied, message).hint(service.forbidden),
        404 => Error::new(ErrorKind::NotFound, message),
        409 => Error::new(ErrorKind::Invalid, message)
            .retryable(true)
            .hint("somebody else changes the same at this moment; run it again"),
        400..=499 => Error::new(ErrorKind::Invalid, message),
        502..=504 => Error::new(ErrorKind::Protocol, message)
            .retryable(true)
            .hint(service.log),
        _ => Error::new(ErrorKind::Protocol, message).hint(service.log),
    };
    match server {
        Some(server) => error.with_source(server),
        None => error,
    }
}

pub(crate) fn redirect(
    service: &Service,
    url: &Url,
    status: StatusCode,
    headers: &HeaderMap,
) -> Error {
    let to = headers
        .get(LOCATION)
        .and_then(|value| value.to_str().ok())
        .unwrap_or("nowhere");
    let message = format!(
        "{} answered with status {}, a redirect to {to}, which is not followed",
        url.path(),
        status.as_u16()
    );
    Error::new(ErrorKind::Protocol, message).hint(service.wrong_port)
}

pub(crate) fn not_json(
    service: &Service,
    path: &str,
    body: &[u8],
    error: serde_json::Error,
) -> Error {
    let message = format!(
        "{path} answered with {}, not with JSON: {error}",
        describe(body)
    );
    Error::new(ErrorKind::Protocol, message)
        .with_source(error)
        .hint(service.wrong_port)
}

pub(crate) fn not_an_array(service: &Service, path: &str, value: &Value) -> Error {
    match ServerError::from_value(200, value) {
        Some(server) => report(service, path, server),
        None => Error::new(
            ErrorKind::Protocol,
            format!("{path} answered with {}, not with an array", excerpt(value)),
        ),
    }
}

/// An error report that came with a status of success.
pub(crate) fn report(service: &Service, path: &str, server: ServerError) -> Error {
    let message = format!(
        "{path} answered with success and an error report: {}: {}",
        server.kind, server.msg
    );
    Error::new(ErrorKind::Protocol, message)
        .with_source(server)
        .hint(service.log)
}

/// What a body is, without showing what it may hold: only a page of markup is quoted.
fn describe(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    match text.trim_start() {
        "" => "an empty body".to_owned(),
        markup if markup.starts_with('<') => format!("a page of HTML ({:?})", shorten(markup, 80)),
        _ => format!("{} bytes", body.len()),
    }
}

fn place(url: &Url) -> String {
    format!(
        "{}:{}",
        url.host_str().unwrap_or_default(),
        url.port_or_known_default().unwrap_or_default()
    )
}

fn tls_failure(service: &Service, place: &str, error: &rustls::Error) -> Error {
    use rustls::CertificateError as Certificate;
    let new_certificate =
        "give the server a certificate with dns_alt_names for this name, or use a name it has";
    match error {
        rustls::Error::InvalidCertificate(Certificate::NotValidForNameContext {
            presented,
            ..
        }) if presented.is_empty() => {
            let message = format!(
                "the certificate of {place} has no DNS alternative names (SAN); its common name alone is not accepted"
            );
            Error::new(ErrorKind::Protocol, message).hint(new_certificate)
        }
        rustls::Error::InvalidCertificate(Certificate::NotValidForNameContext {
            presented,
            ..
        }) => {
            let message = format!(
                "the certificate of {place} is for other names: {}",
                presented.join(", ")
            );
            Error::new(ErrorKind::Protocol, message).hint(new_certificate)
        }
        // Two Puppet CAs are often named alike; then the issuer is known and its signature is wrong.
        rustls::Error::InvalidCertificate(
            Certificate::UnknownIssuer | Certificate::BadSignature,
        ) => Error::new(
            ErrorKind::Protocol,
            format!("the certificate of {place} is not signed by the configured CA"),
        )
        .hint("configure the CA certificate of the Puppet CA that signed it"),
        rustls::Error::AlertReceived(alert) => Error::new(
            ErrorKind::Denied,
            format!("{place} refused our client certificate: {alert:?}"),
        )
        .hint(service.distrusted),
        other => Error::new(ErrorKind::Protocol, format!("TLS with {place}: {other}")),
    }
}

/// Every error of the chain, also those an `io::Error` wraps.
fn chain<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error| {
        let error: &'a (dyn StdError + 'static) = *error;
        match error.downcast_ref::<std::io::Error>() {
            Some(io) => io.get_ref().map(|inner| inner as &(dyn StdError + 'static)),
            None => error.source(),
        }
    })
}

fn tls_error(error: &reqwest::Error) -> Option<&rustls::Error> {
    chain(error).find_map(|error| error.downcast_ref::<rustls::Error>())
}

fn innermost(error: &reqwest::Error) -> String {
    let ended = |error: &(dyn StdError + 'static)| {
        error
            .downcast_ref::<std::io::Error>()
            .is_some_and(|io| io.kind() == std::io::ErrorKind::UnexpectedEof)
    };
    if chain(error).any(ended) {
        return "the connection ended".to_owned();
    }
    chain(error)
        .last()
        .map(ToString::to_string)
        .unwrap_or_default()
}
