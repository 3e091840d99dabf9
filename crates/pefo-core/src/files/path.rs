//! Absolute paths of a host, parsed once: `/` and a [`RelPath`].

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::path::RelPath;

/// An absolute path without `.`, `..`, empty components or control characters; never `/` itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostPath(RelPath);

impl HostPath {
    /// Parses an absolute path.
    ///
    /// # Errors
    /// `Invalid`, naming what is wrong with it.
    pub fn new(path: impl AsRef<str>) -> Result<Self> {
        let path = path.as_ref();
        let below = path
            .strip_prefix('/')
            .ok_or_else(|| Error::invalid(format!("path {path:?} is not absolute")))?;
        Ok(Self(RelPath::new(below)?))
    }

    /// The path of an absolute [`Path`].
    ///
    /// # Errors
    /// As [`HostPath::new`], and where it is not UTF-8.
    pub fn of(path: &Path) -> Result<Self> {
        match path.to_str() {
            Some(text) => Self::new(text),
            None => Err(Error::invalid(format!(
                "path {} is not UTF-8",
                path.display()
            ))),
        }
    }

    /// As seen from the root directory.
    pub fn relative(&self) -> &RelPath {
        &self.0
    }

    /// The path where `root` stands for `/`.
    pub fn below(&self, root: &Path) -> PathBuf {
        self.0.in_dir(root)
    }

    /// An entry of this directory.
    ///
    /// # Errors
    /// `Invalid`, where the name is none or the path becomes too long.
    pub fn join(&self, name: &str) -> Result<Self> {
        Ok(Self(RelPath::new(format!("{}/{name}", self.0))?))
    }

    /// The directory that holds it; `None` where that is `/`.
    pub fn parent(&self) -> Option<Self> {
        self.0.parent().map(Self)
    }

    /// Every directory on the way to it below `/`, the highest first.
    pub fn ancestors(&self) -> Vec<Self> {
        let mut above: Vec<Self> =
            std::iter::successors(self.parent(), |path| path.parent()).collect();
        above.reverse();
        above
    }

    /// Whether it is `other` or lies below it.
    pub fn is_within(&self, other: &Self) -> bool {
        let rest = self.0.as_str().strip_prefix(other.0.as_str());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl fmt::Display for HostPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}", self.0)
    }
}

impl FromStr for HostPath {
    type Err = Error;
    fn from_str(path: &str) -> Result<Self> {
        Self::new(path)
    }
}

impl TryFrom<String> for HostPath {
    type Error = Error;
    fn try_from(path: String) -> Result<Self> {
        Self::new(path)
    }
}

impl From<HostPath> for String {
    fn from(path: HostPath) -> Self {
        path.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_absolute_paths_are_taken() {
        for path in ["", "/", "etc/x", "//etc", "/etc/../x", "/etc/x/", "/a\nb"] {
            assert!(HostPath::new(path).is_err(), "{path:?}");
        }
        let path = HostPath::new("/etc/a/b").unwrap();
        let above: Vec<String> = path.ancestors().iter().map(ToString::to_string).collect();
        assert_eq!(above, ["/etc", "/etc/a"]);
        assert_eq!(path.below(Path::new("/r")), Path::new("/r/etc/a/b"));
    }

    #[test]
    fn within_is_told_by_component() {
        let path = |text| HostPath::new(text).unwrap();
        assert!(path("/etc/a/b").is_within(&path("/etc/a")));
        assert!(path("/etc/a").is_within(&path("/etc/a")));
        assert!(!path("/etc/ab").is_within(&path("/etc/a")));
        assert!(!path("/etc").is_within(&path("/etc/a")));
    }
}
