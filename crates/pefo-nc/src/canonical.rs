//! What makes two trees equal.
//!
//! The canonical form of a group has its keys sorted at every level and leaves out what the
//! classifier itself changes or what means nothing: `last_edited`, `serial_number`, `deleted`; an
//! absent or null rule; an absent, null or empty description; absent, null or empty `variables` and
//! `config_data`; an absent or false `environment_trumps`. The order of the groups is left out too.
//! The order within a rule, and classes without parameters, are kept.
//!
//! Numbers are compared by value, never by way of a float: `1.50` equals `1.5` and `15e-1`, but an
//! integer never equals a decimal (Puppet tells `1` from `1.0`), and 2^53 + 1 is not 2^53.

use std::fmt;
use std::str::FromStr;

use pefo_core::digest::{Digest, Hasher};
use pefo_core::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Number, Value};

use crate::model::{Group, Tree};

/// Before the hashed bytes, so that no other hash of the project can be taken for this one.
const DOMAIN: &[u8] = b"pefo classifier tree 2\n";

/// BLAKE3 of a tree's canonical form; equal for trees that mean the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TreeDigest(Digest);

impl TreeDigest {
    /// The digest of `tree`.
    pub fn of(tree: &Tree) -> Self {
        let mut groups: Vec<&Group> = tree.groups().iter().collect();
        groups.sort_by_key(|group| group.id());
        let mut hasher = Hasher::default();
        hasher.update(DOMAIN);
        for group in groups {
            hasher.update(group.meaning().as_bytes());
        }
        Self(hasher.digest())
    }
}

impl TreeDigest {
    /// The digest itself.
    pub fn digest(self) -> Digest {
        self.0
    }
}

impl fmt::Display for TreeDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for TreeDigest {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        text.parse().map(Self)
    }
}

/// Whether two trees mean the same.
pub fn equal(one: &Tree, other: &Tree) -> bool {
    one.len() == other.len()
        && one.groups().iter().all(|group| {
            other
                .get(group.id())
                .is_some_and(|twin| group.meaning() == twin.meaning())
        })
}

/// BLAKE3 of a group's canonical form.
pub(crate) fn meaning(object: &Map<String, Value>) -> Digest {
    let mut text = Vec::new();
    write_object(
        &mut text,
        object.iter().filter(|(key, value)| counts(key, value)),
    );
    Digest::of(&text)
}

fn write_object<'a>(text: &mut Vec<u8>, entries: impl Iterator<Item = (&'a String, &'a Value)>) {
    let mut entries: Vec<(&String, &Value)> = entries.collect();
    entries.sort_unstable_by_key(|(key, _)| *key);
    text.push(b'{');
    for (at, (key, value)) in entries.into_iter().enumerate() {
        if at > 0 {
            text.push(b',');
        }
        write_string(text, key);
        text.push(b':');
        write_value(text, value);
    }
    text.push(b'}');
}

fn write_value(text: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Object(object) => write_object(text, object.iter()),
        Value::Array(items) => {
            text.push(b'[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    text.push(b',');
                }
                write_value(text, item);
            }
            text.push(b']');
        }
        Value::Number(number) => match canonical_spelling(number) {
            Some(spelled) => text.extend_from_slice(spelled.as_bytes()),
            None => text.extend_from_slice(number.as_str().as_bytes()),
        },
        Value::String(string) => write_string(text, string),
        Value::Bool(true) => text.extend_from_slice(b"true"),
        Value::Bool(false) => text.extend_from_slice(b"false"),
        Value::Null => text.extend_from_slice(b"null"),
    }
}

fn write_string(text: &mut Vec<u8>, string: &str) {
    // A string always prints, and a vector takes all.
    drop(serde_json::to_writer(text, string));
}

pub(crate) fn counts(key: &str, value: &Value) -> bool {
    match key {
        "last_edited" | "serial_number" | "deleted" => false,
        "rule" => !value.is_null(),
        "description" => !value.is_null() && value != "",
        "variables" | "config_data" => {
            !value.is_null() && value.as_object().is_none_or(|object| !object.is_empty())
        }
        "environment_trumps" => value != &Value::Bool(false),
        _ => true,
    }
}

pub(crate) fn canonical_value(value: &Value) -> Value {
    match value {
        Value::Object(object) => {
            let mut keys: Vec<(&String, &Value)> = object.iter().collect();
            keys.sort_unstable_by_key(|(key, _)| *key);
            Value::Object(
                keys.into_iter()
                    .map(|(key, value)| (key.clone(), canonical_value(value)))
                    .collect(),
            )
        }
        Value::Array(items) => Value::Array(items.iter().map(canonical_value).collect()),
        Value::Number(number) => Value::Number(canonical_number(number)),
        Value::Null | Value::Bool(_) | Value::String(_) => value.clone(),
    }
}

