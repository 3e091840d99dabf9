//! Serial numbers, the counter in `serial`, and the blocks that keep two counters apart.
//!
//! A [`Serial`] is any serial of RFC 5280 §4.1.2.2 (up to 20 octets). The counter is narrower:
//! puppetserver reads it as a 32-bit integer and stops signing at 0x80000000, so nothing above
//! [`MAX_COUNTER`] is ever written.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::malformed::Malformed;

/// The highest next serial that puppetserver can read.
pub const MAX_COUNTER: u32 = 0x7FFF_FFFF;

/// A serial number of up to 20 octets; compares as a number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Serial([u8; 20]);

impl Serial {
    /// From big-endian octets; leading zeros do not count.
    ///
    /// # Errors
    /// `serial-range` where more than 20 octets are left.
    pub fn from_be_bytes(bytes: &[u8]) -> Result<Self, Malformed> {
        let significant = bytes
            .iter()
            .position(|byte| *byte != 0)
            .map_or(&[][..], |first| bytes.split_at(first).1);
        let mut octets = [0; 20];
        match octets.len().checked_sub(significant.len()) {
            Some(start) => {
                octets.split_at_mut(start).1.copy_from_slice(significant);
                Ok(Self(octets))
            }
            None => Err(Malformed::new(
                "serial-range",
                "serial number is wider than 20 octets",
            )),
        }
    }

    /// Parses hexadecimal digits of any case and width, with or without `0x`.
    ///
    /// # Errors
    /// `serial-digits` or `serial-range`.
    pub fn from_hex(text: &str) -> Result<Self, Malformed> {
        let digits = text
            .strip_prefix("0x")
            .or_else(|| text.strip_prefix("0X"))
            .unwrap_or(text);
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(Malformed::new(
                "serial-digits",
                format!("{:?} is no hexadecimal number", shorten(text)),
            ));
        }
        let digits = digits.trim_start_matches('0');
        if digits.len() > 40 {
            return Err(Malformed::new(
                "serial-range",
                "serial number is wider than 20 octets",
            ));
        }
        let mut octets = [0_u8; 20];
        for (place, digit) in digits.chars().rev().enumerate() {
            let value = u8::try_from(digit.to_digit(16).unwrap_or_default()).unwrap_or_default();
            if let Some(octet) = octets.get_mut(19 - place / 2) {
                *octet |= if place % 2 == 0 { value } else { value << 4 };
            }
        }
        Ok(Self(octets))
    }

    /// Parses decimal digits, as `infra_serials` has them.
    ///
    /// # Errors
    /// `serial-digits` or `serial-range`.
    pub fn from_decimal(text: &str) -> Result<Self, Malformed> {
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(Malformed::new(
                "serial-digits",
                format!("{:?} is no decimal number", shorten(text)),
            ));
        }
        let mut octets = [0_u8; 20];
        for digit in text.bytes() {
            let mut carry = u32::from(digit - b'0');
            for octet in octets.iter_mut().rev() {
                let value = u32::from(*octet) * 10 + carry;
                *octet = value.to_le_bytes()[0];
                carry = value >> 8;
            }
            if carry > 0 {
                return Err(Malformed::new(
                    "serial-range",
                    "serial number is wider than 20 octets",
                ));
            }
        }
        Ok(Self(octets))
    }

    /// The number as 20 big-endian octets.
    pub const fn to_be_bytes(self) -> [u8; 20] {
        self.0
    }

    /// The sum, where 20 octets hold it.
    #[must_use]
    pub fn checked_add(self, more: u32) -> Option<Self> {
        let mut octets = self.0;
        let mut carry = u64::from(more);
        for octet in octets.iter_mut().rev() {
            let value = u64::from(*octet) + carry;
            *octet = value.to_le_bytes()[0];
            carry = value >> 8;
        }
        (carry == 0).then_some(Self(octets))
    }

    /// As a value of the counter, where it fits one.
    pub fn counter(self) -> Option<u32> {
        let (high, low) = self.0.split_at(16);
        let low = u32::from_be_bytes(low.try_into().ok()?);
        (high.iter().all(|byte| *byte == 0) && low <= MAX_COUNTER).then_some(low)
    }
}

impl From<u32> for Serial {
    fn from(value: u32) -> Self {
        let mut octets = [0; 20];
        octets
            .split_at_mut(16)
            .1
            .copy_from_slice(&value.to_be_bytes());
        Self(octets)
    }
}

