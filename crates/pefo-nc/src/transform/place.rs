//! Which places of a group hold hosts: the product's own parameters, and what the operator names.

use std::fmt;
use std::str::FromStr;

use pefo_core::{Error, ErrorKind};

/// The product's own parameters that hold its hosts, by class; rewritten in `classes` and in
/// `config_data`. Collected from captured classifications and the product's documentation.
pub const AUTOMATIC_PARAMETERS: &[(&str, &[&str])] = &[
    (
        "puppet_enterprise",
        &[
            "puppet_master_host",
            "certificate_authority_host",
            "console_host",
            "puppetdb_host",
            "database_host",
            "pcp_broker_host",
            "mcollective_middleware_hosts",
        ],
    ),
    (
        "puppet_enterprise::profile::agent",
        &[
            "pcp_broker_list",
            "server_list",
            "primary_uris",
            "master_uris",
        ],
    ),
    ("puppet_enterprise::profile::master", &["puppetdb_host"]),
    ("puppet_enterprise::profile::puppetdb", &["database_host"]),
    ("puppet_enterprise::profile::console", &["certname"]),
];

/// Whether this parameter of this class is rewritten without being named.
pub(crate) fn is_automatic(class: &str, parameter: &str) -> bool {
    AUTOMATIC_PARAMETERS
        .iter()
        .any(|(name, parameters)| *name == class && parameters.contains(&parameter))
}

/// A place an operator names: a JSON pointer (RFC 6901) into a group, below `/variables`,
/// `/classes/CLASS` or `/config_data/CLASS`; `*` stands for any one component. Everything below the
/// place is rewritten too. A residual's path can be used as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RewritePath(Vec<Option<String>>);

impl RewritePath {
    /// Whether this place is `path`, or above it.
    pub(crate) fn covers(&self, path: &[String]) -> bool {
        self.0.len() <= path.len()
            && self
                .0
                .iter()
                .zip(path)
                .all(|(mine, part)| mine.as_ref().is_none_or(|mine| mine == part))
    }
}

impl FromStr for RewritePath {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = |reason: &str| {
            Error::new(ErrorKind::Config, format!("rewrite path {text:?} {reason}"))
                .hint("write /variables/NAME, /classes/CLASS/PARAMETER or /config_data/CLASS/KEY; * stands for any one component")
        };
        let rest = text
            .strip_prefix('/')
            .ok_or_else(|| wrong("does not start with /"))?;
        let parts: Vec<Option<String>> = rest
            .split('/')
            .map(|part| (part != "*").then(|| unescape(part)))
            .collect();
        let depth = match parts.first().and_then(Option::as_deref) {
            Some("variables") => 2,
            Some("classes" | "config_data") => 3,
            _ => {
                return Err(wrong(
                    "does not lie below /variables, /classes or /config_data",
                ));
            }
        };
        if parts.len() < depth || parts.iter().any(|part| part.as_deref() == Some("")) {
            return Err(wrong("names no single variable or parameter"));
        }
        Ok(Self(parts))
    }
}

impl fmt::Display for RewritePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|part| {
            write!(
                f,
                "/{}",
                part.as_deref().map_or_else(|| "*".to_owned(), escape)
            )
        })
    }
}

/// A path as a JSON pointer.
pub(crate) fn pointer(path: &[String]) -> String {
    path.iter()
        .map(|part| format!("/{}", escape(part)))
        .collect()
}

fn escape(part: &str) -> String {
    part.replace('~', "~0").replace('/', "~1")
}

fn unescape(part: &str) -> String {
    part.replace("~1", "/").replace("~0", "~")
}
