//! `transport.bandwidth_limit`: bytes a second, as people write them.

use std::fmt;
use std::str::FromStr;

use pefo_core::{Error, ErrorKind, Result};
use pefo_transport::Pace;
use serde::{Deserialize, Serialize};

use super::size::Size;

/// Bytes a second, written `"2 MiB/s"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Bandwidth(u64);

impl Bandwidth {
    /// Bytes a second.
    pub const fn bytes_per_second(self) -> u64 {
        self.0
    }
}

impl FromStr for Bandwidth {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || {
            let message =
                format!("{text:?} is no bandwidth; write a number and a unit, as in \"2 MiB/s\"");
            Error::new(ErrorKind::Config, message)
        };
        let each_second = text.strip_suffix("/s").unwrap_or(text);
        let bytes = each_second.parse::<Size>().map_err(|_| bad())?.bytes();
        if bytes < Pace::MIN_BYTES_PER_SECOND {
            let least = Pace::MIN_BYTES_PER_SECOND;
            let message = format!("{text:?} is too slow; the least is {} KiB/s", least >> 10);
            return Err(Error::new(ErrorKind::Config, message));
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for Bandwidth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/s", Size::of(self.0))
    }
}

impl TryFrom<String> for Bandwidth {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Bandwidth> for String {
    fn from(bandwidth: Bandwidth) -> Self {
        bandwidth.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn people_write_it_with_its_unit() {
        for (text, bytes) in [
            ("2 MiB/s", 2 << 20),
            ("512KiB", 512 << 10),
            ("10 MB/s", 10_000_000),
            ("9600 B/s", 9600),
        ] {
            assert_eq!(text.parse::<Bandwidth>().unwrap().bytes_per_second(), bytes);
        }
        for text in [
            "",
            "2",
            "2 M",
            "MiB/s",
            "-1 MiB/s",
            "1.5 MiB/s",
            "99999999999 GiB/s",
        ] {
            let error = text.parse::<Bandwidth>().unwrap_err();
            assert!(error.to_string().contains("is no bandwidth"), "{error}");
        }
        let error = "1 KiB/s".parse::<Bandwidth>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "\"1 KiB/s\" is too slow; the least is 4 KiB/s"
        );
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(bytes in Pace::MIN_BYTES_PER_SECOND..) {
            let bandwidth = Bandwidth(bytes);
            prop_assert_eq!(bandwidth.to_string().parse::<Bandwidth>().unwrap(), bandwidth);
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,20}") {
            drop(text.parse::<Bandwidth>());
        }
    }
}
