//! Unsigned numbers of up to 64 bits in one to ten bytes, seven bits each, low ones first (LEB128).
//!
//! There is one way to write each number: a reader refuses a last byte of zero, so that no two
//! different deltas say the same.

/// The most bytes a number takes.
pub(super) const MAX_BYTES: usize = 10;

/// Appends `value` to `out`.
pub(super) fn put(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A number being read, byte by byte.
#[derive(Debug, Default)]
pub(super) struct Reading {
    value: u64,
    bytes: usize,
}

impl Reading {
    /// Takes the next byte: the number where it was the last one, `None` where more are to come.
    ///
    /// # Errors
    /// Where the number is over 64 bits or not in its shortest form.
    pub(super) fn push(&mut self, byte: u8) -> Result<Option<u64>, &'static str> {
        let low = u64::from(byte & 0x7f);
        if self.bytes == MAX_BYTES - 1 && byte > 1 {
            return Err("a number is longer than 64 bits");
        }
        self.value |= low << (7 * self.bytes);
        self.bytes += 1;
        if byte & 0x80 != 0 {
            return Ok(None);
        }
        if byte == 0 && self.bytes > 1 {
            return Err("a number is not in its shortest form");
        }
        Ok(Some(self.value))
    }
}

/// Numbers near zero, of both signs, as small unsigned ones.
pub(super) const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// The number that [`zigzag`] made this of.
pub(super) const fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(bytes: &[u8]) -> Result<Option<(u64, usize)>, &'static str> {
        let mut reading = Reading::default();
        for (at, byte) in bytes.iter().enumerate() {
            if let Some(value) = reading.push(*byte)? {
                return Ok(Some((value, at + 1)));
            }
        }
        Ok(None)
    }

    fn number() -> impl Strategy<Value = u64> {
        (any::<u64>(), 0_u32..64).prop_map(|(value, shift)| value >> shift)
    }

    proptest! {
        #[test]
        fn a_number_reads_back(value in number()) {
            let mut bytes = Vec::new();
            put(value, &mut bytes);
            prop_assert_eq!(read(&bytes), Ok(Some((value, bytes.len()))));
        }

        #[test]
        fn what_is_read_was_written_that_way(bytes in prop::collection::vec(prop_oneof![any::<u8>(), Just(0x80), Just(0xff), Just(0)], 0..12)) {
            if let Ok(Some((value, used))) = read(&bytes) {
                let mut again = Vec::new();
                put(value, &mut again);
                prop_assert_eq!(&again[..], &bytes[..used]);
            }
        }

        #[test]
        fn signs_read_back(value in any::<i64>()) {
            prop_assert_eq!(unzigzag(zigzag(value)), value);
        }
    }

    #[test]
    fn the_largest_number_fits_and_one_more_bit_does_not() {
        let mut bytes = Vec::new();
        put(u64::MAX, &mut bytes);
        assert_eq!(bytes.len(), MAX_BYTES);
        bytes[MAX_BYTES - 1] = 2;
        assert!(read(&bytes).is_err());
    }
}
