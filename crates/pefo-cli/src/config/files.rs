//! `[files]`: the few files that a spare needs and no other data set carries.

use std::path::{Path, PathBuf};

use pefo_core::files::{Entry, FileList, HostPath, KeptApart, Limits, Need, Preset, host_specific};
use pefo_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

use super::{Ca, Site, Size};

/// As much as is held in memory on both masters.
const MOST: Size = Size::of(256 << 20);

/// `[files]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Files {
    /// The product whose files these are.
    pub preset: FilesPreset,
    /// Files and directories besides.
    pub paths: Vec<HostPath>,
    /// What is left out, with all that is below.
    pub exclude: Vec<HostPath>,
    /// The most that all of them may have together.
    pub max_bytes: Size,
}

/// `files.preset`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FilesPreset {
    /// By what is installed.
    Auto,
    /// Puppet Enterprise's.
    Pe,
    /// Puppet's.
    Puppet,
    /// OpenVox's.
    OpenVox,
    /// That of Debian's and Ubuntu's packages.
    Debian,
    /// None: what `paths` names alone.
    None,
}

impl FilesPreset {
    /// What it names; `None` where that is to be found out.
    pub const fn named(self) -> Option<Preset> {
        match self {
            Self::Auto => None,
            Self::Pe => Some(Preset::Pe),
            Self::Puppet => Some(Preset::Puppet),
            Self::OpenVox => Some(Preset::OpenVox),
            Self::Debian => Some(Preset::Debian),
            Self::None => Some(Preset::None),
        }
    }
}

impl Default for Files {
    fn default() -> Self {
        Self {
            preset: FilesPreset::Auto,
            paths: Vec::new(),
            exclude: Vec::new(),
            max_bytes: Size::of(Limits::default().max_bytes),
        }
    }
}

impl Files {
    pub(super) fn validate(&self, site: &Site, ca: &Ca) -> Result<()> {
        let bad = |message: String| Err(Error::new(ErrorKind::Config, message));
        if self.max_bytes.bytes() == 0 || self.max_bytes > MOST {
            return bad(format!(
                "files.max_bytes = \"{}\" is not between 1 B and {MOST}",
                self.max_bytes
            ));
        }
        let preset = self.preset.named().unwrap_or(Preset::None);
        let list = self.list(preset, &apart(site, ca)?)?;
        if list.entries().is_empty() && self.preset != FilesPreset::Auto {
            return bad("files.preset, files.paths and files.exclude leave nothing".to_owned());
        }
        Ok(())
    }

    /// All that is listed, with a preset.
    ///
    /// # Errors
    /// `Config`, where something of `apart` is.
    pub fn list(&self, preset: Preset, apart: &[KeptApart]) -> Result<FileList> {
        let mut entries = preset.entries()?;
        entries.extend(self.paths.iter().map(|path| Entry {
            path: path.clone(),
            // Whoever names it wants it.
            need: Need::Wanted,
        }));
        FileList::new(entries, self.exclude.clone(), apart)
    }

    /// How much they may come to.
    pub fn limits(&self) -> Limits {
        Limits::default().max_bytes(self.max_bytes.bytes())
    }
}

/// What no list may name on this host.
///
/// # Errors
/// `Config`, where a directory of this host's has a path that is none.
pub fn apart(site: &Site, ca: &Ca) -> Result<Vec<KeptApart>> {
    const OWN: &str = "is this program's own";
    let mut all = host_specific()?;
    let mut add = |path: &Path, why| {
        // A slash at the end is none of a path's.
        let plain: PathBuf = path.components().collect();
        let path = HostPath::of(&plain)
            .map_err(|error| Error::new(ErrorKind::Config, error.message().to_owned()))?;
        all.push(KeptApart { path, why });
        Ok::<(), Error>(())
    };
    add(&site.state_dir, OWN)?;
    add(&site.spool_dir, OWN)?;
    if ca.cadir.is_absolute() {
        add(
            &ca.cadir,
            "is the CA's directory, which the ca data set carries",
        )?;
    }
    if let Some(ssldir) = ca.ssldir.as_ref().filter(|dir| dir.is_absolute()) {
        add(ssldir, "holds the host's own certificate and key")?;
    }
    Ok(all)
}
