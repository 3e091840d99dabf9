//! Where a Puppet CA lives, whose files they are, and whether pefo may touch them.
//!
//! The cadir moved with Puppet 7, leaving a symlink behind; a real directory in the old place still
//! wins. Two newer kinds of CA are recognised and refused by name: one kept in a database
//! (`ca-in-database`) and openvox-ca (`ca-openvox-go`), whose files carry a checksum of their own.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use pefo_core::disk::Attributes;
use pefo_core::{Error, Result};
use serde::Serialize;

use crate::detect;

/// Which Puppet's place a cadir was found in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Series {
    /// `ssl/ca` as a real directory: Puppet 5 and 6, PE up to 2019.
    BelowSsldir,
    /// `/etc/puppetlabs/puppetserver/ca`: Puppet 7 and 8, OpenVox 8, PE 2021 and later.
    Puppetserver,
    /// `/etc/puppet/puppetserver/ca`: Debian's packages.
    Debian,
    /// Named by puppet.conf or by the operator.
    Explicit,
}

/// How to look for a cadir.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct DetectOptions {
    /// The root of the file system; tests put another one here.
    pub root: PathBuf,
    /// The cadir, where the operator named it.
    pub cadir: Option<PathBuf>,
    /// Refusals that the operator overrules: `ca-in-database`.
    pub accept: BTreeSet<String>,
}

impl Default for DetectOptions {
    fn default() -> Self {
        Self {
            root: PathBuf::from("/"),
            cadir: None,
            accept: BTreeSet::new(),
        }
    }
}

impl DetectOptions {
    /// Looks below another root.
    #[must_use]
    pub fn root(mut self, root: impl Into<PathBuf>) -> Self {
        self.root = root.into();
        self
    }

    /// Takes this cadir instead of looking for one.
    #[must_use]
    pub fn cadir(mut self, cadir: impl Into<PathBuf>) -> Self {
        self.cadir = Some(cadir.into());
        self
    }

    /// Overrules a refusal by its name.
    #[must_use]
    pub fn accept(mut self, rule: &str) -> Self {
        self.accept.insert(rule.to_owned());
        self
    }
}

/// A cadir that was found and may be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CaLayout {
    cadir: PathBuf,
    found_at: PathBuf,
    series: Series,
    owner: (u32, u32),
}

impl CaLayout {
    /// Finds the cadir of this host, symlinks resolved.
    ///
    /// # Errors
    /// `Refused`: `ca-missing`, `ca-in-database`, `ca-openvox-go`; `Io`.
    pub fn detect(options: &DetectOptions) -> Result<Self> {
        let (found_at, series) = match &options.cadir {
            Some(cadir) => (cadir.clone(), Series::Explicit),
            None => detect::find(&options.root)?,
        };
        detect::refuse_foreign(&found_at, options)?;
        let cadir = match std::fs::canonicalize(&found_at) {
            Ok(cadir) => cadir,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(missing(&found_at));
            }
            Err(error) => return Err(Error::io("resolve", &found_at, error)),
        };
        let meta =
            std::fs::metadata(&cadir).map_err(|error| Error::io("examine", &cadir, error))?;
        if !meta.is_dir() {
            return Err(missing(&found_at));
        }
        detect::refuse_foreign(&cadir, options)?;
        Ok(Self {
            cadir,
            found_at,
            series,
            owner: (meta.uid(), meta.gid()),
        })
    }

    /// The cadir at a path that the caller knows: the same checks, no search.
    ///
    /// # Errors
    /// As [`CaLayout::detect`].
    pub fn at(cadir: impl Into<PathBuf>) -> Result<Self> {
        Self::detect(&DetectOptions::default().root(PathBuf::new()).cadir(cadir))
    }

    /// The cadir, symlinks resolved.
    pub fn cadir(&self) -> &Path {
        &self.cadir
    }

    /// The path under which it was found; differs from [`CaLayout::cadir`] where that is a symlink.
    pub fn found_at(&self) -> &Path {
        &self.found_at
    }

    /// Whose place it was found in.
    pub fn series(&self) -> Series {
        self.series
    }

    /// The cadir's numeric user and group: those of every file put there.
    pub fn owner(&self) -> (u32, u32) {
        self.owner
    }

    /// Gives files another owner than the cadir's, where the configuration says so.
    #[must_use]
    pub fn with_owner(mut self, uid: u32, gid: u32) -> Self {
        self.owner = (uid, gid);
        self
    }

    /// The path of the CA's private key.
    ///
    /// # Errors
    /// `Refused` (`ca-key-missing`) where there is none.
    pub fn key_path(&self) -> Result<PathBuf> {
        let path = self.cadir.join("ca_key.pem");
        if path.is_file() {
            return Ok(path);
        }
        Err(Error::refused("ca-key-missing", format!("{} has no ca_key.pem", self.cadir.display()))
            .hint("Only the CA's own key can sign; restore it from the backup, or seed the spare from the active."))
    }

    /// Owner and mode for a file of the cadir: those of the file that stands there, or `mode` and the
    /// cadir's owner.
    pub(crate) fn attributes(&self, path: &Path, mode: u32) -> Attributes {
        match std::fs::symlink_metadata(path) {
            Ok(meta) if meta.is_file() => {
                Attributes::mode(meta.mode() & 0o7777).owner(meta.uid(), meta.gid())
            }
            _ => Attributes::mode(mode).owner(self.owner.0, self.owner.1),
        }
    }
}

/// The user and group that Puppet's server runs as, from the passwd file below `root`: `pe-puppet`
/// where it exists, else `puppet`.
///
/// # Errors
/// `NotFound` where neither is a local user, `Io`.
pub fn puppet_owner(root: &Path) -> Result<(u32, u32)> {
    let path = root.join("etc/passwd");
    let passwd = std::fs::read_to_string(&path).map_err(|error| Error::io("read", &path, error))?;
    let find = |user: &str| {
        passwd.lines().find_map(|line| {
            let mut fields = line.split(':');
            (fields.next()? == user).then_some(())?;
            Some((fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?))
        })
    };
    find("pe-puppet").or_else(|| find("puppet")).ok_or_else(|| {
        Error::new(
            pefo_core::ErrorKind::NotFound,
            format!(
                "neither pe-puppet nor puppet is a user in {}",
                path.display()
            ),
        )
        .hint("Name owner and group in the [ca] section of the configuration.")
    })
}

pub(crate) fn missing(path: &Path) -> Error {
    Error::refused(
        "ca-missing",
        format!("there is no CA directory at {}", path.display()),
    )
    .hint("Name it as cadir in the [ca] section, or seed this host from the active.")
}

/// Where a host that has no CA yet is to be given one: where its puppet.conf says, else where the
/// packages it has would look.
///
/// # Errors
/// `Io`, where puppet.conf cannot be read.
pub fn seed_target(root: &Path) -> Result<PathBuf> {
    detect::vacant(root)
}
