//! Puppet certnames: the names in signed/, requests/ and every configuration.
//!
//! A certname arrives from directories and peers we do not trust and ends in file names, so it is
//! parsed once: lower case letters, digits, `.`, `-` and `_`, no leading dot, no `..`, at most 253
//! bytes. That is what puppetserver accepts (`validate-subject!`) minus what could escape a directory.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// A valid, lower-case certname; safe as a file name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Certname(String);

impl Certname {
    /// The longest certname, in bytes: a DNS name's limit.
    pub const MAX_BYTES: usize = 253;

    /// Parses a certname.
    ///
    /// # Errors
    /// `Invalid`, naming what is wrong with the name.
    pub fn new(name: impl Into<String>) -> Result<Self> {
        let name = name.into();
        let reason = if name.is_empty() {
            "is empty"
        } else if name.len() > Self::MAX_BYTES {
            "is longer than 253 bytes"
        } else if name.bytes().any(|b| b.is_ascii_uppercase()) {
            "has upper-case letters; Puppet's certnames are lower case"
        } else if !name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b))
        {
            "has characters other than a-z, 0-9, '.', '-' and '_'"
        } else if name.starts_with('.') || name.contains("..") {
            "starts with a dot or has two dots in a row"
        } else {
            return Ok(Self(name));
        };
        Err(Error::invalid(format!("certname {name:?} {reason}")))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Certname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Certname {
    type Err = Error;
    fn from_str(name: &str) -> Result<Self> {
        Self::new(name)
    }
}

impl TryFrom<String> for Certname {
    type Error = Error;
    fn try_from(name: String) -> Result<Self> {
        Self::new(name)
    }
}

impl From<Certname> for String {
    fn from(name: Certname) -> Self {
        name.0
    }
}

impl AsRef<str> for Certname {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_that_could_leave_a_directory_are_refused() {
        for name in [
            "",
            "..",
            "../x",
            "a/b",
            ".hidden",
            "a..b",
            "Node1.lab",
            "a b",
            "a\0",
            "é.lab",
        ] {
            assert!(Certname::new(name).is_err(), "{name:?} was accepted");
        }
        for name in ["node1.lab", "a", "x_1-2.example.com", "10.0.0.1"] {
            assert_eq!(Certname::new(name).unwrap().as_str(), name);
        }
    }

    proptest! {
        #[test]
        fn an_accepted_name_is_one_plain_path_component(name in "\\PC{0,40}") {
            if let Ok(name) = Certname::new(name) {
                let path = std::path::Path::new(name.as_str());
                prop_assert_eq!(path.components().count(), 1);
                prop_assert!(matches!(path.components().next(), Some(std::path::Component::Normal(_))));
            }
        }
    }
}
