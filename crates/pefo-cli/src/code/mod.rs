//! Puppet code: what is deployed on a master, environment by environment, and who deploys it.
//!
//! pefo carries no code. Each master deploys its own, by r10k, Code Manager or a program of the site's; what
//! crosses is a [`Deployed`], and what two masters have is compared as values.
//!
//! | module | what it is for |
//! |---|---|
//! | [`read`] | what is deployed on this host, as a [`Deployed`] |
//! | [`record`] | what r10k and git say of an environment |
//! | [`tree`] | the digest of an environment's files |
//! | [`mod@compare`] | two [`Deployed`]s, and each [`Drift`] between them |
//! | [`manager`] | deploys, by whichever program the site has |
//! | [`deploy`] | a deployment, judged by what stands there afterwards |
//! | [`answer`] | what Code Manager's command says |
//!
//! What it guarantees: an environment's name, a [`Label`] and a path in a [`Deployed`] hold nothing that could
//! be taken for an option, another path or a terminal's command, whoever wrote them.

pub mod answer;
pub mod compare;
pub mod deploy;
pub mod manager;
pub mod read;
pub mod record;
pub mod tree;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use pefo_core::{Digest, Error, RelPath, Result};
use serde::{Deserialize, Serialize};

pub use compare::{Drift, Reason, compare};

/// Why a name or a label is none.
fn fault(text: &str, is_fit: impl Fn(u8) -> bool) -> Option<&'static str> {
    if text.is_empty() || text.len() > 255 {
        return Some("has not 1 to 255 characters");
    }
    (!text.bytes().all(is_fit)).then_some("has a character that none has")
}

/// The name of an environment: letters, digits and `_`, as Puppet wants it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EnvironmentName(String);

impl EnvironmentName {
    /// Parses a name.
    ///
    /// # Errors
    /// `Invalid`, saying what is wrong with it.
    pub fn new(name: impl Into<String>) -> Result<Self> {
        let name = name.into();
        match fault(&name, |byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            None => Ok(Self(name)),
            Some(why) => Err(Error::invalid(format!("environment {name:?} {why}"))
                .hint("environments have letters, digits and _ in their names; r10k makes _ of all else in a branch's name")),
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A commit, a version, or the name of a module: printable ASCII without a space.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Label(String);

impl Label {
    /// Parses a label.
    ///
    /// # Errors
    /// `Invalid`, saying what is wrong with it.
    pub fn new(text: impl Into<String>) -> Result<Self> {
        let text = text.into();
        match fault(&text, |byte| byte.is_ascii_graphic()) {
            None => Ok(Self(text)),
            Some(why) => Err(Error::invalid(format!("label {text:?} {why}"))),
        }
    }

    /// The label, whole.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As people are told it: of a commit the first twelve digits.
    pub fn short(&self) -> &str {
        let is_commit = self.0.len() >= 40 && self.0.bytes().all(|byte| byte.is_ascii_hexdigit());
        match self.0.get(..12) {
            Some(short) if is_commit => short,
            _ => &self.0,
        }
    }
}

macro_rules! text {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = Error;
            fn from_str(text: &str) -> Result<Self> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = Error;
            fn try_from(text: String) -> Result<Self> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(text: $name) -> Self {
                text.0
            }
        }
    };
}

text!(EnvironmentName);
text!(Label);

/// One environment as it is deployed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Environment {
    /// The commit of the control repository, where r10k or git tells one.
    pub revision: Option<Label>,
    /// The last deployment was begun and did not end well.
    pub unfinished: bool,
    /// What r10k deployed as modules: of each its commit, or its version where it has none.
    pub modules: BTreeMap<Label, Label>,
    /// The digest of all files, see [`tree`].
    pub tree: Digest,
    /// How many files those are.
    pub files: u64,
    /// Digests of its parts, so that what differs can be named: by the first two components of their paths.
    /// Empty where they are too many, or where the names are not to be told.
    pub parts: BTreeMap<RelPath, Digest>,
}

/// What is deployed on a master.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deployed {
    /// Version of this document's schema: 1.
    format: u32,
    /// Every environment.
    pub environments: BTreeMap<EnvironmentName, Environment>,
}

impl Deployed {
    /// The largest document that is read.
    pub const MAX_BYTES: u64 = 32 << 20;

