//! Deterministic bytes that do not compress: the output of BLAKE3 over a label.
//!
//! The same label gives the same bytes in every run and on every machine, so that what is measured
//! today can be compared with what was measured last year.

/// An endless stream of bytes.
pub(crate) struct Stream(blake3::OutputReader);

impl Stream {
    /// The stream of `label`.
    pub(crate) fn new(label: &str) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("pefo bench data v1");
        hasher.update(label.as_bytes());
        Self(hasher.finalize_xof())
    }

    /// Fills `buffer` with the bytes that follow.
    pub(crate) fn fill(&mut self, buffer: &mut [u8]) {
        self.0.fill(buffer);
    }

    /// The `N` bytes that follow.
    pub(crate) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.fill(&mut bytes);
        bytes
    }

    /// A number below `end`, which is much less than 2⁶⁴: the bias of the remainder is not seen.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        u64::from_le_bytes(self.bytes()) % end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_gives_the_same_bytes_always_and_another_label_others() {
        let first: [u8; 16] = Stream::new("a").bytes();
        assert_eq!(first, Stream::new("a").bytes());
        assert_ne!(first, Stream::new("b").bytes());
        // The value itself is fixed: data of one version of the bench is data of the next.
        assert_eq!(Stream::new("a").below(1_000_000), 299_338);
    }

    #[test]
    fn the_bytes_do_not_depend_on_how_they_are_asked_for() {
        let mut whole = [0; 100];
        Stream::new("a").fill(&mut whole);
        let mut stream = Stream::new("a");
        let parts = [stream.bytes::<50>(), stream.bytes::<50>()].concat();
        assert_eq!(whole[..], parts[..]);
    }
}
