//! Names of sites, data sets and positions.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::reign::Epoch;

/// Names a pair of masters: 32 hex digits, chosen at random by the first active.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Site(String);

impl Site {
    /// Parses a site's name.
    ///
    /// # Errors
    /// `Invalid`.
    pub fn new(name: impl Into<String>) -> Result<Self> {
        let name = name.into();
        if name.len() == 32 && name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            Ok(Self(name))
        } else {
            Err(Error::invalid(format!(
                "site {name:?} is not 32 lower-case hex digits"
            )))
        }
    }

    /// From 16 random bytes.
    pub fn from_random(bytes: [u8; 16]) -> Self {
        Self(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Site {
    type Error = Error;
    fn try_from(name: String) -> Result<Self> {
        Self::new(name)
    }
}

impl From<Site> for String {
    fn from(site: Site) -> Self {
        site.0
    }
}

/// One of the things a spare keeps in step.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum DataSet {
    /// The CA directory: `ca`.
    Ca,
    /// The node classifier: `nc`.
    Classifier,
    /// One database: `db:NAME`.
    Database(String),
    /// The explicit list of files: `files`.
    Files,
    /// What is deployed of Puppet code: `code`.
    Code,
}

impl DataSet {
    /// The longest database name PostgreSQL keeps, in bytes.
    pub const MAX_DATABASE_BYTES: usize = 63;

    /// The name of its directory, in the spool and in root's store: letters, digits, `-`, `_`, `.`
    /// and `%XX` for every other byte of a database's name.
    pub fn dir_name(&self) -> String {
        match self {
            Self::Ca => "ca".to_owned(),
            Self::Classifier => "nc".to_owned(),
            Self::Files => "files".to_owned(),
            Self::Code => "code".to_owned(),
            Self::Database(name) => {
                let mut text = "db-".to_owned();
                for byte in name.bytes() {
                    if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') {
                        text.push(char::from(byte));
                    } else {
                        text.push_str(&format!("%{byte:02X}"));
                    }
                }
                text
            }
        }
    }
}

impl fmt::Display for DataSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ca => f.write_str("ca"),
            Self::Classifier => f.write_str("nc"),
            Self::Files => f.write_str("files"),
            Self::Code => f.write_str("code"),
            Self::Database(name) => write!(f, "db:{name}"),
        }
    }
}

impl FromStr for DataSet {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        match text {
            "ca" => Ok(Self::Ca),
            "nc" => Ok(Self::Classifier),
            "files" => Ok(Self::Files),
            "code" => Ok(Self::Code),
            _ => match text.strip_prefix("db:") {
                Some(name)
                    if !name.is_empty()
                        && name.len() <= Self::MAX_DATABASE_BYTES
                        && !name.contains('\0') =>
                {
                    Ok(Self::Database(name.to_owned()))
                }
                _ => Err(Error::invalid(format!("{text:?} is no data set"))
                    .hint("data sets are ca, nc, files, code and db:NAME")),
            },
        }
    }
}

impl TryFrom<String> for DataSet {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<DataSet> for String {
    fn from(dataset: DataSet) -> Self {
        dataset.to_string()
    }
}

/// Where a generation stands in its data set's order: first by epoch, then by sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Position {
    /// The reign it was made in.
    pub epoch: Epoch,
    /// Counts the generations of that reign, from 1.
    pub sequence: u64,
}

impl fmt::Display for Position {
    /// Zero-padded, so that names sort as positions do.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08}-{:012}", self.epoch.0, self.sequence)
    }
}

impl FromStr for Position {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let position = text.split_once('-').and_then(|(epoch, sequence)| {
            Some(Self {
                epoch: Epoch(epoch.parse().ok()?),
                sequence: sequence.parse().ok()?,
            })
        });
        match position {
            // Only the one spelling: a position is a file name that must be found again.
            Some(position) if position.to_string() == text => Ok(position),
            _ => Err(Error::invalid(format!(
                "{text:?} is no generation; write it as EPOCH-SEQUENCE, as 'pefo status' shows it"
            ))),
        }
    }
}

impl TryFrom<String> for Position {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Position> for String {
    fn from(position: Position) -> Self {
        position.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn positions_sort_as_their_names_do(a in (0_u64..1000, 0_u64..100_000), b in (0_u64..1000, 0_u64..100_000)) {
            let position = |(epoch, sequence)| Position { epoch: Epoch(epoch), sequence };
            let (a, b) = (position(a), position(b));
            prop_assert_eq!(a.cmp(&b), a.to_string().cmp(&b.to_string()));
            prop_assert_eq!(a.to_string().parse::<Position>().unwrap(), a);
        }

        #[test]
        fn a_data_set_reads_back_and_its_directory_is_one_component(name in "\\PC{1,20}") {
            prop_assume!(name.len() <= 63);
            let dataset = DataSet::Database(name);
            prop_assert_eq!(dataset.to_string().parse::<DataSet>().unwrap(), dataset.clone());
            let dir = crate::RelPath::new(dataset.dir_name()).unwrap();
            prop_assert!(dir.parent().is_none());
        }
    }

    #[test]
    fn two_spellings_of_one_position_are_not_both_accepted() {
        assert!("1-1".parse::<Position>().is_err());
        assert!("00000001-000000000001".parse::<Position>().is_ok());
    }
}