    /// Of these environments.
    pub fn new(environments: BTreeMap<EnvironmentName, Environment>) -> Self {
        Self {
            format: 1,
            environments,
        }
    }

    /// Reads a document.
    ///
    /// # Errors
    /// `Invalid`, saying where it is malformed.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let fail = |why: String| Error::invalid(format!("read what is deployed: {why}"));
        let deployed: Self =
            serde_json::from_slice(bytes).map_err(|error| fail(error.to_string()))?;
        match deployed.format {
            1 => Ok(deployed),
            format => Err(fail(format!("its format {format} is not known"))
                .hint("a newer pefo wrote it: upgrade pefo here")),
        }
    }

    /// The document: the same bytes for what is deployed the same.
    ///
    /// # Errors
    /// `Invalid` where it cannot be written, or is larger than [`Deployed::MAX_BYTES`].
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let fail = |why: String| Error::invalid(format!("write what is deployed: {why}"));
        let bytes = serde_json::to_vec(self).map_err(|error| fail(error.to_string()))?;
        if bytes.len() as u64 > Self::MAX_BYTES {
            return Err(fail(format!("it has {} bytes", bytes.len()))
                .hint("are there environments that nobody needs any more?"));
        }
        Ok(bytes)
    }

    /// The same without the names of files: for who may not be told them.
    #[must_use]
    pub fn without_parts(mut self) -> Self {
        for environment in self.environments.values_mut() {
            environment.parts.clear();
        }
        self
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use proptest::prelude::*;

    use super::*;

    fn label() -> impl Strategy<Value = Label> {
        prop_oneof![Just("a".repeat(40)), "[!-~]{1,8}".boxed()]
            .prop_map(|text| Label::new(text).unwrap())
    }

    pub(crate) fn environment() -> impl Strategy<Value = Environment> {
        let part = "[a-z]{1,3}(/[a-z]{1,3})?".prop_map(|path| RelPath::new(path).unwrap());
        let digest = any::<u8>().prop_map(|byte| Digest::of(&[byte]));
        (
            prop::option::of(label()),
            any::<bool>(),
            prop::collection::btree_map(label(), label(), 0..3),
            digest.clone(),
            0_u64..9,
            prop::collection::btree_map(part, digest, 0..4),
        )
            .prop_map(
                |(revision, unfinished, modules, tree, files, parts)| Environment {
                    revision,
                    unfinished,
                    modules,
                    tree,
                    files,
                    parts,
                },
            )
    }

    pub(crate) fn deployed() -> impl Strategy<Value = Deployed> {
        let name = "[a-c]".prop_map(|name| EnvironmentName::new(name).unwrap());
        prop::collection::btree_map(name, environment(), 0..4).prop_map(Deployed::new)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_document_reads_back_and_its_bytes_say_what_it_means(deployed in testing::deployed()) {
            let bytes = deployed.to_bytes().unwrap();
            let again = Deployed::parse(&bytes).unwrap();
            prop_assert_eq!(again.to_bytes().unwrap(), bytes);
            prop_assert_eq!(again, deployed);
        }

        #[test]
        fn no_name_is_an_option_or_leads_elsewhere(name in "\\PC{0,12}") {
            if let Ok(name) = EnvironmentName::new(name) {
                prop_assert!(!name.as_str().starts_with('-'));
                prop_assert!(RelPath::new(name.as_str()).unwrap().parent().is_none());
            }
        }
    }

    #[test]
    fn what_does_not_belong_in_a_document_is_an_error() {
        for (document, expected) in [
            (
                r#"{"format": 2, "environments": {}}"#,
                "format 2 is not known",
            ),
            (
                r#"{"format": 1, "environments": {"../x": 1}}"#,
                "character that none has",
            ),
            (
                r#"{"format": 1, "environments": {}, "more": 1}"#,
                "unknown field",
            ),
            ("[", "EOF"),
        ] {
            let error = Deployed::parse(document.as_bytes()).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
        assert!(Label::new("a\u{1b}[2J").is_err() && Label::new("").is_err());
    }

    #[test]
    fn of_a_commit_the_first_twelve_digits_are_told_and_a_version_whole() {
        let short = |text: &str| Label::new(text).unwrap().short().to_owned();
        assert_eq!(short(&"0123456789ab".repeat(4)), "0123456789ab");
        assert_eq!(
            short("1.2.3-rc1+build.20261130"),
            "1.2.3-rc1+build.20261130"
        );
    }
}
