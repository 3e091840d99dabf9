//! The little DER (X.690) that CRLs and certificates are made of, each function one whole element.
//!
//! Written out here because the CA's name must come out byte for byte as its certificate has it: what
//! takes names apart and encodes them again merges equal attributes and changes string types, and a
//! CRL whose issuer only reads the same is not found by whoever compares bytes.

use pefo_core::clock::Timestamp;
use time::OffsetDateTime;
use time::format_description::FormatItem;
use time::macros::{datetime, format_description};

pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const SET: u8 = 0x31;
pub(super) const UTF8_STRING: u8 = 0x0c;
const INTEGER: u8 = 0x02;
/// BOOLEAN TRUE, whole.
const TRUE: &[u8] = b"\x01\x01\xff";
const BIT_STRING: u8 = 0x03;
const ENUMERATED: u8 = 0x0a;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// One element of this tag, the length in its shortest form.
pub(super) fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut der = vec![tag];
    match u8::try_from(content.len()) {
        Ok(short) if short < 0x80 => der.push(short),
        _ => {
            let octets = content.len().to_be_bytes();
            let significant = octets.iter().skip_while(|octet| **octet == 0);
            let count = significant.clone().count().to_le_bytes()[0];
            der.push(0x80 | count);
            der.extend(significant);
        }
    }
    der.extend_from_slice(content);
    der
}

/// A SEQUENCE of elements.
pub(super) fn sequence<const N: usize>(elements: [&[u8]; N]) -> Vec<u8> {
    element(SEQUENCE, &elements.concat())
}

/// A number that is never negative, from its big-endian octets.
pub(super) fn integer(octets: &[u8]) -> Vec<u8> {
    element(INTEGER, &positive(octets))
}

/// An enumerated value.
pub(super) fn enumerated(value: u8) -> Vec<u8> {
    element(ENUMERATED, &positive(&[value]))
}

/// A string of whole octets.
pub(super) fn bit_string(octets: &[u8]) -> Vec<u8> {
    element(BIT_STRING, &[&[0], octets].concat())
}

/// An extension that is not critical (RFC 5280 §4.1), its identifier given as DER.
pub(super) fn extension(oid: &[u8], value: &[u8]) -> Vec<u8> {
    sequence([oid, &element(OCTET_STRING, value)])
}

/// As [`extension`], and critical: what does not know it refuses the whole.
pub(super) fn critical_extension(oid: &[u8], value: &[u8]) -> Vec<u8> {
    sequence([oid, TRUE, &element(OCTET_STRING, value)])
}

/// UTCTime through 2049, GeneralizedTime from 2050 on (RFC 5280 §4.1.2.5 and §5.1.2.4), to the second.
pub(super) fn time(at: Timestamp) -> Result<Vec<u8>, time::Error> {
    const SHORT: &[FormatItem<'static>] =
        format_description!("[year repr:last_two][month][day][hour][minute][second]Z");
    const LONG: &[FormatItem<'static>] =
        format_description!("[year][month][day][hour][minute][second]Z");
    let at = OffsetDateTime::from_unix_timestamp(at.unix_seconds())?;
    // Two digits of a year mean 1950 to 2049.
    let is_short = (datetime!(1950-01-01 0:00 UTC)..datetime!(2050-01-01 0:00 UTC)).contains(&at);
    let (tag, format) = if is_short {
        (UTC_TIME, SHORT)
    } else {
        (GENERALIZED_TIME, LONG)
    };
    Ok(element(tag, at.format(format)?.as_bytes()))
}

/// Without leading zeros, but with one where the number would read as negative.
fn positive(octets: &[u8]) -> Vec<u8> {
    let mut digits: Vec<u8> = octets
        .iter()
        .copied()
        .skip_while(|octet| *octet == 0)
        .collect();
    if digits.first().is_none_or(|first| *first >= 0x80) {
        digits.insert(0, 0);
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use x509_parser::der_parser::der::{parse_der, parse_der_integer};
    use x509_parser::prelude::FromDer as _;
    use x509_parser::time::ASN1Time;

    #[test]
    fn lengths_are_in_their_shortest_form() {
        for (length, header) in [
            (0, &[0x30, 0][..]),
            (0x7f, &[0x30, 0x7f]),
            (0x80, &[0x30, 0x81, 0x80]),
            (0x100, &[0x30, 0x82, 1, 0]),
            (0x1_0000, &[0x30, 0x83, 1, 0, 0]),
        ] {
            let der = element(SEQUENCE, &vec![0; length]);
            assert_eq!(&der[..header.len()], header);
            assert_eq!(der.len(), header.len() + length);
        }
    }

    #[test]
    fn numbers_are_never_negative_and_have_no_zeros_too_many() {
        assert_eq!(integer(&[]), [2, 1, 0]);
        assert_eq!(integer(&[0, 0]), [2, 1, 0]);
        assert_eq!(integer(&[0, 0x7f]), [2, 1, 0x7f]);
        assert_eq!(integer(&[0x80]), [2, 2, 0, 0x80]);
        assert_eq!(enumerated(1), [0x0a, 1, 1]);
    }

    #[test]
    fn the_kind_of_time_changes_with_the_year_2050() {
        let at = |seconds| time(Timestamp::from_unix_seconds(seconds).unwrap()).unwrap();
        assert_eq!(at(2_524_607_999), b"\x17\x0d491231235959Z");
        assert_eq!(at(2_524_608_000), b"\x18\x0f20500101000000Z");
        assert_eq!(at(-631_152_000), b"\x17\x0d500101000000Z");
        assert_eq!(at(-631_152_001), b"\x18\x0f19491231235959Z");
    }

    proptest! {
        #[test]
        fn another_parser_reads_back_what_is_written(octets in proptest::collection::vec(any::<u8>(), 0..30), seconds in -600_000_000_i64..200_000_000_000) {
            let der = integer(&octets);
            let (rest, read) = parse_der_integer(&der).unwrap();
            prop_assert!(rest.is_empty());
            let number = read.as_biguint().unwrap();
            prop_assert_eq!(number.to_bytes_be(), x509_parser::num_bigint::BigUint::from_bytes_be(&octets).to_bytes_be());
            let der = time(Timestamp::from_unix_seconds(seconds).unwrap()).unwrap();
            prop_assert_eq!(ASN1Time::from_der(&der).unwrap().1.timestamp(), seconds);
            prop_assert!(parse_der(&sequence([&der, &bit_string(&octets)])).unwrap().0.is_empty());
        }
    }
}
