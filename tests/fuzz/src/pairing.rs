//! The line that an operator carries from one master to the other.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use pefo_core::digest::Digest;
use pefo_core::pairing::Introduction;

/// Input: a pairing line, or the JSON of one, which gets the checksum that fits.
///
/// What is taken reads back as the same value when it is written again, and whatever of it becomes a
/// part of ssh's files or of a command line is one line of plain words: nothing in it can add a line, an
/// option or a second host.
pub fn pairing(data: &[u8]) {
    let body = URL_SAFE_NO_PAD.encode(data);
    let sum = Digest::of(body.as_bytes()).short();
    check(&format!("pefo-pair-1.{body}.{sum}"));
    if let Ok(line) = std::str::from_utf8(data) {
        check(line);
    }
}

fn check(line: &str) {
    let Ok(introduction) = Introduction::parse(line) else {
        return;
    };
    let again = introduction
        .line()
        .and_then(|line| Introduction::parse(&line));
    assert_eq!(again.as_ref().ok(), Some(&introduction));
    let Introduction {
        ssh_key,
        host_keys,
        host,
        user,
        ca_fingerprint,
        ..
    } = &introduction;
    for key in host_keys.iter().chain([ssh_key]) {
        let printable = |c: char| c == ' ' || c.is_ascii_graphic();
        assert!(key.chars().all(printable) && !key.contains('"'), "{key:?}");
        let words: Vec<&str> = key.split(' ').collect();
        let [kind, body, ..] = words[..] else {
            panic!("{key:?} has no body");
        };
        // sshd takes the first word for options where it is no kind of key.
        let plain = |c: char| c.is_ascii_alphanumeric() || "-@.".contains(c);
        let known = kind.starts_with("ssh-") || kind.starts_with("ecdsa-sha2-");
        assert!(known && kind.chars().all(plain), "{key:?}");
        let base64 = |c: char| c.is_ascii_alphanumeric() || "+/=".contains(c);
        assert!(!body.is_empty() && body.chars().all(base64), "{key:?}");
    }
    assert!(!host_keys.is_empty());
    for word in [host, user] {
        assert!(!word.is_empty() && !word.starts_with('-'), "{word:?}");
        assert!(word.chars().all(|c| c.is_ascii_graphic()), "{word:?}");
        assert!(
            !word.contains(['"', '\'', '\\', ',', '*', '?', '!', '@', '$', '`']),
            "{word:?}"
        );
    }
    let shown = ca_fingerprint.as_deref().unwrap_or_default();
    assert!(!shown.chars().any(char::is_control), "{shown:?}");
}
