//! PEM (RFC 7468) read strictly: a torn file is an error, never a shorter list.
//!
//! Lenient readers skip what they do not understand, so a bundle cut in its second block reads as a
//! valid bundle of one. Here every line that begins with a dash must be a boundary, every block must
//! end, and its base64 must be whole; text between blocks, as `openssl x509 -text` writes it, is skipped.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::malformed::Malformed;

/// A certificate's base64 takes no more, mostly.
const BODY_BYTES: usize = 4096;

/// One block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// What stands after BEGIN, such as `CERTIFICATE`.
    pub label: String,
    /// The decoded content.
    pub der: Vec<u8>,
    /// The line of BEGIN, counted from 1.
    pub line: usize,
}

/// Every block of a file; at least one.
///
/// # Errors
/// `pem-torn`, `pem-encrypted`, `pem-encoding` or `pem-empty`, with the line.
pub fn blocks(bytes: &[u8]) -> Result<Vec<Block>, Malformed> {
    let text =
        std::str::from_utf8(bytes).map_err(|_| Malformed::new("pem-encoding", "is not text"))?;
    let mut blocks = Vec::new();
    let mut open: Option<(usize, &str, String)> = None;
    for (index, line) in text.lines().enumerate() {
        let (number, line) = (index + 1, line.trim_end());
        match open.take() {
            None if line.starts_with('-') => {
                let label = boundary(line, "BEGIN").ok_or_else(|| {
                    Malformed::new("pem-torn", "neither a block's beginning nor text").at(number)
                })?;
                open = Some((
                    number,
                    label,
                    String::with_capacity(bytes.len().min(BODY_BYTES)),
                ));
            }
            None => {}
            Some((begin, label, body)) if line.starts_with('-') => {
                if boundary(line, "END") != Some(label) {
                    return Err(Malformed::new(
                        "pem-torn",
                        format!("the {label} block does not end as it began"),
                    )
                    .at(number));
                }
                let der = STANDARD.decode(body).map_err(|error| {
                    Malformed::new("pem-encoding", format!("base64 of {label}: {error}")).at(begin)
                })?;
                blocks.push(Block {
                    label: label.to_owned(),
                    der,
                    line: begin,
                });
            }
            Some((_, label, _)) if line.contains(':') => {
                return Err(Malformed::new(
                    "pem-encrypted",
                    format!("the {label} block has headers, as encrypted keys do"),
                )
                .at(number));
            }
            Some((begin, label, mut body)) => {
                body.push_str(line.trim_start());
                open = Some((begin, label, body));
            }
        }
    }
    match open {
        Some((begin, label, _)) => {
            Err(Malformed::new("pem-torn", format!("the {label} block does not end")).at(begin))
        }
        None if blocks.is_empty() => Err(Malformed::new("pem-empty", "holds no PEM block")),
        None => Ok(blocks),
    }
}

/// Every block of a file, all with one label.
///
/// # Errors
/// As [`blocks`], and `pem-label` where another kind of block stands among them.
pub fn blocks_of(label: &str, bytes: &[u8]) -> Result<Vec<Block>, Malformed> {
    let blocks = blocks(bytes)?;
    match blocks.iter().find(|block| block.label != label) {
        Some(other) => Err(Malformed::new(
            "pem-label",
            format!("a {} where {label} is expected", other.label),
        )
        .at(other.line)),
        None => Ok(blocks),
    }
}

/// Writes one block, 64 characters a line, as puppetserver and OpenSSL do.
pub fn encode(label: &str, der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    for (index, character) in body.chars().enumerate() {
        if index > 0 && index % 64 == 0 {
            text.push('\n');
        }
        text.push(character);
    }
    if !body.is_empty() {
        text.push('\n');
    }
    text.push_str("-----END ");
    text.push_str(label);
    text.push_str("-----\n");
    text
}

fn boundary<'a>(line: &'a str, kind: &str) -> Option<&'a str> {
    line.strip_prefix("-----")?
        .strip_prefix(kind)?
        .strip_prefix(' ')?
        .strip_suffix("-----")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_bundle_cut_anywhere_before_its_last_boundary_is_torn() {
        let whole = encode("X509 CRL", &[7; 100]) + &encode("X509 CRL", &[9; 100]);
        let first = encode("X509 CRL", &[7; 100]).len();
        for cut in 1..whole.len() - 1 {
            let read = blocks(&whole.as_bytes()[..cut]);
            // At the border of two blocks, give or take the newline, nothing in the text tells.
            if cut == first || cut == first - 1 {
                assert_eq!(read.unwrap().len(), 1);
            } else {
                assert!(read.is_err(), "cut at {cut}: {read:?}");
            }
        }
    }

    #[test]
    fn the_error_names_line_and_rule() {
        let text = format!(
            "a comment\n{}-----BEGIN CERTIFICATE-----\nAAAA\n",
            encode("CERTIFICATE", b"x")
        );
        let error = blocks(text.as_bytes()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "line 5: the CERTIFICATE block does not end [pem-torn]"
        );
        assert_eq!(blocks(b"nothing").unwrap_err().rule, "pem-empty");
        assert_eq!(blocks(b"\xff").unwrap_err().rule, "pem-encoding");
        let encrypted = b"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n";
        assert_eq!(blocks(encrypted).unwrap_err().rule, "pem-encrypted");
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_read_back(ders in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 1..4)) {
            let text: String = ders.iter().map(|der| encode("CERTIFICATE", der)).collect();
            let read: Vec<_> = blocks_of("CERTIFICATE", text.as_bytes()).unwrap().into_iter().map(|block| block.der).collect();
            prop_assert_eq!(read, ders);
        }

        #[test]
        fn no_input_makes_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            drop(blocks(&bytes));
        }
    }
}
