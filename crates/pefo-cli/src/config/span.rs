//! Spans of time, as people write them: `"5 min"`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use pefo_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

/// Units of a second, the longest first.
const UNITS: [(&str, u64); 4] = [("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)];
/// A hundred years: what is longer is a slip of the pen.
const MAX_SECONDS: u64 = 100 * 366 * 86_400;

/// So many seconds, written `"5 min"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Span(u64);

impl Span {
    /// Of so many seconds.
    pub const fn of_seconds(seconds: u64) -> Self {
        Self(seconds)
    }

    /// As libraries take it.
    pub const fn duration(self) -> Duration {
        Duration::from_secs(self.0)
    }
}

impl FromStr for Span {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || {
            let message = format!(
                "{text:?} is no span of time; write a number and one of s, min, h and d, as in \"5 min\""
            );
            Error::new(ErrorKind::Config, message)
        };
        let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit = text.get(number.len()..).ok_or_else(bad)?;
        let (_, factor) = UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .ok_or_else(bad)?;
        let number: u64 = number.trim_end().parse().map_err(|_| bad())?;
        let seconds = number.checked_mul(*factor).ok_or_else(bad)?;
        Some(Self(seconds))
            .filter(|span| span.0 <= MAX_SECONDS)
            .ok_or_else(bad)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |(_, factor): &&(&str, u64)| self.0.is_multiple_of(*factor) && self.0 > 0;
        let (unit, factor) = UNITS.iter().find(fits).copied().unwrap_or(("s", 1));
        write!(f, "{} {unit}", self.0 / factor)
    }
}

impl TryFrom<String> for Span {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Span> for String {
    fn from(span: Span) -> Self {
        span.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn people_write_it_with_its_unit() {
        for (text, seconds) in [
            ("90 s", 90),
            ("5min", 300),
            ("26 h", 93_600),
            ("2 d", 172_800),
        ] {
            assert_eq!(
                text.parse::<Span>().unwrap().duration().as_secs(),
                seconds,
                "{text}"
            );
        }
        for text in [
            "",
            "5",
            "5 m",
            "min",
            "-1 min",
            "1.5 h",
            "5 minutes",
            "999999 d",
        ] {
            let error = text.parse::<Span>().unwrap_err();
            assert!(error.to_string().contains("is no span of time"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(seconds in 0..MAX_SECONDS) {
            prop_assert_eq!(Span(seconds).to_string().parse::<Span>().unwrap(), Span(seconds));
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,20}") {
            drop(text.parse::<Span>());
        }
    }
}
