//! `[health]`: where load balancers ask how this host does.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::str::FromStr;

use pefo_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

/// `[health]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Where `pefo run` listens.
    pub listen: Listen,
}

/// An address to listen on, written `"127.0.0.1:8008"`, `"[::1]:8008"` or `"name:8008"`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Listen(String);

impl Listen {
    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The addresses that it stands for.
    ///
    /// # Errors
    /// `Config` where its name does not resolve.
    pub fn resolve(&self) -> Result<Vec<SocketAddr>> {
        let message = format!("health.listen: {:?} does not resolve", self.0);
        let failed = Error::new(ErrorKind::Config, message)
            .hint("name an address of this host: it needs no look-up");
        match self.0.to_socket_addrs() {
            Ok(found) => Ok(found.collect()),
            Err(error) => Err(failed.with_source(error)),
        }
    }
}

impl FromStr for Listen {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = |what: &str| {
            let message =
                format!("{text:?} {what}; write an address and a port, as in \"127.0.0.1:8008\"");
            Err(Error::new(ErrorKind::Config, message))
        };
        if let Ok(address) = text.parse::<SocketAddr>() {
            return match address.port() {
                0 => bad("has port 0, where nobody would look"),
                _ => Ok(Self(text.to_owned())),
            };
        }
        let Some((host, port)) = text.rsplit_once(':') else {
            return bad("names no port");
        };
        if !matches!(port.parse::<u16>(), Ok(1..)) {
            return bad("names no port");
        }
        let is_label = |label: &str| {
            !label.is_empty()
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        };
        if host.trim_end_matches('.').split('.').all(is_label) {
            Ok(Self(text.to_owned()))
        } else {
            bad("names no host")
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Listen {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Listen> for String {
    fn from(listen: Listen) -> Self {
        listen.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_address_has_a_host_and_a_port() {
        for text in [
            "127.0.0.1:8008",
            "[::1]:8008",
            "0.0.0.0:80",
            "puppet-a.example.com:8008",
        ] {
            assert_eq!(text.parse::<Listen>().unwrap().as_str(), text);
        }
        for (text, expected) in [
            ("8008", "names no port"),
            ("127.0.0.1", "names no port"),
            ("127.0.0.1:0", "has port 0"),
            ("name:0", "names no port"),
            ("name:70000", "names no port"),
            (":8008", "names no host"),
            ("::1:8008", "names no host"),
            ("http://name:8008", "names no host"),
        ] {
            let error = text.parse::<Listen>().unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
    }

    #[test]
    fn a_name_that_does_not_resolve_is_an_error() {
        let error = "nowhere.invalid:8008"
            .parse::<Listen>()
            .unwrap()
            .resolve()
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains("does not resolve"), "{error}");
        let there = "127.0.0.1:8008"
            .parse::<Listen>()
            .unwrap()
            .resolve()
            .unwrap();
        assert_eq!(there, ["127.0.0.1:8008".parse().unwrap()]);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic_and_what_passes_reads_back(text in ".{0,30}") {
            if let Ok(listen) = text.parse::<Listen>() {
                prop_assert_eq!(String::from(listen), text);
            }
        }
    }
}
