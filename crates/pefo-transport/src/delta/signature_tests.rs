use super::*;
use proptest::prelude::*;

fn options(block: u32) -> SignatureOptions {
    SignatureOptions::new(Seed([3; 16])).block_bytes(block)
}

fn signature_of(bytes: &[u8], options: &SignatureOptions) -> Vec<u8> {
    let mut out = Vec::new();
    write(bytes, bytes.len() as u64, options, &mut out).unwrap();
    out
}

/// A reader that gives a byte or two at a time.
struct Drip<'a>(&'a [u8]);

impl Read for Drip<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = buffer.len().min(self.0.len()).min(1 + self.0.len() % 2);
        buffer[..count].copy_from_slice(&self.0[..count]);
        self.0 = &self.0[count..];
        Ok(count)
    }
}

proptest! {
    #[test]
    fn a_signature_reads_back_with_every_block(
        bytes in prop::collection::vec(any::<u8>(), 0..1000),
        strong_bytes in 8_u8..=16,
    ) {
        let options = options(64).strong_bytes(strong_bytes);
        let serialised = signature_of(&bytes, &options);
        prop_assert_eq!(serialised.len() as u64, options.signature_bytes(bytes.len() as u64).unwrap());
        let mut dripped = Vec::new();
        write(Drip(&bytes), bytes.len() as u64, &options, &mut dripped).unwrap();
        prop_assert_eq!(&dripped, &serialised);

        let signature = read(Drip(&serialised)).unwrap();
        let (strong, rolling) = signature.functions();
        prop_assert_eq!(signature.layout().blocks() as usize, bytes.len().div_ceil(64));
        for (at, block) in bytes.chunks(64).enumerate() {
            prop_assert_eq!(signature.weak(at as u32), rolling.sum(block));
            prop_assert_eq!(*signature.strong(at as u32), strong.hash(block));
        }
    }

    #[test]
    fn any_bytes_are_parsed_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(parse(&bytes).is_err());
        // The same after a header that is right, so that the parser gets further.
        let mut behind_header = signature_of(&[0; 200], &options(64))[..HEADER_BYTES].to_vec();
        behind_header.extend_from_slice(&bytes);
        prop_assert!(parse(&behind_header).is_err());
    }
}

#[test]
fn every_truncation_and_every_altered_bit_is_refused() {
    let whole = signature_of(&[5; 300], &options(64));
    assert!(parse(&whole).is_ok());
    for length in 0..whole.len() {
        assert!(parse(&whole[..length]).is_err(), "cut to {length}");
    }
    for bit in 0..whole.len() * 8 {
        let mut altered = whole.clone();
        altered[bit / 8] ^= 1 << (bit % 8);
        assert!(parse(&altered).is_err(), "bit {bit}");
    }
    let mut longer = whole.clone();
    longer.push(0);
    assert!(parse(&longer).is_err());
}

#[test]
fn a_header_alone_gets_no_memory_for_the_entries_it_announces() {
    /// A header for the most blocks there are, then as many zero bytes as are asked for.
    struct Header(Vec<u8>, usize);
    impl Read for Header {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            self.1 = self.1.max(buffer.len());
            let count = buffer.len().min(self.0.len());
            buffer[..count].copy_from_slice(&self.0[..count]);
            self.0.drain(..count);
            Ok(count)
        }
    }
    let header = options(1 << 20).header(1 << 40).unwrap();
    let mut input = Header(header.to_bytes().to_vec(), 0);
    let error = read(&mut input).unwrap_err();
    assert!(error.message().contains("cut short"), "{error}");
    assert!(input.1 <= BATCH * 20, "asked for {} bytes at once", input.1);
}

#[test]
fn a_base_of_another_length_than_announced_is_an_error() {
    for announced in [0, 1, 63, 64, 99, 101, 128, 1000] {
        let error = write(&[1; 100][..], announced, &options(64), Vec::new()).unwrap_err();
        assert!(error.is_retryable(), "{announced}: {error}");
    }
}

#[test]
fn options_beyond_the_caps_are_refused() {
    for options in [
        options(63),
        options((1 << 20) + 1),
        options(64).strong_bytes(7),
        options(64).strong_bytes(17),
    ] {
        assert!(write(&[][..], 0, &options, Vec::new()).is_err());
        assert!(options.signature_bytes(0).is_err());
    }
    let default = SignatureOptions::new(Seed([0; 16]));
    assert!(default.signature_bytes(1 << 40).unwrap() < 21 << 20);
    assert!(default.signature_bytes((1 << 40) + 1).is_err());
}

#[test]
fn the_format_is_frozen() {
    let bytes: Vec<u8> = (0..150).collect();
    let serialised = signature_of(&bytes, &options(64).strong_bytes(8));
    let hex: String = serialised.iter().map(|b| format!("{b:02x}")).collect();
    insta::assert_snapshot!(hex, @"505349470108000040000000960000000000000003030303030303030303030303030303e0d17ff3540123010ab0827fe0c13b3413538371adb1a96aa74c5dcf68f035c4fbf351a8dbf64c4a1b797cc7788c5faae5235654");
}