impl fmt::Display for Serial {
    /// `0x0002`, as in inventory.txt: at least four upper-case digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits: String = self.0.iter().map(|byte| format!("{byte:02X}")).collect();
        write!(f, "0x{:0>4}", digits.trim_start_matches('0'))
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Serial {
    type Err = Malformed;
    fn from_str(text: &str) -> Result<Self, Malformed> {
        Self::from_hex(text)
    }
}

impl TryFrom<String> for Serial {
    type Error = Malformed;
    fn try_from(text: String) -> Result<Self, Malformed> {
        Self::from_hex(&text)
    }
}

impl From<Serial> for String {
    fn from(serial: Serial) -> Self {
        serial.to_string()
    }
}

/// Parses the file `serial`: the next serial, hexadecimal, any case, any width, spaces around it.
///
/// # Errors
/// `serial-digits` or `serial-range`.
pub fn parse_file(bytes: &[u8]) -> Result<Serial, Malformed> {
    let text =
        std::str::from_utf8(bytes).map_err(|_| Malformed::new("serial-digits", "is not text"))?;
    Serial::from_hex(text.trim()).map_err(|error| error.at(1))
}

/// The content of the file `serial` for this next serial: `%04X` without a newline, as puppetserver
/// writes it.
///
/// # Errors
/// `serial-range` above [`MAX_COUNTER`], which puppetserver cannot read.
pub fn format_file(next: u32) -> Result<String, Malformed> {
    if next > MAX_COUNTER {
        return Err(Malformed::new(
            "serial-range",
            format!("next serial 0x{next:X} is above 0x7FFFFFFF"),
        ));
    }
    Ok(format!("{next:04X}"))
}

/// A range of serials that one master issues from and no other does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SerialBlock {
    first: u32,
    last: u32,
}

impl SerialBlock {
    /// How many serials a block holds.
    pub const SIZE: u32 = 0x1_0000;
    /// How far a new block keeps from everything issued; more than the 65,536 that are the least.
    pub const DISTANCE: u32 = 0x10_0000;

    /// A block of `first` to `last`, both inclusive.
    ///
    /// # Errors
    /// `serial-range` where it is empty, starts at 0 or ends above [`MAX_COUNTER`].
    pub fn new(first: u32, last: u32) -> Result<Self, Malformed> {
        if first == 0 || first > last || last > MAX_COUNTER {
            return Err(Malformed::new(
                "serial-range",
                format!("0x{first:X} to 0x{last:X} is no block of serials"),
            ));
        }
        Ok(Self { first, last })
    }

    /// How many lanes there are: blocks of different lanes are never the same, whatever each lies above.
    pub const LANES: u32 = 16;
    /// How far a lane's block is from the next lane's: an active may count beyond its block.
    const LANE_WIDTH: u32 = 0x4_0000;
    /// How far the next block of the same lane is.
    pub(crate) const STRIDE: u32 = Self::LANES * Self::LANE_WIDTH;

    /// A fresh block well above everything up to `highest`.
    ///
    /// # Errors
    /// `serial-range` where the counter's range has no room left.
    pub fn above(highest: u32) -> Result<Self, Malformed> {
        let first = highest
            .checked_add(Self::DISTANCE + Self::SIZE - 1)
            .map(|first| first & !(Self::SIZE - 1));
        Self::at(first, highest)
    }

    /// As [`SerialBlock::above`], in one of the lanes: hosts that choose without knowing of each other's choice
    /// choose different blocks, each in its own.
    ///
    /// # Errors
    /// As [`SerialBlock::above`].
    pub fn above_in_lane(highest: u32, lane: u32) -> Result<Self, Malformed> {
        let lane = lane % Self::LANES * Self::LANE_WIDTH;
        let first = highest.checked_add(Self::DISTANCE).and_then(|least| {
            least.checked_add((lane + Self::STRIDE - least % Self::STRIDE) % Self::STRIDE)
        });
        Self::at(first, highest)
    }

    fn at(first: Option<u32>, highest: u32) -> Result<Self, Malformed> {
        let last = first.and_then(|first| first.checked_add(Self::SIZE - 1));
        let block = first.zip(last);
        let block = block.and_then(|(first, last)| Self::new(first, last).ok());
        block.ok_or_else(|| {
            Malformed::new(
                "serial-range",
                format!("no block of serials is left above 0x{highest:X}"),
            )
        })
    }

    /// The first serial.
    pub fn first(self) -> u32 {
        self.first
    }

    /// The last serial.
    pub fn last(self) -> u32 {
        self.last
    }

    /// Whether `serial` lies in the block.
    pub fn contains(self, serial: Serial) -> bool {
        serial
            .counter()
            .is_some_and(|value| (self.first..=self.last).contains(&value))
    }
}

impl fmt::Display for SerialBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:04X} to 0x{:04X}", self.first, self.last)
    }
}

