//! Group ids: lower-case UUIDs.

use std::fmt;
use std::str::FromStr;

use pefo_core::Error;
use serde::{Serialize, Serializer};

/// A group's id, a UUID in the classifier's own spelling: lower case, with its four hyphens.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(u128);

impl GroupId {
    /// The root group, "All Nodes": the same in every installation, and its own parent.
    pub const ROOT: Self = Self(0x0000_0000_0000_4000_8000_0000_0000_0000);

    /// The id with this number; for generated trees.
    pub const fn from_u128(number: u128) -> Self {
        Self(number)
    }

    /// Whether this is the root group's id.
    pub fn is_root(self) -> bool {
        self == Self::ROOT
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        if bytes.len() != 36 {
            return None;
        }
        let mut number = 0_u128;
        for (at, byte) in bytes.iter().enumerate() {
            let digit = match (at, byte) {
                (8 | 13 | 18 | 23, b'-') => continue,
                (8 | 13 | 18 | 23, _) => return None,
                (_, b'0'..=b'9') => byte - b'0',
                (_, b'a'..=b'f') => byte - b'a' + 10,
                _ => return None,
            };
            number = number << 4 | u128::from(digit);
        }
        Some(Self(number))
    }
}

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = format!("{:032x}", self.0);
        write!(
            f,
            "{}-{}-{}-{}-{}",
            &hex[..8],
            &hex[8..12],
            &hex[12..16],
            &hex[16..20],
            &hex[20..]
        )
    }
}

impl fmt::Debug for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for GroupId {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        Self::parse(text)
            .ok_or_else(|| Error::invalid(format!("group id {text:?} is not a lower-case UUID")))
    }
}

impl Serialize for GroupId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_the_classifiers_own_spelling_is_an_id() {
        assert_eq!(
            GroupId::ROOT.to_string(),
            "00000000-0000-4000-8000-000000000000"
        );
        for text in [
            "",
            "FC500C43-5065-469B-91FC-37ED0E500E81",
            "fc500c435065469b91fc37ed0e500e81",
            "fc500c43-5065-469b-91fc-37ed0e500e8",
            "fc500c43-5065-469b-91fc-37ed0e500e81 ",
            "{c500c43-5065-469b-91fc-37ed0e500e81}",
            "fc500c4355065-469b-91fc-37ed0e500e81",
        ] {
            assert!(text.parse::<GroupId>().is_err(), "{text:?} was accepted");
        }
    }

    proptest! {
        #[test]
        fn an_id_prints_back_as_it_was_read(number: u128) {
            let id = GroupId::from_u128(number);
            prop_assert_eq!(id.to_string().parse::<GroupId>().unwrap(), id);
        }

        #[test]
        fn whatever_is_accepted_prints_back_equal(text in "[0-9a-fA-F-]{34,38}|\\PC{0,40}") {
            if let Ok(id) = text.parse::<GroupId>() {
                prop_assert_eq!(id.to_string(), text);
            }
        }
    }
}
