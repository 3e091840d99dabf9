//! Relative paths from a manifest or a peer, parsed once and safe afterwards.
//!
//! A [`RelPath`] has one to 32 normal components, each at most 255 bytes, 1,024 bytes in all, of
//! UTF-8 without NUL, control characters, backslash, `.` or `..`: joining it to a directory can only
//! name something lexically beneath it. Symlinks are the opener's business (`disk::beneath`).

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// A relative path that cannot lexically leave the directory it is joined to. A clone costs no memory: one
/// path stands in an index, a manifest and a session at once.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RelPath(Arc<str>);

impl RelPath {
    /// The longest path, in bytes.
    pub const MAX_BYTES: usize = 1024;
    /// The deepest path, in components.
    pub const MAX_DEPTH: usize = 32;

    /// Parses a relative path with `/` between its components.
    ///
    /// # Errors
    /// `Invalid`, naming what is wrong with the path.
    pub fn new(path: impl AsRef<str>) -> Result<Self> {
        let path = path.as_ref();
        match fault(path) {
            None => Ok(Self(path.into())),
            Some(reason) => Err(Error::invalid(format!("path {path:?} {reason}"))),
        }
    }

    /// The path of `path` below `root`.
    ///
    /// # Errors
    /// `Invalid` where `path` is not below `root` or is not UTF-8.
    pub fn below(root: &Path, path: &Path) -> Result<Self> {
        let relative = path.strip_prefix(root).map_err(|_| {
            Error::invalid(format!(
                "{} is not below {}",
                path.display(),
                root.display()
            ))
        })?;
        match relative.to_str() {
            Some(text) => Self::new(text),
            None => Err(Error::invalid(format!(
                "path {} is not UTF-8",
                path.display()
            ))),
        }
    }

    /// The path as text, `/` between components.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path below `root`.
    pub fn in_dir(&self, root: &Path) -> PathBuf {
        root.join(self.as_str())
    }

    /// The last component.
    pub fn file_name(&self) -> &str {
        self.as_str().rsplit('/').next().unwrap_or(self.as_str())
    }

    /// The directory part, where there is one.
    pub fn parent(&self) -> Option<Self> {
        self.0
            .rsplit_once('/')
            .map(|(parent, _)| Self(parent.into()))
    }
}

/// What is wrong with a path; most have nothing wrong with them, and are looked at once.
fn fault(path: &str) -> Option<&'static str> {
    if path.is_empty() {
        return Some("is empty");
    }
    if path.len() > RelPath::MAX_BYTES {
        return Some("is longer than 1024 bytes");
    }
    if path.starts_with('/') {
        return Some("is absolute");
    }
    let mut depth = 0;
    for part in path.as_bytes().split(|byte| *byte == b'/') {
        depth += 1;
        if matches!(part, b"" | b"." | b"..") {
            return Some("has an empty, '.' or '..' component");
        }
        if part.len() > 255 {
            return Some("has a component longer than 255 bytes");
        }
    }
    if depth > RelPath::MAX_DEPTH {
        return Some("is deeper than 32 directories");
    }
    let is_plain = |byte: &u8| matches!(byte, b' '..=b'~') && *byte != b'\\';
    if !path.as_bytes().iter().all(is_plain) && path.chars().any(|c| c.is_control() || c == '\\') {
        return Some("has a control character or a backslash");
    }
    None
}

impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for RelPath {
    type Err = Error;
    fn from_str(path: &str) -> Result<Self> {
        Self::new(path)
    }
}

impl TryFrom<String> for RelPath {
    type Error = Error;
    fn try_from(path: String) -> Result<Self> {
        Self::new(path)
    }
}

impl From<RelPath> for String {
    fn from(path: RelPath) -> Self {
        path.as_str().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn paths_that_leave_their_directory_are_refused() {
        for path in [
            "",
            "/etc/passwd",
            "..",
            "a/../b",
            "a//b",
            "./a",
            "a/.",
            "a\0b",
            "a\nb",
            "a\\b",
            "a/",
        ] {
            assert!(RelPath::new(path).is_err(), "{path:?} was accepted");
        }
        assert!(RelPath::new("x/".repeat(40) + "y").is_err());
        assert!(RelPath::new("x".repeat(256)).is_err());
    }

    #[test]
    fn a_path_knows_its_parts() {
        let path = RelPath::new("signed/node1.lab.pem").unwrap();
        assert_eq!(path.file_name(), "node1.lab.pem");
        assert_eq!(path.parent().unwrap().as_str(), "signed");
        assert_eq!(
            path.in_dir(Path::new("/ca")),
            Path::new("/ca/signed/node1.lab.pem")
        );
        assert_eq!(
            RelPath::below(Path::new("/ca"), Path::new("/ca/signed/node1.lab.pem")).unwrap(),
            path
        );
    }

    proptest! {
        #[test]
        fn an_accepted_path_stays_beneath(path in "[a-z./\\\\]{0,30}") {
            if let Ok(path) = RelPath::new(path) {
                let joined = path.in_dir(Path::new("/root"));
                prop_assert!(joined.starts_with("/root"));
                prop_assert!(joined.components().all(|c| c != std::path::Component::ParentDir));
            }
        }
    }
}
