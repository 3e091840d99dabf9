//! Names and how they are quoted: the one place where text becomes SQL or a libpq connection string.
//!
//! It guarantees: whatever is quoted here is read back by PostgreSQL as exactly that text. Names may
//! hold dashes, quotes, spaces and any UTF-8; `pe-rbac` is the usual one.

use std::fmt;
use std::str::FromStr;

use pefo_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// The longest identifier, in bytes (`NAMEDATALEN - 1`); PostgreSQL cuts longer ones in silence.
pub const MAX_IDENTIFIER_BYTES: usize = 63;

/// The name of a database: 1 to 63 bytes of UTF-8 without NUL.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DatabaseName(String);

impl DatabaseName {
    /// Parses a name.
    ///
    /// # Errors
    /// `Invalid` where it is empty, longer than 63 bytes, or has a NUL.
    pub fn new(name: impl Into<String>) -> Result<Self> {
        let name = name.into();
        let reason = if name.is_empty() {
            "is empty"
        } else if name.len() > MAX_IDENTIFIER_BYTES {
            "is longer than 63 bytes, which PostgreSQL would cut"
        } else if name.contains('\0') {
            "has a NUL"
        } else {
            return Ok(Self(name));
        };
        Err(Error::invalid(format!("database name {name:?} {reason}")))
    }

    /// The database that every server has.
    pub(crate) fn postgres() -> Self {
        Self("postgres".to_owned())
    }

    /// The name as it is.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name as an SQL identifier.
    pub fn quoted(&self) -> String {
        quote_identifier(&self.0)
    }
}

impl fmt::Display for DatabaseName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for DatabaseName {
    type Err = Error;
    fn from_str(name: &str) -> Result<Self> {
        Self::new(name)
    }
}

impl TryFrom<String> for DatabaseName {
    type Error = Error;
    fn try_from(name: String) -> Result<Self> {
        Self::new(name)
    }
}

impl From<DatabaseName> for String {
    fn from(name: DatabaseName) -> Self {
        name.0
    }
}

/// `name` as a quoted SQL identifier.
pub(crate) fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// `schema.name`, both quoted.
pub(crate) fn quote_qualified(schema: &str, name: &str) -> String {
    format!("{}.{}", quote_identifier(schema), quote_identifier(name))
}

/// `text` as an SQL literal that means the same whatever `standard_conforming_strings` says.
pub(crate) fn quote_literal(text: &str) -> String {
    let doubled = text.replace('\'', "''");
    if text.contains('\\') {
        format!(" E'{}'", doubled.replace('\\', "\\\\"))
    } else {
        format!("'{doubled}'")
    }
}

/// `dbname='…'`: a connection string of libpq, so that a database called `a=b` or `postgresql://x`
/// is never taken for one itself.
pub(crate) fn connection_string(database: &DatabaseName) -> String {
    format!(
        "dbname='{}'",
        database.0.replace('\\', "\\\\").replace('\'', "\\'")
    )
}

/// Splits the stored value of a setting that holds a list of names (`search_path`): elements are
/// bare or in double quotes, with commas between. Bare elements are folded to lower case when they
/// are set, so they are stored folded and taken as they stand.
pub(crate) fn split_name_list(value: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut rest = value.trim();
    while !rest.is_empty() {
        if let Some(quoted) = rest.strip_prefix('"') {
            let mut name = String::new();
            let mut chars = quoted.char_indices().peekable();
            let mut end = quoted.len();
            while let Some((at, char)) = chars.next() {
                if char != '"' {
                    name.push(char);
                } else if chars.peek().is_some_and(|(_, next)| *next == '"') {
                    chars.next();
                    name.push('"');
                } else {
                    end = at + 1;
                    break;
                }
            }
            names.push(name);
            rest = quoted.get(end..).unwrap_or_default().trim_start();
            rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
        } else {
            let (name, tail) = rest.split_once(',').unwrap_or((rest, ""));
            names.push(name.trim_end().to_owned());
            rest = tail.trim_start();
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_postgresql_would_change_or_refuse_are_refused() {
        for name in ["", "a\0b", &"x".repeat(64), &"ü".repeat(32)] {
            assert!(DatabaseName::new(name).is_err(), "{name:?} was accepted");
        }
        for name in [
            "pe-rbac",
            "a b",
            "\"",
            "'",
            "Ünï",
            "a=b",
            "postgresql://x",
            &"x".repeat(63),
        ] {
            assert_eq!(DatabaseName::new(name).unwrap().as_str(), name);
        }
    }

    #[test]
    fn quoting_reads_as_it_should() {
        let name = DatabaseName::new(r#"a"b'c\d"#).unwrap();
        assert_eq!(name.quoted(), r#""a""b'c\d""#);
        assert_eq!(connection_string(&name), r#"dbname='a"b\'c\\d'"#);
        assert_eq!(quote_literal("it's"), "'it''s'");
        assert_eq!(quote_literal(r"a\'b"), r" E'a\\''b'");
    }

    #[test]
    fn a_search_path_is_split_as_postgresql_splits_it() {
        assert_eq!(split_name_list("rbac, public"), ["rbac", "public"]);
        assert_eq!(
            split_name_list(r#""$user", "A, ""b""",c"#),
            ["$user", "A, \"b\"", "c"]
        );
        assert_eq!(split_name_list(r#""""#), [""]);
        assert!(split_name_list("").is_empty());
    }

    proptest! {
        #[test]
        fn a_quoted_identifier_has_only_doubled_quotes_inside(name in "[^\0]{1,20}") {
            let quoted = quote_identifier(&name);
            let inner = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap();
            prop_assert!(!inner.replace("\"\"", "").contains('"'));
            prop_assert_eq!(inner.replace("\"\"", "\""), name);
        }

        #[test]
        fn a_list_of_quoted_names_is_read_back(names in prop::collection::vec("[^\0]{0,8}", 0..5)) {
            let list: Vec<String> = names.iter().map(|name| quote_identifier(name)).collect();
            prop_assert_eq!(split_name_list(&list.join(", ")), names);
        }

        #[test]
        fn a_literal_ends_where_it_should(text in "[^\0]{0,20}") {
            let literal = quote_literal(&text);
            let (inner, escapes) = match literal.strip_prefix(" E'") {
                Some(rest) => (rest, true),
                None => (literal.strip_prefix('\'').unwrap(), false),
            };
            let inner = inner.strip_suffix('\'').unwrap();
            let plain = if escapes { inner.replace("\\\\", "\\") } else { inner.to_owned() };
            prop_assert_eq!(plain.replace("''", "'"), text);
        }
    }
}
