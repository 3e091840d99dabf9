//! The list: which files cross, and which never do.
//!
//! The same list serves both sides. On the active it says what is read; on the spare it is the only thing that
//! says what may be written, so that nobody who can sign generations can write elsewhere.

use super::path::HostPath;
use crate::error::{Error, ErrorKind, Result};

/// How much a spare needs a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// A master has it: that it is missing is told.
    Wanted,
    /// Some sites have it.
    Optional,
}

/// A file, or a directory with all that is below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where.
    pub path: HostPath,
    /// How much it is needed.
    pub need: Need,
}

/// What no list may name: it is one host's own, or another data set's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptApart {
    /// Where.
    pub path: HostPath,
    /// Why, as it reads after the path: `is the host's own certificate and key`.
    pub why: &'static str,
}

/// Where Puppet keeps what is one host's own, or is carried by the `ca` data set.
///
/// # Errors
/// None for the list as it is; a test parses it.
pub fn host_specific() -> Result<Vec<KeptApart>> {
    const SSL: &str = "holds the host's own certificate and key";
    const CA: &str = "is the CA's directory, which the ca data set carries";
    const CONF: &str = "names the host that it is of";
    let all = [
        ("/etc/puppetlabs/puppet/ssl", SSL),
        ("/etc/puppet/ssl", SSL),
        ("/var/lib/puppet/ssl", SSL),
        ("/etc/puppetlabs/puppetserver/ca", CA),
        ("/etc/puppet/puppetserver/ca", CA),
        ("/etc/puppetlabs/puppet/puppet.conf", CONF),
        ("/etc/puppet/puppet.conf", CONF),
        ("/etc/pefo", "is this program's own configuration"),
    ];
    let apart = |(path, why): (&str, &'static str)| {
        let path = HostPath::new(path)?;
        Ok(KeptApart { path, why })
    };
    all.into_iter().map(apart).collect()
}

/// The files that cross.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileList {
    entries: Vec<Entry>,
    excluded: Vec<HostPath>,
}

impl FileList {
    /// A list; `excluded` is left out of it, with all that is below.
    ///
    /// # Errors
    /// `Config`, where an entry is, lies in or holds something of `apart` that is not excluded.
    pub fn new(
        mut entries: Vec<Entry>,
        excluded: Vec<HostPath>,
        apart: &[KeptApart],
    ) -> Result<Self> {
        entries.sort_by(|a, b| (&a.path, a.need).cmp(&(&b.path, b.need)));
        entries.dedup_by(|a, b| a.path == b.path);
        let is_out = |path: &HostPath| excluded.iter().any(|out| path.is_within(out));
        entries.retain(|entry| !is_out(&entry.path));
        for entry in &entries {
            let path = &entry.path;
            if let Some(apart) = apart.iter().find(|apart| path.is_within(&apart.path)) {
                let message = format!(
                    "files: {path} is not to be carried: {} {}",
                    apart.path, apart.why
                );
                return Err(Error::new(ErrorKind::Config, message)
                    .hint("take it out of files.paths, or name it in files.exclude"));
            }
            let within = |apart: &&KeptApart| apart.path.is_within(path) && !is_out(&apart.path);
            if let Some(apart) = apart.iter().find(within) {
                let message = format!("files: {path} holds {}, which {}", apart.path, apart.why);
                return Err(Error::new(ErrorKind::Config, message).hint(
                    "list what is needed of it path by path, or name the other in files.exclude",
                ));
            }
        }
        Ok(Self { entries, excluded })
    }

    /// Its entries, by path.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Whether a path is left out by name.
    pub fn is_excluded(&self, path: &HostPath) -> bool {
        self.excluded.iter().any(|out| path.is_within(out))
    }

    /// Whether it names this very file, or a directory that holds it.
    pub fn covers(&self, path: &HostPath) -> bool {
        !self.is_excluded(path) && self.entries.iter().any(|entry| path.is_within(&entry.path))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Preset;
    use super::*;

    fn path(text: &str) -> HostPath {
        HostPath::new(text).unwrap()
    }

    fn list(paths: &[&str], excluded: &[&str]) -> Result<FileList> {
        let entries = paths.iter().map(|text| Entry {
            path: path(text),
            need: Need::Optional,
        });
        let excluded = excluded.iter().map(|text| path(text)).collect();
        FileList::new(entries.collect(), excluded, &host_specific().unwrap())
    }

    #[test]
    fn a_list_covers_its_files_and_what_is_below_its_directories() {
        let list = list(&["/etc/a", "/etc/b/c"], &["/etc/a/out"]).unwrap();
        for covered in ["/etc/a", "/etc/a/x/y", "/etc/b/c"] {
            assert!(list.covers(&path(covered)), "{covered}");
        }
        for other in ["/etc", "/etc/ab", "/etc/b", "/etc/a/out", "/etc/a/out/x"] {
            assert!(!list.covers(&path(other)), "{other}");
        }
    }

    #[test]
    fn what_is_one_hosts_own_is_never_listed() {
        for own in [
            "/etc/puppetlabs/puppet/puppet.conf",
            "/etc/puppetlabs/puppet/ssl/private_keys/a.pem",
            "/etc/puppetlabs/puppetserver/ca",
            "/etc/pefo/pefo.toml",
            "/etc/puppetlabs/puppet",
            "/etc",
        ] {
            let error = list(&[own], &[]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{own}");
            assert!(error.to_string().contains(own) && error.hint_text().is_some());
        }
        let without = [
            "/etc/puppetlabs/puppet/ssl",
            "/etc/puppetlabs/puppet/puppet.conf",
        ];
        list(&["/etc/puppetlabs/puppet"], &without).unwrap();
    }

    #[test]
    fn every_preset_is_a_list_and_is_found_by_what_is_installed() {
        let all = [Preset::Pe, Preset::Puppet, Preset::OpenVox, Preset::Debian];
        for preset in all {
            let entries = preset.entries().unwrap();
            assert!(entries.iter().any(|entry| entry.need == Need::Wanted));
            FileList::new(entries, Vec::new(), &host_specific().unwrap()).unwrap();
        }
        for (there, found) in [
            ("opt/puppetlabs/server/pe_version", Some(Preset::Pe)),
            ("etc/puppetlabs/puppetserver", Some(Preset::Puppet)),
            ("etc/puppet/puppetserver", Some(Preset::Debian)),
            ("etc/puppet/code", None),
        ] {
            let root = tempfile::tempdir().unwrap();
            let dir = root.path().join(there);
            let private = crate::disk::Attributes::mode(0o700);
            crate::disk::Disk::new()
                .create_dir_all(&dir, &private)
                .unwrap();
            assert_eq!(Preset::detect(root.path()), found, "{there}");
        }
    }
}
