//! Amounts of data, as people write them: `"1 GiB"`.

use std::fmt;
use std::str::FromStr;

use pefo_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

/// Units of a byte, the longest first where one is the other's end.
const UNITS: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

/// So many bytes, written `"1 GiB"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Size(u64);

impl Size {
    /// Of so many bytes.
    pub const fn of(bytes: u64) -> Self {
        Self(bytes)
    }

    /// In bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for Size {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || {
            let message =
                format!("{text:?} is no size; write a number and a unit, as in \"1 GiB\"");
            Error::new(ErrorKind::Config, message)
        };
        let (number, factor) = UNITS
            .iter()
            .find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, factor)))
            .ok_or_else(bad)?;
        let number: u64 = number.trim_end().parse().map_err(|_| bad())?;
        number.checked_mul(*factor).map(Self).ok_or_else(bad)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |(_, factor): &&(&str, u64)| self.0.is_multiple_of(*factor);
        let (unit, factor) = UNITS.iter().find(fits).copied().unwrap_or(("B", 1));
        write!(f, "{} {unit}", self.0 / factor)
    }
}

impl TryFrom<String> for Size {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Size> for String {
    fn from(size: Size) -> Self {
        size.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn people_write_it_with_its_unit() {
        for (text, bytes) in [
            ("2 MiB", 2 << 20),
            ("512KiB", 512 << 10),
            ("10 MB", 10_000_000),
            ("0 B", 0),
        ] {
            assert_eq!(text.parse::<Size>().unwrap().bytes(), bytes);
        }
        for text in [
            "",
            "2",
            "2 M",
            "MiB",
            "-1 MiB",
            "1.5 MiB",
            "99999999999 GiB",
        ] {
            let error = text.parse::<Size>().unwrap_err();
            assert!(error.to_string().contains("is no size"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(bytes: u64) {
            prop_assert_eq!(Size(bytes).to_string().parse::<Size>().unwrap(), Size(bytes));
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,20}") {
            drop(text.parse::<Size>());
        }
    }
}