fn shorten(text: &str) -> String {
    text.chars().take(50).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_way_puppet_writes_the_counter_is_read() {
        for (text, value) in [
            ("002\n", 2),
            ("0005", 5),
            ("0B\n", 11),
            ("00ff", 255),
            ("7FFFFFFF", MAX_COUNTER),
        ] {
            assert_eq!(
                parse_file(text.as_bytes()).unwrap().counter(),
                Some(value),
                "{text:?}"
            );
        }
        for text in ["", "\n", "00G1", "-1", "0x", "1 2", "\u{ff}"] {
            assert!(parse_file(text.as_bytes()).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_serial_too_wide_for_the_counter_is_read_but_never_written() {
        assert_eq!(parse_file(b"80000000").unwrap().counter(), None);
        assert_eq!(Serial::from_hex(&"f".repeat(40)).unwrap().counter(), None);
        assert_eq!(
            Serial::from_hex(&"1".repeat(41)).unwrap_err().rule,
            "serial-range"
        );
        assert_eq!(format_file(0x8000_0000).unwrap_err().rule, "serial-range");
        assert_eq!(format_file(9).unwrap(), "0009");
        assert_eq!(format_file(0x12345).unwrap(), "12345");
    }

    #[test]
    fn infra_serials_are_decimal() {
        assert_eq!(Serial::from_decimal("4106").unwrap(), Serial::from(0x100A));
        assert!(Serial::from_decimal("100A").is_err());
        assert_eq!(
            Serial::from_decimal(&"9".repeat(60)).unwrap_err().rule,
            "serial-range"
        );
    }

    proptest! {
        #[test]
        fn a_serial_reads_back_from_every_form(value in any::<u32>(), octets in proptest::collection::vec(any::<u8>(), 0..=20)) {
            prop_assert_eq!(Serial::from_decimal(&value.to_string()).unwrap(), Serial::from(value));
            prop_assert_eq!(Serial::from_hex(&format!("{value:x}")).unwrap(), Serial::from(value));
            let wide = Serial::from_be_bytes(&octets).unwrap();
            prop_assert_eq!(wide.to_string().parse::<Serial>().unwrap(), wide);
        }

        #[test]
        fn the_counter_survives_its_file(value in 0..=MAX_COUNTER) {
            prop_assert_eq!(parse_file(format_file(value).unwrap().as_bytes()).unwrap().counter(), Some(value));
        }

        #[test]
        fn adding_carries_over_all_octets(octets in proptest::collection::vec(any::<u8>(), 0..=20), more in any::<u32>()) {
            let serial = Serial::from_be_bytes(&octets).unwrap();
            let sum = x509_parser::num_bigint::BigUint::from_bytes_be(&octets) + more;
            prop_assert_eq!(serial.checked_add(more), Serial::from_be_bytes(&sum.to_bytes_be()).ok());
            prop_assert_eq!(Serial::from_be_bytes(&[0xff; 20]).unwrap().checked_add(1), None);
        }

        #[test]
        fn order_is_numeric(a in any::<u32>(), b in any::<u32>()) {
            prop_assert_eq!(Serial::from(a).cmp(&Serial::from(b)), a.cmp(&b));
        }

        #[test]
        fn a_fresh_block_is_disjoint_and_far(highest in 0..=MAX_COUNTER) {
            if let Ok(block) = SerialBlock::above(highest) {
                prop_assert!(block.first() - highest >= 0x1_0000);
                prop_assert!(block.last() <= MAX_COUNTER);
                prop_assert_eq!(block.last() - block.first() + 1, SerialBlock::SIZE);
            } else {
                prop_assert!(highest > MAX_COUNTER - 2 * SerialBlock::DISTANCE);
            }
        }

        #[test]
        fn blocks_of_different_lanes_have_nothing_in_common_whatever_they_lie_above(
            (here, there) in (0..=MAX_COUNTER, 0..=MAX_COUNTER),
            (lane, other) in (0..SerialBlock::LANES, 1..SerialBlock::LANES),
        ) {
            let block = |highest, lane| {
                let block = SerialBlock::above_in_lane(highest, lane);
                let fits = highest <= MAX_COUNTER - 6 * SerialBlock::DISTANCE;
                assert!(block.is_ok() || !fits, "{highest:X} {lane}");
                block.inspect(|block| assert!(block.first() - highest >= SerialBlock::DISTANCE)).ok()
            };
            if let Some((one, two)) = block(here, lane).zip(block(there, lane + other)) {
                prop_assert!(one.last() < two.first() || two.last() < one.first(), "{one}, {two}");
            }
        }
    }
}
