//! A directory like a CA's: tens of thousands of small PEM files, nearly all in one directory.

#![expect(
    clippy::disallowed_methods,
    reason = "the playground is no data of pefo's"
)]

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pefo_core::{Error, Result};

use super::set_age;
use crate::random::Stream;

/// Bytes of DER in each file: 1,976 characters of base64, 2 KB with line ends and frame.
const DER_BYTES: usize = 1_480;
/// What a line of PEM holds (RFC 7468 §2).
const LINE_BYTES: usize = 64;

/// Writes `files` files below `root`, which is empty: of each hundred 97 into `signed`.
///
/// # Errors
/// A file that can not be written.
pub(crate) fn write(root: &Path, files: u64) -> Result<()> {
    for directory in ["signed", "requests", "public_keys", "private_keys/deep"] {
        let path = root.join(directory);
        std::fs::create_dir_all(&path).map_err(|error| Error::io("make", &path, error))?;
    }
    (0..files).try_for_each(|number| {
        let (directory, mode) = match number % 100 {
            97 => ("requests", 0o644),
            98 => ("public_keys", 0o644),
            99 => ("private_keys/deep", 0o640),
            _ => ("signed", 0o644),
        };
        let name = format!("{directory}/node{number:06}.example.com.pem");
        file(root, &name, mode, number)
    })
}

/// Writes one more file into `signed`, named after `number`, and gives its relative path.
///
/// # Errors
/// A file that can not be written.
pub(crate) fn add(root: &Path, number: u64) -> Result<String> {
    let name = format!("signed/new{number:06}.example.com.pem");
    file(root, &name, 0o644, number)?;
    Ok(name)
}

fn file(root: &Path, name: &str, mode: u32, minutes: u64) -> Result<()> {
    let path = root.join(name);
    std::fs::write(&path, content(name)).map_err(|error| Error::io("write", &path, error))?;
    std::fs::set_permissions(&path, Permissions::from_mode(mode))
        .map_err(|error| Error::io("set the mode of", &path, error))?;
    set_age(&path, minutes)
}

/// The PEM text of the file `name`.
fn content(name: &str) -> String {
    let der: [u8; DER_BYTES] = Stream::new(name).bytes();
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    let encoded = STANDARD.encode(der);
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        // Base64 is ASCII: every index is a boundary.
        let (line, after) = rest.split_at(rest.len().min(LINE_BYTES));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    text.push_str("-----END CERTIFICATE-----\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_two_kilobytes_of_pem_and_none_is_like_another() {
        let (a, b) = (content("a"), content("b"));
        assert_eq!(a, content("a"));
        assert_ne!(a, b);
        assert!((1_950..2_150).contains(&a.len()), "{}", a.len());
        assert!(a.lines().all(|line| line.len() <= LINE_BYTES));
        assert!(a.starts_with("-----BEGIN CERTIFICATE-----\n"));
    }

    #[test]
    fn nearly_all_lie_in_one_directory() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), 200).unwrap();
        let in_directory = |name: &str| std::fs::read_dir(dir.path().join(name)).unwrap().count();
        assert_eq!(in_directory("signed"), 194);
        assert_eq!(in_directory("requests"), 2);
        assert_eq!(in_directory("private_keys/deep"), 2);
        assert_eq!(
            add(dir.path(), 7).unwrap(),
            "signed/new000007.example.com.pem"
        );
        assert_eq!(in_directory("signed"), 195);
    }
}