/// One spelling for each number, reached by moving the decimal point in the text; `None` where it is spelled
/// so.
fn canonical_spelling(number: &Number) -> Option<String> {
    let text = number.as_str();
    if text.contains(['.', 'e', 'E']) {
        canonical_decimal(text)
    } else {
        (text == "-0").then(|| "0".to_owned())
    }
}

fn canonical_number(number: &Number) -> Number {
    canonical_spelling(number)
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(|| number.clone())
}

fn canonical_decimal(text: &str) -> Option<String> {
    let (sign, text) = match text.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", text),
    };
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let significant = digits.trim_end_matches('0');
    let exponent = exponent
        .parse::<i64>()
        .ok()?
        .checked_sub(i64::try_from(fraction.len()).ok()?)?
        .checked_add(i64::try_from(digits.len() - significant.len()).ok()?)?;
    match significant.trim_start_matches('0') {
        "" => Some("0.0".to_owned()),
        digits => Some(format!("{sign}{digits}e{exponent}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, group, tree_with};
    use proptest::prelude::*;
    use serde_json::json;

    fn number(text: &str) -> String {
        canonical_number(&text.parse().unwrap()).to_string()
    }

    #[test]
    fn numbers_are_equal_by_value_and_never_by_way_of_a_float() {
        for (one, other) in [
            ("1.50", "1.5"),
            ("15e-1", "1.5"),
            ("1E2", "100.0"),
            ("0.0", "-0.00e7"),
            ("-0", "0"),
        ] {
            assert_eq!(number(one), number(other), "{one} and {other}");
        }
        for (one, other) in [
            ("1", "1.0"),
            ("9007199254740993", "9007199254740992"),
            ("0.1", "0.10000000000000000001"),
            ("1.5", "-1.5"),
            ("1e400", "1e401"),
        ] {
            assert_ne!(number(one), number(other), "{one} and {other}");
        }
    }

    #[test]
    fn what_means_nothing_is_left_out_and_the_rest_counts() {
        let base = tree_with(
            json!({"classes": {"a": {}}, "rule": ["or", ["=", "name", "x"], ["=", "name", "y"]]}),
        );
        let same = |keys: Value| TreeDigest::of(&tree_with(keys)) == TreeDigest::of(&base);
        let rule = json!(["or", ["=", "name", "x"], ["=", "name", "y"]]);
        assert!(same(
            json!({"classes": {"a": {}}, "rule": rule, "description": "", "config_data": {}, "serial_number": 4,
            "last_edited": "2020", "deleted": {"a": {}}, "variables": null, "environment_trumps": false})
        ));
        assert!(!same(json!({"classes": {}, "rule": rule})));
        assert!(!same(json!({"classes": {"a": {"p": null}}, "rule": rule})));
        assert!(!same(json!({"classes": {"a": {}}})));
        assert!(!same(
            json!({"classes": {"a": {}}, "rule": ["or", ["=", "name", "y"], ["=", "name", "x"]]})
        ));
        assert!(!same(
            json!({"classes": {"a": {}}, "rule": rule, "environment_trumps": true})
        ));
        assert!(!same(
            json!({"classes": {"a": {}}, "rule": rule, "new_key": null})
        ));
    }

    #[test]
    fn a_digest_is_stable_across_releases() {
        let tree = Tree::from_value(json!([group(0, 0, "All Nodes")])).unwrap();
        insta::assert_snapshot!(TreeDigest::of(&tree), @"a93d203bdec2d703252bc1d27a3b6d38d9d55b4cc2aa20eed60abb366ffa10d7");
        assert!("zz".parse::<TreeDigest>().is_err());
    }

    proptest! {
        #[test]
        fn another_order_other_serials_and_explicit_nothings_are_the_same_tree(tree in testing::tree(), seed: u64) {
            let other = testing::disguised(&tree, seed);
            prop_assert_eq!(TreeDigest::of(&tree), TreeDigest::of(&other));
            prop_assert!(equal(&tree, &other));
        }

        #[test]
        fn equal_digests_and_equal_trees_are_one_thing(one in testing::tree(), other in testing::tree()) {
            prop_assert_eq!(equal(&one, &other), TreeDigest::of(&one) == TreeDigest::of(&other));
        }

        #[test]
        fn what_is_hashed_is_the_canonical_form(value in testing::value()) {
            let hashed = |value: &Value| {
                let mut text = Vec::new();
                write_value(&mut text, value);
                String::from_utf8(text).unwrap()
            };
            prop_assert_eq!(hashed(&value), hashed(&canonical_value(&value)));
            prop_assert_eq!(serde_json::from_str::<Value>(&hashed(&value)).unwrap(), canonical_value(&value));
        }

        #[test]
        fn the_canonical_form_is_a_fixed_point(value in testing::value()) {
            let once = canonical_value(&value);
            prop_assert_eq!(canonical_value(&once).to_string(), once.to_string());
        }
    }
}
